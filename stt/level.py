"""The level of a recording, so that the detector hears a quiet one, and one in noise. Pure.

Silero hears less and less below peaks of -40 dBFS: of a speaker at -50 dBFS a third of the frames is lost, at -60 dBFS
nearly all; and in noise it misses words that it knows when they are louder (of 68 ends of turns 3 at 15 dB, amplified
one). What counts is the level of the recording, not of the world: while a recording has been quiet so far, its frames
are amplified for the detector (and for it alone); once somebody has spoken up, whispers stay whispers for a while.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

_ENOUGH: Final = 0.1  # rms of a frame, -20 dBFS: the loud frames of speech with peaks of about -10 dBFS
# 25 dB: of 68 ends of turns none is lost when the recording is so much quieter, with 20 dB one is; a recording of
# nothing but hiss stays quieter than a whisper.
_MOST: Final = 18.0
_DECAY: Final = 10 ** (-0.5 / 20 * 0.032)  # 0.5 dB a second, frame by frame


class Level:
    """The loudest of one stream's frames (32 ms), slowly forgotten."""

    def __init__(self) -> None:
        self._loudest = 0.0

    def gains(self, frames: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return the factor, from 1 to 18, by which to amplify each frame of shape [n, samples]; shape [n].

        A frame is judged with those before it and itself: nothing is held back.
        """
        gains = np.ones(len(frames), np.float32)
        for index, rms in enumerate(np.sqrt(np.einsum("nk,nk->n", frames, frames) / max(1, frames.shape[1]))):
            self._loudest = max(float(rms), self._loudest * _DECAY)
            if self._loudest < _ENOUGH:
                gains[index] = min(_MOST, _ENOUGH / max(self._loudest, _ENOUGH / _MOST))
        return gains
