"""Turns that end by meaning: the text's rules, the policy over a judge that is scripted, the model itself."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from scripted import tone
from spoken import silence
from stt.audio import Samples, samples
from stt.endofturn import Meaning, Pause, Said, Silence, choose, fused, smart_turn, weights
from stt.endofturn.meaning import PACES, Pace
from stt.endofturn.texts import read
from stt.errors import EngineError, SettingsError
from stt.events import TurnCompleted
from stt.settings import Eagerness, TurnSettings
from stt.vad import FRAME
from test_end_of_turn import run

ONE = np.concatenate([tone(1), silence(4)])


class Says:
    def __init__(self, *answers: float | Exception, live: bool = False) -> None:
        self._answers = list(answers)
        self._live = live
        self.asked: list[int] = []

    async def ask(self, audio: Samples, *, patient: bool = False) -> float:
        assert patient is not self._live
        self.asked.append(len(audio))
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


async def judged(
    policy: Meaning, said: Said, at_s: float = 0.6, before: str | None = "en", *, comes: bool = False
) -> tuple[float | None, float | None]:
    """Let a policy follow a pause live: the silence that it finds enough, and the last probability.

    What was said is known after so much silence, and `before` it the language; `comes`: it is under way until then.
    """

    def known() -> Said:
        return said if pause.now >= samples(at_s) else Said(language=before)

    start = -samples(fused.SPOKEN_S)
    pause = Pause(0, start, 0, samples(0.2), known, lambda most: np.zeros(most, np.float32), comes=lambda: comes)
    judging = asyncio.create_task(policy.judge(pause))
    judging.add_done_callback(lambda _: pause.finish())
    for now in range(samples(0.2), samples(3), FRAME):
        pause.advance(now)
        await pause.at_rest()
        if judging.done():
            break
    return await judging, pause.probability


def waited_s(final: TurnCompleted) -> float:
    return final.decided_s - final.end_s


@pytest.mark.parametrize("eagerness", ["fast", "medium", "careful"])
async def test_the_surer_the_sooner(eagerness: Eagerness) -> None:
    pace = PACES[eagerness]
    finals = [(await run(Meaning(eagerness, Says(p)), ONE))[0] for p in (0.99, 0.6, 0.2, 0.01)]
    gaps = [waited_s(final) for final in finals]
    assert gaps == sorted(gaps)
    assert pace.delay_s <= gaps[0] < gaps[-1] < pace.latest_s + 0.065
    assert {final.why for final in finals} == {"meaning"}


@pytest.mark.parametrize(("pace", "gap_s"), [(Pace(1.0, 0.3, 1.1), 1.1), (Pace(0.01, 0.7, 2.0), 0.7)])
async def test_the_delay_and_the_longest_silence_hold_whatever_it_means(pace: Pace, gap_s: float) -> None:
    [final] = await run(Meaning(pace, Says(0.99)), ONE)
    assert 0 <= waited_s(final) - gap_s < 0.065  # the frame of the ask, and the next


async def test_nobody_is_asked_before_the_answer_could_end_the_turn_nor_for_sound_before_it() -> None:
    judge = Says(0.9)
    await run(Meaning("medium", judge), np.concatenate([silence(9), ONE]))
    assert len(judge.asked) == 1
    assert 1.61 * 16_000 <= judge.asked[0] <= 2.2 * 16_000


async def test_each_pause_is_asked_about_once_and_a_short_one_never() -> None:
    judge = Says(0.5)
    short, long = silence(0.25), silence(0.7)
    policy = Meaning(Pace(0.99, 0.3, 2.5), judge)
    assert len(await run(policy, np.concatenate([tone(1), short, tone(1), long, tone(1), silence(4)]))) == 1
    assert len(judge.asked) == 2


async def test_a_model_that_fails_leaves_it_to_silence_and_text() -> None:
    [failed] = await run(Meaning("medium", Says(EngineError("damaged"))), ONE)
    [missing] = await run(Meaning("medium", None), ONE)
    assert waited_s(failed) == waited_s(missing) < PACES["medium"].latest_s


async def test_a_model_that_is_busy_leaves_it_to_the_text_and_without_one_to_silence() -> None:
    def busy() -> Meaning:
        return Meaning("medium", Says(smart_turn.BusyError("16 wait"), live=True), silence_s=1.0, eager=True)

    assert (await judged(busy(), Said(language="en")))[0] == 1.0
    assert (await judged(busy(), Said("What is it?", 0, "en")))[0] == PACES["medium"].enough_s(
        None, read("What is it?")
    )
    assert (await judged(busy(), Said("What is it?", 0, "en"), at_s=1.2))[0] == 1.0, "that came too late"


@pytest.mark.parametrize("eagerness", ["fast", "medium"])
async def test_a_text_that_is_under_way_is_waited_for_and_counts(eagerness: Eagerness) -> None:
    """A turn cannot be told before it; where the engine is behind, silence ends turns as it would without meaning."""
    sure = Meaning(eagerness, Says(0.99, live=True), silence_s=1.5)
    whole, more = Said("That is all I wanted to say.", 0, "en"), Said("That is all I wanted and", 0, "en")
    by_sound, _ = await judged(sure, whole, at_s=1.2)
    assert by_sound is not None
    assert by_sound < 0.7
    enough_s = PACES[eagerness].enough_s
    assert (await judged(sure, whole, at_s=1.2, comes=True))[0] == enough_s(0.99, read(whole.text)) < 1.2, "at once"
    assert (await judged(sure, more, at_s=0.7, comes=True))[0] == enough_s(0.99, read(more.text)) > by_sound + 0.3
    assert (await judged(sure, whole, at_s=2.0, comes=True))[0] == 1.5


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("is it?", "en", (True, False, False)),
        ("ist es?", "de", (True, False, False)),
        ("well,", "en", (False, True, False)),
        ("", "en", (False, True, False)),
        ("-", None, (False, True, False)),
        ("I went to", "en", (False, True, False)),
        ("I went to", None, (False, False, False)),
        ("I was, um...", "en", (False, True, False)),
        ("my number is five five five", "en", (False, False, True)),
        ("My number is 555.", "en", (False, False, True)),
        ("My number is 555.", None, (False, False, False)),
        ("It's 303, 5, 5", "en", (False, False, True)),
        ("My number is 555 1234", "en", (False, False, False)),
        ("It's 2019.", "en", (False, False, False)),
        ("We ordered twenty four", "en", (False, False, False)),
        ("That's K O W", "en", (False, False, True)),
        ("yes.", "en", (False, False, False)),
        ("Mm-hmm.", "en", (False, False, False)),
        ("Mm.", "en", (False, True, False)),
        ("Hmm.", "en", (False, True, False)),
    ],
)
def test_what_the_words_say(text: str, language: str | None, expected: tuple[bool, bool, bool]) -> None:
    reading = read(text, language)
    assert (reading.question, reading.goes_on, reading.number) == expected


@pytest.mark.parametrize(
    ("text", "ended", "expected"),
    [
        ("I want to go to.", 0.7, True),
        ("I want to go to.", None, True),
        ("I can help you with that.", 0.99, False),
        ("What are you looking at?", 0.5, False),
        ("I went to the.", 0.99, True),
        ("Because I'm?", 0.99, True),
    ],
)
def test_words_that_may_end_a_sentence_do_where_the_engine_is_sure(text: str, ended: float, expected: bool) -> None:
    assert read(text, "en", ended).goes_on is expected


def test_words_are_counted_in_any_script_and_long_texts_say_no_more() -> None:
    assert read("").words == 0
    assert read("今日は駅に行きます", "ja").words == pytest.approx(read("I go to the", "en").words, abs=0.2)
    assert read("word " * 12).words == read("word " * 500).words


def test_a_question_is_over_sooner_than_a_sentence_and_that_sooner_than_half_of_one() -> None:
    said = ("What would you like to eat?", "I would like to eat.", "I would like to eat the", "")
    gaps = [PACES["medium"].enough_s(0.7, read(text)) for text in said]
    assert gaps == sorted(gaps)
    assert len(set(gaps)) == len(gaps)


@pytest.mark.parametrize("text", ["My number is five five five", "My number is 555.", "You can reach me at 617. 555."])
def test_who_dictates_a_number_has_two_seconds_by_careful_however_final_it_sounds(text: str) -> None:
    for ended in (None, 0.9999):
        assert PACES["careful"].enough_s(0.99, read(text, "en", ended)) > 2.2


@pytest.mark.parametrize(
    "text", ["Yes.", "No, thank you.", "Yeah, that's right.", "Mm-hmm.", "Mm-hm", "Mhm.", "Uh-huh.", "Mm-hmm, please."]
)
def test_an_answer_is_a_whole_turn(text: str) -> None:
    for ended in (None, 0.8):  # the detector hears silence 0.1 s late
        assert PACES["medium"].enough_s(0.5, read(text, "en", ended)) < 0.6
    assert PACES["medium"].enough_s(0.9, read("Okay.")) > 0.7


@pytest.mark.parametrize("text", ["I went home.", "Okay."])
def test_the_engines_doubt_about_a_full_stop_makes_it_later(text: str) -> None:
    """It writes one behind nearly everything: what it would have written instead tells."""
    gaps = [PACES["medium"].enough_s(0.7, read(text, "en", ended)) for ended in (1.0, 0.99, 0.9, 0.5, 0.1, 0.0)]
    assert gaps == sorted(gaps)
    assert gaps[0] < gaps[-1] / 2
    assert gaps[0] < PACES["medium"].enough_s(0.7, read(text, "en", None)) < gaps[-1]


def test_who_has_just_begun_is_given_time_until_the_text_is_there() -> None:
    gaps = [PACES["fast"].enough_s(0.9, None, spoken_s) for spoken_s in (60, fused.SPOKEN_S, 1.5, 0.4, 0.1)]
    assert gaps[0] == gaps[1] < gaps[2] < gaps[3] <= gaps[4]


def test_what_is_not_known_adds_nothing() -> None:
    assert {known: tuple(names) for known, names in fused.weights().items()} == {
        "heard": fused.HEARD,
        "read": fused.READ,
    }
    assert fused.features(fused.AFTER_S, None, None) == [1.0] + [0.0] * 3
    assert fused.features(fused.AFTER_S, None, read("word " * 7))[-1] == 0.0
    odds = [fused.log_odds(silence_s, 0.7, read("I see.")) for silence_s in (0.3, 0.5, 1, 2)]
    assert odds == sorted(odds)  # patience pays


@pytest.mark.parametrize("in_time", [True, False])
async def test_the_text_counts_from_when_it_is_there(in_time: bool) -> None:
    """Live, at most until the sound alone would have ended the turn: nobody waits for a text."""
    pace, text = PACES["medium"], read("What is it?") if in_time else None
    enough_s, probability = await judged(
        Meaning(pace, Says(0.1, live=True)), Said("What is it?", 0, "en"), 0.6 if in_time else 2.4
    )
    assert enough_s == pace.enough_s(0.1, text)
    assert probability == fused.probability(fused.log_odds(fused.AFTER_S, 0.1, text))


@pytest.mark.parametrize(("language", "sound"), [("en", 0.1), ("de", 0.1), (None, 0.1), ("sw", None)])
@pytest.mark.parametrize("known_before", [True, False])
async def test_the_language_counts_from_when_it_is_known(
    language: str | None, sound: float | None, known_before: bool
) -> None:
    """Its rules of words, and whether the sound says anything: smart-turn was not made for all."""
    judge, pace = Says(0.1, live=True), PACES["careful"]
    enough_s, _ = await judged(
        Meaning(pace, judge), Said("I went to", 0, language), before=language if known_before else None
    )
    assert enough_s == pace.enough_s(sound, read("I went to", language))
    assert bool(judge.asked) is (sound is not None or not known_before)


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
    assert 0 <= await model.ask(tone(1), patient=True) <= 1


@pytest.mark.skipif(weights.find() is None, reason="the weights of smart-turn are not here")
def test_softmax_is_computed_in_floats(tmp_path: Path) -> None:
    import onnxruntime

    path = weights.find()
    assert path is not None

    def runs(model: bytes) -> bytes:
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / "runs.onnx")
        options.log_severity_level = 3  # it warns that this file is for this machine
        onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        return (tmp_path / "runs.onnx").read_bytes()

    given = path.read_bytes()
    assert b"QLinearSoftmax" in runs(given), "there is no need for this any more"
    made = runs(smart_turn.float_softmax(given))
    assert b"QLinearSoftmax" not in made
    assert b"QLinearMatMul" in made


def test_the_log_mel_is_that_of_transformers() -> None:
    from transformers import WhisperFeatureExtractor

    sound = np.random.default_rng(1).normal(0, 0.1, 100_000).astype(np.float32)
    padded = np.concatenate((np.zeros(smart_turn.SAMPLES - len(sound), np.float32), sound))
    extract = WhisperFeatureExtractor(chunk_length=8)
    expected = extract(padded, sampling_rate=16_000, return_tensors="np", do_normalize=True).input_features[0]
    assert np.abs(smart_turn.log_mel(sound) - expected).max() < 1e-4
