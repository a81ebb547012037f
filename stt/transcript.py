"""The words of one turn, from the hypotheses of its windows: pure, no clock, no asyncio.

`committed` words lie before the current window and never change. `stable` words are those on which the last two
hypotheses of the window agree, `tentative` ones are the rest; the last hypothesis of a window overrides both.
"""

import re
from collections.abc import Sequence
from typing import Final

from strops import agreed_prefix, find_overlap, normalize
from stt.audio import seconds
from stt.events import Passage
from stt.turns import Window

# Scripts written without spaces: there, each character is a word of its own to align and to agree on.
_UNSPACED: Final = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3000-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uff60"
_WORD: Final = re.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}]+")
_UNSPACED_CHAR: Final = re.compile(rf"[{_UNSPACED}]")

# People speak 2 to 4 words a second; more than this, and the same phrase twice, is a recognizer's stutter.
_RUSHED_WORDS_PER_S: Final = 4.5
# Auctioneers and rappers reach 6: no more words than this can lie in the audio that two windows share.
_FASTEST_WORDS_PER_S: Final = 6.0


def split_words(text: str) -> list[str]:
    """Split at white space, and between the characters of scripts that use none."""
    return _WORD.findall(text)


def join_words(words: Sequence[str]) -> str:
    """Undo `split_words`: a space between words, none between two characters of a script that uses none."""
    parts: list[str] = []
    for word in words:
        if parts and not (_UNSPACED_CHAR.match(word) and _UNSPACED_CHAR.match(parts[-1])):
            parts.append(" ")
        parts.append(word)
    return "".join(parts)


def cut_loop(words: list[str], duration_s: float) -> list[str]:
    """Cut a repetition loop, the way recognizers fail on noise and music: a phrase said over and over to the end.

    A phrase that fills 12 words or more with 4 repetitions or more is a loop; so are 2 or more of it, where all the
    words together are more than anyone can say in `duration_s`. One copy is kept. Words that are nothing but such a
    loop were never spoken: they give no words at all.
    """
    keys = [normalize(word) for word in words]
    rushed = len(words) > 2 + _RUSHED_WORDS_PER_S * duration_s
    for length in range(1, len(words) // 2 + 1):
        # How far back from the end does the text repeat itself with this period?
        at = len(words) - 1
        while at >= length and keys[at] == keys[at - length]:
            at -= 1
        repeated = len(words) - 1 - at
        copies = 1 + repeated // length
        loop = repeated + length
        if (copies >= 4 and loop >= 12) or (rushed and copies >= 2 and loop >= 8):
            start = len(words) - loop
            if start == 0 and copies >= 4:
                return []
            return words[: start + length]
    return words


class Transcript:
    """Owns the words of the running turn."""

    def __init__(self) -> None:
        self._closed: list[str] = []  # words of the windows before the current one, stitched
        self._window: Window | None = None
        self._hypothesis: list[str] = []  # words of the current window
        self._agreed = 0  # leading words of it that the hypothesis before had as well
        self._passages: list[tuple[int, int, int]] = []  # closed windows: first word, start and end sample

    def update(self, window: Window, text: str) -> None:
        """Take a hypothesis of a window; those of a window before the current one come too late and are an error."""
        words = cut_loop(split_words(text), seconds(len(window.audio)))
        if not any(map(normalize, words)):  # punctuation alone is no speech
            words = []
        if self._window is None or window.index != self._window.index:
            self._close()
            self._agreed = 0
        else:
            self._agreed = agreed_prefix(self._hypothesis, words)
        if window.cause != "interim":
            self._agreed = len(words)
        self._window = window
        self._hypothesis = words

    @property
    def text(self) -> str:
        """All words so far."""
        return join_words(self._merged()[0])

    @property
    def committed_chars(self) -> int:
        """Leading characters of `text` that will never change: all that lies before the current window."""
        return self._chars(len(self._closed) - self._in_play())

    @property
    def stable_chars(self) -> int:
        """Leading characters of `text` that the last two hypotheses agree on."""
        merged, kept, dropped = self._merged()
        stable = kept + max(0, self._agreed - dropped) if self._hypothesis else len(merged)
        return max(self._chars(stable), self.committed_chars)

    @property
    def passages(self) -> tuple[Passage, ...]:
        """The text by windows, with the sample indices where each begins and ends."""
        if self._window is None:
            return ()
        merged, kept, _ = self._merged()
        firsts = [*self._passages, (kept, self._window.start + self._window.overlap, self._window.end)]
        ends = [first for first, _, _ in firsts[1:]] + [len(merged)]
        return tuple(
            Passage(start, end, join_words(merged[first:until]))
            for (first, start, end), until in zip(firsts, ends, strict=True)
            if first < until
        )

    def _in_play(self) -> int:
        """How many of the closed words the current window may have heard again."""
        if self._window is None or not self._window.overlap:
            return 0
        return min(len(self._closed), 2 + round(_FASTEST_WORDS_PER_S * seconds(self._window.overlap)))

    def _merged(self) -> tuple[list[str], int, int]:
        """Return the stitched words, how many of the closed ones are kept, how many of the hypothesis are dropped."""
        kept, dropped = len(self._closed), 0
        if in_play := self._in_play():
            head = len(self._closed) - in_play
            if overlap := find_overlap(self._closed[head:], self._hypothesis):
                kept, dropped = head + overlap.prev_end, overlap.new_start
        return self._closed[:kept] + self._hypothesis[dropped:], kept, dropped

    def _close(self) -> None:
        if self._window is None:
            return
        merged, kept, _ = self._merged()
        # A stitch may reach back into the window before: its passage then ends sooner.
        self._passages = [p for p in self._passages if p[0] < kept] + [
            (kept, self._window.start + self._window.overlap, self._window.end)
        ]
        self._closed, self._hypothesis = merged, []

    def _chars(self, words: int) -> int:
        return len(join_words(self._merged()[0][:words]))
