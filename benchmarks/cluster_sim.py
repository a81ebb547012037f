"""How a cluster grows on paper: fronts, the way, and replicas, by discrete events and the real scheduler.

    python benchmarks/cluster_sim.py                          # 100 to 100,000 sessions, on an assumed H100
    python benchmarks/cluster_sim.py --sessions 1000 --replicas 4
    python benchmarks/cluster_sim.py --engine cpu             # Whisper tiny, one at a time, measured on two cores
    python benchmarks/cluster_sim.py --local                  # the same engine in one process with all sessions

SimPy is the clock. Who is served when is decided by `stt.recognition.LocalRecognizer` itself, as each replica has it.
Sessions stay with their replica, so replicas differ by chance alone: of more than four, four are simulated, with their
share of the sessions; so it is with fronts. What is assumed stands in `Assumptions`; NOTHING HERE IS MEASURED ON A GPU.
"""
# ruff: noqa: SLF001 - the scheduler is run step by step, without its thread

import argparse
import asyncio
import math
import random
import sys
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import numpy as np
import simpy

sys.path.insert(0, str(Path(__file__).parents[1]))

from stt.cluster.load import full_at
from stt.recognition import Hypothesis, Utterance, WindowKey, local
from stt.recognition.service import Kind

FINAL_S: Final = 0.3
"""Bound of 95 of 100 finals, after the decision that the turn is over."""
MOST = 4
"""Replicas and fronts that are simulated; the others are like them."""
SILENCE = np.zeros(31 * 16_000, np.float32)


@dataclass(frozen=True, slots=True)
class Engine:
    """What a batch costs: so much, for each row, and for each second of audio in it."""

    name: str
    call_s: float
    row_s: float
    audio_s: float
    max_batch: int
    dollars_per_h: float
    interim_s: float
    """Bound of 95 of 100 times from one interim of a phrase to the next."""
    sessions: int
    """That one replica carries within the bounds, found by `--sessions`."""
    languages: frozenset[str] = frozenset({"en"})

    def cost(self, seconds: Sequence[float]) -> float:
        return sum(seconds) if self.max_batch == 1 else max(seconds, default=0.0)

    def transcribe(self, batch: Sequence[Utterance]) -> list[Hypothesis]:
        raise NotImplementedError  # nothing is computed here

    def close(self) -> None:
        pass

    def takes(self, seconds: Sequence[float]) -> float:
        return self.call_s + self.row_s * len(seconds) + self.audio_s * sum(seconds)


ENGINES = {
    # Whole calls of benchmarks/gpu_sim.py's roofline: the encoder and some ten steps of 6 ms, and 1.5 ms for each clip.
    "gpu": Engine("an H100 by assumption", 0.055, 0.0015, 0.0003, 16, 3.0, 1.0, 120),
    # Processor time of clips of 1 to 20 s, over two cores: the encoder pads whatever it gets to 30 s.
    "cpu": Engine("Whisper tiny on two cores", 0.25, 0.0, 0.011, 1, 0.08, 4.0, 4),
}


@dataclass(frozen=True, slots=True)
class Assumptions:
    """Beside the engine; benchmarks/cluster_overhead.py measures the first four."""

    front_call_s: float = 0.0009
    """Processor time of a front for one call: what Ray and we need to send it and to take the answer."""
    front_session: float = 0.003
    """Cores for each session whatever the engine: its socket, its detector (benchmarks/serve_load.py)."""
    way_s: float = 0.003
    """Handle, network and actor, there and back, with nobody in the way; 95 of 100 within three times that."""
    sessions_per_front: int = 150
    """A front is one event loop: at 0.003 and 2 calls a second of speech it is two thirds busy."""
    front_dollars_per_h: float = 0.04
    speaking: float = 0.6
    """Share of the time that somebody speaks; turns of 6 s on average."""
    phrase_s: float = 3.4
    """Between two pauses within a turn (179 s of recorded speech); they last 0.25 to 0.75 s."""
    interim_s: float = 0.5
    pause_s: float = 0.2
    """Silence after which the text is asked for, as it stands if nobody goes on."""
    decided_s: float = 0.8
    """Silence after which a turn is over; the final is late by what its text takes longer."""
    bytes_per_s: float = 1.1 * 32_000
    """Of one who speaks, on the wire."""


@dataclass(slots=True)
class Figures:
    texts: list[float] = field(default_factory=list)
    """From asking for the text of a pause to having it; those that were overtaken do not count."""
    finals: list[float] = field(default_factory=list)
    """How late they were."""
    gaps: list[float] = field(default_factory=list)
    rows: list[float] = field(default_factory=list)
    busy: float = 0.0
    standing_s: list[float] = field(default_factory=list)
    """Of calls with work that stands: how long they took,"""
    used_s: float = 0.0
    """and how much of that was for it, as `stt.cluster.load` counts."""
    front_busy: float = 0.0
    calls: int = 0


class Replica:
    """An engine with the scheduler; its process is `work`."""

    def __init__(self, env: simpy.Environment, engine: Engine, figures: Figures) -> None:
        self.env, self.engine, self.figures = env, engine, figures
        self.recognizer = local.LocalRecognizer(engine)
        self.recognizer._closed = False
        self.asked = env.event()
        self.answers: dict[int, Any] = {}

    def ask(self, utterance: Utterance, answered: simpy.Event) -> None:
        self.recognizer.submit(utterance)
        request = self.recognizer._sessions[utterance.key.session].requests[-1]
        request.asked = self.env.now
        self.answers[id(request)] = answered
        if not self.asked.triggered:
            self.asked.succeed()

    def work(self) -> Generator[Any, Any, None]:
        recognizer, env = self.recognizer, self.env
        while True:
            batch = recognizer._take(self.engine)
            if not batch:
                self.asked = env.event()
                rest_s = recognizer._cadence.next - env.now
                # a rest that is too short for the clock of floats to tell would never be over
                yield self.asked | env.timeout(max(rest_s, 1e-6) if rest_s > 0 and recognizer._sessions else math.inf)
                continue
            began = env.now
            recognizer._note(batch, None, began)
            took_s = self.engine.takes([request.duration_s for request in batch])
            yield env.timeout(took_s)
            self.figures.busy += took_s
            stands = sum(request.utterance.kind != "interim" for request in batch)
            if stands:
                self.figures.standing_s.append(took_s)
                self.figures.used_s += took_s * stands / self.engine.max_batch
            self.figures.rows.append(len(batch) / self.engine.max_batch)
            if recognizer._cadence.alone:
                recognizer._cadence.called(began, env.now, at_once=local._at_once(self.engine), cores=1.0)
            for request in batch:
                self.answers.pop(id(request)).succeed()


class Simulation:
    """Sessions at fronts, which ask replicas."""

    def __init__(self, engine: Engine, assumed: Assumptions, sessions: int, replicas: int, *, here: bool) -> None:
        self.engine, self.assumed, self.here = engine, assumed, here
        self.env = simpy.Environment()
        self.figures = Figures()
        fronts = 1 if here else max(1, math.ceil(sessions / assumed.sessions_per_front))
        share = min(1.0, MOST / replicas)
        self.simulated = max(1, round(sessions * share))
        self.replicas = [Replica(self.env, engine, self.figures) for _ in range(min(MOST, replicas))]
        self.fronts = [simpy.Resource(self.env, 1) for _ in range(max(1, round(fronts * share)))]

    async def run(self, seconds: float) -> None:
        local.time = SimpleNamespace(monotonic=lambda: self.env.now)  # type: ignore[assignment] - the scheduler's clock
        r = random.Random(0)
        for replica in self.replicas:
            self.env.process(replica.work())
        for number in range(self.simulated):
            self.env.process(self.session(number, random.Random(r.random())))
        while self.env.now < seconds:
            self.env.run(until=self.env.now + 0.25)
            await asyncio.sleep(0)  # tickets that were overtaken

    def session(self, number: int, r: random.Random) -> Generator[Any, Any, None]:
        env, assumed = self.env, self.assumed
        replica, front = self.replicas[number % len(self.replicas)], self.fronts[number % len(self.fronts)]
        yield env.timeout(r.random() * 6 / assumed.speaking)
        for turn in range(1_000_000):
            length = min(28.0, max(0.8, r.expovariate(1 / 6)))
            said_s, asked_s, began = 0.0, 0.0, env.now
            while True:
                last = [env.now]
                until = min(length, said_s + max(0.5, r.expovariate(1 / assumed.phrase_s)))
                while (next_s := asked_s + assumed.interim_s) <= until:
                    yield env.timeout(next_s - said_s)
                    said_s = asked_s = next_s
                    env.process(self.call(replica, front, self.utterance("interim", number, turn, began), r, last))
                yield env.timeout(until - said_s + assumed.pause_s)
                said_s = asked_s = until
                text = env.process(self.call(replica, front, self.utterance("speculative", number, turn, began), r))
                if said_s == length:
                    break
                yield env.timeout(r.uniform(0.25, 0.75) - assumed.pause_s)
            yield env.timeout(assumed.decided_s - assumed.pause_s)
            decided = env.now
            yield text
            self.figures.finals.append(env.now - decided)
            yield env.timeout(max(0.5, length * (1 / assumed.speaking - 1) * r.uniform(0.5, 1.5)))

    def utterance(self, kind: Kind, number: int, turn: int, began: float) -> Utterance:
        audio = SILENCE[: int((self.env.now - began) * 16_000)]
        return Utterance(audio, kind=kind, key=WindowKey(number, turn))

    def call(
        self,
        replica: Replica,
        front: simpy.Resource,
        utterance: Utterance,
        r: random.Random,
        last: list[float] | None = None,
    ) -> Generator[Any, Any, None]:
        env, assumed, began = self.env, self.assumed, self.env.now
        self.figures.calls += 1
        if not self.here:
            with front.request() as turn:
                yield turn
                # the detector and sockets of its sessions are in the way, too
                share = min(0.9, assumed.front_session * assumed.sessions_per_front)
                yield env.timeout(assumed.front_call_s / (1 - share))
                self.figures.front_busy += assumed.front_call_s
            yield env.timeout(assumed.way_s * r.lognormvariate(0, 0.67))
        answered = env.event()
        replica.ask(utterance, answered)
        yield answered
        if last is None:
            self.figures.texts.append(env.now - began)
        else:
            self.figures.gaps.append(env.now - last[0])
            last[0] = env.now


def quantile(values: Sequence[float], q: float) -> float:
    return float(np.percentile(values, q)) if values else math.nan


def report(engine: Engine, assumed: Assumptions, sessions: int, replicas: int, seconds: float, *, here: bool) -> bool:
    """Simulate, and print a line; says whether the bounds hold."""
    simulation = Simulation(engine, assumed, sessions, replicas, here=here)
    asyncio.run(simulation.run(seconds))
    f, simulated = simulation.figures, len(simulation.replicas)
    fronts = 1 if here else math.ceil(sessions / assumed.sessions_per_front)
    calls_per_s = f.calls / seconds * sessions / simulation.simulated
    dollars = (replicas * engine.dollars_per_h + fronts * assumed.front_dollars_per_h) / sessions * 1_000
    mbit = sessions * assumed.speaking * assumed.bytes_per_s * 8 / 1e6
    engine_s = seconds * simulated
    taken = f.used_s / engine_s / full_at(float(np.mean(f.standing_s)))
    front = assumed.front_session * sessions / fronts + f.front_busy / seconds / len(simulation.fronts)
    carried = quantile(f.finals, 95) <= FINAL_S and quantile(f.gaps, 95) <= engine.interim_s
    print(
        f"{sessions:>7} {fronts:>6} {replicas:>8}  "
        f"{' '.join(f'{quantile(f.texts, q) * 1e3:>5.0f}' for q in (50, 95, 99))}  "
        f"{' '.join(f'{quantile(f.finals, q) * 1e3:>4.0f}' for q in (50, 95, 99))}   "
        f"{quantile(f.gaps, 50):>5.2f} {quantile(f.gaps, 95):>5.2f}  {np.mean(f.rows):>5.0%} "
        f"{f.busy / engine_s:>5.0%} {taken:>6.0%} {front:>6.0%} {calls_per_s:>8.0f} {mbit:>7.0f} {dollars:>7.2f}"
        f"{'' if carried else '  too much'}"
    )
    return carried


def main() -> None:
    parser = argparse.ArgumentParser(description="simulate a cluster with the real scheduler")
    parser.add_argument("--engine", choices=ENGINES, default="gpu")
    parser.add_argument("--sessions", type=int)
    parser.add_argument("--replicas", type=int, help="default: as many as the sessions need")
    parser.add_argument("--seconds", type=float, default=30.0, help="of simulated time")
    parser.add_argument("--local", action="store_true", help="one process: no way, one engine")
    args = parser.parse_args()
    engine, assumed = ENGINES[args.engine], Assumptions()
    print(
        f"{engine.name}; {FINAL_S} s for finals and {engine.interim_s} s for interims (p95); "
        "nothing is measured on a GPU"
    )
    print(
        "sessions fronts replicas  texts, ms        finals late      interims, s   rows  busy  taken  front  calls/s"
        "  Mbit/s $/1,000 h"
    )
    sizes = [args.sessions] if args.sessions else [engine.sessions] if args.local else [100, 1_000, 10_000, 100_000]
    for sessions in sizes:
        replicas = 1 if args.local else args.replicas or math.ceil(sessions / engine.sessions)
        report(engine, assumed, sessions, replicas, args.seconds, here=args.local)


if __name__ == "__main__":
    main()
