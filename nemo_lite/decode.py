"""Greedy decoding of a batch of prompts, with drafts verified along the way.

    prompts + drafts --prefill, one pass--> the longest right prefix of each draft, and one token more
                     --wide steps---------> what is left of a draft behind a wrong token, AHEAD tokens at a time
                     --steps--------------> one token per row and pass, until every row has ended

A token of a draft is kept only if greedy decoding gives that very token there: speculative decoding (Leviathan et al.
2023, arXiv 2211.17192) for temperature 0. One wrong token need not end a draft: an old hypothesis often differs from
the new one in the middle only, by a word put in, left out or replaced, so the draft is taken up again behind the token
that came instead.

The state of a decode (last token, its position, how many tokens there are, ...) lives on the device from beginning to
end. Whether all rows have ended is looked at one step late, so that the device never waits for the host; the step
too many changes nothing. Once half of the rows have ended the others move together and the batch shrinks.

Shapes are static under CUDA graphs: rows come in powers of two, tokens and cache spans in steps. On a CPU they are
what they are, and the same code runs without graphs.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from nemo_lite.device import to_device, to_host
from nemo_lite.graphs import Graphs
from nemo_lite.llm import KVCache, Qwen3

SPAN_STEP = 64
"""Cache spans are multiples of this many slots."""
TOKEN_STEP = 64
"""Under static shapes, prompts and each row's audio are padded to multiples of this ..."""
DRAFT_STEP = 32
"""... and drafts to multiples of this."""
GRAPH_TOKENS = 4096
"""A prefill of more tokens than this keeps the device busy without a graph, and is padded as little as possible."""
AHEAD = 8
"""Tokens of a draft that a wide step verifies."""
PATIENCE = 2
"""A draft is given up after this many passes in a row that kept nothing of it."""
TAKE_UP = (0, 1, 2, 3, 4, -1, -2, -3)
"""Where the token that came is looked for in the draft, from where it was expected; first found, first taken."""
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
    kept: Tensor  # [B] of these, tokens of the draft
    limit: Tensor  # [B] tokens at most
    ended: Tensor  # [B] bool
    draft: Tensor  # [B, W]
    drafted: Tensor  # [B] tokens in it; lowered to give the draft up
    cursor: Tensor  # [B] the draft's token that is expected next
    misses: Tensor  # [B] passes in a row that kept nothing of it
    ids: Tensor  # [B, M] the tokens chosen; columns from `made` on mean nothing
    logprobs: Tensor  # [B, M] float32
    broken: Tensor  # [B] bool: something was computed for this row that is no number


@dataclass(frozen=True, slots=True)
class Decoded:
    ids: list[int]
    """Including the end token, if that is why it stopped."""
    logprobs: list[float]
    draft_kept: int
    """How many tokens of the draft were what greedy decoding gives."""
    overflowed: bool = False
    """The numbers overflowed after these tokens; there is nothing to go on with."""

    @property
    def forwards(self) -> int:
        """Passes through the language model: each yields one token besides those of the draft."""
        return len(self.ids) - self.draft_kept


class GreedyDecoder:
    """Owns the KV cache, the kept prompt prefixes and the decoding graphs of one model. One call at a time."""

    def __init__(self, llm: Qwen3, embedding: Tensor, eos_id: int, graphs: Graphs, *, static: bool) -> None:
        self.llm = llm
        self.embedding = embedding  # [vocab, hidden], also the output layer
        self.eos_id = eos_id
        self.graphs = graphs
        self.static = static
        self.take_up = torch.tensor(TAKE_UP, device=embedding.device)
        self.cache = KVCache(llm.config, 0, embedding)
        self.prefixes: OrderedDict[tuple[int, ...], Tensor] = OrderedDict()

    def reserve(self, rows: int, span: int) -> None:
        """Make the cache large enough for so many rows of so many tokens; growing it later costs the graphs."""
        capacity = self._rows(rows) * up(span, SPAN_STEP)
        if capacity > self.cache.capacity:
            self.forget()  # let the old memory go first
            self.cache = KVCache(self.llm.config, capacity, self.embedding)

    def forget(self) -> None:
        """Let the cache's memory go, and the graphs that know its place."""
        self.graphs.clear()
        self.cache = KVCache(self.llm.config, 0, self.embedding)

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
            audio = F.pad(audio, (0, 0, 0, -len(audio) % (batch * TOKEN_STEP)))  # fewer shapes, fewer graphs
        furthest = max(len(row.ids) for row in rows) + max_new_tokens  # no row's position comes here
        self.reserve(batch, max(first + n, furthest + AHEAD + 1))

        table = _table(rows, drafts, batch, first, n, width, max_new_tokens)
        self.cache.view(batch, first).copy_(prefix.expand(-1, -1, -1, batch, -1, -1))
        # Steps work on drafts of one width, whatever that of this prefill: fewer shapes again.
        room = up(max_new_tokens, DRAFT_STEP) if self.static else max(width, 1)
        prefill = self._prefill(first, n, width, room, max(max_new_tokens, width) + 1, adapter=adapter)
        inputs = (to_device(torch.from_numpy(table), self.embedding.device), audio)
        if batch * n <= GRAPH_TOKENS:
            key = ("prefill", table.shape, first, width, max_new_tokens, audio.shape, adapter)
            state = State(*self.graphs(key, prefill, *inputs))
        else:
            state = State(*prefill(*inputs))

        origin = [*range(len(rows)), *[FILLER] * (batch - len(rows))]  # which row of the call a row is
        results: list[tuple[list[int], State]] = []
        looks = [Look(state)]
        wide = width > 0
        for step in range(max_new_tokens - 1 if rehearse is None else rehearse):
            if rehearse is not None:
                wide = width > 0 and step % 2 == 0
            elif len(looks) > self.lag:
                ended, drafting = looks.pop(0).result()
                alive = [i for i in range(len(origin)) if origin[i] != FILLER and not ended[i]]
                if not alive:
                    break
                wide = any(drafting)
                batch = self._rows(len(alive))
                if batch <= len(origin) // 2:
                    results.append((origin, State(*(tensor.clone() for tensor in state))))
                    chosen = alive + [i for i in range(len(origin)) if i not in alive][: batch - len(alive)]
                    index = to_device(torch.tensor(chosen), self.embedding.device)
                    self.cache.keep(len(origin), index, up(reach, SPAN_STEP))
                    state = State(*(tensor.index_select(0, index) for tensor in state))
                    origin = [origin[i] if i in alive else FILLER for i in chosen]
                    looks.clear()
            ahead = AHEAD if wide else 0
            span = up(reach + ahead + 1, SPAN_STEP)
            key = ("step", len(origin), ahead, span, state.draft.shape[1], state.ids.shape[1], adapter)
            state = State(*self.graphs(key, self._step(ahead, span, adapter=adapter), *state))
            looks.append(Look(state))
            reach = min(reach + ahead + 1, furthest)
        results.append((origin, state))
        if any(bool(state.broken.any()) for _, state in results):
            # What is stale is masked with weight 0, but 0 * NaN is NaN: it would stay for every call to come.
            self.cache.memory.zero_()
        return _read(results)

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

    def _prefill(
        self, first: int, n: int, width: int, room: int, columns: int, *, adapter: bool
    ) -> Callable[..., State]:
        def prefill(table: Tensor, audio: Tensor) -> State:
            ids, frames, draft = table[:, :n], table[:, n : 2 * n], table[:, 2 * n : 2 * n + width]
            length, drafted, limit = table[:, -3:].unbind(1)
            x = torch.where((frames == TEXT)[:, :, None], F.embedding(ids, self.embedding), audio[frames.clamp(min=0)])
            slots = torch.arange(first, first + n, device=table.device)[None]
            kv = self.cache.view(table.shape[0], up(first + n, SPAN_STEP))
            hidden = self.llm(x, slots, kv, adapter=adapter)

            # the outputs at the prompt's last token and at every token of the draft
            at = (length[:, None] - first - 1 + torch.arange(width + 1, device=table.device)).clamp(max=n - 1)
            chosen, logprob = self._choose(hidden.gather(1, at[:, :, None].expand(-1, -1, hidden.shape[2])))
            nothing = torch.zeros_like(length)
            state = State(
                token=nothing,
                position=length - 1,
                made=nothing,
                kept=nothing,
                limit=limit,
                ended=limit < 1,
                draft=F.pad(draft, (0, room - width)),
                drafted=drafted,
                cursor=nothing,
                misses=nothing,
                ids=chosen.new_zeros(chosen.shape[0], columns),
                logprobs=logprob.new_zeros(chosen.shape[0], columns),
                broken=_broken(hidden),
            )
            # each its own memory: they are changed in place from here on
            return self._advance(State(*(tensor.clone() for tensor in state)), chosen, logprob)

        return prefill

    def _step(self, ahead: int, span: int, *, adapter: bool) -> Callable[..., State]:
        def step(*tensors: Tensor) -> State:
            state = State(*tensors)
            kv = self.cache.view(state.token.shape[0], span)
            more = torch.arange(ahead, device=state.token.device)
            expected = state.draft.gather(1, (state.cursor[:, None] + more).clamp(max=state.draft.shape[1] - 1))
            ids = torch.cat([state.token[:, None], expected], dim=1)
            slots = state.position[:, None] + torch.arange(ahead + 1, device=ids.device)
            hidden = self.llm(F.embedding(ids, self.embedding), slots, kv, adapter=adapter)
            state.broken.logical_or_(_broken(hidden))
            return self._advance(state, *self._choose(hidden))

        return step

    def _advance(self, state: State, chosen: Tensor, logprob: Tensor) -> State:
        """Take what is right of the next k tokens of each draft, and one token more; in place.

        chosen, logprob [B, k + 1]: what greedy decoding gives after the last token, and after each of the k. A row that
        has ended goes on computing, and writes where nobody reads.
        """
        k, last = chosen.shape[1] - 1, state.draft.shape[1] - 1
        alive = ~state.ended
        place = torch.arange(k + 1, device=chosen.device)
        at = state.cursor[:, None] + place[:k]
        offered = (at < state.drafted[:, None]) & (state.made[:, None] + place[:k] + 1 < state.limit[:, None])
        right = (chosen[:, :k] == state.draft.gather(1, at.clamp(max=last))) & offered
        run = right.cumprod(1).sum(1)  # up to the first wrong one
        token = chosen.gather(1, run[:, None])[:, 0]

        columns = (state.made[:, None] + place).clamp(max=state.ids.shape[1] - 1)  # the last one is spare
        state.ids.scatter_(1, columns, chosen)
        state.logprobs.scatter_(1, columns, logprob)
        state.token.copy_(token)
        state.kept.add_(run * alive)
        state.made.add_((run + 1) * alive)
        state.position.add_((run + 1) * alive)
        state.ended.logical_or_((token == self.eos_id) | (state.made >= state.limit) | state.broken)

        # where the draft goes on: behind the token that came, if it stands near where it was expected, else one further
        expected = state.cursor + run
        near = expected[:, None] + self.take_up
        found = (state.draft.gather(1, near.clamp(0, last)) == token[:, None]) & (near >= 0)
        found &= near < state.drafted[:, None]
        found = torch.cat([found, torch.ones_like(found[:, :1])], dim=1)
        near = torch.cat([near, expected[:, None]], dim=1)
        state.cursor.copy_(near.gather(1, found.int().argmax(1, keepdim=True))[:, 0] + 1)
        missed = offered.any(1) & (run == 0)
        state.misses.copy_((state.misses + 1) * missed)
        state.drafted.mul_(state.misses < PATIENCE)
        return state

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
    """Which rows have ended and which have draft left, at this point of the work; readable once it is done."""

    def __init__(self, state: State) -> None:
        self.flags = to_host(torch.stack([state.ended, (state.cursor < state.drafted) & ~state.ended]))
        self.event = torch.cuda.Event() if state.ended.is_cuda else None
        if self.event:
            self.event.record()

    def result(self) -> tuple[list[bool], list[bool]]:
        if self.event:
            self.event.synchronize()
        ended, drafting = self.flags.tolist()
        return ended, drafting


def _broken(hidden: Tensor) -> Tensor:
    """Rows of [B, n, hidden] in which anything is not finite: if keys or values are not, so is what follows them."""
    return ~hidden.isfinite().all(dim=2).all(dim=1)


def up(n: int, step: int) -> int:
    return -(-n // step) * step


def _table(
    rows: Sequence[Row], drafts: Sequence[Sequence[int]], batch: int, first: int, n: int, width: int, limit: int
) -> np.ndarray:
    """All that the device needs to know, for one copy: ids | frames | draft | length, draft length, limit."""
    table = np.zeros((batch, 2 * n + width + 3), dtype=np.int64)
    table[:, n : 2 * n] = TEXT
    table[:, -3] = first + 1  # a row that only fills the batch: one token of text, limit 0
    for line, row, draft in zip(table, rows, drafts, strict=False):
        length = len(row.ids) - first
        line[:length] = row.ids[first:]
        line[length : length + len(draft)] = draft
        line[n : n + length] = row.frames[first:]
        line[2 * n : 2 * n + len(draft)] = draft
        line[-3:] = len(row.ids), len(draft), limit
    return table


def _read(results: list[tuple[list[int], State]]) -> list[Decoded]:
    decoded: dict[int, Decoded] = {}
    for origin, state in results:  # a row that moved on is overwritten by its later state
        columns = (tensor.tolist() for tensor in (state.ids, state.logprobs, state.made, state.kept))
        for row, ids, logprobs, made, kept in zip(origin, *columns, strict=True):
            if row != FILLER:
                good = next((i for i in range(made) if not math.isfinite(logprobs[i])), made)
                decoded[row] = Decoded(ids[:good], logprobs[:good], min(kept, good), overflowed=good < made)
    return [decoded[row] for row in range(len(decoded))]
