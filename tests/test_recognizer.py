"""Order, fairness, staleness and errors of the scheduler, with a scripted engine."""

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest

from scripted import ScriptedModel
from stt.errors import EngineError
from stt.recognizer import Hypothesis, Recognizer, Utterance


def ask(length: int, *, final: bool = True) -> Utterance:
    return Utterance(np.zeros(length, np.float32), final=final)


def asked(model: ScriptedModel) -> list[list[int]]:
    return [[len(utterance.audio) for utterance in batch] for batch in model.batches]


async def held(model: ScriptedModel, recognizer: Recognizer) -> asyncio.Future:
    """Occupy the engine, so that what is asked next has to wait."""
    model.free.clear()
    ticket = recognizer.submit("blocker", ask(1))
    while not model.batches:
        await asyncio.sleep(0)
    return ticket


async def test_finals_go_first_and_what_waits_shares_a_batch() -> None:
    model = ScriptedModel(max_batch=3)
    with Recognizer(model) as recognizer:
        first = await held(model, recognizer)
        tickets = [recognizer.submit("a", ask(10, final=False)), recognizer.submit("b", ask(20, final=False))]
        tickets += [recognizer.submit(session, ask(30)) for session in ("c", "d", "e", "f")]
        model.free.set()
        results = await asyncio.gather(first, *tickets)
    assert asked(model) == [[1], [30, 30, 30], [30], [10, 20]]
    assert [r and r.hypothesis.text for r in results] == ["w1", "w10", "w20", "w30", "w30", "w30", "w30"]
    assert results[2].latency.batch_size == 2
    assert results[2].latency.waited_s > 0


async def test_a_session_with_many_finals_does_not_starve_the_others() -> None:
    model = ScriptedModel(max_batch=2)
    with Recognizer(model) as recognizer:
        await held(model, recognizer)
        tickets = [recognizer.submit("greedy", ask(10 + i)) for i in range(4)]
        tickets += [recognizer.submit("modest", ask(20))]
        model.free.set()
        await asyncio.gather(*tickets)
    assert asked(model) == [[1], [10, 20], [11, 12], [13]]


async def test_interims_leave_half_a_batch_to_the_finals_that_come_meanwhile() -> None:
    model = ScriptedModel(max_batch=5)
    with Recognizer(model) as recognizer:
        await held(model, recognizer)
        tickets = [recognizer.submit(session, ask(10 + session, final=False)) for session in range(4)]
        model.free.set()
        await asyncio.gather(*tickets)
    assert asked(model) == [[1], [10, 11, 12], [13]]


async def test_only_the_newest_interim_waits_and_a_final_makes_it_pointless() -> None:
    model = ScriptedModel()
    with Recognizer(model) as recognizer:
        await held(model, recognizer)
        stale = [recognizer.submit("a", ask(i, final=False)) for i in (2, 3, 4)]
        newest = recognizer.submit("b", ask(5, final=False))
        final = recognizer.submit("a", ask(6))
        model.free.set()
        assert await asyncio.gather(*stale) == [None, None, None]
        assert (await newest).hypothesis.text == "w5"
        assert (await final).hypothesis.text == "w6"
    assert asked(model) == [[1], [6], [5]]


async def test_an_error_reaches_the_sessions_of_its_batch_and_the_worker_goes_on() -> None:
    class Fails(ScriptedModel):
        def transcribe(self, batch: Sequence[Utterance]) -> list[Hypothesis]:
            result = super().transcribe(batch)
            if any(len(utterance.audio) == 13 for utterance in batch):
                raise ZeroDivisionError("thirteen")
            return result

    model = Fails(max_batch=2)
    with Recognizer(model) as recognizer:
        await held(model, recognizer)
        unlucky = [recognizer.submit(session, ask(13)) for session in "ab"]
        lucky = recognizer.submit("c", ask(14))
        model.free.set()
        for ticket in unlucky:
            with pytest.raises(EngineError, match="ZeroDivisionError: thirteen"):
                await ticket
        assert (await lucky).hypothesis.text == "w14"
        assert (await recognizer.submit("a", ask(15))).hypothesis.text == "w15"


async def test_batches_that_fail_are_counted_until_one_does_not() -> None:
    def hear(utterance: Utterance) -> str:
        return "word" if len(utterance.audio) == 1 else str(1 / 0)

    counts = []
    with Recognizer(ScriptedModel(hear)) as recognizer:
        for length in (2, 2, 1, 2, 2, 2):
            await asyncio.gather(recognizer.submit("a", ask(length)), return_exceptions=True)
            counts.append(recognizer.failed)
    assert counts == [1, 2, 0, 1, 2, 3]


async def test_close_gives_up_on_an_engine_that_hangs() -> None:
    model = ScriptedModel()
    with Recognizer(model) as recognizer:
        ticket = await held(model, recognizer)
        await asyncio.to_thread(recognizer.close, 0.01)
        assert recognizer.hung
        with pytest.raises(EngineError, match="closed"):
            await ticket
        model.free.set()
        while recognizer.hung:
            await asyncio.sleep(0.001)


async def test_a_wrong_number_of_results_is_an_error_not_a_shift() -> None:
    class Short(ScriptedModel):
        def transcribe(self, batch: Sequence[Utterance]) -> list[Hypothesis]:
            return super().transcribe(batch)[1:]

    with Recognizer(Short()) as recognizer, pytest.raises(EngineError, match="0 results for 1 utterances"):
        await recognizer.submit("a", ask(1))


async def test_forget_drops_what_waits_and_close_fails_it() -> None:
    model = ScriptedModel()
    with Recognizer(model) as recognizer:
        await held(model, recognizer)
        gone = recognizer.submit("gone", ask(2))
        recognizer.forget("gone")
        assert await gone is None
        late = recognizer.submit("late", ask(3))
        asyncio.get_running_loop().call_later(0.01, model.free.set)
        await asyncio.to_thread(recognizer.close)
        with pytest.raises(EngineError, match="closed"):
            await late
        with pytest.raises(EngineError, match="closed"):
            recognizer.submit("a", ask(4))
    assert asked(model) == [[1]]


async def test_not_entered_is_said() -> None:
    with pytest.raises(EngineError, match="closed"):
        Recognizer(ScriptedModel()).submit("a", ask(1))
