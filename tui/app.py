"""`stt tui`: the screen, its keys, and nothing else. What is heard comes as messages from a `Backend`; what is shown
is a `Document`; what is kept is a `Journal`. This module imports neither numpy nor an engine, so that it is on screen
at once.
"""

import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from textual import events, on, work
from textual.app import App, ComposeResult, SystemCommand
from textual.binding import Binding, BindingType
from textual.containers import Container, Horizontal
from textual.content import Content
from textual.message import Message
from textual.screen import Screen
from textual.widgets import Footer, Input, Label, Static

from stt.events import TranscriptChanged, TurnCompleted, TurnPaused, TurnResumed, TurnStarted
from tui import export
from tui.document import Block, Cleared, Document, Edited, Heard, Record, StretchBegan, Undone
from tui.journal import Journal
from tui.statusbar import StatusBar
from tui.turnview import TurnView
from tui.updates import (
    Backend,
    EngineFailed,
    EngineLoading,
    EngineReady,
    InputEnded,
    InputLost,
    InputOpen,
    InputOpening,
    InputPaused,
    Lagged,
    Metered,
    Played,
    RecordingChanged,
    ServerSays,
    Update,
)

if TYPE_CHECKING:
    from tui.devices import Devices

_FINISH_S: Final = 5.0  # how long quitting waits for the running turn's final
_DIGITAL_SILENCE: Final = 50  # updates, 3 s, of nothing but zeros: no microphone in a room is that quiet
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
            case EngineLoading(), EngineLoading():
                return True
        return False


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says to the screen."""

    threshold: float = 0.5
    """Speech probability at which speech begins, to be shown."""
    language: str = "en"
    server: str = ""
    recordings: Path = Path("recordings")
    record_format: str = "wav"
    folder: Path = Path()
    """Where saving proposes to save."""
    replay: bool = False


class SttApp(App[None]):
    """The program."""

    TITLE = "stt"
    ENABLE_COMMAND_PALETTE = True
    CSS = """
    #heading { height: 1; background: $surface; color: $text-muted; padding: 0 1; }
    #middle { height: 1fr; layers: turns over; }
    #turns { layer: turns; }
    #below { layer: over; dock: bottom; width: auto; height: 1; background: $primary; color: $text; padding: 0 1;
             display: none; margin: 0 0 0 21; }
    #below.shown { display: block; }
    #welcome { layer: over; width: 100%; height: 100%; align: center middle; background: transparent; display: none; }
    #welcome.shown { display: block; }
    #welcome Static { width: auto; max-width: 74; height: auto; }
    #notice { height: auto; max-height: 8; padding: 0 1; display: none; background: $surface;
              border-left: outer $warning; color: $foreground; }
    #notice.shown { display: block; }
    #notice.error { border-left: outer $error; }
    #search { height: 1; display: none; background: $surface; }
    #search.shown { display: block; }
    #search Label { padding: 0 1; }
    #search Input { width: 1fr; border: none; height: 1; padding: 0; background: $surface; }
    Footer { background: $surface; }
    ToastRack { margin-bottom: 4; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "listen", "Mic"),
        Binding("d", "devices", "Device"),
        Binding("c", "copy", "Copy"),
        Binding("C", "copy_all", "Copy all", show=False),
        Binding("s", "save", "Save"),
        Binding("r", "record", "Record"),
        Binding("slash", "search", "Search", key_display="/"),
        Binding("n", "match(1)", "Next match", show=False),
        Binding("N", "match(-1)", "Previous match", show=False),
        Binding("e", "edit", "Edit"),
        Binding("x", "clear", "Clear"),
        Binding("u", "undo", "Undo", show=False),
        Binding("t", "light", "Light or dark", show=False),
        Binding("question_mark", "help", "Help", key_display="?"),
        Binding("q", "quit", "Quit"),
        Binding("escape", "leave", "Back to the end", show=False),
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
        super().__init__()
        self._make_backend = backend
        self._backend: Backend | None = None
        self.document = document or Document()
        self.journal = journal
        self.options = options or Options()
        self._now, self._monotonic = now, monotonic
        self._wanted = True  # listening, as the reader wishes
        self._input: InputOpen | None = None
        self._trouble: InputLost | EngineFailed | None = None
        self._engine = ""
        self._loading = EngineLoading("")
        self._engine_ready = bool(self.options.server) or self.options.replay
        self._server_says = ""
        self._ended = False
        self._peak = 0.0
        self._zeros = 0
        self._saved = 0  # count of changes when last saved
        self._changes = 0
        self._matches: list[tuple[int, int]] = []
        self._match: int | None = None
        self._word_counts: list[int] = []  # of each block, 0 while it runs
        self._recording: Journal | None = None
        self._recording_since = 0.0
        self._quitting = False
        self._autosave_told = False
        # Kept at hand: a query looks at the screen in front, which may be a dialog.
        self.heading = Static("", id="heading", markup=False)
        self.turns = TurnView(self.document)
        self.welcome = Static("")
        self.below = Static("", id="below", markup=False)
        self.notice = Static("", id="notice")
        self.search = Horizontal(id="search")
        self.needle = Input(placeholder="search the turns", compact=True, id="needle")
        self.count = Label("", id="count")
        self.status = StatusBar(threshold=self.options.threshold)
        self.footer = Footer(compact=True)

    # screen

    def compose(self) -> ComposeResult:
        yield self.heading
        with Container(id="middle"):
            yield self.turns
            with Container(id="welcome"):
                yield self.welcome
            yield self.below
        yield self.notice
        with self.search:
            yield Label("/")
            yield self.needle
            yield self.count
        yield self.status
        yield self.footer

    def on_mount(self) -> None:
        self.status.engine = self.options.server or "engine: loading"
        self._count_words(0)
        self.begin_capture_print(self, stdout=False, stderr=True)
        self.set_interval(1.0, self._show_title)
        self.turns.focus()
        self._refresh_all()
        self.call_after_refresh(self._start)

    def _start(self) -> None:
        stretch = self.document.stretch.stretch + 1
        heard = self.document.end
        # Making the backend imports numpy and more: not on this thread, which is to answer keys by now.
        self.run_worker(partial(self._open_backend, stretch, heard), thread=True, exit_on_error=True)

    def _open_backend(self, stretch: int, heard: int) -> None:
        backend = self._make_backend()
        backend.start(lambda update: self._post(Got(update)), stretch, heard)
        self._backend = backend
        if self._quitting:
            backend.close()
        elif not self._wanted:
            backend.listen(on=False)

    def _post(self, message: Message) -> None:
        if self.is_running:
            self.post_message(message)

    def on_resize(self, event: events.Resize) -> None:
        self.footer.show_command_palette = event.size.width >= 100
        self._show_title()

    def on_unmount(self) -> None:
        for kept in (self.journal, self._recording):
            if kept is not None:
                kept.close()

    # updates

    @on(Got)
    def _got(self, message: Got) -> None:
        match message.update:
            case Metered() as heard:
                self._meter(heard)
            case StretchBegan() as began:
                self._apply(began)
            case Heard() as heard:
                self._apply(heard)
                self._show_turn_state(heard)
            case Played(record):
                self._apply(record)
                if isinstance(record, Heard):
                    self._show_turn_state(record)
            case Lagged(lag_s, final=final):
                if final:
                    self.status.final_lag_s = lag_s
                else:
                    self.status.interim_lag_s = lag_s
                self.status.refresh()
            case EngineLoading() as loading:
                self._loading = loading
                self.status.engine = f"engine: {loading.text}"
                self._refresh_all()
            case EngineReady(name, reason):
                self._engine_ready = True
                self._engine = self.status.engine = name
                self._loading = EngineLoading("")
                if isinstance(self._trouble, EngineFailed):
                    self._trouble = None
                if reason and reason != "asked for":
                    self.notify(f"{name}\n{reason}", title="Engine", markup=False)
                self._refresh_all()
            case EngineFailed() as failed:
                self._trouble, self._wanted = failed, False
                self.status.engine = "engine: none"
                self._refresh_all()
            case InputOpening():
                self.status.state = "opening"
                self._refresh_all()
            case InputOpen() as opened:
                self._opened(opened)
            case InputPaused():
                self._stopped("ended" if self._ended else "muted")
            case InputLost() as lost:
                self._lost(lost)
            case ServerSays(text):
                self._server_says = text
                self._refresh_all()
            case InputEnded():
                self._ended, self._wanted = True, False
                self._stopped("ended")
            case RecordingChanged() as recording:
                self._recording_changed(recording)

    def _apply(self, record: Record, *, journal: bool = True) -> None:
        """Change the document, and keep the change."""
        if journal:
            for kept in (self.journal, self._recording):
                if kept is not None:
                    kept.write(record)
            self._check_autosave()
        first = self.document.apply(record)
        if first is None:
            return
        if not isinstance(record, StretchBegan):
            self._changes += 1
        self._count_words(first)
        self.turns.changed(first)
        if self._matches or self.search.has_class("shown"):
            self._find(keep=True)
        self._show_welcome()
        if isinstance(record, Heard) and not isinstance(record.event, TranscriptChanged):
            self._show_title()

    def _count_words(self, first: int) -> None:
        del self._word_counts[first:]
        self._word_counts += [
            len(block.text.split()) if block.state == "final" else 0 for block in self.document.blocks[first:]
        ]

    def _show_turn_state(self, heard: Heard) -> None:
        if heard.stretch != self.document.stretch.stretch or not self._input:
            return
        match heard.event:
            case TurnStarted() | TurnResumed():
                self.status.state = "speaking"
            case TurnPaused():
                self.status.state = "pause"
            case TurnCompleted():
                self.status.state = "listening"
        self.status.refresh()

    def _meter(self, heard: Metered) -> None:
        self._peak = heard.peak
        self.status.heard_s, self.status.overruns = heard.heard_s, heard.overruns
        self.status.meter(heard.peak, heard.rms, heard.probabilities)
        zeros = self._zeros + 1 if heard.peak == 0.0 else 0
        if (zeros >= _DIGITAL_SILENCE) != (self._zeros >= _DIGITAL_SILENCE):
            self._zeros = zeros
            self._show_notice()
        self._zeros = zeros

    def _opened(self, opened: InputOpen) -> None:
        if isinstance(self._trouble, InputLost):
            if self._trouble.ever_open:
                self.notify(f"Listening to {opened.name} again", markup=False)
            self._trouble = None
        elif self._input is not None and self._input.name != opened.name:
            self.notify(f"Listening to {opened.name}", markup=False)
        self._input, self._ended, self._zeros, self._server_says = opened, False, 0, ""
        self.status.state = "listening"
        self.status.input = f"{opened.name}, {opened.rate / 1000:g} kHz"
        self._refresh_all()

    def _stopped(self, state: str) -> None:
        self._input_gone()
        self.status.state = "lost" if self._trouble is not None else state
        if not isinstance(self._trouble, InputLost) and state == "muted":
            self.status.input = "microphone off"
        self._refresh_all()

    def _lost(self, lost: InputLost) -> None:
        if lost.what == "file":
            self._wanted = False
        self._trouble = lost
        self._input_gone()
        self.status.state = "lost"
        self.status.input = f"no {lost.what}"
        self._refresh_all()

    def _input_gone(self) -> None:
        self.status.silence()
        self._peak = 0.0
        self._zeros = 0

    # what is written around the turns

    def _refresh_all(self) -> None:
        self._show_title()
        self._show_notice()
        self._show_welcome()
        self.status.refresh()

    def _show_title(self) -> None:
        turns, words = sum(count > 0 for count in self._word_counts), sum(self._word_counts)
        left = f"stt · {self.journal.path.stem}" if self.journal else "stt · not saved by itself"
        if self.options.replay:
            left = "stt · replay"
        right = f"{turns} turn{'s' * (turns != 1)} · {words} word{'s' * (words != 1)}"
        if self._recording is not None:
            right = f"● REC {export.duration(self._monotonic() - self._recording_since)} · {right}"
        room = self.size.width - 2 - len(left) - len(right)
        self.heading.update(Content(f"{left}{' ' * max(1, room)}{right}"), layout=False)

    def _show_notice(self) -> None:
        notice = self.notice
        text, error = self._notice()
        # With nothing else to show, the middle of the screen explains.
        shown = bool(text) and (bool(self.document.blocks) or not error)
        notice.set_class(shown, "shown")
        notice.set_class(error, "error")
        if shown:
            notice.update(Content.from_markup(text))

    def _notice(self) -> tuple[str, bool]:
        """What is wrong, with what to do, as markup; and whether nothing can be heard because of it."""
        match self._trouble:
            case EngineFailed(message):
                return f"[b]✗ The engine cannot be used:[/b] {_literal(message)}\n[b]space[/b] tries again", True
            case InputLost(message, "server"):
                again = "it is tried again by itself · [b]space[/b] tries at once"
                return f"[b]✗ The server cannot be reached:[/b] {_literal(message)}\n{again}", True
            case InputLost(message, "file"):
                return f"[b]✗ The file cannot be played:[/b] {_literal(message)}", True
            case InputLost(message, _, ever_open):
                again = "it goes on by itself when the device is back" if ever_open else "looking again every 2 s"
                return f"[b]✗ No microphone:[/b] {_literal(message)}\n{again} · [b]d[/b] another device", True
        if self._server_says:
            return f"[b]⚠ {_literal(self.options.server)}:[/b] {_literal(self._server_says)}", False
        if not self._engine_ready and self._loading.text:
            return f"◌ {_literal(self._loading.text)} {_progress(self._loading.fraction)}", False
        if self._zeros >= _DIGITAL_SILENCE and self._wanted:
            name = _literal(self._input.name if self._input else "")
            text = f"[b]⚠ {name} sends digital silence:[/b] is it muted, or is the terminal not allowed to use it?"
            return f"{text}\n[b]d[/b] another device", False
        return "", False

    def _show_welcome(self) -> None:
        shown = not self.document.blocks
        if self.welcome.parent is not None:
            self.welcome.parent.set_class(shown, "shown")
        if not shown:
            return
        text, error = self._notice()
        if error:
            text += _ways_out(self._trouble)
        elif self.status.state == "muted":
            text = "[dim]The microphone is off. [b]space[/b] switches it on.[/dim]"
        elif self.status.state == "ended":
            text = "[dim]Nothing was said.[/dim]"
        elif self.status.state in ("starting", "opening"):
            text = "[dim]Starting …[/dim]"
        else:
            text = "[b]Say something.[/b]\n\n[dim]It is written here as you speak; [b]?[/b] shows the keys.[/dim]"
            if not self._engine_ready:
                text += "\n[dim]The engine is still loading: what you say until then is kept for it.[/dim]"
        self.welcome.update(Content.from_markup(text))

    def _check_autosave(self) -> None:
        failure = self.journal.failure if self.journal else ""
        if failure and not self._autosave_told:
            self.notify(f"{failure}\nSave with s.", title="Saving by itself fails", severity="error", markup=False)
        self._autosave_told = bool(failure)

    def on_print(self, event: events.Print) -> None:
        """What an engine says to the terminal while it loads is its progress: bars of tqdm, and lines of text."""
        last = next((part for part in reversed(re.split(r"[\r\n]", event.text)) if part.strip()), "")
        if self._engine_ready or not last:
            return
        if found := _BAR.search(last):
            loading = EngineLoading((found["what"] or self._loading.text).strip(), int(found["percent"]) / 100)
        else:
            loading = EngineLoading(last.strip()[:120])
        self._post(Got(loading))

    # keys: listening

    def action_listen(self) -> None:
        """Switch the microphone off or on."""
        if self._ended:
            self.notify("The file is over.")
            return
        self._wanted = not self._wanted if not isinstance(self._trouble, InputLost) else True
        if self._wanted:
            self._trouble = None
        if self._backend is not None:
            self._backend.listen(on=self._wanted)
        self.status.state = "opening" if self._wanted else "muted"
        self._refresh_all()

    @work
    async def action_devices(self) -> None:
        """Choose a microphone."""
        backend = self._backend
        if backend is None or self.options.replay:
            self.notify("A replay has no microphone." if self.options.replay else "Still starting.")
            return
        from tui.dialogs import DEFAULT_DEVICE, DeviceScreen

        devices = self.make_devices(backend)
        backend.hold_devices(on=True)
        try:
            chosen = await self.push_screen_wait(DeviceScreen(devices, self._input.name if self._input else ""))
        finally:
            backend.hold_devices(on=False)

        def go_on() -> None:
            if chosen is not None:
                backend.use(None if chosen == DEFAULT_DEVICE else chosen)

        devices.close(go_on)
        if chosen is not None:
            self._trouble, self._wanted, self._ended = None, True, False
            self.status.state = "opening"
            self._refresh_all()

    def make_devices(self, backend: Backend) -> "Devices":
        """Return what the device dialog shows."""
        from tui.devices import Devices

        return Devices(backend.look_for_devices, lambda: (self._input.name if self._input else "", self._peak))

    def action_record(self) -> None:
        """Begin or end a recording of the audio."""
        if self._backend is None or self.options.replay:
            return
        if self._recording is not None:
            self._backend.record(None)
            return
        stem = time.strftime("%Y-%m-%d_%H-%M-%S", time.localtime(self._now()))
        self._backend.record(str(self.options.recordings / f"{stem}.{self.options.record_format}"))

    def _recording_changed(self, recording: RecordingChanged) -> None:
        before = self._recording
        if recording.failure:
            self.notify(recording.failure, title="Recording failed", severity="error", markup=False)
        if before is not None:
            before.close()
            audio = before.path.with_suffix(f".{self.options.record_format}")
            self.notify(f"{audio}\nand its events in {before.path.name}", title="Recorded", markup=False)
        self._recording = None
        if recording.path is not None:
            self._recording = Journal(Path(recording.path).with_suffix(".jsonl"), monotonic=self._monotonic)
            self._recording_since = self._monotonic()
            # The session's beginning, so that the recording can be replayed by itself.
            self._recording.write(self.document.stretch)
            self.notify(recording.path, title="Recording", markup=False)
        self.status.recording = recording.path or ""
        self._refresh_all()

    # keys: text

    def _current(self) -> Block | None:
        """The selected turn, or the last finished one."""
        blocks = self.document.blocks
        if self.turns.selected is not None and self.turns.selected < len(blocks):
            return blocks[self.turns.selected]
        return next((block for block in reversed(blocks) if block.state == "final" and block.text), None)

    def action_copy(self) -> None:
        """Copy one turn."""
        block = self._current()
        if block is None or not block.text:
            self.notify("There is no finished turn to copy yet.")
            return
        self._copy(block.text, "the turn")

    def action_copy_all(self) -> None:
        """Copy all turns, a line each."""
        finals = self.document.finals
        if not finals:
            self.notify("There is no finished turn to copy yet.")
            return
        self._copy("\n".join(block.text for block in finals) + "\n", f"{len(finals)} turns")

    def _copy(self, text: str, what: str) -> None:
        self.copy_to_clipboard(text)
        self.run_worker(partial(_copy_locally, text), thread=True)
        words = len(text.split())
        self.notify(f"Copied {what}, {words} word{'s' * (words != 1)}")

    @work
    async def action_save(self) -> None:
        """Save the turns to a file."""
        from tui.dialogs import SaveScreen

        finals = self.document.finals
        if not finals:
            self.notify("There is no finished turn to save yet.")
            return
        name = time.strftime("transcript-%Y-%m-%d-%H%M.txt", time.localtime(finals[0].wall_s))
        path = await self.push_screen_wait(SaveScreen(self.options.folder / name, len(finals)))
        if path is None:
            return
        changes = self._changes
        text = export.render(
            path.suffix.removeprefix("."), self.document.finals, engine=self._engine, language=self.options.language
        )
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            self.notify(f"{path}: {error.strerror}", title="Not saved", severity="error", markup=False)
            return
        self._saved = changes
        self.notify(f"{path}, {export.size(len(text.encode()))}", title="Saved", markup=False)

    @work
    async def action_edit(self) -> None:
        """Change a turn's text."""
        from tui.dialogs import EditScreen

        block = self._current()
        if block is None or block.state != "final":
            self.notify("Only a finished turn can be edited." if block else "There is no finished turn to edit yet.")
            return
        text = await self.push_screen_wait(EditScreen(f"Turn of {export.wall(block.wall_s)}", block.text))
        if text and text != block.text:
            self._apply(Edited(block.stretch, block.turn, text))

    def action_clear(self) -> None:
        """Take the finished turns off the screen."""
        count = sum(block.state == "final" for block in self.document.blocks)
        if not count:
            self.notify("There is nothing to clear.")
            return
        self._apply(Cleared())
        self.turns.follow()
        self._refresh_all()
        self.notify(f"Cleared {count} turn{'s' * (count != 1)}; u brings {'them' if count > 1 else 'it'} back")

    def action_undo(self) -> None:
        """Take back the last edit or clearing."""
        what = self.document.can_undo
        if not what:
            self.notify("There is nothing to take back.")
            return
        self._apply(Undone())
        self._refresh_all()
        self.notify(f"Took back the {what}")

    # keys: searching

    def action_search(self) -> None:
        """Open the search line."""
        self.search.add_class("shown")
        self.needle.focus()

    @on(Input.Changed, "#needle")
    def _needle_changed(self) -> None:
        self._find(keep=False)

    @on(Input.Submitted, "#needle")
    def _needle_submitted(self) -> None:
        if self._matches:
            self.turns.focus()
            self.action_match(0)

    def _find(self, *, keep: bool) -> None:
        """Search again: for another text, or (`keep`) for the same in turns that have changed."""
        needle = self.needle.value
        current = self._matches[self._match] if self._match is not None and self._matches else None
        self._matches = self.document.find(needle)
        if keep:
            self._match = self._matches.index(current) if current in self._matches else None
            self.turns.show_matches(needle, None if self._match is None else current)
        else:  # the latest words are what is mostly looked for
            self._match = len(self._matches) - 1 if self._matches else None
            self.turns.show_matches(needle, None if self._match is None else self._matches[self._match])
        self._show_count()

    def action_match(self, step: int) -> None:
        """Go to the next match, or the previous one; round and round."""
        if not self._matches:
            if self.search.has_class("shown"):
                self.notify("Nothing found.")
            return
        self._match = (len(self._matches) - 1 if self._match is None else self._match + step) % len(self._matches)
        self.turns.show_matches(self.needle.value, self._matches[self._match])
        self._show_count()

    def _show_count(self) -> None:
        if not self.needle.value.strip():
            text = ""
        elif not self._matches:
            text = "nothing found"
        else:
            text = f"{'-' if self._match is None else self._match + 1} of {len(self._matches)} · n next · N previous"
        self.count.update(text)

    def on_key(self, event: events.Key) -> None:
        """In the search line: Enter goes on, Shift+Enter and Up go back."""
        if event.key in ("shift+enter", "up", "down") and isinstance(self.focused, Input):
            self.action_match(1 if event.key == "down" else -1)
            event.stop()

    def action_leave(self) -> None:
        """End the search; else go back to the end."""
        search = self.search
        if search.has_class("shown"):
            search.remove_class("shown")
            self.needle.value = ""
            self._matches, self._match = [], None
            self.turns.show_matches("", None)
            self.turns.focus()
        else:
            self.turns.follow()

    # keys: the program

    def action_help(self) -> None:
        """Show the keys."""
        from tui.dialogs import HelpScreen

        self.push_screen(HelpScreen())

    def action_light(self) -> None:
        """Switch between a light and a dark screen."""
        self.theme = "textual-light" if self.current_theme.dark else "textual-dark"

    @property
    def unsaved(self) -> bool:
        """Quitting would lose something: it is neither in a file nor in the journal."""
        kept = self.options.replay or (self.journal is not None and not self.journal.failure)
        return not kept and bool(self.document.blocks) and self._changes != self._saved

    @work
    async def action_quit(self) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] - Textual runs workers too
        """Let the running turn have its final, then leave; at once if asked twice."""
        if self._quitting:
            self.exit()
            return
        if self.unsaved:
            from tui.dialogs import AskScreen

            question = "The transcript is not saved. Quit and lose it?"
            if not await self.push_screen_wait(AskScreen("Unsaved", question, "Quit", "Stay")):
                return
        self._quitting = True
        if self._backend is None or self._backend.closed:
            self.exit()
            return
        if self.document.running is not None:
            self.notify("Finishing the last turn; q again leaves at once")
        self._backend.close()
        self._leave_when_closed(self._monotonic() + _FINISH_S)

    def _leave_when_closed(self, deadline: float) -> None:
        if self._backend is None or self._backend.closed or self._monotonic() > deadline:
            self.call_later(self.exit)  # after the updates that are on their way
        else:
            self.set_timer(0.05, partial(self._leave_when_closed, deadline))

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """Everything a key does, by name."""
        yield SystemCommand("Microphone off or on", "space", self.action_listen)
        yield SystemCommand("Choose a microphone", "d", self.action_devices)
        yield SystemCommand("Copy the turn", "c", self.action_copy)
        yield SystemCommand("Copy all turns", "C", self.action_copy_all)
        yield SystemCommand("Save the transcript", "s", self.action_save)
        yield SystemCommand("Record the audio", "r: begins or ends", self.action_record)
        yield SystemCommand("Search", "/", self.action_search)
        yield SystemCommand("Edit the turn", "e", self.action_edit)
        yield SystemCommand("Clear the screen", "x", self.action_clear)
        yield SystemCommand("Undo", "u: takes back an edit or a clearing", self.action_undo)
        yield SystemCommand("Go to the end", "End: follow what is said", self.turns.follow)
        yield SystemCommand("Light or dark", "t", self.action_light)
        yield SystemCommand("Help", "?: keys, and what the signs mean", self.action_help)
        yield SystemCommand("Quit", "q", self.action_quit)
        yield from (
            command for command in super().get_system_commands(screen) if command.title in ("Theme", "Screenshot")
        )

    # mouse and the like

    @on(TurnView.FollowChanged)
    def _follow_changed(self, message: TurnView.FollowChanged) -> None:
        below = self.below
        below.set_class(not message.following, "shown")
        unseen = f"{message.unseen} new below" if message.unseen else "more below"
        below.update(f"↓ {unseen} · End")

    def on_click(self, event: events.Click) -> None:
        if event.widget is not None and event.widget.id == "below":
            self.turns.follow()

    @on(StatusBar.Pressed)
    def _pressed(self, message: StatusBar.Pressed) -> None:
        self.call_later(self.run_action, message.action if message.action == "listen" else "devices")


def _literal(text: str) -> str:
    """Keep `[` in a message from being read as markup."""
    return text.replace("[", r"\[")


def _progress(fraction: float | None) -> str:
    if fraction is None:
        return ""
    full = round(fraction * 30)
    return f"{'█' * full}{'░' * (30 - full)} {fraction:.0%}"


def _ways_out(trouble: InputLost | EngineFailed | None) -> str:
    """What else a person can do who has nothing on the screen but an error."""
    if isinstance(trouble, InputLost) and trouble.what == "microphone":
        return (
            "\n\nWithout a microphone:\n"
            "  [b]stt tui --source talk.flac[/b]         plays a recording as if spoken\n"
            "  [b]stt tui --connect ws://HOST:15751[/b]  a server recognizes (--source too)\n"
            "  [b]stt tui --resume[/b]                   the last session, to read and edit\n\n"
            "[dim][b]q[/b] quits · [b]?[/b] help · [b]stt devices[/b] lists what there is[/dim]"
        )
    if isinstance(trouble, EngineFailed):
        return "\n\n[dim][b]q[/b] quits · stt tui --help lists engines and models[/dim]"
    return "\n\n[dim][b]q[/b] quits · [b]?[/b] help[/dim]"


_CLIPBOARDS: Final = (
    ("WAYLAND_DISPLAY", ("wl-copy",)),
    ("DISPLAY", ("xclip", "-selection", "clipboard")),
    ("DISPLAY", ("xsel", "--clipboard", "--input")),
    ("", ("pbcopy",)),
)


def _copy_locally(text: str) -> None:
    """Many terminals do not pass a program's text on to the clipboard; the desktop's own tool does, if it is there."""
    import os

    for variable, command in _CLIPBOARDS:
        if (not variable or os.environ.get(variable)) and shutil.which(command[0]):
            subprocess.run(command, input=text.encode(), check=False, timeout=5)  # noqa: S603 - fixed commands
            return
