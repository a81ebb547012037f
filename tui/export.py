"""Turns as text for the clipboard and for files: the formats of `stt.outputs`, and Markdown."""

import time
from collections.abc import Sequence
from typing import Final

from stt import outputs
from tui.document import Block

FORMATS: Final = (*outputs.FORMATS, "md")


def render(kind: str, blocks: Sequence[Block], *, engine: str, language: str) -> str:
    """Return a whole file in one of `FORMATS`.

    Raises:
        ValueError: there is no such format.

    """
    if kind == "md":
        return _markdown(blocks, engine)
    writer = outputs.Writer(kind, {"engine": engine, "language": language})
    duration_s = blocks[-1].completed.end_s if blocks else 0.0
    turns = "".join(writer.turn(block.completed) for block in blocks)
    return writer.head() + turns + writer.tail(duration=round(duration_s, 3))


def _markdown(blocks: Sequence[Block], engine: str) -> str:
    day = time.strftime("%Y-%m-%d %H:%M", time.localtime(blocks[0].wall_s)) if blocks else "empty"
    lines = [f"# Transcript, {day}", "", f"{len(blocks)} turns · {engine}", ""]
    for block in blocks:
        lines += [f"**{wall(block.wall_s)}** {_escape(block.text)}", ""]
    return "\n".join(lines)


def _escape(text: str) -> str:
    """Keep words from becoming markup."""
    return "".join(f"\\{char}" if char in "\\`*_[]<>#|~" else char for char in text)


def wall(wall_s: float) -> str:
    """Write a time of day, 14:03:21."""
    return time.strftime("%H:%M:%S", time.localtime(wall_s))


def duration(duration_s: float) -> str:
    """Write how long something lasted in at most 6 characters: 2.4s, 1m03s, 2h05m."""
    if duration_s < 99.95:
        return f"{duration_s:.1f}s"
    whole = round(duration_s)
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    return f"{whole // 3600}h{whole // 60 % 60:02}m"


def clock(at_s: float) -> str:
    """Write a place in a recording as players do: 0:07, 12:45, 1:02:03."""
    minutes, seconds = divmod(int(at_s), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}" if minutes >= 60 else f"{minutes}:{seconds:02}"


def size(bytes_: float) -> str:
    """Write a count of bytes for people."""
    for unit in ("B", "kB", "MB"):
        if bytes_ < 1000:
            return f"{bytes_:.0f} {unit}"
        bytes_ /= 1000
    return f"{bytes_:.1f} GB"
