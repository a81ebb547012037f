"""Many streams over one thread hear what each would hear alone."""

import asyncio

import numpy as np
import pytest

from spoken import sentences, talk
from stt.errors import EngineError
from stt.vad import FRAME, SileroVad, SpeechDetector
from stt.vad_pool import VadPool


async def test_many_streams_in_pieces_of_any_size_get_the_probabilities_of_one_alone() -> None:
    audio = talk(sentences(3, seed=5), [0.5] * 3)
    alone = SpeechDetector(SileroVad())
    expected = np.concatenate((alone.feed(audio)[1], alone.finish()[1]))

    async def stream(pool: VadPool, seed: int) -> np.ndarray:
        rng, detector, scores, at = np.random.default_rng(seed), pool.detector(), [], 0
        while at < len(audio):
            size = int(rng.integers(1, (400, 3_000, 40_000)[seed % 3]))
            frames, found = await detector.feed(audio[at : at + size])
            assert [len(frame) for frame in frames] == [FRAME] * len(found)
            scores.append(found)
            at += size
        scores.append((await detector.finish())[1])
        return np.concatenate(scores)

    with VadPool() as pool:
        streams = await asyncio.gather(*(stream(pool, seed) for seed in range(9)))
    for scores in streams:
        assert np.array_equal(scores, expected)


async def test_a_failing_model_is_told_to_the_streams_of_that_round_only() -> None:
    class FailsOnce:
        calls = 0

        def run(self, frames: np.ndarray, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            self.calls += 1
            if self.calls == 1:
                raise ZeroDivisionError("once")
            return frames[:, -1], states

    with VadPool(FailsOnce()) as pool:
        with pytest.raises(EngineError, match="ZeroDivisionError: once"):
            await pool.detector().feed(np.zeros(FRAME, np.float32))
        _, scores = await pool.detector().feed(np.full(3 * FRAME, 0.5, np.float32))
        assert scores.tolist() == [0.5] * 3


async def test_a_closed_pool_says_so() -> None:
    with VadPool() as pool:
        detector = pool.detector()
    with pytest.raises(EngineError, match="closed"):
        await detector.feed(np.zeros(FRAME, np.float32))
