"""What a decode knows: prompts as they come in, the state of each row on the device, and what was decoded.

What is computed here is so on tensors of fixed shapes and without a look at their values, as a CUDA graph demands.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from nemo_lite.device import to_device, to_host
from nemo_lite.llm import look

PATIENCE = 2
"""A draft is given up after this many passes in a row that kept nothing of it."""
TAKE_UP = 4, 3
"""How far beyond, and then how far before, where it was expected, the token that came is looked for in the draft."""

TEXT = -1
"""In `Row.frames`: this position is a token of text."""


@dataclass(frozen=True, slots=True)
class Row:
    """One prompt: at each position a token id, or a row of the audio embeddings."""

    ids: np.ndarray
    """[n] int64; 0 where audio stands."""
    frames: np.ndarray
    """[n] int64 rows of the flattened audio embeddings, or TEXT."""
    draft: tuple[int, ...] = ()
    timed: bool = False
    """Whether it is wanted where the aligning head looks."""
    remembered: bool = False
    """Whether what the model made of it is wanted, for texts to be scored."""

    @property
    def head(self) -> int:
        """Tokens before the first audio; 0 if there is no audio."""
        return self.audio.start

    @property
    def audio(self) -> slice:
        """Positions from the first of the audio to the last."""
        audio = np.flatnonzero(self.frames != TEXT)
        return slice(int(audio[0]), int(audio[-1]) + 1) if audio.size else slice(0, 0)


class Memory(NamedTuple):
    """What the model made of a prompt and the audio in it: whatever it is to say next can be scored from here."""

    kv: Tensor
    """[layers, 2, n, kv_heads, head_dim] keys and values of its n tokens."""
    last: int
    """The prompt's last token, after which the answer begins."""
    audio: slice
    """Where among the n the audio lies."""


@dataclass(frozen=True, slots=True)
class Decoded:
    ids: list[int]
    """Including the end token, if that is why it stopped."""
    logprobs: list[float]
    draft_kept: int
    """How many tokens of the draft were what greedy decoding gives."""
    overflowed: bool = False
    """The numbers overflowed after these tokens; there is nothing to go on with."""
    attention: np.ndarray | None = None
    """[len(ids), frames] logarithm of where the aligning head looks in the audio, where that was wanted."""
    memory: Memory | None = None
    """Of the row's prompt, where that was wanted."""

    @property
    def forwards(self) -> int:
        """Passes through the language model: each yields one token besides those of the draft."""
        return len(self.ids) - self.draft_kept


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
    queries: Tensor  # [B, M, d] what the aligning head asked as it predicted each of them; d = 0 without such a head
    broken: Tensor  # [B] bool: something was computed for this row that is no number

    @classmethod
    def none(cls, rows: int, drafted: int, columns: int, query: int, like: Tensor) -> "State":
        """Rows that have ended before they began, with room for drafts of `drafted` tokens, so many `columns`, and the
        aligning head's queries of width `query`.
        """
        count = torch.zeros(rows, dtype=torch.int64, device=like.device)
        no = torch.zeros(rows, dtype=torch.bool, device=like.device)
        return cls(
            token=count,
            position=count.clone(),
            made=count.clone(),
            kept=count.clone(),
            limit=count.clone(),
            ended=~no,
            draft=count.new_zeros(rows, drafted),
            drafted=count.clone(),
            cursor=count.clone(),
            misses=count.clone(),
            ids=count.new_zeros(rows, columns),
            logprobs=torch.zeros(rows, columns, device=like.device),
            queries=like.new_zeros(rows, columns, query),
            broken=no,
        )

    def rows(self, order: Sequence[int | None], joined: "State | None" = None) -> "State":
        """The rows of this state, and behind them those of `joined`, in another order; `None`: one that has ended."""
        parts = (self,) if joined is None else (self, joined)
        chosen = np.array([[0 if i is None else i, i is None] for i in order], dtype=np.int64).reshape(-1, 2)
        index, dead = to_device(torch.from_numpy(chosen), self.token.device).unbind(1)
        state = State(*(_stacked(tensors).index_select(0, index) for tensors in zip(*parts, strict=True)))
        state.ended.logical_or_(dead.bool())
        state.position.mul_(1 - dead)  # it goes on writing to the cache, where the span always reaches
        return state


def advance(state: State, chosen: Tensor, logprob: Tensor, queries: Tensor, eos_id: int) -> State:
    """Take what is right of the next k tokens of each draft, and one token more; in place.

    chosen, logprob [B, k + 1], queries [B, k + 1, d]: what greedy decoding gives after the last token, and after each
    of the k. A row that has ended goes on computing, and writes where nobody reads.
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
    state.queries.scatter_(1, columns[:, :, None].expand(-1, -1, queries.shape[2]), queries)
    state.token.copy_(token)
    state.kept.add_(run * alive)
    state.made.add_((run + 1) * alive)
    state.position.add_((run + 1) * alive)
    state.ended.logical_or_((token == eos_id) | (state.made >= state.limit) | state.broken)

    # where the draft goes on: behind the token that came, if it stands near where it was expected, else one further
    expected = state.cursor + run
    beyond, before = TAKE_UP
    offset = torch.arange(beyond + before + 1, device=chosen.device)
    near = expected[:, None] + torch.where(offset > beyond, beyond - offset, offset)  # 0, 1, 2, ... -1, -2, ...
    found = (state.draft.gather(1, near.clamp(0, last)) == token[:, None]) & (near >= 0)
    found &= near < state.drafted[:, None]
    found = torch.cat([found, torch.ones_like(found[:, :1])], dim=1)
    near = torch.cat([near, expected[:, None]], dim=1)
    state.cursor.copy_(near.gather(1, found.int().argmax(1, keepdim=True))[:, 0] + 1)
    missed = offered.any(1) & (run == 0)
    state.misses.copy_((state.misses + 1) * missed)
    state.drafted.mul_(state.misses < PATIENCE)
    return state


class Look:
    """Which rows have ended, have draft left, are broken, at this point of the work; readable once it is done."""

    def __init__(self, state: State) -> None:
        drafting = (state.cursor < state.drafted) & ~state.ended
        self.copy = Copy(torch.stack([state.ended, drafting, state.broken], dim=1))

    def result(self) -> list[tuple[bool, bool, bool]]:
        """Of each row: ended, drafting, broken."""
        [flags] = self.copy.result()
        return flags.tolist()


class Copy:
    """Tensors on their way to the host; nobody waits before `result`."""

    def __init__(self, *tensors: Tensor) -> None:
        self.tensors = [to_host(tensor) for tensor in tensors]
        self.event = torch.cuda.Event() if tensors[0].is_cuda else None
        if self.event:
            self.event.record()

    @property
    def ready(self) -> bool:
        return self.event is None or self.event.query()

    def result(self) -> list[Tensor]:
        if self.event:
            self.event.synchronize()
        return self.tensors


class Fetch:
    """The rows of a state that have ended, on their way to the host; of some, where the aligning head looked."""

    def __init__(
        self, state: State, rows: Sequence[int], keys: Sequence[Tensor | None], memories: Sequence[Memory | None]
    ) -> None:
        """`keys`: for each row the aligning head's [frames, d] of its audio, where they are wanted; `memories` stay on
        the device.
        """
        index = to_device(torch.tensor(rows), state.token.device)
        counts = torch.stack([state.made, state.kept])
        wanted = (state.ids, state.logprobs, counts.T)
        attention = [look(state.queries[row], k) for row, k in zip(rows, keys, strict=True) if k is not None]
        self.timed = [k is not None for k in keys]
        self.memories = memories
        self.copy = Copy(*(tensor.index_select(0, index) for tensor in wanted), *attention)

    @property
    def ready(self) -> bool:
        return self.copy.ready

    def result(self) -> list[Decoded]:
        ids, logprobs, counts, *attention = self.copy.result()
        looks, decoded = iter(attention), []
        rows = zip(ids.tolist(), logprobs.tolist(), counts.tolist(), self.timed, self.memories, strict=True)
        for tokens, sure, (made, kept), timed, memory in rows:
            good = next((i for i in range(made) if not math.isfinite(sure[i])), made)
            seen = next(looks)[:good].numpy() if timed else None
            decoded.append(Decoded(tokens[:good], sure[:good], min(kept, good), good < made, seen, memory))
        return decoded


def table(
    rows: Sequence[Row], drafts: Sequence[Sequence[int]], batch: int, first: int, n: int, width: int, limit: int
) -> np.ndarray:
    """All that the device needs to know, for one copy: ids | frames | draft | length, draft length, limit."""
    filled = np.zeros((batch, 2 * n + width + 3), dtype=np.int64)
    filled[:, n : 2 * n] = TEXT
    filled[:, -3] = first + 1  # a row that only fills the batch: one token of text, limit 0
    for line, row, draft in zip(filled, rows, drafts, strict=False):
        length = len(row.ids) - first
        line[:length] = row.ids[first:]
        line[length : length + len(draft)] = draft
        line[n : n + length] = row.frames[first:]
        line[2 * n : 2 * n + len(draft)] = draft
        line[-3:] = len(row.ids), len(draft), limit
    return filled


def broken(hidden: Tensor) -> Tensor:
    """Rows of [B, n, hidden] in which anything is not finite: if keys or values are not, so is what follows them."""
    return ~hidden.isfinite().all(dim=2).all(dim=1)


def _stacked(tensors: Sequence[Tensor]) -> Tensor:
    """Rows on top of each other, the narrower ones filled up with zeros."""
    if len(tensors) == 1:
        return tensors[0]
    if (others := tensors[0].ndim - 2) >= 0:
        widest = max(tensor.shape[1] for tensor in tensors)
        tensors = [F.pad(tensor, (*[0, 0] * others, 0, widest - tensor.shape[1])) for tensor in tensors]
    return torch.cat(list(tensors))
