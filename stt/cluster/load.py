"""How much of an engine is in use, measured as it works; what a front makes of it when somebody wants to be let in.

Only work that stands counts: interims take what is left, and stretch. A call that took `t` seconds with `n` rows that
stand, of the `m` that the engine can take, used `t * n / m` of it: rows beside each other cost nothing until then
(a GPU), and an engine that takes one at a time (a CPU) is in use for as long as the call lasts.
"""

import os
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from stt.recognition import Hypothesis, SpeechModel, Utterance
from stt.recognition.around import AroundBatch, AroundModel
from stt.recognition.continuous import RunningBatch

_T = TypeVar("_T")
OVER_S: Final = 10.0
"""Of the recent past, what is measured."""
FULL: Final = 0.7
"""Share in use from which nobody is let in, at most: sessions begin to speak at the same time now and then."""
_WAIT_S: Final = 0.12
"""What a text may wait for others on average, from which nobody is let in either. It is asked for some 0.6 s before the
turn is over; with this wait 95 of 100 finals are no later than 0.3 s (benchmarks/cluster_sim.py), also where a call
takes 0.4 s. Where it takes 0.1 s, `FULL` comes first."""
LATE_S: Final = 1.0
"""A final that has been waiting for so long shows that there is too much to do, whatever was measured."""


def full_at(call_s: float) -> float:
    """Return the share in use from which an engine is full whose calls take so long.

    With Poisson arrivals and calls of one length the mean wait at a share `u` is `call_s * u / (2 * (1 - u))` (M/D/1).
    """
    return min(FULL, 2 * _WAIT_S / (2 * _WAIT_S + call_s))


@dataclass(frozen=True, slots=True)
class Load:
    """What a replica says of itself."""

    replica: str
    used: float = 0.0
    """Share of its engine that work which stands took lately, 0 to 1."""
    call_s: float = 0.0
    """How long its calls take that have such work, on average; 0: there were none."""
    lag_s: float = 0.0
    """How long the oldest request that stands has been waiting."""
    waiting: int = 0
    sessions: int = 0
    """That it was asked for in the last minute."""
    fill: float = 0.0
    """Rows of a call on average, of those it could have had: 0 to 1."""
    speed: float = 0.0
    """Seconds of audio for each second of work; 0: nothing was done."""
    engine: str = ""
    languages: tuple[str, ...] = ()
    serves: tuple[str, ...] = ()
    """Languages whose sessions it is there for before other engines; none: for all."""
    device_bytes: int = 0
    """Memory of its device in use, where that can be told."""
    pid: int = 0
    """Its process, on the machine where it runs."""

    @property
    def taken(self) -> float:
        """What is in use of what may be: above 1 nobody is let in."""
        return self.used / full_at(self.call_s)

    @property
    def full(self) -> str | None:
        """Why it should get no more sessions; `None`: it has room."""
        if self.lag_s > LATE_S:
            return f"texts are {self.lag_s:.1f} s late"
        if self.taken > 1:
            return f"{self.used:.0%} of the engines is in use"
        return None


@dataclass(frozen=True, slots=True)
class _Done:
    """A call, or a step of rows that come and go."""

    ended: float
    took_s: float
    rows: int
    stands: int
    most: int
    """Rows there could have been."""
    audio_s: float


class Gauged(AroundModel):
    """A `SpeechModel` that measures how much of it is in use."""

    def __init__(self, model: SpeechModel, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(model)
        self._clock = clock
        self._done: deque[_Done] = deque()

    def transcribe(self, batch: Sequence[Utterance]) -> list[Hypothesis]:
        """Recognize each utterance by itself."""
        return self.measured(lambda: self._model.transcribe(batch), batch, self.max_batch, heard=batch)

    def around(self, batch: RunningBatch) -> RunningBatch:
        """Measure its steps."""
        return _GaugedBatch(batch, self)

    def measured(
        self, work: Callable[[], _T], rows: Sequence[Utterance], most: int, heard: Sequence[Utterance] = ()
    ) -> _T:
        """Do some work with these rows, and note it; `heard`: those whose audio is taken in."""
        began = self._clock()
        try:
            return work()
        finally:
            now = self._clock()
            stands = sum(utterance.kind != "interim" for utterance in rows)
            audio_s = sum(len(utterance.audio) for utterance in heard) / 16_000
            self._done.append(_Done(now, now - began, len(rows), stands, max(1, most), audio_s))
            while self._done[0].ended < now - OVER_S:
                self._done.popleft()

    def reset(self) -> None:
        """Forget what was measured: the first calls of an engine load what is needed later."""
        self._done.clear()

    def load(
        self,
        replica: str,
        lag_s: float = 0.0,
        waiting: int = 0,
        sessions: int = 0,
        device_bytes: int = 0,
        serves: tuple[str, ...] = (),
    ) -> Load:
        """Say how it has been lately; from any thread."""
        now = self._clock()
        done = [call for call in self._done.copy() if call.ended >= now - OVER_S]
        took_s = sum(call.took_s for call in done)
        stand_s = [call.took_s for call in done if call.stands]
        return Load(
            replica,
            min(1.0, sum(call.took_s * call.stands / call.most for call in done) / OVER_S),
            sum(stand_s) / len(stand_s) if stand_s else 0.0,
            lag_s,
            waiting,
            sessions,
            sum(call.rows / call.most for call in done) / len(done) if done else 0.0,
            sum(call.audio_s for call in done) / took_s if took_s else 0.0,
            self.name,
            tuple(sorted(self.languages)),
            serves,
            device_bytes,
            os.getpid(),
        )


class _GaugedBatch(AroundBatch):
    """A `RunningBatch` whose steps are measured."""

    def __init__(self, batch: RunningBatch, gauged: Gauged) -> None:
        super().__init__(batch)
        self._gauged = gauged
        self._rows: dict[Hashable, Utterance] = {}

    def add(self, batch: Sequence[Utterance]) -> list[Hashable]:
        """Begin to recognize utterances."""
        rows = [*self._rows.values(), *batch]
        tickets = self._gauged.measured(lambda: self._batch.add(batch), rows, self.rows, heard=batch)
        self._rows.update(zip(tickets, batch, strict=True))
        return tickets

    def step(self) -> dict[Hashable, Hypothesis | Exception]:
        """Let what is running go on."""
        try:
            ended = self._gauged.measured(self._batch.step, list(self._rows.values()), self.rows)
        except BaseException:
            self._rows.clear()
            raise
        self._forget(ended)
        return ended

    def drop(self, tickets: Iterable[Hashable]) -> None:
        """Give up on some that are running."""
        tickets = list(tickets)
        self._batch.drop(tickets)
        self._forget(tickets)

    def _forget(self, tickets: Iterable[Hashable]) -> None:
        for ticket in tickets:
            self._rows.pop(ticket, None)
