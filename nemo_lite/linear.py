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

    def forward(self, x: Tensor, *, adapter: bool = True) -> Tensor:
        """Map x [..., in_features] -> [..., sum of outputs]; without `adapter`, as if LoRA had never been there."""
        if adapter or not self.base:
            return F.linear(x, self.weight, self.bias)
        rows = self.rows(self.weight)
        return torch.cat([F.linear(x, self.base[n] if n in self.base else rows[n]) for n in self.parts], dim=-1)

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


def _frozen(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(*shape), requires_grad=False)
