"""Whether a sentence ends with a text, by what Whisper would write after its last word."""

import math

import ctranslate2
import numpy as np
import pytest

from spoken import say, silence
from stt.engines.whisper import Whisper
from stt.engines.whisper_endings import Endings
from stt.recognition import Hypothesis, Kind, Utterance

VOCABULARY = {".": 0, "?": 1, " ?": 2, ",": 3, "...": 4, "-": 5, "yes": 6}


def step(**probabilities: float) -> ctranslate2.StorageView:
    """Logits of a step by the names of marks; what is not named is next to impossible."""
    names = {"stop": ".", "question": "?", "comma": ",", "dots": "...", "word": "yes"}
    logits = np.full(8, -30.0, np.float32)
    for name, p in probabilities.items():
        logits[VOCABULARY[names[name]]] = math.log(p)
    return ctranslate2.StorageView.from_array(logits)


ENDINGS = Endings(lambda text: [VOCABULARY[text]] if text in VOCABULARY else [7, 7])
YES, END = step(word=1.0), step(word=0.01)


@pytest.mark.parametrize(
    ("tokens", "logits", "expected"),
    [
        ([6, 0], [YES, step(stop=0.6, comma=0.2), END], 0.75),
        ([6, 0], [YES, step(stop=0.3, question=0.3, comma=0.1, dots=0.1), END], 0.75),
        ([6, 3], [YES, step(stop=0.2, comma=0.6), END], 0.25),
        ([6], [YES, step(stop=0.2, comma=0.2)], 0.5),  # it wrote no mark
        ([6, 0], [YES, step(stop=1.0), END], 1.0),
        ([6, 0], [YES, END], None),  # cut at the most tokens
        ([], [END], None),
    ],
)
def test_marks_that_end_a_sentence_are_held_against_those_that_go_on(
    tokens: list[int], logits: list[ctranslate2.StorageView], expected: float | None
) -> None:
    assert ENDINGS.ended(tokens, logits) == (None if expected is None else pytest.approx(expected, abs=1e-3))


@pytest.fixture(scope="module")
def whisper() -> Whisper:
    return Whisper()


def heard(whisper: Whisper, text: str, kind: Kind = "speculative", keep_s: float | None = None) -> Hypothesis:
    """What it hears of a sentence, or of its first seconds, and the silence of a pause."""
    said = say(text)[: None if keep_s is None else round(keep_s * 16_000)]
    [found] = whisper.transcribe([Utterance(np.concatenate([silence(0.3), said, silence(0.2)]), kind=kind)])
    return found


def test_a_whole_sentence_ends_more_surely_than_the_beginning_of_one(whisper: Whisper) -> None:
    whole = heard(whisper, "We ordered seven chairs for the office.")
    begun = heard(whisper, "We ordered seven chairs, nine tickets, three laptops and a printer.", keep_s=1.5)
    assert whole.ended is not None
    assert begun.ended is not None
    assert whole.ended > 0.9
    assert begun.ended < whole.ended


def test_it_changes_no_text_and_only_pauses_pay_for_it(whisper: Whisper) -> None:
    text = "We ordered seven chairs for the office."
    found = {kind: heard(whisper, text, kind) for kind in ("speculative", "final")}
    assert found["speculative"].text == found["final"].text
    assert found["final"].ended is None
    assert heard(whisper, text, "interim").ended is None
