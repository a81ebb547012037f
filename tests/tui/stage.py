"""The screen's other side for tests: a backend that does nothing but note what it was asked, and devices likewise."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from textual.pilot import Pilot

from stt.events import Event, Latency, Passage, TranscriptChanged, TurnCompleted, TurnPaused, TurnStarted
from tui.app import SttApp
from tui.condition import Options
from tui.devices import Row
from tui.document import Document, Heard, StretchBegan
from tui.updates import Closed, EngineReady, InputOpen, InputPaused, Lagged, Metered, Update

NOON = 1_767_268_800.0  # 2026-01-01 12:00:00 UTC
FAST = Latency(0.01, 0.12, 1)
SENTENCES = (
    "Good morning, and thank you for joining the meeting.",
    "The first point is the budget for next year.",
    "We have spent forty thousand dollars on new machines, and the summer has not even begun.",
)


class Scripted:
    """A `Backend` without ears."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.tell: Callable[[Update], None] = lambda _: None
        self.closes_itself = True
        self.no_questions = ""

    def start(self, tell: Callable[[Update], None], first_stretch: int, heard: int) -> None:
        self.tell = tell
        self.asked.append(("start", first_stretch, heard))

    def listen(self, *, on: bool) -> None:
        self.asked.append(("listen", on))
        if not on:
            self.tell(InputPaused())

    def use(self, device: int | str | None) -> None:
        self.asked.append(("use", device))

    def record(self, path: str | None) -> None:
        self.asked.append(("record", path))

    def hold_devices(self, *, on: bool) -> None:
        self.asked.append(("hold", on))

    def look_for_devices(self) -> threading.Event:
        self.asked.append("look")
        done = threading.Event()
        done.set()
        return done

    def unaskable(self) -> str:
        return self.no_questions

    def ask(self, number: int, transcript: str, question: str) -> None:
        self.asked.append(("ask", number, transcript, question))

    def drop_question(self) -> None:
        self.asked.append("drop")

    def close(self) -> None:
        self.asked.append("close")
        if self.closes_itself:
            self.end()

    def end(self) -> None:
        self.tell(Closed())


class ScriptedDevices:
    """For `tui.devices.Devices`: these microphones."""

    def __init__(self, rows: list[Row], problem: str = "") -> None:
        self.rows: list[Row] | None = rows
        self.problem = problem
        self.asked: list[str] = []

    def open(self, *, again: bool = False) -> None:
        self.asked.append("again" if again else "open")

    def close(self, then: Callable[[], None]) -> None:
        self.asked.append("close")
        then()


class App(SttApp):
    """The program with a clock that stands still until it is set."""

    clock_s = 100.0

    CSS = "Input { & > .input--cursor { text-style: none; } }"

    def __init__(self, backend: Scripted, devices: ScriptedDevices, **more: Any) -> None:
        more.setdefault("options", Options(folder=Path("notes"), recordings=Path("recordings")))
        super().__init__(lambda: backend, now=lambda: NOON, monotonic=lambda: self.clock_s, **more)
        self.devices = devices
        self.copied: list[str] = []

    def make_devices(self, backend: Any) -> Any:
        return self.devices

    def copy_to_clipboard(self, text: str) -> None:
        self.copied.append(text)


class Play:
    """An app on stage: tell it updates, press its keys, look at it."""

    def __init__(self, app: App, pilot: Pilot[None], backend: Scripted) -> None:
        self.app, self.pilot, self.backend = app, pilot, backend
        self.stretch = -1

    async def tell(self, *updates: Update) -> None:
        for update in updates:
            self.backend.tell(update)
        await self.settle()

    async def settle(self) -> None:
        await self._unless_left(self.pilot.pause())
        await self._unless_left(self.pilot.pause(0.01))  # what a handler has posted, and the drawing after it

    async def press(self, *keys: str) -> None:
        for key in keys:
            await self._unless_left(self.pilot.press(key))
        await self.settle()

    async def _unless_left(self, act: Coroutine[Any, Any, Any]) -> None:
        """A pilot waits for widgets that are gone when the app has been left."""
        acting = asyncio.ensure_future(act)
        while not acting.done() and not self.app._exit:
            await asyncio.wait([acting], timeout=0.01)
        if acting.done():
            acting.result()
        else:
            acting.cancel()

    async def open(self, name: str = "Studio Mic") -> None:
        self.stretch += 1
        began = StretchBegan(
            self.stretch, self.app.transcript.document.end, NOON + self.app.transcript.document.end / 16_000
        )
        await self.tell(EngineReady("whisper tiny.en (int8, cpu)", "asked for"), began, InputOpen(name, 48_000))

    async def say(self, turn: int, text: str, *, at_s: float | None = None) -> None:
        """One whole turn."""
        await self.hear(*spoken(turn, text, at_s if at_s is not None else 4.0 * turn))

    async def hear(self, *events: Event) -> None:
        await self.tell(*(Heard(self.stretch, event) for event in events))

    @property
    def texts(self) -> list[str]:
        return [block.text for block in self.app.transcript.document.blocks]

    @property
    def told(self) -> str:
        """What stands in the message line, which breaks its lines where it likes."""
        return self.app.main.message.text

    @property
    def screen_text(self) -> str:
        """What stands on the screen, line by line."""
        lines = self.app.screen._compositor.render_strips()
        return "\n".join("".join(segment.text for segment in strip) for strip in lines)


def spoken(turn: int, text: str, at_s: float) -> list[Event]:
    start, end = round(16_000 * at_s), round(16_000 * (at_s + 0.3 * len(text.split())))
    return [
        TurnStarted(turn, start),
        TranscriptChanged(turn, start, end, text, 0, len(text), "pause", FAST),
        TurnPaused(turn, end),
        TurnCompleted(turn, start, end, text, (Passage(start, end, text),), FAST),
    ]


def meter(play: Play, *, loud: bool = True) -> list[Update]:
    """A second and a half of sound, a wave of speech probability."""
    waves = [abs((i % 12) - 6) / 6 for i in range(24)]
    return [
        Metered(0.4 * wave if loud else 0.0, 0.12 * wave if loud else 0.0, (wave, wave), 1.0 + i * 0.064, 0)
        for i, wave in enumerate(waves)
    ] + [Lagged(0.42, final=False), Lagged(0.08, final=True)]


@asynccontextmanager
async def on_stage(
    size: tuple[int, int] = (80, 24), *, devices: ScriptedDevices | None = None, **more: Any
) -> AsyncIterator[Play]:
    backend = Scripted()
    more.setdefault("document", Document())
    app = App(backend, devices or ScriptedDevices([]), **more)
    async with app.run_test(size=size) as pilot:
        play = Play(app, pilot, backend)
        await app.workers.wait_for_complete()
        await play.settle()
        yield play


async def talk(play: "Play") -> None:
    """Say all there is to say."""
    await play.open()
    for turn, text in enumerate(SENTENCES):
        await play.say(turn, text)
