"""What the tests with a real Ray have in common: conversations, what a local run hears in them, and fronts."""

import asyncio
import contextlib
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import cache
from typing import Final

import httpx

from spoken import sentences, talk, word_errors
from stt.audio import Samples, from_pcm16, to_pcm16
from stt.client import RemoteSession
from stt.engines import open_engine
from stt.events import Event, TurnCompleted
from stt.recognition import LocalRecognizer, RecognitionService
from stt.session import Session
from stt.settings import EngineSettings
from stt.vad import SileroVad

ENGINE: Final = EngineSettings("whisper", device="cpu", threads=1)
FOUR: Final = range(4)
Finals = list[tuple[int, str]]


@cache
def said(seed: int) -> Samples:
    """Two turns, as a client's 16-bit PCM has them."""
    audio = talk(sentences(2, seed), [2.0, 2.0], seed=seed)
    return from_pcm16(to_pcm16(audio))[:, 0]


def session(recognizer: RecognitionService) -> Session:
    return Session(recognizer, SileroVad(), trace="test")


async def heard(
    session: Session | RemoteSession, audio: Samples, trouble: Callable[[], Awaitable[None]] | None = None
) -> Finals:
    """Return number and text of each final; trouble comes once, in the middle of the first turn."""
    finals: Finals = []

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
def locally() -> list[Finals]:
    async def run() -> list[Finals]:
        with LocalRecognizer(open_engine(ENGINE).model) as recognizer:
            return [await heard(session(recognizer), said(seed)) for seed in FOUR]

    return asyncio.run(run())


def same_words(found: list[Finals], expected: list[Finals], wrong: int = 2) -> None:
    """Compare conversations that were heard anew from somewhere in the stream.

    Frames, and windows, then begin up to 32 ms elsewhere, which may turn a word of such a small model.
    """
    numbers = [[[turn for turn, _ in finals] for finals in each] for each in (expected, found)]
    assert numbers[0] == numbers[1]
    texts = [" ".join(text for finals in each for _, text in finals) for each in (expected, found)]
    assert word_errors(*texts)[0] <= wrong


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


async def ready(port: int, status: int = 200) -> None:
    """Wait until `/ready` answers so."""
    async with asyncio.timeout(120), httpx.AsyncClient() as client:
        while True:
            with contextlib.suppress(httpx.TransportError):
                if (await client.get(f"http://127.0.0.1:{port}/ready")).status_code == status:
                    return
            await asyncio.sleep(0.1)


class Front:
    """`stt serve --cluster` in a process of its own."""

    def __init__(self, address: str) -> None:
        self.port = free_port()
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
        await ready(self.port)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def talk_to(self, notify: Callable[[str], None] | None = None) -> RemoteSession:
        return RemoteSession(f"ws://127.0.0.1:{self.port}", patience_s=120, notify=notify)
