"""Which engine `auto` takes, and what it says about it."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ctranslate2
import pytest

from stt.engines import OpenedEngine, canary_qwen, open_engine, whisper
from stt.errors import EngineError
from stt.settings import EngineSettings

GONE = "canary-qwen's weights are not here; `stt models download canary-qwen` gets them"


class Stub:
    def __init__(self, kind: str, place: str) -> None:
        self.name = f"{kind} (float32, {place})"


def torch_with(*, cuda: str | None, available: bool) -> Any:
    return SimpleNamespace(
        __version__="2.11.0", version=SimpleNamespace(cuda=cuda), cuda=SimpleNamespace(is_available=lambda: available)
    )


@pytest.fixture
def auto(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Open an engine on a machine with so many GPUs, these weights and this torch."""

    def auto(*, gpus: int, located: str | None, torch: Any, **settings: Any) -> OpenedEngine:
        def locate(model: str | None, model_dir: str | None) -> str | None:
            if located == "damaged":
                raise EngineError("config.json is damaged; download it again")
            return located

        place = "cuda" if torch is not None and torch.cuda.is_available() else "cpu"
        monkeypatch.setattr(ctranslate2, "get_cuda_device_count", lambda: gpus)
        monkeypatch.setattr(canary_qwen, "locate", locate)
        monkeypatch.setattr(canary_qwen, "CanaryQwen", lambda *_, **__: Stub("canary-qwen", place))
        monkeypatch.setattr(whisper, "Whisper", lambda *_, **__: Stub("whisper", "cuda" if gpus else "cpu"))
        monkeypatch.setitem(sys.modules, "torch", torch)  # None: importing it fails
        return open_engine(EngineSettings(**settings))

    return auto


def test_a_gpu_and_its_weights_are_canary_qwen(auto: Any) -> None:
    opened = auto(gpus=1, located="here", torch=torch_with(cuda="13.0", available=True))
    assert (opened.model.name, opened.reason) == (
        "canary-qwen (float32, cuda)",
        "auto: a GPU and its weights are there",
    )


@pytest.mark.parametrize(
    ("torch", "why"),
    [
        (torch_with(cuda=None, available=False), "torch 2.11.0 is built without CUDA"),
        (
            torch_with(cuda="13.0", available=False),
            "torch 2.11.0 cannot use it: it needs a driver for CUDA 13.0 (see `nvidia-smi`)",
        ),
        (None, "torch cannot be imported (import of torch halted; None in sys.modules)"),
    ],
)
def test_a_gpu_that_torch_cannot_use_is_whisper_and_says_why(auto: Any, torch: Any, why: str) -> None:
    opened = auto(gpus=1, located="here", torch=torch)
    assert opened.model.name == "whisper (float32, cuda)"
    assert opened.reason == f"auto: canary-qwen wants a GPU, and there is one, but {why}"


@pytest.mark.parametrize(
    ("gpus", "located", "device", "why"),
    [
        (0, "here", "auto", "canary-qwen wants a GPU, and there is none"),
        (1, None, "auto", GONE),
        (1, "damaged", "auto", "config.json is damaged; download it again"),
        (1, "here", "cpu", "canary-qwen wants a GPU, and the device is to be the CPU"),
    ],
)
def test_without_a_gpu_or_weights_torch_is_not_even_imported(
    auto: Any, gpus: int, located: str | None, device: str, why: str
) -> None:
    opened = auto(gpus=gpus, located=located, device=device, torch=None)  # importing it would be told as the reason
    assert opened.model.name.startswith("whisper")
    assert opened.reason == f"auto: {why}"


def test_named_weights_are_taken_on_any_device(auto: Any, tmp_path: Path) -> None:
    named = {"model_dir": str(tmp_path), "torch": torch_with(cuda=None, available=False)}
    opened = auto(gpus=1, located="here", **named)
    assert opened.reason == "auto: its weights were named; the real model is much slower than speech on a CPU"
    assert auto(gpus=1, located=None, **named).model.name.startswith("whisper")
