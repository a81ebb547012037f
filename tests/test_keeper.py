"""An engine that hangs, dies, fails or is lost, and what is opened in its place."""

import asyncio
import contextlib
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Sequence

import numpy as np
import pytest

from scripted import ScriptedModel
from stt.errors import EngineError, EngineLostError
from stt.recognition import (
    Hypothesis,
    Keeper,
    LocalRecognizer,
    Recognition,
    RecognitionOptions,
    SpeechModel,
    Ticket,
    Utterance,
)

LOUD = np.ones(100, np.float32)


class Trouble(ScriptedModel):
    """Hears silence (the warm-up), and does what it is told with the first speech."""

    def __init__(self, trouble: Callable[[], object]) -> None:
        super().__init__(max_batch=1)
        self.trouble = trouble
        self.circle = self  # only the garbage collector finds it

    def transcribe(self, batch: Sequence[Utterance]) -> list[Hypothesis]:
        if batch[0].audio.any():
            self.trouble()
        return super().transcribe(batch)


def fails(error: BaseException) -> Callable[[], SpeechModel]:
    def trouble() -> SpeechModel:
        raise error

    return trouble


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_LOOK_S", "_FIRST_BACKOFF_S"):
        monkeypatch.setattr(f"stt.recognition.keeper.{name}", 0.005)


class Kept:
    """A keeper at work; `states` has them all, in order."""

    def __init__(self, opens: Callable[[], SpeechModel], timeout_s: float = 20) -> None:
        self.states: list[str] = []
        self.keeper = Keeper(opens, timeout_s, lambda: self.states.append(self.keeper.state))
        self.task = asyncio.create_task(self.keeper.run())

    @property
    def recognizer(self) -> LocalRecognizer:
        assert self.keeper.recognizer is not None
        return self.keeper.recognizer

    def ask(self) -> Ticket:
        return self.recognizer.submit(Utterance(LOUD))

    async def until(self, *states: str) -> None:
        async with asyncio.timeout(60):
            while self.states != list(states):
                await asyncio.sleep(0.001)


@contextlib.asynccontextmanager
async def kept(*opens: Callable[[], SpeechModel], timeout_s: float = 20) -> AsyncIterator[Kept]:
    opener = iter(opens)
    running = Kept(lambda: next(opener)(), timeout_s)  # noqa: PLW0108 - another one each time
    try:
        yield running
    finally:
        running.task.cancel()
        await asyncio.gather(running.task, return_exceptions=True)
        await running.keeper.close(1)


def text(recognition: Recognition | None) -> str:
    assert recognition is not None
    return recognition.hypothesis.text


async def test_an_engine_that_hangs_or_died_is_let_go_before_another_is_opened() -> None:
    for trouble in (fails(SystemExit(1)), (release := threading.Event()).wait):
        before = Trouble(trouble)
        let_go: list[bool] = []

        def after(before: ScriptedModel = before, let_go: list[bool] = let_go) -> SpeechModel:
            let_go.append(before.closed)
            return ScriptedModel(lambda _: "after")

        async with kept(lambda before=before: before, after, timeout_s=1) as running:
            await running.until("ready")
            first = running.ask()
            await running.until("ready", "restarting", "ready")
            assert text(await running.ask()) == "after"
            await asyncio.gather(first, return_exceptions=True)
        assert let_go == [True]
    release.set()


async def test_nothing_holds_on_to_an_engine_that_was_given_up() -> None:
    gone: list[bool] = []
    before: list[weakref.ref[ScriptedModel]] = []

    def first() -> SpeechModel:
        model = Trouble(fails(ZeroDivisionError()))
        before.append(weakref.ref(model))
        return model

    def second() -> SpeechModel:
        for thread in running.recognizer._abandoned:
            thread.join(60)  # until it ends, on a busy machine after an engine that opens at once, it holds the first
        return ScriptedModel()

    async with kept(first, second) as running:
        await running.until("ready")
        for _ in range(3):
            with pytest.raises(EngineError):
                await running.ask()
        await running.until("ready", "restarting", "ready")
        await running.ask()
        gone.append(before[0]() is None)
    assert gone == [True]


async def test_an_engine_that_is_slow_to_let_go_does_not_hold_up_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stt.recognition.keeper._LETTING_GO_S", 0.01)
    release = threading.Event()

    class Slow(Trouble):
        def close(self) -> None:
            assert release.wait(20)

    async with kept(lambda: Slow(fails(SystemExit(1))), ScriptedModel) as running:
        await running.until("ready")
        with pytest.raises(EngineError):
            await running.ask()
        await running.until("ready", "restarting", "ready")
        assert running.keeper.hung
        release.set()


async def test_what_waits_fails_where_no_engine_opens_and_the_next_try_serves() -> None:
    opened = asyncio.Event()
    loop = asyncio.get_running_loop()
    release = threading.Event()

    def broken() -> SpeechModel:
        loop.call_soon_threadsafe(opened.set)
        assert release.wait(20)
        raise OSError("no memory")

    async with kept(lambda: Trouble(fails(SystemExit(1))), broken, ScriptedModel) as running:
        await running.until("ready")
        with pytest.raises(EngineError):
            await running.ask()
        await opened.wait()
        waits = running.ask()
        release.set()
        with pytest.raises(EngineError, match="thread died"):
            await waits
        await running.until("ready", "restarting", "ready")
        assert text(await running.ask()) == "w100"


@pytest.mark.parametrize("when", ["at work", "opening"])
async def test_a_lost_device_ends_it_as_no_engine_will_work_any_more(when: str) -> None:
    lost = fails(EngineLostError("the GPU is gone"))
    dies = fails(SystemExit(1))
    opens = [lambda: Trouble(lost)] if when == "at work" else [lambda: Trouble(dies), lost]
    async with kept(*opens) as running:
        await running.until("ready")
        live = running.ask()
        with pytest.raises(EngineLostError, match="the GPU is gone"):
            await running.task
        if when == "at work":
            assert not live.done(), "its client asks the next process, which it would not if it was told of a failure"
            with pytest.raises(EngineLostError):  # a file's is told: nobody asks again for it
                await running.recognizer.submit(Utterance(LOUD, options=RecognitionOptions(live=False)))
        else:
            assert isinstance(live.exception(), EngineError)


async def test_a_first_engine_that_cannot_be_opened_is_told() -> None:
    async with kept(fails(OSError("no weights"))) as running:
        with pytest.raises(OSError, match="no weights"):
            await running.task
        assert running.keeper.state == "loading"
