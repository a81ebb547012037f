"""Kernels for the language model in Triton: what `TorchKernels` computes, in fewer launches and without a mask.

Imported only where it is used: Triton comes with torch for CUDA. The shapes decide alone how a kernel is launched, and
what it does with data (how many keys a row has) it finds out on the device, so all of them can be captured in CUDA
graphs. Sums, norms and the softmax are in float32, whatever the precision; what PyTorch rounds between two of its
operations is rounded here too where that is a stored value of the model.
"""

# Triton compiles what is written here by its own rules: pointers and blocks without types, constants in capitals.
# ruff: noqa: ANN001, ANN202, N803
# pyright: basic, reportIndexIssue=false, reportCallIssue=false, reportArgumentType=false
from itertools import product
from typing import TYPE_CHECKING

import torch
import triton
from torch import Tensor
from triton import language as tl

from nemo_lite.kernels import Pass

if TYPE_CHECKING:
    from nemo_lite.config import LLMConfig
    from nemo_lite.llm import RMSNorm

PROGRAMS = 264
"""Programs that a GPU is given, if the keys can be split for it: two for each of an H100's 132 processors."""
MOST_SPLITS = 8
KEYS = 64
"""Keys that a program takes in at a time."""
LEAST_QUERIES, MOST_QUERIES = 16, 64
"""Likewise of queries."""


class TritonKernels:
    """Fused kernels; see `kernels.Kernels` for what each computes."""

    name = "triton"

    def bias(self, slots: Tensor, span: int, group: int, dtype: torch.dtype) -> Tensor | None:
        """No mask: a query's position says how many keys it sees."""
        del slots, span, group, dtype
        return None

    def place(self, qkv: Tensor, q_norm: "RMSNorm", k_norm: "RMSNorm", now: Pass, kv: Tensor) -> Tensor:
        b, n, heads, d = qkv.shape
        kv_heads = kv.shape[3]
        q = qkv.new_empty(b, n, heads - 2 * kv_heads, d)
        cos, sin, slots, rows = _wide(now.cos, b), _wide(now.sin, b), _wide(now.slots, b), now.rows
        _place[(b * n, heads)](
            qkv,
            q_norm.weight,
            k_norm.weight,
            cos,
            sin,
            slots,
            slots if rows is None else rows,
            q,
            kv[0],
            kv[1],
            n,
            cos.stride(0),
            slots.stride(0),
            _slots_per_row(kv),
            q_norm.eps,
            HEADS=q.shape[2],
            KV_HEADS=kv_heads,
            D=d,
            BLOCK=triton.next_power_of_2(d),
            ROWS=rows is not None,
            num_warps=1,
        )
        return q

    def attend(self, q: Tensor, kv: Tensor, now: Pass) -> Tensor:
        b, n, heads, _ = q.shape
        kv_heads = kv.shape[3]
        group = heads // kv_heads
        block = min(MOST_QUERIES, max(LEAST_QUERIES, triton.next_power_of_2(n * group)))
        programs = b * kv_heads * triton.cdiv(n * group, block)
        return self._attend(q, kv, now, block, _splits(programs, triton.cdiv(kv.shape[2], KEYS)))

    def meet(self, config: "LLMConfig", dtype: torch.dtype, device: torch.device) -> None:
        q = torch.zeros(1, 1, config.heads, config.head_dim, dtype=dtype, device=device)
        kv = q.new_zeros(2, 1, KEYS, config.kv_heads, config.head_dim)
        slots = torch.zeros(1, 1, dtype=torch.int64, device=device)
        for rows in (None, slots[0]):
            now = Pass(slots, rows, q, q, None)
            for block, splits in product(_doubled(LEAST_QUERIES, MOST_QUERIES), _doubled(1, MOST_SPLITS)):
                self._attend(q, kv, now, block, splits)

    def _attend(self, q: Tensor, kv: Tensor, now: Pass, block: int, splits: int) -> Tensor:
        """Attention in tiles of so many queries, the keys in so many parts."""
        b, n, heads, d = q.shape
        kv_heads = kv.shape[3]
        group = heads // kv_heads
        slots, rows = _wide(now.slots, b), now.rows
        tiles = triton.cdiv(n * group, block)
        out = torch.empty_like(q)
        parts = q.new_empty(splits, b, n, heads, d, dtype=torch.float32) if splits > 1 else out
        weights = q.new_empty(2, splits, b, n, heads, dtype=torch.float32) if splits > 1 else out
        shape = {"KV_HEADS": kv_heads, "GROUP": group, "D": d, "BLOCK_D": max(16, triton.next_power_of_2(d))}
        _attend[(tiles, b * kv_heads, splits)](
            q,
            kv[0],
            kv[1],
            slots,
            slots if rows is None else rows,
            out,
            parts,
            weights,
            n,
            b,
            slots.stride(0),
            _slots_per_row(kv),
            d**-0.5,
            **shape,
            BLOCK_M=block,
            BLOCK_N=KEYS,
            SPLITS=splits,
            ROWS=rows is not None,
            num_warps=4,
        )
        if splits > 1:
            _join[(b * n * heads,)](
                parts, weights, out, b * n * heads, D=d, BLOCK_D=shape["BLOCK_D"], SPLITS=splits, num_warps=1
            )
        return out.view(b, n, heads * d)

    def gated(self, gate_up: Tensor) -> Tensor:
        wide = gate_up.shape[-1] // 2
        out = gate_up.new_empty(*gate_up.shape[:-1], wide)
        block = 1024
        _gated[(gate_up.numel() // gate_up.shape[-1], triton.cdiv(wide, block))](
            gate_up, out, WIDE=wide, BLOCK=block, num_warps=4
        )
        return out

    def add_norm(self, x: Tensor, y: Tensor, norm: "RMSNorm") -> tuple[Tensor, Tensor]:
        size = x.shape[-1]
        total, normed = torch.empty_like(x), torch.empty_like(x, dtype=norm.weight.dtype)
        block = triton.next_power_of_2(size)
        _add_norm[(x.numel() // size,)](
            x, y, norm.weight, total, normed, norm.eps, SIZE=size, BLOCK=block, num_warps=8 if block >= 2048 else 4
        )
        return total, normed


def _wide(x: Tensor, rows: int) -> Tensor:
    """The same for so many rows, without a copy: one that all share has a stride of 0."""
    return x.expand(rows, *x.shape[1:])


def _slots_per_row(kv: Tensor) -> int:
    """Of [2, rows, span, kv_heads, d], which may be a part of the cache."""
    return kv.stride(1) // kv.stride(2)


def _doubled(first: int, last: int) -> list[int]:
    """Powers of two."""
    return [first << i for i in range((last // first).bit_length())]


def _splits(programs: int, blocks: int) -> int:
    """Parts of the keys that a GPU would otherwise not be busy with; a power of two: each is a kernel of its own."""
    splits = 1
    while splits < min(MOST_SPLITS, blocks) and programs * splits < PROGRAMS:
        splits *= 2
    return splits


@triton.jit(do_not_specialize=["n", "rope_stride", "slots_stride", "slots_per_row"])
def _place(
    qkv,
    q_weight,
    k_weight,
    cos,
    sin,
    slots,
    rows,
    q,
    keys,
    values,
    n,
    rope_stride,
    slots_stride,
    slots_per_row,
    eps,
    HEADS: tl.constexpr,
    KV_HEADS: tl.constexpr,
    D: tl.constexpr,
    BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
):
    """One head of one token: normalise and rotate a query or key, and put keys and values into the cache."""
    token, head = tl.program_id(0), tl.program_id(1)
    b, i = token // n, token % n
    row = (tl.load(rows + b) if ROWS else b).to(tl.int64)
    slot = tl.load(slots + b * slots_stride + i)
    cached = (row * slots_per_row + slot) * (KV_HEADS * D)
    at = tl.arange(0, BLOCK)
    there = at < D
    source = qkv + (token.to(tl.int64) * (HEADS + 2 * KV_HEADS) + head) * D
    x = tl.load(source + at, mask=there, other=0.0)
    if head >= HEADS + KV_HEADS:
        tl.store(values + cached + (head - HEADS - KV_HEADS) * D + at, x, mask=there)
    else:
        other = (at + D // 2) % D
        weight = q_weight if head < HEADS else k_weight
        scale = tl.rsqrt(tl.sum(x.to(tl.float32) * x.to(tl.float32), axis=0) / D + eps)
        mine = (x.to(tl.float32) * scale * tl.load(weight + at, mask=there, other=0.0).to(tl.float32)).to(x.dtype)
        x2 = tl.load(source + other, mask=there, other=0.0).to(tl.float32)
        theirs = (x2 * scale * tl.load(weight + other, mask=there, other=0.0).to(tl.float32)).to(x.dtype)
        angle = b * rope_stride + i * D + at
        c = tl.load(cos + angle, mask=there, other=0.0).to(tl.float32)
        s = tl.load(sin + angle, mask=there, other=0.0).to(tl.float32)
        rotated = (mine.to(tl.float32) * c + theirs.to(tl.float32) * s).to(x.dtype)
        if head < HEADS:
            tl.store(q + (token.to(tl.int64) * HEADS + head) * D + at, rotated, mask=there)
        else:
            tl.store(keys + cached + (head - HEADS) * D + at, rotated, mask=there)


@triton.jit(do_not_specialize=["n", "batch", "slots_stride", "slots_per_row"])
def _attend(
    q,
    keys,
    values,
    slots,
    rows,
    out,
    parts,
    weights,
    n,
    batch,
    slots_stride,
    slots_per_row,
    scale,
    KV_HEADS: tl.constexpr,
    GROUP: tl.constexpr,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    SPLITS: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Flash attention (Dao 2022, arXiv 2205.14135) of some queries of a row to a part of its keys, one key head.

    The query heads that share the key head are queries of one tile. A query sees the slots up to its own, and what lies
    behind the last query's is not read. With several parts each leaves its sum, its maximum and its weight (Flash-
    Decoding), which `_join` puts together.
    """
    tile, b, split = tl.program_id(0), tl.program_id(1) // KV_HEADS, tl.program_id(2)
    kv_head = tl.program_id(1) % KV_HEADS
    m = tile * BLOCK_M + tl.arange(0, BLOCK_M)
    wanted = m < n * GROUP
    token = b.to(tl.int64) * n + m // GROUP
    head = kv_head * GROUP + m % GROUP
    at = tl.arange(0, BLOCK_D)
    mine = (token * (KV_HEADS * GROUP) + head)[:, None] * D + at[None, :]
    here = wanted[:, None] & (at < D)[None, :]
    queries = tl.load(q + mine, mask=here, other=0.0)
    slot = tl.load(slots + b * slots_stride + m // GROUP, mask=wanted, other=0)
    length = tl.max(slot, axis=0) + 1
    part = tl.cdiv(tl.cdiv(length, BLOCK_N), SPLITS) * BLOCK_N
    first = split * part
    last = tl.minimum(first + part, length)
    row = (tl.load(rows + b) if ROWS else b).to(tl.int64)
    base = row * slots_per_row * (KV_HEADS * D) + kv_head * D

    most = tl.full([BLOCK_M], float("-inf"), tl.float32)
    weight = tl.zeros([BLOCK_M], tl.float32)
    total = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    for start in range(first, last, BLOCK_N):
        key = start + tl.arange(0, BLOCK_N)
        there = (key < last)[:, None] & (at < D)[None, :]
        place = base + key[:, None] * (KV_HEADS * D) + at[None, :]
        k = tl.load(keys + place, mask=there, other=0.0)
        scores = tl.dot(queries, tl.trans(k), input_precision="ieee") * scale
        seen = (key[None, :] <= slot[:, None]) & (key < last)[None, :]
        scores = tl.where(seen, scores, float("-inf"))
        larger = tl.maximum(most, tl.max(scores, axis=1))
        safe = tl.where(larger == float("-inf"), 0.0, larger)  # nothing seen yet: -inf less -inf is no number
        shrink = tl.exp(most - safe)
        p = tl.exp(scores - safe[:, None])
        v = tl.load(values + place, mask=there, other=0.0)
        total = total * shrink[:, None] + tl.dot(p.to(v.dtype), v, input_precision="ieee")
        weight = weight * shrink + tl.sum(p, axis=1)
        most = larger
    if SPLITS == 1:
        tl.store(out + mine, (total / weight[:, None]).to(out.dtype.element_ty), mask=here)
    else:
        lines = batch * n * (KV_HEADS * GROUP)
        line = split.to(tl.int64) * lines + token * (KV_HEADS * GROUP) + head
        tl.store(parts + line[:, None] * D + at[None, :], total, mask=here)
        tl.store(weights + line, most, mask=wanted)
        tl.store(weights + SPLITS * lines + line, weight, mask=wanted)


@triton.jit(do_not_specialize=["lines"])
def _join(parts, weights, out, lines, D: tl.constexpr, BLOCK_D: tl.constexpr, SPLITS: tl.constexpr):
    """What the parts of the keys gave to one head of one token, put together."""
    line = tl.program_id(0).to(tl.int64)
    split = tl.arange(0, SPLITS)
    at = tl.arange(0, BLOCK_D)
    most = tl.load(weights + split * lines + line)
    weight = tl.load(weights + (SPLITS + split) * lines + line)
    share = tl.exp(most - tl.max(most, axis=0))  # 0 for a part that saw nothing
    place = (split * lines + line)[:, None] * D + at[None, :]
    part = tl.load(parts + place, mask=(at < D)[None, :], other=0.0)
    total = tl.sum(part * share[:, None], axis=0) / tl.sum(weight * share, axis=0)
    tl.store(out + line * D + at, total.to(out.dtype.element_ty), mask=at < D)


@triton.jit
def _gated(gate_up, out, WIDE: tl.constexpr, BLOCK: tl.constexpr):
    """SiLU of the first half times the second."""
    line = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    there = at < WIDE
    gate = tl.load(gate_up + line * (2 * WIDE) + at, mask=there, other=0.0)
    up = tl.load(gate_up + line * (2 * WIDE) + WIDE + at, mask=there, other=0.0)
    x = gate.to(tl.float32)
    silu = (x / (1.0 + tl.exp(-x))).to(gate.dtype)
    tl.store(out + line * WIDE + at, (silu.to(tl.float32) * up.to(tl.float32)).to(gate.dtype), mask=there)


@triton.jit
def _add_norm(x, y, weight, total, normed, eps, SIZE: tl.constexpr, BLOCK: tl.constexpr):
    """The sum of two, in the precision of the first, and what its norm makes of it."""
    line = tl.program_id(0).to(tl.int64) * SIZE
    at = tl.arange(0, BLOCK)
    there = at < SIZE
    mine = tl.load(x + line + at, mask=there, other=0.0)
    more = tl.load(y + line + at, mask=there, other=0.0)
    both = (mine.to(tl.float32) + more.to(tl.float32)).to(mine.dtype)
    tl.store(total + line + at, both, mask=there)
    wide = both.to(tl.float32)
    scale = tl.rsqrt(tl.sum(wide * wide, axis=0) / SIZE + eps)
    w = tl.load(weight + at, mask=there, other=0.0)
    tl.store(normed + line + at, (wide * scale * w.to(tl.float32)).to(w.dtype), mask=there)
