"""`stt cluster`: engines on a Ray cluster; and what makes a server a front of them."""

import json
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING

from stt.cluster.spec import EngineSpec
from stt.errors import SettingsError
from stt.machine import DISTRIBUTION
from stt.settings import EngineSettings

if TYPE_CHECKING:
    from stt.recognition import ServedEngine
    from stt.server.metrics import Metrics


def up(address: str, *, name: str, engine: EngineSettings, **replicas: object) -> int:
    """Deploy an engine, or update it; returns the exit status once its replicas are ready.

    Raises:
        SettingsError: Ray is not installed, or an option cannot work.
        EngineError: there is no such cluster, or the engine cannot be deployed.

    """
    spec = EngineSpec(name, engine, **replicas)  # type: ignore[arg-type] - named by the command line
    ray_serve = _connected(address)
    try:
        ray_serve.up(spec)
        _print(ray_serve.engines())
    finally:
        ray_serve.disconnect()
    return 0


def status(address: str, *, as_json: bool) -> int:
    """Show the engines there are; the exit status is 0 if all of them run."""
    ray_serve = _connected(address)
    try:
        engines = ray_serve.engines()
    finally:
        ray_serve.disconnect()
    if as_json:
        print(json.dumps(engines))
    else:
        _print(engines)
    return 0 if engines and all(engine["status"] == "RUNNING" for engine in engines.values()) else 1


def down(address: str, name: str) -> int:
    """Take an engine down; returns the exit status."""
    ray_serve = _connected(address)
    try:
        ray_serve.down(name)
    finally:
        ray_serve.disconnect()
    return 0


def engines_of(address: str) -> "Callable[[Metrics, Callable[[], None]], ServedEngine]":
    """Join a cluster, and return what makes a server a front of its engines.

    Raises:
        SettingsError: Ray is not installed.
        EngineError: there is no such cluster.

    """
    ray_serve = _connected(address)
    from stt.cluster.metrics import ClusterMetrics
    from stt.cluster.routes import ClusterEngines

    def make(metrics: "Metrics", changed: Callable[[], None]) -> "ServedEngine":
        engines = ClusterEngines(ray_serve.RayDirectory(), changed)
        metrics.registry.register(ClusterMetrics(engines))
        return engines

    return make


def _connected(address: str) -> ModuleType:
    try:
        from stt.cluster import ray_serve
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "ray":
            raise
        msg = f"a cluster needs Ray, which is not installed: pip install '{DISTRIBUTION}[cluster]'"
        raise SettingsError(msg) from error
    ray_serve.connect(address)
    return ray_serve


def _print(engines: dict[str, dict[str, object]]) -> None:
    if not engines:
        print("no engines; `stt cluster up` deploys one")
    for name, engine in engines.items():
        replicas = engine["replicas"]
        assert isinstance(replicas, dict)  # noqa: S101 - for the type checker
        states = ", ".join(f"{count} {state.lower()}" for state, count in replicas.items() if count) or "no replicas"
        message = f": {engine['message']}" if engine["message"] else ""
        print(f"{name}  {str(engine['status']).lower()}  {states}{message}")
