"""Linear layers that read the same input, run as one matrix product, with LoRA merged in."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from nemo_lite.config import LoraConfig


class FusedLinear(nn.Module):
    """`parts` (name -> output features) stacked into one weight [sum of outputs, in_features].

    In `state_dict()`, and therefore for the loader, every part stands under its own name beside this module, as a view
    of its rows: what is copied into `q_proj.weight` lands in the fused matrix. A part with LoRA has the three names
    peft gives it. `merge()` then adds scale * B @ A to those rows, once, in float32, and keeps the rows as they were:
    subtracting the product again would not give the same bits, and leaving the adapter out ("LLM mode") needs them.
    """

    def __init__(
        self, in_features: int, parts: dict[str, int], *, bias: bool = False, lora: LoraConfig | None = None
    ) -> None:
        super().__init__()
        self.parts = parts
        self.lora = lora
        rows = sum(parts.values())
        self.weight = nn.Parameter(torch.empty(rows, in_features), requires_grad=False)
        self.bias = nn.Parameter(torch.empty(rows), requires_grad=False) if bias else None
        adapted = {name: lora.rank_of(name) for name in parts} if lora else {}
        self.lora_A = nn.ParameterDict({n: _frozen(r, in_features) for n, r in adapted.items() if r})
        self.lora_B = nn.ParameterDict({n: _frozen(parts[n], r) for n, r in adapted.items() if r})
        self.base = nn.ParameterDict()  # the rows before merging, by part
        self.scale: Tensor | None = None  # [rows], where the weight is int8
        self.base_scale: dict[str, Tensor] = {}

    def forward(self, x: Tensor, *, adapter: bool = True) -> Tensor:
        """Map x [..., in_features] -> [..., sum of outputs]; without `adapter`, as if LoRA had never been there."""
        if adapter or not self.base:
            return linear(x, self.weight, self.scale, self.bias)
        rows, scales = self.rows(self.weight), {} if self.scale is None else self.rows(self.scale)
        parts = [
            linear(x, self.base[n], self.base_scale.get(n)) if n in self.base else linear(x, rows[n], scales.get(n))
            for n in self.parts
        ]
        return torch.cat(parts, dim=-1)

    def quantize(self) -> None:
        """Keep the weight as int8; after `merge`."""
        self.weight, self.scale = quantized(self.weight)
        for name, rows in self.base.items():
            self.base[name], self.base_scale[name] = quantized(rows)

    def rows(self, fused: Tensor) -> dict[str, Tensor]:
        return dict(zip(self.parts, fused.split(list(self.parts.values())), strict=True))

    def merge(self) -> None:
        rows = self.rows(self.weight)
        for name, a in self.lora_A.items():
            assert self.lora is not None  # noqa: S101  no pairs without it
            self.base[name] = nn.Parameter(rows[name].clone(), requires_grad=False)
            delta = self.lora_B[name].float() @ a.float()
            rows[name].copy_(rows[name].float() + self.lora.scale * delta)
        self.lora_A.clear()
        self.lora_B.clear()

    def state_dict(self, *args: Any, destination: Any = None, prefix: str = "", keep_vars: bool = False) -> Any:
        del args, keep_vars
        destination = {} if destination is None else destination
        parent = prefix.removesuffix(".").rpartition(".")[0]
        parent = parent and parent + "."
        biases = {} if self.bias is None else self.rows(self.bias.detach())
        for name, rows in self.rows(self.weight.detach()).items():
            stem = f"{parent}{name}"
            if name in self.lora_A:
                destination[f"{stem}.base_layer.weight"] = rows
                destination[f"{stem}.lora_A.default.weight"] = self.lora_A[name].detach()
                destination[f"{stem}.lora_B.default.weight"] = self.lora_B[name].detach()
            else:
                destination[f"{stem}.weight"] = rows
            if name in biases:
                destination[f"{stem}.bias"] = biases[name]
        return destination


class Int8Linear(nn.Module):
    """`nn.Linear` with its weight as int8."""

    def __init__(self, like: nn.Linear) -> None:
        super().__init__()
        self.weight, self.scale = quantized(like.weight)
        self.bias = like.bias

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.scale, self.bias)


def quantize(module: nn.Module) -> None:
    """Keep the weights of all linear layers within as int8, half of their memory; once they are merged and folded.

    Weights alone: a row and its largest weight give the scale, activations stay as they are. What is multiplied is the
    weight rounded to 1 / 254 of the row's range, in the model's precision.
    """
    for child in list(module.modules()):
        if isinstance(child, FusedLinear):
            child.quantize()
        for name, inner in list(child.named_children()):
            if type(inner) is nn.Linear and name != "linear_pos":  # that one serves clips beyond 41 s only
                setattr(child, name, Int8Linear(inner))


def quantized(weight: Tensor) -> tuple[nn.Parameter, Tensor]:
    """[rows, in_features] -> int8 of that shape, and the scale of each row in the weight's precision."""
    scale = (weight.float().abs().amax(1) / 127).to(weight.dtype)
    scale = torch.where(scale == 0, 1.0, scale)
    whole = (weight.float() / scale.float()[:, None]).round().clamp(-127, 127).to(torch.int8)
    return nn.Parameter(whole, requires_grad=False), scale


def linear(x: Tensor, weight: Tensor, scale: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    """`F.linear`; of an int8 weight, what it stands for is made for the time of the product."""
    return F.linear(x, weight if scale is None else weight * scale[:, None], bias)


def _frozen(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(*shape), requires_grad=False)
