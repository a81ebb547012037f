"""`stt client`: a file or the microphone through a server, and what it writes back, live."""

import asyncio
import contextlib
import shutil
import signal
import sys
from collections.abc import AsyncIterator

from stt.audio import Samples
from stt.client import RemoteSession, trusting
from stt.errors import DeviceError
from stt.events import Event, RecognitionFailed, TranscriptChanged, TurnCompleted
from stt.session import AudioSource
from stt.settings import TurnSettings
from stt.sources import FileSource, Microphone, find_device, input_devices, paced


def run(
    path: str | None,
    *,
    url: str,
    api_key: str | None,
    ca: str | None,
    device: str | None,
    language: str | None,
    turns: TurnSettings | None,
    fast: bool,
    raw: bool,
) -> int:
    """Stream until the file ends, or Ctrl-C; returns the exit status.

    Raises:
        AudioError: the file cannot be read.
        DeviceError: there is no such microphone, or it is gone.
        RemoteError: the server cannot be reached, or refuses the session.
        SettingsError: the URL, the key or the CA file cannot be used.

    """
    screen = _Screen(raw=raw)
    session = RemoteSession(
        url,
        api_key=api_key,
        tls=trusting(ca) if ca else None,
        settings=turns,
        language=language,
        notify=screen.notice,
        on_message=screen.message,
    )
    if path is not None:
        with FileSource(path, notice=screen.notice) as source:
            asyncio.run(_stream(session, source if fast else paced(aiter(source)), screen))
    else:
        with Microphone(_choose(device)) as microphone:
            screen.notice(f"listening to {microphone.name}; Ctrl-C ends")
            asyncio.run(_stream(session, microphone, screen))
    return 1 if screen.failed else 0


async def _stream(session: RemoteSession, source: AudioSource, screen: "_Screen") -> None:
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


def _choose(device: str | None) -> int:
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


class _Screen:
    """Finals as lines of standard output; on a terminal, the running turn below them as it changes."""

    def __init__(self, *, raw: bool) -> None:
        self._raw = raw
        self._live = sys.stdout.isatty() and not raw
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
                    print(event.text, flush=True)
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
        print(f"stt client: {text}", file=sys.stderr)

    def clear(self) -> None:
        """Take the running turn off the terminal."""
        if self._live:
            print("\r\x1b[K", end="", flush=True)
