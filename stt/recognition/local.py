"""The scheduler of an engine in this process: one worker thread owns the model, and batches what waits.

There is no delay knob: while one batch runs, the requests that come in form the next. What stands and is waited for
(live finals, and speculative ones, which mostly become finals) goes first: each session's oldest in the order they
were asked for, as all are due so long after it. Then interims and the windows of files take turns, the session served
longest ago first. Which requests share a batch follows from what the model says a batch costs it (`SpeechModel.cost`):
nobody is made to wait for another, and rows that are free are filled. What has begun and is only in the way by now may
be left off (`Utterance.unwanted`). How often interims come is the rule of `cadence.py`.
Where the model lets rows come and go (`continuous.py`), what waits joins between two steps, by the same rules.
"""

import asyncio
import atexit
import contextlib
import itertools
import threading
import time
import weakref
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from types import TracebackType
from typing import Final, Self

from stt.errors import EngineError, EngineLostError
from stt.events import Latency
from stt.recognition.cadence import Cadence
from stt.recognition.continuous import Outcome, Places, Rows, begin_rows
from stt.recognition.service import GivenUpError, Hypothesis, Recognition, SpeechModel, Ticket, Utterance, forget

# A batch of files' windows has to be this much cheaper than its windows one by one, because a live final waits for it.
_WORTH: Final = 0.95
_AT_EXIT_S: Final = 5.0


@dataclass(slots=True, eq=False)
class _Request:
    utterance: Utterance
    ticket: Ticket
    asked: float = field(default_factory=time.monotonic)
    again: bool = False
    """Whether it is asked for the second time, because the worker that had it was given up."""

    @property
    def stands(self) -> bool:
        return self.utterance.kind != "interim"

    @property
    def live(self) -> bool:
        return self.utterance.options.live

    @property
    def duration_s(self) -> float:
        return len(self.utterance.audio) / 16_000

    @property
    def given_up(self) -> bool:
        return self.ticket.done()


@dataclass(slots=True)
class _Waiting:
    """The requests of one session, oldest first; at most one interim, the newest."""

    served: int  # when it was last given a place in a batch, as a running number
    requests: list[_Request] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class _Worker:
    """One thread and the model it owns."""

    model: SpeechModel
    rows: Rows[_Request] | None = None
    """Where the model lets them come and go."""
    thread: threading.Thread | None = None
    batch: list[_Request] = field(default_factory=list)  # running now
    began: float = 0.0
    failed: int = 0  # calls in a row
    lost: EngineLostError | None = None


class LocalRecognizer:
    """A `RecognitionService` in this process. Use as a context manager, which ends its thread on the way out.

    Inside an event loop, leaving does not wait for a batch that still runs: the thread ends with it.

    A thread that hangs in its model cannot be ended from outside, and one that died serves nobody: whoever watches
    over a recognizer looks at `running_s`, `failed` and `alive`, and gives up on the worker with `abandon`. What waits
    goes on waiting, and what ran waits again, once, for the worker that `restart` begins with another model.
    """

    def __init__(self, model: SpeechModel, *, kept: bool = False) -> None:
        """`kept`: somebody watches over it, and ends the process where its engine is lost."""
        self.model = model
        self._kept = kept
        self._sessions: dict[Hashable, _Waiting] = {}
        self._count = itertools.count()
        self._changed = threading.Condition()
        self._closed = True
        self._worker: _Worker | None = None
        self._abandoned: list[threading.Thread] = []
        self._cadence = Cadence()

    def __enter__(self) -> Self:
        self._closed = False
        self.restart(self.model)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            self.close()
        else:
            self._stop()

    def close(self, timeout_s: float | None = None) -> None:
        """Let the running batch end, fail what waits, end the thread; one that takes longer than this is abandoned."""
        worker = self._stop()
        if worker is not None and worker.thread is not None:
            worker.thread.join(timeout_s)
            if worker.thread.is_alive():
                self.abandon(EngineError("the engine was closed"))

    def _stop(self) -> _Worker | None:
        with self._changed:
            self._closed = True
            worker = self._worker
            self._changed.notify_all()
        self.fail_waiting(EngineError("the engine was closed"))
        return worker

    @property
    def running_s(self) -> float:
        """For how long the running call has been running; 0 where none is."""
        with self._changed:
            worker = self._worker
            return time.monotonic() - worker.began if worker is not None and worker.batch else 0.0

    @property
    def lag_s(self) -> float:
        """For how long the oldest unanswered request that stands has been waiting; 0 where there is none."""
        with self._changed:
            requests = [*self._requests(), *(self._worker.batch if self._worker is not None else ())]
            oldest = min((r.asked for r in requests if r.stands and not r.ticket.done()), default=None)
        return 0.0 if oldest is None else time.monotonic() - oldest

    @property
    def alive(self) -> bool:
        """Whether there is a worker thread."""
        worker = self._worker
        return worker is not None and worker.thread is not None and worker.thread.is_alive()

    @property
    def failed(self) -> int:
        """How many calls in a row the engine failed on; 0 after each that it did not fail on."""
        worker = self._worker
        return worker.failed if worker is not None else 0

    @property
    def lost(self) -> EngineLostError | None:
        """Why no engine will work again in this process, where that is so."""
        worker = self._worker
        return worker.lost if worker is not None else None

    @property
    def hung(self) -> bool:
        """Whether a thread that was given up on still runs."""
        return any(thread.is_alive() for thread in self._abandoned)

    @property
    def engines(self) -> Mapping[str, SpeechModel]:
        """None to choose from."""
        return {}

    @property
    def waiting(self) -> int:
        """Requests that wait for a batch."""
        with self._changed:
            return sum(not request.given_up for request in self._requests())

    def abandon(self, error: EngineError) -> None:
        """Give up on the worker, and ignore whatever it still does.

        What it is working on is asked again, of the next worker; what was asked again already, and all of it where
        this recognizer is closed, fails with `error`.
        """
        failed: list[_Request] = []
        with self._changed:
            worker, self._worker = self._worker, None
            for request in reversed(worker.batch if worker is not None else []):
                if request.again or self._closed or not request.stands:
                    failed.append(request)
                else:
                    request.again = True
                    self._waiting_of(request).requests.insert(0, request)
            if worker is not None and worker.thread is not None:
                self._abandoned = [thread for thread in (*self._abandoned, worker.thread) if thread.is_alive()]
            self._changed.notify_all()
        for request in failed:
            _fail(request, error)

    def fail_waiting(self, error: EngineError) -> None:
        """Fail all that waits, where no worker will come for it soon."""
        with self._changed:
            waiting = list(self._requests())
            self._sessions.clear()
        for request in waiting:
            _fail(request, error)

    def restart(self, model: SpeechModel) -> None:
        """Begin a new worker with a model of its own, after `abandon`."""
        worker = _Worker(model)
        worker.thread = threading.Thread(target=self._work, args=[worker], name="recognizer", daemon=True)
        with self._changed:
            self.model, self._worker = model, worker
        _open.add(self)
        worker.thread.start()

    def submit(self, utterance: Utterance) -> Ticket:
        """Queue a request; call from the event loop that is to await the ticket.

        A newer request of the same window makes an older one pointless, whatever its kind, and any newer one the
        session's waiting interim: their tickets resolve to `None`. Finals are never dropped.

        Raises:
            EngineError: the recognizer is closed (or was never entered).

        """
        request = _Request(utterance, asyncio.get_running_loop().create_future())
        with self._changed:
            if self._closed:
                msg = "the engine is closed"
                raise EngineError(msg)
            stale = self._pop_overtaken(utterance)
            self._waiting_of(request).requests.append(request)
            self._changed.notify_all()  # an abandoned worker may be listening too
        for other in stale:
            _settle(other, None)
        return request.ticket

    def overtake(self, newer: Utterance) -> None:
        """Drop what waits and is pointless by a request that went to another recognizer."""
        with self._changed:
            stale = self._pop_overtaken(newer)
        for other in stale:
            _settle(other, None)

    def _pop_overtaken(self, newer: Utterance) -> list[_Request]:
        waiting = self._sessions.get(newer.key.session)
        if waiting is None:
            return []
        stale = [request for request in waiting.requests if request.utterance.overtaken_by(newer)]
        waiting.requests = [request for request in waiting.requests if request not in stale]
        return stale

    def forget(self, session: Hashable) -> None:
        """Drop what a session that is gone still has waiting, and what the model keeps of it."""
        with self._changed:
            waiting = self._sessions.pop(session, None)
        for request in waiting.requests if waiting else ():
            _settle(request, None)
        forget(self.model, session)

    def _requests(self) -> Iterator[_Request]:
        return (request for session in self._sessions.values() for request in session.requests)

    def _waiting_of(self, request: _Request) -> _Waiting:
        key = request.utterance.key.session
        return self._sessions.setdefault(key, _Waiting(next(self._count)))

    def _take(self, model: SpeechModel, places: Places | None = None) -> list[_Request]:
        """Choose the next batch, for these places or for a whole call; empty when nothing waits that may begin."""
        most, interims = places or Places(model.max_batch, model.max_batch)
        queue: list[tuple[bool, int, float, _Request]] = []
        for session in self._sessions.values():
            session.requests = [request for request in session.requests if not request.given_up]
            for place, request in enumerate(session.requests):
                urgent = request.stands and request.live
                queue.append((not urgent, place, request.asked if urgent else session.served, request))
        batch: list[_Request] = []
        for *_, request in sorted(queue, key=lambda entry: entry[:3]):
            if len(batch) >= most:
                break
            if not request.stands and interims <= 0:
                continue
            if self._may_begin(request) if not batch else _joins(request, batch, model):
                batch.append(request)
                interims -= not request.stands
        for request in batch:
            session = self._waiting_of(request)
            session.requests.remove(request)
            session.served = next(self._count)
        for idle in [key for key, session in self._sessions.items() if not session.requests]:
            del self._sessions[idle]
        return batch

    def _may_begin(self, request: _Request) -> bool:
        return request.stands or time.monotonic() >= self._cadence.next

    def _unwanted(self, request: _Request) -> bool:
        """Tell whether a running request is in the way: of what stands, if it does not, or of what overtook it."""
        with self._changed:
            return any(
                request.utterance.overtaken_by(other.utterance)
                for other in self._requests()
                if other.stands and other.live and not other.given_up
            )

    def _as_asked(self, request: _Request) -> Utterance:
        """Return what the model is to hear: with what the scheduler knows."""
        return replace(request.utterance, unwanted=partial(self._unwanted, request))

    def _note(self, batch: list[_Request], rows: int | None, now: float) -> None:
        """Tell what begins now, in a call or in some of so many rows, for interims to come as often as they may."""
        waited_s = max((now - r.asked for r in batch if r.stands and r.live), default=None)
        interims = [request.utterance.key.session for request in batch if not request.stands]
        self._cadence.begins(now, interims, alone=len(interims) == len(batch), waited_s=waited_s)
        if rows is not None:
            self._cadence.joined(now, len(interims), rows)

    def _work(self, worker: _Worker) -> None:
        if (running := begin_rows(worker.model)) is not None:
            worker.rows = Rows(running)
        while (batch := self._next(worker)) is not None:
            cpu_s = time.process_time()
            try:
                if worker.rows is None:
                    self._recognize(worker, batch)
                else:
                    self._go_on(worker, worker.rows, batch)
            except BaseException as error:  # noqa: BLE001 - SystemExit and the like end the thread: `alive` tells
                for request in worker.batch:
                    _fail(request, _as_engine_error(error))
                return
            if worker.rows is None and self._cadence.alone:
                now = time.monotonic()
                cores = (time.process_time() - cpu_s) / max(now - worker.began, 1e-9)
                with self._changed:
                    self._cadence.called(worker.began, now, at_once=_at_once(worker.model), cores=cores)

    def _next(self, worker: _Worker) -> list[_Request] | None:
        """Wait for something to do; what is to be begun, or `None`: this worker is not wanted any more."""
        with self._changed:
            worker.batch = running = worker.rows.requests if worker.rows is not None else []
            while worker is self._worker:
                batch = self._take(worker.model, worker.rows.places if worker.rows is not None else None)
                if batch or running:
                    worker.batch, worker.began = [*running, *batch], time.monotonic()
                    if batch:
                        self._note(batch, worker.rows.size if worker.rows is not None else None, worker.began)
                    return batch
                if self._closed:
                    return None
                rest_s = self._cadence.next - time.monotonic()
                self._changed.wait(max(0.001, rest_s) if self._sessions else None)
            return None

    def _go_on(self, worker: _Worker, rows: Rows[_Request], joining: list[_Request]) -> None:
        """Let the rows go on by a step, with those that join."""
        outcomes, lost = rows.go_on(joining)
        for outcome in outcomes:
            self._tell(worker, outcome)
        if lost:
            worker.failed += 1
            self._one_by_one(worker, lost)

    def _tell(self, worker: _Worker, outcome: Outcome[_Request]) -> None:
        request, result = outcome.request, outcome.result
        if isinstance(result, EngineLostError):
            self._lose(worker, [request], result)
            return
        if isinstance(result, Exception):
            worker.failed += 1
            _fail(request, _as_engine_error(result))
            return
        worker.failed = 0
        waited_s, took_s = max(0.0, outcome.began - request.asked), time.monotonic() - outcome.began
        if not request.stands:
            self._cadence.left(took_s)
        _settle(request, Recognition(result, Latency(waited_s, took_s, outcome.beside)))

    def _recognize(self, worker: _Worker, batch: list[_Request]) -> None:
        """Run a batch; one that fails is tried again request by request, so that only the culprit has no result."""
        try:
            hypotheses = _transcribe(worker.model, [self._as_asked(request) for request in batch])
        except GivenUpError:
            for request in batch:
                _settle(request, None)
        except EngineLostError as error:
            self._lose(worker, batch, error)
        except Exception as error:  # noqa: BLE001 - whatever it is, it concerns this batch's sessions alone
            worker.failed += 1
            if len(batch) == 1:
                _fail(batch[0], _as_engine_error(error))
            else:
                self._one_by_one(worker, batch)
        else:
            worker.failed = 0
            took = time.monotonic() - worker.began
            for request, hypothesis in zip(batch, hypotheses, strict=True):
                latency = Latency(max(0.0, worker.began - request.asked), took, len(batch))
                _settle(request, Recognition(hypothesis, latency))

    def _lose(self, worker: _Worker, batch: list[_Request], error: EngineLostError) -> None:
        """Note that no engine will work any more.

        Where a keeper ends the process for that, finals of live sessions stay unanswered: their clients connect again
        and have the next process hear the same audio. An error would tell them that it is lost.
        """
        worker.lost = error
        for request in batch:
            if not (self._kept and request.stands and request.live):
                _fail(request, error)

    def _one_by_one(self, worker: _Worker, batch: list[_Request]) -> None:
        """Ask again for what failed together; interims are not worth that."""
        for i, request in enumerate(batch):
            if not request.stands:
                _settle(request, None)
                continue
            with self._changed:
                if worker is not self._worker:
                    return  # given up: who was not served yet is asked again
                worker.batch, worker.began = batch[i:], time.monotonic()
            self._recognize(worker, [request])


_open: weakref.WeakSet[LocalRecognizer] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """Give a batch that still runs its time: native code that comes back to an interpreter that is gone crashes it."""
    until = time.monotonic() + _AT_EXIT_S
    for recognizer in list(_open):
        recognizer.close(max(0.0, until - time.monotonic()))


def _joins(request: _Request, batch: list[_Request], model: SpeechModel) -> bool:
    """Tell whether a request had better share this batch than have one of its own after it."""
    durations = [other.duration_s for other in batch]
    before, alone = model.cost(durations), model.cost([request.duration_s])
    together = model.cost([*durations, request.duration_s])
    first = batch[0]
    if not (request.stands and request.live) and first.stands and first.live:
        return together <= before  # it may have a row that is free
    if request.stands and not request.live:
        return together <= _WORTH * (before + alone)
    # All of them are there when the call ends: together the sum of their waits must not be more than apart.
    return (len(batch) + 1) * together <= len(batch) * before + before + alone


def _at_once(model: SpeechModel) -> float:
    """Rows of this model that run in the time of one."""
    return model.max_batch * model.cost([1.0]) / model.cost([1.0] * model.max_batch)


def _transcribe(model: SpeechModel, batch: list[Utterance]) -> list[Hypothesis]:
    hypotheses = model.transcribe(batch)
    if len(hypotheses) != len(batch):
        msg = f"{model.name} gave {len(hypotheses)} results for {len(batch)} utterances"
        raise EngineError(msg)
    return hypotheses


def _as_engine_error(error: BaseException) -> EngineError:
    if isinstance(error, EngineError):
        return error
    wrapped = EngineError(f"the engine failed: {type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped


def _fail(request: _Request, error: EngineError) -> None:
    """Fail a request; an interim that failed is one that never came."""
    _settle(request, error if request.stands else None)


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
