"""Standard input, output and error: they may be closed, full, or of an encoding that cannot hold what is said."""

import io
import os
import sys
from typing import Final

_MODES: Final = ("r", "w", "w")


def prepare() -> None:
    """Make the three streams usable, before any file is opened.

    One that is closed (`2>&-`) is opened on /dev/null: else Python has no stream at all, and the next file that is
    opened would get its number, and with it what libraries write there. What is written to a closed standard output
    must not vanish unseen, though: its /dev/null is open for reading, so that writing fails.
    """
    names = ("stdin", "stdout", "stderr")
    for fd, name in enumerate(names):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_WRONLY if fd == 2 else os.O_RDONLY)  # gets the lowest free number: this one
            setattr(sys, name, os.fdopen(fd, _MODES[fd], encoding="utf-8", closefd=False))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def give_up_stdout() -> None:
    """Let go of what is still to be written to a standard output that fails: Python would try again at its exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
