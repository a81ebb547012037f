"""Turns that end by meaning: the text's rules, the policy over a judge that is scripted, the model itself."""

import numpy as np
import pytest

from scripted import tone
from spoken import silence
from stt.audio import Samples
from stt.endofturn import Meaning, Silence, choose, smart_turn, weights
from stt.endofturn.texts import log_odds
from stt.errors import EngineError, SettingsError
from stt.settings import Eagerness, TurnSettings
from test_end_of_turn import run

ONE = np.concatenate([tone(1), silence(4)])


class Says:
    def __init__(self, *answers: float | Exception) -> None:
        self._answers = list(answers)
        self.asked: list[int] = []

    async def ask(self, audio: Samples, *, patient: bool = False) -> float:
        assert patient
        self.asked.append(len(audio))
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.mark.parametrize(
    ("eagerness", "answers", "gap_s"),
    [
        ("fast", (0.9,), 0.38),
        ("medium", (0.9,), 0.61),
        ("medium", (0.5,), 0.69),
        ("medium", (0.1, 0.9), 0.80),
        ("medium", (0.0,), 1.52),
        ("careful", (0.97,), 0.80),
        ("careful", (0.9,), 1.5),
        ("careful", (0.1,), 3.0),
    ],
)
async def test_the_surer_the_sooner(eagerness: Eagerness, answers: tuple[float, ...], gap_s: float) -> None:
    [final] = await run(Meaning(eagerness, Says(*answers), None), ONE)
    assert 0 <= final.decided_s - final.end_s - gap_s < 0.065  # the frame of the ask, and the next
    assert final.why == "meaning"


async def test_nobody_is_asked_before_the_answer_could_end_the_turn_nor_for_sound_before_it() -> None:
    judge = Says(0.9)
    await run(Meaning("medium", judge), np.concatenate([silence(9), ONE]))
    assert len(judge.asked) == 1
    assert 1.61 * 16_000 <= judge.asked[0] <= 2.2 * 16_000


@pytest.mark.parametrize(("failure", "gap_s"), [(EngineError("damaged"), 0.69), (smart_turn.BusyError("16 wait"), 2.5)])
async def test_a_model_that_fails_or_is_busy_leaves_it_to_silence(failure: Exception, gap_s: float) -> None:
    [final] = await run(Meaning("medium", Says(failure), None), ONE)
    assert 0 <= final.decided_s - final.end_s - gap_s < 0.065  # the frame of the ask, and the next


@pytest.mark.parametrize(
    ("text", "language", "odds"),
    [
        ("is it?", "en", 2),
        ("ist es?", "de", 2),
        ("well,", "en", -2),
        ("", "en", -2),
        ("I went to", "en", -1),
        ("I went to", None, 0),
        ("my number is five five five", "en", -1),
        ("my number is 555 1234", "en", 0),
        ("yes.", "en", 0),
    ],
)
def test_what_the_words_say(text: str, language: str | None, odds: float) -> None:
    assert log_odds(text, language) == odds


def test_the_settings_choose_and_refuse() -> None:
    assert isinstance(choose(TurnSettings()), Silence)
    assert isinstance(choose(TurnSettings(end_of_turn="meaning")), Meaning)
    assert isinstance(choose(TurnSettings(end_of_turn="meaning", end_of_turn_s=None)), Silence)
    with pytest.raises(SettingsError, match="expected eagerness of fast, medium, careful, got brave"):
        TurnSettings(eagerness="brave")  # type: ignore[arg-type]


@pytest.mark.skipif(weights.find() is None, reason="the weights of smart-turn are not here")
async def test_the_model_gives_a_probability() -> None:
    model = smart_turn.shared()
    assert model is not None
    assert 0 <= await model.ask(tone(1)) <= 1


def test_the_log_mel_is_that_of_transformers() -> None:
    from transformers import WhisperFeatureExtractor

    sound = np.random.default_rng(1).normal(0, 0.1, 100_000).astype(np.float32)
    padded = np.concatenate((np.zeros(smart_turn.SAMPLES - len(sound), np.float32), sound))
    extract = WhisperFeatureExtractor(chunk_length=8)
    expected = extract(padded, sampling_rate=16_000, return_tensors="np", do_normalize=True).input_features[0]
    assert np.abs(smart_turn.log_mel(sound) - expected).max() < 1e-4
