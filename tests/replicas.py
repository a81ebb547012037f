"""Replicas of an engine in this process, that die, hang, forget and are drained when they are told to."""

import asyncio
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from scripted import ScriptedModel
from stt.cluster.load import Load
from stt.cluster.metrics import ClusterMetrics
from stt.cluster.recognizer import Patience, ReplicaGoneError, Replicas
from stt.cluster.replica import Replica
from stt.cluster.routes import ClusterEngines
from stt.cluster.wire import Message
from stt.errors import EngineError
from stt.recognition import ServedEngine, Utterance

PATIENCE = Patience(
    patience_s=0.3,
    pulse_s=1.0,
    deadline_s=3.0,
    every_s=0.01,
    unheard_s=0.5,
    suspect_s=0.3,
    backoff_s=0.002,
    most_backoff_s=0.02,
)
"""Short, but so that a machine with much else to do does not take a replica for hung; nothing else depends on it."""


@dataclass
class One:
    replica: Replica
    model: ScriptedModel
    alive: bool = True
    hangs: bool = False
    died: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[Message] = field(default_factory=list)
    forgot: list[str] = field(default_factory=list)


class Fleet:
    """`Replicas` of which single ones fail; `there` has them by name, in the order in which they came."""

    def __init__(
        self, hear: Callable[[Utterance], str] | None = None, max_batch: int = 4, serves: tuple[str, ...] = ()
    ) -> None:
        self.there: dict[str, One] = {}
        self._hear, self._max_batch, self._serves = hear, max_batch, serves
        self._random = random.Random(0)
        self._names = (f"r{number}" for number in range(10_000))

    async def add(self, model: ScriptedModel | None = None) -> str:
        model = model or ScriptedModel(self._hear, self._max_batch)
        name = next(self._names)
        one = One(Replica(name, lambda: model, serves=self._serves), model)
        await one.replica.open()
        model.batches.clear()  # the warm-up
        self.there[name] = one
        return name

    async def close(self) -> None:
        for name in list(self.there):
            await self.kill(name)

    async def kill(self, name: str) -> None:
        one = self.there.pop(name)
        one.alive = False
        one.died.set()
        one.model.free.set()
        await one.replica.close()

    def drain(self, name: str) -> One:
        """Nothing new reaches it, and what it has is answered."""
        return self.there.pop(name)

    def _choose(self, to: str | None, avoid: frozenset[str]) -> One:
        if to in self.there:
            return self.there[to]
        answer = [name for name, one in self.there.items() if not one.hangs] or list(self.there)  # Serve asks them
        wanted = [self.there[name] for name in answer if name not in avoid] or [self.there[name] for name in answer]
        if not wanted:
            raise ReplicaGoneError("no replicas")
        return min(wanted, key=lambda one: (one.replica.load().waiting, self._random.random()))

    async def _carry(self, one: One, call: Any) -> Any:
        """Bring a call to a replica, and the answer back, unless one of the two gets lost."""
        answer = asyncio.ensure_future(call)
        died = asyncio.ensure_future(one.died.wait())
        try:
            await asyncio.wait([answer, died], return_when=asyncio.FIRST_COMPLETED)
            if one.hangs:
                await died
            if not one.alive:
                raise ReplicaGoneError(f"{one.replica.name} died")
            return answer.result()
        finally:
            answer.cancel()
            died.cancel()
            await asyncio.gather(answer, return_exceptions=True)

    async def recognize(self, message: Message, to: str | None, avoid: frozenset[str]) -> Message:
        one = self._choose(to, avoid)
        one.asked.append(message)
        return await self._carry(one, one.replica.recognize(message))

    async def pulse(self, to: str | None, avoid: frozenset[str]) -> Load:
        one = self._choose(to, avoid)

        async def load() -> Load:
            return one.replica.load()

        return await self._carry(one, load())

    async def forget(self, session: str, to: str) -> None:
        if to in self.there:
            self.there[to].forgot.append(session)
            self.there[to].replica.forget(session)


class Knows(ScriptedModel):
    def __init__(self, *languages: str) -> None:
        super().__init__(lambda _: f"by {'-'.join(languages)}")
        self.languages = frozenset(languages)


class Directory:
    """Fleets by the engines' names."""

    def __init__(self, **fleets: Fleet) -> None:
        self.fleets = fleets
        self.down = False

    async def names(self) -> Iterable[str]:
        if self.down:
            raise EngineError("the head does not answer")
        return list(self.fleets)

    def replicas(self, name: str) -> Replicas:
        return self.fleets[name]

    async def close(self) -> None:
        pass


async def fleet(*models: ScriptedModel) -> Fleet:
    made = Fleet()
    for model in models:
        await made.add(model)
    return made


def elsewhere(directory: Directory, made: list[ClusterEngines]):
    def make(metrics, changed) -> ServedEngine:
        engines = ClusterEngines(directory, changed, PATIENCE, 0.01)
        metrics.registry.register(ClusterMetrics(engines))
        made.append(engines)
        return engines

    return make
