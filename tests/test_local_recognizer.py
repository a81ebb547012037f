"""Order, fairness, staleness and errors of the scheduler, with a scripted engine."""

import asyncio
import time
from collections.abc import Sequence

import numpy as np
import pytest

from scripted import ScriptedModel
from stt.errors import EngineError
from stt.recognition import (
    GivenUpError,
    Hypothesis,
    Kind,
    LocalRecognizer,
    RecognitionOptions,
    Utterance,
    WindowKey,
)


def ask(session: object, length: int, kind: Kind = "final", window: int = 0, *, live: bool = True) -> Utterance:
    audio = np.zeros(length, np.float32)
    return Utterance(audio, RecognitionOptions(live=live), kind, key=WindowKey(session, 0, window))


def asked(model: ScriptedModel) -> list[list[int]]:
    return [[len(utterance.audio) for utterance in batch] for batch in model.batches]


async def held(model: ScriptedModel, recognizer: LocalRecognizer) -> asyncio.Future:
    """Occupy the engine, so that what is asked next has to wait."""
    model.free.clear()
    ticket = recognizer.submit(ask("blocker", 1))
    while not model.batches:
        await asyncio.sleep(0)
    return ticket


async def test_finals_go_first_and_what_waits_shares_a_batch() -> None:
    model = ScriptedModel(max_batch=3)
    with LocalRecognizer(model) as recognizer:
        first = await held(model, recognizer)
        tickets = [recognizer.submit(ask("a", 10, "interim")), recognizer.submit(ask("b", 20, "interim"))]
        tickets += [recognizer.submit(ask(session, 30)) for session in ("c", "d", "e", "f")]
        model.free.set()
        results = await asyncio.gather(first, *tickets)
    assert asked(model) == [[1], [30, 30, 30], [30, 10, 20]]
    assert [r and r.hypothesis.text for r in results] == ["w1", "w10", "w20", "w30", "w30", "w30", "w30"]
    assert results[2].latency.batch_size == 3
    assert results[2].latency.waited_s > 0


async def test_a_session_with_many_finals_does_not_starve_the_others() -> None:
    model = ScriptedModel(max_batch=2)
    with LocalRecognizer(model) as recognizer:
        await held(model, recognizer)
        tickets = [recognizer.submit(ask("greedy", 10 + i)) for i in range(4)]
        tickets += [recognizer.submit(ask("modest", 20))]
        model.free.set()
        await asyncio.gather(*tickets)
    assert asked(model) == [[1], [10, 20], [11, 12], [13]]


class OneByOne(ScriptedModel):
    """Rows of a batch run one after the other, as on a CPU."""

    def cost(self, seconds: Sequence[float]) -> float:
        return sum(seconds)


class SideBySide(ScriptedModel):
    """A batch takes as long as its longest row."""

    def cost(self, seconds: Sequence[float]) -> float:
        return max(seconds)


async def test_where_a_batch_costs_what_its_rows_do_nobody_shares_one() -> None:
    model = OneByOne(max_batch=16)
    with LocalRecognizer(model) as recognizer:
        await held(model, recognizer)
        tickets = [recognizer.submit(ask(session, 32_000)) for session in range(4)]
        tickets += [recognizer.submit(ask(session, 16_000, "interim")) for session in range(4, 6)]
        model.free.set()
        await asyncio.gather(*tickets)
    assert asked(model) == [[1], *[[32_000]] * 4, [16_000], [16_000]]


async def test_windows_of_unlike_length_share_no_batch_where_the_short_one_would_wait() -> None:
    model = SideBySide(max_batch=16)
    with LocalRecognizer(model) as recognizer:
        await held(model, recognizer)
        lengths = [32_000, 384_000, 380_000, 33_000, 390_000]
        tickets = [recognizer.submit(ask(session, length)) for session, length in enumerate(lengths)]
        model.free.set()
        await asyncio.gather(*tickets)
    assert asked(model) == [[1], [32_000, 33_000], [384_000, 380_000, 390_000]]


async def test_rows_that_finals_leave_free_are_filled_with_interims_that_cost_them_nothing() -> None:
    model = SideBySide(max_batch=4)
    with LocalRecognizer(model) as recognizer:
        await held(model, recognizer)
        tickets = [recognizer.submit(ask("a", 32_000))]
        tickets += [recognizer.submit(ask(length, length, "interim")) for length in (16_000, 64_000, 32_000, 8_000)]
        model.free.set()
        await asyncio.gather(*tickets)
    assert asked(model) == [[1], [32_000, 16_000, 32_000, 8_000], [64_000]]


async def test_files_wait_for_live_finals_and_take_turns_with_interims() -> None:
    model = OneByOne(max_batch=4)
    with LocalRecognizer(model) as recognizer:
        await held(model, recognizer)
        tickets = [recognizer.submit(ask("file", 100 + i, window=i, live=False)) for i in range(3)]
        tickets += [recognizer.submit(ask("a", 20, "interim")), recognizer.submit(ask("b", 30))]
        model.free.set()
        await asyncio.gather(*tickets)
    assert asked(model) == [[1], [30], [100], [20], [101], [102]]


async def test_what_a_newer_request_of_the_same_window_overtook_is_not_run() -> None:
    model = ScriptedModel(max_batch=1)
    with LocalRecognizer(model) as recognizer:
        await held(model, recognizer)
        stale = [recognizer.submit(ask("a", 10 + i, "speculative")) for i in range(5)]
        other = recognizer.submit(ask("a", 20, "speculative", window=1))
        newest = recognizer.submit(ask("a", 30, "interim"))
        model.free.set()
        assert await asyncio.gather(*stale) == [None] * 5
        await asyncio.gather(other, newest)
    assert asked(model) == [[1], [20], [30]]


async def test_a_final_is_never_dropped() -> None:
    model = ScriptedModel(max_batch=1)
    with LocalRecognizer(model) as recognizer:
        await held(model, recognizer)
        tickets = [recognizer.submit(ask("a", 10, kind)) for kind in ("final", "final", "speculative", "interim")]
        model.free.set()
        assert [result is not None for result in await asyncio.gather(*tickets)] == [True, True, False, True]


async def test_a_cancelled_request_is_not_run() -> None:
    model = ScriptedModel(max_batch=1)
    with LocalRecognizer(model) as recognizer:
        await held(model, recognizer)
        taken_back, other = recognizer.submit(ask("a", 10)), recognizer.submit(ask("b", 20))
        taken_back.cancel()
        model.free.set()
        await other
    assert asked(model) == [[1], [20]]


async def test_interims_give_way_while_finals_have_to_wait_for_them() -> None:
    class Slow(OneByOne):
        def transcribe(self, batch: Sequence[Utterance]) -> list[Hypothesis]:
            time.sleep(0.12 if batch[0].kind == "interim" else 0.001)
            return super().transcribe(batch)

    model = Slow()
    with LocalRecognizer(model) as recognizer:
        for _ in range(4):  # each final comes while an interim runs
            interim = recognizer.submit(ask("a", 10, "interim"))
            while not recognizer.running_s:
                await asyncio.sleep(0.001)
            await recognizer.submit(ask("b", 20))
            await interim
        began = time.monotonic()
        await recognizer.submit(ask("a", 11, "interim"))
        assert time.monotonic() - began > 0.2, "the next interim did not wait"


class Yielding(OneByOne):
    """Is held between two steps of its work, and leaves off what is unwanted by then."""

    def transcribe(self, batch: Sequence[Utterance]) -> list[Hypothesis]:
        result = super().transcribe(batch)
        if all(utterance.unwanted() for utterance in batch):
            raise GivenUpError
        return result


@pytest.mark.parametrize(
    ("running", "then", "left_off"),
    [
        (ask("a", 10, "interim"), ask("b", 20), True),
        (ask("a", 10, "interim"), ask("a", 20, "speculative"), True),
        (ask("a", 10, "interim"), ask("b", 20, live=False), False),
        (ask("a", 10, "interim"), ask("b", 20, "interim"), False),
        (ask("a", 10, "speculative"), ask("a", 20, "speculative"), True),
        (ask("a", 10, "speculative"), ask("a", 20), True),
        (ask("a", 10, "speculative"), ask("a", 20, window=1), False),
        (ask("a", 10, "speculative"), ask("b", 20), False),
        (ask("a", 10), ask("a", 20), False),
    ],
)
async def test_what_has_begun_and_is_only_in_the_way_is_left_off(
    running: Utterance, then: Utterance, *, left_off: bool
) -> None:
    model = Yielding()
    with LocalRecognizer(model) as recognizer:
        model.free.clear()
        first = recognizer.submit(running)
        while not model.batches:
            await asyncio.sleep(0)
        second = recognizer.submit(then)
        model.free.set()
        assert (await first is None) == left_off
        assert (await second).hypothesis.text == "w20"
        assert not recognizer.failed


async def test_who_is_gone_is_in_nobodys_way() -> None:
    model = Yielding()
    with LocalRecognizer(model) as recognizer:
        model.free.clear()
        interim = recognizer.submit(ask("a", 10, "interim"))
        while not model.batches:
            await asyncio.sleep(0)
        recognizer.submit(ask("b", 20))
        recognizer.submit(ask("c", 30)).cancel()
        recognizer.forget("b")
        model.free.set()
        assert (await interim).hypothesis.text == "w10"


async def test_finals_go_in_the_order_they_were_asked_for() -> None:
    """All are due so long after it: whoever was served less than others has no claim to be heard before them."""
    model = OneByOne()
    with LocalRecognizer(model) as recognizer:
        await recognizer.submit(ask("new", 1, "interim"))
        await recognizer.submit(ask("old", 2, "interim"))
        await held(model, recognizer)
        tickets = [recognizer.submit(ask(session, n)) for n, session in ((10, "old"), (11, "new"), (12, "newest"))]
        model.free.set()
        await asyncio.gather(*tickets)
    assert asked(model)[-3:] == [[10], [11], [12]]


async def test_only_the_newest_interim_waits_and_a_final_makes_it_pointless() -> None:
    model = ScriptedModel()
    with LocalRecognizer(model) as recognizer:
        await held(model, recognizer)
        stale = [recognizer.submit(ask("a", i, "interim")) for i in (2, 3, 4)]
        newest = recognizer.submit(ask("b", 5, "interim"))
        final = recognizer.submit(ask("a", 6))
        model.free.set()
        assert await asyncio.gather(*stale) == [None, None, None]
        assert (await newest).hypothesis.text == "w5"
        assert (await final).hypothesis.text == "w6"
    assert asked(model) == [[1], [6, 5]]


async def test_only_the_culprit_of_a_batch_that_fails_has_no_result() -> None:
    class Fails(ScriptedModel):
        def transcribe(self, batch: Sequence[Utterance]) -> list[Hypothesis]:
            result = super().transcribe(batch)
            if any(len(utterance.audio) == 13 for utterance in batch):
                raise ZeroDivisionError("thirteen")
            return result

    model = Fails(max_batch=6)
    with LocalRecognizer(model) as recognizer:
        await held(model, recognizer)
        lucky = [recognizer.submit(ask(session, 20 + session)) for session in range(4)]
        unlucky, interim = recognizer.submit(ask("a", 13)), recognizer.submit(ask("b", 14, "interim"))
        model.free.set()
        with pytest.raises(EngineError, match="ZeroDivisionError: thirteen"):
            await unlucky
        assert [(await ticket).hypothesis.text for ticket in lucky] == ["w20", "w21", "w22", "w23"]
        assert await interim is None, "an interim that failed is one that never came"
        assert (await recognizer.submit(ask("a", 15))).hypothesis.text == "w15"


async def test_what_a_worker_had_that_was_given_up_is_asked_once_more() -> None:
    hung = ScriptedModel(max_batch=3)
    with LocalRecognizer(hung) as recognizer:
        await held(hung, recognizer)
        hung.free.set()
        while recognizer.running_s:
            await asyncio.sleep(0)
        hung.free.clear()
        tickets = [recognizer.submit(ask("a", 10)), recognizer.submit(ask("b", 20, "interim"))]
        while len(hung.batches) < 2:
            await asyncio.sleep(0)
        recognizer.abandon(EngineError("hung"))
        recognizer.restart(ScriptedModel())
        assert (await tickets[0]).hypothesis.text == "w10"
        hung.free.set()

        again = ScriptedModel()
        recognizer.abandon(EngineError("hung"))
        recognizer.restart(again)
        again.free.clear()
        unlucky = recognizer.submit(ask("a", 30))
        for _ in range(2):
            while not recognizer.running_s:
                await asyncio.sleep(0)
            recognizer.abandon(EngineError("hung again"))
            recognizer.restart(again)
        with pytest.raises(EngineError, match="hung again"):
            await unlucky
        again.free.set()


async def test_leaving_does_not_hold_up_the_event_loop() -> None:
    model = ScriptedModel()
    with LocalRecognizer(model) as recognizer:
        await held(model, recognizer)
    assert not model.free.is_set(), "the batch still runs"
    model.free.set()
    while recognizer.alive:
        await asyncio.sleep(0.001)


async def test_the_lag_is_the_age_of_the_oldest_request_that_stands() -> None:
    model = ScriptedModel(max_batch=1)
    with LocalRecognizer(model) as recognizer:
        assert recognizer.lag_s == 0
        ticket = await held(model, recognizer)
        recognizer.submit(ask("a", 2, "interim"))
        assert recognizer.lag_s > 0
        model.free.set()
        await ticket
        assert recognizer.lag_s == 0


async def test_batches_that_fail_are_counted_until_one_does_not() -> None:
    def hear(utterance: Utterance) -> str:
        return "word" if len(utterance.audio) == 1 else str(1 / 0)

    counts = []
    with LocalRecognizer(ScriptedModel(hear)) as recognizer:
        for length in (2, 2, 1, 2, 2, 2):
            await asyncio.gather(recognizer.submit(ask("a", length)), return_exceptions=True)
            counts.append(recognizer.failed)
    assert counts == [1, 2, 0, 1, 2, 3]


async def test_close_gives_up_on_an_engine_that_hangs() -> None:
    model = ScriptedModel()
    with LocalRecognizer(model) as recognizer:
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

    with LocalRecognizer(Short()) as recognizer, pytest.raises(EngineError, match="0 results for 1 utterances"):
        await recognizer.submit(ask("a", 1))


async def test_forget_drops_what_waits_and_close_fails_it() -> None:
    model = ScriptedModel()
    with LocalRecognizer(model) as recognizer:
        await held(model, recognizer)
        gone = recognizer.submit(ask("gone", 2))
        recognizer.forget("gone")
        assert await gone is None
        late = recognizer.submit(ask("late", 3))
        asyncio.get_running_loop().call_later(0.01, model.free.set)
        await asyncio.to_thread(recognizer.close)
        with pytest.raises(EngineError, match="closed"):
            await late
        with pytest.raises(EngineError, match="closed"):
            recognizer.submit(ask("a", 4))
    assert asked(model) == [[1]]


async def test_not_entered_is_said() -> None:
    with pytest.raises(EngineError, match="closed"):
        LocalRecognizer(ScriptedModel()).submit(ask("a", 1))
