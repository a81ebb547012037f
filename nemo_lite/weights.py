"""One strict pass over a safetensors file, straight into the model.

The checkpoint and the model must agree on every key and every shape, and weights must be stored in floating point;
whatever differs is an error that names it.
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

FLOATING = ("F64", "F32", "F16", "BF16")
"""What a weight may be stored in. Anything else is quantised, and means nothing without its scales."""

MAPPED_BYTES = 2**28
"""The file is opened anew after this many bytes: pages of a mapping that has been read count as used memory."""


def destinations(model: nn.Module) -> dict[str, Tensor]:
    """Every key the checkpoint must have -> the memory its tensor goes to (a view of the model's own)."""
    named = {}
    for name, tensor in model.state_dict().items():
        ours = name[: name.index(".") + 1]
        named[PREFIXES[ours] + name.removeprefix(ours)] = tensor
    return named


def check_layout(expected: Mapping[str, Tensor], found: Mapping[str, tuple[tuple[int, ...], str]], where: str) -> None:
    """Raise CheckpointError with the names of all keys that are missing, unexpected, or of another shape or kind.

    found: (shape, dtype as safetensors names it) per key.
    """
    both = expected.keys() & found.keys()
    problems = [
        *(f"missing: {name} {tuple(expected[name].shape)}" for name in expected.keys() - found.keys()),
        *(f"unexpected: {name} {found[name][0]}" for name in found.keys() - expected.keys()),
        *(
            f"wrong shape: {name} expected {tuple(expected[name].shape)}, got {found[name][0]}"
            for name in both
            if tuple(expected[name].shape) != found[name][0]
        ),
        *(
            f"wrong dtype: {name} expected {', '.join(FLOATING)}, got {found[name][1]}"
            for name in both
            if expected[name].is_floating_point() and found[name][1] not in FLOATING
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
            parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            found = {name: (tuple(part.get_shape()), part.get_dtype()) for name, part in parts.items()}
        check_layout(where, found, str(path))
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
