"""Speech that no word of a hypothesis stands for: pure.

A decoder may leave out whole sentences without a sign of doubt, where two people or two levels share a window. Where
its words lie in the audio gives it away: a word that lasts for seconds, with sound in them, stands beside something
that is not written.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from stt.audio import Samples, samples, seconds

Span = tuple[float, float]
"""Start and end in seconds."""

# In 90 windows of one to four voices, words and the pause after them lasted 1.6 s at most where nothing was left out,
# and 1.8 s or more where a sentence was.
_LONG_S: Final = 1.7
# So much sound has to be in it: a word that a pause follows has less.
_SOUND_S: Final = 1.0
# Above what hiss there is, by amplitude: 5 dB. Softer speakers than 46 dB below the loudest are not looked for.
_OVER_HISS: Final = 1.8
_OVER_PEAK: Final = 0.005
_FRAME: Final = samples(0.02)
_PAUSE_S: Final = 0.1
_NEAR_S: Final = 0.5


def unheard(words: Sequence[Span], audio: Samples) -> list[Span]:
    """Find where there is sound for more than one word, and only one (or none) stands for it.

    Args:
        words: where each token of the hypothesis lies, in order; what follows the last one counts as well.
        audio: mono, 16 kHz.

    """
    end_s = seconds(len(audio))
    spans = [*words, (words[-1][1] if words else 0.0, end_s)]
    long = [(start, end) for start, end in spans if end - start >= _LONG_S]
    if not long:
        return []
    loud = _loud(audio)
    frame_s = seconds(_FRAME)
    return [
        (start, end)
        for start, end in long
        if np.count_nonzero(loud[round(start / frame_s) : round(end / frame_s)]) * frame_s >= _SOUND_S
    ]


def quiet_spot(gap: Span, audio: Samples) -> int | None:
    """Return the sample in the middle of the longest pause in or near a gap; `None`: there is none."""
    loud = _loud(audio)
    first = max(0, round((gap[0] - _NEAR_S) / seconds(_FRAME)))
    last = min(len(loud), round((gap[1] + _NEAR_S) / seconds(_FRAME)))
    best: tuple[int, int] = (0, 0)  # frames, middle
    since = None
    for at in range(first, last):
        if loud[at]:
            since = at if since is None else since
            # A pause lies between two sounds: what is silent at either end of the audio splits nothing.
            best = max(best, (at - since - 1, (at + since) // 2))
            since = at
    return best[1] * _FRAME if best[0] * seconds(_FRAME) >= _PAUSE_S else None


def _loud(audio: Samples) -> npt.NDArray[np.bool_]:
    """Tell the frames of 20 ms that are more than hiss."""
    frames = audio[: len(audio) // _FRAME * _FRAME].reshape(-1, _FRAME)
    level = np.sqrt(np.mean(np.square(frames), axis=1))
    if not len(level):
        return np.zeros(0, np.bool_)
    hiss, peak = np.percentile(level, 2), np.percentile(level, 95)
    return level > max(float(hiss) * _OVER_HISS, float(peak) * _OVER_PEAK, 1e-5)
