"""A front and its replicas, which die, hang, forget and are drained: nothing that stands is lost, or heard twice."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from replicas import PATIENCE, Fleet
from scripted import LoudnessVad, ScriptedModel, tone
from spoken import silence
from stt.cluster.load import Load
from stt.cluster.recognizer import ClusterRecognizer, Patience
from stt.errors import EngineError, EngineLostError
from stt.events import Event, TurnCompleted
from stt.recognition import Recognition, Utterance, WindowKey
from stt.recognition.service import Kind
from stt.session import Session


@asynccontextmanager
async def cluster(
    count: int = 2, fleet: Fleet | None = None, patience: Patience = PATIENCE, max_batch: int = 4
) -> AsyncIterator[tuple[ClusterRecognizer, Fleet]]:
    fleet = fleet or Fleet(max_batch=max_batch)
    for _ in range(count):
        await fleet.add()
    recognizer = ClusterRecognizer(fleet, patience)
    running = asyncio.create_task(recognizer.run())
    try:
        yield recognizer, fleet
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await recognizer.close()
        await fleet.close()


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not holds():
            await asyncio.sleep(0.001)


def asked(session: object, samples: int, kind: Kind = "final", turn: int = 0, window: int = 0) -> Utterance:
    return Utterance(tone(1)[:samples], kind=kind, key=WindowKey(session, turn, window))


def text(recognition: Recognition | None) -> str:
    assert recognition is not None
    return recognition.hypothesis.text


def held(fleet: Fleet) -> None:
    for one in fleet.there.values():
        one.model.free.clear()


def let_go(fleet: Fleet) -> None:
    for one in fleet.there.values():
        one.model.free.set()


def at_work(fleet: Fleet) -> list[str]:
    return [name for name, one in fleet.there.items() if one.model.batches]


async def test_a_session_stays_with_a_replica_which_is_sent_what_is_new():
    async with cluster(3) as (recognizer, fleet):
        for samples in (1_000, 2_000, 3_000):
            assert text(await recognizer.submit(asked("s", samples, "interim"))) == f"w{samples}"
        [home] = at_work(fleet)
        assert [len(m["pcm"]) for m in fleet.there[home].asked] == [1_000, 1_000, 1_000]
        recognizer.forget("s")
        await until(lambda: fleet.there[home].forgot)


async def test_sessions_are_spread_evenly_also_while_nobody_has_anything_waiting():
    async with cluster(3) as (recognizer, fleet):
        await until(lambda: len(recognizer.loads) == 3)
        for number in range(30):
            await recognizer.submit(asked(number, 500))
        counts = [len(one.asked) for one in fleet.there.values()]
        assert max(counts) - min(counts) <= 1


async def test_a_replica_that_has_forgotten_is_sent_all_of_it():
    async with cluster(1) as (recognizer, fleet):
        assert text(await recognizer.submit(asked("s", 1_000))) == "w1000"
        [one] = fleet.there.values()
        one.replica.forget(one.asked[0]["session"])
        assert text(await recognizer.submit(asked("s", 2_000))) == "w2000"
        assert recognizer.counts.forgotten == 1


async def test_what_a_replica_had_when_it_died_is_heard_elsewhere_and_interims_are_dropped():
    async with cluster(2) as (recognizer, fleet):
        await recognizer.submit(asked("s", 500))
        [home] = at_work(fleet)
        held(fleet)
        tickets = [recognizer.submit(asked("s", n, "final", n)) for n in (1_000, 2_000)]
        interim = recognizer.submit(asked("s", 3_000, "interim", 3))
        await until(lambda: len(fleet.there[home].asked) == 4)
        others = [name for name in fleet.there if name != home]
        await fleet.kill(home)
        let_go(fleet)
        assert [text(r) for r in await asyncio.gather(*tickets)] == ["w1000", "w2000"]
        assert await interim is None
        assert at_work(fleet) == others
        assert recognizer.counts.again["gone"] == 2
        assert recognizer.counts.dropped == 1


async def test_finals_are_made_again_before_what_may_not_stand():
    """Many sessions lose their replica at once, and one of them comes back: finals go first, the oldest first."""
    async with cluster(1, max_batch=1) as (recognizer, fleet):
        [home] = list(fleet.there)
        held(fleet)
        kinds: list[Kind] = ["speculative", "final", "interim", "speculative", "final"]
        tickets = [recognizer.submit(asked(n, 1_000 + n, kind)) for n, kind in enumerate(kinds)]
        await until(lambda: len(fleet.there[home].asked) == 5)
        back = await fleet.add()
        await fleet.kill(home)
        done = await asyncio.gather(*tickets)
        assert [r is not None and text(r) for r in done] == ["w1000", "w1001", False, "w1003", "w1004"]
        assert [m["kind"] for m in fleet.there[back].asked] == ["final"] * 2 + ["speculative"] * 2
        assert [len(m["pcm"]) for m in fleet.there[back].asked] == [1_001, 1_004, 1_000, 1_003]


async def test_a_replica_that_hangs_is_left_and_one_that_is_slow_is_not():
    async with cluster(2) as (recognizer, fleet):
        await recognizer.submit(asked("s", 500))
        [home] = at_work(fleet)
        fleet.there[home].model.free.clear()  # busy, but there
        slow = recognizer.submit(asked("s", 1_000))
        await until(lambda: len(fleet.there[home].asked) == 2)
        await asyncio.sleep(3 * PATIENCE.patience_s)
        assert not slow.done()
        assert not recognizer.counts.again
        fleet.there[home].hangs = True
        assert text(await slow) == "w1000"
        assert recognizer.counts.again == {"hung": 1}
        await recognizer.submit(asked("other", 700))  # nobody is sent to it meanwhile
        assert len(fleet.there[home].asked) == 2


async def test_a_drained_replica_answers_what_it_has_and_gets_nothing_new():
    async with cluster(2) as (recognizer, fleet):
        await recognizer.submit(asked("s", 500))
        [home] = at_work(fleet)
        held(fleet)
        under_way = recognizer.submit(asked("s", 1_000))
        await until(lambda: len(fleet.there[home].asked) == 2)
        drained = fleet.drain(home)
        let_go(fleet)
        later = recognizer.submit(asked("s", 1_500))
        assert text(await later) == "w1500"
        drained.model.free.set()
        assert text(await under_way) == "w1000"
        assert not recognizer.counts.again
        await drained.replica.close()


async def test_without_any_replica_texts_wait_and_the_front_says_so():
    async with cluster(1) as (recognizer, fleet):
        states: list[str] = []
        recognizer.changed = lambda: states.append(recognizer.state)
        assert text(await recognizer.submit(asked("s", 500))) == "w500"
        await fleet.kill(next(iter(fleet.there)))
        waits = recognizer.submit(asked("s", 1_000))
        await until(lambda: recognizer.state == "unreachable")
        assert not waits.done()
        assert recognizer.lag_s > 0
        await fleet.add()
        assert text(await waits) == "w1000"
        assert recognizer.state == "ready"
        assert states[-2:] == ["unreachable", "ready"]


async def test_without_any_replica_for_too_long_a_request_fails():
    async with cluster(0, patience=replace(PATIENCE, give_up_s=0.05)) as (recognizer, _):
        with pytest.raises(EngineError, match="no engine answered"):
            await recognizer.submit(asked("s", 500))


async def test_what_an_engine_fails_on_is_tried_once_elsewhere():
    def hear(utterance: Utterance) -> str:
        if len(utterance.audio) == 666:
            raise ZeroDivisionError
        return "fine"

    async with cluster(2, Fleet(hear)) as (recognizer, fleet):
        with pytest.raises(EngineError, match="ZeroDivisionError"):
            await recognizer.submit(asked("s", 666))
        assert [sum(len(m["pcm"]) == 666 for m in one.asked) for one in fleet.there.values()] == [1, 1]
        assert await recognizer.submit(asked("s", 666, "interim")) is None
        assert text(await recognizer.submit(asked("s", 1_000))) == "fine"


async def test_a_replica_whose_device_is_lost_is_left():
    class Lost(ScriptedModel):
        def transcribe(self, batch):
            if batch[0].audio.any():
                raise EngineLostError("the GPU is gone")
            return super().transcribe(batch)

    async with cluster(0) as (recognizer, fleet):
        await fleet.add(Lost())
        first = recognizer.submit(asked("s", 1_000))
        await until(lambda: recognizer.counts.again)
        await fleet.add()
        assert text(await first) == "w1000"


async def test_a_pause_that_arrives_after_the_one_that_overtook_it_does_not_take_its_place():
    """Requests may change their order on the way: what a replica says was overtaken need not be."""

    class Turns(Fleet):
        async def recognize(self, message, to, avoid):
            if len(message["pcm"]) == 1_000 and message["base"] is None:
                await late.wait()
            return await super().recognize(message, to, avoid)

    late = asyncio.Event()
    async with cluster(1, Turns()) as (recognizer, fleet):
        held(fleet)
        [one] = fleet.there.values()
        busy = recognizer.submit(asked("other", 300))
        await until(lambda: one.model.batches)
        first = recognizer.submit(asked("s", 1_000, "speculative"))
        await asyncio.sleep(0)
        second = recognizer.submit(asked("s", 2_000, "speculative"))
        await until(lambda: one.replica.load().waiting == 1)  # the second: it was sent whole
        late.set()
        await until(lambda: recognizer.counts.again == {"overtaken": 1})
        let_go(fleet)
        assert text(await second) == "w2000"
        await first
        await busy


async def test_what_nobody_waits_for_is_taken_back():
    async with cluster(1) as (recognizer, fleet):
        held(fleet)
        [one] = fleet.there.values()
        busy = recognizer.submit(asked("other", 300))
        await until(lambda: one.model.batches)
        ticket = recognizer.submit(asked("s", 1_000))
        gone = recognizer.submit(asked("gone", 1_000))
        await until(lambda: one.replica.load().waiting == 2)
        ticket.cancel()
        recognizer.forget("gone")
        assert await gone is None
        await until(lambda: len(recognizer._tasks) == 1)  # the call that runs
        let_go(fleet)
        await busy
        await recognizer.submit(asked("last", 2_000))
        assert [len(u.audio) for batch in one.model.batches for u in batch] == [300, 2_000]
        assert recognizer.waiting == 0


async def test_who_is_late_gets_no_new_turn_where_another_has_room():
    async with cluster(2) as (recognizer, fleet):
        await recognizer.submit(asked("s", 500))
        [home] = at_work(fleet)
        fleet.there[home].replica.load = lambda: Load(home, lag_s=3.0)
        await until(lambda: sorted(load.lag_s for load in recognizer.loads) == [0.0, 3.0])
        await recognizer.submit(asked("s", 600))  # a turn goes on where it began
        assert len(fleet.there[home].asked) == 2
        assert text(await recognizer.submit(asked("s", 700, turn=1))) == "w700"
        assert len(fleet.there[home].asked) == 2


async def test_nobody_more_is_let_in_once_all_replicas_heard_of_are_full():
    async with cluster(0) as (recognizer, _):
        assert recognizer.refusal() is None
        recognizer._learn(Load("a", used=0.95))
        assert recognizer.refusal() == "95% of the engines is in use"
        recognizer._learn(Load("b", used=0.3))
        assert recognizer.refusal() is None
        recognizer._learn(Load("b", used=0.3, lag_s=2.5))
        recognizer._loads.pop("a")
        assert recognizer.refusal() == "texts are 2.5 s late"


async def test_after_closing_nothing_waits():
    async with cluster(1) as (recognizer, fleet):
        held(fleet)
        ticket = recognizer.submit(asked("s", 1_000))
        await until(lambda: at_work(fleet))
        await recognizer.close()
        with pytest.raises(EngineError, match="closed"):
            await ticket
        with pytest.raises(EngineError, match="closed"):
            recognizer.submit(asked("s", 1_000))
        let_go(fleet)


@pytest.mark.parametrize("seed", range(12))
async def test_sessions_cannot_tell_whatever_happens_to_replicas(seed: int):
    """Talks of many turns, while replicas die, hang, forget, are drained and added: each final once, and right."""
    r = random.Random(seed)
    turns = [round(r.uniform(0.3, 3.0), 2) for _ in range(4)]
    audio = np.concatenate([part for s in turns for part in (tone(s), silence(2.0))])

    async def talk(recognizer: ClusterRecognizer) -> list[TurnCompleted]:
        finals: list[TurnCompleted] = []

        async def sink(event: Event) -> None:
            if isinstance(event, TurnCompleted):
                finals.append(event)

        async def source() -> AsyncIterator[np.ndarray]:
            for at in range(0, len(audio), 4_000):
                yield audio[at : at + 4_000]
                await asyncio.sleep(r.choice((0, 0, 0.002)))

        await Session(recognizer, LoudnessVad(), trace="t").run(source(), sink)
        return finals

    def hear(utterance: Utterance) -> str:
        return f"w{int(np.count_nonzero(utterance.audio))}"

    async def trouble(fleet: Fleet) -> None:
        while True:
            await asyncio.sleep(r.uniform(0.001, 0.02))
            names = list(fleet.there)
            match r.choice(("kill", "hang", "forget", "drain", "add")):
                case "kill" if names:
                    await fleet.kill(r.choice(names))
                case "hang" if names:
                    fleet.there[r.choice(names)].hangs = True
                case "forget" if names:
                    fleet.there[r.choice(names)].replica._cache = type(fleet.there[names[0]].replica._cache)()
                case "drain" if len(names) > 1:
                    drained.append(fleet.drain(r.choice(names)))
                case _ if len(names) < 4:
                    await fleet.add()

    drained: list = []
    async with cluster(2, Fleet(hear)) as (recognizer, fleet):
        troubles = asyncio.create_task(trouble(fleet))
        async with asyncio.timeout(60):
            talking = [asyncio.create_task(talk(recognizer)) for _ in range(6)]
            await asyncio.sleep(0.3)
            troubles.cancel()
            await asyncio.gather(troubles, return_exceptions=True)
            await fleet.add()
            heard = await asyncio.gather(*talking)
        for finals in heard:
            assert [f.turn for f in finals] == list(range(len(turns)))
            assert [f.text for f in finals] == [f"w{round(s * 16_000)}" for s in turns]
            assert all(a.end <= b.start for a, b in pairwise(finals))
        assert recognizer.waiting == 0
        for one in drained:
            await one.replica.close()
