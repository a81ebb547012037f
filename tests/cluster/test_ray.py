"""Engines on a real Ray: what happens to replicas, nodes and the controller costs time, and no word."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import cache
from typing import Any

import httpx
import pytest

from spoken import sentences, talk, word_errors
from stt.audio import Samples, from_pcm16, to_pcm16
from stt.client import RemoteSession
from stt.cluster import ray_serve
from stt.cluster.routes import ClusterEngines
from stt.cluster.spec import EngineSpec
from stt.engines import open_engine
from stt.events import Event, TurnCompleted
from stt.recognition import LocalRecognizer, RecognitionService
from stt.session import Session
from stt.settings import EngineSettings
from stt.vad import SileroVad

pytestmark = [pytest.mark.timeout(400), pytest.mark.filterwarnings("ignore")]  # Ray's own warnings are not ours to mend

ENGINE = EngineSettings("whisper", device="cpu", threads=1)
SPEC = EngineSpec(engine=ENGINE, replicas=2, cpus=1)
FOUR = range(4)


@cache
def said(seed: int) -> Samples:
    """Two turns, as a client's 16-bit PCM has them."""
    audio = talk(sentences(2, seed), [2.0, 2.0], seed=seed)
    return from_pcm16(to_pcm16(audio))[:, 0]


def session(recognizer: RecognitionService) -> Session:
    return Session(recognizer, SileroVad(), trace="test")


async def heard(
    session: Session | RemoteSession, audio: Samples, trouble: Callable[[], Awaitable[None]] | None = None
) -> list[tuple[int, str]]:
    """Return number and text of each final; trouble comes once, in the middle of the first turn."""
    finals: list[tuple[int, str]] = []

    async def sink(event: Event) -> None:
        if isinstance(event, TurnCompleted):
            finals.append((event.turn, event.text))

    async def source() -> AsyncIterator[Samples]:
        for at in range(0, len(audio), 8_000):
            if at == 24_000 and trouble is not None:
                await trouble()
            yield audio[at : at + 8_000]
            await asyncio.sleep(0.05)

    async with asyncio.timeout(180):
        await session.run(source(), sink)
    return finals


@cache
def locally() -> list[list[tuple[int, str]]]:
    async def run() -> list[list[tuple[int, str]]]:
        with LocalRecognizer(open_engine(ENGINE).model) as recognizer:
            return [await heard(session(recognizer), said(seed)) for seed in FOUR]

    return asyncio.run(run())


@contextlib.asynccontextmanager
async def front() -> AsyncIterator[ClusterEngines]:
    engines = ClusterEngines(ray_serve.RayDirectory())
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


class Front:
    """`stt serve --cluster` in a process of its own."""

    def __init__(self, address: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self._address = address
        self.start()

    def start(self) -> None:
        command = [
            sys.executable,
            "-Pm",
            "stt.cli",
            "serve",
            "--cluster",
            self._address,
            "--port",
            str(self.port),
            "--end-of-turn",
            "silence",
        ]
        self.process = subprocess.Popen(command)

    async def ready(self) -> None:
        async with asyncio.timeout(120), httpx.AsyncClient() as client:
            while True:
                with contextlib.suppress(httpx.TransportError):
                    if (await client.get(f"http://127.0.0.1:{self.port}/ready")).status_code == 200:
                        return
                await asyncio.sleep(0.1)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def talk_to(self) -> RemoteSession:
        return RemoteSession(f"ws://127.0.0.1:{self.port}", patience_s=120)


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
        # Who comes back is heard anew from somewhere in the stream: frames, and windows, begin up to 32 ms elsewhere,
        # which may turn a word of such a small model.
        assert [[turn for turn, _ in finals] for finals in found] == [
            [turn for turn, _ in finals] for finals in expected
        ]
        texts = [" ".join(text for finals in each[::2] for _, text in finals) for each in (expected, found)]
        assert word_errors(*texts)[0] <= 2
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
