"""Engines on a real Ray: what happens to replicas, nodes and the controller costs time, and no word."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from conversations import ENGINE, FOUR, Front, heard, locally, said, same_words, session

from stt.cluster import ray_serve
from stt.cluster.link import ray_link
from stt.cluster.routes import ClusterEngines
from stt.cluster.spec import EngineSpec

pytestmark = [pytest.mark.timeout(400), pytest.mark.filterwarnings("ignore")]  # Ray's own warnings are not ours to mend

SPEC = EngineSpec(engine=ENGINE, replicas=2, cpus=1)


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
