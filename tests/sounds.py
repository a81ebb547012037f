"""Sounds that are no speech, made by rule, and what speech comes through: for tests and benchmarks."""

from collections.abc import Callable
from typing import Final

import numpy as np
import soxr

from spoken import silence
from stt.audio import SAMPLE_RATE, Samples, samples

_LOUD: Final = 0.02  # of the peak: what lies above is speech, for the level of noise
_MU: Final = 255


def level(audio: np.ndarray, rms: float) -> Samples:
    return (audio / np.sqrt(np.mean(np.square(audio))) * rms).astype(np.float32)


def noise(size: int) -> np.ndarray:
    return np.random.default_rng(size).normal(size=size)


def air(duration_s: float, low: float, high: float) -> np.ndarray:
    """Noise of a throat: a hump between two frequencies."""
    size = samples(duration_s)
    spectrum, at = np.fft.rfft(noise(size)), np.fft.rfftfreq(size, 1 / 16_000)
    hump = np.exp(-((np.log(np.maximum(at, 1) / np.sqrt(low * high)) / (np.log(high / low) / 2)) ** 2))
    return np.fft.irfft(spectrum * hump, size)


def breath(rms: float) -> Samples:
    """One second, swelling."""
    return level(air(1.0, 400, 3000) * np.sin(np.pi * np.linspace(0, 1, 16_000)) ** 2, rms)


def cough() -> Samples:
    """Two bursts of air that fall by half in 40 ms."""
    at = np.arange(samples(0.35)) / 16_000
    burst = air(0.35, 300, 4000) * np.exp(-at / 0.06)
    return level(np.concatenate([burst, silence(0.1), 0.6 * burst]), 0.1)


def hum(duration_s: float = 0.5, rms: float = 0.05) -> Samples:
    """A "mm" with the mouth shut: harmonics of a falling 120 Hz, next to nothing above 500 Hz."""
    at = np.arange(samples(duration_s)) / SAMPLE_RATE
    phase = 2 * np.pi * (120 * at - 10 * at**2 / duration_s)
    swell = np.minimum(1, np.minimum(at, duration_s - at) / 0.05)
    return level(swell * np.sum([np.sin(n * phase) / n**2 for n in range(1, 9)], axis=0), rms)


def music(duration_s: float, rms: float) -> Samples:
    """Plucked chords, two notes of melody a second."""
    chords = [(220.0, 277.2, 329.6), (196.0, 246.9, 293.7), (174.6, 220.0, 261.6), (164.8, 207.7, 246.9)]
    at, beats = np.arange(8_000) / 16_000, []
    for beat in range(round(duration_s * 2)):
        notes = (*chords[beat // 4 % 4], chords[beat // 4 % 4][0] * (3 if beat % 2 else 2))
        beats.append(np.sum([np.sin(2 * np.pi * f * k * at) / k for f in notes for k in (1, 2, 3, 4)], axis=0))
    return level(np.concatenate([beat * np.exp(-3 * at) for beat in beats]), rms)


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
