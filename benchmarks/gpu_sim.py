"""How many live sessions one GPU carries, by a model of its step times and the scheduler as it is.

    python benchmarks/gpu_sim.py                     # an H100: sessions at the bounds, which assumption limits
    python benchmarks/gpu_sim.py --sessions 400      # one run
    python benchmarks/gpu_sim.py --mode calls        # whole calls of `transcribe` instead of continuous batching
    python benchmarks/gpu_sim.py --fast-interims     # interims use what was encoded for those before them
    python benchmarks/gpu_sim.py --fp8               # products in fp8

NOTHING HERE IS MEASURED ON A GPU. The times come from a roofline of the 2.5B model: what is computed over what the card
computes in practice, what is read over what it reads in practice, and so much for every kernel. Who is served when is
decided by `stt.recognition.LocalRecognizer` itself, in simulated time. Carried are sessions whose finals come within
300 ms (p95), and whose interims come at least once a second (p95), while they speak.
"""
# ruff: noqa: SLF001 - the scheduler is run step by step, without its thread

import argparse
import asyncio
import heapq
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import NamedTuple

import numpy as np

from nemo_lite.growing import PASS_FRAMES, begins
from nemo_lite.model import FRAME_STEP
from nemo_lite.shapes import GRAPH_TOKENS, TOKEN_STEP, up
from stt.recognition import Hypothesis, Utterance, WindowKey, local
from stt.recognition.continuous import places

_BETTER = {"compute": 2, "bandwidth": 2, "interim_every": 1.5}
"""Times what each assumption is made better by; the others, which are costs, by half."""
FINAL_S, INTERIM_S = 0.3, 1.0
"""The bounds: 95 of 100 finals, 95 of 100 times between two interims."""
TOKENS_PER_S, FRAMES_PER_S = 3.5, 12.5
PROMPT = 20
FP8_GAIN = 1.7
"""How much faster a pass computes in fp8: 85 of 100 operations are in products that take half the time."""
QUANTIZING = 3
"""Kernels before each product in fp8: the largest of each token, division, rounding."""
SILENCE = np.zeros(31 * 16_000, np.float32)


@dataclass(frozen=True, slots=True)
class Assumptions:
    """Of an H100, and of what is said. Each is varied by itself to find the one that limits."""

    compute: float = 400e12
    """Floating point operations a second in large products (40 % of the peak)."""
    bandwidth: float = 2.5e12
    """Bytes a second (75 % of the peak)."""
    launch: float = 1.5e-6
    """Seconds for each kernel of a graph, whatever it does."""
    host: float = 0.3e-3
    """Seconds between two steps in which the device waits for the host: looking, arranging, launching."""
    host_row: float = 0.2e-3
    """The same for each clip that is taken in; only what does not overlap with computing."""
    passes: float = 2.66
    """Through the language model, for a clip with a draft (83 interims of canary-toy)."""
    interim_every: float = 0.5
    """Seconds of speech after which a session asks for an interim."""
    speaking: float = 0.6
    """Share of the time that somebody speaks."""
    turn: float = 6.0
    """Seconds that turns last on average, up to a window of 28 s."""
    fp8: bool = False
    """Whether the linear layers' weights, and what they are multiplied with, are of 8 bits."""
    hidden: float = 0.0
    """Share of an encoder pass that hides behind a step of rows that are running, on a second stream; no more than the
    step takes. 1 is beyond what there can be: the two share the card."""

    def encode(self, seconds: Sequence[float]) -> float:
        rows, frames = _up_to_power(len(seconds)), up(math.ceil(max(seconds) * FRAMES_PER_S), FRAME_STEP)
        return self._pass(2000, 192, rows * (frames * 1.7e9 + frames**2 * 0.26e6), 1.7e9)

    def prefill(self, tokens: Sequence[float]) -> float:
        rows, longest = _up_to_power(len(tokens)), math.ceil(max(tokens))
        small = rows * up(longest, TOKEN_STEP) <= GRAPH_TOKENS
        return self._pass(1000, 112, rows * up(longest, TOKEN_STEP if small else 8) * 3.5e9, 2.9e9, 0.6e9)

    def step(self, rows: int, slots: float, width: int = 1) -> float:
        return self._pass(800, 112, rows * width * 3.5e9, 2.9e9, 0.6e9 + rows * slots * 114_688)

    def _pass(self, kernels: int, products: int, operations: float, weights: float, others: float = 0.0) -> float:
        """Seconds for so many kernels, so many of them linear layers, that read these bytes."""
        if self.fp8:
            kernels, operations, weights = kernels + QUANTIZING * products, operations / FP8_GAIN, weights / 2
        return kernels * self.launch + max(operations / self.compute, (weights + others) / self.bandwidth)


class Encoded(NamedTuple):
    """Of a window, in frames: what is kept of it, and what there was when all of it was encoded."""

    frames: int
    whole: int


@dataclass(slots=True, eq=False)
class Row:
    request: local._Request
    passes: int
    began: float


@dataclass(slots=True)
class Engine:
    """What the scheduler asks of a model, and how long it takes."""

    assumed: Assumptions
    rows: int
    fast_interims: bool = False
    kept: dict[WindowKey, Encoded] = field(default_factory=dict)
    max_batch: int = 0
    name: str = "simulated"
    languages: frozenset[str] = frozenset({"en"})

    def cost(self, seconds: Sequence[float]) -> float:
        return max(seconds)

    def transcribe(self, batch: Sequence[Utterance]) -> list[Hypothesis]:
        raise NotImplementedError  # nothing is computed here

    def first_pass(self, batch: Sequence[local._Request], running: Sequence[Row] = ()) -> float:
        seconds = [request.duration_s for request in batch]
        tokens = [s * (FRAMES_PER_S + TOKENS_PER_S) + PROMPT for s in seconds]
        a, encode = self.assumed, self.encode(batch)
        behind = min(a.hidden * encode, self.one_step(running)) if running else 0.0
        return encode - behind + a.prefill(tokens) + a.host + a.host_row * len(batch)

    def encode(self, batch: Sequence[local._Request]) -> float:
        """Encode what has to be: whole windows in one pass, in another the ends of interims' windows."""
        seconds = [request.duration_s for request in batch]
        first = [self.begins(request) for request in batch]
        saved = sum(frames for frames in first if frames is not None)
        if not saved or (None in first and saved < PASS_FRAMES):
            return self.assumed.encode(seconds)
        whole = [s for s, frames in zip(seconds, first, strict=True) if frames is None]
        tails = [s - frames / FRAMES_PER_S for s, frames in zip(seconds, first, strict=True) if frames is not None]
        return self.assumed.encode(tails) + (self.assumed.encode(whole) if whole else 0.0)

    def begins(self, request: local._Request) -> int | None:
        """With which frame its encoding may begin; `None`: all has to be encoded."""
        if request.stands or not self.fast_interims:
            return None
        end = math.ceil(request.duration_s * FRAMES_PER_S)
        before = self.kept.get(request.utterance.key, Encoded(0, 0))
        first = begins(*before, end)
        self.kept[request.utterance.key] = Encoded(end, end if first is None else before.whole)
        return first

    def one_step(self, running: Sequence[Row]) -> float:
        longest = max(row.request.duration_s for row in running) * (FRAMES_PER_S + TOKENS_PER_S) + PROMPT
        rows = _up_to_power(len(running))
        return self.assumed.step(rows, longest, 9 if len(running) <= 32 else 1) + self.assumed.host


@dataclass(slots=True)
class Run:
    """One GPU and its sessions, for a while."""

    assumed: Assumptions
    sessions: int
    rows: int
    joins: int
    continuous: bool
    fast_interims: bool = False
    now: float = 0.0
    finals: list[float] = field(default_factory=list)
    """Seconds from asking to the answer."""
    gaps: list[float] = field(default_factory=list)
    """Seconds between two interims of a turn, or from its first request to its first."""
    busy: float = 0.0
    events: list[tuple[float, int, Iterator[float]]] = field(default_factory=list)
    last: dict[WindowKey, float] = field(default_factory=dict)

    def monotonic(self) -> float:
        return self.now

    def speaker(self, session: int, recognizer: local.LocalRecognizer, r: random.Random) -> Iterator[float]:
        """Submits what a session would; yields when it is to go on."""
        now = r.random() * 6
        yield now
        turn = 0
        while True:
            turn, key = turn + 1, WindowKey(session, turn)
            length = min(28.0, max(0.8, r.expovariate(1 / self.assumed.turn)))
            every, said = self.assumed.interim_every, self.assumed.interim_every
            began = now
            self.last[key] = began + every
            while said < length:
                yield began + said
                self.ask(recognizer, Utterance(SILENCE[: int(said * 16_000)], kind="interim", key=key))
                said += every
            now = began + length + 0.5
            yield now
            del self.last[key]
            self.ask(recognizer, Utterance(SILENCE[: int(length * 16_000)], kind="final", key=key))
            now += length * (1 / self.assumed.speaking - 1) * r.uniform(0.5, 1.5)
            yield now

    def ask(self, recognizer: local.LocalRecognizer, utterance: Utterance) -> None:
        recognizer.submit(utterance)
        recognizer._sessions[utterance.key.session].requests[-1].asked = self.now

    async def simulate(self, seconds: float, seed: int = 0) -> None:
        r = random.Random(seed)
        local.time = self  # the scheduler's clock
        engine = Engine(self.assumed, self.rows, self.fast_interims)
        recognizer = local.LocalRecognizer(engine)
        recognizer._closed = False
        for session in range(self.sessions):
            speaker = self.speaker(session, recognizer, r)
            heapq.heappush(self.events, (next(speaker), session, speaker))
        running: list[Row] = []
        while self.now < seconds:
            until, began = self.now, self.now
            while self.events and self.events[0][0] <= until:
                self.now, session, speaker = heapq.heappop(self.events)
                heapq.heappush(self.events, (next(speaker), session, speaker))
            self.now = until
            await asyncio.sleep(0)  # the tickets that were overtaken
            interims = sum(row.request.utterance.kind == "interim" for row in running)
            batch = recognizer._take(engine, places(self.rows, self.rows - len(running), interims, self.joins))
            if not batch and not running:
                rested = max(recognizer._cadence.next, self.now) if recognizer._sessions else math.inf
                self.now = min(self.events[0][0], rested)
                continue
            if batch:
                recognizer._note(batch, self.rows if self.continuous else None, self.now)
                self.now += engine.first_pass(batch, running)
                share = 1 - 1 / self.assumed.passes
                for request in batch:
                    passes = 0
                    while r.random() < share:
                        passes += 1
                    running.append(Row(request, passes, began))
            running = self.finish(running, recognizer)
            while running:
                self.now += engine.one_step(running)
                for row in running:
                    row.passes -= 1
                running = self.finish(running, recognizer)
                if self.continuous:
                    break
            if not self.continuous and recognizer._cadence.alone:
                recognizer._cadence.called(began, self.now, at_once=self.rows, cores=1.0)
            self.busy += self.now - began

    def finish(self, running: list[Row], recognizer: local.LocalRecognizer) -> list[Row]:
        for row in running:
            if row.passes <= 0:
                key = row.request.utterance.key
                if row.request.stands:
                    self.finals.append(self.now - row.request.asked)
                    continue
                recognizer._cadence.left(self.now - row.began)
                if key in self.last:
                    self.gaps.append(self.now - self.last[key])
                    self.last[key] = self.now
        return [row for row in running if row.passes > 0]

    @property
    def carried(self) -> bool:
        return bool(self.finals) and p95(self.finals) <= FINAL_S and p95(self.gaps) <= INTERIM_S


def _up_to_power(rows: int) -> int:
    """As many rows as a graph has."""
    return 1 << (rows - 1).bit_length()


def p95(values: Sequence[float]) -> float:
    return float(np.percentile(values, 95)) if values else float("nan")


def run(assumed: Assumptions, sessions: int, args: argparse.Namespace) -> Run:
    simulated = Run(assumed, sessions, args.rows, args.joins, args.mode == "continuous", args.fast_interims)
    asyncio.run(simulated.simulate(args.seconds))
    return simulated


def capacity(assumed: Assumptions, args: argparse.Namespace) -> int:
    """Sessions that are carried, to 25."""
    low, high = 0, 2000
    while high - low > 25:
        middle = (low + high) // 2
        low, high = (middle, high) if run(assumed, middle, args).carried else (low, middle)
    return low


def main() -> None:
    parser = argparse.ArgumentParser(description="simulate one GPU with the real scheduler")
    parser.add_argument("--sessions", type=int)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--joins", type=int, default=16, help="clips taken in at a time: a final waits for their pass")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--mode", choices=["continuous", "calls"], default="continuous")
    parser.add_argument("--fast-interims", action="store_true")
    parser.add_argument("--fp8", action="store_true")
    parser.add_argument("--turn", type=float, default=Assumptions().turn, help="seconds that turns last on average")
    args = parser.parse_args()
    print("an H100 by assumption; nothing here is measured on a GPU")
    assumed = Assumptions(turn=args.turn, fp8=args.fp8)
    if args.sessions:
        one = run(assumed, args.sessions, args)
        print(
            f"{args.sessions} sessions, {args.mode}: finals {p95(one.finals) * 1e3:.0f} ms (p95), interims every"
            f" {np.mean(one.gaps):.2f} s (mean), {p95(one.gaps):.2f} s (p95), busy {one.busy / one.now:.0%}"
        )
        return
    base = capacity(assumed, args)
    print(
        f"{args.mode}, {args.rows} rows, {args.joins} join at once; {FINAL_S} s for finals, {INTERIM_S} s for interims"
    )
    print(f"{base} sessions are carried; with one assumption better:")
    for one in fields(Assumptions):
        if one.name in ("speaking", "turn", "fp8"):
            continue
        value = getattr(assumed, one.name)
        better = 1.0 if one.name == "hidden" else value * _BETTER.get(one.name, 0.5)
        print(f"  {one.name} {value:g} -> {better:g}: {capacity(replace(assumed, **{one.name: better}), args)}")


if __name__ == "__main__":
    main()
