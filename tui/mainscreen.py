"""The screen with the turns: what is shown, and the keys that work on text. What is heard is `tui.app`'s."""

import time
from collections.abc import Callable
from functools import partial
from typing import ClassVar

from textual import events, on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Static

from stt.events import TranscriptChanged
from tui import clipboard, export, private
from tui.bottom import Key, KeyLine, MessageLine
from tui.condition import Condition, Options
from tui.document import Block, Cleared, Edited, Heard, Record, Undone
from tui.searchline import SearchLine
from tui.statusbar import StatusBar
from tui.transcript import Transcript
from tui.turnview import TurnView

LISTENING_KEYS = (
    Key("space", "Mic", "app.listen"),
    Key("d", "Device", "app.devices"),
    Key("c", "Copy", "screen.copy"),
    Key("s", "Save", "screen.save"),
    Key("r", "Record", "app.record"),
    Key("/", "Search", "screen.search"),
    Key("e", "Edit", "screen.edit"),
    Key("x", "Clear", "screen.clear"),
    Key("?", "Help", "app.help"),
    Key("q", "Quit", "app.quit"),
)
REPLAY_KEYS = (
    Key("space", "Play", "app.listen"),
    Key("← →", "10 s", "app.wind(10)"),
    Key("- +", "Speed", "app.speed(2)"),
    Key("c", "Copy", "screen.copy"),
    Key("s", "Save", "screen.save"),
    Key("/", "Search", "screen.search"),
    Key("?", "Help", "app.help"),
    Key("q", "Quit", "app.quit"),
)


class MainScreen(Screen[None]):
    """Shows a transcript, and how listening goes."""

    DEFAULT_CSS = """
    #heading { height: 1; background: $surface; color: $foreground; padding: 0 1; }
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
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c", "copy", "Copy the turn"),
        Binding("C", "copy_all", "Copy all turns"),
        Binding("s", "save", "Save the transcript"),
        Binding("slash", "search", "Search"),
        Binding("n", "match(1)", "Next match"),
        Binding("N", "match(-1)", "Previous match"),
        Binding("e", "edit", "Edit the turn"),
        Binding("x", "clear", "Clear the screen"),
        Binding("u", "undo", "Undo a clearing or an edit"),
        Binding("escape", "leave", "Back to the end"),
    ]

    def __init__(
        self,
        transcript: Transcript,
        condition: Condition,
        options: Options,
        *,
        monotonic: Callable[[], float],
    ) -> None:
        super().__init__()
        self.transcript, self.condition, self.options = transcript, condition, options
        self._monotonic = monotonic
        self.recording_since = 0.0
        self.turns = TurnView(transcript.document)
        self.status = StatusBar(threshold=options.threshold)
        self.message = MessageLine()
        self._heading = Static("", id="heading", markup=False)
        self._welcome = Static("")
        self._below = Static("", id="below", markup=False)
        self._notice = Static("", id="notice")
        self._search = SearchLine(self.turns)

    def compose(self) -> ComposeResult:
        yield self._heading
        with Container(id="middle"):
            yield self.turns
            with Container(id="welcome"):
                yield self._welcome
            yield self._below
        yield self._notice
        yield self._search
        yield self.status
        yield self.message
        yield KeyLine(REPLAY_KEYS if self.options.replay else LISTENING_KEYS)

    def on_mount(self) -> None:
        self.set_interval(1.0, self.show_heading)
        self.turns.focus()
        self.show_all()

    def on_resize(self) -> None:
        self.show_heading()

    # what is shown

    def apply(self, record: Record) -> None:
        """Take what changes the transcript, and show the change."""
        first = self.transcript.apply(record)
        self._check_autosave()
        if first is None:
            return
        self.turns.changed(first)
        self._search.again()
        self._show_welcome()
        if isinstance(record, Heard):
            self.show_status()
            if not isinstance(record.event, TranscriptChanged):
                self.show_heading()

    def show_anew(self) -> None:
        """The transcript has become another one."""
        self.turns.show(self.transcript.document)
        self._search.again()
        self.show_all()

    def show_all(self) -> None:
        """Say again what is said around the turns."""
        self.show_heading()
        self._show_notice()
        self._show_welcome()
        self.show_status()

    def show_status(self) -> None:
        """Say again what the status line says of the condition."""
        condition, status = self.condition, self.status
        status.state = condition.state(self.transcript.document.running)
        status.late = condition.late
        status.engine, status.input = condition.recognizer, condition.source
        status.recording = self.transcript.recording is not None
        if not condition.hearing:
            status.silence()
        status.refresh()

    def show_heading(self) -> None:
        transcript = self.transcript
        turns, words = transcript.turns, transcript.words
        left = f"stt · {transcript.journal.path.stem}" if transcript.journal else "stt · not saved by itself"
        if self.options.replay:
            left = "stt · replay"
        right = f"{turns} turn{'s' * (turns != 1)} · {words} word{'s' * (words != 1)}"
        if transcript.recording is not None:
            right = f"● REC {export.duration(self._monotonic() - self.recording_since)} · {right}"
        room = self.size.width - 2 - len(left) - len(right)
        if room < 1:
            left, room = "stt", self.size.width - 5 - len(right)
        self._heading.update(Content(f"{left}{' ' * max(1, room)}{right}"), layout=False)

    def _show_notice(self) -> None:
        text, error = self.condition.notice()
        # With nothing else to show, the middle of the screen explains.
        shown = bool(text) and (bool(self.transcript.document.blocks) or not error)
        self._notice.set_class(shown, "shown")
        self._notice.set_class(error, "error")
        if shown:
            self._notice.update(Content.from_markup(text))

    def _show_welcome(self) -> None:
        shown = not self.transcript.document.blocks
        if self._welcome.parent is not None:
            self._welcome.parent.set_class(shown, "shown")
        if shown:
            self._welcome.update(Content.from_markup(self.condition.welcome()))

    def _check_autosave(self) -> None:
        if self.condition.not_kept != self.transcript.failure:
            self.condition.not_kept = self.transcript.failure
            self._show_notice()

    # text

    def _current(self) -> Block | None:
        """The selected turn, or the last finished one."""
        blocks = self.transcript.document.blocks
        if self.turns.selected is not None and self.turns.selected < len(blocks):
            return blocks[self.turns.selected]
        return next((block for block in reversed(blocks) if block.state == "final" and block.text), None)

    def action_copy(self) -> None:
        """Copy one turn."""
        block = self._current()
        if block is None or not block.text:
            self.message.show("There is no finished turn to copy yet.")
            return
        self._copy(block.text, "the turn")

    def action_copy_all(self) -> None:
        """Copy all turns, a line each."""
        finals = self.transcript.document.finals
        if not finals:
            self.message.show("There is no finished turn to copy yet.")
            return
        self._copy("\n".join(block.text for block in finals) + "\n", f"{len(finals)} turns")

    def _copy(self, text: str, what: str) -> None:
        self.app.copy_to_clipboard(text)
        self.run_worker(partial(clipboard.copy, text), thread=True)
        words = len(text.split())
        self.message.show(f"Copied {what}, {words} word{'s' * (words != 1)}")

    @work
    async def action_save(self) -> None:
        """Save the turns to a file."""
        from stt.commands.destinations import Destination
        from stt.errors import OutputError
        from tui.dialogs import SaveScreen

        transcript = self.transcript
        finals = transcript.document.finals
        if not finals:
            self.message.show("There is no finished turn to save yet.")
            return
        name = time.strftime("transcript-%Y-%m-%d-%H%M.txt", time.localtime(finals[0].wall_s))
        path = await self.app.push_screen_wait(SaveScreen(self.options.folder / name, len(finals)))
        if path is None:
            return
        changes = transcript.changes
        kind = path.suffix.removeprefix(".")
        engine, language = self.condition.engine, self.options.language
        text = export.render(kind, transcript.document.finals, engine=engine, language=language)
        private.close_to_others(path)  # whose mode is kept
        try:
            with Destination(path).open() as out:  # what the file held is there until the text is complete
                out.write(text)
        except OutputError as error:
            self.message.show(f"Not saved: {error}", error=True)
            return
        transcript.saved = changes
        self.message.show(f"Saved: {path}, {export.size(len(text.encode()))}")

    @work
    async def action_edit(self) -> None:
        """Change a turn's text."""
        from tui.dialogs import EditScreen

        block = self._current()
        if block is None or block.state != "final":
            what = "Only a finished turn can be edited." if block else "There is no finished turn to edit yet."
            self.message.show(what)
            return
        text = await self.app.push_screen_wait(
            EditScreen(f"Turn of {export.wall(block.wall_s)}", block.text, block.unsure)
        )
        if text and text != block.text:
            self.apply(Edited(block.stretch, block.turn, text))

    def action_clear(self) -> None:
        """Take the finished turns off the screen."""
        count = sum(block.state == "final" for block in self.transcript.document.blocks)
        if not count:
            self.message.show("There is nothing to clear.")
            return
        self.apply(Cleared())
        self.turns.follow()
        self.show_all()
        self.message.show(f"Cleared {count} turn{'s' * (count != 1)}; u brings {'them' if count > 1 else 'it'} back")

    def action_undo(self) -> None:
        """Take back the last edit or clearing."""
        what = self.transcript.document.can_undo
        if not what:
            self.message.show("There is nothing to take back.")
            return
        self.apply(Undone())
        self.show_all()
        self.message.show(f"Took back the {what}")

    # searching, and coming back

    def action_search(self) -> None:
        """Open the search line."""
        self._search.open()

    def action_match(self, step: int) -> None:
        """Go to the next match, or the previous one."""
        if self._search.is_open and not self._search.matches:
            self.message.show("Nothing found.")
        self._search.step(step)

    def action_leave(self) -> None:
        """End the search; else go back to the end."""
        if self._search.is_open:
            self._search.close()
        else:
            self.turns.follow()

    @on(TurnView.FollowChanged)
    def _follow_changed(self, message: TurnView.FollowChanged) -> None:
        self._below.set_class(not message.following, "shown")
        unseen = f"{message.unseen} new below" if message.unseen else "more below"
        self._below.update(f"↓ {unseen} · End")

    def on_click(self, event: events.Click) -> None:
        if event.widget is self._below:
            self.turns.follow()
