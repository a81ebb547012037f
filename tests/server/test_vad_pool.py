"""Many streams over one thread hear what each would hear alone."""

import asyncio
import threading

import numpy as np
import pytest

from scripted import tone
from serving import LoudnessBatch, frames, rest, serving
from spoken import sentences, silence, talk
from stt.audio import to_pcm16
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


class Allergic:
    """Cannot bear a frame of a certain level; counts, in each stream's state, the frames it has heard of it."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.calls = 0
        self.met, self.release = threading.Event(), threading.Event()

    def run(self, frames: np.ndarray, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.calls += 1
        if (frames[:, -1] == BAD).any():
            self.met.set()
            match self.what:
                case "raises":
                    raise ZeroDivisionError("cannot bear it")
                case "exits":
                    raise SystemExit(1)
                case "hangs":
                    self.release.wait(30)
        states = states + 1
        return states[0, :, 0].copy(), states


BAD = np.float32(0.25)


def frames_of(level: float, count: int) -> np.ndarray:
    return np.full(count * FRAME, level, np.float32)


@pytest.mark.parametrize("what", ["raises", "exits"])
async def test_a_failure_is_told_to_the_stream_that_caused_it_alone(what: str) -> None:
    """The others are scored from where they were: each frame once, also those of a round that failed half-way."""
    model = Allergic(what)
    with VadPool(model) as pool:
        harmless, culprit = [pool.detector() for _ in range(5)], pool.detector()
        audio = np.concatenate([frames_of(0.5, 3), frames_of(BAD, 1), frames_of(0.5, 12)])
        outcomes = await asyncio.gather(
            *(detector.feed(frames_of(0.5, 20)) for detector in harmless), culprit.feed(audio), return_exceptions=True
        )
        assert isinstance(outcomes.pop(), EngineError)
        for outcome in outcomes:
            assert not isinstance(outcome, BaseException)
            assert outcome[1].tolist() == list(range(1, 21))
        for detector in harmless:
            assert (await detector.feed(frames_of(0.5, 2)))[1].tolist() == [21, 22]
        assert pool.alive


async def test_a_thread_that_hangs_is_given_up_and_what_it_says_later_is_not_heard() -> None:
    model = Allergic("hangs")
    with VadPool(model) as pool:
        harmless, culprit = pool.detector(), pool.detector()
        waiting = asyncio.gather(
            harmless.feed(frames_of(0.5, 4)), culprit.feed(frames_of(BAD, 4)), return_exceptions=True
        )
        await asyncio.to_thread(model.met.wait, 10)
        assert pool.running_s >= 0
        model.met.clear()
        pool.restart()  # each is tried alone now, if they were in one round
        async with asyncio.timeout(60):
            while not (model.met.is_set() or waiting.done()):
                await asyncio.sleep(0.01)
        pool.restart()
        heard, failed = await waiting
        assert not isinstance(heard, BaseException)
        assert heard[1].tolist() == [1, 2, 3, 4]
        assert isinstance(failed, EngineError)
        model.release.set()
        assert (await harmless.feed(frames_of(0.5, 1)))[1].tolist() == [5]


async def test_a_thread_given_up_between_two_rounds_takes_no_call_meant_for_the_next() -> None:
    with VadPool(Allergic("raises")) as pool:
        detector = pool.detector()
        await detector.feed(frames_of(0.5, 1))
        await asyncio.sleep(0.05)  # its thread waits for more
        pool.restart()
        await asyncio.sleep(0.05)  # both do
        async with asyncio.timeout(60):
            assert (await detector.feed(frames_of(0.5, 1)))[1].tolist() == [2]


async def test_a_closed_pool_says_so() -> None:
    with VadPool() as pool:
        detector = pool.detector()
    with pytest.raises(EngineError, match="closed"):
        await detector.feed(np.zeros(FRAME, np.float32))


@pytest.mark.parametrize("what", ["raises", "hangs"])
async def test_sessions_of_a_server_outlive_a_detector_that_fails_on_one_of_them(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stt.server.service._VAD_TIMEOUT_S", 0.1)
    monkeypatch.setattr("stt.server.service._LOOK_S", 0.1)

    class Trouble(Allergic, LoudnessBatch):
        def run(self, frames: np.ndarray, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            super().run(frames, states)
            return LoudnessBatch.run(self, frames, states)  # type: ignore[arg-type]

    model = Trouble(what)
    async with serving(vad=lambda: VadPool(model)) as running, running.connect() as well, running.connect() as ill:
        spoken = frames(np.concatenate([silence(0.2), tone(1), silence(2)]), 16_000)
        for frame in spoken[:1]:
            await well.send(frame)
        await ill.send(to_pcm16(frames_of(BAD, 8)))
        for frame in spoken[1:]:
            await well.send(frame)
        await well.send('{"type": "finish"}')
        assert [m["isFinal"] for m in await rest(well)][-1]
        await rest(ill)
        assert (well.close_code, ill.close_code) == (1000, 1011)
        restarts = running.service.metrics.registry.get_sample_value("stt_detector_restarts_total")
        assert (restarts or 0) >= (what == "hangs")
        model.release.set()
