"""A first run tells of better weights: once, and only whom it helps."""

import sys
from pathlib import Path

import pytest

from stt.commands.advice import better_weights, once
from stt.engines import whisper_weights
from stt.settings import EngineSettings

EMBEDDED = "whisper tiny.en (int8, cpu)"


@pytest.mark.parametrize(
    ("cores", "memory_gb", "name"),
    [(1, 64, None), (2, 8, "base.en"), (7, 8, "base.en"), (8, 16, "small.en"), (64, 1, None)],
)
def test_chosen_by_cores_and_memory(cores: int, memory_gb: float, name: str | None) -> None:
    assert better_weights(cores, memory_gb) == name
    assert name is None or name in whisper_weights.sizes()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("stt.commands.advice.better_weights", lambda *_: "small.en")


@pytest.mark.usefixtures("terminal")
def test_it_is_said_once(tmp_path: Path) -> None:
    marker = tmp_path / "deep" / "marker"
    line = once(EngineSettings(), EMBEDDED, "en", marker)
    assert line is not None
    assert "`stt models download small.en`" in line
    assert "\n" not in line
    assert (marker.stat().st_mode & 0o777, marker.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert once(EngineSettings(), EMBEDDED, "en", marker) is None


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize(
    ("settings", "engine", "language"),
    [
        (EngineSettings(model="tiny.en"), EMBEDDED, "en"),
        (EngineSettings(model_dir="x"), EMBEDDED, "en"),
        (EngineSettings(), "canary-qwen (bfloat16, cuda)", "en"),
        (EngineSettings(), EMBEDDED, None),
    ],
)
def test_not_to_whom_has_chosen(settings: EngineSettings, engine: str, language: str | None, tmp_path: Path) -> None:
    assert once(settings, engine, language, tmp_path / "marker") is None
    assert not (tmp_path / "marker").exists()


def test_not_to_a_program(tmp_path: Path) -> None:
    assert once(EngineSettings(), EMBEDDED, "en", tmp_path / "marker") is None


@pytest.mark.usefixtures("terminal")
def test_where_nothing_can_be_kept_nothing_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert once(EngineSettings(), EMBEDDED, "en", tmp_path / "file" / "marker") is None
