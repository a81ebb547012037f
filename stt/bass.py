"""The bass that a telephone leaves out, given back so that the detector knows a voice by it. Pure.

A telephone carries 300 to 3,400 Hz. Without the fundamental Silero takes some voices for none: of 68 ends of turns
heard through one it missed five, with the bass of this module one. The pitch is still there, as the rate at which all
the rest swells (the ear hears it as well, the "missing fundamental"): so the sound is rectified, and 60 to 300 Hz of
that are added, where the recording has next to nothing below 220 Hz so far. Others stay as they are, bit for bit.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from stt.audio import Samples

_FRAME: Final = 512
_LOW, _ALL = slice(2, 8), slice(2, None)  # of a frame's spectrum, in steps of 31 Hz
# Of all power, in the low bins: recordings of speech have -26 dB or more of it, those through a telephone -33 or less.
_NARROW: Final = 10 ** (-30 / 10)
_FORGET: Final = 0.5 ** (0.032 / 5)  # half in 5 s, frame by frame
_SHARE: Final = 1.5  # of the envelope's swing: the voice's bass comes out about as loud as a microphone has it
_STEP: Final = 4  # samples in one of the envelope, which is at 4 kHz
_TAPS: Final = 65
_WINDOW: Final = np.hanning(_FRAME + 1)[:-1].astype(np.float32)


def _band() -> npt.NDArray[np.float64]:
    """Taps that let 60 to 300 Hz of a signal at 4 kHz through, and nothing of its mean; 8 ms late."""
    at, window = np.arange(_TAPS) - _TAPS // 2, np.hanning(_TAPS + 2)[1:-1]
    taps = window * sum(sign * 2 * f * np.sinc(2 * f * at) for f, sign in ((300 / 4000, 1), (60 / 4000, -1)))
    return taps - window * taps.sum() / window.sum()


_BAND: Final = _band()


class Bass:
    """What one stream has below 220 Hz, and the envelope that stands for it."""

    def __init__(self) -> None:
        self._low = self._all = 0.0
        self._envelope = np.zeros(_TAPS)

    def restore(self, frames: npt.NDArray[np.float32]) -> Samples:
        """Return frames of shape [n, 512] with their bass; a frame is judged with those before it and itself."""
        narrow = self._narrow(frames)
        envelope = np.concatenate((self._envelope, np.abs(frames).reshape(-1, _STEP).mean(axis=1)))
        self._envelope = envelope[-_TAPS:]
        if not narrow.any():
            return frames
        swing = np.convolve(envelope, _BAND, "valid")  # [128 n + 1]: the first is the last of the frame before
        bass = np.interp(np.arange(1, frames.size + 1) / _STEP, np.arange(len(swing)), swing).reshape(frames.shape)
        return (frames + _SHARE * narrow[:, None] * bass).astype(np.float32)

    def _narrow(self, frames: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
        """Tell at which frames the recording has next to no bass so far; shape [n]."""
        narrow = np.zeros(len(frames), np.bool_)
        spectrum = np.fft.rfft(frames * _WINDOW, axis=1)
        power = spectrum.real**2 + spectrum.imag**2
        for index, (low, all_) in enumerate(zip(power[:, _LOW].sum(axis=1), power[:, _ALL].sum(axis=1), strict=True)):
            self._low = self._low * _FORGET + float(low)
            self._all = self._all * _FORGET + float(all_)
            narrow[index] = self._low < _NARROW * self._all
        return narrow
