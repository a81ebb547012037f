"""Rows that come and go behind the scheduler: who joins, and that what fails harms nobody else."""

import asyncio
import json
import random
import threading
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import soundfile

from scripted import ScriptedModel
from stt.engines.canary_qwen import CanaryQwen
from stt.errors import EngineError, EngineLostError
from stt.recognition import Hypothesis, Kind, LocalRecognizer, Recognition, RecognitionOptions, Utterance, WindowKey
from stt.recognition.continuous import places
from stt.server.metrics import MeasuredModel, Metrics

TOY = Path(__file__).parent / "data" / "canary-toy"

Fault = Literal["refused", "breaks joining", "breaks the step", "by itself", "lost"]


def ask(session: object, length: int, kind: Kind = "final", window: int = 0, *, live: bool = True) -> Utterance:
    audio = np.zeros(length, np.float32)
    return Utterance(audio, RecognitionOptions(live=live), kind, key=WindowKey(session, 0, window))


@dataclass
class Row:
    utterance: Utterance
    steps: int

    @property
    def length(self) -> int:
        return len(self.utterance.audio)


class ScriptedRows:
    """An utterance of n samples takes n % 7 + 1 steps; those named in `faults` fail, each in its way."""

    def __init__(self, model: "Continuous", rows: int) -> None:
        self.model, self.rows = model, rows
        self.now: dict[Hashable, Row] = {}
        self.joined: list[list[int]] = []
        self.dropped: list[int] = []
        self.tickets = 0
        self.most = 0
        self.go_on = threading.Event()
        self.go_on.set()

    @property
    def free(self) -> int:
        return self.rows - len(self.now)

    @property
    def running(self) -> int:
        return len(self.now)

    def add(self, batch: Sequence[Utterance]) -> list[Hashable]:
        assert 0 < len(batch) <= self.free
        faults = [self.model.faults.get(len(utterance.audio)) for utterance in batch]
        if "refused" in faults:
            raise ValueError("refused")
        if "breaks joining" in faults:
            self.now.clear()
            raise RuntimeError("breaks joining")
        tickets = [f"row {self.tickets + i}" for i in range(len(batch))]
        self.tickets += len(batch)
        self.joined.append([len(utterance.audio) for utterance in batch])
        self.now |= {ticket: Row(u, len(u.audio) % 7 + 1) for ticket, u in zip(tickets, batch, strict=True)}
        self.most = max(self.most, len(self.now))
        return list(tickets)

    def step(self) -> dict[Hashable, Hypothesis | Exception]:
        assert self.go_on.wait(20), "held for too long"
        done: dict[Hashable, Hypothesis | Exception] = {}
        for ticket, row in list(self.now.items()):
            row.steps -= 1
            if row.steps == 0:
                fault = self.model.faults.get(row.length)
                if fault in ("breaks the step", "lost"):
                    self.now.clear()
                    raise RuntimeError(fault) if fault != "lost" else EngineLostError(fault)
                done[ticket] = Hypothesis(f"w{row.length}") if fault is None else ZeroDivisionError(fault)
                del self.now[ticket]
        return done

    def drop(self, tickets: Iterable[Hashable]) -> None:
        self.dropped += [self.now.pop(ticket).length for ticket in tickets]


class Continuous(ScriptedModel):
    """Whole calls while nothing is running, and rows that come and go."""

    def __init__(self, rows: int = 4, faults: Mapping[int, Fault] | None = None) -> None:
        super().__init__(self.hear, max_batch=rows)
        self.faults: Mapping[int, Fault] = faults or {}
        self.batch = ScriptedRows(self, rows)

    def hear(self, utterance: Utterance) -> str:
        assert not self.batch.running
        if (fault := self.faults.get(len(utterance.audio))) is not None:
            raise EngineLostError(fault) if fault == "lost" else ZeroDivisionError(fault)
        return f"w{len(utterance.audio)}"

    def running_batch(self) -> ScriptedRows:
        return self.batch


async def held(model: Continuous, recognizer: LocalRecognizer, length: int = 6) -> asyncio.Future:
    """Occupy one row, so that what is asked next has to wait until `go_on`."""
    model.batch.go_on.clear()
    ticket = recognizer.submit(ask("blocker", length))
    while not model.batch.running:
        await asyncio.sleep(0)
    return ticket


async def test_what_comes_joins_between_two_steps_and_leaves_when_it_has_ended() -> None:
    model = Continuous()
    with LocalRecognizer(model) as recognizer:
        long = await held(model, recognizer, 700_006)
        short = recognizer.submit(ask("a", 700))
        ended: list[str] = []
        long.add_done_callback(lambda _: ended.append("long"))
        short.add_done_callback(lambda _: ended.append("short"))
        model.batch.go_on.set()
        result, _ = await asyncio.gather(short, long)
    assert ended == ["short", "long"]
    assert model.batch.joined == [[700_006], [700]]
    assert result is not None
    assert result.hypothesis.text == "w700"
    assert result.latency.batch_size == 2
    assert model.batches == []


async def test_finals_join_first_and_interims_leave_a_row_free_for_them() -> None:
    model = Continuous(rows=8)
    with LocalRecognizer(model) as recognizer:
        first = await held(model, recognizer)
        tickets = [recognizer.submit(ask(f"i{i}", 14 + 7 * i, "interim")) for i in range(9)]
        tickets += [recognizer.submit(ask("f", 7)), recognizer.submit(ask("s", 7, "speculative"))]
        model.batch.go_on.set()
        await asyncio.gather(first, *tickets)
    assert model.batch.joined[0] == [6]
    assert model.batch.joined[1][:2] == [7, 7]
    assert len(model.batch.joined[1]) == 2 + 5, "rows that are free, but for the one that finals may need"


@pytest.mark.parametrize("rows", [1, 4, 8, 64])
def test_room_for_interims_never_takes_the_last_rows_of_many(rows: int) -> None:
    for free in range(rows + 1):
        for interims in range(rows - free + 1):
            room = places(rows, free, interims)
            assert 0 <= room.interims <= room.all <= free
            if rows >= 8:
                assert interims + room.interims <= max(interims, rows - rows // 8)


async def test_only_the_newest_interim_joins() -> None:
    model = Continuous(rows=1)
    with LocalRecognizer(model) as recognizer:
        first = await held(model, recognizer)
        stale = [recognizer.submit(ask("a", 10 + i, "interim")) for i in range(3)]
        newest = recognizer.submit(ask("a", 20, "interim"))
        model.batch.go_on.set()
        assert await asyncio.gather(*stale) == [None] * 3
        await asyncio.gather(first, newest)
    assert model.batch.joined == [[6], [20]]


async def test_the_row_of_one_who_left_is_free_at_once() -> None:
    model = Continuous(rows=1)
    with LocalRecognizer(model) as recognizer:
        gone = await held(model, recognizer)
        other = recognizer.submit(ask("b", 20))
        gone.cancel()
        model.batch.go_on.set()
        await other
    assert model.batch.dropped in ([6], []), "unless it had just ended"
    assert model.batch.joined == [[6], [20]]


@pytest.mark.parametrize("fault", ["refused", "breaks joining", "breaks the step", "by itself"])
async def test_only_the_culprit_has_no_result(fault: Fault) -> None:
    model = Continuous(rows=6, faults={13: fault})
    with LocalRecognizer(model) as recognizer:
        first = await held(model, recognizer)
        lucky = [recognizer.submit(ask(session, 20 + session)) for session in range(4)]
        unlucky = recognizer.submit(ask("a", 13))
        model.batch.go_on.set()
        with pytest.raises(EngineError, match="Error: " + fault):
            await unlucky
        texts = [(await ticket).hypothesis.text for ticket in (first, *lucky)]
        assert texts == ["w6", "w20", "w21", "w22", "w23"]
        assert (await recognizer.submit(ask("a", 15))).hypothesis.text == "w15"
        assert recognizer.failed == 0


async def test_a_device_that_is_lost_is_told() -> None:
    model = Continuous(rows=2, faults={13: "lost"})
    with LocalRecognizer(model) as recognizer:
        tickets = [recognizer.submit(ask("a", 13)), recognizer.submit(ask("b", 6))]
        with pytest.raises(EngineLostError):
            await tickets[0]
        assert isinstance(recognizer.lost, EngineLostError)
        await asyncio.gather(*tickets, return_exceptions=True)


async def test_rows_of_a_worker_that_was_given_up_are_asked_once_more() -> None:
    hung = Continuous()
    with LocalRecognizer(hung) as recognizer:
        tickets = [await held(hung, recognizer), recognizer.submit(ask("b", 20, "interim"))]
        assert recognizer.running_s > 0
        recognizer.abandon(EngineError("hung"))
        recognizer.restart(Continuous())
        assert (await tickets[0]).hypothesis.text == "w6"
        await tickets[1]
        hung.batch.go_on.set()


async def test_what_runs_when_the_recognizer_is_closed_runs_to_its_end() -> None:
    model = Continuous()
    with LocalRecognizer(model) as recognizer:
        running = await held(model, recognizer)
        asyncio.get_running_loop().call_later(0.01, model.batch.go_on.set)
        await asyncio.to_thread(recognizer.close)
        assert (await running).hypothesis.text == "w6"
        assert not recognizer.alive


@pytest.mark.parametrize("seed", range(60))
async def test_random_schedules_lose_nothing_and_mix_nothing_up(seed: int) -> None:
    r = random.Random(seed)
    ways: list[Fault] = ["refused", "breaks joining", "breaks the step", "by itself"]
    faults = {length: r.choice(ways) for length in range(1, 400) if r.random() < r.choice([0, 0.02, 0.2])}
    model = Continuous(rows=r.choice([1, 2, 5, 8]), faults=faults)
    with LocalRecognizer(model) as recognizer:
        asked: list[tuple[Utterance, asyncio.Future, bool]] = []
        for _ in range(r.randrange(5, 60)):
            kind: Kind = r.choice(["interim", "speculative", "final"])
            utterance = ask(r.randrange(6), r.randrange(1, 400), kind, r.randrange(2), live=r.random() < 0.8)
            ticket = recognizer.submit(utterance)
            cancelled = r.random() < 0.1
            for _ in range(r.choice([0, 0, 1, 5])):
                await asyncio.sleep(0)
            if cancelled:
                ticket.cancel()
            asked.append((utterance, ticket, cancelled))
        results = await asyncio.gather(*(ticket for _, ticket, _ in asked), return_exceptions=True)
        for (utterance, _, cancelled), result in zip(asked, results, strict=True):
            length = len(utterance.audio)
            if isinstance(result, asyncio.CancelledError):
                assert cancelled
            elif isinstance(result, Exception):
                assert length in faults
                assert utterance.kind != "interim"
            elif result is None:
                assert utterance.kind != "final", "a final is never dropped"
            else:
                assert isinstance(result, Recognition)
                assert result.hypothesis.text == f"w{length}"
                assert length not in faults
        assert recognizer.waiting == 0
    while recognizer.alive:
        await asyncio.sleep(0.001)
    assert model.batch.running == 0


async def test_a_model_that_still_loads_is_asked_for_nothing_but_work() -> None:
    class Loads(ScriptedModel):
        @property
        def languages(self) -> frozenset[str]:  # type: ignore[override]
            raise AssertionError("it would be waited for")

        def running_batch(self) -> None:
            return None

    with LocalRecognizer(Loads()) as recognizer:
        result = await recognizer.submit(ask("a", 20))
        assert result is not None
        assert result.hypothesis.text == "w20"


async def test_the_server_counts_the_steps_and_changes_nothing_else() -> None:
    metrics = Metrics()
    for model in (Continuous(), ScriptedModel()):
        with LocalRecognizer(MeasuredModel(model, metrics)) as recognizer:
            result = await recognizer.submit(ask("a", 20))
            assert result is not None
            assert result.hypothesis.text == "w20"
        assert [len(batch) for batch in model.batches] == ([1] if type(model) is ScriptedModel else [])
    assert metrics.registry.get_sample_value("stt_batch_size_count") == 20 % 7 + 1 + 1


@pytest.fixture(scope="module")
def canary() -> CanaryQwen:
    return CanaryQwen(model_dir=str(TOY), device="cpu", threads=1, rows=6)


@pytest.mark.canary
@pytest.mark.parametrize("seed", range(3))
async def test_the_engine_hears_in_rows_that_come_and_go_what_it_hears_one_by_one(
    canary: CanaryQwen, seed: int
) -> None:
    """Token for token, with drafts right and wrong, clips cut anywhere, some given up, one that it cannot bear."""
    r = random.Random(seed)
    clips = [json.loads(line)["file"] for line in (TOY / "heldout" / "heldout.jsonl").read_text().splitlines()]
    heard = [
        np.asarray(soundfile.read(TOY / "heldout" / name, dtype="float32")[0], np.float32)
        for name in r.sample(clips, 4)
    ]
    audio = [clip[: r.randrange(len(clip) // 2, len(clip))] for clip in heard] + [heard[0][:100]]
    alone = [canary.transcribe([Utterance(clip)])[0] for clip in audio]
    broken = np.full(9000, np.nan, np.float32)
    with LocalRecognizer(canary) as recognizer:
        tickets = []
        for i in range(24):
            which = r.randrange(len(audio))
            draft = r.choice([None, alone[which], alone[r.randrange(len(audio))], Hypothesis("", (3, 4, 5))])
            utterance = Utterance(audio[which], draft=draft, key=WindowKey(i))
            tickets.append((which, recognizer.submit(utterance)))
            if i % 8 == 5:
                with pytest.raises(EngineError, match="expected finite"):
                    await recognizer.submit(Utterance(broken))
            elif i % 8 == 7:
                tickets.pop()[1].cancel()
            await asyncio.sleep(r.choice([0, 0, 0.02]))
        results = [(which, await ticket) for which, ticket in tickets]
    assert max(result.latency.batch_size for _, result in results) > 1
    for which, result in results:
        hypothesis = result.hypothesis
        assert (hypothesis.text, hypothesis.tokens) == (alone[which].text, alone[which].tokens)
        assert hypothesis.confidence == pytest.approx(alone[which].confidence, abs=1e-4)
