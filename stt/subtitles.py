"""Turns as subtitles: pure, turns in, cues out.

A cue begins with its first word and ends with its last. How much one holds and where it is cut follows the customs of
subtitlers, as in Netflix's Timed Text Style Guide (General Requirements; English): at most two lines of 42 characters,
5/6 of a second to 7 seconds, two frames between one that is drawn out and the next, broken after punctuation and where
the speaker pauses, the lower line the longer one. Among all ways to cut the words between two silences the best is
found by dynamic programming, as TeX breaks paragraphs.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

from stt.clock import samples, seconds
from stt.events import TurnCompleted
from stt.words import Word, is_opening, joint, may_break, split_text

LINE: Final = 42
"""Characters of a line; those that are two columns wide (Chinese, Japanese, Korean) count twice."""
LEAST_S: Final = 5 / 6
MOST_S: Final = 7.0
SILENCE_S: Final = 1.0
"""No cue goes on across so long a silence."""

_LEAST, _MOST, _SILENCE = samples(LEAST_S), samples(MOST_S), samples(SILENCE_S)
_BETWEEN: Final = samples(2 / 24)
_SHORTEST_WORD: Final = samples(0.01)
_FEW: Final = 12  # characters that look lost in a cue of their own
_PAUSE_S: Final = 0.5  # as good a place to cut as a comma
_CLOSING: Final = "[\"')\\]\u201d\u2019\u00bb\u300d\u300f]*$"
_SENTENCE_END: Final = re.compile(
    rf"(?:(?<!\b[A-Z])(?<!\b(?:Dr|Mr|Ms|St|vs))(?<!\b(?:Mrs|etc))\.|[!?…。！？]){_CLOSING}"  # noqa: RUF001 - fullwidth
)
_CLAUSE_END: Final = re.compile(rf"[,;:—–、，；：]{_CLOSING}")  # noqa: RUF001 - fullwidth


@dataclass(frozen=True, slots=True)
class Cue:
    """One subtitle of one or two lines."""

    start_s: float
    end_s: float
    lines: tuple[tuple[Word, ...], ...]

    @property
    def text(self) -> str:
        return "\n".join("".join(word.text for word in line).strip() for line in self.lines)


def cues(turns: Iterable[TurnCompleted]) -> Iterator[Cue]:
    """Cut turns into subtitles; every word is in one, in order, and none overlaps another.

    Where a turn's words have no times, those of its windows are spread over their characters.
    """
    for turn in turns:
        limit = max(turn.end, turn.decided)  # until then nobody else speaks
        words = _apart(turn.words or tuple(_spread(turn)), limit)
        first = 0
        for i, (word, after) in enumerate(pairwise(words), 1):
            if after.start - word.end >= _SILENCE:
                yield from _cut(words[first:i], after.start - _BETWEEN)
                first = i
        yield from _cut(words[first:], limit)


def each_word(turn: TurnCompleted) -> Iterator[Cue]:
    """Give each word a cue of its own."""
    for word in _apart(turn.words or tuple(_spread(turn)), max(turn.end, turn.decided)):
        yield Cue(word.start_s, word.end_s, ((word,),))


def _spread(turn: TurnCompleted) -> Iterator[Word]:
    before = ""
    for passage in turn.passages:
        # The engine heard a little more than the turn, so that its first and last words are whole.
        start = min(max(passage.start, turn.start), turn.end)
        end = max(min(passage.end, turn.end), start)
        at = 0
        for piece in _unbroken(split_text(passage.text)):
            low, high = ((end - start) * n // len(passage.text) for n in (at, at + len(piece)))
            yield Word(piece if at else joint(before, piece), start + low, start + high)
            at += len(piece)
        before = passage.text


def _unbroken(pieces: Iterable[str]) -> list[str]:
    """Keep together what no line may break."""
    found: list[str] = []
    for piece in pieces:
        lone = not any(map(str.isalnum, piece)) and not is_opening(piece[-1])
        if found and (lone or not may_break(found[-1], piece)):
            found[-1] += piece
        else:
            found.append(piece)
    return found


def _apart(words: Sequence[Word], limit: int) -> list[Word]:
    """Give every word some time, where several share a moment."""
    if not words:
        return []
    least = max(1, min(_SHORTEST_WORD, (limit - words[0].start) // len(words)))
    starts = [word.start for word in words]
    for i in range(1, len(starts)):
        starts[i] = max(starts[i], starts[i - 1] + least)
    ends = [*starts[1:], max(limit, starts[0] + least * len(words))]
    for i in range(len(starts) - 1, -1, -1):
        starts[i] = min(starts[i], ends[i] - least)
        if i:
            ends[i - 1] = starts[i]
    return [
        replace(word, start=start, end=min(max(word.end, start + least), end))
        for word, start, end in zip(words, starts, ends, strict=True)
    ]


def _cut(words: Sequence[Word], limit: int) -> Iterator[Cue]:
    """Cut words with no long silence between them at the best places; the last cue may be drawn out to `limit`."""
    count = len(words)
    cost, begin = [0.0] + [float("inf")] * count, [0] * (count + 1)
    for end in range(1, count + 1):
        room = 0  # columns
        for first in range(end - 1, -1, -1):
            room += _columns(words[first].text)
            if end - first > 1 and not _fits(words, first, end, room):
                break
            total = cost[first] + _price(words, first, end, limit)
            if total < cost[end]:
                cost[end], begin[end] = total, first
    marks = [count]
    while marks[-1]:
        marks.append(begin[marks[-1]])
    for first, end in pairwise(reversed(marks)):
        start, until = words[first].start, _until(words, first, end, limit)
        yield Cue(seconds(start), seconds(min(until, start + _MOST)), _lines(words[first:end]))


def _until(words: Sequence[Word], first: int, end: int, limit: int) -> int:
    """Where a cue ends: with its last word; one too short to read stays as long as nothing else comes."""
    free = words[end].start - _BETWEEN if end < len(words) else limit
    return max(words[end - 1].end, min(words[first].start + _LEAST, free))


def _fits(words: Sequence[Word], first: int, end: int, room: int) -> bool:
    return (
        words[end - 1].end - words[first].start <= _MOST
        and room <= 2 * LINE + 2  # white space at both ends is not shown
        and all(_columns("".join(word.text for word in line).strip()) <= LINE for line in _lines(words[first:end]))
    )


def _price(words: Sequence[Word], first: int, end: int, limit: int) -> float:
    """Say how bad a cue of these words would be."""
    price = 1.0
    if end < len(words):
        price += _break_price(words[end - 1], words[end])
    price += sum(after.start - word.end >= samples(_PAUSE_S) for word, after in pairwise(words[first:end]))
    lasts = _until(words, first, end, limit) - words[first].start
    price += 3 * max(0, _LEAST - lasts) / _LEAST
    if sum(len(word.text) for word in words[first:end]) <= _FEW and end - first < len(words):
        price += 0.5
    return price


def _break_price(word: Word, after: Word) -> float:
    if not may_break(word.text, after.text):
        return 3.0
    if _SENTENCE_END.search(word.text):
        return 0.0
    pause_s = seconds(after.start - word.end)
    return min(0.3 if _CLAUSE_END.search(word.text) else 1.0, max(0.2, 1 - pause_s / _PAUSE_S))


def _lines(words: Sequence[Word]) -> tuple[tuple[Word, ...], ...]:
    """Break a cue's words into lines: after punctuation if that is near the middle, the lower line the longer one."""
    widths = [_columns(word.text) for word in words]
    widths[0] -= len(words[0].text) - len(words[0].text.lstrip())
    whole = sum(widths)
    if whole <= LINE or len(words) == 1:
        return (tuple(words),)
    best, least, above = 1, float("inf"), 0
    for at in range(1, len(words)):
        above += widths[at - 1]
        below = whole - above - (len(words[at].text) - len(words[at].text.lstrip()))
        badness = abs(above - below) / 2 + (1 if above > below else 0) + 12 * _break_price(words[at - 1], words[at])
        badness += 1000 * (max(0, above - LINE) + max(0, below - LINE))
        if badness < least:
            best, least = at, badness
    return tuple(words[:best]), tuple(words[best:])


def _columns(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)
