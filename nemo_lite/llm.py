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

from nemo_lite.config import LLMConfig
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
        rope: tuple[Tensor, Tensor],
        bias: Tensor,
        slots: Tensor,
        kv: Tensor,
        rows: Tensor | None,
        *,
        adapter: bool,
        tap: Callable[[Tensor], None] | None,
    ) -> Tensor:
        """Inputs x [B, n, hidden]; rope cos, sin [B or 1, n, 1, d]; bias [B or 1, 1, G * n, span]; slots [B or 1, n];
        kv [2, B, span, kv_heads, d], written at `slots` and read as a whole, or of more rows, of which `rows` [B].
        """
        b, n, _ = x.shape
        qkv = self.qkv(x, adapter=adapter).view(b, n, -1, self.d)
        q, k, v = qkv.split([self.heads, self.kv_heads, self.kv_heads], dim=2)
        q, k = rotate(self.q_norm(q), *rope), rotate(self.k_norm(k), *rope)

        place = (torch.arange(b, device=x.device) if rows is None else rows)[:, None]
        kv[0].index_put_((place, slots), k)
        kv[1].index_put_((place, slots), v)
        if tap is not None:
            tap(q)

        # the G query heads that share a key head become G * n queries of one head: nothing is repeated in memory
        group = self.heads // self.kv_heads
        q = (
            q.view(b, n, self.kv_heads, group, self.d)
            .permute(0, 2, 3, 1, 4)
            .reshape(b, self.kv_heads, group * n, self.d)
        )
        kv = kv if rows is None else kv.index_select(1, rows)
        keys, values = kv.transpose(2, 3)  # each [B, kv_heads, span, d]
        out = F.scaled_dot_product_attention(q, keys, values, attn_mask=bias)
        out = out.view(b, self.kv_heads, group, n, self.d).permute(0, 3, 1, 2, 4).reshape(b, n, -1)
        return self.out(out, adapter=adapter)


class MLP(nn.Module):
    def __init__(self, config: LLMConfig) -> None:
        super().__init__()
        wide = config.intermediate
        self.gate_up = FusedLinear(config.hidden, {"gate_proj": wide, "up_proj": wide}, lora=config.lora)
        self.down = FusedLinear(wide, {"down_proj": config.hidden}, lora=config.lora)

    def forward(self, x: Tensor, *, adapter: bool) -> Tensor:
        gate, up = self.gate_up(x, adapter=adapter).chunk(2, dim=-1)
        return self.down(F.silu(gate) * up, adapter=adapter)


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
        rope: tuple[Tensor, Tensor],
        bias: Tensor,
        slots: Tensor,
        kv: Tensor,
        rows: Tensor | None,
        *,
        adapter: bool,
        tap: Callable[[Tensor], None] | None,
    ) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), rope, bias, slots, kv, rows, adapter=adapter, tap=tap)
        return x + self.mlp(self.post_attention_layernorm(x), adapter=adapter)


class Qwen3(nn.Module):
    """The decoder without its embedding table, which the model owns and shares with the output layer."""

    def __init__(self, config: LLMConfig) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.norm = RMSNorm(config.hidden, config.norm_eps)

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

        x [B, n, hidden] embeddings; slots [B, n], or [1, n] if the rows agree, int64 positions; kv a `KVCache.view`
        whose span reaches beyond the largest slot, of B rows, or of more, of which `rows` [B] int64 are meant
        -> [B, n, hidden], after the last norm. `tap` sees the queries on the way.
        """
        d, group = self.config.head_dim, self.config.heads // self.config.kv_heads
        half = torch.arange(0, d, 2, device=x.device, dtype=torch.float32)
        angle = slots[:, :, None, None].float() * (1.0 / self.config.rope_theta ** (half / d))  # [B or 1, n, 1, d / 2]
        cos, sin = angle.cos(), angle.sin()
        rope = torch.cat([cos, cos], dim=-1).to(x.dtype), torch.cat([-sin, sin], dim=-1).to(x.dtype)
        span = kv.shape[3]
        visible = torch.arange(span, device=x.device) <= slots[:, :, None]  # [B or 1, n, span]
        bias = torch.zeros_like(visible, dtype=x.dtype).masked_fill(~visible, float("-inf"))
        bias = bias[:, None, None].expand(-1, 1, group, -1, -1).reshape(slots.shape[0], 1, -1, span)
        if x.dtype == torch.float16:
            x = x.float()  # the sum over the layers outgrows 65,504 where each summand does not
        for number, (layer, layer_kv) in enumerate(zip(self.layers, kv, strict=True)):
            seen = None if tap is None else partial(tap, number)
            x = layer(x, rope, bias, slots, layer_kv, rows, adapter=adapter, tap=seen)
        return self.norm(x)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of x [B, n, heads, d]; `sin` has its first half negated."""
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, dims=-1), sin)


def look(queries: Tensor, keys: Tensor) -> Tensor:
    """Logarithm of the attention of queries [..., n, d] to keys [..., frames, d] alone: [..., n, frames] float32."""
    scores = queries.float() @ keys.float().mT
    return (scores * queries.shape[-1] ** -0.5).log_softmax(dim=-1)
