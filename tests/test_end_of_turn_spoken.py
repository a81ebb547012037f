"""Turns that end by meaning, with the models themselves: the detector, Whisper and smart-turn hear a voice."""

from collections.abc import AsyncIterator, Callable, Iterator

import numpy as np
import pytest

from sounds import DISTORTIONS, breath, cough, hum, level, music, noise
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


async def turns(
    recognizer: LocalRecognizer, eagerness: Eagerness, *parts: Samples, through: str | None = None
) -> list[TurnCompleted]:
    """The turns of this in a room, as of a file: however busy the machine is, the text of a pause counts."""
    finals: list[TurnCompleted] = []

    async def sink(event: Event) -> None:
        if isinstance(event, TurnCompleted):
            finals.append(event)

    async def source() -> AsyncIterator[Samples]:
        audio = np.concatenate([silence(0.5), *parts, silence(4)])
        audio = (audio + 3e-4 * noise(len(audio))).astype(np.float32)
        yield audio if through is None else DISTORTIONS[through](audio)

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


@pytest.mark.parametrize(
    ("sound", "silence_s"), [(lambda: breath(0.01), 0.5), (cough, 0.6), (hum, 0.9)], ids=["breath", "cough", "mm"]
)
async def test_a_breath_a_cough_or_a_mm_while_thinking_ends_no_turn(
    recognizer: LocalRecognizer, sound: Callable[[], Samples], silence_s: float
) -> None:
    """Two seconds of it all; a "mm" is speech that says there is more."""
    begun, rest = (level(say(text), 0.08) for text in ("I would like to go to", "the station in Boston."))
    [final] = await turns(recognizer, "careful", begun, silence(silence_s), sound(), silence(silence_s), rest)
    assert "station" in final.text


@pytest.mark.parametrize(
    "sound", [lambda: breath(0.01), cough, lambda: music(6, 0.03)], ids=["breath", "cough", "music"]
)
async def test_they_hold_no_turn_up_whose_speaker_is_done(
    recognizer: LocalRecognizer, sound: Callable[[], Samples]
) -> None:
    said = level(say("I would like to go to the station in Boston."), 0.08)
    [final] = await turns(recognizer, "medium", said, silence(0.3), sound())
    assert final.decided_s - (0.5 + len(said) / 16_000) < 1.2


@pytest.mark.parametrize("through", DISTORTIONS)
async def test_a_sentence_is_over_soon_and_half_of_one_is_not_whatever_it_comes_through(
    recognizer: LocalRecognizer, through: str
) -> None:
    said = level(say("I would like to go to the station in Boston."), 0.08)
    [final] = await turns(recognizer, "medium", said, through=through)
    assert final.decided_s - (0.5 + len(said) / 16_000) < 1.2
    begun, rest = (level(say(text), 0.08) for text in ("My number is five five five", "one two three four."))
    assert len(await turns(recognizer, "careful", begun, silence(2.0), rest, through=through)) == 1
