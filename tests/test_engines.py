"""Which engine `auto` takes, and what it says about it."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ctranslate2
import pytest

from stt import machine
from stt.engines import OpenedEngine, canary_qwen, open_engine, whisper
from stt.engines.languages import NAMES, language_code, languages_by_name
from stt.errors import EngineError, SettingsError
from stt.machine import install_canary
from stt.settings import EngineSettings

GONE = "canary-qwen's weights are not here; `stt models download canary-qwen` gets them"


class Stub:
    def __init__(self, kind: str, place: str) -> None:
        self.name = f"{kind} (float32, {place})"


def torch_with(*, cuda: str | None, available: bool) -> Any:
    return SimpleNamespace(
        __spec__=object(),  # found, if anyone looks for it
        __version__="2.11.0",
        version=SimpleNamespace(cuda=cuda),
        cuda=SimpleNamespace(is_available=lambda: available),
    )


@pytest.mark.parametrize(
    "settings",
    [
        EngineSettings(model="./" + "x" * 300),
        EngineSettings(model_dir="x" * 300),
        pytest.param(EngineSettings("canary-qwen", model="./" + "x" * 300), marks=pytest.mark.canary),
        EngineSettings("whisper", model="./" + "x" * 300),
        EngineSettings("whisper", model_dir="x" * 300),
    ],
)
def test_weights_at_a_path_that_cannot_be_looked_at_are_an_error_that_names_it(settings: EngineSettings) -> None:
    """As a folder that may not be looked into would be; root may look into all."""
    with pytest.raises(EngineError, match="xxx"):
        open_engine(settings)


@pytest.fixture
def broken_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A torch that is there but cannot be imported."""
    (tmp_path / "torch.py").write_text("raise OSError('libcudart.so.13: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)


@pytest.fixture
def auto(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Open an engine on a machine with so many GPUs, these weights and this torch."""

    def auto(*, gpus: int, located: str | None, torch: Any, **settings: Any) -> OpenedEngine:
        def locate(model: str | None, model_dir: str | None) -> str | None:
            if located == "damaged":
                raise EngineError("config.json is damaged; download it again")
            return located

        place = "cuda" if isinstance(torch, SimpleNamespace) and torch.cuda.is_available() else "cpu"
        monkeypatch.setattr(ctranslate2, "get_cuda_device_count", lambda: gpus)
        monkeypatch.setattr(canary_qwen, "locate", locate)
        monkeypatch.setattr(canary_qwen, "CanaryQwen", lambda *_, **__: Stub("canary-qwen", place))
        monkeypatch.setattr(whisper, "Whisper", lambda *_, **__: Stub("whisper", "cuda" if gpus else "cpu"))
        if torch == "on disk":
            monkeypatch.delitem(sys.modules, "torch", raising=False)
        else:
            monkeypatch.setitem(sys.modules, "torch", torch)  # None: it is not installed
        without_code = settings.pop("without_code", None)
        monkeypatch.setattr(canary_qwen, "without_code", lambda device: without_code)
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
        ("on disk", "torch cannot be imported (libcudart.so.13: cannot open shared object file)"),
    ],
)
@pytest.mark.usefixtures("broken_torch")
def test_a_gpu_that_torch_cannot_use_is_whisper_and_says_why(auto: Any, torch: Any, why: str) -> None:
    opened = auto(gpus=1, located="here", torch=torch)
    assert opened.model.name == "whisper (float32, cuda)"
    assert opened.reason == f"auto: canary-qwen wants a GPU, and there is one, but {why}"


def test_a_gpu_too_old_for_this_torch_is_whisper_and_says_why(auto: Any) -> None:
    why = "GTX 1080 has compute capability 6.1, and torch 2.11.0 is built for 7.5, 9.0"
    opened = auto(gpus=1, located="here", torch=torch_with(cuda="13.0", available=True), without_code=why)
    assert opened.model.name == "whisper (float32, cuda)"
    assert opened.reason == f"auto: canary-qwen wants a GPU, and there is one, but {why}"


@pytest.mark.parametrize("located", [None, "here"])
def test_a_gpu_without_torch_is_whisper_and_says_what_to_install(
    auto: Any, located: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stt.engines.install_canary", lambda: "THE COMMAND")
    opened = auto(gpus=1, located=located, torch=None)
    assert opened.model.name == "whisper (float32, cuda)"
    expected = "auto: there is a GPU for canary-qwen, but it is not installed; for this machine: THE COMMAND"
    assert opened.reason == expected


@pytest.mark.parametrize("missing", ["torch", "tokenizers", "safetensors"])
def test_canary_qwen_without_what_it_needs_says_what_to_install(missing: str, tmp_path: Path) -> None:
    (tmp_path / "x.wav").touch()
    code = f"""
import sys
sys.modules[{missing!r}] = None
from stt.cli import main
sys.exit(main(["file", "x.wav", "--engine", "canary-qwen"]))
"""
    run = subprocess.run([sys.executable, "-Pc", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert run.returncode == 1
    assert run.stderr.startswith("stt file: the engine canary-qwen is not installed (")
    assert run.stderr.rstrip().endswith(f"for this machine: {install_canary()}")


@pytest.mark.parametrize(
    ("gpu", "system", "pip", "expected"),
    [
        (None, "Linux", True, "PYTHON -m pip install 'stt-live[canary]' --extra-index-url INDEX/cpu"),
        ("nvidia", "Linux", True, "PYTHON -m pip install 'stt-live[canary]'"),
        (None, "Darwin", True, "PYTHON -m pip install 'stt-live[canary]'"),
        (None, "Linux", False, "uv pip install --python PYTHON 'stt-live[canary]' --torch-backend cpu"),
        ("nvidia", "Linux", False, "uv pip install --python PYTHON 'stt-live[canary]'"),
        ("amd", "Linux", True, "PYTHON -m pip install 'stt-live[canary]' (for ROCm, untested, "),
    ],
)
def test_the_command_is_for_this_machine_and_this_installation(
    gpu: str | None, system: str, pip: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "gpu", lambda: gpu)
    monkeypatch.setattr("platform.system", lambda: system)
    monkeypatch.setattr(machine, "find_spec", lambda _: object() if pip else None)
    command = (
        machine.install_canary().replace(sys.executable, "PYTHON").replace("https://download.pytorch.org/whl", "INDEX")
    )
    assert command.startswith(expected)
    assert command == expected or gpu == "amd"


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        ([], None),
        (["dev/nvidiactl"], None),  # the driver's, also without a GPU
        (["dev/nvidia0"], "nvidia"),
        (["proc/driver/nvidia/gpus/0000:01:00.0"], "nvidia"),
        (["usr/lib/wsl/lib/libcuda.so.1"], "nvidia"),
        (["dev/kfd"], "amd"),
    ],
)
def test_a_gpu_is_seen_without_asking_torch(there: list[str], expected: str | None, tmp_path: Path) -> None:
    for path in there:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    assert machine.gpu(tmp_path) == expected


@pytest.mark.parametrize(
    ("gpus", "located", "device", "why"),
    [
        (0, "here", "auto", "canary-qwen wants a GPU, and there is none"),
        (1, None, "auto", GONE),
        (1, "damaged", "auto", "config.json is damaged; download it again"),
        (1, "here", "cpu", "canary-qwen wants a GPU, and the device is to be the CPU"),
    ],
)
@pytest.mark.usefixtures("broken_torch")
def test_without_a_gpu_or_weights_torch_is_not_even_imported(
    auto: Any, gpus: int, located: str | None, device: str, why: str
) -> None:
    opened = auto(gpus=gpus, located=located, device=device, torch="on disk")  # the reason would tell of importing it
    assert opened.model.name.startswith("whisper")
    assert opened.reason == f"auto: {why}"


def test_named_weights_are_taken_on_any_device(auto: Any, tmp_path: Path) -> None:
    named = {"model_dir": str(tmp_path), "torch": torch_with(cuda=None, available=False)}
    opened = auto(gpus=1, located="here", **named)
    assert opened.reason == "auto: its weights were named; the real model is much slower than speech on a CPU"
    assert auto(gpus=1, located=None, **named).model.name.startswith("whisper")


@pytest.mark.parametrize("threads", [-1, 257, 100_000])
def test_threads_that_no_machine_can_start_are_refused(threads: int) -> None:
    with pytest.raises(SettingsError, match=f"threads: expected 1 to 256, or 0 for one per core, got {threads}"):
        open_engine(EngineSettings(threads=threads))


@pytest.mark.parametrize(
    ("written", "code"),
    [("en", "en"), ("EN", "en"), ("en-US", "en"), ("pt_BR", "pt"), (" De ", "de"), ("yue", "yue")]
    + [(nothing, None) for nothing in (None, "", "auto", "AUTO")],
)
def test_languages_are_known_however_they_are_written(written: str | None, code: str | None) -> None:
    assert language_code(written) == code


SPINS = (
    "import os; from stt.engines.openmp import let_threads_sleep as f; f(); print(os.environ.get('OMP_WAIT_POLICY'))"
)


@pytest.mark.parametrize(
    ("chosen", "policy"),
    [
        ({}, "PASSIVE"),
        ({"OMP_WAIT_POLICY": ""}, "PASSIVE"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE"),
        ({"GOMP_SPINCOUNT": "1000"}, "None"),
        ({"KMP_BLOCKTIME": "200"}, "None"),
    ],
)
def test_openmp_sleeps_unless_somebody_chose_otherwise(chosen: dict[str, str], policy: str) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "KMP_"))}
    run = subprocess.run([sys.executable, "-c", SPINS], env=clean | chosen, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == policy


def test_openmp_is_told_before_an_engine_loads_it() -> None:
    code = """
import os, sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        assert name not in ("ctranslate2", "torch") or os.environ["OMP_WAIT_POLICY"] == "PASSIVE", name
sys.meta_path.insert(0, Watch())
from stt import EngineSettings, open_engine
open_engine(EngineSettings())
print("opened")
"""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "KMP_"))}
    run = subprocess.run([sys.executable, "-Pc", code], env=clean, capture_output=True, text=True, check=False)
    assert run.stdout.strip() == "opened", run.stderr


@pytest.mark.parametrize(
    ("engine", "languages"),
    [
        (EngineSettings(), {"en"}),
        (EngineSettings("whisper", model="small.en"), {"en"}),
        (EngineSettings(model="canary-qwen"), {"en"}),
        (EngineSettings(model="small"), set(NAMES)),
        (EngineSettings(model="large-v3-turbo"), set(NAMES)),
        (EngineSettings(model="Systran/faster-whisper-large-v3"), set(NAMES)),
        (EngineSettings(model="auto"), set()),
        (EngineSettings(model="auto", language="en-GB"), set()),
        (EngineSettings(model="auto", language="de"), set(NAMES)),
        (EngineSettings("whisper", model="auto", language=None), set(NAMES)),
        (EngineSettings("canary-qwen", model="auto", language=None), {"en"}),
        (EngineSettings(model="somebody/their-weights"), set()),
        (EngineSettings(model_dir="weights"), set()),
    ],
)
def test_languages_by_the_name_of_the_model(engine: EngineSettings, languages: set[str]) -> None:
    assert languages_by_name(engine) == languages


def test_every_language_and_size_of_whisper_is_known_by_its_name() -> None:
    tokenizer, utils = pytest.importorskip("faster_whisper.tokenizer"), pytest.importorskip("faster_whisper.utils")
    assert set(NAMES) == set(tokenizer._LANGUAGE_CODES)
    for size, repository in utils._MODELS.items():
        expected = {"en"} if size.endswith(".en") else set(NAMES)
        assert languages_by_name(EngineSettings(model=size)) == expected
        assert languages_by_name(EngineSettings(model=repository)) == expected
