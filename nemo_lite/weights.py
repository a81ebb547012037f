"""One strict pass over a safetensors file, straight into the model.

The checkpoint and the model must agree on every key and every shape; whatever differs is an error that names it.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from nemo_lite.errors import CheckpointError, ModelNotFoundError

PREFIXES = {
    "preprocessor.": "perception.preprocessor.featurizer.",
    "encoder.": "perception.encoder.",
    "proj.": "perception.proj.",
    "embed_tokens.": "embed_tokens.",
    "llm.": "llm.base_model.model.model.",
}
"""Ours -> the checkpoint's. The output layer is the embedding table and is not stored."""

MAPPED_BYTES = 2**28
"""The file is opened anew after this many bytes: pages of a mapping that has been read count as used memory."""


def destinations(model: nn.Module) -> dict[str, Tensor]:
    """Every key the checkpoint must have -> the memory its tensor goes to (a view of the model's own)."""
    named = {}
    for name, tensor in model.state_dict().items():
        ours = name[: name.index(".") + 1]
        named[PREFIXES[ours] + name.removeprefix(ours)] = tensor
    return named


def check_layout(expected: Mapping[str, torch.Size], found: Mapping[str, torch.Size], where: str) -> None:
    """Raise CheckpointError with the names of all keys that are missing, unexpected, or of another shape."""
    problems = [
        *(f"missing: {name} {tuple(expected[name])}" for name in expected.keys() - found.keys()),
        *(f"unexpected: {name} {tuple(found[name])}" for name in found.keys() - expected.keys()),
        *(
            f"wrong shape: {name} expected {tuple(expected[name])}, got {tuple(found[name])}"
            for name in expected.keys() & found.keys()
            if expected[name] != found[name]
        ),
    ]
    if problems:
        raise CheckpointError(f"{where} does not fit its config.json:\n  " + "\n  ".join(sorted(problems)))


@torch.no_grad()
def load_weights(model: nn.Module, path: Path) -> None:
    """Copy every tensor of the safetensors file at `path` to the model's device and dtype.

    Host memory beyond the model itself stays below `MAPPED_BYTES` plus the largest tensor. Raises ModelNotFoundError
    if there is no such file, CheckpointError if it is damaged or its layout differs.
    """
    where = destinations(model)
    device = next(model.parameters()).device
    try:
        with safe_open(path, framework="pt") as file:
            found = {name: torch.Size(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        check_layout({name: tensor.shape for name, tensor in where.items()}, found, str(path))
        for names in _portions(where):
            with safe_open(path, framework="pt", device=str(device)) as file:
                for name in names:
                    where[name].copy_(file.get_tensor(name))
    except FileNotFoundError as error:
        raise ModelNotFoundError(f"no {path.name} in {path.parent}: the download is incomplete") from error
    except SafetensorError as error:
        raise CheckpointError(f"{path} is damaged ({error}); delete it and download it again") from error


def _portions(tensors: Mapping[str, Tensor]) -> Iterator[list[str]]:
    names, size = [], 0
    for name, tensor in tensors.items():
        names.append(name)
        size += tensor.nbytes
        if size >= MAPPED_BYTES:
            yield names
            names, size = [], 0
    yield names
