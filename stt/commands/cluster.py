"""`stt cluster`: engines on a Ray cluster; and what makes a server a front of them."""

import json
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from stt.cluster.spec import EngineSpec
from stt.errors import SettingsError
from stt.machine import DISTRIBUTION
from stt.settings import EngineSettings

if TYPE_CHECKING:
    from stt.recognition import ServedEngine
    from stt.server.metrics import Metrics


def up(
    address: str,
    *,
    name: str,
    engine: EngineSettings,
    fronts: dict[str, Any] | None,
    host: str,
    port: int,
    **replicas: Any,
) -> int:
    """Deploy an engine, or update it, and fronts as well where `fronts` says what they are; returns the exit status.

    That is once the replicas are ready, and the fronts answer at `host` and `port`.

    Raises:
        SettingsError: Ray is not installed, or an option cannot work.
        EngineError: there is no such cluster, or the engine cannot be deployed.

    """
    spec = EngineSpec(name, engine, **replicas)
    ray_serve = _connected(address)
    try:
        if fronts is None:
            ray_serve.up(spec)
        else:
            _up_behind_proxy(ray_serve, spec, fronts, host, port)
        _print(ray_serve.applications())
    finally:
        ray_serve.disconnect()
    return 0


def status(address: str, *, as_json: bool) -> int:
    """Show the engines there are; the exit status is 0 if all of them run."""
    ray_serve = _connected(address)
    try:
        engines = ray_serve.applications()
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
    if find_spec("ray") is None:
        raise _without_ray()
    from stt.cluster.link import ray_link
    from stt.cluster.metrics import measured_engines

    link = ray_link(address)
    link.join()

    def make(metrics: "Metrics", changed: Callable[[], None]) -> "ServedEngine":
        return measured_engines(link, metrics, changed)

    return make


def _up_behind_proxy(ray_serve: ModuleType, spec: EngineSpec, fronts: dict[str, Any], host: str, port: int) -> None:
    from stt.cluster.fronts import FrontSpec
    from stt.server.access import is_loopback, read_keys

    if host.startswith("unix:"):
        msg = f"--host: expected an address for Ray's proxy, which has no Unix sockets, got {host}"
        raise SettingsError(msg)
    front = FrontSpec(**fronts)
    if front.api_key_file is not None:
        read_keys(Path(front.api_key_file))  # here as well: a mistake is told before anything is deployed
    elif not is_loopback(host):
        print(f"anyone who reaches {host}:{port} can use the server: no --api-key-file", file=sys.stderr)
    from stt.cluster import ray_fronts

    ray_fronts.listen(host, port)
    ray_serve.up(spec)
    ray_fronts.up(front)
    print(f"fronts listen at ws://{host}:{port} on every machine of the cluster with something of it")


def _connected(address: str) -> ModuleType:
    try:
        from stt.cluster import ray_serve
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "ray":
            raise
        raise _without_ray() from error
    ray_serve.connect(address)
    return ray_serve


def _without_ray() -> SettingsError:
    return SettingsError(f"a cluster needs Ray, which is not installed: pip install '{DISTRIBUTION}[cluster]'")


def _print(engines: dict[str, dict[str, object]]) -> None:
    if not engines:
        print("no engines; `stt cluster up` deploys one")
    for name, engine in engines.items():
        replicas = engine["replicas"]
        assert isinstance(replicas, dict)  # noqa: S101 - for the type checker
        states = ", ".join(f"{count} {state.lower()}" for state, count in replicas.items() if count) or "no replicas"
        message = f": {engine['message']}" if engine["message"] else ""
        print(f"{name}  {str(engine['status']).lower()}  {states}{message}")
