"""Fronts inside Ray: a Serve application (`stt`) whose replicas are fronts, behind Serve's proxy on every machine.

Serve stops a replica once its requests are over, and tells it nothing before; a session would go on until it is cut
off. So each front watches, through a handle to its own deployment, who is still to get requests: once it is not among
them, it drains.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from ray import serve
from ray.serve.config import HTTPOptions, RequestRouterConfig
from ray.serve.context import _get_global_client
from ray.serve.metrics import Gauge
from ray.serve.request_router import PendingRequest, RequestRouter, RunningReplica
from starlette.applications import Starlette

from stt.cluster import running
from stt.cluster.fronts import FrontSpec, front_app, read_fronts
from stt.cluster.metrics import measured_engines
from stt.cluster.ray_serve import MOST_CALLS, RayDirectory, log_to_serve, not_deployed
from stt.cluster.spec import FRONTS, FRONTS_APPLICATION
from stt.errors import EngineError
from stt.recognition import ServedEngine
from stt.server.logs import LOGGER, with_fields
from stt.server.metrics import Metrics

DEPLOYMENT: Final = "Front"
_STARTING_S: Final = 60.0  # for the first answer of an engine; then it is a front without one, and says so
_CLOSING_S: Final = 15.0  # after the drain: the last words, and their way
_HEALTH_S: Final = 5.0


class FrontRouter(RequestRouter):
    """Takes a connection to the less busy of two fronts, and tells the front of this process who is to get any."""

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Return those to be tried."""
        del pending_request
        return [random.sample(candidate_replicas, min(2, len(candidate_replicas)))]

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        """Take note of who is to get connections from now on."""
        super().update_replicas(replicas)
        running.tell(self.app_name, {replica.replica_id.unique_id: replica for replica in replicas})


class Front:
    """A front, as Ray Serve runs it: around the app, which `serve.ingress` adds as `app`."""

    app: Starlette

    async def __init__(self) -> None:
        log_to_serve()
        LOGGER.addFilter(with_fields)
        self._name = serve.get_replica_context().replica_id.unique_id
        self._loop = asyncio.get_running_loop()
        self._serves = False
        self._draining: asyncio.Task[None] | None = None
        self._gauges = {name: Gauge(f"stt_front_{name}", description=text) for name, text in _GAUGES.items()}
        running.watch(FRONTS_APPLICATION, lambda names: self._loop.call_soon_threadsafe(self._told, names))
        handle = await asyncio.to_thread(serve.get_deployment_handle, DEPLOYMENT, FRONTS_APPLICATION)
        # Options make the handle's router, which hears of changes from now on; nothing is ever called by it.
        self._handle = handle.options(method_name="check_health")

    async def check_health(self) -> None:
        """Serve asks; a front that raises is replaced."""
        service = self.app.state.service
        self._gauges["sessions"].set(len(service.sessions))
        self._gauges["engine_lag_s"].set(service.engine_lag_s)
        if service.failure is not None:
            msg = f"the front cannot serve: {service.failure}"
            raise EngineError(msg)

    def _told(self, names: set[str]) -> None:
        serves, served = self._name in names, self._serves
        self._serves = serves
        if served and not serves and self._draining is None:
            self._draining = asyncio.create_task(self.app.state.service.drain(), name="drain")


_GAUGES: Final = {
    "sessions": "Sessions of the front",
    "engine_lag_s": "How long the oldest text that is due has waited for an engine",
}


def application(spec: FrontSpec) -> serve.Application:
    """Return the Serve application of fronts."""

    def app() -> Starlette:  # where the front runs
        return _app(spec)

    deployment: serve.Deployment = serve.deployment(serve.ingress(app)(Front), name=DEPLOYMENT)  # pyright: ignore[reportAssignmentType]
    return deployment.options(
        num_replicas=spec.fronts,
        ray_actor_options={"num_cpus": spec.cpus},
        max_ongoing_requests=MOST_CALLS,  # the front itself says how many sessions there may be, and why no more
        health_check_period_s=_HEALTH_S,
        health_check_timeout_s=2 * _HEALTH_S,
        graceful_shutdown_timeout_s=spec.server.drain_timeout_s + _CLOSING_S,
        graceful_shutdown_wait_loop_s=0.5,
        logging_config={"enable_access_log": False},
        request_router_config=RequestRouterConfig(request_router_class=f"{__name__}.FrontRouter"),  # pyright: ignore[reportArgumentType] - a path is fine
    ).bind()


def build(args: dict[str, Any]) -> serve.Application:
    """Return the application that a configuration file asks for: `import_path: stt.cluster.ray_fronts:build`."""
    return application(read_fronts(args))


def listen(host: str, port: int) -> None:
    """Start Serve with its proxy listening there on every machine that has something of ours.

    Raises:
        EngineError: it runs already and listens elsewhere, or nowhere.

    """
    serve.start(proxy_location="EveryNode", http_options=HTTPOptions(host=host, port=port))
    # What it was started with stays. Serve logs a difference to what is asked for later, and tells it to nobody.
    options = _get_global_client().http_config  # pyright: ignore[reportOptionalMemberAccess] - it was started
    there = f"at {options.host}:{options.port}" if serve.status().proxies else "without a proxy"
    if there != f"at {host}:{port}":
        msg = f"Serve runs {there}, expected {host}:{port}; end it (`serve shutdown`) and deploy all of it anew"
        raise EngineError(msg)


def up(spec: FrontSpec) -> None:
    """Deploy fronts, or update them: one after another, and running turns get their finals.

    Raises:
        EngineError: they cannot be deployed.

    """
    try:
        serve.run(application(spec), name=FRONTS_APPLICATION, route_prefix="/")
    except RuntimeError as error:
        raise not_deployed(FRONTS, error) from error


def _app(spec: FrontSpec) -> Starlette:
    """Make the app of a front, which begins to serve once an engine has answered: so that an update leaves no gap."""
    answered = asyncio.Event()

    def elsewhere(metrics: Metrics, changed: Callable[[], None]) -> ServedEngine:
        def told() -> None:
            changed()
            answered.set()

        return measured_engines(RayDirectory(), metrics, told)

    app = front_app(spec, elsewhere)
    app.state.service.on_failure = answered.set
    serving = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(of: Starlette) -> AsyncIterator[None]:
        async with serving(of):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_STARTING_S):
                    await answered.wait()
            if (failure := app.state.service.failure) is not None:
                raise failure
            yield

    app.router.lifespan_context = lifespan
    return app
