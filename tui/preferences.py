"""What the reader chose for good: the theme."""

import json
from contextlib import suppress
from pathlib import Path

from tui import private


def theme(path: Path) -> str:
    """Return the theme last chosen, "" where there is none or the file cannot be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return str(found["theme"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def keep_theme(path: Path, name: str) -> None:
    """Remember a theme; a disk that refuses costs no more than the choice."""
    with suppress(OSError):
        private.make_folder(path.parent)
        private.write_text(path, json.dumps({"theme": name}) + "\n")
