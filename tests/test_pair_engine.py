"""A pair of models as an engine: opened, watched over, served; and with the embedded weights on one side."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable

import httpx
import numpy as np
import pytest

from scripted import ScriptedModel, tone
from serving import counted, serving, turn
from spoken import normalized, silence, talk, word_errors
from stt.audio import Samples
from stt.engines.whisper import Whisper
from stt.errors import EngineLostError
from stt.events import Event, TranscriptChanged, TurnCompleted
from stt.recognition import Hypothesis, PairKeeper, PairRecognizer, SpeechModel, Utterance, WindowKey, recognizing
from stt.session import Session
from stt.vad import SileroVad


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_LOOK_S", "_FIRST_BACKOFF_S"):
        monkeypatch.setattr(f"stt.recognition.keeper.{name}", 0.005)


def speaks(text: str) -> ScriptedModel:
    return ScriptedModel(lambda _: text)


def broken(error: BaseException) -> Callable[[], SpeechModel]:
    def opens() -> SpeechModel:
        raise error

    return opens


class Kept:
    """A pair at work; `states` has them all, in order."""

    def __init__(self, finals: Callable[[], SpeechModel], interims: Callable[[], SpeechModel]) -> None:
        self.states: list[str] = []
        self.keeper = PairKeeper(finals, interims, 20, lambda: self.states.append(self.keeper.state))
        self.task = asyncio.create_task(self.keeper.run())

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not holds():
                await asyncio.sleep(0.001)

    async def ask(self, kind: str) -> str:
        assert self.keeper.recognizer is not None
        heard = Utterance(np.ones(100, np.float32), kind=kind, key=WindowKey(kind))  # type: ignore[arg-type]
        recognition = await self.keeper.recognizer.submit(heard)
        assert recognition is not None
        return recognition.hypothesis.text


@contextlib.asynccontextmanager
async def kept(finals: Callable[[], SpeechModel], interims: Callable[[], SpeechModel]) -> AsyncIterator[Kept]:
    running = Kept(finals, interims)
    try:
        yield running
    finally:
        running.task.cancel()
        await asyncio.gather(running.task, return_exceptions=True)
        await running.keeper.close(1)


@pytest.mark.parametrize("late", ["finals", "interims"])
async def test_a_pair_is_ready_once_both_are(late: str) -> None:
    loaded = threading.Event()

    def slowly() -> SpeechModel:
        assert loaded.wait(20)
        return speaks("late")

    openers = {"finals": lambda: speaks("quick"), "interims": lambda: speaks("quick")} | {late: slowly}
    async with kept(**openers) as running:
        side = running.keeper._interims if late == "finals" else running.keeper._finals
        await running.until(lambda: side.state == "ready")
        assert (running.keeper.state, running.keeper.recognizer, running.states) == ("loading", None, [])
        loaded.set()
        await running.until(lambda: running.states == ["ready"])
        expected = ("late", "quick") if late == "finals" else ("quick", "late")
        assert (await running.ask("final"), await running.ask("interim")) == expected


@pytest.mark.parametrize("which", ["finals", "interims"])
async def test_a_model_that_cannot_be_opened_or_is_lost_is_told(which: str) -> None:
    good = lambda: speaks("good")  # noqa: E731
    openers = {"finals": good, "interims": good} | {which: broken(OSError("no weights"))}
    async with kept(**openers) as running:
        with pytest.raises(OSError, match="no weights"):
            await running.task

    def loses(utterance: Utterance) -> str:
        if utterance.audio.any():
            raise EngineLostError("the GPU is gone")
        return ""

    openers[which] = lambda: ScriptedModel(loses)
    async with kept(**openers) as running:
        await running.until(lambda: running.states == ["ready"])
        asked = asyncio.ensure_future(running.ask(which.removesuffix("s")))  # a final stays unanswered
        with pytest.raises(EngineLostError, match="the GPU is gone"):
            await running.task
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)


@pytest.mark.parametrize("which", ["finals", "interims"])
async def test_a_model_that_dies_is_replaced_and_the_other_goes_on(which: str) -> None:
    release = threading.Event()
    opened: list[int] = []

    def dies(utterance: Utterance) -> str:
        if utterance.audio.any():
            raise SystemExit(1)
        return ""

    def again() -> SpeechModel:
        opened.append(1)
        if len(opened) == 1:
            return ScriptedModel(dies)
        assert release.wait(20)
        return speaks("again")

    other = "final" if which == "interims" else "interim"
    openers = {"finals": lambda: speaks("other"), "interims": lambda: speaks("other")} | {which: again}
    async with kept(**openers) as running:
        await running.until(lambda: running.states == ["ready"])
        with contextlib.suppress(Exception):
            await running.ask(which.removesuffix("s"))
        await running.until(lambda: running.states == ["ready", "restarting"])
        assert await running.ask(other) == "other"
        release.set()
        await running.until(lambda: running.states == ["ready", "restarting", "ready"])
        assert await running.ask(which.removesuffix("s")) == "again"


async def test_a_server_tells_of_both_and_its_figures_are_of_both() -> None:
    audio = np.concatenate([silence(0.2), tone(1.6), silence(2)])
    quick, slow = speaks("first words"), speaks("the last word")
    async with (
        serving(slow, open_interims=lambda: quick) as running,
        running.connect() as websocket,
        httpx.AsyncClient(base_url=running.http) as http,
    ):
        ready = (await http.get("/ready")).json()
        assert (ready["status"], ready["engine"]) == ("ready", "scripted, interims by scripted")
        before = counted(running, "stt_decode_seconds_count")
        messages = await turn(websocket, audio)
        calls = [*quick.batches, *slow.batches]
        assert len(quick.batches) >= 2
        assert len(slow.batches) >= 2
        assert before >= 2, "each was warmed up"
        assert counted(running, "stt_decode_seconds_count") == len(calls)
    texts = [message["text"] for message in messages if message.get("text")]
    assert texts[0] == "first words"
    assert texts[-1] == "the last word"


async def test_a_server_of_which_one_model_does_not_open_does_not_get_ready() -> None:
    async with serving(speaks("good"), open_interims=broken(OSError("no weights")), ready=False) as running:
        await running.until(lambda: running.service.state == "failed")


TEXTS = ["They painted the kitchen yellow.", "The weather in London was cold and rainy all week."]


async def test_interims_of_the_embedded_weights_beside_a_model_that_takes_its_time() -> None:
    """Two sentences with a pause between; what stands comes when both have been said."""
    audio = np.concatenate([silence(0.3), talk(TEXTS, [0.6, 2.0])])
    events: list[Event] = []
    slow = Whisper(device="cpu")
    free = threading.Event()

    class TakesItsTime(ScriptedModel):
        def transcribe(self, batch: list[Utterance]) -> list[Hypothesis]:  # type: ignore[override]
            assert free.wait(60)
            return slow.transcribe(batch)

    async def source() -> AsyncIterator[Samples]:
        for at in range(0, len(audio), 1_600):
            yield audio[at : at + 1_600]
            while recognizer._interims.waiting or recognizer._interims.running_s:
                await asyncio.sleep(0.001)
            if at > len(audio) - 16_000:
                free.set()

    async def sink(event: Event) -> None:
        events.append(event)

    recognizer = recognizing(TakesItsTime(max_batch=1), Whisper(device="cpu"))
    assert isinstance(recognizer, PairRecognizer)
    with recognizer:
        await Session(recognizer, SileroVad()).run(source(), sink)
    texts = [event for event in events if isinstance(event, TranscriptChanged)]
    interims = [event.end_s for event in texts if not event.stable_chars]
    assert len(interims) >= 6, "they came while nothing had been heard by the other"
    *gaps, pause = sorted(np.diff(interims))
    assert gaps == pytest.approx([0.512] * len(gaps), abs=0.04)
    assert 1 < pause < 2
    [completed] = [event for event in events if isinstance(event, TurnCompleted)]
    wrong, _ = word_errors(" ".join(TEXTS), completed.text)
    assert wrong <= 1, normalized(completed.text)
