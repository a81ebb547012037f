"""Voice activity for many live streams: one thread scores the frames of all of them, in batches across streams.

One frame in a call of its own costs 0.14 ms, and 200 live streams make 6,250 frames a second: most of a core, and all
of it on the event loop. In batches of 16 streams or more a frame costs 0.055 ms, and none of it is on the loop
(`benchmarks/serve_vad.py`). The model is `silero-vad`'s stock export, which takes one frame of each of many streams;
its probabilities are those of the sequence export that `vad` uses, bit for bit (tested).
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


class VadPool:
    """Owns the thread. Use as a context manager, and open a detector for each stream."""

    def __init__(self, model: BatchVad | None = None) -> None:
        self._model = model or SileroBatchVad()
        self._jobs: list[_Job] = []
        self._changed = threading.Condition()
        self._closed = True
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="vad", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()
        _fail(self._jobs, EngineError("the speech detector was closed"))

    def detector(self) -> "PooledDetector":
        """Open a stream."""
        return PooledDetector(self)

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
                self._changed.notify()
        return ticket

    def _work(self) -> None:
        last, unfinished = 0.0, []
        while True:
            with self._changed:
                while not self._jobs and not self._closed:
                    self._changed.wait()
            if not unfinished:
                time.sleep(max(0.0, last + _ROUND_S - time.monotonic()))
            last = time.monotonic()
            with self._changed:
                if self._closed:
                    return
                jobs, self._jobs = self._jobs, []
            try:
                self._round(jobs)
            except Exception as error:  # noqa: BLE001 - whatever it is, it concerns the streams of this round
                failure = EngineError(f"the speech detector failed: {type(error).__name__}: {error}")
                failure.__cause__ = error
                _fail(jobs, failure)
                unfinished = []
                continue
            unfinished = [job for job in jobs if job.done < len(job.inputs) and not job.ticket.cancelled()]
            with self._changed:
                self._jobs[:0] = unfinished
            _deliver([job for job in jobs if job.done == len(job.inputs)])

    def _round(self, jobs: list[_Job]) -> None:
        """Score the next frames of each job: one call for the first frame of all, one for the second of all ..."""
        jobs = sorted(jobs, key=lambda job: job.done - len(job.inputs))  # the longest first, so that rows only drop off
        states = np.concatenate([job.detector.state for job in jobs], axis=1)
        for _ in range(_FRAMES_A_ROUND):
            active = sum(job.done < len(job.inputs) for job in jobs)
            if not active:
                break
            frames = np.stack([job.inputs[job.done] for job in jobs[:active]])
            scores, new = self._model.run(frames, np.ascontiguousarray(states[:, :active]))
            states[:, :active] = new
            for job, score in zip(jobs, scores, strict=False):
                job.scores[job.done] = score
                job.done += 1
        for i, job in enumerate(jobs):
            job.detector.state = states[:, i : i + 1].copy()


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
