"""How much of an engine is in use, measured as it works; what a front makes of it when somebody wants to be let in.

Only work that stands counts: interims take what is left, and stretch. A call that took `t` seconds with `n` rows that
stand, of the `m` that the engine can take, used `t * n / m` of it: rows beside each other cost nothing until then
(a GPU), and an engine that takes one at a time (a CPU) is in use for as long as the call lasts.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from stt.recognition import Hypothesis, SpeechModel, Utterance

OVER_S: Final = 10.0
"""Of the recent past, what is measured."""
FULL: Final = 0.7
"""Share in use from which nobody is let in: with Poisson arrivals the mean wait at 0.7 is 1.2 calls (M/D/1), at 0.8 two,
at 0.9 four and a half; and sessions that were let in begin to speak at the same time now and then."""
LATE_S: Final = 1.0
"""A final that has been waiting for so long shows that there is too much to do, whatever was measured."""


@dataclass(frozen=True, slots=True)
class Load:
    """What a replica says of itself."""

    replica: str
    used: float = 0.0
    """Share of its engine that work which stands took lately, 0 to 1."""
    lag_s: float = 0.0
    """How long the oldest request that stands has been waiting."""
    waiting: int = 0
    fill: float = 0.0
    """Rows of a call on average, of those it could have had: 0 to 1."""
    speed: float = 0.0
    """Seconds of audio for each second of work; 0: nothing was done."""
    engine: str = ""
    languages: tuple[str, ...] = ()
    device_bytes: int = 0
    """Memory of its device in use, where that can be told."""

    @property
    def full(self) -> str | None:
        """Why it should get no more sessions; `None`: it has room."""
        if self.lag_s > LATE_S:
            return f"texts are {self.lag_s:.1f} s late"
        if self.used > FULL:
            return f"{self.used:.0%} of the engines is in use"
        return None


@dataclass(frozen=True, slots=True)
class _Done:
    ended: float
    took_s: float
    rows: int
    stands: int
    audio_s: float


class Gauged:
    """A `SpeechModel` that measures how much of it is in use."""

    def __init__(self, model: SpeechModel, clock: Callable[[], float] = time.monotonic) -> None:
        self._model, self._clock = model, clock
        self.name, self.languages, self.max_batch = model.name, model.languages, model.max_batch
        self._began = clock()
        self._done: deque[_Done] = deque()

    def cost(self, seconds: Sequence[float]) -> float:
        """Estimate the time of one call."""
        return self._model.cost(seconds)

    def close(self) -> None:
        """Let the engine's memory go."""
        self._model.close()

    def transcribe(self, batch: Sequence[Utterance]) -> list[Hypothesis]:
        """Recognize each utterance by itself."""
        began = self._clock()
        try:
            return self._model.transcribe(batch)
        finally:
            now = self._clock()
            stands = sum(utterance.kind != "interim" for utterance in batch)
            audio_s = sum(len(utterance.audio) for utterance in batch) / 16_000
            self._done.append(_Done(now, now - began, len(batch), stands, audio_s))
            self._drop_old(now)

    def _drop_old(self, now: float) -> None:
        while self._done and self._done[0].ended < now - OVER_S:
            self._done.popleft()

    def load(self, replica: str, lag_s: float = 0.0, waiting: int = 0, device_bytes: int = 0) -> Load:
        """Say how it has been lately; from any thread."""
        now = self._clock()
        done = [call for call in tuple(self._done) if call.ended >= now - OVER_S]
        over_s = max(1.0, min(OVER_S, now - self._began))
        took_s = sum(call.took_s for call in done)
        return Load(
            replica,
            min(1.0, sum(call.took_s * call.stands / self.max_batch for call in done) / over_s),
            lag_s,
            waiting,
            sum(call.rows for call in done) / (len(done) * self.max_batch) if done else 0.0,
            sum(call.audio_s for call in done) / took_s if took_s else 0.0,
            self.name,
            tuple(sorted(self.languages)),
            device_bytes,
        )
