"""Qwen3 (dense) over a static KV cache, with LoRA merged in.

The computation of transformers' `Qwen3Model`, which the tests compare it with; written out here because a fixed
cache, CUDA graphs and scoring a draft in one pass all want to own the loop over the layers. Names follow the
checkpoint.

One rule makes everything else simple: **a token's slot in the cache is its position.** Rows of different length start
at slot 0 and end where they end; what lies behind a row's end is stale, is never attended to (a query sees the slots up
to its own position), and is overwritten by the tokens that come. No padding on the left, no mask per row.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from nemo_lite.alignment import Head
from nemo_lite.config import LLMConfig
from nemo_lite.kernels import Kernels, Pass, TorchKernels, rope, stream_dtype
from nemo_lite.linear import FusedLinear

Tap = Callable[[int, Tensor], None]
"""Is given each layer's number and its queries [B, n, heads, d], rotated, once the layer's keys are in the cache."""


class KVCache:
    """Keys and values of all layers, for `rows` rows of `slots` slots each.

    [layers, 2, rows, slots, kv_heads, head_dim]: fewer rows or a shorter span are a part of the same memory, so CUDA
    graphs of all sizes share it, and growing copies nothing. Where fewer rows of more slots are wanted, or the other
    way round, the memory is divided otherwise.
    """

    def __init__(self, config: LLMConfig, rows: int, slots: int, like: Tensor) -> None:
        self.rows, self.slots = rows, slots
        self.home = slots
        self.shape = (config.kv_heads, config.head_dim)
        self.capacity = rows * slots
        # zeros, not empty: a masked slot has weight 0, but 0 * NaN would not be 0
        self.memory = torch.zeros(config.layers, 2, self.capacity, *self.shape, dtype=like.dtype, device=like.device)

    def divide(self, rows: int, slots: int) -> bool:
        """Make room for so many rows of so many slots, as at first if that will do; whether anything has changed."""
        slots = self.home if slots <= self.home and rows * self.home <= self.capacity else slots
        changed, self.slots = slots != self.slots, slots
        self.rows = self.capacity // max(slots, 1)
        return changed

    def view(self, rows: int, span: int) -> Tensor:
        """The first `span` slots of the first `rows` rows: [layers, 2, rows, span, kv_heads, head_dim]."""
        if rows > self.rows or span > self.slots:
            raise ValueError(f"expected at most {self.rows} rows of {self.slots} slots, got {rows} of {span}")
        used = self.memory[:, :, : self.rows * self.slots]
        return used.unflatten(2, (self.rows, self.slots))[:, :, :rows, :span]

    def move(self, old: int, new: int, span: int) -> None:
        """Copy the first `span` slots of a row to another."""
        kv = self.view(self.rows, span)
        kv[:, :, new].copy_(kv[:, :, old])


class RMSNorm(nn.Module):
    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x, whichever its precision, to the weights' precision."""
        return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), self.eps).to(self.weight.dtype)


class Attention(nn.Module):
    """Grouped-query attention with normalised queries and keys and rotary positions."""

    def __init__(self, config: LLMConfig) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.d = config.heads, config.kv_heads, config.head_dim
        q, kv = self.heads * self.d, self.kv_heads * self.d
        self.qkv = FusedLinear(config.hidden, {"q_proj": q, "k_proj": kv, "v_proj": kv}, lora=config.lora)
        self.out = FusedLinear(q, {"o_proj": config.hidden}, lora=config.lora)
        self.q_norm = RMSNorm(self.d, config.norm_eps)
        self.k_norm = RMSNorm(self.d, config.norm_eps)

    def forward(
        self,
        x: Tensor,
        now: Pass,
        kv: Tensor,
        kernels: Kernels,
        *,
        adapter: bool,
        tap: Callable[[Tensor], None] | None,
    ) -> Tensor:
        """Inputs x [B, n, hidden]; kv [2, B, span, kv_heads, d], written at `now.slots` and read up to them, or of more
        rows, of which `now.rows`.
        """
        b, n, _ = x.shape
        qkv = self.qkv(x, adapter=adapter).view(b, n, -1, self.d)
        q = kernels.place(qkv, self.q_norm, self.k_norm, now, kv)
        if tap is not None:
            tap(q)
        return self.out(kernels.attend(q, kv, now), adapter=adapter)


class MLP(nn.Module):
    def __init__(self, config: LLMConfig) -> None:
        super().__init__()
        wide = config.intermediate
        self.gate_up = FusedLinear(config.hidden, {"gate_proj": wide, "up_proj": wide}, lora=config.lora)
        self.down = FusedLinear(wide, {"down_proj": config.hidden}, lora=config.lora)

    def forward(self, x: Tensor, kernels: Kernels, *, adapter: bool) -> Tensor:
        return self.down(kernels.gated(self.gate_up(x, adapter=adapter)), adapter=adapter)


class Layer(nn.Module):
    def __init__(self, config: LLMConfig) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden, config.norm_eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = RMSNorm(config.hidden, config.norm_eps)
        self.mlp = MLP(config)

    def forward(
        self,
        x: Tensor,
        normed: Tensor,
        now: Pass,
        kv: Tensor,
        after: RMSNorm,
        kernels: Kernels,
        *,
        adapter: bool,
        tap: Callable[[Tensor], None] | None,
    ) -> tuple[Tensor, Tensor]:
        """Inputs: the residual stream x and what `input_layernorm` makes of it -> the stream, and `after` of it."""
        heard = self.self_attn(normed, now, kv, kernels, adapter=adapter, tap=tap)
        x, normed = kernels.add_norm(x, heard, self.post_attention_layernorm)
        return kernels.add_norm(x, self.mlp(normed, kernels, adapter=adapter), after)


class Qwen3(nn.Module):
    """The decoder without its embedding table, which the model owns and shares with the output layer."""

    def __init__(self, config: LLMConfig) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.norm = RMSNorm(config.hidden, config.norm_eps)
        self.kernels: Kernels = TorchKernels()

    def prepare(self) -> None:
        """To be called once the weights are in place: merge LoRA."""
        for module in self.modules():
            if isinstance(module, FusedLinear):
                module.merge()

    def forward(
        self,
        x: Tensor,
        slots: Tensor,
        kv: Tensor,
        *,
        rows: Tensor | None = None,
        adapter: bool = True,
        tap: Tap | None = None,
    ) -> Tensor:
        """Run n tokens of each row and store their keys and values.

        x [B, n, hidden] embeddings; slots [B, n], or [1, n] if the rows agree, int64 positions that rise; kv a
        `KVCache.view` whose span reaches beyond the largest slot, of B rows, or of more, of which `rows` [B] int64 are
        meant -> [B, n, hidden], after the last norm. `tap` sees the queries on the way.
        """
        cos, sin = rope(slots, self.config.head_dim, self.config.rope_theta, x.dtype)
        bias = self.kernels.bias(slots, kv.shape[3], self.config.heads // self.config.kv_heads, x.dtype)
        now = Pass(slots, rows, cos, sin, bias)
        layers: list[Layer] = list(self.layers)  # pyright: ignore[reportAssignmentType] - what is in it
        x = x.to(stream_dtype(x.dtype))
        normed = layers[0].input_layernorm(x)
        afters = [*(layer.input_layernorm for layer in layers[1:]), self.norm]
        for number, (layer, layer_kv, after) in enumerate(zip(layers, kv, afters, strict=True)):
            seen = None if tap is None else partial(tap, number)
            x, normed = layer(x, normed, now, layer_kv, after, self.kernels, adapter=adapter, tap=seen)
        return normed


def keys_of(head: Head, kv: Tensor, config: LLMConfig) -> Tensor:
    """The keys [n, d] that a query head shares with its group, in the kv [layers, 2, n, kv_heads, d] of a row."""
    return kv[head.layer, 0, :, head.head // (config.heads // config.kv_heads)]


def look(queries: Tensor, keys: Tensor) -> Tensor:
    """Logarithm of the attention of queries [..., n, d] to keys [..., frames, d] alone: [..., n, frames] float32."""
    scores = queries.float() @ keys.float().mT
    return (scores * queries.shape[-1] ** -0.5).log_softmax(dim=-1)
