"""Greedy decoding of a batch of prompts, with drafts verified in the first pass.

    prompts + drafts --prefill, one pass--> the longest right prefix of each draft, and one token more
                     --step, step, ...----> one token per row and pass, until every row has ended

The state of a decode (last token, its position, how many tokens there are, ...) lives on the device from beginning to
end. Whether all rows have ended is looked at one step late, so that the device never waits for the host; the step
too many changes nothing. Once half of the rows have ended the others move together and the batch shrinks.

Shapes are static under CUDA graphs: rows come in powers of two, tokens and cache spans in steps. On a CPU they are
what they are, and the same code runs without graphs.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from nemo_lite.graphs import Graphs
from nemo_lite.llm import KVCache, Qwen3

SPAN_STEP = 64
"""Cache spans are multiples of this many slots."""
TOKEN_STEP = 64
"""Under static shapes, prompts are padded to multiples of this ..."""
DRAFT_STEP = 32
"""... and drafts to multiples of this."""
GRAPH_TOKENS = 4096
"""A prefill of more tokens than this keeps the device busy without a graph, and is padded as little as possible."""
LOGIT_ROWS = 512
"""Logits are computed for this many positions at a time: 152k floats each."""
PREFIXES_KEPT = 4

TEXT = -1
"""In `Row.frames`: this position is a token of text."""
FILLER = -1
"""A row that is only there because the batch has a fixed size."""


@dataclass(frozen=True, slots=True)
class Row:
    """One prompt: at each position a token id, or a row of the audio embeddings."""

    ids: np.ndarray
    """[n] int64; 0 where audio stands."""
    frames: np.ndarray
    """[n] int64 rows of the flattened audio embeddings, or TEXT."""
    draft: tuple[int, ...] = ()

    @property
    def head(self) -> int:
        """Tokens before the first audio; 0 if there is no audio."""
        audio = np.flatnonzero(self.frames != TEXT)
        return int(audio[0]) if audio.size else 0


class State(NamedTuple):
    """What a decode knows of each row, on the device."""

    token: Tensor  # [B] the last token chosen; not yet in the cache
    position: Tensor  # [B] the slot it will have there
    made: Tensor  # [B] tokens chosen so far
    limit: Tensor  # [B] tokens at most
    ended: Tensor  # [B] bool
    ids: Tensor  # [B, M] the tokens chosen; columns from `made` on mean nothing
    logprobs: Tensor  # [B, M] float32


@dataclass(frozen=True, slots=True)
class Decoded:
    ids: list[int]
    """Including the end token, if that is why it stopped."""
    logprobs: list[float]
    draft_kept: int
    """How many tokens of the draft were what greedy decoding gives."""

    @property
    def forwards(self) -> int:
        """Passes through the language model this row needed: one for prompt and draft, then one per token."""
        return len(self.ids) - self.draft_kept


class GreedyDecoder:
    """Owns the KV cache, the kept prompt prefixes and the decoding graphs of one model. One call at a time."""

    def __init__(self, llm: Qwen3, embedding: Tensor, eos_id: int, graphs: Graphs, *, static: bool) -> None:
        self.llm = llm
        self.embedding = embedding  # [vocab, hidden], also the output layer
        self.eos_id = eos_id
        self.graphs = graphs
        self.static = static
        self.cache = KVCache(llm.config, 0, embedding)
        self.prefixes: OrderedDict[tuple[int, ...], Tensor] = OrderedDict()

    def reserve(self, rows: int, span: int) -> None:
        """Make the cache large enough for so many rows of so many tokens; growing it later costs the graphs."""
        capacity = self._rows(rows) * up(span, SPAN_STEP)
        if capacity > self.cache.capacity:
            self.graphs.clear()
            self.cache = KVCache(self.llm.config, 0, self.embedding)  # let the old memory go first
            self.cache = KVCache(self.llm.config, capacity, self.embedding)

    def decode(
        self,
        rows: Sequence[Row],
        audio: Tensor,
        max_new_tokens: int,
        *,
        adapter: bool = True,
        rehearse: int | None = None,
    ) -> list[Decoded]:
        """Continue each row greedily until the end token, or for `max_new_tokens`. audio [frames, hidden].

        `rehearse` runs so many steps whatever the rows say, so that their graphs are there when they are wanted.
        """
        prefix = self._prefix(rows, adapter=adapter)  # [layers, 2, P, 1, kv_heads, d]
        first = prefix.shape[2]
        batch = self._rows(len(rows))
        drafts = [row.draft[: max_new_tokens - 1] for row in rows]
        width = max(map(len, drafts))
        reach = max(len(row.ids) + len(draft) for row, draft in zip(rows, drafts, strict=True))
        n = reach - first
        if self.static:  # the two apart, so that every prompt length meets every draft length in one shape
            longest = max(len(row.ids) for row in rows) - first
            width = up(width, DRAFT_STEP)
            n = up(longest, TOKEN_STEP) + width
            if batch * n > GRAPH_TOKENS:
                n = up(reach - first, 8)
        self.reserve(batch, max(first + n, reach + max_new_tokens))

        # everything the device needs to know, in one copy: ids | frames | draft | length, draft length, limit
        table = np.zeros((batch, 2 * n + width + 3), dtype=np.int64)
        table[:, n : 2 * n] = TEXT
        table[:, -3] = first + 1  # a row that only fills the batch: one token of text, limit 0
        for line, row, draft in zip(table, rows, drafts, strict=False):
            length = len(row.ids) - first
            line[:length] = row.ids[first:]
            line[length : length + len(draft)] = draft
            line[n : n + length] = row.frames[first:]
            line[2 * n : 2 * n + len(draft)] = draft
            line[-3:] = len(row.ids), len(draft), max_new_tokens

        self.cache.view(batch, first).copy_(prefix.expand(-1, -1, -1, batch, -1, -1))
        prefill = self._prefill(first, n, width, max(max_new_tokens, width) + 1, adapter=adapter)
        inputs = (to_device(torch.from_numpy(table), self.embedding.device), audio)
        if batch * n <= GRAPH_TOKENS:
            key = ("prefill", table.shape, first, width, max_new_tokens, audio.shape, adapter)
            state = State(*self.graphs(key, prefill, *inputs))
        else:
            state = State(*prefill(*inputs))
        kept = state.made - 1  # of the drafts

        origin = [*range(len(rows)), *[FILLER] * (batch - len(rows))]  # which row of the call a row is
        results: list[tuple[list[int], Tensor, Tensor, Tensor]] = []
        looks = [Look(state.ended)]
        for _ in range(max_new_tokens - 1 if rehearse is None else rehearse):
            if len(looks) > self.lag and rehearse is None:
                ended = looks.pop(0).result()
                alive = [i for i in range(len(origin)) if origin[i] != FILLER and not ended[i]]
                if not alive:
                    break
                batch = self._rows(len(alive))
                if batch <= len(origin) // 2:
                    results.append((origin, state.ids.clone(), state.logprobs.clone(), state.made.clone()))
                    chosen = alive + [i for i in range(len(origin)) if i not in alive][: batch - len(alive)]
                    index = to_device(torch.tensor(chosen), self.embedding.device)
                    self.cache.keep(len(origin), index, up(reach, SPAN_STEP))
                    state = State(*(tensor.index_select(0, index) for tensor in state))
                    origin = [origin[i] if i in alive else FILLER for i in chosen]
                    looks.clear()
            span = up(reach + 1, SPAN_STEP)
            key = ("step", len(origin), span, state.ids.shape[1], adapter)
            state = State(*self.graphs(key, self._step(span, adapter=adapter), *state))
            looks.append(Look(state.ended))
            reach += 1
        results.append((origin, state.ids, state.logprobs, state.made))
        return _read(results, kept)

    @property
    def lag(self) -> int:
        return 1 if self.embedding.is_cuda else 0

    def _rows(self, rows: int) -> int:
        return 1 << (rows - 1).bit_length() if self.static else rows

    def _prefix(self, rows: Sequence[Row], *, adapter: bool) -> Tensor:
        """Keys and values of the tokens all rows start with, before their audio: computed once per prompt."""
        heads = [row.ids[: row.head] for row in rows]
        shared = heads[0][: min(map(len, heads))]
        same = np.all([head[: len(shared)] == shared for head in heads], axis=0)
        shared = shared[: int(np.argmin(np.append(same, False)))]
        key = (int(adapter), *shared.tolist())
        if key not in self.prefixes:
            self.reserve(1, len(shared))
            kv = self.cache.view(1, len(shared))
            if len(shared):
                ids = to_device(torch.from_numpy(shared), self.embedding.device)[None]
                slots = torch.arange(len(shared), device=ids.device)[None]
                self.llm(F.embedding(ids, self.embedding), slots, kv, adapter=adapter)
            self.prefixes[key] = kv.clone()
            if len(self.prefixes) > PREFIXES_KEPT:
                self.prefixes.popitem(last=False)
        self.prefixes.move_to_end(key)
        return self.prefixes[key]

    def _prefill(self, first: int, n: int, width: int, columns: int, *, adapter: bool) -> Callable[..., State]:
        def prefill(table: Tensor, audio: Tensor) -> State:
            ids, frames, draft = table[:, :n], table[:, n : 2 * n], table[:, 2 * n : 2 * n + width]
            length, drafted, limit = table[:, -3:].unbind(1)
            x = torch.where((frames == TEXT)[:, :, None], F.embedding(ids, self.embedding), audio[frames.clamp(min=0)])
            slots = torch.arange(first, first + n, device=table.device)[None]
            kv = self.cache.view(table.shape[0], up(first + n, SPAN_STEP))
            hidden = self.llm(x, slots, kv, adapter=adapter)

            # the outputs at the prompt's last token and at every token of the draft
            column = torch.arange(width + 1, device=table.device)
            at = (length[:, None] - first - 1 + column).clamp(max=n - 1)
            chosen, logprob = self._choose(hidden.gather(1, at[:, :, None].expand(-1, -1, hidden.shape[2])))
            right = (chosen[:, :width] == draft) & (column[:width] < drafted[:, None])
            kept = right.cumprod(1).sum(1)  # up to the first wrong one
            token = chosen.gather(1, kept[:, None])[:, 0]
            count = kept + 1
            ended = (token == self.eos_id) | (count >= limit)
            spare = (0, columns - width - 1)
            return State(token, length + kept, count, limit, ended, F.pad(chosen, spare), F.pad(logprob, spare))

        return prefill

    def _step(self, span: int, *, adapter: bool) -> Callable[..., State]:
        def step(*tensors: Tensor) -> State:
            state = State(*tensors)
            kv = self.cache.view(state.token.shape[0], span)
            x = F.embedding(state.token[:, None], self.embedding)
            chosen, logprob = self._choose(self.llm(x, state.position[:, None], kv, adapter=adapter))
            # a row that has ended goes on computing, and writes where nobody reads
            column = state.made[:, None]
            state.ids.scatter_(1, column, chosen)
            state.logprobs.scatter_(1, column, logprob)
            state.token.copy_(chosen[:, 0])
            state.position.add_(~state.ended)
            state.made.add_(~state.ended)
            state.ended.logical_or_((state.token == self.eos_id) | (state.made >= state.limit))
            return state

        return step

    def _choose(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """The likeliest token at each position and its log-probability: [B, k, hidden] -> [B, k] int64, [B, k]."""
        ids, logprobs = [], []
        for rows in hidden.flatten(0, 1).split(LOGIT_ROWS):
            logits = F.linear(rows, self.embedding).float()
            best, chosen = logits.max(dim=-1)
            ids.append(chosen)
            logprobs.append(best - logits.logsumexp(dim=-1))
        return torch.cat(ids).view(hidden.shape[:2]), torch.cat(logprobs).view(hidden.shape[:2])


class Look:
    """The `ended` flags as they were at this point of the device's work, readable once it got there."""

    def __init__(self, ended: Tensor) -> None:
        self.flags = to_host(ended)
        self.event = torch.cuda.Event() if ended.is_cuda else None
        if self.event:
            self.event.record()

    def result(self) -> list[bool]:
        if self.event:
            self.event.synchronize()
        return self.flags.tolist()


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy without waiting. torch's host allocator reuses the pinned source only after the copy has run."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def to_host(tensor: Tensor) -> Tensor:
    """Begin to copy to pinned memory; to be read after an event recorded next. On a CPU, a plain copy."""
    if not tensor.is_cuda:
        return tensor.clone()
    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor, non_blocking=True)


def up(n: int, step: int) -> int:
    return -(-n // step) * step


def _read(results: list[tuple[list[int], Tensor, Tensor, Tensor]], kept: Tensor) -> list[Decoded]:
    kept_of = kept.tolist()
    decoded: dict[int, Decoded] = {}
    for origin, ids, logprobs, counts in results:  # a row that moved on is overwritten by its later state
        for row, row_ids, row_logprobs, count in zip(
            origin, ids.tolist(), logprobs.tolist(), counts.tolist(), strict=True
        ):
            if row != FILLER:
                decoded[row] = Decoded(row_ids[:count], row_logprobs[:count], kept_of[row])
    return [decoded[row] for row in range(len(decoded))]
