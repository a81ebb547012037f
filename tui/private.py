"""What was said concerns nobody else on this machine: files are 0600, folders 0700, whatever the umask says."""

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final

_FILE: Final = 0o600
_FOLDER: Final = 0o700


def open_file(path: Path, mode: str, *, encoding: str | None = None, buffering: int = -1) -> IO[Any]:
    """Open as `open` does: a file that is made, or written over, is its owner's alone.

    Raises:
        OSError: it cannot be opened.

    """
    return open(path, mode, buffering, encoding, opener=_opener)


def _opener(path: str, flags: int) -> int:
    descriptor = os.open(path, flags, _FILE)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):  # not a pipe or a device that the reader named
        with suppress(PermissionError):  # somebody else's file, which may be written to nevertheless
            os.fchmod(descriptor, _FILE)
    return descriptor


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, as far as they are missing.

    Raises:
        OSError: it cannot be made.

    """
    for missing in reversed([folder for folder in (path, *path.parents) if not folder.exists()]):
        missing.mkdir(_FOLDER, exist_ok=True)
    if not path.is_dir():
        raise NotADirectoryError(20, os.strerror(20), str(path))


def write_text(path: Path, text: str) -> None:
    """Write a whole file.

    Raises:
        OSError: it cannot be written.

    """
    with open_file(path, "w", encoding="utf-8") as file:
        file.write(text)


def tighten(folder: Path) -> None:
    """Take from others what an earlier version left readable in a folder of ours, and in the folders in it."""
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            close_to_others(path)


def close_to_others(path: Path) -> None:
    """Take from others the right to read a file or folder, if it is there and ours."""
    with suppress(OSError):
        mode = path.stat().st_mode
        if mode & 0o077 and (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
            path.chmod(_FOLDER if stat.S_ISDIR(mode) else _FILE)
