"""Stand-ins that do as they are told, for tests of what stands around the models."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import numpy as np

from stt.audio import Samples
from stt.errors import EngineLostError
from stt.recognition import Hypothesis, Utterance


class LoudnessVad:
    """For `SileroVad`: a frame is speech if it is loud."""

    def run(self, frames: np.ndarray, h: Any, c: Any) -> tuple[np.ndarray, Any, Any]:
        return (np.abs(frames[:, 64:]).max(axis=1) > 0.1).astype(np.float32), h, c


class ScriptedModel:
    """For an engine: hears what `hear` makes of an utterance; can be held, and keeps what it was asked."""

    name = "scripted"
    languages = frozenset({"en"})

    def __init__(self, hear: Callable[[Utterance], str] | None = None, max_batch: int = 4) -> None:
        self.max_batch = max_batch
        self.batches: list[list[Utterance]] = []
        self.closed = False
        self.free = threading.Event()
        self.free.set()
        self._hear = hear or (lambda utterance: f"w{len(utterance.audio)}")

    def cost(self, seconds: Sequence[float]) -> float:
        return 1.0 if seconds else 0.0

    def transcribe(self, batch: Sequence[Utterance]) -> list[Hypothesis]:
        self.batches.append(list(batch))
        assert self.free.wait(20), "held for too long"
        return [Hypothesis(self._hear(utterance)) for utterance in batch]

    def close(self) -> None:
        self.closed = True


class LosesItsDevice(ScriptedModel):
    """Hears silence (the warm-up), and loses its device at the first sound."""

    def transcribe(self, batch: Sequence[Utterance]) -> list[Hypothesis]:
        if any(utterance.audio.any() for utterance in batch):
            raise EngineLostError("the GPU is gone")
        return super().transcribe(batch)


def tone(duration_s: float) -> np.ndarray:
    """What `LoudnessVad` takes for speech."""
    return np.full(round(duration_s * 16_000), 0.5, np.float32)


async def pieces(audio: Samples, size: int) -> AsyncIterator[Samples]:
    """Hand out audio in pieces of so many samples, as fast as they are taken."""
    for at in range(0, len(audio), size):
        yield audio[at : at + size]
        await asyncio.sleep(0)
