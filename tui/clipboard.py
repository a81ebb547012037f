"""The desktop's clipboard, beside the terminal's own way (OSC 52), which many terminals do not pass on."""

import os
import shutil
import subprocess
from contextlib import suppress
from typing import Final

_PATIENCE_S: Final = 5.0
_TOOLS: Final = (
    ("WAYLAND_DISPLAY", ("wl-copy",)),
    ("DISPLAY", ("xclip", "-selection", "clipboard")),
    ("DISPLAY", ("xsel", "--clipboard", "--input")),
    ("", ("pbcopy",)),
)


def copy(text: str) -> None:
    """Give the text to the desktop's own tool, if there is one. Waits for it: not for the screen's thread."""
    for variable, command in _TOOLS:
        if (not variable or os.environ.get(variable)) and shutil.which(command[0]):
            with suppress(OSError, subprocess.SubprocessError):  # it does not run, or its display does not answer
                subprocess.run(command, input=text.encode(), check=False, timeout=_PATIENCE_S)  # noqa: S603 - fixed ones
            return
