"""What a detector hears of quiet recordings."""

import numpy as np
import pytest

from spoken import say, sentences, silence
from stt.level import Level
from stt.vad import FRAME, SileroVad, SpeechDetector


def frames(*rms: float) -> np.ndarray:
    return np.tile(np.array(rms, np.float32)[:, None], FRAME)


@pytest.mark.parametrize(
    ("heard", "expected"),
    [
        ([0.1, 0.1], [1, 1]),  # as loud as it should be: untouched, bit for bit
        ([0.01, 0.01], [10, 10]),  # quiet so far
        ([0.05], [2]),
        ([0.0, 0.00001], [18, 18]),  # and no more than that
        ([0.0001, 0.1, 0.001], [18, 1, 1]),  # once somebody has spoken up, quiet is quiet
    ],
)
def test_what_has_been_quiet_so_far_is_amplified(heard: list[float], expected: list[float]) -> None:
    assert Level().gains(frames(*heard)) == pytest.approx(expected, rel=0.01)


def test_loudness_is_forgotten_slowly() -> None:
    level = Level()
    level.gains(frames(0.3))
    quiet = level.gains(frames(*[0.001] * 3_000))  # 96 s
    assert quiet[590] == 1  # 19 s
    assert quiet[-1] == pytest.approx(18, rel=0.01)


def test_gains_do_not_depend_on_the_pieces() -> None:
    audio = frames(*np.random.default_rng(0).uniform(0, 0.02, 200))
    whole = Level().gains(audio)
    level = Level()
    assert np.array_equal(np.concatenate([level.gains(audio[at : at + 7]) for at in range(0, 200, 7)]), whole)
    assert len(Level().gains(audio[:0])) == 0


@pytest.mark.parametrize("peak_db", [0, -30, -50, -56])
def test_one_very_quiet_speaker_is_heard(peak_db: float) -> None:
    speech = say(sentences(1)[0])
    speech = speech * (10 ** (peak_db / 20) / np.abs(speech).max())
    hiss = np.random.default_rng(0).normal(0, 1e-5, 16_000 * 3 + len(speech))
    audio = (np.concatenate([silence(1), speech, silence(2)]) + hiss).astype(np.float32)
    given, scores = SpeechDetector(SileroVad()).feed(audio)
    assert np.mean(scores[36 : 31 + len(speech) // FRAME - 4] > 0.5) > 0.85
    assert scores[:28].max() < 0.35
    assert scores[-30:].max() < 0.35
    assert np.array_equal(np.concatenate(given), audio[: len(given) * FRAME])  # the engine gets it as it is


@pytest.mark.parametrize("rms", [1e-5, 1e-4, 1e-3, 0.01])
def test_hiss_is_not_amplified_to_speech(rms: float) -> None:
    hiss = np.random.default_rng(0).normal(0, rms, 16_000 * 20).astype(np.float32)
    assert SpeechDetector(SileroVad()).feed(hiss)[1].max() < 0.35
