"""Recognition as a service to many sessions: one worker thread owns the model, and batches what waits.

There is no delay knob: while one batch runs, the requests that come in form the next. Finals go before interims;
within each, the session served longest ago goes first. A session has at most one interim waiting, the newest.
Interims fill half a batch at most: a final that comes in the meantime waits for them to end.
"""

import asyncio
import contextlib
import itertools
import threading
import time
from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self

from stt.audio import Samples
from stt.errors import EngineError
from stt.events import Latency


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """What an engine heard."""

    text: str
    tokens: tuple[int, ...] = ()
    """The engine's own tokens, for it to take back as a draft."""
    confidence: float | None = None
    """Mean probability of the tokens, 0 to 1, where the engine tells."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """What an engine is to hear."""

    audio: Samples
    """Mono, 16 kHz, at most `TurnSettings.window_s` long plus a frame."""
    language: str | None = "en"
    """ISO 639-1 code; `None`: let the engine find out, where it can."""
    final: bool = True
    """Whether the result stands, or is an interim that will be replaced and had better be quick."""
    draft: Hypothesis | None = None
    """What was heard in an earlier part of the same audio; an engine may use it to be faster, not to differ."""


class SpeechModel(Protocol):
    """A speech recognition engine: synchronous, batched, called from one thread."""

    @property
    def name(self) -> str:
        """What it is and where it runs, for people: `whisper tiny.en (int8, cpu)`."""
        ...

    @property
    def languages(self) -> frozenset[str]:
        """ISO 639-1 codes of the languages it knows."""
        ...

    @property
    def max_batch(self) -> int:
        """Utterances that are worth one call."""
        ...

    def transcribe(self, batch: Sequence[Utterance]) -> list[Hypothesis]:
        """Recognize each utterance by itself; the result has the batch's length and order."""
        ...


@dataclass(frozen=True, slots=True)
class Recognition:
    """A hypothesis, and what it took."""

    hypothesis: Hypothesis
    latency: Latency


Ticket = asyncio.Future[Recognition | None]
"""Resolves to `None` where a newer request of the session made this one pointless."""


@dataclass(slots=True)
class _Request:
    utterance: Utterance
    ticket: Ticket
    asked: float = field(default_factory=time.monotonic)


@dataclass(slots=True)
class _Waiting:
    """The requests of one session."""

    served: int  # when it was last given a place in a batch, as a running number
    finals: deque[_Request] = field(default_factory=deque)
    interim: _Request | None = None


@dataclass(slots=True, eq=False)
class _Worker:
    """One thread and the model it owns."""

    model: SpeechModel
    thread: threading.Thread | None = None
    batch: list[_Request] = field(default_factory=list)  # running now
    began: float = 0.0
    failed: int = 0  # batches in a row


class Recognizer:
    """The batching scheduler. Use as a context manager; it ends its thread on the way out.

    A thread that hangs in its model cannot be ended from outside, and one that died serves nobody: whoever watches
    over a recognizer looks at `running_s`, `failed` and `alive`, and gives up on the worker with `abandon`. What waits
    goes on waiting, for the worker that `restart` begins with another model.
    """

    def __init__(self, model: SpeechModel) -> None:
        self.model = model
        self._sessions: dict[Hashable, _Waiting] = {}
        self._count = itertools.count()
        self._changed = threading.Condition()
        self._closed = True
        self._worker: _Worker | None = None
        self._abandoned: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._closed = False
        self.restart(self.model)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self, timeout_s: float | None = None) -> None:
        """Let the running batch end, fail what waits, end the thread; one that takes longer than this is abandoned."""
        with self._changed:
            self._closed = True
            worker = self._worker
            self._changed.notify_all()
        self.fail_waiting(EngineError("the engine was closed"))
        if worker is not None and worker.thread is not None:
            worker.thread.join(timeout_s)
            if worker.thread.is_alive():
                self.abandon(EngineError("the engine was closed"))

    @property
    def running_s(self) -> float:
        """For how long the running batch has been running; 0 where none is."""
        with self._changed:
            worker = self._worker
            return time.monotonic() - worker.began if worker is not None and worker.batch else 0.0

    @property
    def alive(self) -> bool:
        """Whether there is a worker thread."""
        worker = self._worker
        return worker is not None and worker.thread is not None and worker.thread.is_alive()

    @property
    def failed(self) -> int:
        """How many batches in a row the engine failed on; 0 after each that it did not fail on."""
        worker = self._worker
        return worker.failed if worker is not None else 0

    @property
    def hung(self) -> bool:
        """Whether a thread that was given up on still runs."""
        return any(thread.is_alive() for thread in self._abandoned)

    @property
    def waiting(self) -> int:
        """Requests that wait for a batch."""
        with self._changed:
            return sum(len(_all(session)) for session in self._sessions.values())

    def abandon(self, error: EngineError) -> None:
        """Give up on the worker: what it is working on fails with `error`, and whatever it still does is ignored."""
        with self._changed:
            worker, self._worker = self._worker, None
            batch = worker.batch if worker is not None else []
            if worker is not None and worker.thread is not None:
                self._abandoned = [thread for thread in (*self._abandoned, worker.thread) if thread.is_alive()]
            self._changed.notify_all()
        for request in batch:
            _settle(request, error)

    def fail_waiting(self, error: EngineError) -> None:
        """Fail all that waits, where no worker will come for it soon."""
        with self._changed:
            waiting = [request for session in self._sessions.values() for request in _all(session)]
            self._sessions.clear()
        for request in waiting:
            _settle(request, error)

    def restart(self, model: SpeechModel) -> None:
        """Begin a new worker with a model of its own, after `abandon`."""
        worker = _Worker(model)
        worker.thread = threading.Thread(target=self._work, args=[worker], name="recognizer", daemon=True)
        with self._changed:
            self.model, self._worker = model, worker
        worker.thread.start()

    def submit(self, session: Hashable, utterance: Utterance) -> Ticket:
        """Queue a request; call from the event loop that is to await the ticket.

        Any request makes the session's waiting interim pointless: its ticket resolves to `None`. Finals are never
        dropped.

        Raises:
            EngineError: the recognizer is closed (or was never entered).

        """
        request = _Request(utterance, asyncio.get_running_loop().create_future())
        with self._changed:
            if self._closed:
                msg = "the engine is closed"
                raise EngineError(msg)
            waiting = self._sessions.setdefault(session, _Waiting(next(self._count)))
            stale, waiting.interim = waiting.interim, None if utterance.final else request
            if utterance.final:
                waiting.finals.append(request)
            self._changed.notify_all()  # an abandoned worker may be listening too
        if stale is not None:
            _settle(stale, None)
        return request.ticket

    def forget(self, session: Hashable) -> None:
        """Drop what a session that is gone still has waiting."""
        with self._changed:
            waiting = self._sessions.pop(session, None)
        for request in _all(waiting) if waiting else ():
            _settle(request, None)

    def _take(self) -> list[_Request]:
        """Choose the next batch; empty when nothing waits. Finals alone while there are any, else interims."""
        most_interims = (self.model.max_batch + 1) // 2  # p95 of four sessions' finals: 0.6 s after the gap, not 0.9 s
        batch: list[_Request] = []
        while len(batch) < self.model.max_batch and (
            ready := [session for session in self._sessions.values() if session.finals]
        ):
            session = min(ready, key=lambda waiting: waiting.served)
            batch.append(session.finals.popleft())
            session.served = next(self._count)
        if not batch:
            for session in sorted(self._sessions.values(), key=lambda waiting: waiting.served):
                if session.interim is not None and len(batch) < most_interims:
                    batch.append(session.interim)
                    session.interim = None
                    session.served = next(self._count)
        for idle in [key for key, session in self._sessions.items() if not _all(session)]:
            del self._sessions[idle]
        return batch

    def _work(self, worker: _Worker) -> None:
        while True:
            with self._changed:
                worker.batch = batch = []
                while worker is self._worker and not (batch := self._take()):
                    if self._closed:
                        return
                    self._changed.wait()
                if worker is not self._worker:
                    return
                worker.batch, worker.began = batch, time.monotonic()
            try:
                hypotheses = worker.model.transcribe([request.utterance for request in batch])
                if len(hypotheses) != len(batch):
                    msg = f"{worker.model.name} gave {len(hypotheses)} results for {len(batch)} utterances"
                    raise EngineError(msg)  # noqa: TRY301 - handled like any other failure of this batch
            except BaseException as error:  # noqa: BLE001 - whatever it is, it concerns this batch's sessions alone
                worker.failed += 1
                for request in batch:
                    _settle(request, _as_engine_error(error))
                if not isinstance(error, Exception):
                    return  # SystemExit and the like end the thread: `alive` tells
                continue
            worker.failed = 0
            took = time.monotonic() - worker.began
            for request, hypothesis in zip(batch, hypotheses, strict=True):
                latency = Latency(worker.began - request.asked, took, len(batch))
                _settle(request, Recognition(hypothesis, latency))


def _all(waiting: _Waiting) -> list[_Request]:
    return [*waiting.finals, *([waiting.interim] if waiting.interim else [])]


def _as_engine_error(error: BaseException) -> EngineError:
    if isinstance(error, EngineError):
        return error
    wrapped = EngineError(f"the engine failed: {type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped


def _settle(request: _Request, outcome: Recognition | EngineError | None) -> None:
    """Resolve a ticket from any thread; a ticket nobody waits for any more is left alone."""

    def resolve() -> None:
        if request.ticket.done():
            return
        if isinstance(outcome, EngineError):
            request.ticket.set_exception(outcome)
        else:
            request.ticket.set_result(outcome)

    with contextlib.suppress(RuntimeError):  # the loop of that session is closed: nobody is left to tell
        request.ticket.get_loop().call_soon_threadsafe(resolve)
