"""Words with times and confidence, and how text is taken apart into them and put together again: pure.

White space belongs to the word after it, so that the words of a text, joined without anything between, are the text.
"""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from stt.clock import seconds

# Scripts written without spaces: there, each character is a piece of its own to align and to agree on.
_UNSPACED: Final = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u312f\u31a0-\u9fff\uf900-\ufaff\uff00-\uff9f\U00020000-\U0003ffff"
)
_PIECE: Final = re.compile(rf"\s*(?:[{_UNSPACED}]|[^\s{_UNSPACED}]+)")
_UNSPACED_CHAR: Final = re.compile(rf"[{_UNSPACED}]")
# Of those, what belongs to the character before it, beside all that Unicode calls marks: small kana, what lengthens or
# repeats (JIS X 4051), and vowels that Thai and Lao write after their consonant.
_NEVER_FIRST: Final = frozenset(
    "ぁぃぅぇぉっゃゅょゎゕゖァィゥェォッャュョヮヵヶーゝゞヽヾ々〻゛゜"
    "\u0e2f\u0e30\u0e32\u0e33\u0e45\u0e46\u0eaf\u0eb0\u0eb2\u0eb3\u0ec6\u17d6\u17d7"
)
# And what belongs to the one after it: vowels that Thai and Lao write before their consonant.
_NEVER_LAST: Final = frozenset("\u0e40\u0e41\u0e42\u0e43\u0e44\u0ec0\u0ec1\u0ec2\u0ec3\u0ec4")
_COENG: Final = "\u17d2"  # joins two consonants of Khmer


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


def may_break(before: str, after: str) -> bool:
    """Tell whether a word or a line may end between two texts; both hold something.

    Not inside a syllable of a script without spaces, before closing or after opening punctuation.
    """
    last, first = before[-1], after[0]
    if first.isspace() or last.isspace():
        return not is_opening(before.rstrip()[-1:])
    return not (
        first in _NEVER_FIRST
        or unicodedata.category(first) in ("Mn", "Mc", "Pe", "Pf", "Po")
        or last in _NEVER_LAST
        or last == _COENG
        or is_opening(last)
    )


def is_opening(char: str) -> bool:
    """Tell whether a character is a bracket or quotation mark that opens something."""
    return bool(char) and unicodedata.category(char) in ("Ps", "Pi")


def joint(before: str, piece: str) -> str:
    """Return `piece` with the white space it needs after `before`, where the two come from different texts."""
    text = piece.lstrip()
    if not before or (_UNSPACED_CHAR.match(text) and not before[-1].isascii()):
        return text
    return f" {text}"


def joined(texts: Iterable[str]) -> str:
    """Put texts of different windows or turns one after another, with the white space that each needs."""
    whole = ""
    for text in texts:
        whole += joint(whole, text) if text else ""
    return whole
