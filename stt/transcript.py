"""The words of one turn, from the hypotheses of its windows: pure, no clock, no asyncio.

`committed` words lie before the current window and never change. `stable` words are those on which the last two
hypotheses of the window agree, `tentative` ones are the rest; the last hypothesis of a window overrides both.

Where interims come from a model of their own (`Hypothesis.preview`), two of them that agree prove little: the other one
has yet to hear it. So stable is what that one heard, and a preview only adds what was said after that.
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Final

from strops import agreed_prefix, find_overlap, normalize
from stt.audio import samples, seconds
from stt.events import Passage
from stt.recognition.service import Hypothesis
from stt.turns import Window
from stt.words import Word, joint, split_text

# Auctioneers and rappers reach 6: no more words than this can lie in the audio that two windows share.
_FASTEST_WORDS_PER_S: Final = 6.0
# How far the times of a word that two windows heard may be apart.
_APART: Final = samples(0.5)


@dataclass(frozen=True, slots=True)
class _Piece:
    """What is aligned and agreed on: a word, or a character of a script without spaces."""

    text: str
    """With the white space before it."""
    start: int | None = None
    """Sample index, where the engine told it; so all of a hypothesis's pieces have times, or none."""
    end: int | None = None
    confidence: float | None = None
    continues: bool = False
    """Whether it is of the same word of the engine as the piece before it."""


class Transcript:
    """Owns the words of the running turn."""

    def __init__(self) -> None:
        self._closed: list[_Piece] = []  # of the windows before the current one, stitched
        self._in_play_from = 0  # those from here on are of the window right before, and of audio that this one shares
        self._window: Window | None = None
        self._hypothesis: list[_Piece] = []  # of the current window
        self._agreed = 0  # leading pieces of it that the hypothesis before had as well
        self._held: tuple[list[_Piece], int] = [], 0  # what no preview changes in this window, and up to which sample
        self._preview = False  # whether the hypothesis is one, after what is held
        self._passages: list[tuple[int, int, int]] = []  # closed windows: first piece, start and end sample
        self._merge()

    def update(self, window: Window, hypothesis: Hypothesis) -> None:
        """Take a hypothesis of a window; those of a window before the current one come too late and are an error."""
        pieces = _pieces(hypothesis)
        if not any(normalize(piece.text) for piece in pieces):  # punctuation alone is no speech
            pieces = []
        if self._window is None or window.index != self._window.index:
            self._close(window)
            self._agreed, self._held = 0, ([], 0)
        else:
            self._agreed = agreed_prefix(_texts(self._hypothesis), _texts(pieces))
        if window.cause != "interim":
            self._agreed = len(pieces)
        self._preview = hypothesis.preview
        if hypothesis.preview:
            held, until = self._held
            if held and window.end <= until:
                return
            pieces = [*held, *_timed_like(held, pieces[_reach(_texts(held), _texts(pieces)) :], until, window.end)]
            self._agreed = len(held)
        else:
            self._held = pieces, window.end
        self._window = window
        self._hypothesis = pieces
        self._merge()

    def with_preview(self, window: Window, hypothesis: Hypothesis) -> "Transcript":
        """Return a transcript that shows what is said after all that this one knows, which goes on without it."""
        shown = copy(self)  # nothing in it is changed in place
        shown.update(window, hypothesis)
        return shown

    def agreed_chars(self, other: "Transcript") -> tuple[int, int]:
        """Return how much of the text is committed and stable that is so in another transcript of the turn as well."""
        text, same = self.text, other.stable_chars
        while not text.startswith(other.text[:same]):
            same -= 1
        return min(same, self.committed_chars, other.committed_chars), min(same, self.stable_chars)

    @property
    def text(self) -> str:
        """All words so far."""
        return "".join(_texts(self._merged))

    @property
    def committed_chars(self) -> int:
        """Leading characters of `text` that will never change: all that the current window cannot have heard."""
        return self._chars(self._in_play_from)

    @property
    def stable_chars(self) -> int:
        """Leading characters of `text` that the last two hypotheses agree on."""
        stable = self._kept + max(0, self._agreed - self._dropped) if self._hypothesis else len(self._merged)
        return max(self._chars(stable), self.committed_chars)

    @property
    def words(self) -> tuple[Word, ...]:
        """The words with their times, in order and apart; none where the engine told no times.

        Where it told them for some windows (it failed on another, whose interim stands), the words of the others are
        spread over the time that is left there, without a confidence.
        """
        words: list[Word] = []
        if all(piece.start is None for piece in self._merged):
            return ()
        for first, until, start, end in self._stretches():
            for piece in _timed(self._merged[first:until], max(start, words[-1].end if words else 0), end):
                if piece.continues and words:
                    last = words[-1]
                    words[-1] = replace(last, text=last.text + piece.text, end=max(last.end, piece.end or 0))
                    continue
                at = max(piece.start or 0, words[-1].end if words else 0)
                words.append(Word(piece.text, at, max(piece.end or 0, at), piece.confidence))
        return tuple(words)

    @property
    def passages(self) -> tuple[Passage, ...]:
        """The text by windows, with the sample indices where each begins and ends."""
        return tuple(
            Passage(start, end, "".join(_texts(self._merged[first:until])).strip())
            for first, until, start, end in self._stretches()
        )

    def _stretches(self) -> list[tuple[int, int, int, int]]:
        """Return which pieces the windows gave, and where each begins and ends: first, after the last; samples."""
        if self._window is None:
            return []
        passages = [*self._passages, (self._kept, self._passage_start(), self._window.end)]
        firsts = [first for first, _, _ in passages] + [len(self._merged)]
        told = []
        for i, (first, start, end) in enumerate(passages):
            until = firsts[i + 1]
            if first < until:
                # What the next window heard better is told there.
                end = min(end, max(start, passages[i + 1][1])) if i + 1 < len(passages) else end  # noqa: PLW2901
                told.append((first, until, start, end))
        return told

    def _passage_start(self) -> int:
        """Where the words begin that the text has from the current window: in the shared audio, where stitched."""
        assert self._window is not None  # noqa: S101 - for the type checker: asked only where there is one
        window = self._window
        if not window.overlap or not self._hypothesis[self._dropped :]:
            return window.start + window.overlap
        first = self._hypothesis[self._dropped].start
        if first is None:  # as far into the window as into its words
            first = window.start + len(window.audio) * self._dropped // len(self._hypothesis)
        return min(max(first, window.start), window.start + window.overlap)

    def _merge(self) -> None:
        """Stitch the current window's words to those before."""
        kept, dropped = len(self._closed), 0
        head = self._in_play_from
        if overlap := find_overlap(_texts(self._closed[head:]), _texts(self._hypothesis)):
            kept, dropped = head + overlap.prev_end, overlap.new_start
            if self._preview and not self._held[0]:  # of what both windows heard, the words before are the better ones
                rest, kept = self._closed[kept:], len(self._closed)
                dropped += _reach(_texts(rest), _texts(self._hypothesis[dropped:]))
        new = self._hypothesis[dropped:]
        if new and not dropped:
            before = self._closed[kept - 1].text if kept else ""
            new = [replace(new[0], text=joint(before, new[0].text), continues=False), *new[1:]]
        elif new:
            text = new[0].text if kept else new[0].text.lstrip()
            new = [replace(new[0], text=text, continues=False), *new[1:]]
        self._kept, self._dropped, self._merged = kept, dropped, self._closed[:kept] + new

    def _close(self, following: Window) -> None:
        if self._window is None:
            return
        window = self._window
        # A stitch may reach back into the window before: its passage then ends sooner.
        self._passages = [p for p in self._passages if p[0] < self._kept] + [
            (self._kept, self._passage_start(), window.end)
        ]
        first = self._kept  # of the pieces that this window gave
        self._closed, self._hypothesis = self._merged, []
        self._in_play_from = max(first, len(self._closed) - self._shared(window, following))

    def _shared(self, window: Window, following: Window) -> int:
        """How many of the last words `following` may have heard as well: those of the audio that both have.

        That is the overlap; more, where the cut was made further back than an interim, and its own recognition failed.
        """
        shared = window.end - following.start
        if shared <= 0 or following.index != window.index + 1:  # or there was one of which nothing is known
            return 0
        most = 2 + round(_FASTEST_WORDS_PER_S * seconds(shared))
        ends = [piece.end for piece in self._closed[-most:]]
        return sum(end is None or end > following.start - _APART for end in ends)

    def _chars(self, pieces: int) -> int:
        return sum(len(piece.text) for piece in self._merged[:pieces])


def _texts(pieces: Sequence[_Piece]) -> list[str]:
    return [piece.text for piece in pieces]


def _reach(held: Sequence[str], heard: Sequence[str]) -> int:
    """Return how many leading words of `heard` say what is held: where an edit by words costs least, the most of them.

    Another model heard them, of more sound; so all of `held` is in there, in one spelling or another, and goes first.
    """
    words = [normalize(text) for text in heard]
    costs = list(range(len(words) + 1))
    for at, text in enumerate(held):
        word, before, costs[0] = normalize(text), costs[0], at + 1
        for i, other in enumerate(words):
            both = before + (word != other)
            before = costs[i + 1]
            costs[i + 1] = min(both, before + 1, costs[i] + 1)
    return min(range(len(costs)), key=lambda i: (costs[i], -i))


def _timed_like(held: Sequence[_Piece], pieces: Sequence[_Piece], start: int, end: int) -> Sequence[_Piece]:
    """Give pieces the times between these, where those before them have times: a window's all have them, or none."""
    return _timed(pieces, start, end) if pieces and any(piece.start is not None for piece in held) else pieces


def _timed(pieces: Sequence[_Piece], start: int, end: int) -> Sequence[_Piece]:
    """Spread the pieces of a window over its time, by their characters, where it told none."""
    if any(piece.start is not None for piece in pieces):
        return pieces
    chars, end = [0, *accumulate(len(piece.text) for piece in pieces)], max(start, end)
    at = [start + (end - start) * count // chars[-1] for count in chars]
    return [replace(piece, start=at[i], end=at[i + 1]) for i, piece in enumerate(pieces)]


def _pieces(hypothesis: Hypothesis) -> list[_Piece]:
    if not hypothesis.words:
        return [_Piece(text) for text in split_text(hypothesis.text)]
    pieces: list[_Piece] = []
    for word in hypothesis.words:
        texts = split_text(word.text)
        if texts and pieces and word.text[:1].isspace():
            texts[0] = f" {texts[0]}"
        for i, text in enumerate(texts):
            # The characters of a word in a script without spaces share its time evenly.
            at = [word.start + (word.end - word.start) * (i + n) // len(texts) for n in (0, 1)]
            pieces.append(_Piece(text, at[0], at[1], word.confidence, continues=i > 0))
    return pieces
