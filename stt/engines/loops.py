"""Repetition loops, the way recognizers fail on noise, on music and at times after speech: pure.

People repeat themselves too: a microphone check, a chant, a march. What tells them apart is time. A person needs some
for each copy; a loop costs an engine nothing, so its copies have no place in the audio. The engine that made the
hypothesis knows more than the text (where it heard each copy, whether it came to an end by itself), and says so.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

# Scripts that put no space between words: each character is a unit. From U+2E80 on, one is a syllable or more.
_WORD: Final = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\U0003ffff]|[^\W\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\U0003ffff]+"
)
_SYLLABIC: Final = "\u2e80"
# What joins a copy to the next one: comma and dashes, of any script.
_JOINS: Final = ",-\u2013\u2014\u3001\uff0c"
_LONGEST_WORD: Final = 24  # letters; what is longer ("hahaha...") may be a loop by itself, so its letters are the units

# Nobody speaks faster: auctioneers and rappers come near. Digits are written for words.
_WORDS_PER_S: Final = 7.0
_LETTERS_PER_S: Final = 22.0
_SYLLABLES_PER_S: Final = 9.0
# Of the time there is; who speaks as fast as this seldom says a sentence twice.
_HURRIED: Final = 0.6

# Fewer copies than this are a manner of speaking; fewer units are over before anyone could call them a loop.
_COPIES: Final = 4
_UNITS: Final = 8


@dataclass(frozen=True, slots=True)
class Repetition:
    """A phrase that a text says over and over to its end; the last copy may be incomplete."""

    starts: tuple[int, ...]
    """Where each complete copy begins, as indices into the text."""
    phrase: str
    """The first copy."""

    @property
    def copies(self) -> int:
        return len(self.starts)


def find_repetition(text: str, duration_s: float) -> Repetition | None:
    """Find the shortest phrase that fills the end of a text again and again: four times; twice where time is short."""
    spans = [span for match in _WORD.finditer(text) for span in _units(match)]
    keys = [text[start:end].casefold() for start, end in spans]
    copies = 2 if least_s(text) > _HURRIED * duration_s else _COPIES
    for period in range(1, len(keys) // copies + 1):
        # How far back from the end does the text repeat itself with this period?
        first = len(keys)
        while first > period and keys[first - 1] == keys[first - 1 - period]:
            first -= 1
        first -= period
        length = len(keys) - first
        if length >= _UNITS and length // period >= copies:
            starts = tuple(spans[at][0] for at in range(first, len(keys) - period + 1, period))
            return Repetition(starts, text[starts[0] : spans[first + period - 1][1]])
    return None


def least_s(text: str) -> float:
    """Seconds that the fastest of speakers needs to say a text."""
    words = letters = syllables = 0
    for match in _WORD.finditer(text):
        word = match[0]
        if word >= _SYLLABIC or word.isdigit():
            syllables += len(word)
        else:
            words += 1
            letters += len(word)
    return max(words / _WORDS_PER_S, letters / _LETTERS_PER_S) + syllables / _SYLLABLES_PER_S


def cut_loop(text: str, duration_s: float, said: Callable[[Repetition], int] | None = None) -> str:
    """Cut the repetition loop that a text ends in.

    Args:
        text: what an engine made of the audio.
        duration_s: how long the audio is, or the speech in it where that is known.
        said: how many of the copies were said, in the engine's judgement; it is asked about repetitions that would
            have fitted into the audio. `None`: it knows no better than to believe them all.

    Where the engine knows no better, a text that nobody can say in the time is cut to one copy; if it is nothing but
    four copies or more, to nothing.

    """
    rushed = least_s(text) > duration_s
    repetition = find_repetition(text, duration_s)
    if repetition is None:
        return text
    before = text[: repetition.starts[0]]
    if said is not None:
        copies = said(repetition)
        if rushed:  # no more than there is time for, whatever the engine thinks
            copies = min(copies, max(1, int((duration_s - least_s(before)) / least_s(repetition.phrase))))
    elif rushed:
        copies = 1 if _WORD.search(before) or repetition.copies < _COPIES else 0
    else:
        copies = repetition.copies
    if copies >= repetition.copies:
        return text
    kept = text[: repetition.starts[copies]].rstrip()
    return kept.rstrip(_JOINS) if _WORD.search(kept) else ""


def _units(match: re.Match[str]) -> list[tuple[int, int]]:
    start, end = match.span()
    return [(start, end)] if end - start <= _LONGEST_WORD else [(at, at + 1) for at in range(start, end)]
