"""A pipecat pipeline around one speech service, which hears audio as a microphone would give it."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pipecat.frames.frames import EndFrame, Frame, InputAudioRawFrame, MetricsFrame, TranscriptionFrame
from pipecat.metrics.metrics import TTFBMetricsData
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.workers.runner import WorkerRunner

from serving import frames
from spoken import sentences, talk, word_errors

FRAME_S = 0.02
TEXTS = sentences(2, 3)
SPEECH = talk(TEXTS, [1.8, 1.0])


@dataclass
class Arrived:
    """A frame that came out of the pipeline."""

    frame: Frame
    at_s: float
    """Since the audio began to be played."""


class _Ear(FrameProcessor):
    def __init__(self) -> None:
        super().__init__()
        self.arrived: list[Arrived] = []
        self.began = time.monotonic()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        self.arrived.append(Arrived(frame, time.monotonic() - self.began))
        await self.push_frame(frame, direction)


async def hear(
    processors: Sequence[FrameProcessor], audio: np.ndarray, done: Callable[[list[Any]], bool]
) -> list[Arrived]:
    """Play audio in real time to the processors, then silence until what came out of them is all that was wanted."""
    ear = _Ear()
    worker = PipelineWorker(
        Pipeline([*processors, ear]),
        params=PipelineParams(enable_metrics=True, send_initial_empty_metrics=False),
        cancel_on_idle_timeout=False,
        enable_rtvi=False,
    )
    started = asyncio.Event()

    @worker.event_handler("on_pipeline_started")
    async def _(*_: Any) -> None:
        started.set()

    async def play() -> None:
        await started.wait()
        began, sent = time.monotonic(), 0
        ear.began = began
        pieces = frames(audio, round(FRAME_S * 16_000))
        try:
            async with asyncio.timeout(len(audio) / 16_000 + 30):
                while sent < len(pieces) or not done([arrived.frame for arrived in ear.arrived]):
                    pcm = pieces[sent] if sent < len(pieces) else bytes(round(FRAME_S * 32_000))
                    await worker.queue_frame(InputAudioRawFrame(audio=pcm, sample_rate=16_000, num_channels=1))
                    sent += 1
                    await asyncio.sleep(max(0.0, began + sent * FRAME_S - time.monotonic()))
        finally:
            await worker.queue_frame(EndFrame())

    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    async with asyncio.timeout(len(audio) / 16_000 + 60):
        await asyncio.gather(runner.run(), play())
    return ear.arrived


def finals(arrived: list[Any]) -> list[TranscriptionFrame]:
    """Return the frames that are the texts of turns."""
    return [frame for frame in arrived if isinstance(frame, TranscriptionFrame)]


def ttfs(arrived: list[Arrived]) -> list[float]:
    """Return pipecat's own figures, in seconds from the end of speech, as its detector heard it, to the final text.

    Of a speech service its "time to first byte" is that: its time to the final segment.
    """
    frames = [one.frame for one in arrived if isinstance(one.frame, MetricsFrame)]
    return [data.value for frame in frames for data in frame.data if isinstance(data, TTFBMetricsData)]


def right(heard: list[TranscriptionFrame]) -> bool:
    """Tell whether they have the words of `TEXTS`, but for one in five."""
    errors, words = word_errors(" ".join(TEXTS), " ".join(frame.text for frame in heard))
    return errors <= words / 5
