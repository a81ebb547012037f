"""`transcribe_file`: all turns, or an error that says what is missing and has the rest."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile

from scripted import LoudnessVad, ScriptedModel, tone
from spoken import silence
from stt import api
from stt.engines import OpenedEngine
from stt.errors import EngineError, IncompleteError
from stt.recognition import Hypothesis, Utterance


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Three turns: of one, two and three tenths of a second more than half of one."""
    path = tmp_path / "talk.wav"
    turns = [part for tenths in (1, 2, 3) for part in (tone(0.5 + tenths / 10), silence(2))]
    soundfile.write(path, np.concatenate([silence(1), *turns]), 16_000)
    return path


class Failing(ScriptedModel):
    """Hears how long an utterance is, and raises on those that are to fail."""

    def __init__(self, fails: Sequence[int]) -> None:
        super().__init__(max_batch=1)
        self._fails = fails

    def transcribe(self, batch: Sequence[Utterance]) -> list[Hypothesis]:
        heard = [int((np.abs(utterance.audio) > 0.1).sum() / 1600 + 0.5) - 5 for utterance in batch]
        if any(tenths in self._fails for tenths in heard):
            msg = "the engine is out of order"
            raise RuntimeError(msg)
        return [Hypothesis(f"turn {tenths}") for tenths in heard]


@pytest.fixture
def fails(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    fails: list[int] = []
    monkeypatch.setattr(api, "open_engine", lambda _: OpenedEngine(Failing(fails), "scripted"))
    monkeypatch.setattr(api, "SileroVad", LoudnessVad)
    return fails


async def test_all_turns_are_returned(clip: Path, fails: list[int]) -> None:
    assert fails == []
    assert [turn.text for turn in await api.transcribe_file(clip)] == ["turn 1", "turn 2", "turn 3"]


async def test_nothing_recognized_is_not_nothing_said(clip: Path, fails: list[int], tmp_path: Path) -> None:
    fails += [1, 2, 3]
    with pytest.raises(EngineError, match=r"talk\.wav: the engine failed on 3 parts of it: .*out of order") as raised:
        await api.transcribe_file(clip)
    assert isinstance(raised.value, IncompleteError)
    assert raised.value.turns == ()
    soundfile.write(tmp_path / "quiet.wav", silence(1), 16_000)
    assert await api.transcribe_file(tmp_path / "quiet.wav") == []


async def test_a_part_that_is_missing_is_told_and_the_rest_is_there(clip: Path, fails: list[int]) -> None:
    fails += [2]
    with pytest.raises(IncompleteError, match="failed on 1 parts") as raised:
        await api.transcribe_file(clip)
    assert [turn.text for turn in raised.value.turns] == ["turn 1", "turn 3"]
