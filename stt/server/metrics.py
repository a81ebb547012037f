"""What `/metrics` tells, in a registry of its own: several apps in one process do not mix."""

import time
from collections.abc import Hashable, Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector

from stt.endofturn import smart_turn
from stt.recognition import Hypothesis, SpeechModel, Utterance
from stt.recognition.around import AroundBatch, AroundModel
from stt.recognition.continuous import RunningBatch

_SHORT = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """One attribute per metric; the texts are the documentation."""

    def __init__(self) -> None:
        r = self.registry = CollectorRegistry()
        ProcessCollector(registry=r)  # memory, CPU seconds, open files
        self.sessions = Gauge("stt_sessions", "Sessions open now", registry=r)
        self.opened = Counter("stt_sessions_opened", "Sessions accepted", registry=r)
        self.closed = Counter("stt_sessions_closed", "Sessions ended, by reason", ["reason"], registry=r)
        self.refused = Counter("stt_sessions_refused", "Sessions not accepted, by code", ["code"], registry=r)
        self.dropped = Counter(
            "stt_connections_dropped", "Connections dropped without a whole request, by reason", ["reason"], registry=r
        )
        self.audio = Counter("stt_audio_seconds", "Audio received", registry=r)
        self.turns = Counter("stt_turns", "Turns completed, with words or empty", ["text"], registry=r)
        self.interims = Counter("stt_interims", "Transcripts of running turns", registry=r)
        self.coalesced = Counter("stt_interims_coalesced", "Interims replaced by newer ones, unsent", registry=r)
        self.errors = Counter("stt_errors", "Error messages to clients, by code", ["code"], registry=r)
        self.queue = Gauge("stt_recognizer_queue", "Recognitions waiting for the engine", registry=r)
        self.engine_lag = Gauge(
            "stt_engine_lag_seconds", "How long the oldest text that is due has waited for the engine", registry=r
        )
        self.batch = Histogram(
            "stt_batch_size", "Utterances per engine call", registry=r, buckets=(1, 2, 3, 4, 6, 8, 12, 16, 32, 64, 128)
        )
        self.decode = Histogram("stt_decode_seconds", "Time of one engine call", registry=r, buckets=_SHORT)
        self.wait = Histogram(
            "stt_recognition_wait_seconds", "Time a recognition waited for its batch", registry=r, buckets=_SHORT
        )
        self.final = Histogram(
            "stt_final_latency_seconds",
            "From hearing the silence that ends a turn to its final",
            registry=r,
            buckets=_SHORT,
        )
        self.ended = Counter("stt_turns_ended", "Turns completed, by what ended them", ["why"], registry=r)
        r.register(_Asks())
        self.ready = Gauge("stt_ready", "1 while the engine is loaded and works", registry=r)
        self.restarts = Counter("stt_engine_restarts", "Engines replaced because they hung, died or failed", registry=r)
        self.detector_restarts = Counter(
            "stt_detector_restarts", "Threads of the speech detector replaced because they hung or died", registry=r
        )
        self.lag = Histogram(
            "stt_event_loop_lag_seconds",
            "How late the event loop wakes",
            registry=r,
            buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.25, 1),
        )

    def called(self, began: float, rows: int) -> None:
        """Count a call of the engine that began then, on the monotonic clock."""
        self.decode.observe(time.monotonic() - began)
        self.batch.observe(rows)


class _Asks(Collector):
    """How the model that tells the ends of turns by their sound bears it; all of this process share it."""

    def collect(self) -> Iterator[Metric]:
        f = smart_turn.FIGURES
        asks = CounterMetricFamily(
            "stt_turn_asks",
            "Asks whether a speaker is done; refused, late: silence and text decided",
            labels=["outcome"],
        )
        for outcome in ("answered", "refused", "late", "overtaken", "failed"):
            asks.add_metric([outcome], getattr(f, outcome))
        yield asks
        waited = "From such an ask to its answer"
        yield SummaryMetricFamily("stt_turn_ask_seconds", waited, count_value=f.answered, sum_value=f.waited_s)
        yield CounterMetricFamily("stt_turn_ask_compute_seconds", "Time spent on those answers", f.computed_s)
        yield GaugeMetricFamily("stt_turn_asks_waiting", "Such asks that wait", f.waiting)


class MeasuredModel(AroundModel):
    """A `SpeechModel` whose calls are counted."""

    def __init__(self, model: SpeechModel, metrics: Metrics) -> None:
        super().__init__(model)
        self._metrics = metrics

    def around(self, batch: RunningBatch) -> RunningBatch:
        """Count its steps."""
        return _MeasuredRows(batch, self._metrics)

    def transcribe(self, batch: Sequence[Utterance]) -> list[Hypothesis]:
        """Recognize each utterance by itself."""
        began = time.monotonic()
        result = super().transcribe(batch)
        self._metrics.called(began, len(batch))
        return result


class _MeasuredRows(AroundBatch):
    """A `RunningBatch` whose steps are counted, each as a call."""

    def __init__(self, batch: RunningBatch, metrics: Metrics) -> None:
        super().__init__(batch)
        self._metrics = metrics

    def step(self) -> dict[Hashable, Hypothesis | Exception]:
        """Let what is running go on."""
        began, running = time.monotonic(), self.running
        done = super().step()
        self._metrics.called(began, running)
        return done
