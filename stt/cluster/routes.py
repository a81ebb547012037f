"""The engines of a cluster as one recognition service: each session has the engine that it asked for, or needs.

An engine is asked for by name (`RecognitionOptions.engine`). Else a session gets one that is there for its language
(`EngineSpec.languages`); else one that is there for all and knows it; else any that knows it; of several the first, in
the order of their names with `default` before all. It stays with it for as long as it may.

What was deployed once is not forgotten while a session is with it: an update, or another head of the cluster, takes it
away for a while, and what is asked meanwhile waits.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Hashable, Iterable
from typing import Final, Protocol

from stt.cluster.recognizer import ClusterRecognizer, EngineFacts, Patience, Replicas
from stt.errors import EngineError
from stt.recognition import RecognitionOptions, Ticket, Utterance
from stt.recognition.engine import unknown_engine

_LOGGER: Final = logging.getLogger(__name__)
_FIND_EVERY_S: Final = 5.0


class Directory(Protocol):
    """Where the engines of a cluster are found."""

    async def names(self) -> Iterable[str]:
        """Return those that are deployed.

        Raises:
            EngineError: the cluster cannot be reached.

        """
        ...

    def replicas(self, name: str) -> Replicas:
        """Return the replicas of one of them."""
        ...

    async def close(self) -> None:
        """Let go of the cluster."""
        ...


class ClusterEngines:
    """A `RecognitionService` over all engines of a cluster, and the `ServedEngine` of a front."""

    def __init__(
        self,
        directory: Directory,
        changed: Callable[[], None] = lambda: None,
        patience: Patience | None = None,
        find_every_s: float = _FIND_EVERY_S,
    ) -> None:
        self.recognizers: dict[str, ClusterRecognizer] = {}
        """By the names of their engines."""
        self._directory, self._changed, self._patience = directory, changed, patience
        self._find_every_s = find_every_s
        self._state = "loading"
        self._deployed: set[str] = set()
        self._running: dict[str, asyncio.Task[None]] = {}
        self._at: dict[Hashable, str] = {}  # which engine each session is with

    # for sessions

    def submit(self, utterance: Utterance) -> Ticket:
        """Ask the engine of its session for a recognition."""
        session = utterance.key.session
        try:
            name = self._route(self._at.get(session), utterance.options)
        except EngineError as error:
            failed: Ticket = asyncio.get_running_loop().create_future()
            failed.set_exception(error)
            return failed
        if (before := self._at.get(session)) not in (None, name):
            self.recognizers[before].forget(session)
        self._at[session] = name
        return self.recognizers[name].submit(utterance)

    def forget(self, session: Hashable) -> None:
        """Drop what a session that is gone still has waiting."""
        if (name := self._at.pop(session, None)) is not None and name in self.recognizers:
            self.recognizers[name].forget(session)

    def _route(self, now: str | None, options: RecognitionOptions) -> str:
        known = self._ordered()
        if why := unknown_engine(options.engine, known):
            raise EngineError(why)
        if options.engine is not None:
            return options.engine
        if not known:
            msg = "no engine is deployed"
            raise EngineError(msg)
        language, engines = options.language, self.recognizers
        knowing = [name for name in known if language in (None, *engines[name].model.languages)] or known
        there = [name for name in knowing if name in self._deployed] or knowing
        fit = [name for name in there if language in engines[name].serves]
        fit = fit or [name for name in there if not engines[name].serves] or there
        return now if now in fit else fit[0]

    def _ordered(self) -> list[str]:
        return sorted(self.recognizers, key=lambda name: (name != "default", name))

    # for whoever serves

    @property
    def state(self) -> str:
        """`loading`, `ready` once an engine answers, `unreachable` while none does any more."""
        return self._state

    @property
    def recognizer(self) -> "ClusterEngines | None":
        """Itself, once an engine has answered."""
        return None if self._state == "loading" else self

    @property
    def hung(self) -> bool:
        return False

    @property
    def model(self) -> EngineFacts:
        """What is known of all of them together; of none that is deployed: as it was."""
        facts = list(self.engines.values()) or [engine.model for engine in self.recognizers.values()]
        name = ", ".join(dict.fromkeys(fact.name for fact in facts)) or "no engine"
        return EngineFacts(name, frozenset().union(*(fact.languages for fact in facts)))

    @property
    def engines(self) -> dict[str, EngineFacts]:
        """Those that a session may ask for by name: all that are deployed and have said what they are."""
        return {
            name: self.recognizers[name].model
            for name in self._ordered()
            if name in self._deployed and self.recognizers[name].model.languages
        }

    @property
    def waiting(self) -> int:
        """Requests without an answer."""
        return sum(engine.waiting for engine in self.recognizers.values())

    @property
    def lag_s(self) -> float:
        """For how long the oldest unanswered request that stands has been waiting."""
        return max((engine.lag_s for engine in self.recognizers.values()), default=0.0)

    def refusal(self) -> str | None:
        """Why nobody more should be let in: every engine is full."""
        reasons = [engine.refusal() for engine in self.recognizers.values()]
        return reasons[0] if reasons and all(reasons) else None

    async def run(self) -> None:
        """Find engines, and watch over those that were found, until cancelled."""
        try:
            while True:
                try:
                    self._take(set(await self._directory.names()))
                except EngineError as error:
                    _LOGGER.warning("the cluster cannot be asked for its engines: %s", error)
                await asyncio.sleep(self._find_every_s)
        finally:
            for task in self._running.values():
                task.cancel()
            await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def close(self, timeout_s: float) -> None:
        """Fail what waits."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                for engine in self.recognizers.values():
                    await engine.close()
                await self._directory.close()

    def _take(self, names: set[str]) -> None:
        self._deployed = names
        for name in names - self.recognizers.keys():
            engine = self.recognizers[name] = ClusterRecognizer(self._directory.replicas(name), self._patience)
            engine.changed = self._look
            self._running[name] = asyncio.create_task(engine.run(), name=f"engine {name}")
        for name in self.recognizers.keys() - names - set(self._at.values()):
            if not self.recognizers[name].waiting:
                del self.recognizers[name]
                self._running.pop(name).cancel()
        self._look()

    def _look(self) -> None:
        states = {engine.state for engine in self.recognizers.values()}
        state = "ready" if "ready" in states else "loading" if self._state == "loading" else "unreachable"
        if state != self._state:
            self._state = state
            self._changed()
