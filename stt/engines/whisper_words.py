"""Words with times out of an engine's tokens and where its attention saw them: pure.

The attention says at which moment each token begins. That is no stopwatch: a pause goes to the word before it or to the
comma, and a word seems to last until the next one begins. So time is counted in sound alone: silence, by level and by
the voice detector, is taken out, the words share what is left, and each gets its place in the recording back.

Against exact times of 52 spoken sentences (`tests/test_whisper_words.py`): starts 53 ms and ends 60 ms off in the
median, 140 ms in nine cases of ten, the same at 15 dB of noise and over pauses; the attention alone 60 and 78 ms, with
19 of 281 words reaching into pauses.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from stt.audio import Samples, samples, seconds
from stt.words import Word, is_opening, is_unspaced, may_break

FRAME_S: Final = 0.01
_FRAME: Final = samples(FRAME_S)
_LEVEL: Final = samples(0.025)  # that the level of a frame is taken over
_BLOCK: Final = 40  # samples, of which a level and the way to the next are made: 10 and 4 of them
_OVER_HISS: Final = 2.0  # sound is 6 dB above what hiss there is,
_OVER_PEAK: Final = 0.03  # and not 30 dB below what is loud
# No word goes on across a silence of this length; a stop closes the mouth for up to 0.15 s.
_PAUSE: Final = samples(0.2) // _FRAME
# Nobody says a letter in less, and no word: the shortest vowels last 40 ms.
_LEAST_PER_LETTER: Final = 1.5  # frames
_LEAST: Final = 4.0
# Between words that follow at once; without it, ends were 55 ms late in the median, and 15 ms with it.
_APART: Final = samples(0.04)
# Log-odds of a word from those of its tokens' product, which is right more often than it thinks: fitted on 2,439 spoken
# words in four levels of noise, half of them after names it did not know (docs/words.md).
_SLOPE, _OFFSET = 1.23, 0.34
_SUREST: Final = 1e-6  # nothing is closer to 0 or 1


@dataclass(frozen=True, slots=True)
class TimedToken:
    """One token, or several that make up whole characters."""

    text: str
    start_s: float
    end_s: float
    probability: float


def characters(tokens: Sequence[int], decode: Callable[[Sequence[int]], str]) -> Iterator[tuple[int, str]]:
    """Take tokens apart into the fewest that make up whole characters: where each such group ends, and its text.

    Tokens are bytes: what is no whole character has U+FFFD in its place.
    """
    at = 0
    for end in range(1, len(tokens) + 1):
        text = decode(tokens[at:end])
        if not text.endswith("\ufffd") or end == len(tokens):
            yield end, text
            at = end


def timed_words(text: str, tokens: Iterable[TimedToken], sound: npt.NDArray[np.bool_], start: int) -> tuple[Word, ...]:
    """Make the words of `text`, whose texts joined are `text`; none where the tokens are not those of the text.

    Args:
        text: what was said, without white space around it.
        tokens: those of the text, in order; white space need not be the same, and there may be more of them.
        sound: in which frames of `FRAME_S` anything is heard (`sound_in`); token times count from the first.
        start: sample index at which that one begins in the stream.

    Returns:
        Words in order and apart. `confidence` is how probable the word is to be right, see `calibrated`.

    """
    groups = _grouped(text, list(tokens))
    if not groups:
        return ()
    spans = [(group[0].start_s, _end_s(group)) for _, group in groups]
    edges = _edges(spans, [sum(map(str.isalnum, piece)) for piece, _ in groups], sound)
    # Sample index of each frame of sound, so that a place counted in sound becomes one in the recording.
    frames = np.flatnonzero(sound) * _FRAME
    words = []
    for (piece, group), (low, high) in zip(groups, pairwise(edges), strict=True):
        first = frames[min(math.floor(low), len(frames) - 1)] + round((low - math.floor(low)) * _FRAME)
        at = math.ceil(high) - 1
        last = frames[max(at, 0)] + round((high - at) * _FRAME)
        confidence = math.prod(token.probability for token in group if _spoken(token.text))
        words.append(Word(piece, start + int(first), start + max(int(first), int(last)), calibrated(confidence)))
    return tuple(_apart(words))


def calibrated(probability: float) -> float:
    """Return how often words are right whose tokens have this probability together, punctuation aside."""
    p = min(max(probability, _SUREST), 1 - _SUREST)
    return 1 / (1 + math.exp(-_SLOPE * math.log(p / (1 - p)) - _OFFSET))


def _grouped(text: str, tokens: list[TimedToken]) -> list[tuple[str, list[TimedToken]]]:
    """Give each word of the text its tokens."""
    found: list[tuple[str, list[TimedToken]]] = []
    at = 0  # in the text
    for token in tokens:
        begin = at
        for char in token.text:
            if char.isspace():
                continue
            while at < len(text) and text[at].isspace():
                at += 1
            if at == len(text):
                break
            if text[at] != char:
                return []
            at += 1
        piece = text[begin:at]
        if not piece:
            continue
        # A new word: after white space, and where the engine says so in a script without.
        if not found or piece[0].isspace() or (is_unspaced(piece[0]) and may_break(found[-1][0], piece)):
            found.append((piece, [token]))
        else:
            found[-1] = found[-1][0] + piece, [*found[-1][1], token]
    if at < len(text):
        return []
    words: list[tuple[str, list[TimedToken]]] = []
    for (
        piece,
        group,
    ) in found:  # punctuation by itself is no word: what opens belongs to the next, else to the one before
        joins = not _spoken(words[-1][0]) or (not _spoken(piece) and not is_opening(piece[-1])) if words else False
        if joins:
            words[-1] = words[-1][0] + piece, words[-1][1] + group
        else:
            words.append((piece, group))
    if len(words) > 1 and not _spoken(words[-1][0]):
        piece, group = words.pop()
        words[-1] = words[-1][0] + piece, words[-1][1] + group
    return words if words and _spoken(words[0][0]) else []


def _spoken(text: str) -> bool:
    return any(char.isalnum() for char in text)


def _end_s(group: list[TimedToken]) -> float:
    """Where a word ends: punctuation after it is a pause."""
    return max((token.end_s for token in group if _spoken(token.text)), default=group[-1].end_s)


def sound_in(audio: Samples, silences: Iterable[tuple[int, int]] = (), start: int = 0) -> npt.NDArray[np.bool_]:
    """Tell the frames of `FRAME_S` with sound in them; all of them where there is none.

    `silences`: where the voice detector heard nobody, in sample indices of the stream; `start`: that of `audio[0]`.
    """
    count = max(1, len(audio) // _FRAME)
    blocks = np.pad(audio, (0, -len(audio) % _BLOCK)).reshape(-1, _BLOCK)
    energy = np.concatenate([[0.0], np.cumsum(np.einsum("ij,ij->i", blocks, blocks), dtype=np.float64)])
    middles = np.arange(count) * _FRAME + _FRAME // 2
    low, high = (np.clip((middles + side * _LEVEL // 2) // _BLOCK, 0, len(blocks)) for side in (-1, 1))
    level = np.sqrt((energy[high] - energy[low]) / np.maximum((high - low) * _BLOCK, 1))
    hiss, peak = np.interp(
        (0.05, 0.95), np.linspace(0, 1, count), np.sort(level)
    )  # percentiles, in a tenth of the time
    sound = level > min(max(hiss * _OVER_HISS, peak * _OVER_PEAK), peak / 2)
    heard = sound.copy()
    for begin, end in silences:
        heard[max(0, math.floor((begin - start) / _FRAME)) : max(0, math.ceil((end - start) / _FRAME))] = False
    return heard if heard.any() else sound if sound.any() else np.ones(count, np.bool_)


def _edges(spans: Sequence[tuple[float, float]], letters: Sequence[int], sound: npt.NDArray[np.bool_]) -> list[float]:
    """Return where the words begin, and the last one ends, in frames of sound."""
    before = np.concatenate([[0], np.cumsum(sound)])  # frames of sound before each frame

    def counted(time_s: float) -> float:
        at = min(max(time_s / seconds(_FRAME), 0.0), float(len(sound)))
        whole = int(at)
        return float(before[whole]) + (at - whole if whole < len(sound) and sound[whole] else 0.0)

    edges = list(accumulate([counted(start_s) for start_s, _ in spans] + [counted(spans[-1][1])], max))
    # Who has next to no time was heard together with a neighbour, the one that seems slow: they share by their letters.
    for i, count in enumerate(letters):
        if edges[i + 1] - edges[i] < _LEAST_PER_LETTER * count and len(letters) > 1:
            left = (edges[i] - edges[i - 1]) / letters[i - 1] if i else -1.0
            right = (edges[i + 2] - edges[i + 1]) / letters[i + 1] if i + 2 < len(edges) else -1.0
            if left >= right:
                edges[i] = edges[i - 1] + (edges[i + 1] - edges[i - 1]) * letters[i - 1] / (letters[i - 1] + count)
            else:
                edges[i + 1] = edges[i] + (edges[i + 2] - edges[i]) * count / (count + letters[i + 1])
    for pause in _pauses(sound, before):
        within = next((i for i, (a, b) in enumerate(pairwise(edges)) if a < pause < b), None)
        if within is not None:
            a, b = edges[within], edges[within + 1]
            edges[within if pause - a < b - pause else within + 1] = pause
    # And everyone has some time: forwards, then back from the end of the sound.
    total = float(before[-1])
    least = min(_LEAST, total / len(spans))
    for i in range(1, len(edges)):
        edges[i] = max(edges[i], edges[i - 1] + least)
    edges[-1] = min(edges[-1], total)
    for i in range(len(edges) - 2, -1, -1):
        edges[i] = max(0.0, min(edges[i], edges[i + 1] - least))
    return edges


def _pauses(sound: npt.NDArray[np.bool_], before: npt.NDArray[np.int_]) -> list[float]:
    """Return where the long silences are, counted in sound."""
    edges = np.flatnonzero(np.diff(sound.astype(np.int8)))
    return [float(before[a + 1]) for a, b in pairwise(edges) if b - a >= _PAUSE and not sound[a + 1]]


def _apart(words: Sequence[Word]) -> list[Word]:
    found = list(words)
    for i, (word, after) in enumerate(pairwise(words)):
        if after.start - word.end < _APART:
            least = word.start + (word.end - word.start) // 2
            found[i] = replace(word, end=min(after.start, max(least, after.start - _APART)))
    return found
