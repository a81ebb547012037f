"""What every program here that takes the whole screen does: it gives the terminal back however it is ended, can be
suspended, and remembers the theme.
"""

import asyncio
import signal
import threading
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar

from textual.app import App
from textual.binding import Binding, BindingType

from tui import preferences

_SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)

Result = TypeVar("Result")


class Program(App[Result]):
    """An app with the manners of a terminal program."""

    TITLE = "stt"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("t", "light", "Light or dark"),
        Binding("ctrl+z", "suspend_process", "Suspend"),
    ]

    def __init__(self, chosen: Path | None) -> None:
        """`chosen`: the file in which the theme is remembered."""
        super().__init__()
        self._chosen = chosen

    def on_mount(self) -> None:
        if self._chosen is not None:
            theme = preferences.theme(self._chosen)
            if theme in self.available_themes:
                self.theme = theme
            self.theme_changed_signal.subscribe(self, self._keep_theme)
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                asyncio.get_running_loop().add_signal_handler(number, self.terminated, number)

    def on_unmount(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                asyncio.get_running_loop().remove_signal_handler(number)

    def terminated(self, number: int) -> None:
        """The system, or a terminal that was closed, ends the program."""
        self.exit(return_code=128 + number)

    def action_light(self) -> None:
        """Switch between a light and a dark screen."""
        self.theme = "textual-light" if self.current_theme.dark else "textual-dark"

    def _keep_theme(self, _: Any) -> None:
        if self._chosen is not None:
            preferences.keep_theme(self._chosen, self.theme)
