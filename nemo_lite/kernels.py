"""What the language model computes between its matrix products: by PyTorch, or by fused kernels of our own.

    triton_kernels.TritonKernels   one launch each, attention that reads no more keys than there are; on CUDA
    TorchKernels                   PyTorch's operations; everywhere

Both compute the same, to rounding. `choose` takes the fused ones only after they have shown that on the very device, so
a GPU, driver or compiler they do not suit costs speed and nothing else.
"""

import logging
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from nemo_lite.device import computing, lost
from nemo_lite.errors import KernelsError

if TYPE_CHECKING:
    from nemo_lite.config import LLMConfig
    from nemo_lite.llm import RMSNorm

LOGGER = logging.getLogger(__name__)

Wish = Literal["auto", "torch", "triton"]


class Pass(NamedTuple):
    """What is the same for all layers of a pass of n tokens of B rows."""

    slots: Tensor
    """[B or 1, n] int64: each token's position, which is its slot in the cache."""
    rows: Tensor | None
    """[B] int64 rows of the cache; `None`: its first B."""
    cos: Tensor
    sin: Tensor
    """[B or 1, n, 1, d] of the positions."""
    bias: Tensor | None
    """What `Kernels.bias` made of it."""


class Kernels(Protocol):
    """What a layer does with what its products give."""

    name: str

    def bias(self, slots: Tensor, span: int, group: int, dtype: torch.dtype) -> Tensor | None:
        """What a pass's attention needs to know of who sees what: of queries at `slots` [B or 1, n] and `span` keys."""
        ...

    def place(self, qkv: Tensor, q_norm: "RMSNorm", k_norm: "RMSNorm", now: "Pass", kv: Tensor) -> Tensor:
        """Normalise and rotate queries and keys, put keys and values into the cache.

        qkv [B, n, heads + 2 * kv_heads, d]; kv [2, rows, span, kv_heads, d], written at `now.slots` of `now.rows`
        -> the queries [B, n, heads, d].
        """
        ...

    def attend(self, q: Tensor, kv: Tensor, now: "Pass") -> Tensor:
        """Attention of q [B, n, heads, d] to the slots of the same rows up to each query's own: [B, n, heads * d]."""
        ...

    def gated(self, gate_up: Tensor) -> Tensor:
        """SiLU(gate) * up: [..., 2 * wide] -> [..., wide]."""
        ...

    def add_norm(self, x: Tensor, y: Tensor, norm: "RMSNorm") -> tuple[Tensor, Tensor]:
        """Return x + y in the precision of x, and `norm` of it; both [..., hidden]."""
        ...

    def meet(self, config: "LLMConfig", dtype: torch.dtype, device: torch.device) -> None:
        """Have all compiled that any pass may want, whatever its shape: a compiler takes a second for each kernel."""
        ...


class TorchKernels:
    """PyTorch's operations."""

    name = "torch"

    def bias(self, slots: Tensor, span: int, group: int, dtype: torch.dtype) -> Tensor | None:
        """A mask [B or 1, 1, group * n, span]."""
        visible = torch.arange(span, device=slots.device) <= slots[:, :, None]  # [B or 1, n, span]
        bias = torch.zeros_like(visible, dtype=dtype).masked_fill(~visible, float("-inf"))
        return bias[:, None, None].expand(-1, 1, group, -1, -1).reshape(slots.shape[0], 1, -1, span)

    def place(self, qkv: Tensor, q_norm: "RMSNorm", k_norm: "RMSNorm", now: "Pass", kv: Tensor) -> Tensor:
        kv_heads = kv.shape[3]
        q, k, v = qkv.split([qkv.shape[2] - 2 * kv_heads, kv_heads, kv_heads], dim=2)
        q, k = rotate(q_norm(q), now.cos, now.sin), rotate(k_norm(k), now.cos, now.sin)
        rows = torch.arange(len(qkv), device=qkv.device) if now.rows is None else now.rows
        kv[0].index_put_((rows[:, None], now.slots), k)
        kv[1].index_put_((rows[:, None], now.slots), v)
        return q

    def attend(self, q: Tensor, kv: Tensor, now: "Pass") -> Tensor:
        # the G query heads that share a key head become G * n queries of one head: nothing is repeated in memory
        b, n, heads, d = q.shape
        kv_heads = kv.shape[3]
        group = heads // kv_heads
        q = q.view(b, n, kv_heads, group, d).permute(0, 2, 3, 1, 4).reshape(b, kv_heads, group * n, d)
        kv = kv if now.rows is None else kv.index_select(1, now.rows)
        keys, values = kv.transpose(2, 3)  # each [B, kv_heads, span, d]
        out = F.scaled_dot_product_attention(q, keys, values, attn_mask=now.bias)
        return out.view(b, kv_heads, group, n, d).permute(0, 3, 1, 2, 4).reshape(b, n, heads * d)

    def gated(self, gate_up: Tensor) -> Tensor:
        gate, up = gate_up.chunk(2, dim=-1)
        return F.silu(gate) * up

    def add_norm(self, x: Tensor, y: Tensor, norm: "RMSNorm") -> tuple[Tensor, Tensor]:
        x = x + y
        return x, norm(x)

    def meet(self, config: "LLMConfig", dtype: torch.dtype, device: torch.device) -> None:
        """All of them are there."""


def rope(slots: Tensor, d: int, theta: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosines, and sines whose first half is negated, of positions [B or 1, n]: each [B or 1, n, 1, d]."""
    half = torch.arange(0, d, 2, device=slots.device, dtype=torch.float32)
    angle = slots[:, :, None, None].float() * (1.0 / theta ** (half / d))  # [B or 1, n, 1, d / 2]
    cos, sin = angle.cos(), angle.sin()
    return torch.cat([cos, cos], dim=-1).to(dtype), torch.cat([-sin, sin], dim=-1).to(dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of x [B, n, heads, d]; `sin` has its first half negated."""
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, dims=-1), sin)


def choose(wish: Wish, config: "LLMConfig", dtype: torch.dtype, device: torch.device) -> Kernels:
    """Fused kernels where they can run and are right, PyTorch's operations otherwise.

    Raises KernelsError where `triton` is wished for and does not do; "auto" says so in the log.
    """
    if wish == "torch" or (wish == "auto" and not (device.type == "cuda" and torch.cuda.is_available())):
        return TorchKernels()
    try:
        from nemo_lite.triton_kernels import TritonKernels

        fused = TritonKernels()
        check(fused, config, dtype, device)
    except Exception as error:
        # Whatever a compiler, a driver or an import has to say: there is another way, unless the GPU is lost.
        if lost(device):
            raise KernelsError(f"the kernels in Triton broke the GPU's context; go without (torch): {error}") from error
        if wish == "triton":
            raise KernelsError(f"the kernels in Triton do not do here: {error}") from error
        LOGGER.warning("without the kernels in Triton: %s", error)
        return TorchKernels()
    return fused


@torch.inference_mode()
def check(kernels: Kernels, config: "LLMConfig", dtype: torch.dtype, device: torch.device) -> None:
    """Compare kernels with PyTorch's operations, in the model's sizes; raises ValueError where they differ."""
    with computing(device):
        _check(kernels, config, dtype, device)


def _check(kernels: Kernels, config: "LLMConfig", dtype: torch.dtype, device: torch.device) -> None:
    for rows, tokens, span in ((1, 1, 448), (3, 9, 128), (2, 70, 128)):
        for named, (expected, got) in compare(kernels, config, dtype, device, rows, tokens, span).items():
            error = (expected.float() - got.float()).abs().max().item()
            most = tolerance(dtype) * max(1.0, expected.float().abs().max().item())
            if not error <= most:
                raise ValueError(
                    f"{named} of {rows} x {tokens}: expected an error of at most {most:.1g}, got {error:.1g}"
                )


def tolerance(dtype: torch.dtype) -> float:
    """How far two ways to compute the same may be apart: some roundings, of one value of 1."""
    return 8 * torch.finfo(dtype).eps if dtype != torch.float32 else 1e-5


def compare(
    kernels: Kernels,
    config: "LLMConfig",
    dtype: torch.dtype,
    device: torch.device,
    rows: int,
    tokens: int,
    span: int,
    seed: int = 0,
) -> dict[str, tuple[Tensor, Tensor]]:
    """What PyTorch's operations and what `kernels` make of the same random values, by what is computed.

    So many rows of a larger cache, out of order, each with `tokens` tokens that end somewhere within `span` slots.
    """
    from nemo_lite.llm import RMSNorm

    random = torch.Generator("cpu").manual_seed(seed)

    def normal(*shape: int, of: torch.dtype = dtype) -> Tensor:
        return torch.randn(*shape, generator=random).to(device, of)

    def norm(size: int) -> RMSNorm:
        made = RMSNorm(size, config.norm_eps).requires_grad_(requires_grad=False).to(device, dtype)
        made.weight.copy_(normal(size))
        return made

    d, kv_heads, heads = config.head_dim, config.kv_heads, config.heads
    ends = torch.randint(tokens, span + 1, (rows, 1), generator=random)
    slots = (ends - tokens + torch.arange(tokens)).to(device)
    chosen = torch.randperm(rows + 2, generator=random)[:rows].to(device)
    qkv, cache = normal(rows, tokens, heads + 2 * kv_heads, d), normal(2, rows + 2, span, kv_heads, d)
    q_norm, k_norm, wide_norm = norm(d), norm(d), norm(config.hidden)
    gate_up = normal(rows, tokens, 2 * config.intermediate)
    stream, summand = normal(rows, tokens, config.hidden, of=stream_dtype(dtype)), normal(rows, tokens, config.hidden)

    def run(way: Kernels) -> dict[str, Tensor]:
        kv = cache.clone()
        bias = way.bias(slots, span, heads // kv_heads, dtype)
        now = Pass(slots, chosen, *rope(slots, d, config.rope_theta, dtype), bias)
        q = way.place(qkv, q_norm, k_norm, now, kv)
        total, normed = way.add_norm(stream, summand, wide_norm)
        return {
            "the rotated queries": q,
            "the cache": kv,
            "attention": way.attend(q, kv, now),
            "SiLU": way.gated(gate_up),
            "the sum": total,
            "its norm": normed,
        }

    expected, got = run(TorchKernels()), run(kernels)
    return {named: (expected[named], got[named]) for named in expected}


def stream_dtype(dtype: torch.dtype) -> torch.dtype:
    """Of the residual stream: in float16 the sum over the layers outgrows 65,504 where each summand does not."""
    return torch.float32 if dtype == torch.float16 else dtype
