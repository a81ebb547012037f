"""What a front makes of a driver, its process on the cluster, that ends, hangs or has lost the cluster."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from replicas import PATIENCE
from scripted import tone
from stt.cluster import link as link_module
from stt.cluster.link import Link
from stt.cluster.routes import ClusterEngines
from stt.commands import cluster
from stt.errors import EngineError, SettingsError
from stt.recognition import Recognition, Ticket, Utterance, WindowKey

ROOT = Path(__file__).parents[1]
ENV = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}


class State:
    """How the cluster of a driver is (`drivers.py`), and what was seen of it."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.becomes("up")

    def becomes(self, state: str) -> None:
        self.file.write_text(state)

    async def saw(self, what: str) -> None:
        await until(self.file.with_suffix(f".{what}").exists)


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path / "state")


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster counts as lost at once."""
    for name in ("_UNHEARD_S", "_STALE_S"):
        monkeypatch.setattr(link_module, name, 0.2)


def driver(state: State) -> list[str]:
    return [sys.executable, "-Pm", "drivers", str(state.file)]


@asynccontextmanager
async def joined(state: State) -> AsyncIterator[tuple[Link, ClusterEngines]]:
    link = Link(driver(state), ENV)
    link.join()
    engines = ClusterEngines(link, patience=PATIENCE, find_every_s=0.01)
    running = asyncio.create_task(engines.run())
    try:
        await became(engines, "ready")
        yield link, engines
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await engines.close(5)
        assert link.pid is None


async def became(engines: ClusterEngines, state: str) -> None:
    await until(lambda: engines.state == state)


async def replaced(link: Link, first: int | None) -> None:
    await until(lambda: link.pid not in (None, first))


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():
            await asyncio.sleep(0.005)


def ask(engines: ClusterEngines, turn: int = 0) -> Ticket:
    return engines.submit(Utterance(tone(0.1), key=WindowKey("a", turn)))


async def text(ticket: Ticket) -> str:
    async with asyncio.timeout(60):
        recognition = await ticket
    assert isinstance(recognition, Recognition)
    return recognition.hypothesis.text


async def test_calls_go_by_way_of_the_driver(state: State):
    async with joined(state) as (_, engines):
        assert await text(ask(engines)) == "w1600"
        assert engines.model.languages == {"en"}
        engines.forget("a")
        await state.saw("forgot")


async def test_calls_of_a_driver_that_ends_are_made_again_by_the_next(state: State):
    async with joined(state) as (link, engines):
        first = link.pid
        assert first is not None
        state.becomes("mute")
        waiting = [ask(engines, turn) for turn in range(3)]
        await state.saw("pulse")
        os.kill(first, signal.SIGKILL)
        state.becomes("up")
        assert [await text(ticket) for ticket in waiting] == ["w1600"] * 3
        assert link.pid not in (None, first)


async def test_a_front_without_a_cluster_waits_for_one(state: State):
    """Drivers that cannot join come and go; what was asked meanwhile is answered once there is a cluster."""
    async with joined(state) as (link, engines):
        assert link.pid is not None
        state.becomes("none")
        os.kill(link.pid, signal.SIGKILL)
        await became(engines, "unreachable")
        waiting = ask(engines)
        state.becomes("up")
        assert await text(waiting) == "w1600"
        await became(engines, "ready")


@pytest.mark.parametrize("how", ["lost", "mute"])
@pytest.mark.usefixtures("hasty")
async def test_a_driver_that_has_lost_the_cluster_is_replaced(state: State, how: str):
    async with joined(state) as (link, engines):
        first = link.pid
        state.becomes(how)
        await became(engines, "unreachable")
        waiting = ask(engines)
        await replaced(link, first)
        state.becomes("up")
        assert await text(waiting) == "w1600"
        await became(engines, "ready")


@pytest.mark.usefixtures("hasty")
async def test_a_driver_that_hangs_is_replaced(state: State, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(link_module, "_NAMES_S", 0.5)
    async with joined(state) as (link, engines):
        first = link.pid
        assert first is not None
        os.kill(first, signal.SIGSTOP)
        waiting = ask(engines)
        await replaced(link, first)
        assert await text(waiting) == "w1600"


async def test_a_call_that_is_cancelled_is_taken_back(state: State):
    async with joined(state) as (link, _):
        state.becomes("mute")
        asking = asyncio.create_task(link.ask("recognize", "default", {}, None, frozenset()))
        await state.saw("recognize")
        asking.cancel()
        await state.saw("taken-back")


@pytest.mark.parametrize(("how", "why"), [("none", "no cluster here"), ("ends", "the process .* ended")])
async def test_why_no_cluster_is_joined_is_told(state: State, how: str, why: str):
    state.becomes(how)
    link = Link(driver(state), ENV)
    with pytest.raises(EngineError, match=why):
        link.join()
    assert link.pid is None


def test_a_front_without_ray_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cluster, "find_spec", lambda _: None)
    with pytest.raises(SettingsError, match=r"pip install '.*\[cluster\]'"):
        cluster.engines_of("auto")


def test_a_driver_ends_with_its_front(state: State):
    front, its = socket.socketpair()
    with its:
        command = [*driver(state), str(its.fileno())]
        process = subprocess.Popen(command, pass_fds=[its.fileno()], env={**os.environ, **ENV})
    with front:
        assert front.recv(1)
    assert process.wait(20) == 0
