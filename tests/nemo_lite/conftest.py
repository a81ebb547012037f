"""The two small models in the true layout, and what NeMo computed for them."""

import importlib.util
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from nemo_lite import CanaryQwen
from nemo_lite.config import read_config
from nemo_lite.graphs import Graphs
from nemo_lite.tokenizer import ChatTokenizer
from nemo_lite.weights import load_weights

os.environ["TRITON_INTERPRET"] = "1"  # before anybody imports it: kernels run in Python then
DATA = Path(__file__).parents[1] / "data"
SHARED = Path(__file__).parents[3] / "shared" / "canary-qwen"
CPU = torch.device("cpu")


@pytest.fixture(scope="session", autouse=True)
def _threads():
    torch.set_num_threads(min(2, torch.get_num_threads()))


@pytest.fixture(scope="session")
def data() -> Path:
    return DATA


@pytest.fixture(scope="session")
def nano() -> CanaryQwen:
    return CanaryQwen.from_pretrained(DATA / "canary-nano", "cpu")


@pytest.fixture(scope="session")
def toy() -> CanaryQwen:
    return CanaryQwen.from_pretrained(DATA / "canary-toy", "cpu")


@pytest.fixture(scope="session")
def models(nano, toy) -> dict[str, CanaryQwen]:
    return {"nano": nano, "toy": toy}


@pytest.fixture(scope="session")
def manifests() -> dict[str, dict]:
    return {size: json.loads((DATA / f"canary-{size}/goldens/manifest.json").read_text()) for size in ("nano", "toy")}


def read_golden(size: str, name: str) -> dict[str, torch.Tensor]:
    path = DATA / f"canary-{size}/goldens/{name}.safetensors"
    if name.startswith("speech_"):  # a recording of a person: not part of this repository
        path = SHARED / "goldens" / path.name
        if not path.is_file():
            pytest.skip(f"{name}: the recording lies outside the repository ({path.name} not found beside it)")
    golden = load_file(path)
    if name == "speech_39p9s":
        s = read_golden("nano", "speech_10s")["audio_i16"].to(torch.int32)
        golden["audio_i16"] = torch.cat([s, s // 2, s // 4, s])[:638400]
    return golden


@pytest.fixture(scope="session")
def golden() -> Callable[[str, str], dict[str, torch.Tensor]]:
    return read_golden


@pytest.fixture(scope="session")
def clip() -> Callable[[str, str], torch.Tensor]:
    return lambda size, name: read_golden(size, name)["audio_i16"].float() / 32768


@pytest.fixture(scope="session")
def heldout() -> list[tuple[torch.Tensor, str]]:
    """(clip, what NeMo answered)"""
    import soundfile

    folder = DATA / "canary-toy" / "heldout"
    rows = [json.loads(line) for line in (folder / "heldout.jsonl").read_text().splitlines()]
    return [(torch.from_numpy(soundfile.read(folder / row["file"], dtype="float32")[0]), row["nemo"]) for row in rows]


class ReplayedOnCpu:
    """Behaves as a CUDA graph does: fixed inputs, fixed outputs, overwritten by every replay."""

    def __init__(self) -> None:
        self.captures = self.replays = 0

    def __call__(self, run):
        self.captures += 1
        outputs = run()

        def replay() -> None:
            self.replays += 1
            for kept, new in zip(outputs, run(), strict=True):
                kept.copy_(new)

        return outputs, replay


@pytest.fixture
def static() -> Callable[[str], tuple[CanaryQwen, ReplayedOnCpu]]:
    """A model with the shapes and the replaying it would have on a GPU."""

    def load(size: str) -> tuple[CanaryQwen, ReplayedOnCpu]:
        folder = DATA / f"canary-{size}"
        config = read_config(folder / "checkpoint", folder / "llm")
        model = CanaryQwen.empty(config, ChatTokenizer(folder / "llm", config.audio_tag), CPU, torch.float32)
        load_weights(model, folder / "checkpoint" / "model.safetensors")
        capture = ReplayedOnCpu()
        return model.prepare(static=True, graphs=Graphs(capture)), capture

    return load


@pytest.fixture(scope="session")
def plain():
    """benchmarks/canary_plain.py: the model put together from transformers and peft."""
    path = Path(__file__).parents[2] / "benchmarks" / "canary_plain.py"
    spec = importlib.util.spec_from_file_location("canary_plain", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
