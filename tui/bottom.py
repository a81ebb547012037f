"""The last line of the screen: the keys, as many as there is room for, and in their place messages that pass.

Toasts would lie over the newest words, over dialogs, and over half of a small screen.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from rich.segment import Segment
from rich.style import Style
from textual.events import Click
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Static

if TYPE_CHECKING:
    from textual.timer import Timer

_SHOWN_S: Final = 5.0
_ERROR_SHOWN_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Key:
    """A key as the last line shows it."""

    name: str
    label: str
    action: str

    @property
    def width(self) -> int:
        return len(self.name) + len(self.label) + 3


class KeyLine(Widget):
    """Shows keys and obeys the mouse; the last two, which tell the others and leave, are shown at any width."""

    DEFAULT_CSS = """
    KeyLine { height: 1; background: $surface; color: $foreground; }
    """
    _ALWAYS: ClassVar[int] = 2

    def __init__(self, keys: Sequence[Key]) -> None:
        super().__init__(id="keys")
        self._keys = keys

    @property
    def shown(self) -> list[Key]:
        """The keys there is room for."""
        always = self._keys[-self._ALWAYS :]
        room = self.size.width - sum(key.width for key in always)
        keys: list[Key] = []
        for key in self._keys[: -self._ALWAYS]:
            if key.width > room:
                break
            room -= key.width
            keys.append(key)
        return [*keys, *always]

    def render_line(self, y: int) -> Strip:  # noqa: ARG002 - there is one line
        base = self.rich_style
        segments: list[Segment] = []
        for key in self.shown:
            segments += [Segment(f" {key.name}", base + Style(bold=True)), Segment(f" {key.label} ", base)]
        return Strip(segments).adjust_cell_length(self.size.width, base)

    def on_click(self, event: Click) -> None:
        left = 0
        for key in self.shown:
            if left <= event.x < left + key.width:
                self.app.call_later(self.app.run_action, key.action)
            left += key.width


class MessageLine(Static):
    """One message at a time, for some seconds; an error is not pushed away by what matters less."""

    DEFAULT_CSS = """
    MessageLine { display: none; height: auto; max-height: 3; padding: 0 1; background: $surface; color: $foreground;
                  text-style: bold; }
    MessageLine.shown { display: block; }
    MessageLine.error { color: $text-error; }
    """

    def __init__(self) -> None:
        super().__init__("", id="message", markup=False)
        self.text = ""
        """What is shown just now."""
        self._waiting: deque[tuple[str, bool]] = deque()
        self._timer: Timer | None = None

    def show(self, text: str, *, error: bool = False) -> None:
        """Show a message now, or after the error that is shown."""
        if self.text and self.has_class("error"):
            self._waiting.append((text, error))
        else:
            self._show(text, error)

    def clear(self) -> None:
        """Show none."""
        self._waiting.clear()
        self._next()

    def _show(self, text: str, error: bool) -> None:
        self.text = text
        self.update(text)
        self.set_class(error, "error")
        self._switch(on=True)
        if self._timer is not None:
            self._timer.stop()
        self._timer = self.set_timer(_ERROR_SHOWN_S if error else _SHOWN_S, self._next)

    def _next(self) -> None:
        if self._waiting:
            self._show(*self._waiting.popleft())
        else:
            self.text = ""
            self._switch(on=False)

    def _switch(self, *, on: bool) -> None:
        self.set_class(on, "shown")
        self.screen.query_one(KeyLine).display = not on
