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
from typing import Any

import numpy as np
import simpy

sys.path.insert(0, str(Path(__file__).parents[1]))

from stt.recognition import Hypothesis, Utterance, WindowKey, local

FINAL_S, INTERIM_S = 0.3, 1.0
"""Bounds: 95 of 100 finals, 95 of 100 times between two interims of one who speaks."""
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
    "gpu": Engine("an H100 by assumption", 0.055, 0.0015, 0.0003, 16, 3.0, 140),
    # benchmarks/live_loaded.py: about 0.25 s for a window, whatever its length, as the encoder pads it.
    "cpu": Engine("Whisper tiny on two cores", 0.15, 0.0, 0.01, 1, 0.08, 2),
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
    """A front is one event loop: at 0.003 and 2.2 calls a second of speech it is two thirds busy."""
    front_dollars_per_h: float = 0.04
    speaking: float = 0.6
    """Share of the time that somebody speaks; turns of 6 s on average."""
    interim_s: float = 0.5
    bytes_per_s: float = 1.1 * 32_000
    """Of one who speaks, on the wire."""


@dataclass(slots=True)
class Figures:
    finals: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    rows: list[float] = field(default_factory=list)
    busy: float = 0.0
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
                yield self.asked | env.timeout(rest_s if rest_s > 0 and recognizer._sessions else math.inf)
                continue
            began = env.now
            recognizer._note(batch, None, began)
            took_s = self.engine.takes([request.duration_s for request in batch])
            yield env.timeout(took_s)
            self.figures.busy += took_s
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
            last = [env.now + assumed.interim_s]
            for step in range(1, int(length / assumed.interim_s) + 1):
                yield env.timeout(assumed.interim_s)
                said = SILENCE[: int(step * assumed.interim_s * 16_000)]
                utterance = Utterance(said, kind="interim", key=WindowKey(number, turn))
                env.process(self.call(replica, front, utterance, r, last))
            yield env.timeout(length % assumed.interim_s + 0.3)
            utterance = Utterance(SILENCE[: int(length * 16_000)], key=WindowKey(number, turn))
            yield env.process(self.call(replica, front, utterance, r, None))
            yield env.timeout(length * (1 / assumed.speaking - 1) * r.uniform(0.5, 1.5))

    def call(
        self, replica: Replica, front: simpy.Resource, utterance: Utterance, r: random.Random, last: list[float] | None
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
            self.figures.finals.append(env.now - began)
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
    front = assumed.front_session * sessions / fronts + f.front_busy / seconds / len(simulation.fronts)
    carried = quantile(f.finals, 95) <= FINAL_S and quantile(f.gaps, 95) <= INTERIM_S
    print(
        f"{sessions:>7} {fronts:>6} {replicas:>8}  "
        f"{' '.join(f'{quantile(f.finals, q) * 1e3:>5.0f}' for q in (50, 95, 99))}   "
        f"{quantile(f.gaps, 50):>5.2f} {quantile(f.gaps, 95):>5.2f}  {np.mean(f.rows):>5.0%} "
        f"{f.busy / seconds / simulated:>5.0%} {front:>6.0%} {calls_per_s:>8.0f} {mbit:>7.0f} {dollars:>7.2f}"
        f"{'' if carried else '  too much'}"
    )
    return carried


def main() -> None:
    parser = argparse.ArgumentParser(description="simulate a cluster with the real scheduler")
    parser.add_argument("--engine", choices=ENGINES, default="gpu")
    parser.add_argument("--sessions", type=int)
    parser.add_argument("--replicas", type=int, help="default: as many as the sessions need")
    parser.add_argument("--seconds", type=float, default=20.0, help="of simulated time")
    parser.add_argument("--local", action="store_true", help="one process: no way, one engine")
    args = parser.parse_args()
    engine, assumed = ENGINES[args.engine], Assumptions()
    print(f"{engine.name}; {FINAL_S} s for finals and {INTERIM_S} s for interims (p95); nothing is measured on a GPU")
    print(
        "                          finals, ms (p50 95 99)  interims, s  rows engine  front  calls/s  Mbit/s $/1,000 h"
    )
    sizes = [args.sessions] if args.sessions else [engine.sessions] if args.local else [100, 1_000, 10_000, 100_000]
    for sessions in sizes:
        replicas = 1 if args.local else args.replicas or math.ceil(sessions / engine.sessions)
        report(engine, assumed, sessions, replicas, args.seconds, here=args.local)


if __name__ == "__main__":
    main()
