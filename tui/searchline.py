"""The line in which turns are searched."""

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.widgets import Input, Label

from tui.turnview import TurnView


class SearchLine(Horizontal):
    """Finds a text in the turns of a view, and goes from one place to the next."""

    DEFAULT_CSS = """
    SearchLine { height: 1; display: none; background: $surface; }
    SearchLine.shown { display: block; }
    SearchLine Label { padding: 0 1; }
    SearchLine Input { width: 1fr; border: none; height: 1; padding: 0; background: $surface; }
    """

    def __init__(self, turns: TurnView) -> None:
        super().__init__(id="search")
        self._turns = turns
        self.matches: list[tuple[int, int]] = []
        self._match: int | None = None
        self._needle = Input(placeholder="search the turns", compact=True, id="needle")
        self._count = Label("", id="count")

    def compose(self) -> ComposeResult:
        yield Label("/")
        yield self._needle
        yield self._count

    @property
    def is_open(self) -> bool:
        return self.has_class("shown")

    def open(self) -> None:
        """Show the line, to type in."""
        self.add_class("shown")
        self._needle.focus()

    def close(self) -> None:
        """End the search."""
        self.remove_class("shown")
        self._needle.value = ""
        self.matches, self._match = [], None
        self._turns.show_matches("", None)
        self._turns.focus()

    def again(self) -> None:
        """Search for the same in turns that have changed."""
        if self.matches or self.is_open:
            current = None if self._match is None else self.matches[self._match]
            self.matches = self._turns.document.find(self._needle.value)
            self._go(self.matches.index(current) if current in self.matches else None)

    def step(self, step: int) -> None:
        """Go to the next match, or the previous one; round and round."""
        if self.matches:
            self._go((len(self.matches) - 1 if self._match is None else self._match + step) % len(self.matches))

    @on(Input.Changed)
    def _changed(self) -> None:
        self.matches = self._turns.document.find(self._needle.value)
        self._go(len(self.matches) - 1 if self.matches else None)  # the latest words are what is mostly looked for

    @on(Input.Submitted)
    def _submitted(self) -> None:
        if self.matches:
            self._turns.focus()
            self.step(0)

    def on_key(self, event: events.Key) -> None:
        """In the line Shift+Enter and Up go back, Down goes on."""
        if event.key in ("shift+enter", "up", "down"):
            self.step(1 if event.key == "down" else -1)
            event.stop()

    def _go(self, match: int | None) -> None:
        self._match = match
        self._turns.show_matches(self._needle.value, None if match is None else self.matches[match])
        if not self._needle.value.strip():
            text = ""
        elif not self.matches:
            text = "nothing found"
        else:
            text = f"{'-' if match is None else match + 1} of {len(self.matches)} · n next · N previous"
        self._count.update(text)
