"""What a front's `/metrics` tells of the engines it asks: read when somebody looks, by Prometheus' own collector."""

from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from stt.cluster.routes import ClusterEngines, Directory
from stt.server.metrics import Metrics

_OF_REPLICAS = {
    "used": "Share of the replica's engine that work which stands took in the last 10 s",
    "taken": "What is in use of what may be before nobody more is let in",
    "lag_s": "Age of the replica's oldest request that stands, in seconds",
    "waiting": "Requests that wait for a batch of the replica",
    "fill": "Rows of the replica's batches, of those there could be",
    "speed": "Seconds of audio for each second of the replica's work",
    "device_bytes": "Memory of the replica's device in use",
}
_OF_CALLS = {
    "calls": "Calls made to replicas",
    "bytes_sent": "Bytes sent to replicas",
    "forgotten": "Calls whose audio was sent whole once more, because the replica had it no more",
    "dropped": "Interims that were lost with their replica",
}


class ClusterMetrics(Collector):
    """The figures of all engines; replicas are those that this front heard of in the last seconds."""

    def __init__(self, engines: ClusterEngines) -> None:
        self._engines = engines

    def collect(self) -> Iterator[Metric]:
        """Return the figures as they are now."""
        engines = list(self._engines.recognizers.items())
        for name, text in _OF_REPLICAS.items():
            gauge = GaugeMetricFamily(f"stt_replica_{name}", text, labels=["engine", "replica"])
            for engine, recognizer in engines:
                for load in recognizer.loads:
                    gauge.add_metric([engine, load.replica], getattr(load, name))
            yield gauge
        for name, text in _OF_CALLS.items():
            counter = CounterMetricFamily(f"stt_cluster_{name}", text, labels=["engine"])
            for engine, recognizer in engines:
                counter.add_metric([engine], getattr(recognizer.counts, name))
            yield counter
        again = CounterMetricFamily("stt_cluster_retries", "Calls made again, by why", labels=["engine", "why"])
        for engine, recognizer in engines:
            for why, count in recognizer.counts.again.items():
                again.add_metric([engine, why], count)
        yield again


def measured_engines(directory: Directory, metrics: Metrics, changed: Callable[[], None]) -> ClusterEngines:
    """Return the engines of a cluster, whose figures are among a front's from now on."""
    engines = ClusterEngines(directory, changed)
    metrics.registry.register(ClusterMetrics(engines))
    return engines
