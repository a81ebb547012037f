"""The wiring, with a scripted engine and a detector that takes loud for speech."""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence

import numpy as np
import pytest

from scripted import LoudnessVad, ScriptedModel, tone
from spoken import silence
from stt.audio import Samples
from stt.errors import AudioError
from stt.events import (
    Event,
    RecognitionFailed,
    TranscriptChanged,
    TurnCompleted,
    TurnPaused,
    TurnResumed,
    TurnStarted,
)
from stt.recognizer import Hypothesis, Recognizer, Utterance
from stt.session import Session
from stt.settings import TurnSettings


async def pieces(audio: Samples, size: int) -> AsyncIterator[Samples]:
    for at in range(0, len(audio), size):
        yield audio[at : at + size]
        await asyncio.sleep(0)


async def run(
    audio: Samples, model: ScriptedModel, size: int = 320, settings: TurnSettings | None = None
) -> list[Event]:
    events: list[Event] = []

    async def sink(event: Event) -> None:
        events.append(event)

    with Recognizer(model) as recognizer:
        await Session(recognizer, LoudnessVad(), settings=settings).run(pieces(audio, size), sink)  # type: ignore[arg-type]
    return events


def kinds(events: Sequence[Event], *, interims: bool = False) -> str:
    """Write events as one short word each."""
    names = {TurnStarted: "start", TurnPaused: "paused", TurnResumed: "resumed", TurnCompleted: "done"}
    words = [e.cause if isinstance(e, TranscriptChanged) else names.get(type(e), "failed") for e in events]
    return " ".join(word for word in words if interims or word != "interim")


async def test_a_turn_from_its_first_frame_to_its_final() -> None:
    model = ScriptedModel()
    events = await run(np.concatenate([silence(1), tone(2), silence(2)]), model)
    assert re.fullmatch(r"start( interim){1,4} paused pause done", kinds(events, interims=True))
    started, completed = events[0], events[-1]
    assert isinstance(started, TurnStarted)
    assert started.start_s == pytest.approx(1, abs=0.032)
    assert isinstance(completed, TurnCompleted)
    assert (completed.start, completed.end_s) == (started.start, pytest.approx(3, abs=0.032))
    # the final is what the recognition at the pause gave, of the audio up to 0.3 s after the speech
    assert completed.text == f"w{len(model.batches[-1][0].audio)}"
    assert completed.passages[0].end_s == pytest.approx(3.3, abs=0.04)


async def test_pause_and_resume_make_one_turn() -> None:
    audio = np.concatenate([tone(1), silence(0.6), tone(1), silence(0.6), tone(0.5)])
    events = await run(audio, ScriptedModel())
    assert kinds(events) == "start paused pause resumed paused pause resumed end done"
    assert events[-1].end_s == pytest.approx(len(audio) / 16_000)


@pytest.mark.parametrize("audio", [silence(0), silence(0.01), silence(30), tone(0.01)])
async def test_nothing_said_gives_nothing(audio: Samples) -> None:
    model = ScriptedModel()
    events = await run(audio, model)
    assert [e.text for e in events if isinstance(e, TurnCompleted)] in ([], [""])
    assert model.batches == []


async def test_pieces_of_any_size_give_the_same_finals() -> None:
    rng = np.random.default_rng(1)
    parts = [part(float(rng.uniform(0.05, 3))) for _ in range(40) for part in (tone, silence)]
    audio = np.concatenate(parts)
    runs = [
        [e for e in await run(audio, ScriptedModel(), size) if isinstance(e, TurnCompleted)]
        for size in (160, 320, 16_000, len(audio))
    ]
    runs.append(
        [
            e
            for e in await run(audio, ScriptedModel(), settings=TurnSettings(interim_s=None, speculative=False))
            if isinstance(e, TurnCompleted)
        ]
    )
    said = [[(e.turn, e.start, e.end, e.text, e.passages) for e in run] for run in runs]
    assert len(said[0]) > 3
    assert all(other == said[0] for other in said[1:])


async def test_a_source_that_fails_loses_nothing_said_before() -> None:
    async def breaks() -> AsyncIterator[Samples]:
        yield tone(1)
        raise AudioError("the disk is gone")

    events: list[Event] = []

    async def sink(event: Event) -> None:
        events.append(event)

    with Recognizer(ScriptedModel()) as recognizer, pytest.raises(AudioError, match="the disk is gone"):
        await Session(recognizer, LoudnessVad()).run(breaks(), sink)  # type: ignore[arg-type]
    assert isinstance(events[-1], TurnCompleted)
    assert events[-1].text


async def test_a_failing_engine_is_told_and_the_session_goes_on() -> None:
    class FailsOnce(ScriptedModel):
        def transcribe(self, batch: Sequence[Utterance]) -> list[Hypothesis]:
            result = super().transcribe(batch)
            if len(self.batches) == 1:
                raise RuntimeError("out of memory")
            return result

    settings = TurnSettings(interim_s=None)
    audio = np.concatenate([tone(1), silence(2), tone(1), silence(2)])
    events = await run(audio, FailsOnce(), settings=settings)
    assert kinds(events) == "start paused failed done start paused pause done"
    assert isinstance(events[2], RecognitionFailed)
    assert "RuntimeError: out of memory" in events[2].message
    assert next(e.text for e in events if isinstance(e, TurnCompleted)) == ""
    assert [e.text for e in events if isinstance(e, TurnCompleted)][1] != ""


async def test_a_failed_final_keeps_the_text_of_the_interims() -> None:
    class FailsAtTheEnd(ScriptedModel):
        def transcribe(self, batch: Sequence[Utterance]) -> list[Hypothesis]:
            if len(batch[0].audio) > 2 * 16_000:
                raise RuntimeError("no more")
            return super().transcribe(batch)

    heard = asyncio.Event()
    events: list[Event] = []

    async def source() -> AsyncIterator[Samples]:
        yield tone(1.9)
        await heard.wait()
        yield silence(2)

    async def sink(event: Event) -> None:
        events.append(event)
        if isinstance(event, TranscriptChanged):
            heard.set()

    with Recognizer(FailsAtTheEnd(lambda _: "so far so good")) as recognizer:
        await Session(recognizer, LoudnessVad()).run(source(), sink)  # type: ignore[arg-type]
    assert kinds(events) == "start paused failed done"
    assert events[-1].text == "so far so good"


async def test_what_the_sink_raises_ends_the_session() -> None:
    async def sink(event: Event) -> None:
        raise ConnectionResetError("gone")

    with Recognizer(ScriptedModel()) as recognizer, pytest.raises(ConnectionResetError):
        await Session(recognizer, LoudnessVad()).run(pieces(tone(2), 320), sink)  # type: ignore[arg-type]


async def test_a_slow_engine_makes_the_source_wait_and_drops_no_final() -> None:
    model = ScriptedModel(max_batch=1)
    model.free.clear()
    taken = 0
    audio = np.concatenate([tone(0.5), silence(2)])

    async def source() -> AsyncIterator[Samples]:
        nonlocal taken
        for _ in range(40):
            taken += 1
            yield audio

    finals = 0

    async def sink(event: Event) -> None:
        nonlocal finals
        finals += isinstance(event, TurnCompleted) and event.text != ""

    with Recognizer(model) as recognizer:
        task = asyncio.create_task(Session(recognizer, LoudnessVad()).run(source(), sink))  # type: ignore[arg-type]
        while not model.batches:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.05)
        assert taken < 15, "the bounded queue did not hold the source back"
        model.free.set()
        await task
    assert finals == 40


async def test_cancelling_drops_what_waits() -> None:
    model = ScriptedModel()
    model.free.clear()

    async def sink(event: Event) -> None: ...

    with Recognizer(model) as recognizer:
        session = Session(recognizer, LoudnessVad())  # type: ignore[arg-type]
        task = asyncio.create_task(session.run(pieces(np.tile(tone(1), 60), 1_600), sink))
        while not model.batches:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        model.free.set()
    assert len(model.batches) == 1


async def test_the_draft_is_the_hypothesis_of_the_same_window() -> None:
    model = ScriptedModel()
    await run(np.concatenate([tone(3), silence(2), tone(1), silence(2)]), model, size=512)
    drafts = [(len(u.audio), u.draft and u.draft.text) for batch in model.batches for u in batch]
    assert drafts[0][1] is None
    assert any(draft for _, draft in drafts)
    for length, draft in drafts:
        assert draft is None or int(draft[1:]) < length, "a draft comes from an earlier part of the same audio"
