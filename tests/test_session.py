"""The wiring, with a scripted engine and a detector that takes loud for speech."""

import asyncio
import re
import weakref
from collections.abc import AsyncIterator, Sequence

import numpy as np
import pytest

from scripted import LoudnessVad, ScriptedModel, pieces, tone
from spoken import silence
from stt.audio import Samples
from stt.control import Clear, Configure, Control, Flush
from stt.errors import AudioError, EngineError
from stt.events import (
    Acknowledged,
    Event,
    RecognitionFailed,
    TranscriptChanged,
    TurnCompleted,
    TurnPaused,
    TurnResumed,
    TurnStarted,
)
from stt.recognition import Hypothesis, LocalRecognizer, RecognitionOptions, Utterance
from stt.session import Session
from stt.settings import TurnSettings


async def run(
    audio: Samples, model: ScriptedModel, size: int = 320, settings: TurnSettings | None = None
) -> list[Event]:
    """Let the engine answer before more is said, so that every interim comes."""
    events: list[Event] = []

    async def sink(event: Event) -> None:
        events.append(event)

    async def source() -> AsyncIterator[Samples]:
        async for piece in pieces(audio, size):
            yield piece
            while recognizer.waiting or recognizer.running_s:
                await asyncio.sleep(0)

    with LocalRecognizer(model) as recognizer:
        await Session(recognizer, LoudnessVad(), settings=settings).run(source(), sink)  # type: ignore[arg-type]
    return events


def kinds(events: Sequence[Event], *, interims: bool = False) -> str:
    """Write events as one short word each."""
    names = {TurnStarted: "start", TurnPaused: "paused", TurnResumed: "resumed", TurnCompleted: "done"}
    words = [e.cause if isinstance(e, TranscriptChanged) else names.get(type(e), "failed") for e in events]
    return " ".join(word for word in words if interims or word != "interim")


async def test_a_turn_from_its_first_frame_to_its_final() -> None:
    model = ScriptedModel()
    events = await run(np.concatenate([silence(1), tone(2), silence(2)]), model)
    assert re.fullmatch(r"start( interim){3} paused pause done", kinds(events, interims=True))
    started, completed = events[0], events[-1]
    assert isinstance(started, TurnStarted)
    assert started.start_s == pytest.approx(1, abs=0.032)
    assert isinstance(completed, TurnCompleted)
    assert (completed.start, completed.end_s) == (started.start, pytest.approx(3, abs=0.032))
    # the final is what the recognition at the pause gave, of the audio up to 0.3 s after the speech
    assert completed.text == f"w{len(model.batches[-1][0].audio)}"
    assert [(p.start, p.end) for p in completed.passages] == [(completed.start, completed.end)]
    assert (completed.why, completed.decided_s) == ("silence", pytest.approx(4.5, abs=0.04))


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

    with LocalRecognizer(ScriptedModel()) as recognizer, pytest.raises(AudioError, match="the disk is gone"):
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

    with LocalRecognizer(FailsAtTheEnd(lambda _: "so far so good")) as recognizer:
        await Session(recognizer, LoudnessVad()).run(source(), sink)  # type: ignore[arg-type]
    assert kinds(events) == "start paused failed done"
    assert events[-1].text == "so far so good"


async def test_what_the_sink_raises_ends_the_session() -> None:
    async def sink(event: Event) -> None:
        raise ConnectionResetError("gone")

    with LocalRecognizer(ScriptedModel()) as recognizer, pytest.raises(ConnectionResetError):
        await Session(recognizer, LoudnessVad()).run(pieces(tone(2), 320), sink)  # type: ignore[arg-type]


@pytest.mark.parametrize("failing", [TurnStarted, TranscriptChanged, TurnCompleted])
async def test_a_session_that_fails_leaves_its_task_as_it_was(failing: type[Event]) -> None:
    """Counted as cancelled, as CPython 3.11 leaves it, no timeout of the caller's works before 3.11.3."""

    async def sink(event: Event) -> None:
        if isinstance(event, failing):
            raise ConnectionResetError("gone")

    this = asyncio.current_task()
    assert this is not None
    with LocalRecognizer(ScriptedModel()) as recognizer:
        with pytest.raises(ConnectionResetError):
            await Session(recognizer, LoudnessVad()).run(pieces(tone(2), 320), sink)  # type: ignore[arg-type]
        assert this.cancelling() == 0


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

    with LocalRecognizer(model) as recognizer:
        task = asyncio.create_task(Session(recognizer, LoudnessVad()).run(source(), sink))  # type: ignore[arg-type]
        while not model.batches:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.05)
        assert taken <= 26, "the bounded queue did not hold the source back"
        model.free.set()
        await task
    assert finals == 40


class Held:
    """A session with an engine that is held, fed with speech without end in pieces of 0.1 s."""

    def __init__(self, recognizer: LocalRecognizer, ahead_s: float | None, duration_s: int = 600) -> None:
        self.taken_s = 0.0
        self.texts: list[str] = []
        session = Session(recognizer, LoudnessVad(), settings=TurnSettings(interim_s=None), ahead_s=ahead_s)  # type: ignore[arg-type]
        self.task = asyncio.create_task(session.run(self.source(duration_s), self.sink))

    async def source(self, duration_s: int) -> AsyncIterator[Samples]:
        piece = tone(0.1)
        for _ in range(10 * duration_s):
            self.taken_s += 0.1
            yield piece

    async def sink(self, event: Event) -> None:
        if isinstance(event, TurnCompleted):
            self.texts.append(event.text)

    async def until_it_waits(self) -> None:
        taken_s = -1.0
        while taken_s != (taken_s := self.taken_s):
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("ahead_s", "windows", "most_s"),
    [(60.0, 2, 60), (30.0, 1, 30), (1.0, 1, 30), (100.0, 4, 110)],  # one is always let through
)
async def test_a_bound_in_seconds_holds_the_source_back_and_nothing_is_lost(
    ahead_s: float, windows: int, most_s: float
) -> None:
    model = ScriptedModel(max_batch=1)
    with LocalRecognizer(model) as recognizer:
        free = Held(recognizer, None, 200)
        await free.task
        said = len(model.batches)
        model.batches.clear()
        model.free.clear()
        held = Held(recognizer, ahead_s, 200)
        await held.until_it_waits()
        assert recognizer.waiting + len(model.batches) == windows
        assert held.taken_s <= most_s
        model.free.set()
        await held.task
    assert held.texts == free.texts
    assert len(model.batches) == said


async def test_files_still_have_a_queue_full_of_windows_to_share_batches() -> None:
    model = ScriptedModel(max_batch=1)
    model.free.clear()
    with LocalRecognizer(model) as recognizer:
        held = Held(recognizer, None)
        await held.until_it_waits()
        assert recognizer.waiting >= 24
        held.task.cancel()
        model.free.set()
        await asyncio.wait([held.task])


async def test_cancelling_and_failing_let_go_of_a_session_that_is_held_back() -> None:
    model = ScriptedModel(max_batch=1)
    model.free.clear()
    with LocalRecognizer(model) as recognizer:
        cancelled, failed = Held(recognizer, 60), Held(recognizer, 60, 70)
        await cancelled.until_it_waits()
        cancelled.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled.task
        recognizer.fail_waiting(EngineError("gone"))
        recognizer.abandon(EngineError("gone"))
        recognizer.restart(ScriptedModel())
        await failed.task  # of 70 s, the last 20 are heard by the new engine
        model.free.set()
    assert len(failed.texts) == 1
    assert failed.texts[0]


async def test_an_idle_session_holds_no_audio_of_its_last_turn() -> None:
    seen: list[weakref.ref[Samples]] = []

    class Keeping(ScriptedModel):
        def transcribe(self, batch: Sequence[Utterance]) -> list[Hypothesis]:
            seen.extend(weakref.ref(utterance.audio) for utterance in batch)
            return [Hypothesis("word") for _ in batch]

    done, gone = asyncio.Event(), asyncio.Event()

    async def source() -> AsyncIterator[Samples]:
        yield tone(10)
        yield silence(3)
        await gone.wait()

    async def sink(event: Event) -> None:
        if isinstance(event, TurnCompleted):
            done.set()

    with LocalRecognizer(Keeping()) as recognizer:
        task = asyncio.create_task(Session(recognizer, LoudnessVad()).run(source(), sink))  # type: ignore[arg-type]
        await done.wait()
        await recognizer.submit(Utterance(tone(1)))  # the worker holds its last batch until the next
        assert [ref() for ref in seen[:-1]] == [None] * (len(seen) - 1)
        gone.set()
        await task


async def test_cancelling_drops_what_waits() -> None:
    model = ScriptedModel()
    model.free.clear()

    async def sink(event: Event) -> None: ...

    with LocalRecognizer(model) as recognizer:
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


@pytest.mark.parametrize(
    "settings",
    [TurnSettings(pause_s=2.0, end_of_turn_s=3.0), TurnSettings(window_s=5, overlap_s=1)],
    ids=["a pause longer than a window's silence", "a window that fills in the gap"],
)
async def test_every_pause_has_its_text(settings: TurnSettings) -> None:
    for duration_s in np.arange(4.6, 5.1, 0.1).tolist():
        events = await run(np.concatenate([tone(duration_s), silence(4)]), ScriptedModel(), settings=settings)
        assert kinds(events).split()[-1] == "done"
        assert [e.cause for e in events if isinstance(e, TranscriptChanged)].count("pause") == 1
        pause = next(e for e in events if isinstance(e, TranscriptChanged) and e.cause == "pause")
        assert pause.text == events[-1].text


async def test_a_failed_interim_is_no_failed_turn() -> None:
    class FailsAtFirst(ScriptedModel):
        def transcribe(self, batch: Sequence[Utterance]) -> list[Hypothesis]:
            if batch[0].kind == "interim":
                raise RuntimeError("too short")
            return super().transcribe(batch)

    events = await run(np.concatenate([tone(2), silence(2)]), FailsAtFirst())
    assert kinds(events, interims=True) == "start paused pause done"


async def test_a_failed_pause_after_which_the_speaker_went_on_is_no_failed_turn() -> None:
    class FailsAtPauses(ScriptedModel):
        def transcribe(self, batch: Sequence[Utterance]) -> list[Hypothesis]:
            if batch[0].kind == "speculative" and len(batch[0].audio) < 20_000:
                raise RuntimeError("too short")
            return super().transcribe(batch)

    events = await run(np.concatenate([tone(0.7), silence(0.5), tone(1), silence(2)]), FailsAtPauses())
    assert kinds(events) == "start paused resumed paused pause done"


@pytest.mark.parametrize("busy", [False, True])
async def test_commands_take_effect_where_they_stand(busy: bool) -> None:
    """Also where the engine comes to nothing before all has been said, and hears several turns in one call."""
    events: list[Event] = []

    async def sink(event: Event) -> None:
        events.append(event)

    async def source() -> AsyncIterator[Samples | Control]:
        yield Flush()
        yield tone(1)
        yield Flush()
        yield tone(1)
        yield Clear()
        yield silence(1)
        yield Configure(TurnSettings(interim_s=None, end_of_turn_s=0.4), RecognitionOptions("de"))
        yield tone(1)
        yield silence(0.5)
        model.free.set()

    model = ScriptedModel()
    with LocalRecognizer(model) as recognizer:
        if busy:
            model.free.clear()
            recognizer.submit(Utterance(tone(1)))
        await Session(recognizer, LoudnessVad()).run(source(), sink)  # type: ignore[arg-type]
    texts = [e for e in events if isinstance(e, TurnCompleted | Acknowledged)]
    assert [e.command if isinstance(e, Acknowledged) else e.why for e in texts] == [
        *("flush", "asked", "flush"),
        *("cleared", "clear"),
        *("configure", "silence"),
    ]
    assert [(e.start_s, e.end_s, bool(e.text)) for e in texts if isinstance(e, TurnCompleted)] == [
        (0, 1, True),
        (1, 2, False),
        (pytest.approx(3, abs=0.04), pytest.approx(4, abs=0.04), True),
    ]
    assert [e.at_s for e in texts if isinstance(e, Acknowledged)] == [0, 1, 2, pytest.approx(3, abs=0.032)]
    asked = {heard.key.turn: heard.options.language for batch in model.batches for heard in batch if heard.start}
    assert asked[2] == "de"
