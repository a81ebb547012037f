"""What is no speech, or somebody else's, and the turns of who does speak: real detector, sounds made by rule."""

from collections.abc import Callable

import numpy as np
import pytest

from sounds import breath, cough, level, music, noise
from spoken import say, sentences, silence
from stt.audio import Samples, samples
from stt.settings import TurnSettings
from stt.turns import TurnEnded, TurnSegmenter
from stt.vad import SileroVad, SpeechDetector

SPEECH_RMS, GAP_S = 0.1, 1.5


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
