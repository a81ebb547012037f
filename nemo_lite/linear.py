"""Linear layers: those that read the same input run as one matrix product, with LoRA merged in; weights of 8 bits.

int8: weights alone. A row and its largest weight give the scale; what is multiplied is the weight rounded to 1 / 254 of
the row's range, in the model's precision. Less memory.

fp8 (e4m3, of 3 bits of mantissa): weights by rows, and what they are multiplied with by tokens, each as it comes. Half
of the memory as well, and matrix units that have it (compute capability 8.9 and newer) multiply twice as fast.
Elsewhere the product is emulated, of the same numbers.
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from nemo_lite.config import LoraConfig
from nemo_lite.errors import KernelsError

Weights = Literal["int8", "fp8"]
_FP8 = torch.float8_e4m3fn
_FP8_MOST = 448.0
_SMALLEST = 1e-12
"""Of a scale: what is nothing but zeros has to be divided by something."""


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
        self.scale: Tensor | None = None  # [rows], where the weight is of 8 bits
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

    def quantize(self, to: Weights) -> None:
        """Keep the weight in 8 bits; after `merge`."""
        self.weight, self.scale = quantized(self.weight, to)
        for name, rows in self.base.items():
            self.base[name], self.base_scale[name] = quantized(rows, to)

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


class QuantizedLinear(nn.Module):
    """`nn.Linear` with its weight in 8 bits."""

    def __init__(self, like: nn.Linear, to: Weights) -> None:
        super().__init__()
        self.weight, self.scale = quantized(like.weight, to)
        self.bias = like.bias

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.scale, self.bias)


def quantize(module: nn.Module, to: Weights) -> None:
    """Keep the weights of all linear layers within in 8 bits, half of their memory; once they are merged and folded."""
    for child in list(module.modules()):
        if isinstance(child, FusedLinear):
            child.quantize(to)
        for name, inner in list(child.named_children()):
            if type(inner) is nn.Linear and name != "linear_pos":  # that one serves clips beyond 41 s only
                setattr(child, name, QuantizedLinear(inner, to))


def quantized(weight: Tensor, to: Weights) -> tuple[nn.Parameter, Tensor]:
    """[rows, in_features] -> the same in 8 bits, and the scale of each row: of int8 in the weight's precision."""
    if to == "fp8":
        rounded, scale = _to_fp8(weight)
        return nn.Parameter(rounded, requires_grad=False), scale[:, 0]
    scale = (weight.float().abs().amax(1) / 127).to(weight.dtype)
    scale = torch.where(scale == 0, 1.0, scale)
    whole = (weight.float() / scale.float()[:, None]).round().clamp(-127, 127).to(torch.int8)
    return nn.Parameter(whole, requires_grad=False), scale


def linear(x: Tensor, weight: Tensor, scale: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    """`F.linear`; of an int8 weight, what it stands for is made for the time of the product."""
    if scale is None:
        return F.linear(x, weight, bias)
    if weight.dtype == _FP8:
        return _fp8_linear(x, weight, scale, bias)
    return F.linear(x, weight * scale[:, None], bias)


def check_fp8(device: torch.device, dtype: torch.dtype) -> None:
    """See that products in fp8 come out right on a GPU, with few rows and many.

    Raises KernelsError where they do not, or cannot be had. On a CPU they are emulated.
    """
    if device.type != "cuda":
        return
    weight, scale = quantized(torch.randn(512, 256, device=device), "fp8")
    for rows in (1, 9, 300):
        x = torch.randn(rows, 256, device=device, dtype=dtype)
        try:
            got = _fp8_linear(x, weight, scale, None).float().cpu()
        except RuntimeError as error:
            why = f"this GPU, or this torch, has no products in fp8 by rows: {error}"
            raise KernelsError(f"weights: expected int8 or none, because {why}") from error
        expected = _fp8_linear(x.cpu(), weight.cpu(), scale.cpu(), None).float()
        if not (got - expected).abs().max() < 0.02 * expected.abs().max():
            raise KernelsError("weights: expected int8 or none, because products in fp8 come out wrong on this GPU")


def _fp8_linear(x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
    tokens, steps = _to_fp8(x.flatten(0, -2))
    if x.is_cuda:
        out = torch._scaled_mm(  # noqa: SLF001 # pyright: ignore[reportPrivateImportUsage]
            tokens, weight.t(), steps, scale[None], bias, out_dtype=x.dtype, use_fast_accum=True
        )
    else:
        out = F.linear(tokens.float(), weight.float()) * steps * scale
        out = (out if bias is None else out + bias.float()).to(x.dtype)
    return out.unflatten(0, x.shape[:-1])


def _to_fp8(x: Tensor) -> tuple[Tensor, Tensor]:
    """[rows, n] -> the same in fp8, and the scale of each row, [rows, 1] float32."""
    steps = (x.abs().amax(1, keepdim=True).float() / _FP8_MOST).clamp(min=_SMALLEST)
    return (x.float() / steps).to(_FP8), steps


def _frozen(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(*shape), requires_grad=False)
