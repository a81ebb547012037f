"""`stt tui --sessions`: the sessions that are kept, to be read, gone on with, or deleted."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from tui import journal, sessions
from tui.bottom import Key, KeyLine, MessageLine
from tui.program import Program


@dataclass(frozen=True, slots=True)
class Choice:
    """What the reader wants to do with a session."""

    path: Path
    resume: bool
    """Go on with it; else read it."""


class SessionBrowser(Program[Choice]):
    """Lists the sessions; returns the reader's choice, `None` if there is none."""

    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #heading { height: 1; background: $surface; color: $foreground; padding: 0 1; }
    OptionList { height: 1fr; border: none; padding: 0; background: $background; text-wrap: nowrap;
                 text-overflow: ellipsis; scrollbar-size-vertical: 1; }
    OptionList:focus { border: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "move('cursor_down')", "Down"),
        Binding("k", "move('cursor_up')", "Up"),
        Binding("g", "move('first')", "First"),
        Binding("G", "move('last')", "Last"),
        Binding("r", "resume", "Go on with it"),
        Binding("x,delete", "delete", "Delete"),
        Binding("q,escape", "quit", "Quit"),
    ]

    def __init__(self, folder: Path, chosen: Path | None, *, at: Path | None = None) -> None:
        """`at`: the session that is marked at first."""
        super().__init__(chosen)
        self._folder, self._at = folder, at
        self._paths: list[Path] = []
        self.list = OptionList()
        self.message = MessageLine()
        self._heading = Static("reading …", id="heading", markup=False)

    def compose(self) -> ComposeResult:
        yield self._heading
        yield self.list
        yield self.message
        yield KeyLine(
            (
                Key("r", "Go on", "app.resume"),
                Key("x", "Delete", "app.delete"),
                Key("Enter", "Read", "app.read"),
                Key("q", "Quit", "app.quit"),
            )
        )

    def on_mount(self) -> None:
        self.list.focus()
        self._look()

    @work(thread=True)
    def _look(self) -> None:
        for summary in sessions.summaries(self._folder):
            self.call_from_thread(self._add, summary)
        self.call_from_thread(self._count)

    def _add(self, summary: sessions.Summary) -> None:
        self._paths.append(summary.path)
        self.list.add_option(Option(Content(f" {summary.line()}"), id=summary.path.name))
        if self.list.highlighted is None or summary.path == self._at:
            self.list.highlighted = len(self._paths) - 1

    def _count(self) -> None:
        count = len(self._paths)
        self._heading.update(f"stt · {count} session{'s' * (count != 1)} in {self._folder}")

    @property
    def _marked(self) -> Path | None:
        index = self.list.highlighted
        return None if index is None or index >= len(self._paths) else self._paths[index]

    def action_move(self, how: str) -> None:
        """Move the mark as vi does."""
        getattr(self.list, f"action_{how}")()

    @on(OptionList.OptionSelected)
    def action_read(self) -> None:
        """Show what was said."""
        if (path := self._marked) is not None:
            self.exit(Choice(path, resume=False))

    def action_resume(self) -> None:
        """Go on with a session."""
        if (path := self._marked) is not None:
            self.exit(Choice(path, resume=True))

    @work
    async def action_delete(self) -> None:
        """Delete a session, if that is meant."""
        from tui.dialogs import AskScreen

        if (path := self._marked) is None:
            return
        question = f"Delete the session {path.stem}? What was said in it is gone then."
        if not await self.push_screen_wait(AskScreen("Delete", question, "Delete", "Keep")):
            return
        try:
            if journal.in_use(path):
                self.message.show(f"Not deleted: another stt tui writes to {path.stem}", error=True)
                return
            path.unlink()
        except OSError as error:
            self.message.show(f"Not deleted: {path}: {error.strerror}", error=True)
            return
        index = self._paths.index(path)
        del self._paths[index]
        self.list.remove_option_at_index(index)
        if self._paths:
            self.list.highlighted = min(index, len(self._paths) - 1)
        self._count()
        self.message.show(f"Deleted {path.stem}")
