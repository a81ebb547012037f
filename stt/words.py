"""Words with times and confidence, and how text is taken apart into them and put together again: pure.

White space belongs to the word after it, so that the words of a text, joined without anything between, are the text.
"""

import re
from dataclasses import dataclass
from typing import Final

from stt.clock import seconds

# Scripts written without spaces: there, each character is a piece of its own to align and to agree on.
_UNSPACED: Final = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3000-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uff60"
_PIECE: Final = re.compile(rf"\s*(?:[{_UNSPACED}]|[^\s{_UNSPACED}]+)")
_UNSPACED_CHAR: Final = re.compile(rf"[{_UNSPACED}]")


@dataclass(frozen=True, slots=True)
class Word:
    """A word as it stands in a text, and when it was said."""

    text: str
    """With its punctuation, and with the white space before it."""
    start: int
    """Sample index of the stream."""
    end: int
    confidence: float | None = None
    """Probability that it is right, 0 to 1, where the engine tells."""

    @property
    def start_s(self) -> float:
        return seconds(self.start)

    @property
    def end_s(self) -> float:
        return seconds(self.end)


def split_text(text: str) -> list[str]:
    """Take text apart at white space, and between the characters of scripts that use none.

    Each piece keeps the white space before it, as a single space; the first has none.
    """
    return _PIECE.findall(" ".join(text.split()))


def is_unspaced(char: str) -> bool:
    """Tell whether a character belongs to a script that puts no space between words."""
    return _UNSPACED_CHAR.match(char) is not None


def joint(before: str, piece: str) -> str:
    """Return `piece` with the white space it needs after `before`, where the two come from different texts."""
    text = piece.lstrip()
    if not before or (_UNSPACED_CHAR.match(text) and not before[-1].isascii()):
        return text
    return f" {text}"
