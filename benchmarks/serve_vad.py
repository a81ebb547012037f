"""Voice activity for live streams: what a frame of 32 ms costs, one stream at a time and in batches across streams.

Columns: streams that have a frame at the same time; what a frame costs; how many live streams that makes per core.
"""

import asyncio
import time

import numpy as np

from stt.vad import FRAME, SileroVad, SpeechDetector
from stt.vad_pool import SileroBatchVad, VadPool

ROUNDS = 100


def alone() -> float:
    detector, frame = SpeechDetector(SileroVad()), np.zeros(FRAME, np.float32)
    began = time.perf_counter()
    for _ in range(ROUNDS):
        detector.feed(frame)
    return (time.perf_counter() - began) / ROUNDS


def batched(model: SileroBatchVad, streams: int) -> float:
    frames, states = np.zeros((streams, 64 + FRAME), np.float32), np.zeros((2, streams, 128), np.float32)
    began = time.perf_counter()
    for _ in range(ROUNDS):
        _, states = model.run(frames, states)
    return (time.perf_counter() - began) / ROUNDS / streams


async def pooled(streams: int) -> float:
    """The pool as sessions use it, CPU time of the whole process; every stream has a frame each 32 ms."""
    with VadPool() as pool:
        detectors, frame = [pool.detector() for _ in range(streams)], np.zeros(FRAME, np.float32)
        clock = asyncio.get_running_loop().time
        began, cpu = clock(), time.process_time()

        async def stream(i: int) -> None:
            for tick in range(ROUNDS):
                await asyncio.sleep(max(0.0, began + (tick + i / streams) * 0.032 - clock()))
                await detectors[i].feed(frame)

        await asyncio.gather(*(stream(i) for i in range(streams)))
        return (time.process_time() - cpu) / ROUNDS / streams


def show(what: str, cost_s: float) -> None:
    print(f"{what:32} {1e6 * cost_s:6.0f} us {0.032 / cost_s:6.0f} streams a core")


def main() -> None:
    show("one stream, in its own call", alone())
    model = SileroBatchVad()
    for streams in (1, 4, 16, 32, 64, 200):
        show(f"{streams} streams in a batch", batched(model, streams))
    for streams in (1, 50, 200):
        show(f"pool, {streams} live streams", asyncio.run(pooled(streams)))


if __name__ == "__main__":
    main()
