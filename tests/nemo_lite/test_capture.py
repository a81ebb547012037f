"""What a CUDA capture would see, without a GPU: the captured functions at true size, on fake CUDA tensors.

A fake tensor has a shape and a device and no memory. It raises on whatever depends on data (`.item()`, `bool(t)`,
`nonzero`, indexing by a mask), which a capture forbids; and what touches a tensor of the host is noted, for a graph
would read it at its old address for ever.
"""

import json

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F  # noqa: N812
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from nemo_lite import CanaryQwen
from nemo_lite.alignment import Head
from nemo_lite.config import parse_config
from nemo_lite.graphs import Graphs
from nemo_lite.shapes import AHEAD


class HostTensors(TorchDispatchMode):
    """Notes operations that take or give a tensor of the host."""

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        tensors = [x for x in tree_flatten((args, kwargs, out))[0] if isinstance(x, torch.Tensor)]
        if any(tensor.device.type == "cpu" for tensor in tensors):
            self.noted.append(str(func))
        return out


@pytest.fixture
def true_size(data, nano, monkeypatch):
    """The 2.5B model without its memory, on a GPU that is not there."""
    layout = json.loads((data / "canary-nano/full_keys.json").read_text())
    sizes = {"hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 28, "num_attention_heads": 16}
    qwen = json.loads((data / "canary-nano/llm/config.json").read_text()) | sizes
    qwen |= {"num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936}

    def attention(q, k, v, attn_mask=None):  # the choice among kernels asks a device
        mask = attn_mask.expand(q.shape[0], q.shape[1], q.shape[2], k.shape[2])
        return torch.ops.aten._scaled_dot_product_efficient_attention(q, k, v, mask, False)[0]

    monkeypatch.setattr(F, "scaled_dot_product_attention", attention)
    monkeypatch.setattr("nemo_lite.model.LanguageModel", lambda model: None)
    monkeypatch.setattr("nemo_lite.model.Staging", lambda pinned: None)
    with torch.device("meta"):
        model = CanaryQwen(parse_config(layout["config"], qwen), nano.tokenizer)
    for part in (model.encoder, model.proj, model.llm, model.embed_tokens):
        part.to(torch.bfloat16)
    with FakeTensorMode(allow_non_fake_inputs=False), torch.no_grad():
        for module in model.modules():
            for name, p in list(module._parameters.items()):
                if p is not None:
                    there = torch.empty(p.shape, dtype=p.dtype, device="cuda")
                    module._parameters[name] = nn.Parameter(there, requires_grad=False)
            for name, p in list(module._buffers.items()):
                if p is not None:
                    module._buffers[name] = torch.empty(p.shape, dtype=p.dtype, device="cuda")
        yield model


@pytest.mark.parametrize(("weights", "aligner"), [(None, Head(9, 13)), ("int8", Head(27, 0)), ("fp8", None)])
def test_nothing_that_is_captured_looks_at_data_or_at_the_host(true_size, weights, aligner):
    model = true_size.prepare(static=True, graphs=Graphs(lambda run: (run(), lambda: None)), weights=weights)
    decoder = model.decoder
    decoder.align_with(aligner)

    def captured(function, *inputs):
        with HostTensors() as seen:
            out = function(*inputs)
        assert seen.noted == []
        return out

    def encode(mel, lengths):
        return model.proj(model.encoder(mel.to(model.dtype), lengths))

    for batch in (1, 8):
        mel = torch.empty(batch, 128, 8 * 256, device="cuda")
        lengths = torch.empty(batch, dtype=torch.int64, device="cuda")
        captured(model.preprocessor, torch.empty(batch, 480_159, device="cuda"), lengths)
        captured(encode, mel, lengths)
        decoder.reserve(batch, 1024)
        for width in (0, 96):
            n = 312 + width
            table = torch.empty(batch, 2 * n + width + 3, dtype=torch.int64, device="cuda")
            audio = torch.empty(batch * 320, 2048, dtype=torch.bfloat16, device="cuda")
            places = torch.empty(batch, dtype=torch.int64, device="cuda")
            state = captured(decoder._prefill(8, n, width, 224, 201, adapter=True), table, audio, places)
        for ahead in (0, AHEAD):
            captured(decoder._step(ahead, 448, adapter=True), *state)
