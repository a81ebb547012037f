# ruff: noqa: PYI021 - editors show the docstrings of a compiled module from here
"""Merge the word sequences of overlapping transcripts.

Words are compared without case and punctuation; what comes back is always the caller's own str objects.
"""

from collections.abc import Sequence
from typing import final

__all__ = ["Overlap", "agreed_prefix", "find_overlap", "merge_by_overlap", "normalize"]

@final
class Overlap:
    """Where two word sequences meet: the merged sequence is `prev[:prev_end] + new[new_start:]`."""

    __match_args__ = ("prev_end", "new_start")

    @property
    def prev_end(self) -> int:
        """Words of `prev` that are kept: the index of the first word that both sides have."""
    @property
    def new_start(self) -> int:
        """Words of `new` that are dropped: the index of that same word in `new`."""
    @property
    def matched(self) -> int:
        """How many words are the same on both sides, at least 1."""
    @property
    def score(self) -> float:
        """Worth of the alignment in words: `matched` less what does not fit, at least 1.0."""
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

def merge_by_overlap(prev: Sequence[str], new: Sequence[str]) -> list[str]:
    """`prev` followed by what `new` adds, as a new list of the same str objects.

    A suffix of `prev` and a prefix of `new` that are the same speech come once: `prev` up to the first word that is the
    same on both sides, and `new` from there on. So a first word of `new` or a last word of `prev` that was cut in half
    is replaced by the whole one. Without an overlap (see `find_overlap`) the result is all of `prev` and all of `new`.

    Raises `TypeError` where an argument is not a sequence of str.
    """

def find_overlap(prev: Sequence[str], new: Sequence[str]) -> Overlap | None:
    """Where a suffix of `prev` and a prefix of `new` are the same speech, or None if nothing says that they are.

    The same word on both sides is worth 1, a near word ("browns"/"brown") up to that, another word costs 1, a word in
    between that only one side has 1.5, and a first word of `new` or a last word of `prev` that is left over 0.5 (twelve
    at most). An overlap is worth at least 1 in all, and has at least one word that is the same; punctuation alone is
    none. Where words repeat ("no no no" + "no no no"), it is the longest overlap; of equally good ones, the one whose
    merge keeps more words.

    Raises `TypeError` where an argument is not a sequence of str.
    """

def agreed_prefix(a: Sequence[str], b: Sequence[str]) -> int:
    """How many leading words two sequences have in common, word by word in normalised form.

    Raises `TypeError` where an argument is not a sequence of str.
    """

def normalize(word: str, /) -> str:
    """The form in which words are compared: letters and digits only, without case, in one Unicode spelling.

    Apostrophes go like all punctuation: "Don't" gives "dont". Punctuation alone gives "".
    """
