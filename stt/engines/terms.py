"""Which of a session's terms sound like what was heard: pure.

A recognizer writes a name it does not know the way it sounds (`Velquist`: Valkwist, `Trasimene`: Tras I mean). So spans
of a hypothesis, a word or several, are held against all terms by their sound and their letters; the engine then judges
those that resemble one, with the term in the place of the span (`stt.engines.rescoring`).
"""

import functools
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from rapidfuzz import process
from rapidfuzz.distance import JaroWinkler, Levenshtein

# Of 237 names heard wrong, in four levels of noise, the best candidate for its span was the name in 87 % with 30 terms,
# in 65 % with 500; higher loses some, lower only brings more that the engine then throws out.
_ALIKE: Final = 0.6
_MORE_WORDS: Final = 2  # than the term has: a name falls into pieces (`Tras I mean`)

# What English spelling writes in many ways, brought to one; voiced and voiceless are one, as noise takes the difference
# away, and so are all vowels. In order.
_RULES: Final = tuple(
    (re.compile(pattern), sound)
    for pattern, sound in (
        (r"\b[kg]n", "n"),
        (r"\bwr", "r"),
        (r"\bps", "s"),
        (r"tch|s?ch|sh|dg(?=[eiy])|j", "X"),
        (r"ph", "f"),
        (r"gh(?=[aeiou])", "k"),
        (r"gh", ""),
        (r"ck", "k"),
        (r"qu", "kw"),
        (r"x", "ks"),
        (r"th", "t"),
        (r"wh", "w"),
        (r"s?c(?=[eiy])|z", "s"),
        (r"[cqg]", "k"),
        (r"v", "f"),
        (r"b", "p"),
        (r"d", "t"),
        (r"m", "n"),
        (r"[aeiouy]+w?(?![aeiouy])|[aeiouy]+", "a"),
        (r"h|\s+", ""),
        (r"(.)\1+", r"\1"),
    )
)


@dataclass(frozen=True, slots=True)
class Resemblance:
    """A span of words, and the term that it may have been."""

    first: int
    """Index of its first word."""
    last: int
    """Index of its last word."""
    term: str


class Lexicon:
    """Terms, prepared for comparison."""

    def __init__(self, terms: Sequence[str]) -> None:
        self._terms = tuple(term for term in terms if _letters(term))
        self._sounds = [sound(term) for term in self._terms]
        self._letters = [_letters(term) for term in self._terms]
        self._most_words = max((len(term.split()) for term in self._terms), default=0) + _MORE_WORDS

    def resembling(self, words: Sequence[str], doubtful: Sequence[bool]) -> list[Resemblance]:
        """Find what may have been terms, best first; no word is in two spans.

        Args:
            words: of a hypothesis, in order, without the punctuation around them.
            doubtful: whether the engine was less than sure of a word; a third of a span's letters are of such words.

        """
        if not self._terms or not any(doubtful):
            return []
        letters = [len(word) for word in words]
        unsure = [count if doubt else 0 for count, doubt in zip(letters, doubtful, strict=True)]
        spans = [
            (first, last)
            for first in range(len(words))
            for last in range(first, min(len(words), first + self._most_words))
        ]
        texts = [" ".join(words[first : last + 1]) for first, last in spans]
        alike = self._alike(texts)
        found: list[Resemblance] = []
        taken: set[int] = set()
        rows, columns = np.nonzero(alike >= _ALIKE)
        for at in np.argsort(-alike[rows, columns], kind="stable"):
            (first, last), term = spans[rows[at]], self._terms[columns[at]]
            if not taken.isdisjoint(range(first, last + 1)):
                continue
            # What was surely heard, or is written as it is to be, keeps its place: else a longer span would have it.
            taken.update(range(first, last + 1))
            doubted = 3 * sum(unsure[first : last + 1]) >= sum(letters[first : last + 1])
            if doubted and " ".join(words[first : last + 1]) != term:
                found.append(Resemblance(first, last, term))
            if len(taken) == len(words):
                break
        return found

    def _alike(self, texts: Sequence[str]) -> np.ndarray:
        """Return how much each text is like each term, 0 to 1: [texts, terms]."""
        by_sound = process.cdist(
            [sound(text) for text in texts], self._sounds, scorer=Levenshtein.normalized_similarity
        )
        by_letters = process.cdist(
            [_letters(text) for text in texts], self._letters, scorer=JaroWinkler.normalized_similarity
        )
        return (by_sound + by_letters) / 2


@functools.lru_cache(maxsize=64)
def lexicon(terms: tuple[str, ...]) -> Lexicon:
    """Return the terms of a session, prepared once."""
    return Lexicon(terms)


def sound(text: str) -> str:
    """Return roughly how a text sounds, one letter for a class of sounds; scripts other than Latin stay as they are."""
    sounds = _folded(text)
    for pattern, by in _RULES:
        sounds = pattern.sub(by, sounds)
    return sounds


def _letters(text: str) -> str:
    return _folded(text).replace(" ", "")


def _folded(text: str) -> str:
    """Take case, accents and punctuation away."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    return " ".join(re.sub(r"[^\w\s]|_", "", "".join(c for c in plain if not unicodedata.combining(c))).split())
