"""The cluster on Ray Serve. Ray is imported in modules that begin with ray_ alone, and those where a cluster is used.

An engine is a Serve application (`stt-NAME`) of one deployment, `Engine`, whose replicas Ray places, watches, scales
and replaces. Fronts talk to them through a deployment handle, whose router (`StickyRouter`) takes a call to the replica
that it names. It also hears at once who still gets calls: what is to be recognized goes straight to its replica then,
which leaves out a quarter of what a call costs a driver. Serve's own limit of calls per replica is out of the way: who
waits is for our scheduler to say, in the replica.
"""

import asyncio
import contextlib
import contextvars
import importlib
import logging
import random
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

import ray
from grpc import RpcError
from ray import serve
from ray.exceptions import RayError
from ray.serve._private.common import RequestMetadata
from ray.serve.config import AutoscalingConfig, AutoscalingContext, AutoscalingPolicy, RequestRouterConfig
from ray.serve.exceptions import RayServeException
from ray.serve.metrics import Gauge
from ray.serve.request_router import PendingRequest, RequestRouter, RunningReplica

from stt.cluster import running
from stt.cluster.load import Load
from stt.cluster.recognizer import ReplicaGoneError
from stt.cluster.replica import Replica
from stt.cluster.spec import FRONTS, FRONTS_APPLICATION, PREFIX, EngineSpec, read_spec, replicas_wanted
from stt.cluster.wire import Message, from_plain, plain
from stt.engines import open_engine
from stt.errors import EngineError, SettingsError
from stt.recognition import SpeechModel
from stt.threads import DaemonThreads

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle

Route = tuple[str | None, tuple[str, ...]]
"""The replica that is wanted, and those that are not; the first argument of every call, for the router."""

DEPLOYMENT: Final = "Engine"
_NAMESPACE: Final = "serve"
_LOST: Final = (
    RayError,
    RayServeException,
    RpcError,
    RuntimeError,
)  # what Serve raises where a call did not get through
_ANSWER_S: Final = 10.0  # of the controller; without a head some calls never come back
MOST_CALLS: Final = 100_000  # of a replica at once: Serve's own queue would know nothing of finals and interims
_CARRIED: Final[dict[str, Any]] = {
    "_by_reference": False,
    "request_serialization": "pickle",
    "response_serialization": "pickle",
}
"""By gRPC instead of Ray's object store, which costs a front nearly twice as much for calls so small; pickled in C, as
messages are plain values."""
_HEALTH_S: Final = 5.0
_DRAIN_S: Final = 30.0  # calls that a stopped replica has are answered: a queue of windows of 24 s


class StickyRouter(RequestRouter):
    """Takes a call to the replica that it names; else to the less busy of two that it does not avoid."""

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Return those to be tried, the best first."""
        wanted, avoided = None, ()
        if pending_request is not None:
            pending_request.routing_context.should_backoff = True  # where nobody takes it: wait, do not spin
            wanted, avoided = pending_request.args[0]
        first = [r for r in candidate_replicas if r.replica_id.unique_id == wanted]
        others = [r for r in candidate_replicas if r.replica_id.unique_id not in avoided] or candidate_replicas
        return [first, random.sample(others, min(2, len(others)))]

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        """Take note of who is to get calls from now on."""
        super().update_replicas(replicas)
        running.tell(self.app_name, {replica.replica_id.unique_id: replica for replica in replicas})


@serve.deployment(name=DEPLOYMENT)
class Engine:
    """A replica, as Ray Serve runs it."""

    async def __init__(self, spec: EngineSpec) -> None:
        replica_id = serve.get_replica_context().replica_id.unique_id
        log_to_serve()
        self._replica = Replica(replica_id, lambda: _open(spec), spec.timeout_s, _device_bytes, spec.languages)
        self._gauges = {name: Gauge(f"stt_replica_{name}", description=text) for name, text in _GAUGES.items()}
        await self._replica.open()

    async def recognize(self, _: Route, message: Message) -> Message:
        """Answer a call of a front."""
        return await self._replica.recognize(message)

    async def pulse(self, _: Route) -> Message:
        """Say how busy it is."""
        load = self._replica.load()
        for name, gauge in self._gauges.items():
            gauge.set(getattr(load, name))
        return plain(load)

    async def forget(self, _: Route, session: str) -> None:
        """Let go of a session."""
        self._replica.forget(session)

    async def check_health(self) -> None:
        """Serve asks; a replica that raises is replaced."""
        self._replica.check()

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Serve asks, for `scale`."""
        load = self._replica.load()
        return {"taken": load.taken, "lag_s": load.lag_s, "fill": load.fill}

    async def __del__(self) -> None:
        """End, once Serve has stopped this replica and its calls are answered."""
        await self._replica.close()


_GAUGES: Final = {
    "used": "Share of the engine that work which stands took in the last 10 s",
    "taken": "What is in use of what may be before nobody more is let in",
    "lag_s": "Age of the oldest request that stands",
    "waiting": "Requests waiting for a batch",
    "fill": "Rows of a batch, of those there could be",
    "speed": "Seconds of audio for each second of work",
    "device_bytes": "Device memory in use",
}


def scale(context: AutoscalingContext) -> tuple[int, dict[str, Any]]:
    """Tell Serve's autoscaler how many replicas there should be."""
    now, metrics = context.current_num_replicas, context.aggregated_metrics or {}
    taken, lags_s, fill = (list(metrics.get(name, {}).values()) for name in ("taken", "lag_s", "fill"))
    wanted = replicas_wanted(now, taken, lags_s, fill)
    low, high = context.capacity_adjusted_min_replicas, context.capacity_adjusted_max_replicas
    return min(max(wanted, low), high), {}


def application(spec: EngineSpec) -> serve.Application:
    """Return the Serve application of an engine."""
    scaling = None
    if spec.fixed is None:
        scaling = AutoscalingConfig(
            min_replicas=spec.least,
            max_replicas=spec.most,
            upscale_delay_s=10.0,
            downscale_delay_s=300.0,
            policy=AutoscalingPolicy(policy_function=f"{__name__}:scale"),
        )
    return Engine.options(
        num_replicas="auto" if spec.fixed is None else spec.fixed,
        autoscaling_config=scaling,
        ray_actor_options={"num_gpus": spec.gpus, "num_cpus": spec.cpus},
        max_ongoing_requests=MOST_CALLS,
        health_check_period_s=_HEALTH_S,
        health_check_timeout_s=2 * _HEALTH_S,
        graceful_shutdown_timeout_s=_DRAIN_S,
        graceful_shutdown_wait_loop_s=0.5,
        logging_config={"enable_access_log": False},
        request_router_config=RequestRouterConfig(request_router_class=f"{__name__}.StickyRouter"),  # pyright: ignore[reportArgumentType] - a path is fine,
    ).bind(spec)


def build(args: dict[str, Any]) -> serve.Application:
    """Return the application that a Serve configuration file asks for: `import_path: stt.cluster.ray_serve:build`."""
    return application(read_spec(args))


# what commands and fronts do


def connect(address: str) -> None:
    """Join a running Ray cluster; `auto`: the one of this machine.

    Raises:
        EngineError: there is none.

    """
    if ray.is_initialized():
        return
    try:
        ray.init(address=address, namespace=_NAMESPACE, log_to_driver=False, configure_logging=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        msg = f"no Ray cluster at {address!r}: {error}"
        raise EngineError(msg) from error


def disconnect() -> None:
    """Leave the cluster; what runs there goes on."""
    ray.shutdown()


def up(spec: EngineSpec) -> None:
    """Deploy an engine, or update it: replicas are replaced one after another, and nothing under way is lost.

    Raises:
        EngineError: it cannot be deployed.

    """
    serve.start(proxy_location="Disabled")
    try:
        serve.run(application(spec), name=spec.application, route_prefix=None)
    except RuntimeError as error:
        raise not_deployed(spec.name, error) from error


def not_deployed(name: str, error: RuntimeError) -> EngineError:
    """Return the error that tells why an application of ours did not come up."""
    lines = [line for line in applications().get(name, {}).get("message", "").splitlines() if line.strip()]
    return EngineError(f"{name} cannot be deployed: {error} {lines[-1].strip() if lines else ''}".rstrip())


def applications() -> dict[str, dict[str, Any]]:
    """Return what Serve says of each of our applications: of engines by their names, of `fronts`."""
    found = {}
    for application, app in serve.status().applications.items():
        if (name := _named(application)) is not None:
            deployment = next(iter(app.deployments.values()), None)
            found[name] = {
                "status": app.status.value,
                "replicas": dict(deployment.replica_states) if deployment is not None else {},
                "message": app.message or (deployment.message if deployment is not None else ""),
            }
    return found


def down(name: str) -> None:
    """Take an engine down, or the fronts; calls under way are answered, running turns get their finals.

    Raises:
        SettingsError: there is none of this name.

    """
    if name not in (there := applications()):
        msg = f"expected one of those that are up ({', '.join(there) or 'none is'}), got {name!r}"
        raise SettingsError(msg)
    serve.delete(FRONTS_APPLICATION if name == FRONTS else PREFIX + name)


def _named(application: str) -> str | None:
    if application == FRONTS_APPLICATION:
        return FRONTS
    return application.removeprefix(PREFIX) if application.startswith(PREFIX) else None


class RayReplicas:
    """`Replicas` of an engine that is deployed on the cluster this process has joined."""

    def __init__(self, name: str) -> None:
        self._application = PREFIX + name
        self._methods: dict[str, DeploymentHandle] = {}

    async def recognize(self, message: Message, to: str | None, avoid: frozenset[str]) -> Message:
        """Have a replica answer a message; cancelling takes it back."""
        replica = None if to is None else running.within_reach(self._application, to)
        if replica is None:
            return await self._call("recognize", (to, tuple(avoid)), message)
        session = message["session"]
        called = RequestMetadata(
            session, session, "recognize", app_name=self._application, _on_separate_loop=False, **_CARRIED
        )
        with _telling_of_loss():
            result = replica.try_send_request(PendingRequest([(to, ()), message], {}, called), with_rejection=False)
        return await _answer(result.get_async(), result.cancel)

    async def pulse(self, to: str | None, avoid: frozenset[str]) -> Load:
        """Have a replica say how busy it is."""
        return from_plain(Load, await self._call("pulse", (to, tuple(avoid))))

    async def forget(self, session: str, to: str) -> None:
        """Tell a replica that a session is gone."""
        await self._call("forget", (to, ()), session)

    async def _call(self, method: str, route: Route, *args: Any) -> Any:
        with _telling_of_loss():
            if not self._methods:
                handle = await asyncio.to_thread(serve.get_app_handle, self._application)
                handle = handle.options(**_CARRIED)
                self._methods = {name: handle.options(method_name=name) for name in ("recognize", "pulse", "forget")}
            # In a front inside Ray, all calls of a session would have the id of its WebSocket, and Serve's router loses
            # one of two that wait under the same: outside of any request each has its own.
            response = contextvars.Context().run(self._methods[method].remote, route, *args)
        return await _answer(response, response.cancel)


async def _answer(answer: Awaitable[Any], take_back: Callable[[], object]) -> Any:
    """Wait for the answer to a call, which is taken back where the wait is cancelled."""
    with _telling_of_loss():
        try:
            return await answer
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and not task.cancelling():
                msg = "the replica ended the call"
                raise ReplicaGoneError(msg) from None
            with contextlib.suppress(*_LOST):
                take_back()
            raise


@contextlib.contextmanager
def _telling_of_loss() -> Iterator[None]:
    try:
        yield
    except _LOST as error:
        reason = str(error).partition("\n")[0][:200]
        raise ReplicaGoneError(f"{type(error).__name__}: {reason}") from error


class RayDirectory:
    """The engines that are deployed on the cluster this process has joined."""

    def __init__(self) -> None:
        self._threads = DaemonThreads()

    async def names(self) -> list[str]:
        """Return those that are deployed, whether or not they run."""
        try:
            async with asyncio.timeout(_ANSWER_S):
                return [name for name in await self._threads.call(applications) if name != FRONTS]
        except TimeoutError:
            msg = f"no answer in {_ANSWER_S:.0f} s"
            raise EngineError(msg) from None
        except _LOST as error:
            raise EngineError(str(error).partition("\n")[0]) from error

    def replicas(self, name: str) -> RayReplicas:
        """Return the replicas of one of them."""
        return RayReplicas(name)

    async def close(self) -> None:
        """Stay: whoever joined the cluster leaves it."""


def _open(spec: EngineSpec) -> SpeechModel:
    if spec.opens is None:
        return open_engine(spec.engine).model
    module, _, function = spec.opens.partition(":")
    return getattr(importlib.import_module(module), function)()


def _device_bytes() -> int:
    torch = sys.modules.get("torch")
    return torch.cuda.memory_allocated() if torch is not None and torch.cuda.is_available() else 0


def log_to_serve() -> None:
    """Put what we log beside what Serve logs of the same replica: the session's name is in both ends' logs."""
    ours = logging.getLogger("stt")
    ours.setLevel(logging.INFO)
    for handler in logging.getLogger("ray.serve").handlers:
        if handler not in ours.handlers:
            ours.addHandler(handler)
