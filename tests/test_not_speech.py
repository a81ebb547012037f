"""What is no speech, or somebody else's, and the turns of who does speak: real detector, sounds made by rule."""

from collections.abc import Callable

import numpy as np
import pytest

from spoken import say, sentences, silence
from stt.audio import Samples, samples
from stt.settings import TurnSettings
from stt.turns import TurnEnded, TurnSegmenter
from stt.vad import SileroVad, SpeechDetector

SPEECH_RMS, GAP_S = 0.1, 1.5


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


def music(duration_s: float, rms: float) -> Samples:
    """Plucked chords, two notes of melody a second."""
    chords = [(220.0, 277.2, 329.6), (196.0, 246.9, 293.7), (174.6, 220.0, 261.6), (164.8, 207.7, 246.9)]
    at, beats = np.arange(8_000) / 16_000, []
    for beat in range(round(duration_s * 2)):
        notes = (*chords[beat // 4 % 4], chords[beat // 4 % 4][0] * (3 if beat % 2 else 2))
        beats.append(np.sum([np.sin(2 * np.pi * f * k * at) / k for f in notes for k in (1, 2, 3, 4)], axis=0))
    return level(np.concatenate([beat * np.exp(-3 * at) for beat in beats]), rms)


def turns(*parts: Samples) -> list[TurnEnded]:
    """The turns of all this in a room, and of six seconds of it behind."""
    audio = np.concatenate([silence(0.5), *parts, silence(6)])
    audio = (audio + 3e-4 * noise(len(audio))).astype(np.float32)
    events = TurnSegmenter(TurnSettings(end_of_turn_s=GAP_S)).feed(*SpeechDetector(SileroVad()).feed(audio))
    return [event for event in events if isinstance(event, TurnEnded)]


@pytest.mark.parametrize(
    "sound",
    [
        *(lambda rms=rms: breath(rms) for rms in (0.01, 0.03)),
        cough,
        *(lambda rms=rms: music(20, rms) for rms in (0.01, 0.05)),
    ],
)
def test_breaths_coughs_and_music_are_no_turns(sound: Callable[[], Samples]) -> None:
    assert turns(*(part for _ in range(3) for part in (sound(), silence(1.5)))) == []


@pytest.mark.parametrize(
    ("sound", "at_s"),
    [
        (lambda: breath(0.01), 0.4),
        (cough, 0.6),
        (lambda: music(20, 0.05), 0.3),
        (lambda: music(20, 0.1), 0.3),
    ],
)
def test_they_hold_no_turn_up_whose_speaker_is_done(sound: Callable[[], Samples], at_s: float) -> None:
    """Music on hold goes on for as long as it likes."""
    speech = level(say(sentences(1)[0]), SPEECH_RMS)
    [turn] = turns(speech, silence(at_s), sound())
    assert turn.decided - samples(0.5) - len(speech) < samples(GAP_S + 0.2)


def test_who_speaks_over_music_is_done_though_it_goes_on() -> None:
    speech = level(say(sentences(1)[0]), SPEECH_RMS)
    behind = music(len(speech) / 16_000 + 6, SPEECH_RMS / 6)
    over = behind.copy()
    over[: len(speech)] += speech
    [turn] = turns(over)
    assert turn.decided - samples(0.5) - len(speech) < samples(GAP_S + 0.2)


@pytest.mark.parametrize("quieter_db", [10, 30])
def test_another_speaker_is_speech_however_far_away_and_holds_the_turn_until_done(quieter_db: float) -> None:
    """The limit that docs/turn-taking-measured.md tells: one stream is taken for one speaker."""
    first, second = (say(text, seed) for seed, text in enumerate(sentences(2)))
    first = level(first, SPEECH_RMS)
    second = level(second, SPEECH_RMS * 10 ** (-quieter_db / 20))
    [turn] = turns(first, silence(0.3), second)
    assert turn.end == pytest.approx(samples(0.5 + 0.3) + len(first) + len(second), abs=samples(0.2))
