"""The engines of a cluster as one recognition service: each session has the engine that it asked for, or needs.

An engine is asked for by name (`RecognitionOptions.engine`); else a session gets the first, in the order of their names
with `default` before all, that knows its language, and stays with it for as long as that is so.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Hashable, Iterable
from typing import Final, Protocol

from stt.cluster.recognizer import ClusterRecognizer, EngineFacts, Patience, Replicas
from stt.errors import EngineError
from stt.recognition import RecognitionOptions, Ticket, Utterance

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


class ClusterEngines:
    """A `RecognitionService` over all engines of a cluster, and the `ServedEngine` of a front."""

    def __init__(
        self,
        directory: Directory,
        changed: Callable[[], None] = lambda: None,
        patience: Patience | None = None,
        find_every_s: float = _FIND_EVERY_S,
    ) -> None:
        self.engines: dict[str, ClusterRecognizer] = {}
        self._directory, self._changed, self._patience = directory, changed, patience
        self._find_every_s = find_every_s
        self._state = "loading"
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
            self.engines[before].forget(session)
        self._at[session] = name
        return self.engines[name].submit(utterance)

    def forget(self, session: Hashable) -> None:
        """Drop what a session that is gone still has waiting."""
        if (name := self._at.pop(session, None)) is not None and name in self.engines:
            self.engines[name].forget(session)

    def _route(self, now: str | None, options: RecognitionOptions) -> str:
        known = sorted(self.engines, key=lambda name: (name != "default", name))
        if options.engine is not None:
            if options.engine not in known:
                msg = f"expected one of the engines {', '.join(known)}, got {options.engine!r}"
                raise EngineError(msg)
            return options.engine
        fit = [name for name in known if options.language in (None, *self.engines[name].model.languages)] or known
        if not fit:
            msg = "no engine is deployed"
            raise EngineError(msg)
        return now if now in fit else fit[0]

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
        """What is known of all of them together."""
        facts = [engine.model for engine in self.engines.values()]
        name = ", ".join(dict.fromkeys(fact.name for fact in facts)) or "no engine"
        return EngineFacts(name, frozenset().union(*(fact.languages for fact in facts)))

    @property
    def waiting(self) -> int:
        """Requests without an answer."""
        return sum(engine.waiting for engine in self.engines.values())

    @property
    def lag_s(self) -> float:
        """For how long the oldest unanswered request that stands has been waiting."""
        return max((engine.lag_s for engine in self.engines.values()), default=0.0)

    def refusal(self) -> str | None:
        """Why nobody more should be let in: every engine is full."""
        reasons = [engine.refusal() for engine in self.engines.values()]
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
                for engine in self.engines.values():
                    await engine.close()

    def _take(self, names: set[str]) -> None:
        for name in names - self.engines.keys():
            engine = self.engines[name] = ClusterRecognizer(self._directory.replicas(name), self._patience)
            engine.changed = self._look
            self._running[name] = asyncio.create_task(engine.run(), name=f"engine {name}")
        for name in self.engines.keys() - names:
            if not self.engines[name].waiting:  # what it has may yet come: an update takes it away for a moment
                del self.engines[name]
                self._running.pop(name).cancel()
        self._look()

    def _look(self) -> None:
        states = {engine.state for engine in self.engines.values()}
        state = "ready" if "ready" in states else "loading" if self._state == "loading" else "unreachable"
        if state != self._state:
            self._state = state
            self._changed()
