"""Voice activity for many live streams: one thread scores the frames of all of them, in batches across streams.

One frame in a call of its own costs 0.14 ms, and 200 live streams make 6,250 frames a second: most of a core, and all
of it on the event loop. In batches of 16 streams or more a frame costs 0.055 ms, and none of it is on the loop
(`benchmarks/serve_vad.py`). The model is `silero-vad`'s stock export, which takes one frame of each of many streams;
its probabilities are those of the sequence export that `vad` uses, bit for bit (tested).

A round that fails, or that hangs until somebody calls `restart`, is nobody's fault as yet: each of its streams is tried
again in a round of its own, from where it was, and only one that fails there by itself hears of it.
"""

import asyncio
import contextlib
import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Protocol, Self

import numpy as np
import numpy.typing as npt

from stt.audio import Samples
from stt.errors import EngineError
from stt.vad import WEIGHTS, Framer, Probabilities

# Streams that send as fast as they can wait for those that speak live: so many frames of each are scored in a round.
_FRAMES_A_ROUND: Final = 8
# A round begins no sooner than this after the one before, so that under load there is a batch to score. It adds less
# than this to the 32 ms that a frame takes to be spoken; a pool with little to do does not wait at all.
_ROUND_S: Final = 0.010
_LAST_ROUND_S: Final = 5.0  # for the thread to end, if nothing hangs


class BatchVad(Protocol):
    """A detector's model over one frame of each of n streams."""

    def run(
        self, frames: npt.NDArray[np.float32], states: npt.NDArray[np.float32]
    ) -> tuple[Probabilities, npt.NDArray[np.float32]]:
        """Score frames [n, 64 + 512] from states [2, n, 128]; returns probabilities [n] and the new states."""
        ...


class SileroBatchVad:
    """The stock Silero export: read-only, shared by all streams."""

    def __init__(self) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3  # it warns about unused initializers of its If branches
        path = str(WEIGHTS / "silero_vad.onnx")
        self._session: Any = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._rate = np.array(16_000, np.int64)

    def run(
        self, frames: npt.NDArray[np.float32], states: npt.NDArray[np.float32]
    ) -> tuple[Probabilities, npt.NDArray[np.float32]]:
        """Score frames [n, 64 + 512] from states [2, n, 128]; returns probabilities [n] and the new states."""
        feed = {"input": frames, "state": states, "sr": self._rate}
        probabilities, states = self._session.run(["output", "stateN"], feed)
        return probabilities.reshape(-1), states


@dataclass(slots=True, eq=False)
class _Job:
    """What one stream waits for."""

    detector: "PooledDetector"
    inputs: npt.NDArray[np.float32]  # [n, 576]
    ticket: asyncio.Future[Probabilities]
    scores: Probabilities  # [n], filled from the front
    done: int = 0
    suspect: bool = False  # a round with it failed: it is tried alone


@dataclass(slots=True, eq=False)
class _Round:
    """What a thread is at."""

    jobs: list[_Job]
    began: float


class VadPool:
    """Owns the thread. Use as a context manager, and open a detector for each stream."""

    def __init__(self, model: BatchVad | None = None) -> None:
        self._model = model or SileroBatchVad()
        self._jobs: list[_Job] = []
        self._changed = threading.Condition()
        self._closed = True
        self._thread: threading.Thread | None = None  # one that is not this one has been given up
        self._given_up: list[threading.Thread] = []
        self._running: _Round | None = None

    def __enter__(self) -> Self:
        self._closed = False
        self._begin()
        return self

    def _begin(self) -> None:
        self._thread = threading.Thread(target=self._work, name="vad", daemon=True)
        self._thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(_LAST_ROUND_S)
        _fail(self._jobs, EngineError("the speech detector was closed"))

    def detector(self) -> "PooledDetector":
        """Open a stream."""
        return PooledDetector(self)

    @property
    def alive(self) -> bool:
        """Whether the thread is there to work."""
        return self._closed or (self._thread is not None and self._thread.is_alive())

    @property
    def running_s(self) -> float:
        """How long the round that runs has been running; 0 between rounds."""
        running = self._running
        return time.monotonic() - running.began if running is not None else 0.0

    @property
    def hung(self) -> bool:
        """Whether a thread that nobody waits for still runs: native code, which cannot be ended."""
        left = [*self._given_up, *([self._thread] if self._closed and self._thread is not None else [])]
        return any(thread.is_alive() for thread in left)

    def restart(self) -> None:
        """Give up a thread that hangs or died, and go on with another; what it was at is tried again, one by one."""
        with self._changed:
            if self._closed:
                return
            if self._thread is not None:
                self._given_up = [old for old in (*self._given_up, self._thread) if old.is_alive()]
            running, self._running = self._running, None
            if running is not None:
                self._jobs[:0] = _retry(running.jobs, EngineError("the speech detector hung"))
            self._changed.notify_all()  # one that was given up while it waited for work must not be who is woken for it
            self._begin()

    def submit(self, detector: "PooledDetector", inputs: npt.NDArray[np.float32]) -> asyncio.Future[Probabilities]:
        """Queue a stream's next frames [n, 576]; call from the event loop that awaits the result.

        Raises:
            EngineError: the pool is closed (or was never entered).

        """
        ticket = asyncio.get_running_loop().create_future()
        with self._changed:
            if self._closed:
                msg = "the speech detector is closed"
                raise EngineError(msg)
            self._jobs.append(_Job(detector, inputs, ticket, np.empty(len(inputs), np.float32)))
            if len(self._jobs) == 1:
                self._changed.notify_all()
        return ticket

    def _work(self) -> None:
        me, last, unfinished = threading.current_thread(), 0.0, False
        while True:
            with self._changed:
                while not self._jobs and not self._closed and self._thread is me:
                    self._changed.wait()
            if not unfinished:
                time.sleep(max(0.0, last + _ROUND_S - time.monotonic()))
            last = time.monotonic()
            with self._changed:
                if self._closed or self._thread is not me:
                    return
                jobs = self._take()
                self._running = running = _Round(jobs, last)
            failure, outcome = None, []
            try:
                outcome = self._round(jobs)
            except BaseException as error:  # noqa: BLE001 - whatever it is, it concerns the streams of this round
                failure = EngineError(f"the speech detector failed: {type(error).__name__}: {error}")
                failure.__cause__ = error
            with self._changed:
                if self._running is not running:
                    return  # given up meanwhile: these streams are another's
                self._running = None
                if failure is not None:
                    again = _retry(jobs, failure)
                else:
                    for job, (scores, state) in zip(jobs, outcome, strict=True):
                        job.scores[job.done : job.done + len(scores)] = scores
                        job.done += len(scores)
                        job.suspect = False
                        job.detector.state = state
                    again = [job for job in jobs if job.done < len(job.inputs) and not job.ticket.cancelled()]
                unfinished = bool(again)
                self._jobs[:0] = again
            _deliver([job for job in jobs if job.done == len(job.inputs)])

    def _take(self) -> list[_Job]:
        """Choose the jobs of a round: all, or one alone."""
        for i, job in enumerate(self._jobs):
            if job.suspect:
                return [self._jobs.pop(i)]
        jobs, self._jobs = self._jobs, []
        return jobs

    def _round(self, jobs: list[_Job]) -> list[tuple[Probabilities, npt.NDArray[np.float32]]]:
        """Score the next frames of each job: one call for the first frame of all, one for the second of all ...

        Returns, for each job, the scores and the state after them; nothing is changed yet.
        """
        # The longest first, so that rows only drop off.
        order = sorted(range(len(jobs)), key=lambda i: jobs[i].done - len(jobs[i].inputs))
        states = np.concatenate([jobs[i].detector.state for i in order], axis=1)
        scores = np.empty((_FRAMES_A_ROUND, len(jobs)), np.float32)
        left = [min(_FRAMES_A_ROUND, len(jobs[i].inputs) - jobs[i].done) for i in order]
        for at in range(max(left)):
            active = sum(at < count for count in left)
            frames = np.stack([jobs[i].inputs[jobs[i].done + at] for i in order[:active]])
            scores[at, :active], new = self._model.run(frames, np.ascontiguousarray(states[:, :active]))
            states[:, :active] = new
        outcome: dict[int, tuple[Probabilities, npt.NDArray[np.float32]]] = {
            i: (scores[: left[row], row], states[:, row : row + 1].copy()) for row, i in enumerate(order)
        }
        return [outcome[i] for i in range(len(jobs))]


class PooledDetector:
    """Speech probabilities of one stream, computed in the pool's thread; like `SpeechDetector`, to be awaited."""

    def __init__(self, pool: VadPool) -> None:
        self._pool = pool
        self._framer = Framer()
        self.state = np.zeros((2, 1, 128), np.float32)
        """The model's memory of this stream; the pool's thread has it while frames are being scored."""

    async def feed(self, audio: Samples) -> tuple[list[Samples], Probabilities]:
        """Take 16 kHz samples of any length; return the frames they complete and the probability of each.

        Raises:
            EngineError: the detector failed, or is closed.

        """
        frames, inputs = self._framer.feed(audio)
        return frames, await self._pool.submit(self, inputs) if frames else np.zeros(0, np.float32)

    async def finish(self) -> tuple[list[Samples], Probabilities]:
        """Score the last, shorter frame as if silence followed; it is returned at its own length."""
        frames, inputs = self._framer.finish()
        return frames, await self._pool.submit(self, inputs) if frames else np.zeros(0, np.float32)


def _retry(jobs: list[_Job], failure: EngineError) -> list[_Job]:
    """After a failure: those to be tried alone; one that was alone hears of it instead."""
    if len(jobs) == 1:
        _fail(jobs, failure)
        return []
    for job in jobs:
        job.suspect = True
    return [job for job in jobs if not job.ticket.cancelled()]


def _deliver(jobs: list[_Job]) -> None:
    """Resolve tickets from the pool's thread, with one call into each event loop."""

    def resolve(jobs: list[_Job]) -> None:
        for job in jobs:
            if not job.ticket.done():
                job.ticket.set_result(job.scores)

    for loop in {job.ticket.get_loop() for job in jobs}:
        with contextlib.suppress(RuntimeError):  # that loop is closed: nobody is left to tell
            loop.call_soon_threadsafe(resolve, [job for job in jobs if job.ticket.get_loop() is loop])


def _fail(jobs: list[_Job], error: EngineError) -> None:
    def resolve(ticket: asyncio.Future[Probabilities]) -> None:
        if not ticket.done():
            ticket.set_exception(error)

    for job in jobs:
        with contextlib.suppress(RuntimeError):
            job.ticket.get_loop().call_soon_threadsafe(resolve, job.ticket)
