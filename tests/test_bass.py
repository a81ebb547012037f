"""What a detector hears of a voice through a telephone."""

import numpy as np
import pytest
import soxr

from spoken import say, sentences, silence
from stt.audio import Samples
from stt.bass import Bass
from stt.vad import FRAME, SileroVad, SpeechDetector


def band(audio: Samples, low: float, high: float) -> Samples:
    spectrum, at = np.fft.rfft(audio), np.fft.rfftfreq(len(audio), 1 / 16_000)
    spectrum[(at < low) | (at > high)] = 0
    return np.fft.irfft(spectrum, len(audio)).astype(np.float32)


def frames(audio: Samples) -> np.ndarray:
    return audio[: len(audio) // FRAME * FRAME].reshape(-1, FRAME)


def voice(pitch_hz: float, duration_s: float = 2.0) -> Samples:
    """All harmonics up to 4 kHz, falling by 6 dB an octave."""
    at = np.arange(round(16_000 * duration_s)) / 16_000
    harmonics = [np.sin(2 * np.pi * pitch_hz * n * at + n) / n for n in range(1, int(4000 / pitch_hz))]
    return (0.05 * np.sum(harmonics, axis=0)).astype(np.float32)


@pytest.mark.parametrize("pitch_hz", [80, 110, 160, 220])
def test_the_fundamental_comes_back(pitch_hz: float) -> None:
    through = band(voice(pitch_hz), 300, 3400)
    restored = Bass().restore(frames(through)).ravel()
    spectrum = np.abs(np.fft.rfft(restored * np.hanning(len(restored))))
    at = np.fft.rfftfreq(len(restored), 1 / 16_000)
    low = at < 290
    off = at[low][np.argmax(spectrum[low])] % pitch_hz
    assert min(off, pitch_hz - off) < 2, "a harmonic"
    assert spectrum[low].max() > 0.1 * spectrum.max()


@pytest.mark.parametrize(
    "audio",
    [
        voice(110),
        say(sentences(1)[0]),
        np.random.default_rng(0).normal(0, 0.01, 32_000).astype(np.float32),
        silence(1),
    ],
)
def test_what_has_bass_is_left_as_it_is(audio: Samples) -> None:
    assert np.array_equal(Bass().restore(frames(audio)), frames(audio))


def test_it_does_not_depend_on_the_pieces() -> None:
    audio = frames(band(voice(120), 300, 3400))
    whole = Bass().restore(audio)
    bass = Bass()
    pieces = np.concatenate([bass.restore(audio[at : at + 3]) for at in range(0, len(audio), 3)])
    assert np.abs(pieces - whole).max() < 1e-6
    assert len(bass.restore(audio[:0])) == 0


@pytest.mark.parametrize("slower", [1, 4 / 3])
def test_a_voice_on_the_telephone_is_heard_and_the_silence_behind_it(slower: float) -> None:
    """As it is, and a fourth deeper, so that most of its bass is lost on the line."""
    speech = soxr.resample(say(sentences(1)[0]), 1, slower).astype(np.float32)
    line = band(np.concatenate([silence(1), speech, silence(2)]), 300, 3400) * np.float32(0.3)
    scores = SpeechDetector(SileroVad()).feed(line)[1]
    assert np.mean(scores[36 : 31 + len(speech) // FRAME - 4] > 0.5) > 0.85
    assert scores[:28].max() < 0.35
    assert scores[-30:].max() < 0.35
