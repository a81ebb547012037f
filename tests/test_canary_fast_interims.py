"""`--fast-interims`: what stands is the same with it, and nothing stays of a session that is gone."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from stt.audio import Samples
from stt.engines import open_engine
from stt.engines.canary_qwen import CanaryQwen
from stt.events import Event, TurnCompleted
from stt.recognition import Hypothesis, Kind, LocalRecognizer, Previewing, Utterance, WindowKey
from stt.server.metrics import MeasuredModel, Metrics
from stt.session import Session
from stt.settings import EngineSettings, TurnSettings
from stt.vad import SileroVad

TOY = Path(__file__).parent / "data" / "canary-toy"
STEP = 8_000


def clip(name: str) -> Samples:
    return np.asarray(soundfile.read(TOY / "heldout" / f"{name}.flac", dtype="float32")[0], np.float32)


@pytest.fixture(scope="module")
def plain() -> CanaryQwen:
    return CanaryQwen(model_dir=str(TOY), device="cpu", threads=1)


@pytest.fixture(scope="module", params=[0, 4], ids=["whole calls", "rows that come and go"])
def fast(request: pytest.FixtureRequest) -> CanaryQwen:
    return CanaryQwen(model_dir=str(TOY), device="cpu", threads=1, rows=request.param, fast_interims=True)


def kept(engine: CanaryQwen) -> int:
    """Windows of which something is kept."""
    return len(engine._model.growing.kept)


def growing(audio: Samples, session: object = "s", window: int = 0) -> list[Utterance]:
    """Interims of a window, a pause's text in the middle, and its final."""
    key = WindowKey(session, 0, window)
    ends = [*range(STEP, len(audio), STEP), len(audio)]
    kinds: list[Kind] = ["interim"] * len(ends)
    kinds[len(kinds) // 2], kinds[-1] = "speculative", "final"
    return [Utterance(audio[:end], kind=kind, key=key) for kind, end in zip(kinds, ends, strict=True)]


def heard(engine: CanaryQwen, utterances: Sequence[Utterance]) -> list[Hypothesis]:
    """One after the other, each the next one's draft."""
    answers: list[Hypothesis] = []
    for utterance in utterances:
        answers += engine.transcribe([replace(utterance, draft=answers[-1] if answers else None)])
    return answers


def test_what_stands_is_bit_for_bit_the_same(plain: CanaryQwen, fast: CanaryQwen) -> None:
    for name in ("multi_0", "multi_1"):
        asked = growing(clip(name))
        without = [replace(utterance, draft=None) for utterance in asked]
        same = differ = 0
        for utterance, expected in zip(without, [plain.transcribe([one])[0] for one in without], strict=True):
            [got] = fast.transcribe([utterance])
            if utterance.kind != "interim":
                assert got == expected, "its confidence, too, to the last bit"
            same, differ = same + (got == expected), differ + (got != expected)
        assert differ > 5, "or nothing was kept"
        pairs = zip(heard(plain, asked), heard(fast, asked), strict=True)
        texts = [(a.text, b.text) for a, b in pairs]
        assert texts[-1][0] == texts[-1][1], "the final, whatever drafts there were"
        assert sum(a == b for a, b in texts) >= 0.85 * len(texts)


def test_a_final_ends_its_window_and_a_session_that_is_gone_leaves_nothing(fast: CanaryQwen) -> None:
    audio = clip("multi_2")
    for session in ("a", "b"):
        for window in (0, 1):
            heard(fast, growing(audio[: 4 * STEP], session, window)[:-1])
    assert kept(fast) == 4
    heard(fast, growing(audio[: 4 * STEP], "a", 1)[-1:])
    assert kept(fast) == 3
    with LocalRecognizer(MeasuredModel(Previewing(fast), Metrics())) as recognizer:
        recognizer.forget("b")
        recognizer.forget("nobody")
        assert kept(fast) == 1
        recognizer.forget("a")
    assert kept(fast) == 0


def test_frames_in_which_numbers_overflowed_are_not_used_again(fast: CanaryQwen) -> None:
    *_, last = growing(clip("multi_0")[: 16 * STEP])[:-1]
    expected = fast.transcribe([last])
    windows = fast._model.growing.kept
    [(window, before)] = windows.items()
    assert before is not None
    windows[window] = replace(before, frames=torch.full_like(before.frames, float("nan")))
    fast.transcribe([last])
    assert kept(fast) == 0
    assert fast.transcribe([last]) == expected
    fast._windows.clear()


def test_without_the_option_nothing_is_kept(plain: CanaryQwen) -> None:
    heard(plain, growing(clip("multi_0")[: 4 * STEP])[:-1])
    assert kept(plain) == 0


def test_a_session_is_not_held_on_to(fast: CanaryQwen) -> None:
    class Someone: ...

    someone = Someone()
    heard(fast, growing(clip("multi_0")[: 4 * STEP], someone)[:-1])
    gone = weakref.ref(someone)
    del someone
    gc.collect()
    assert gone() is None
    assert kept(fast) == 1
    fast._windows.clear()


async def test_live_sessions_hear_the_same_finals(plain: CanaryQwen, fast: CanaryQwen) -> None:
    vad = SileroVad()
    settings = TurnSettings(end_of_turn="silence")

    async def finals(recognizer: LocalRecognizer, audio: Samples) -> list[str]:
        texts: list[str] = []

        async def sink(event: Event) -> None:
            if isinstance(event, TurnCompleted):
                texts.append(event.text)

        async def source() -> AsyncIterator[Samples]:
            padded = np.concatenate([audio, np.zeros(32_000, np.float32)])
            for at in range(0, len(padded), 1600):
                yield padded[at : at + 1600]
                await asyncio.sleep(0)

        await Session(recognizer, vad, settings=settings).run(source(), sink)
        return texts

    said: list[Any] = []
    for engine in (plain, fast):
        with LocalRecognizer(engine) as recognizer:
            clips = [clip(name) for name in ("multi_0", "multi_1", "multi_2")]
            said.append(await asyncio.gather(*(finals(recognizer, audio) for audio in clips)))
    assert said[0] == said[1]
    assert all(said[0])
    assert kept(fast) == 0


def test_settings_ask_for_it() -> None:
    settings = EngineSettings(model_dir=str(TOY), device="cpu", threads=1)
    for wanted in (False, True):
        engine = open_engine(replace(settings, fast_interims=wanted)).model
        assert isinstance(engine, CanaryQwen)
        heard(engine, growing(clip("multi_0")[: 4 * STEP])[:-1])
        assert (kept(engine) > 0) == wanted
        engine.close()


def test_what_a_closed_engine_kept_goes() -> None:
    engine = CanaryQwen(model_dir=str(TOY), device="cpu", threads=1, fast_interims=True)
    heard(engine, growing(clip("multi_0")[: 4 * STEP])[:-1])
    windows = engine._windows
    engine.close()
    assert not windows._growing.kept
