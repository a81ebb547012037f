"""Turns that end by meaning, with the models themselves: the detector, Whisper and smart-turn hear a voice."""

from collections.abc import AsyncIterator, Iterator

import numpy as np
import pytest

from spoken import say, silence
from stt.audio import Samples
from stt.endofturn import weights
from stt.engines.whisper import Whisper
from stt.events import Event, TurnCompleted
from stt.recognition import LocalRecognizer, RecognitionOptions
from stt.session import Session
from stt.settings import Eagerness, TurnSettings
from stt.vad import SileroVad

pytestmark = pytest.mark.skipif(weights.find() is None, reason="the weights of smart-turn are not here")


@pytest.fixture(scope="module")
def recognizer() -> Iterator[LocalRecognizer]:
    with LocalRecognizer(Whisper()) as opened:
        yield opened


async def turns(recognizer: LocalRecognizer, eagerness: Eagerness, *parts: Samples) -> list[TurnCompleted]:
    """The turns of this, as of a file: however busy the machine is, the text of a pause counts."""
    finals: list[TurnCompleted] = []

    async def sink(event: Event) -> None:
        if isinstance(event, TurnCompleted):
            finals.append(event)

    async def source() -> AsyncIterator[Samples]:
        yield np.concatenate([silence(0.5), *parts, silence(4)])

    settings = TurnSettings(interim_s=None, speculative=False, end_of_turn="meaning", eagerness=eagerness)
    session = Session(recognizer, SileroVad(), settings=settings, options=RecognitionOptions(live=False))
    await session.run(source(), sink)
    return finals


@pytest.mark.parametrize("text", ["Yes.", "No.", "Yes, please.", "No, thank you."])
async def test_an_answer_is_over_soon(recognizer: LocalRecognizer, text: str) -> None:
    said = say(text)
    [final] = await turns(recognizer, "medium", said)
    assert final.decided_s - (0.5 + len(said) / 16_000) < 0.7


@pytest.mark.parametrize(
    ("begun", "rest"),
    [
        ("My number is five five five", "one two three four."),
        ("You can reach me at six one seven", "five five five nine."),
        ("I would like to go to", "the station in Boston."),
    ],
)
async def test_who_thinks_for_two_seconds_in_mid_sentence_is_not_cut_off(
    recognizer: LocalRecognizer, begun: str, rest: str
) -> None:
    [final] = await turns(recognizer, "careful", say(begun), silence(2.0), say(rest))
    assert len(final.text) > len(begun) / 2
