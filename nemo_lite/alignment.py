"""When each token was said: one attention head of the language model, read as a path through the audio.

A language model that writes down what it hears looks, as it predicts a word, at the place in the audio where that word
is said. Not with all its heads, but one of them (`Head`) does so well enough to tell the time: each token gets a
stretch of frames, in order, and what nobody looks at is a pause (Viterbi, one state for each token and one for the
pause after it). Which head it is needs no labels: the one whose path is surest (`calibration.py`).

On canary-toy against exact word times that head has 53 ms (median of |error| of starts), the next best 90 ms; dynamic
time warping over many heads, as Whisper does it, 330 ms.
"""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

Attention = npt.NDArray[np.float32]
"""[tokens, frames] logarithm of how much of its attention each token gives to each frame of the audio."""

PAUSE: Final = -2.2
"""What a frame counts in which no token is said: a token's own frames have -1.4 in the mean, those beside it less."""


class Head(NamedTuple):
    layer: int
    head: int
    """Of its layer's query heads."""


class Alignment(NamedTuple):
    spans: list[tuple[float, float]]
    """For each token where it begins and ends, in frames; frame t stands for what is around the time t."""
    surety: float
    """Mean of the log-attention along the path: 0 if each token looks at its frames and nowhere else."""


def align(attention: Attention) -> Alignment:
    """Find the likeliest path of tokens, in order and with pauses where they fit, through the frames."""
    tokens, frames = attention.shape
    if not tokens or not frames:
        return Alignment([(0.0, 0.0)] * tokens, -np.inf)
    parts = -(-tokens // frames)  # more tokens than frames share them
    scores = np.repeat(attention.astype(np.float64), parts, axis=1)
    count = scores.shape[1]
    place = np.arange(count)
    # best[t]: the best path that ends with frame t in this state; since[t]: where in it this state began.
    entered = np.full(count, -np.inf)
    entered[0] = 0.0
    states: list[npt.NDArray[np.int_]] = []
    skipped: list[npt.NDArray[np.bool_]] = []  # whether a token was entered from the one before, with no pause between
    before = entered  # what a state may be entered with at each frame
    pause, begun = _stay(before, np.full(count, PAUSE), place)
    states.append(begun)
    token = np.full(count, -np.inf)
    for i in range(tokens):
        from_token, from_pause = (np.concatenate([[-np.inf], best[:-1]]) for best in (token, pause))
        if i == 0:
            from_token = entered
        skipped.append(from_token >= from_pause)
        token, begun = _stay(np.maximum(from_token, from_pause), scores[i], place)
        states.append(begun)
        pause, begun = _stay(np.concatenate([[-np.inf], token[:-1]]), np.full(count, PAUSE), place)
        states.append(begun)
    spans: list[tuple[float, float]] = []
    end = count
    if pause[-1] > token[-1]:
        end = int(states[-1][-1])
    for i in range(tokens - 1, -1, -1):
        begin = int(states[2 * i + 1][end - 1])
        spans.append((begin / parts, end / parts))
        end = begin if skipped[i][begin] or not begin else int(states[2 * i][begin - 1])
    spans.reverse()
    own = [scores[i, round(a * parts) : round(b * parts)].sum() for i, (a, b) in enumerate(spans)]
    return Alignment(spans, float(sum(own) / sum(round((b - a) * parts) for a, b in spans)))


def _stay(
    entered: npt.NDArray[np.float64], score: npt.NDArray[np.float64], place: npt.NDArray[np.int_]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int_]]:
    """The best path that is in a state at each frame, which it may enter anywhere; and where that path entered it."""
    total = np.cumsum(score)
    gain = entered - (total - score)
    best = np.maximum.accumulate(gain)
    return best + total, np.maximum.accumulate(np.where(gain >= best, place, 0))
