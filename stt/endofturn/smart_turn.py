"""smart-turn v3.2: the probability that a speaker is done, from the sound of the last 8 s.

A Whisper-tiny encoder with a classifier (pipecat-ai/smart-turn-v3, BSD-2, int8 ONNX). It owns its threads, a core each,
which take one ask after the other: on one core a row costs as much in batches of 1, 2, 4 or 8, so those of a
batch would only wait for each other.

Asks keep no text waiting: these threads give way to all others of the process (on Linux, where a thread has a
niceness of its own), and nobody who speaks waits for an answer longer than `WITHIN_S`. What would come later is not
computed. One ask every half second gives way to nobody: beside an engine that has all cores for the pause's text, its
answer would come behind that text otherwise, and the turn's end behind both.
"""

import asyncio
import contextlib
import functools
import itertools
import math
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from stt.audio import Samples
from stt.endofturn import weights
from stt.errors import EngineError
from stt.machine import cores

SECONDS: Final = 8.0
SAMPLES: Final = 128_000
WITHIN_S: Final = 0.4
"""An answer that comes later than this is none: by then the silence alone might have ended the turn."""
_FIRST_COST_S: Final = 0.05
_MOST_THREADS: Final = 4
# Beside one thread of an engine on the same core this leaves an ask a tenth of it; where a core is free it has all.
_NICENESS: Final = 10
_SELDOM_S: Final = 0.5  # an ask that comes no sooner after the last one costs the others a tenth of a core at most
_FFT, _HOP, _MELS = 400, 160, 80
_LOGITS: Final = "logits"
_SOFTMAX: Final = (b"val_69", b"val_142", b"val_215", b"val_288")  # the weights that attention has, in its four layers

Predict = Callable[[Samples], float]


class BusyError(EngineError):
    """There is no answer in time."""


@dataclass(slots=True)
class Figures:
    """What all asks of this process came to."""

    answered: int = 0
    refused: int = 0
    """Too many asked at once."""
    late: int = 0
    """Not answered in time."""
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
    spectrum = np.fft.rfft(frames * window, axis=-1)
    power = spectrum.real**2 + spectrum.imag**2
    mel = np.log10(np.maximum(_filters() @ power.T, 1e-10))
    return ((np.maximum(mel, mel.max() - 8.0) + 4.0) / 4.0).astype(np.float32)


def float_softmax(model: bytes) -> bytes:
    """Return the model with softmax computed as it is written: in floats.

    ONNX Runtime makes one operation of eight bits of it otherwise, whose tables take a quarter of the whole time, and
    move the answer further from what the model says. It does so where nobody else wants the result, so that becomes an
    output. Messages of protobuf that are written one after the other are merged: nothing of the model is touched.
    """

    def message(number: int, content: bytes) -> bytes:
        return bytes([number << 3 | 2, len(content)]) + content  # short ones have one byte of length

    graph, output, name = 7, 12, 1
    return model + message(graph, b"".join(message(output, message(name, value)) for value in _SOFTMAX))


def load(path: Path) -> Predict:
    """Open the model for one thread.

    Raises:
        EngineError: it is another file than the known one, or cannot be opened.

    """
    import onnxruntime

    weights.check(path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    model = float_softmax(path.read_bytes())
    session: Any = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def predict(audio: Samples) -> float:
        return float(np.asarray(session.run([_LOGITS], {"input_features": log_mel(audio)[None]})[0]).item())

    return predict


@dataclass(slots=True, order=True)
class _Ask:
    """What waits for a thread: live ones first, then in order."""

    patient: bool
    number: int
    audio: Samples = field(compare=False)
    answer: asyncio.Future[float] = field(compare=False)


class SmartTurn:
    """The model in threads of its own, shared by all sessions.

    Args:
        open_model: gives what predicts, in any number of threads at once; called in one, at the first ask.
        threads: how many asks are answered at once; `None`: one for each core, four at most.

    """

    def __init__(self, open_model: Callable[[], Predict], threads: int | None = None) -> None:
        self._open = open_model
        self._predict: Predict | None = None
        self._opening = threading.Lock()
        self._asks: queue.PriorityQueue[_Ask] = queue.PriorityQueue()
        self._prompt: queue.PriorityQueue[_Ask] = queue.PriorityQueue()  # for the thread that gives way to nobody
        self._prompted = -math.inf
        self._count = itertools.count()
        self._cost_s = _FIRST_COST_S
        self._most_threads = threads or min(_MOST_THREADS, cores())
        self._starting = threading.Lock()
        self._threads: list[threading.Thread] = []

    async def ask(self, audio: Samples, *, patient: bool = False) -> float:
        """Return the probability that who says this, [n] samples up to now, is done.

        Args:
            audio: what was said, shape [n].
            patient: whether this may wait behind any number of others: nobody hears when the answer comes.

        Raises:
            BusyError: too many others wait, or the answer does not come within `WITHIN_S`.
            EngineError: the model cannot be opened, or failed.

        """
        asks = self._asks if patient else self._lane()
        if not patient and (waiting := asks.qsize()) * self._cost_s > WITHIN_S * self._most_threads:
            FIGURES.refused += 1
            msg = f"{waiting} asks wait for smart-turn"
            raise BusyError(msg)
        self._start()
        answer: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        asks.put(_Ask(patient, next(self._count), audio, answer))
        FIGURES.waiting = self._asks.qsize()
        asked = time.monotonic()
        try:
            # The first waits until the model is open.
            async with asyncio.timeout(None if patient or self._predict is None else WITHIN_S):
                probability = await answer
        except TimeoutError:
            FIGURES.late += 1
            msg = f"smart-turn did not answer within {WITHIN_S:g} s"
            raise BusyError(msg) from None
        except asyncio.CancelledError:
            FIGURES.overtaken += 1
            raise
        except EngineError:
            FIGURES.failed += 1
            raise
        FIGURES.answered += 1
        FIGURES.waited_s += time.monotonic() - asked
        return probability

    def _lane(self) -> "queue.PriorityQueue[_Ask]":
        now = time.monotonic()
        if now - self._prompted < _SELDOM_S:
            return self._asks
        self._prompted = now
        return self._prompt

    def _start(self) -> None:
        with self._starting:
            while len(self._threads) <= self._most_threads:
                asks = self._asks if self._threads else self._prompt
                thread = threading.Thread(target=self._work, args=(asks,), name="smart-turn", daemon=True)
                self._threads.append(thread)
                thread.start()

    def _work(self, asks: "queue.PriorityQueue[_Ask]") -> None:
        if asks is self._asks:
            _give_way()
        while True:
            ask = asks.get()
            FIGURES.waiting = self._asks.qsize()
            if ask.answer.done():  # the speaker went on, or it is too late
                continue
            result: float | Exception
            try:
                result = self._compute(ask.audio)
            except Exception as error:  # noqa: BLE001 - handed over
                result = error if isinstance(error, EngineError) else EngineError(f"smart-turn: {error}")
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to tell
                ask.answer.get_loop().call_soon_threadsafe(_settle, ask.answer, result)

    def _compute(self, audio: Samples) -> float:
        with self._opening:
            predict = self._predict = self._predict or self._open()
        began, cpu = time.monotonic(), time.thread_time()
        result = predict(audio)
        self._cost_s += 0.1 * (time.monotonic() - began - self._cost_s)
        FIGURES.computed_s += time.thread_time() - cpu
        return result


def _give_way() -> None:
    """Let all other threads of this process go first, where a thread has a niceness of its own."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # not allowed: then not
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.getpriority(os.PRIO_PROCESS, 0) + _NICENESS)


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
