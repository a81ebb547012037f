"""A front's recognition service: every request is a call to one of an engine's replicas.

    submit -> home (sticky by session) -> message -> replica -> answer -> ticket
                ^                                      |
                +--- again, finals first <--- gone, hung, drained

The replica schedules (`LocalRecognizer` there); what is here makes sure that nothing is lost on the way. A call whose
replica died or does not answer is made again elsewhere, with all of its audio; an interim is dropped then. Whether a
replica is slow or hung is found by asking it something that needs no engine. Answers are not believed blindly: requests
of a session may arrive in another order than they were sent, so `overtaken` counts only where a newer one was asked.
"""

import asyncio
import contextlib
import heapq
import itertools
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol, TypeVar
from uuid import uuid4

from stt.cluster.load import Load
from stt.cluster.wire import Message, Sent, from_plain, pack, size, unpack_hypothesis
from stt.errors import EngineError
from stt.events import Latency
from stt.recognition import Recognition, Ticket, Utterance

_LOGGER: Final = logging.getLogger(__name__)
_T = TypeVar("_T")
_RANKS: Final = {"final": 0, "speculative": 1, "interim": 2}
_FAILURES: Final = 2  # of the engine on one utterance: once may be the replica's fault, twice is the utterance's


class ReplicaGoneError(Exception):
    """A call was lost: its replica died, was stopped, or cannot be reached."""


class Replicas(Protocol):
    """The replicas of one engine, wherever they are. Every method raises `ReplicaGoneError`, and nothing else.

    `to` names the replica that is wanted: another one answers where it is not there any more, none of `avoid` as long
    as there are others. Answers carry a `Load` (a plain one in `load`), which says who answered. Where there are no
    replicas at all, a call waits or raises.
    """

    async def recognize(self, message: Message, to: str | None, avoid: frozenset[str]) -> Message:
        """Have a replica answer a message; cancelling takes it back."""
        ...

    async def pulse(self, to: str | None, avoid: frozenset[str]) -> Load:
        """Have a replica say how busy it is, which needs no engine: the less busy of two where none is named."""
        ...

    async def forget(self, session: str, to: str) -> None:
        """Tell a replica that a session is gone."""
        ...


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a front waits for what, in seconds."""

    patience_s: float = 5.0
    """For an answer, before the replica is asked whether it is there at all."""
    pulse_s: float = 2.0
    """For that answer."""
    deadline_s: float = 120.0
    """For an answer of a replica that is there; a window of 24 s takes seconds, a queue of them may take a minute."""
    give_up_s: float = 600.0
    """Without any answer in sight a request fails, and its session tells so."""
    every_s: float = 1.0
    """Between two looks at the cluster."""
    unheard_s: float = 5.0
    """Without any sign of life the cluster counts as unreachable."""
    suspect_s: float = 30.0
    """A replica that hung or failed gets nothing for so long, while there are others."""
    backoff_s: float = 0.05
    """Before a lost call is made again; doubled each time."""
    most_backoff_s: float = 2.0


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What is known of an engine that runs elsewhere."""

    name: str
    languages: frozenset[str]


@dataclass(slots=True)
class Counts:
    """What happened so far."""

    calls: int = 0
    bytes_sent: int = 0
    forgotten: int = 0
    """Calls whose audio had to be sent whole, because the replica had it no more."""
    again: dict[str, int] = field(default_factory=dict)
    """Calls made again, by why: `gone`, `hung`, `failed`, `overtaken`."""
    dropped: int = 0
    """Interims that were lost, and not asked again."""


@dataclass(slots=True, eq=False)
class _Session:
    id: str = field(default_factory=lambda: uuid4().hex)
    sent: Sent | None = None
    home: str | None = None
    finding: asyncio.Task[str] | None = None
    turn: int = -1
    calls: "list[_Call]" = field(default_factory=list)


@dataclass(slots=True, eq=False)
class _Call:
    utterance: Utterance
    session: _Session
    ticket: Ticket
    asked: float
    task: asyncio.Task[None] | None = None
    overtaken: bool = False
    tries: int = 0
    failures: int = 0
    avoid: frozenset[str] = frozenset()

    @property
    def stands(self) -> bool:
        return self.utterance.kind != "interim"


class ClusterRecognizer:
    """A `RecognitionService` over the replicas of one engine; `run` watches over them. Of one event loop."""

    def __init__(self, replicas: Replicas, patience: Patience | None = None) -> None:
        self.state: Literal["loading", "ready", "unreachable"] = "loading"
        self.model = EngineFacts("an engine elsewhere", frozenset())
        self.serves: frozenset[str] = frozenset()
        """Languages whose sessions it is there for; none: for all."""
        self.counts = Counts()
        self.changed: Callable[[], None] = lambda: None
        """Called whenever `state` is another."""
        self._replicas = replicas
        self._patience = patience or Patience()
        self._sessions: dict[Hashable, _Session] = {}
        self._loads: dict[str, tuple[float, Load]] = {}  # when each replica was heard of, and what it said
        self._sent_to: Counter[str] = Counter()  # sessions that were given to each since then
        self._suspects: dict[str, float] = {}  # replicas that hung or failed, and when
        self._heard = 0.0
        self._pings: dict[str, asyncio.Task[Load]] = {}
        self._again: list[tuple[int, float, int, asyncio.Future[None]]] = []
        self._count = itertools.count()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    # for sessions

    def submit(self, utterance: Utterance) -> Ticket:
        """Ask for a recognition; call from the event loop that is to await the ticket.

        Raises:
            EngineError: the service is closed.

        """
        if self._closed:
            msg = "the engine is closed"
            raise EngineError(msg)
        loop = asyncio.get_running_loop()
        session = self._sessions.setdefault(utterance.key.session, _Session())
        for other in session.calls:
            other.overtaken = other.overtaken or other.utterance.overtaken_by(utterance)
        call = _Call(utterance, session, loop.create_future(), loop.time())
        session.calls.append(call)
        call.task = self._start(self._serve(call))
        call.ticket.add_done_callback(lambda _: self._settled(call))
        return call.ticket

    def forget(self, session: Hashable) -> None:
        """Drop what a session that is gone still has waiting."""
        if (gone := self._sessions.pop(session, None)) is None:
            return
        for call in list(gone.calls):
            _settle(call, None)
        if gone.finding is not None:
            gone.finding.cancel()
        if gone.home is not None and not self._closed:
            self._start(self._tell_gone(gone.id, gone.home))

    # for whoever serves

    @property
    def waiting(self) -> int:
        """Requests without an answer."""
        return sum(len(session.calls) for session in self._sessions.values())

    @property
    def lag_s(self) -> float:
        """For how long the oldest unanswered request that stands has been waiting; 0 where there is none."""
        asked = [call.asked for session in self._sessions.values() for call in session.calls if call.stands]
        return asyncio.get_running_loop().time() - min(asked) if asked else 0.0

    @property
    def loads(self) -> list[Load]:
        """What replicas said of themselves lately: those that this front talks to, and two a second of the others."""
        return [load for _, load in self._loads.values()]

    def refusal(self) -> str | None:
        """Why nobody more should be let in: all replicas heard of are full. `None`: there is room."""
        reasons = [load.full for load in self.loads]
        return None if not reasons or not all(reasons) else reasons[0]

    async def run(self) -> None:
        """Watch over the cluster until cancelled; what waits then goes on waiting for `close`."""
        clock, patience = asyncio.get_running_loop().time, self._patience
        while True:
            with contextlib.suppress(ReplicaGoneError, TimeoutError):
                async with asyncio.timeout(patience.pulse_s):
                    self._learn(await self._replicas.pulse(None, self._avoided()))
            now = clock()
            for replica in [name for name, (at, _) in self._loads.items() if now - at > patience.unheard_s]:
                del self._loads[replica], self._sent_to[replica]
            if self.state == "ready" and now - self._heard > patience.unheard_s:
                _LOGGER.error("no replica of the engine answers; what waits goes on waiting")
                self._become("unreachable")
            await asyncio.sleep(patience.every_s)

    async def close(self) -> None:
        """Fail what waits."""
        self._closed = True
        for session in self._sessions.values():
            for call in list(session.calls):
                _settle(call, EngineError("the engine was closed"))
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # one call

    async def _serve(self, call: _Call) -> None:
        try:
            await self._see_to(call)
        except Exception as error:
            _LOGGER.exception("a call failed")
            _settle(call, EngineError(f"the cluster failed: {type(error).__name__}: {error}"))

    async def _see_to(self, call: _Call) -> None:
        while not call.ticket.done():
            try:
                why = await self._ask(call)
            except ReplicaGoneError as gone:
                why = "hung" if isinstance(gone, _HungError) else "gone"
                _LOGGER.warning("a call is lost: %s; session %s", gone, call.utterance.trace or "-")
            if call.ticket.done():
                return
            if call.overtaken or not call.stands:
                self.counts.dropped += not call.overtaken
                _settle(call, None)
                return
            if asyncio.get_running_loop().time() - call.asked > self._patience.give_up_s:
                _settle(call, EngineError(f"no engine answered for {self._patience.give_up_s:.0f} s"))
                return
            self.counts.again[why] = self.counts.again.get(why, 0) + 1
            await self._wait_turn(call)

    async def _ask(self, call: _Call) -> str:
        """Make a call, and settle it, or return why it has to be made again."""
        began = asyncio.get_running_loop().time()
        session, utterance = call.session, call.utterance
        avoid = call.avoid | self._avoided()
        home = await self._home(session, utterance.key.turn, avoid)
        shared = session.sent.shared(utterance) if session.sent is not None and session.sent.replica == home else 0
        answer = await self._send(call, home, shared, avoid)
        if answer["said"] == "forgotten":
            self.counts.forgotten += 1
            home = session.home or home
            answer = await self._send(call, home, 0, avoid)
        match answer["said"]:
            case "heard":
                took_s = asyncio.get_running_loop().time() - began
                decoded_s = answer["decoded_s"]
                latency = Latency(max(0.0, took_s - decoded_s), decoded_s, answer["batch_size"])
                _settle(call, Recognition(unpack_hypothesis(answer["hypothesis"]), latency))
                return ""
            case "failed":
                call.failures += 1
                call.avoid |= {home}
                session.home = None
                if call.failures >= _FAILURES and call.stands:
                    _settle(call, EngineError(answer["why"]))
                return "failed"
            case "gone":
                self._suspect(home)
                raise ReplicaGoneError(answer["why"])
            case said:
                return said

    async def _send(self, call: _Call, home: str, shared: int, avoid: frozenset[str]) -> Message:
        session, utterance = call.session, call.utterance
        message = pack(utterance, session.id, shared)
        session.sent = Sent(home, utterance.start, utterance.end)
        self.counts.calls += 1
        self.counts.bytes_sent += size(message)
        try:
            answer = await self._answered(self._replicas.recognize(message, home, avoid), home)
        except ReplicaGoneError:
            self._suspect(home)
            raise
        load = from_plain(Load, answer["load"])
        self._learn(load)
        if load.replica != home:  # it was drained, or is no more
            session.home, session.sent = load.replica, None
        return answer

    async def _answered(self, answer: Coroutine[Any, Any, _T], replica: str) -> _T:
        """Wait for an answer for as long as the replica shows that it lives."""
        patience, task = self._patience, asyncio.ensure_future(answer)
        until = asyncio.get_running_loop().time() + patience.deadline_s
        try:
            while True:
                done, _ = await asyncio.wait([task], timeout=patience.patience_s)
                if done:
                    return task.result()
                await self._ping(replica)
                if asyncio.get_running_loop().time() > until:
                    raise _HungError(replica, patience.deadline_s)
        finally:
            task.cancel()

    async def _ping(self, replica: str) -> None:
        """See whether a replica is there; one question for all who want to know."""

        async def ask() -> Load:
            try:
                async with asyncio.timeout(self._patience.pulse_s):
                    return await self._replicas.pulse(replica, frozenset())
            except TimeoutError:
                raise _HungError(replica, self._patience.patience_s) from None

        if replica not in self._pings:
            self._pings[replica] = self._start(ask())
            self._pings[replica].add_done_callback(lambda _: self._pings.pop(replica, None))
        # Another one answers for a replica that is drained: that one still answers what it has, or ends, which is told.
        self._learn(await asyncio.shield(self._pings[replica]))

    # where calls go

    async def _home(self, session: _Session, turn: int, avoid: frozenset[str]) -> str:
        """Return the replica of a session; another one where that is gone, or full at the start of a turn."""
        new_turn, session.turn = turn != session.turn, turn
        known = self._loads.get(session.home or "")
        late = new_turn and known is not None and known[1].full is not None
        if session.home is not None and session.home not in avoid and not late:
            return session.home
        if session.finding is None:
            session.home = None
            session.finding = self._start(self._find_home(avoid))
        try:
            home = await asyncio.shield(session.finding)
        except asyncio.CancelledError:
            if session.finding is not None and session.finding.cancelled():
                raise ReplicaGoneError("the session is gone") from None
            raise
        finally:
            if session.finding is not None and session.finding.done():
                session.finding = None
        session.home = home
        return home

    async def _find_home(self, avoid: frozenset[str]) -> str:
        try:
            async with asyncio.timeout(self._patience.patience_s):
                load = await self._replicas.pulse(None, avoid)
        except TimeoutError:
            raise ReplicaGoneError("no replica answers") from None
        self._learn(load)
        # Serve counts calls, and most sessions have none right now: take the one with the fewest sessions.
        known = [other for other in self.loads if other.replica not in avoid] or [load]
        best = min(known, key=lambda other: (other.full is not None, other.sessions + self._sent_to[other.replica]))
        self._sent_to[best.replica] += 1
        return best.replica

    def _avoided(self) -> frozenset[str]:
        now = asyncio.get_running_loop().time()
        for replica in [name for name, at in self._suspects.items() if now - at > self._patience.suspect_s]:
            del self._suspects[replica]
        return frozenset(self._suspects)

    def _suspect(self, replica: str) -> None:
        self._suspects[replica] = asyncio.get_running_loop().time()
        self._loads.pop(replica, None)
        self._sent_to.pop(replica, None)

    def _learn(self, load: Load) -> None:
        self._heard = asyncio.get_running_loop().time()
        self._loads[load.replica] = self._heard, load
        self._sent_to[load.replica] = 0
        self._suspects.pop(load.replica, None)
        if load.engine:
            self.model = EngineFacts(load.engine, frozenset(load.languages))
            self.serves = frozenset(load.serves)
        if self.state != "ready":
            self._become("ready")

    def _become(self, state: Literal["ready", "unreachable"]) -> None:
        self.state = state
        self.changed()

    # calls that are made again

    async def _wait_turn(self, call: _Call) -> None:
        """Wait before a call is made again: those that are due together go finals first, oldest first."""
        loop, patience = asyncio.get_running_loop(), self._patience
        turn: asyncio.Future[None] = loop.create_future()
        heapq.heappush(self._again, (_RANKS[call.utterance.kind], call.asked, next(self._count), turn))
        delay_s = min(patience.most_backoff_s, patience.backoff_s * 2**call.tries) if call.tries else 0.0
        call.tries = min(call.tries + 1, 16)

        def next_turn() -> None:
            while self._again:
                *_, first = heapq.heappop(self._again)
                if not first.done():
                    first.set_result(None)
                    return

        # Each lost call brings one turn; whose turn it is then, is a matter of rank. The others of a replica that died
        # are told of it in the same round of the loop, or the next.
        if delay_s:
            loop.call_later(delay_s, next_turn)
        else:
            loop.call_soon(loop.call_soon, next_turn)
        await turn

    def _start(self, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # who awaited it was told

    def _settled(self, call: _Call) -> None:
        with contextlib.suppress(ValueError):
            call.session.calls.remove(call)
        if call.task is not None:
            call.task.cancel()  # where the ticket was cancelled, or its session forgotten

    async def _tell_gone(self, session: str, home: str) -> None:
        with contextlib.suppress(ReplicaGoneError, TimeoutError):
            async with asyncio.timeout(self._patience.pulse_s):
                await self._replicas.forget(session, home)


class _HungError(ReplicaGoneError):
    def __init__(self, replica: str, waited_s: float) -> None:
        super().__init__(f"replica {replica} gave no answer for {waited_s:g} s")


def _settle(call: _Call, outcome: Recognition | EngineError | None) -> None:
    if call.ticket.done():
        return
    if isinstance(outcome, EngineError):
        call.ticket.set_exception(outcome)
    else:
        call.ticket.set_result(outcome)
