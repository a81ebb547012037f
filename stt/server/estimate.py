"""Words with times, for dialects that need them: the engine's where it gives them, else an estimate. Pure.

Estimated, the words of a text share the time in which somebody spoke, as the voice detector told it, by their
characters; none lies in a silence.
"""

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Final

from stt.events import Event, TranscriptChanged, TurnCompleted, TurnPaused, TurnResumed, TurnStarted
from stt.words import Word, joint, split_text

CONFIDENCE: Final = 0.9
"""Of words of which no engine says how sure it is; a constant."""

Stretch = tuple[int, int]
"""From one sample to another."""


class Speech:
    """Where somebody spoke. `feed` it every event of a session, in order; then ask for the words of a text."""

    def __init__(self) -> None:
        self._stretches: list[tuple[int, int, int | None]] = []  # turn, start, end; `None`: it lasts

    def feed(self, event: Event) -> None:
        """Learn from what the detector found; a completed turn lets the ones before it be forgotten."""
        match event:
            case TurnStarted(turn, at) | TurnResumed(turn, at):
                self._stretches.append((turn, at, None))
            case TurnPaused(turn, end):
                self._stretches = [(t, a, end if t == turn and b is None else b) for t, a, b in self._stretches]
            case TurnCompleted(turn):
                self._stretches = [stretch for stretch in self._stretches if stretch[0] >= turn]
            case _:
                pass

    def words(self, event: TurnCompleted | TranscriptChanged) -> tuple[Word, ...]:
        """Return the words of a text, as they stand in it; their times begin and end within it, in order."""
        if event.words:
            return event.words
        if isinstance(event, TranscriptChanged):
            return spread(event.text, self._spoken(event.turn, event.start, event.end))
        words: list[Word] = []
        for passage in event.passages:
            start, end = max(passage.start, event.start), min(passage.end, event.end)
            spoken = self._spoken(event.turn, start, max(start, end))
            words += spread(passage.text, spoken, after=words[-1].text if words else "")
        return tuple(words)

    def _spoken(self, turn: int, start: int, end: int) -> list[Stretch]:
        """Return where the turn was spoken between two samples; all of it, where nothing is known."""
        within = [
            (max(a, start), min(b if b is not None else end, end))
            for t, a, b in self._stretches
            if t == turn and a < end and (b is None or b > start)
        ]
        return within or [(start, end)]


def spread(text: str, stretches: Sequence[Stretch], *, after: str = "") -> tuple[Word, ...]:
    """Share the time of the stretches (in order, at least one) among the words of a text, by their characters.

    The first word has the white space that it needs after the one before it.
    """
    pieces = split_text(text)
    ends = list(accumulate(len(piece.strip()) for piece in pieces))
    if not pieces:
        return ()
    spoken = sum(b - a for a, b in stretches)
    words = []
    for i, (piece, size) in enumerate(zip(pieces, ends, strict=True)):
        before = ends[i - 1] if i else 0
        a, b = (at * spoken // ends[-1] for at in (before, size))
        offset, (start, end) = _around((a + b) / 2, stretches)
        words.append(
            Word(piece if i else joint(after, piece), max(start, start + a - offset), min(end, start + b - offset))
        )
    return tuple(words)


def _around(at: float, stretches: Iterable[Stretch]) -> tuple[int, Stretch]:
    """Find the stretch that holds a point of the time spoken, and how much was spoken before it."""
    offset, last = 0, (0, 0)
    for stretch in stretches:
        last = stretch
        if at <= offset + stretch[1] - stretch[0]:
            break
        offset += stretch[1] - stretch[0]
    return offset, last
