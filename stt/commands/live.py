"""Live speech on the command line, whoever recognizes it: the way it ends, and what is shown of it."""

import asyncio
import contextlib
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from typing import Protocol

from stt.audio import Samples
from stt.errors import DeviceError
from stt.events import Event, RecognitionFailed, TranscriptChanged, TurnCompleted
from stt.session import AudioSource, Sink
from stt.sources import find_device, input_devices
from stt.words import Word


class Running(Protocol):
    """A session, here or on a server."""

    async def run(self, source: AudioSource, sink: Sink) -> None: ...


async def stream(session: Running, source: AudioSource, screen: "Screen") -> None:
    """Run the session; the first Ctrl-C ends the audio and waits for the last final, the second ends all."""
    stopped = asyncio.Event()

    def stop() -> None:
        loop.remove_signal_handler(signal.SIGINT)
        stopped.set()

    loop = asyncio.get_running_loop()
    with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C raises KeyboardInterrupt there
        loop.add_signal_handler(signal.SIGINT, stop)
    try:
        await session.run(_Until(source, stopped), screen.event)
    finally:
        screen.clear()
        with contextlib.suppress(NotImplementedError):
            loop.remove_signal_handler(signal.SIGINT)


class _Until:
    """A source that ends where another does, or when `stopped` is set."""

    def __init__(self, source: AudioSource, stopped: asyncio.Event) -> None:
        self._source = source
        self._stopped = stopped

    @property
    def overruns(self) -> int:
        """Blocks that the source had to drop."""
        return getattr(self._source, "overruns", 0)

    async def __aiter__(self) -> AsyncIterator[Samples]:
        pieces = aiter(self._source)
        stop = asyncio.ensure_future(self._stopped.wait())
        try:
            while True:
                piece = asyncio.ensure_future(anext(pieces, None))
                await asyncio.wait((stop, piece), return_when=asyncio.FIRST_COMPLETED)
                if not piece.done():
                    piece.cancel()
                    await asyncio.wait((piece,))
                    return
                if (audio := piece.result()) is None:
                    return
                yield audio
        finally:
            stop.cancel()


def choose(device: str | None) -> int:
    """Return the index of the microphone asked for; ask at the terminal if there are several and none was named."""
    devices = input_devices()
    default = find_device(device, devices)
    if device is not None or len(devices) == 1 or not sys.stdin.isatty():
        return default.index
    for found in devices:
        mark = "*" if found.is_default else " "
        print(f"{mark} {found.index:3}  {found.name} ({found.api})", file=sys.stderr)
    while True:
        try:
            answer = input(f"microphone [{default.index}]: ").strip()
        except EOFError:
            return default.index
        try:
            return find_device(answer or None, devices).index
        except DeviceError as error:
            print(error, file=sys.stderr)


class Screen:
    """Finals as lines of standard output; on a terminal, the running turn below them as it changes."""

    def __init__(self, command: str, *, live: bool, raw: bool = False, words: bool = False) -> None:
        """Show for a command; `live`: the running turn, too; `raw`: messages in place of turns; `words`: words."""
        self._command = command
        self._raw = raw
        self._words = words
        self._live = live and sys.stdout.isatty()
        self.failed = False

    async def event(self, event: Event) -> None:
        """Show what an event changes."""
        match event:
            case TranscriptChanged() if self._live:
                width = shutil.get_terminal_size().columns - 1
                text = event.text[-width:]
                solid = text[: max(0, event.stable_chars - (len(event.text) - len(text)))]
                print(f"\r\x1b[K{solid}\x1b[2m{text[len(solid) :]}\x1b[0m", end="", flush=True)
            case TurnCompleted() if not self._raw:
                self.clear()
                if event.text:
                    print("\n".join(_word_lines(event)) if self._words else event.text, flush=True)
            case RecognitionFailed():
                self.failed = True
                self.notice(event.message)
            case _:
                pass

    def message(self, text: str) -> None:
        """Print a message as it came."""
        if self._raw:
            print(text, flush=True)

    def notice(self, text: str) -> None:
        """Tell about the connection."""
        self.clear()
        print(f"stt {self._command}: {text}", file=sys.stderr)

    def clear(self) -> None:
        """Take the running turn off the terminal."""
        if self._live:
            print("\r\x1b[K", end="", flush=True)


def _word_lines(turn: TurnCompleted) -> list[str]:
    """Return start, end, confidence and text of each word; of the turn as a whole where its words have no times."""
    words = turn.words or (Word(turn.text, turn.start, turn.end),)
    return [
        f"{word.start_s:.2f}\t{word.end_s:.2f}\t{'-' if word.confidence is None else f'{word.confidence:.2f}'}\t"
        f"{word.text.strip()}"
        for word in words
    ]
