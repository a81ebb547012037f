"""The seam of recognition services, with one that is not the product's: asynchronous, several calls in flight."""

import asyncio
from collections.abc import AsyncIterator, Hashable

import numpy as np
import pytest

from scripted import LoudnessVad, tone
from spoken import silence
from stt.audio import Samples
from stt.endofturn import EndOfTurn, Pause
from stt.events import Event, Latency, TranscriptChanged, TurnCompleted, TurnPaused, TurnResumed, TurnStarted
from stt.recognition import Hypothesis, Recognition, RecognitionOptions, Ticket, Utterance
from stt.session import Session
from stt.settings import TurnSettings


class Elsewhere:
    """Answers each call in a task of its own, once it is let go."""

    def __init__(self) -> None:
        self.asked: list[Utterance] = []
        self.go = asyncio.Event()
        self.forgotten: list[Hashable] = []

    def submit(self, utterance: Utterance) -> Ticket:
        self.asked.append(utterance)
        return asyncio.ensure_future(self._call(utterance))

    async def _call(self, utterance: Utterance) -> Recognition | None:
        await self.go.wait()
        if utterance.kind == "interim":
            return None
        return Recognition(Hypothesis(f"w{len(utterance.audio)}", language="de"), Latency(0, 0, 1))

    def forget(self, session: Hashable) -> None:
        self.forgotten.append(session)


async def heard(
    service: Elsewhere,
    audio: Samples,
    settings: TurnSettings | None = None,
    policy: EndOfTurn | None = None,
    **options: object,
) -> list[Event]:
    events: list[Event] = []

    async def sink(event: Event) -> None:
        events.append(event)

    async def source() -> AsyncIterator[Samples]:
        for at in range(0, len(audio), 1_600):
            yield audio[at : at + 1_600]
            await asyncio.sleep(0)
        for _ in range(20):
            await asyncio.sleep(0)
        events.append(TurnStarted(-1, 0))  # a mark: all was heard
        service.go.set()

    asked = RecognitionOptions(**options)  # type: ignore[arg-type]
    session = Session(service, LoudnessVad(), settings=settings, options=asked, end_of_turn=policy)  # type: ignore[arg-type]
    await session.run(source(), sink)
    assert service.forgotten == [session]
    return events


async def test_what_the_detector_found_does_not_wait_for_texts() -> None:
    audio = np.concatenate([tone(1), silence(0.6), tone(1), silence(2), tone(1), silence(2)])
    events = await heard(Elsewhere(), audio)
    at = events.index(TurnStarted(-1, 0))
    assert [type(e) for e in events[:at]] == [
        TurnStarted,
        TurnPaused,
        TurnResumed,
        TurnPaused,
        TurnStarted,
        TurnPaused,
    ]
    assert [e.turn for e in events[at:] if isinstance(e, TurnCompleted)] == [0, 1]


async def test_a_pause_that_is_over_is_an_interim_by_the_time_its_text_comes() -> None:
    audio = np.concatenate([tone(1), silence(0.6), tone(0.3), silence(0.6)])
    events = await heard(Elsewhere(), audio)
    assert [e.cause for e in events if isinstance(e, TranscriptChanged)] == ["interim", "pause"]


async def test_an_engine_that_is_silent_does_not_stop_the_ears_of_a_speaker_who_goes_on() -> None:
    """Interims that were overtaken hold no place: 24 windows fit, not 24 requests."""

    class Replaces(Elsewhere):
        def submit(self, utterance: Utterance) -> Ticket:
            for ticket in [t for t in tickets if not t.done()]:
                ticket.set_result(None)
            ticket: Ticket = asyncio.get_running_loop().create_future()
            if utterance.kind == "interim":
                tickets.append(ticket)
                return ticket
            return super().submit(utterance)

    tickets: list[Ticket] = []
    events = await heard(Replaces(), np.tile(tone(1), 60))
    assert [e.turn for e in events if isinstance(e, TurnCompleted)] == [0]


async def test_requests_say_what_they_are() -> None:
    service = Elsewhere()
    audio = np.concatenate([silence(1), tone(2), silence(2)])
    await heard(service, audio, language=None, terms=("Ladybug",), live=False)
    assert [u.kind for u in service.asked] == ["interim"] * 3 + ["speculative"]
    assert {u.key[1:] for u in service.asked} == {(0, 0)}
    last = service.asked[-1]
    assert (round(last.start / 16_000, 1), round(last.end / 16_000, 1)) == (0.7, 3.2)
    assert last.speech_s is not None
    assert abs(last.speech_s - 2) < 0.04
    assert (last.options.terms, last.options.live) == (("Ladybug",), False)


async def test_the_language_that_was_found_holds_for_the_rest_of_the_turn() -> None:
    service = Elsewhere()
    service.go.set()
    audio = np.concatenate([tone(1), silence(0.6), tone(1), silence(2), tone(1), silence(2)])
    await heard(service, audio, TurnSettings(interim_s=None), language=None)
    assert [(u.key.turn, u.options.language) for u in service.asked] == [(0, None), (0, "de"), (1, None)]


class Notes:
    """A policy that notes which language is spoken, half a second into each pause."""

    longest_s, audio_s = 1.5, 0.0

    def __init__(self) -> None:
        self.languages: list[str | None] = []

    async def judge(self, pause: Pause) -> None:
        await pause.lasts(0.5)
        self.languages.append(pause.language)


@pytest.mark.parametrize(
    ("asked", "told"), [(None, ["de", "de", "de"]), ("en-US", ["en", "en", "en"]), ("fr", ["fr", "fr", "fr"])]
)
async def test_an_end_of_turn_policy_knows_the_language_that_was_asked_for_or_found(
    asked: str | None, told: list[str]
) -> None:
    service, policy = Elsewhere(), Notes()
    service.go.set()
    audio = np.concatenate([tone(1), silence(0.8), tone(1), silence(2), tone(1), silence(2)])
    await heard(service, audio, TurnSettings(interim_s=None), policy, language=asked)
    assert policy.languages == told
