"""`stt tui`: the program. What is heard comes as updates from a `Backend`; `Condition` and `Transcript` fold them;
`MainScreen` shows both. This module imports neither numpy nor an engine, so that it is on screen at once.
"""

import re
import signal
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from textual import events, on, work
from textual.app import SystemCommand
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.screen import Screen

from stt.events import TranscriptChanged
from tui import private
from tui.condition import Condition, Options
from tui.document import Document, Heard, StretchBegan
from tui.journal import Journal
from tui.mainscreen import MainScreen
from tui.program import Program
from tui.statusbar import StatusBar
from tui.transcript import Transcript
from tui.updates import (
    Answered,
    Answering,
    Backend,
    Closed,
    EngineLoading,
    Lagged,
    Late,
    Metered,
    NotAnswered,
    Played,
    Player,
    Position,
    RecordingChanged,
    Update,
    Wound,
)

if TYPE_CHECKING:
    from textual.timer import Timer

    from tui.devices import Devices
    from tui.dialogs import QuestionScreen

_FINISH_S: Final = 60.0  # how long leaving waits for the running turn's final: it is on the screen, and q hurries it
_TERMINATED_S: Final = 2.0  # the same where the system asks: who terminates a program kills it some seconds later
_BAR: Final = re.compile(r"(?:(?P<what>.*?):\s*)?(?P<percent>\d+)%\|")


class Got(Message):
    """An update, on its way from the listening thread to the screen."""

    def __init__(self, update: Update) -> None:
        super().__init__()
        self.update = update

    def can_replace(self, message: Message) -> bool:
        """Whether the next message, `message`, makes this one pointless: a newer text of the same turn does."""
        if not isinstance(message, Got):
            return False
        match self.update, message.update:
            case Heard(s, TranscriptChanged(turn=t)), Heard(s2, TranscriptChanged(turn=t2)):
                return (s, t) == (s2, t2)
            case (EngineLoading(), EngineLoading()) | (Position(), Position()):
                return True
            case Answered(question), Answered(question2):
                return question == question2
        return False


class SttApp(Program[None]):
    """The program."""

    ENABLE_COMMAND_PALETTE = True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "listen", "Microphone off or on"),
        Binding("d", "devices", "Choose a microphone"),
        Binding("r", "record", "Record the audio"),
        Binding("a", "ask", "Ask about what was said"),
        Binding("left", "wind(-10)", "Back by 10 s"),
        Binding("right", "wind(10)", "On by 10 s"),
        Binding("minus", "speed(0.5)", "Play slower"),
        Binding("plus,equals_sign", "speed(2)", "Play faster"),
        Binding("question_mark", "help", "Help"),
        Binding("q", "quit", "Quit"),
    ]

    def __init__(
        self,
        backend: Callable[[], Backend],
        *,
        document: Document | None = None,
        journal: Journal | None = None,
        options: Options | None = None,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`backend` is called once the screen is up; `journal` is where everything is saved as it happens."""
        self.options = options or Options()
        super().__init__(self.options.preferences)
        self._make_backend = backend
        self._backend: Backend | None = None
        self._closed = False
        self.transcript = Transcript(document, journal)
        self.condition = Condition(self.options)
        self.main = MainScreen(self.transcript, self.condition, self.options, monotonic=monotonic)
        self.broken_off = False
        """The program was left before the running turn had its final."""
        self._now, self._monotonic = now, monotonic
        self._question: QuestionScreen | None = None
        self._questions = 0
        self._leaving: Timer | None = None
        self._leaving_by = 0.0
        self._status = 0

    def get_default_screen(self) -> Screen[None]:
        """The turns are what is in front at first."""
        return self.main

    def on_mount(self) -> None:
        self.begin_capture_print(self, stdout=False, stderr=True)
        self.call_after_refresh(self._start)

    def _start(self) -> None:
        document = self.transcript.document
        # Making the backend imports numpy and more: not on this thread, which is to answer keys by now.
        begin = partial(self._open_backend, document.stretch.stretch + 1, document.end)
        self.run_worker(begin, thread=True, exit_on_error=True)

    def _open_backend(self, stretch: int, heard: int) -> None:
        backend = self._make_backend()
        backend.start(lambda update: self._post(Got(update)), stretch, heard)
        self._backend = backend
        if self._leaving is not None:
            backend.close()
        elif not self.condition.wanted:
            backend.listen(on=False)

    def _post(self, message: Message) -> None:
        if self.is_running:
            self.post_message(message)

    def on_unmount(self) -> None:
        self.transcript.close()

    # updates

    @on(Got)
    def _got(self, message: Got) -> None:
        main, status = self.main, self.main.status
        match message.update:
            case StretchBegan() | Heard() as record:
                main.apply(record)
            case Played(record):
                main.apply(record)
            case Wound(records):
                self.transcript.start_over(records)
                main.show_anew()
            case Position(at_s, length_s, speed):
                status.played = (at_s, length_s, speed)
                status.refresh()
            case Metered(peak, rms, probabilities, heard_s, overruns) as metered:
                silent = self.condition.silent
                self.condition.take(metered)
                status.heard_s, status.overruns = heard_s, overruns
                status.meter(peak, rms, probabilities)
                if self.condition.silent != silent:
                    main.show_all()
            case Lagged(lag_s, final):
                if final:
                    status.final_lag_s = lag_s
                else:
                    status.interim_lag_s = lag_s
                status.refresh()
            case Late() as late:
                self.condition.take(late)
                main.show_status()
            case RecordingChanged() as recording:
                self._recording_changed(recording)
            case Answered(number) | NotAnswered(number) as answer:
                if self._question is not None and number == self._questions:
                    self._question.take(answer)
            case Closed():
                self._closed = True
                if self._leaving is not None:
                    self._leave()
            case update:
                if said := self.condition.take(update):
                    main.message.show(said)
                main.show_all()

    def on_print(self, event: events.Print) -> None:
        """What an engine says to the terminal while it loads is its progress: bars of tqdm, and lines of text."""
        last = next((part for part in reversed(re.split(r"[\r\n]", event.text)) if part.strip()), "")
        if self.condition.engine_ready or not last:
            return
        if found := _BAR.search(last):
            loading = EngineLoading((found["what"] or self.condition.loading.text).strip(), int(found["percent"]) / 100)
        else:
            loading = EngineLoading(last.strip()[:120])
        self._post(Got(loading))

    def notify(self, message: str, *, title: str = "", severity: str = "information", **_: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Say something in the last line; Textual's own toasts would lie over the turns."""
        text = f"{title}: {message}" if title else message
        self.call_later(self.main.message.show, text, error=severity == "error")

    # listening

    def action_listen(self) -> None:
        """Switch the microphone off or on; hold a replay, or go on."""
        condition = self.condition
        if condition.phase == "ended" and not self.options.replay:
            self.main.message.show("The file is over.")
            return
        condition.ask(on=not condition.wanted or condition.trouble is not None)
        if self._backend is not None:
            self._backend.listen(on=condition.wanted)
        self.main.show_all()

    @work
    async def action_devices(self) -> None:
        """Choose a microphone."""
        backend, condition = self._backend, self.condition
        if backend is None or self.options.replay:
            self.main.message.show("A replay has no microphone." if self.options.replay else "Still starting.")
            return
        from tui.dialogs import DEFAULT_DEVICE, DeviceScreen

        devices = self.make_devices(backend)
        backend.hold_devices(on=True)
        try:
            chosen = await self.push_screen_wait(DeviceScreen(devices, self._device))
        finally:
            backend.hold_devices(on=False)

        def go_on() -> None:
            if chosen is not None:
                backend.use(None if chosen == DEFAULT_DEVICE else chosen)

        devices.close(go_on)
        if chosen is not None:
            condition.ask(on=True)
            self.main.show_all()

    def make_devices(self, backend: Backend) -> "Devices":
        """Return what the device dialog shows."""
        from tui.devices import Devices

        return Devices(backend.look_for_devices, lambda: (self._device, self.condition.peak))

    @property
    def _device(self) -> str:
        return self.condition.input.name if self.condition.input else ""

    def action_record(self) -> None:
        """Begin or end a recording of the audio."""
        if self._backend is None or self.options.replay:
            self.main.message.show("A replay has no audio to record." if self.options.replay else "Still starting.")
        elif self.transcript.recording is not None:
            self._backend.record(None)
        elif not self.condition.hearing:
            self.main.message.show("There is nothing to record: no sound is being heard.")
        else:
            stem = time.strftime("%Y-%m-%d_%H-%M-%S", time.localtime(self._now()))
            self._backend.record(str(self.options.recordings / f"{stem}.{self.options.record_format}"))

    def _recording_changed(self, recording: RecordingChanged) -> None:
        transcript, message = self.transcript, self.main.message
        if recording.failure:
            message.show(f"Recording failed: {recording.failure}", error=True)
        if (before := transcript.recording) is not None:
            before.close()
            audio = before.path.with_suffix(f".{self.options.record_format}")
            message.show(f"Recorded: {audio}, and its events in {before.path.name}")
        transcript.recording = None
        if recording.path is not None:
            transcript.recording = Journal(Path(recording.path).with_suffix(".jsonl"), monotonic=self._monotonic)
            self.main.recording_since = self._monotonic()
            # The session's beginning, so that the recording can be replayed by itself.
            transcript.recording.write(transcript.document.stretch)
            message.show(f"Recording to {recording.path}")
        self.main.show_all()

    @work
    async def action_ask(self) -> None:
        """Ask the engine's language model about what was said."""
        backend, message = self._backend, self.main.message
        document = self.transcript.document
        if backend is None:
            message.show("Still starting.")
        elif not isinstance(backend, Answering):
            message.show("A replay has no engine to ask: save the turns, and ask with `stt ask`.")
        elif why := backend.unaskable():
            message.show(f"No questions: {why}", error=True)
        elif not document.finals:
            message.show("There is no finished turn to ask about yet.")
        else:
            from tui.dialogs import QuestionScreen

            def ask(question: str) -> None:
                self._questions += 1
                backend.ask(self._questions, "\n".join(block.text for block in document.finals), question)

            self._question = QuestionScreen(ask)
            try:
                await self.push_screen_wait(self._question)
            finally:
                self._question = None
                backend.drop_question()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002 - Textual's
        """Only a replay can be wound."""
        return action not in ("wind", "speed") or self.options.replay

    def action_wind(self, by_s: float) -> None:
        """Go back or on in a replay."""
        if isinstance(self._backend, Player):
            self._backend.wind(by_s)

    def action_speed(self, factor: float) -> None:
        """Play a replay faster or slower."""
        if isinstance(self._backend, Player):
            self._backend.change_speed(factor)

    @on(StatusBar.Pressed)
    def _pressed(self, message: StatusBar.Pressed) -> None:
        self.call_later(self.run_action, message.action)

    # leaving

    @property
    def unsaved(self) -> bool:
        """Quitting would lose something: it is neither in a file nor in the journal."""
        transcript = self.transcript
        kept = self.options.replay or transcript.is_kept
        return not kept and bool(transcript.document.blocks) and transcript.changes != transcript.saved

    @work
    async def action_quit(self) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] - Textual runs workers too
        """Let the running turn have its final, then leave; at once if asked twice."""
        if self._leaving is not None:
            self._leave()
            return
        if self.unsaved:
            from tui.dialogs import AskScreen

            question = "The transcript is not saved. Quit and lose it?"
            if not await self.push_screen_wait(AskScreen("Unsaved", question, "Quit", "Stay")):
                return
        self._leave_when_closed(_FINISH_S)

    def terminated(self, number: int) -> None:
        """The system, or a closed terminal, ends the program: like `q`, in less time and without asking."""
        self._status = 128 + number
        if self._leaving is not None or number == signal.SIGHUP:  # nobody sees the countdown of a closed terminal
            self._leave()
        else:
            self._leave_when_closed(_TERMINATED_S)

    def _leave_when_closed(self, within_s: float) -> None:
        self._leaving_by = self._monotonic() + within_s
        self._leaving = self.set_interval(0.5, self._count_down)
        if self._closed:
            self._leave()
        elif self._backend is not None:
            self._backend.close()
            self._count_down()

    def _count_down(self) -> None:
        left_s = self._leaving_by - self._monotonic()
        self.condition.leaving_s = max(0, round(left_s))
        self.main.show_all()
        if left_s <= 0:
            self._leave()

    def _leave(self) -> None:
        self.broken_off = self.transcript.break_off() or self.broken_off
        self.exit(return_code=self._status)

    # the program

    def action_help(self) -> None:
        """Show the keys."""
        from tui.dialogs import HelpScreen

        self.push_screen(HelpScreen())

    def action_picture(self) -> None:
        """Save what is on the screen as an SVG where transcripts are saved, which needs no folder for downloads."""
        path = self.options.folder / time.strftime("stt-%Y-%m-%d-%H%M%S.svg", time.localtime(self._now()))
        try:
            private.write_text(path, self.export_screenshot())
        except OSError as error:
            self.main.message.show(f"No screenshot: {path}: {error.strerror}", error=True)
        else:
            self.main.message.show(f"Screenshot: {path}")

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """Everything a key does, by name."""
        for namespace, bindings in (("app", (*self.BINDINGS, *Program.BINDINGS)), ("screen", self.main.BINDINGS)):
            for binding in bindings:
                if not isinstance(binding, Binding) or not self.check_action(binding.action.partition("(")[0], ()):
                    continue
                run = partial(self.run_action, f"{namespace}.{binding.action}")
                yield SystemCommand(binding.description, self.get_key_display(binding), run)
        yield SystemCommand("Go to the end", "End: follow what is said", self.main.turns.follow)
        yield SystemCommand("Screenshot", "save what is on the screen as an SVG", self.action_picture)
        yield from (command for command in super().get_system_commands(screen) if command.title == "Theme")
