"""smart-turn v3.2: the probability that a speaker is done, from the sound of the last 8 s.

A Whisper-tiny encoder with a classifier (pipecat-ai/smart-turn-v3, BSD-2, int8 ONNX). It owns one thread, which loads
it at the first ask and takes one ask after the other: on one core a row costs 42 to 51 ms in batches of 1, 2, 4 or 8
alike, so those of a batch would only wait for each other.
"""

import asyncio
import contextlib
import functools
import itertools
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from stt.audio import Samples
from stt.endofturn import weights
from stt.errors import EngineError

SECONDS: Final = 8.0
SAMPLES: Final = 128_000
_FIRST_COST_S: Final = 0.05
# An answer that comes later than this comes when the silence alone might have ended the turn.
_MOST_WAIT_S: Final = 0.4
_FFT, _HOP, _MELS = 400, 160, 80

Predict = Callable[[Samples], float]


class BusyError(EngineError):
    """Too many ask at once."""


@dataclass(slots=True)
class Figures:
    """What all asks of this process came to."""

    answered: int = 0
    refused: int = 0
    """Too many asked at once: silence decided."""
    overtaken: int = 0
    """The speaker went on before."""
    failed: int = 0
    waited_s: float = 0.0
    """From asks to their answers, in all."""
    computed_s: float = 0.0
    """Of one core."""
    waiting: int = 0


FIGURES: Final = Figures()


@functools.cache
def _filters() -> npt.NDArray[np.float32]:
    """Whisper's mel filters, [80, 201]."""
    from faster_whisper.feature_extractor import FeatureExtractor

    return FeatureExtractor.get_mel_filters(16_000, _FFT, _MELS).astype(np.float32)


def log_mel(audio: Samples) -> npt.NDArray[np.float32]:
    """Return what the model takes, [80, 800], of sound [n] that ends now.

    As `WhisperFeatureExtractor(chunk_length=8)` of transformers with `do_normalize`: zeros in front up to 8 s, zero
    mean and unit variance over all of it, zeros included; then Whisper's log-mel.
    """
    x = np.zeros(SAMPLES, np.float32)
    audio = audio[-SAMPLES:]
    x[SAMPLES - len(audio) :] = audio
    x = (x - x.mean()) / np.sqrt(x.var() + 1e-7)
    padded = np.pad(x, _FFT // 2, mode="reflect")
    window = np.hanning(_FFT + 1)[:-1].astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(padded, _FFT)[::_HOP][:-1]  # [800, 400]
    power = np.abs(np.fft.rfft(frames * window, axis=-1)).astype(np.float32) ** 2
    mel = np.log10(np.maximum(_filters() @ power.T, 1e-10))
    return ((np.maximum(mel, mel.max() - 8.0) + 4.0) / 4.0).astype(np.float32)


def load(path: Path) -> Predict:
    """Open the model for one thread.

    Raises:
        EngineError: it is another file than the known one, or cannot be opened.

    """
    import onnxruntime

    weights.check(path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session: Any = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def predict(audio: Samples) -> float:
        return float(np.asarray(session.run(None, {"input_features": log_mel(audio)[None]})[0]).item())

    return predict


class SmartTurn:
    """The model in a thread of its own, shared by all sessions.

    Args:
        open_model: gives what predicts; called in the thread, at the first ask.

    """

    def __init__(self, open_model: Callable[[], Predict]) -> None:
        self._open = open_model
        # Live ones first, then in order.
        self._asks: queue.PriorityQueue[tuple[bool, int, Samples, asyncio.Future[float], float]] = queue.PriorityQueue()
        self._count = itertools.count()
        self._cost_s = _FIRST_COST_S
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    async def ask(self, audio: Samples, *, patient: bool = False) -> float:
        """Return the probability that who says this, [n] samples up to now, is done.

        Args:
            audio: what was said, shape [n].
            patient: whether this may wait behind any number of others: nobody hears when the answer comes.

        Raises:
            BusyError: too many others wait.
            EngineError: the model cannot be opened, or failed.

        """
        if not patient and (waiting := self._asks.qsize()) * self._cost_s > _MOST_WAIT_S:
            FIGURES.refused += 1
            msg = f"{waiting} asks wait for smart-turn"
            raise BusyError(msg)
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="smart-turn", daemon=True)
                self._thread.start()
        answer: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._asks.put((patient, next(self._count), audio, answer, time.monotonic()))
        FIGURES.waiting = self._asks.qsize()
        return await answer

    def _work(self) -> None:
        predict: Predict | None = None
        while True:
            _, _, audio, answer, asked = self._asks.get()
            FIGURES.waiting = self._asks.qsize()
            if answer.cancelled():  # the speaker went on
                FIGURES.overtaken += 1
                continue
            result: float | Exception
            try:
                predict = predict or self._open()
                began, cpu = time.monotonic(), time.thread_time()
                result = predict(audio)
                done = time.monotonic()
                self._cost_s += 0.1 * (done - began - self._cost_s)
                FIGURES.answered += 1
                FIGURES.computed_s += time.thread_time() - cpu
                FIGURES.waited_s += done - asked
            except Exception as error:  # noqa: BLE001 - handed over
                FIGURES.failed += 1
                result = error if isinstance(error, EngineError) else EngineError(f"smart-turn: {error}")
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to tell
                answer.get_loop().call_soon_threadsafe(_settle, answer, result)


def _settle(answer: asyncio.Future[float], result: float | Exception) -> None:
    if answer.done():
        return
    if isinstance(result, Exception):
        answer.set_exception(result)
    else:
        answer.set_result(result)


@functools.cache
def shared() -> SmartTurn | None:
    """Return the one of this process; `None`: its weights are not on this machine."""
    path = weights.find()
    return None if path is None else SmartTurn(lambda: load(path))
