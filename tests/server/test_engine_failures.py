"""An engine that raises, hangs or dies: the sessions concerned hear of it, the others lose nothing."""

import asyncio
import threading
from collections.abc import Sequence

import httpx
import numpy as np

from scripted import LosesItsDevice, ScriptedModel, tone
from serving import frames, rest, said, serving
from spoken import silence
from stt.errors import EngineLostError
from stt.recognition import Hypothesis, Utterance
from stt.server.dialects.native import ENGINE_FAILED

# Sessions are told apart by how loud they speak: an engine hears nothing else of them.
ONE, TWO = 0.5, 0.25
FAILURE = {"error": ENGINE_FAILED, "code": "engine_failed", "turn": 0}


def spoken(level: float) -> np.ndarray:
    return np.concatenate([silence(0.2), tone(1) / 0.5 * level, silence(2)])


class Trouble(ScriptedModel):
    """Does what it is told when it hears the first session; one utterance a batch."""

    def __init__(self, what: str) -> None:
        super().__init__(max_batch=1)
        self.what = what
        self.met = threading.Event()
        self.release = threading.Event()

    def transcribe(self, batch: Sequence[Utterance]) -> list[Hypothesis]:
        if self.what and abs(batch[0].audio.max() - ONE) < 0.01:
            what, self.what = self.what, ""
            self.met.set()
            match what:
                case "raises":
                    raise ZeroDivisionError("secret details")
                case "dies":
                    raise SystemExit(1)
                case "hangs":
                    self.release.wait(30)
                case "wrong":
                    return []
        return super().transcribe(batch)


async def both(model: Trouble, after: ScriptedModel | None = None, **settings: float) -> tuple[list[dict], list[dict]]:
    """Let two sessions speak: the first meets the trouble, then the second speaks."""
    seen = threading.Event()

    def open_again() -> ScriptedModel:
        assert seen.wait(20)
        return after or ScriptedModel()

    openers = iter([lambda: model, open_again])
    async with (
        serving(lambda: next(openers)(), **settings) as running,  # noqa: PLW0108 - another one each time
        httpx.AsyncClient(base_url=running.http) as http,
        running.connect("?interim_results=0") as first,
        running.connect("?interim_results=0") as second,
    ):
        for frame in frames(spoken(ONE)):
            await first.send(frame)
        await running.until(model.met.is_set)
        for frame in frames(spoken(TWO)):
            await second.send(frame)
        if settings:  # the engine has to be replaced
            await running.until(lambda: running.service.state != "ready")
            assert (await http.get("/ready")).status_code == 503
            assert (await http.get("/health")).status_code == 200
            seen.set()
            await running.until(lambda: running.service.state == "ready")
            assert (await http.get("/ready")).status_code == 200
            assert running.service.metrics.registry.get_sample_value("stt_engine_restarts_total") == 1
        await first.send('{"type": "finish"}')
        await second.send('{"type": "finish"}')
        return await asyncio.gather(rest(first), rest(second))


async def test_an_engine_that_raises() -> None:
    for what in ("raises", "wrong"):
        first, second = await both(Trouble(what))
        assert first == [FAILURE]
        assert [m["text"][0] for m in second] == ["w"]


async def test_an_engine_that_dies_is_replaced() -> None:
    first, second = await both(Trouble("dies"), engine_timeout_s=60)
    assert first == [FAILURE]
    assert [m["text"][0] for m in second] == ["w"]


async def test_an_engine_that_hangs_is_replaced_and_what_it_says_later_is_not_heard() -> None:
    model = Trouble("hangs")
    after = ScriptedModel(lambda utterance: "after")
    first, second = await both(model, after, engine_timeout_s=0.2)
    model.release.set()
    assert [m["text"] for m in first] == ["after"], "what it was working on is asked again"
    assert [m["text"] for m in second] == ["after"]


async def test_an_engine_that_fails_three_times_in_a_row_is_replaced() -> None:
    """Once it is broken it stays so: an illegal memory access ends all work on a GPU."""

    class Broken(ScriptedModel):
        def transcribe(self, batch: Sequence[Utterance]) -> list[Hypothesis]:
            if any(utterance.audio.any() for utterance in batch):  # anything but the warm-up
                raise RuntimeError("CUDA error: an illegal memory access was encountered")
            return super().transcribe(batch)

    openers = iter([Broken, lambda: ScriptedModel(lambda _: "after")])
    async with (
        serving(lambda: next(openers)()) as running,  # noqa: PLW0108 - another one each time
        running.connect("?interim_results=0") as websocket,
    ):
        for i in range(3):
            assert running.service.recognizer is not None
            assert running.service.recognizer.failed == i
            for frame in frames(spoken(ONE)):
                await websocket.send(frame)
            assert (await said(websocket))["code"] == "engine_failed"
        restarts = "stt_engine_restarts_total"
        await running.until(lambda: running.service.metrics.registry.get_sample_value(restarts) == 1)
        await running.until(lambda: running.service.state == "ready")
        for frame in frames(spoken(TWO)):
            await websocket.send(frame)
        await websocket.send('{"type": "finish"}')
        assert [m["text"] for m in await rest(websocket)] == ["after"]


async def test_an_engine_that_cannot_be_opened_again_fails_what_waits_and_is_tried_again() -> None:
    model, opened = Trouble("dies"), []

    def open_model() -> ScriptedModel:
        opened.append(len(opened))
        if len(opened) == 2:
            raise OSError("the GPU is gone")
        return model if len(opened) == 1 else ScriptedModel()

    async with serving(open_model) as running:
        async with running.connect("?interim_results=0") as websocket:
            for frame in frames(spoken(ONE)):
                await websocket.send(frame)
            await running.until(lambda: running.service.state == "restarting")
            for frame in frames(spoken(TWO)):
                await websocket.send(frame)
            await running.until(lambda: len(opened) == 3 and running.service.state == "ready")
            for frame in frames(spoken(TWO)):
                await websocket.send(frame)
            await websocket.send('{"type": "finish"}')
            messages = await rest(websocket)
        assert messages[0] == FAILURE
        assert messages[-1]["text"].startswith("w")


async def test_an_engine_that_cannot_be_opened_at_all() -> None:
    def fails() -> ScriptedModel:
        raise OSError("no weights")

    async with serving(fails, ready=False) as running:
        await running.until(lambda: running.service.state == "failed")
        assert isinstance(running.service.failure, OSError)
        async with httpx.AsyncClient(base_url=running.http) as http:
            response = await http.get("/ready")
            assert (response.status_code, response.json()["status"]) == (503, "failed")
            assert "no weights" not in response.text  # only errors written for people leave the process


async def test_where_no_engine_will_work_again_the_server_ends_for_its_manager_to_start_another() -> None:
    opened: list[ScriptedModel] = []

    def open_it() -> ScriptedModel:
        opened.append(LosesItsDevice())
        return opened[-1]

    async with serving(open_it) as running, running.connect() as session:
        running.service.on_failure = running.server.stop  # as `serve` has it
        for frame in frames(spoken(ONE)):
            await session.send(frame)
        assert await rest(session) == [], "whoever is told of a failure does not ask the next process"
        assert session.close_code == 1012
        assert running.service.state == "failed"
        assert isinstance(running.service.failure, EngineLostError)  # with which `stt serve` ends, and not with 0
    assert len(opened) == 1


async def test_before_another_engine_is_opened_the_old_one_lets_its_memory_go() -> None:
    order: list[str] = []

    class Large(Trouble):
        def close(self) -> None:
            order.append("closed")

    def open_it() -> ScriptedModel:
        order.append("opened")
        return Large("dies" if len(order) == 1 else "")

    async with serving(open_it) as running, running.connect() as session:
        for frame in frames(spoken(ONE)):
            await session.send(frame)
        await running.until(lambda: len(order) == 3)
    assert order == ["opened", "closed", "opened"]
