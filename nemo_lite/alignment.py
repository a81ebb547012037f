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
    # What a path has gathered that is in a state from the first frame on: what is in it from frame a to b has the
    # difference. So the best path that ends in a state at b entered it where what it came with, less that, was most.
    gathered = np.concatenate([np.zeros((tokens, 1)), np.cumsum(scores, axis=1)], axis=1)
    paused = PAUSE * np.arange(count + 1)
    # For each token what a path comes with that enters it at a frame, and the same for the pause after it.
    entered, rested = np.full((2, tokens, count + 1), -np.inf)
    skipped = np.ones((tokens, count + 1), np.bool_)  # whether a token is entered from the one before, without a pause
    token = np.full(count + 1, -np.inf)  # the best path that ends with this token before a frame ...
    token[0] = 0.0
    pause = paused  # ... and with the pause after it
    for i in range(tokens):
        np.greater_equal(token, pause, out=skipped[i])
        np.subtract(np.maximum(token, pause), gathered[i], out=entered[i])
        token = np.full(count + 1, -np.inf)
        np.add(np.maximum.accumulate(entered[i, :-1]), gathered[i, 1:], out=token[1:])
        np.subtract(token, paused, out=rested[i])
        pause = np.full(count + 1, -np.inf)
        np.add(np.maximum.accumulate(rested[i, :-1]), paused[1:], out=pause[1:])
    spans: list[tuple[float, float]] = []
    end = count
    if pause[-1] > token[-1]:
        end = _last_best(rested[-1, :end])
    for i in range(tokens - 1, -1, -1):
        begin = _last_best(entered[i, :end])
        spans.append((begin / parts, end / parts))
        end = begin if skipped[i, begin] or not i else _last_best(rested[i - 1, :begin])
    spans.reverse()
    own = [gathered[i, round(b * parts)] - gathered[i, round(a * parts)] for i, (a, b) in enumerate(spans)]
    return Alignment(spans, float(sum(own) / sum(round((b - a) * parts) for a, b in spans)))


def _last_best(values: npt.NDArray[np.float64]) -> int:
    """Where the largest value is, the last of them."""
    return len(values) - 1 - int(np.argmax(values[::-1]))
