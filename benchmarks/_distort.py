"""What sound comes through, for benchmarks: a telephone, noise, a quiet microphone."""

from collections.abc import Callable
from typing import Final

import numpy as np
import soxr

from stt.audio import SAMPLE_RATE, Samples

_LOUD: Final = 0.02  # of the peak: what lies above is speech, for the level of noise
_MU: Final = 255


def telephone(audio: Samples) -> Samples:
    """8 kHz, 300 to 3400 Hz, mu-law."""
    narrow = soxr.resample(audio, SAMPLE_RATE, 8_000)
    spectrum, at = np.fft.rfft(narrow), np.fft.rfftfreq(len(narrow), 1 / 8_000)
    spectrum[(at < 300) | (at > 3_400)] = 0
    x = np.clip(np.fft.irfft(spectrum, len(narrow)), -1, 1)
    code = np.round(np.sign(x) * np.log1p(_MU * np.abs(x)) / np.log1p(_MU) * 127) / 127
    line = np.sign(code) * np.expm1(np.abs(code) * np.log1p(_MU)) / _MU
    return np.resize(soxr.resample(line.astype(np.float32), 8_000, SAMPLE_RATE), len(audio)).astype(np.float32)


def noisy(audio: Samples, db: float) -> Samples:
    """Add pink noise, so many dB below the speech."""
    white = np.fft.rfft(np.random.default_rng(len(audio)).normal(size=len(audio)))
    pink = np.fft.irfft(white / np.sqrt(np.maximum(np.arange(len(white)), 20 * len(audio) / SAMPLE_RATE)), len(audio))
    loud = audio[np.abs(audio) > _LOUD * np.abs(audio).max()]
    level = np.sqrt(np.mean(np.square(loud))) * 10 ** (-db / 20)
    return (audio + pink / pink.std() * level).astype(np.float32)


DISTORTIONS: Final[dict[str, Callable[[Samples], Samples]]] = {
    "telephone": telephone,
    "noise15": lambda audio: noisy(audio, 15),
    "noise5": lambda audio: noisy(audio, 5),
    "quiet": lambda audio: audio * np.float32(10 ** (-25 / 20)),
}
