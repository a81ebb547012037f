"""Engines on a real Ray: what happens to replicas, nodes and the controller costs time, and no word."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conversations import ENGINE, FOUR, Front, heard, locally, said, same_words, session
from held import batches

from stt.cluster import ray_serve
from stt.cluster.link import ray_link
from stt.cluster.routes import ClusterEngines
from stt.cluster.spec import EngineSpec
from stt.cluster.wire import pack
from stt.recognition import Recognition, RecognitionOptions, Ticket, Utterance, WindowKey
from stt.recognition.service import Kind

pytestmark = [pytest.mark.timeout(400), pytest.mark.filterwarnings("ignore")]  # Ray's own warnings are not ours to mend

SPEC = EngineSpec(engine=ENGINE, replicas=2, cpus=1)
HELD = EngineSpec("held", replicas=1, cpus=0.1, opens="held:Held")


@contextlib.asynccontextmanager
async def front() -> AsyncIterator[ClusterEngines]:
    import ray

    link = ray_link(ray.get_runtime_context().gcs_address)
    await asyncio.to_thread(link.join)
    engines = ClusterEngines(link)
    running = asyncio.create_task(engines.run())
    try:
        async with asyncio.timeout(60):
            while engines.state != "ready":
                await asyncio.sleep(0.05)
        yield engines
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await engines.close(5)


async def replicas(engines: ClusterEngines, count: int) -> dict[str, int]:
    """Wait until so many are heard of; returns their processes by their names."""
    async with asyncio.timeout(120):
        while len(loads := engines.recognizers["default"].loads) < count:
            await asyncio.sleep(0.05)
    return {load.replica: load.pid for load in loads}


def homes(engines: ClusterEngines) -> set[str]:
    return {s.home for s in engines.recognizers["default"]._sessions.values() if s.home is not None}


def conversations(trouble: Callable[[ClusterEngines], Awaitable[None]] | None = None, count: int = 4) -> ClusterEngines:
    """Hear four conversations at once, trouble coming in the midst of it, and compare them with a local run."""

    async def run() -> ClusterEngines:
        async with front() as engines:
            await replicas(engines, 2)
            once = asyncio.Lock()
            done: list[bool] = []

            async def comes() -> None:
                async with once:
                    if trouble is not None and not done:
                        done.append(True)
                        await trouble(engines)

            heard_all = await asyncio.gather(*(heard(session(engines), said(seed), comes) for seed in range(count)))
            assert list(heard_all) == expected[:count]
            return engines

    expected = locally()
    assert all(len(finals) == 2 for finals in expected)
    return asyncio.run(run())


async def kill_a_home(engines: ClusterEngines) -> None:
    async with asyncio.timeout(30):
        while not (at := homes(engines) & {load.replica for load in engines.recognizers["default"].loads}):
            await asyncio.sleep(0.01)
    [pid] = {load.pid for load in engines.recognizers["default"].loads if load.replica == min(at)}
    os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="module", autouse=True)
def deployed(nodes: Any) -> Any:
    ray_serve.up(SPEC)
    return nodes


def test_four_conversations_end_with_the_finals_of_a_local_run() -> None:
    engines = conversations()
    assert engines.model.name.startswith("whisper")
    counts = engines.recognizers["default"].counts
    assert not counts.again
    sound = sum(2 * len(said(seed)) for seed in FOUR)
    assert counts.bytes_sent < 1.2 * sound


def test_calls_of_one_request_are_told_apart() -> None:
    """As those of a session that came through Serve's proxy, whose WebSocket is one request of Serve."""
    from ray.serve.context import _RequestContext, _serve_request_context

    async def run() -> None:
        _serve_request_context.set(_RequestContext(request_id="r", _internal_request_id="r"))
        replicas = ray_serve.RayReplicas("default")
        async with asyncio.timeout(30):
            loads = await asyncio.gather(*(replicas.pulse(None, frozenset()) for _ in range(50)))
        assert all(load.replica for load in loads)

    asyncio.run(run())


def test_what_is_recognized_goes_straight_to_a_replica_that_gets_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a driver, whose router is of its only event loop; a replica that gets none any more is left to Serve."""
    from ray import serve
    from ray.serve.handle import DeploymentHandle

    async def run() -> None:
        handle = DeploymentHandle(ray_serve.DEPLOYMENT, SPEC.application)
        handle._init(_run_router_in_separate_loop=False)
        monkeypatch.setattr(serve, "get_app_handle", lambda _: handle)
        replicas, message = ray_serve.RayReplicas("default"), pack(Utterance(np.zeros(1_600, np.float32)), "s")
        home = (await replicas.pulse(None, frozenset())).replica
        by_handle: list[str] = []
        remote = DeploymentHandle.remote

        def noted(self: Any, *args: Any) -> Any:
            by_handle.append(args[0][0])
            return remote(self, *args)

        monkeypatch.setattr(DeploymentHandle, "remote", noted)
        for to in (home, "gone"):
            answer = await replicas.recognize(message, to, frozenset())
            assert answer["said"] == "heard"
            assert (answer["load"]["replica"] == to) == (to == home)
        assert by_handle == ["gone"]

    asyncio.run(asyncio.wait_for(run(), 60))


@pytest.fixture(scope="module")
def held(deployed: Any) -> Iterator[None]:
    del deployed
    ray_serve.up(HELD)
    yield
    ray_serve.down("held")


class Asks:
    """A front whose sessions ask an engine that is held."""

    def __init__(self, engines: ClusterEngines, at: Path) -> None:
        self.engines, self._at = engines, at

    def __call__(self, session: str, samples: int, kind: Kind = "final", turn: int = 0) -> Ticket:
        audio, options = np.zeros(samples, np.float32), RecognitionOptions(engine="held")
        return self.engines.submit(
            Utterance(audio, options, kind=kind, key=WindowKey(session, turn), trace=str(self._at))
        )

    async def wait(self, count: int) -> None:
        """Until so many wait at the replica of the session that asked first."""
        recognizer = self.engines.recognizers["held"]
        first = next(iter(recognizer._sessions.values()))
        async with asyncio.timeout(60):
            while first.home is None or (await recognizer._replicas.pulse(first.home, frozenset())).waiting != count:
                await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def asking(at: Path, count: int) -> AsyncIterator[Asks]:
    async with front() as engines:
        async with asyncio.timeout(120):
            while "held" not in engines.engines or len(engines.recognizers["held"].loads) < count:
                await asyncio.sleep(0.05)
        yield Asks(engines, at)


async def begun(at: Path) -> int:
    """Wait until a batch is in the engine; returns the process."""
    async with asyncio.timeout(60):
        while not batches(at):
            await asyncio.sleep(0.01)
    return batches(at)[0][0]


async def texts(*tickets: Ticket) -> list[str | None]:
    async with asyncio.timeout(60):
        found = await asyncio.gather(*tickets)
    return [each.hypothesis.text if isinstance(each, Recognition) else each for each in found]


@pytest.mark.usefixtures("held")
def test_a_replica_is_fair_to_the_sessions_of_two_fronts(tmp_path: Path) -> None:
    """Finals of all before interims of any; in a batch, one of each session before the second of one."""

    async def run() -> None:
        async with asking(tmp_path, 1) as one, asking(tmp_path, 1) as other:
            tickets = [one("first", 100)]
            await begun(tmp_path)
            tickets += [one(f"s{n}", 1_000 + n, "interim") for n in range(5)]
            tickets += [one("eager", 200 + n, turn=n) for n in range(4)]
            await one.wait(9)
            tickets += [other("late", 300), other("later", 1_005, "interim")]
            await other.wait(11)
            (tmp_path / "go").touch()
            await texts(*tickets)

    asyncio.run(run())
    first, second, *rest = ([int(text) for text in heard] for _, heard in batches(tmp_path))
    assert first == [100]
    assert len(second) == 4
    assert 300 in second
    left, *interims = (heard for batch in rest for heard in batch)
    assert {*second, left} == {200, 201, 202, 203, 300}
    assert sorted(interims) == [1_000 + n for n in range(6)]


@pytest.mark.usefixtures("held")
def test_a_replica_killed_while_a_batch_is_in_its_engine_costs_no_final(tmp_path: Path) -> None:
    """What is in the engine and what waits behind it is heard by the other one, once; interims are dropped."""

    async def run() -> None:
        async with asking(tmp_path, 2) as ask:
            finals = [ask("s", 100)]
            killed = await begun(tmp_path)
            finals.append(ask("s", 200, turn=1))
            interim = ask("s", 300, "interim", turn=2)
            await ask.wait(2)
            os.kill(killed, signal.SIGKILL)
            (tmp_path / "go").touch()
            assert await texts(*finals, interim) == ["100", "200", None]
            assert ask.engines.recognizers["held"].counts.dropped == 1
            assert {text for pid, heard in batches(tmp_path) for text in heard if pid != killed} == {"100", "200"}

    ray_serve.up(replace(HELD, replicas=2))
    asyncio.run(run())


@pytest.mark.parametrize("repetition", range(10))
def test_a_replica_killed_in_the_middle_of_a_turn_costs_no_word(repetition: int) -> None:
    del repetition
    conversations(kill_a_home, 2)


def test_a_controller_that_starts_anew_is_not_noticed() -> None:
    import ray
    from ray.serve._private.constants import SERVE_CONTROLLER_NAME

    async def restart(engines: ClusterEngines) -> None:
        ray.kill(ray.get_actor(SERVE_CONTROLLER_NAME, namespace="serve"), no_restart=False)

    conversations(restart)


def test_an_update_replaces_replicas_one_after_another_without_losing_a_final() -> None:
    async def update(engines: ClusterEngines) -> None:
        before.update(await replicas(engines, 2))
        newer = EngineSpec(engine=ENGINE, replicas=2, cpus=1, timeout_s=61)
        updates.append(asyncio.ensure_future(asyncio.to_thread(ray_serve.up, newer)))

    async def after() -> dict[str, int]:
        async with front() as engines:
            return await replicas(engines, 2)

    before: dict[str, int] = {}
    updates: list[Any] = []
    conversations(update)
    ray_serve.up(EngineSpec(engine=ENGINE, replicas=2, cpus=1, timeout_s=61))  # waits until it is done
    assert not before.keys() & asyncio.run(after()).keys()


def test_a_front_that_is_killed_is_left_by_its_clients_and_found_again(deployed: Any) -> None:
    """Two fronts with two conversations each; one is killed in the middle of them, and started anew."""
    fronts = [Front(deployed.address) for _ in range(2)]
    once: list[bool] = []

    async def kill() -> None:
        if not once:
            once.append(True)
            await asyncio.to_thread(fronts[0].kill)
            fronts[0].start()

    async def run() -> list[list[tuple[int, str]]]:
        for front in fronts:
            await front.ready()
        return await asyncio.gather(
            *(heard(fronts[seed % 2].talk_to(), said(seed), None if seed % 2 else kill) for seed in FOUR)
        )

    try:
        found, expected = asyncio.run(run()), locally()
        assert found[1::2] == expected[1::2]
        same_words(found[::2], expected[::2])
        for front in fronts:
            front.process.terminate()
        assert [front.process.wait(60) for front in fronts] == [0, 0]
    finally:
        for front in fronts:
            front.kill()


def test_a_node_that_dies_costs_no_word(deployed: Any) -> None:
    async def lose_a_node(_: ClusterEngines) -> None:
        node = deployed.worker_nodes.copy().pop()
        await asyncio.to_thread(deployed.remove_node, node, allow_graceful=False)

    conversations(lose_a_node)
