"""Recognition as a service to many sessions: one worker thread owns the model, and batches what waits.

There is no delay knob: while one batch runs, the requests that come in form the next. Finals go before interims;
within each, the session served longest ago goes first. A session has at most one interim waiting, the newest.
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


class Recognizer:
    """The batching scheduler. Use as a context manager; it ends its thread on the way out."""

    def __init__(self, model: SpeechModel) -> None:
        self.model = model
        self._sessions: dict[Hashable, _Waiting] = {}
        self._count = itertools.count()
        self._changed = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._work, name="recognizer", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let the running batch end, fail what waits, end the thread."""
        with self._changed:
            self._closed = True
            waiting = [request for session in self._sessions.values() for request in _all(session)]
            self._sessions.clear()
            self._changed.notify()
        for request in waiting:
            _settle(request, EngineError("the engine was closed"))
        if self._thread is not None:
            self._thread.join()

    def submit(self, session: Hashable, utterance: Utterance, *, final: bool) -> Ticket:
        """Queue a request; call from the event loop that is to await the ticket.

        Any request makes the session's waiting interim pointless: its ticket resolves to `None`. Finals are never
        dropped.

        Raises:
            EngineError: the recognizer is closed (or was never entered).

        """
        request = _Request(utterance, asyncio.get_running_loop().create_future())
        with self._changed:
            if self._closed or self._thread is None:
                msg = "the engine is closed"
                raise EngineError(msg)
            waiting = self._sessions.setdefault(session, _Waiting(next(self._count)))
            stale, waiting.interim = waiting.interim, None if final else request
            if final:
                waiting.finals.append(request)
            self._changed.notify()
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
        batch: list[_Request] = []
        while len(batch) < self.model.max_batch and (
            ready := [session for session in self._sessions.values() if session.finals]
        ):
            session = min(ready, key=lambda waiting: waiting.served)
            batch.append(session.finals.popleft())
            session.served = next(self._count)
        if not batch:
            for session in sorted(self._sessions.values(), key=lambda waiting: waiting.served):
                if session.interim is not None and len(batch) < self.model.max_batch:
                    batch.append(session.interim)
                    session.interim = None
                    session.served = next(self._count)
        for idle in [key for key, session in self._sessions.items() if not _all(session)]:
            del self._sessions[idle]
        return batch

    def _work(self) -> None:
        while True:
            with self._changed:
                while not (batch := self._take()):
                    if self._closed:
                        return
                    self._changed.wait()
            began = time.monotonic()
            try:
                hypotheses = self.model.transcribe([request.utterance for request in batch])
                if len(hypotheses) != len(batch):
                    msg = f"{self.model.name} gave {len(hypotheses)} results for {len(batch)} utterances"
                    raise EngineError(msg)  # noqa: TRY301 - handled like any other failure of this batch
            except Exception as error:  # noqa: BLE001 - whatever it is, it concerns this batch's sessions alone
                for request in batch:
                    _settle(request, _as_engine_error(error))
                continue
            took = time.monotonic() - began
            for request, hypothesis in zip(batch, hypotheses, strict=True):
                latency = Latency(began - request.asked, took, len(batch))
                _settle(request, Recognition(hypothesis, latency))


def _all(waiting: _Waiting) -> list[_Request]:
    return [*waiting.finals, *([waiting.interim] if waiting.interim else [])]


def _as_engine_error(error: Exception) -> EngineError:
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
