"""Greedy decoding of rows that come and go, with drafts verified along the way.

    prompts + drafts --prefill, one pass--> the longest right prefix of each draft, and one token more
                     --wide steps---------> what is left of a draft behind a wrong token, AHEAD tokens at a time
                     --steps--------------> one token per row and pass, until the row has ended

A token of a draft is kept only if greedy decoding gives that very token there: speculative decoding (Leviathan et al.
2023, arXiv 2211.17192) for temperature 0. One wrong token need not end a draft: an old hypothesis often differs from
the new one in the middle only, by a word put in, left out or replaced, so the draft is taken up again behind the token
that came instead.

A row of the batch is a row of the cache. One that has ended is free at once, and new prompts may take it while the
others go on: nothing that one row computes depends on another. The first `n` rows step together; when half of them have
ended the rest moves together and `n` shrinks.

The state of a decode (last token, its position, how many tokens there are, ...) lives on the device from beginning to
end. Who has ended is looked at one step late, so that the device never waits for the host; the step too many changes
nothing. Only a first pass over drafts is waited for: it may have been all.

Shapes are static under CUDA graphs: rows come in powers of two, tokens and cache spans in steps. On a CPU they are
what they are, and the same code runs without graphs.
"""

import itertools
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from nemo_lite.alignment import Head
from nemo_lite.device import to_device
from nemo_lite.graphs import Graphs
from nemo_lite.llm import KVCache, Qwen3, keys_of
from nemo_lite.shapes import (
    AHEAD,
    DRAFT_STEP,
    GRAPH_TOKENS,
    LOGIT_ROWS,
    SPAN_STEP,
    TOKEN_STEP,
    up,
    worth_widening,
)
from nemo_lite.state import TEXT, Decoded, Fetch, Look, Memory, Row, State, advance, broken, table

PREFIXES_KEPT = 4


@dataclass(slots=True, eq=False)
class Running:
    """What the host knows of a row that is being decoded."""

    ticket: int
    row: int
    """Of the state and of the cache."""
    drafting: bool
    prompt: Row
    ended: bool = False


class Reach(NamedTuple):
    """The slots of a row, running or not, as far as the host knows: it is at most here, and never goes further."""

    now: int
    most: int


class GreedyDecoder:
    """Owns a KV cache, the kept prompt prefixes and the decoding graphs. One call at a time."""

    def __init__(self, llm: Qwen3, embedding: Tensor, eos_id: int, graphs: Graphs, *, static: bool) -> None:
        self.llm = llm
        self.embedding = embedding  # [vocab, hidden], also the output layer
        self.eos_id = eos_id
        self.graphs = graphs
        self.static = static
        self.lag = 1 if static else 0  # looks that the device may be ahead of the host
        self.cache = KVCache(llm.config, 0, 0, embedding)
        self.prefixes: OrderedDict[tuple[int, ...], Tensor] = OrderedDict()
        self.tickets = itertools.count()
        self.aligner: Head | None = None
        self.reset()

    def reset(self) -> None:
        """Drop all rows that are being decoded."""
        self.state: State | None = None
        self.adapter = True
        self.rows: list[Running | None] = []  # for each row of the state; None: it has ended
        self.reach: list[Reach] = []  # likewise
        self.looks: list[tuple[Look, list[Running | None]]] = []
        self.fetches: list[tuple[Fetch, list[int]]] = []
        self.unclean: set[int] = set()  # rows of the cache that hold what is no number
        self.borrowed = False  # whether the state lies where the graph of a first pass put it, and the next one will
        self.fresh = False  # whether the last pass was a first one over drafts

    def abandon(self) -> None:
        """Drop all rows after an error, whatever it has left in them."""
        self.reset()
        self.unclean = set(range(self.cache.rows))

    @property
    def running(self) -> list[Running]:
        return [row for row in self.rows if row is not None]

    @property
    def free(self) -> int:
        """Rows that may be begun beside those that are running, in one batch."""
        free = self.cache.rows - len(self.running)
        return 1 << (free.bit_length() - 1) if self.static and free else free

    def reserve(self, rows: int, span: int) -> None:
        """Make the cache large enough for so many rows of so many tokens; growing it later costs the graphs."""
        rows, span = self._rows(rows), up(span, SPAN_STEP)
        if rows * span > self.cache.capacity:
            self.forget()  # let the old memory go first
            self.cache = KVCache(self.llm.config, rows, span, self.embedding)
        elif self.cache.divide(rows, span) and self.unclean:
            self.cache.memory.zero_()
            self.unclean.clear()

    def align_with(self, head: Head | None) -> None:
        """Keep what this head asks, so that rows can be `timed`; graphs made before are of no use any more."""
        if head != self.aligner:
            self.aligner = head
            self.graphs.clear()

    @property
    def query_width(self) -> int:
        return 0 if self.aligner is None else self.llm.config.head_dim

    def forget(self) -> None:
        """Let the cache's memory go, and the graphs that know its place."""
        self.reset()
        self.graphs.clear()
        self.cache = KVCache(self.llm.config, 0, 0, self.embedding)

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

        `rehearse` runs so many steps whatever the rows say, so that their graphs are there when they are wanted; it
        gives nothing. Nothing else may be running.
        """
        if self.running:
            raise RuntimeError(f"expected a decoder with nothing to do, got one with {len(self.running)} rows running")
        done: dict[int, Decoded] = {}
        try:
            tickets = self.begin(rows, audio, max_new_tokens, adapter=adapter)
            if rehearse is not None:
                for step in range(rehearse):
                    self._pass(wide=any(row.draft for row in rows) and step % 2 == 0)
                self.reset()
                return []
            while len(done) < len(tickets):
                done |= self.step()
        except BaseException:
            self.abandon()
            raise
        return [done[ticket] for ticket in tickets]

    def read(self, tokens: np.ndarray, first: int, *, adapter: bool) -> None:
        """Put tokens of a prompt of text into the cache, the first at slot `first`; the rest is for `begin`.

        For a prompt so long that its first pass would keep everybody waiting. There has to be room (`reserve`), and
        nothing may be running meanwhile.
        """
        self._clean([0])
        self._run(tokens, first, self.cache.view(1, up(first + len(tokens), SPAN_STEP)), adapter=adapter)

    def begin(
        self,
        rows: Sequence[Row],
        audio: Tensor,
        max_new_tokens: int,
        *,
        adapter: bool = True,
        read: int = 0,
        space: tuple[int, int] = (0, 0),
    ) -> list[int]:
        """Take prompts in, beside those that are running, and run their first pass; returns a ticket for each.

        `read`: so many tokens of the only prompt have been `read`. `space`: rows and slots for all that may join later.

        Raises ValueError where rows or slots for them are not free; where nothing is running there is always room.
        """
        idle = not self.running
        if idle or self.embedding.dtype == torch.float16:  # of short range: what overflowed has to be known
            self._look_back(0)
        prefix = None if read else self._prefix(rows, adapter=adapter)  # [layers, 2, 1, P, kv_heads, d]
        first = read if prefix is None else prefix.shape[3]
        batch = self._rows(len(rows))
        drafts = [row.draft[: max_new_tokens - 1] for row in rows]
        width = max(map(len, drafts))
        n = max(len(row.ids) + len(draft) for row, draft in zip(rows, drafts, strict=True)) - first
        if self.static:  # the two apart, so that every prompt length meets every draft length in one shape
            longest = max(len(row.ids) for row in rows) - first
            width = up(width, DRAFT_STEP)
            n = (
                up(longest, TOKEN_STEP) + width
                if batch * (up(longest, TOKEN_STEP) + width) <= GRAPH_TOKENS
                else up(n, 8)
            )
            audio = F.pad(audio, (0, 0, 0, -len(audio) % (batch * TOKEN_STEP)))  # fewer shapes, fewer graphs
        span = max(first + n, max(len(row.ids) for row in rows) + max_new_tokens + AHEAD + 1)
        if idle:
            self.reserve(max(batch, space[0]), max(span, space[1]))
            self.state, self.rows, self.reach, self.adapter = None, [], [], adapter
        elif len(rows) > self.free or up(span, SPAN_STEP) > self.cache.slots or adapter != self.adapter:
            raise ValueError(
                f"expected at most {self.free} rows of {self.cache.slots} slots, got {len(rows)} of {span}"
            )
        if self.borrowed:
            self.state = self.state and State(*(tensor.clone() for tensor in self.state))
        order = self._pack(self._rows(len(self.running) + len(rows)))
        places = [place for place, row in enumerate(order) if row is None][: len(rows)]
        taken = {*places, *(row.row for row in self.running)}
        places += [place for place in range(self.cache.rows) if place not in taken][: batch - len(rows)]
        self._clean(places)

        lines = table(rows, drafts, batch, first, n, width, max_new_tokens)
        inputs = [to_device(torch.from_numpy(lines), self.embedding.device), audio]
        # A graph takes any rows of the cache, by their numbers; without one, an empty cache is used as it stands.
        graphed = batch * n <= GRAPH_TOKENS and self.graphs.capture is not None
        if graphed or not idle:
            inputs.append(to_device(torch.tensor(places), self.embedding.device))
        if prefix is not None:
            kv, each = self.cache.view(self.cache.rows, first), prefix.expand(-1, -1, batch, -1, -1, -1)
            kv[:, :, :batch].copy_(each) if len(inputs) == 2 else kv.index_copy_(2, inputs[2], each)
        # Steps work on drafts of one width, whatever that of this prefill: fewer shapes again.
        room = up(max_new_tokens, DRAFT_STEP) if self.static else max(width, 1)
        columns = max(max_new_tokens, width, room if self.static else 0) + 1
        prefill = self._prefill(first, n, width, room, columns, adapter=adapter)
        if graphed:
            key = ("prefill", lines.shape, first, width, room, columns, audio.shape, adapter, self.cache.slots)
            state = State(*self.graphs(key, prefill, *inputs))
        else:
            state = State(*prefill(*inputs))

        joined = [
            Running(next(self.tickets), place, bool(draft), row)
            for place, row, draft in zip(places, rows, drafts, strict=False)
        ]
        reach = [Reach(len(r.ids) + len(d), len(r.ids) + max_new_tokens) for r, d in zip(rows, drafts, strict=True)]
        if idle:
            fillers = batch - len(rows)
            self.borrowed = graphed
            self.state, self.rows = state, [*joined, *[None] * fillers]
            self.reach = [*reach, *[Reach(first + 1, first + 1)] * fillers]
        else:
            self._arrange(order, state, joined, reach)
        self._look()
        self.fresh = width > 0
        return [row.ticket for row in joined]

    def step(self) -> dict[int, Decoded]:
        """Let the rows that are running go on by a pass; what has been decoded to its end meanwhile, by ticket."""
        self._look_back(0 if self.fresh else self.lag)
        if running := self.running:
            size = self._rows(len(running))
            if size <= len(self.rows) // 2:
                self._arrange(self._pack(size))
            self._pass(wide=worth_widening(len(self.rows), len(running), sum(row.drafting for row in running)))
        done: dict[int, Decoded] = {}
        while self.fetches and (not running or self.fetches[0][0].ready):
            fetch, tickets = self.fetches.pop(0)
            done.update(zip(tickets, fetch.result(), strict=True))
        return done

    def drop(self, tickets: Iterable[int]) -> None:
        """Give up on rows that are running: they are free from now on, and `step` will not tell of them."""
        unwanted = set(tickets)
        for row in self.running:
            if row.ticket in unwanted:
                row.ended = True  # also where a look is still on its way
                self.rows[row.row] = None

    def rehearse(self, rows: int, max_new_tokens: int) -> None:
        """Run the steps of so many rows, none of which decodes anything, over every span: their graphs are there then.

        Nothing else may be running.
        """
        assert self.static  # noqa: S101
        room = up(max_new_tokens, DRAFT_STEP)
        self.state = State.none(rows, room, room + 1, self.query_width, self.embedding)
        self.rows = [None] * rows
        for span in range(SPAN_STEP, self.cache.slots + 1, SPAN_STEP):
            for ahead in (0, AHEAD):
                self.reach = [Reach(span - ahead - 1, span)] * rows
                self._pass(wide=ahead > 0)
        self.reset()

    def so_far(self) -> Decoded:
        """What there is of the first row; waits for the device."""
        assert self.state is not None  # noqa: S101
        [decoded] = Fetch(self.state, [0], [None], [None]).result()
        return decoded

    def _pass(self, *, wide: bool) -> None:
        assert self.state is not None  # noqa: S101
        ahead = AHEAD if wide else 0
        span = up(max(reach.now for reach in self.reach) + ahead + 1, SPAN_STEP)
        shapes = len(self.rows), ahead, span, self.state.draft.shape[1], self.state.ids.shape[1]
        step, before = self._step(ahead, span, adapter=self.adapter), self.state.token
        self.state = State(*self.graphs(("step", *shapes, self.adapter, self.cache.slots), step, *self.state))
        self.reach = [Reach(min(now + ahead + 1, most), most) for now, most in self.reach]
        self.borrowed = self.borrowed and self.state.token is before  # a step without a graph goes on where it lies
        self.fresh = False
        self._look()

    def _look(self) -> None:
        assert self.state is not None  # noqa: S101
        self.looks.append((Look(self.state), list(self.rows)))

    def _look_back(self, but: int) -> None:
        """Learn from all looks, but the last so many, who has ended; those rows are free from now on."""
        while len(self.looks) > but:
            look, rows = self.looks.pop(0)
            ended = []
            for place, (row, (has_ended, drafting, is_broken)) in enumerate(zip(rows, look.result(), strict=True)):
                if is_broken:
                    self.unclean |= {place} if row is None else {place, row.row}
                if row is not None and not row.ended:
                    row.drafting, row.ended = drafting, has_ended
                    if has_ended:
                        ended.append(row)
            if ended:
                assert self.state is not None  # noqa: S101
                keys, memories = [self._keys(row) for row in ended], [self._memory(row) for row in ended]
                fetch = Fetch(self.state, [row.row for row in ended], keys, memories)
                self.fetches.append((fetch, [row.ticket for row in ended]))
                for row in ended:
                    self.rows[row.row] = None

    def _keys(self, row: Running) -> Tensor | None:
        """What the aligning head finds in the audio of a row: [frames, d]."""
        if self.aligner is None or not row.prompt.timed:
            return None
        audio = row.prompt.audio
        heard = self.cache.view(self.cache.rows, audio.stop)[:, :, row.row, audio]
        return keys_of(self.aligner, heard, self.llm.config)

    def _memory(self, row: Running) -> Memory | None:
        """What stands in the cache for the prompt of a row: a copy, because others come there."""
        if not row.prompt.remembered:
            return None
        kv = self.cache.view(self.cache.rows, len(row.prompt.ids))[:, :, row.row].clone()
        return Memory(kv, int(row.prompt.ids[-1]), row.prompt.audio)

    def _pack(self, size: int) -> list[int | None]:
        """Bring the running rows to the first `size` places of the cache; for each place, which row has come there."""
        order: list[int | None] = [place if row is not None else None for place, row in enumerate(self.rows[:size])]
        order += [None] * (size - len(order))
        for old, row in enumerate(self.rows[size:], size):
            if row is not None:
                row.row = order.index(None)
                order[row.row] = old
                self._clean([row.row])
                self.cache.move(old, row.row, min(up(self.reach[old].now + AHEAD + 1, SPAN_STEP), self.cache.slots))
        running = self.running
        self.rows = [None] * size
        for row in running:
            self.rows[row.row] = row
        return order

    def _arrange(
        self,
        order: list[int | None],
        state: State | None = None,
        joined: Sequence[Running] = (),
        reach: Sequence[Reach] = (),
    ) -> None:
        """Bring the state into the order of the cache, with rows that join."""
        assert self.state is not None  # noqa: S101
        for i, row in enumerate(joined):
            self.rows[row.row] = row
            order[row.row] = len(self.reach) + i
        self.state, self.borrowed = self.state.rows(order, state), False
        before = [*self.reach, *reach]
        self.reach = [Reach(0, 0) if row is None else before[row] for row in order]

    def _clean(self, places: Sequence[int]) -> None:
        """What is stale is masked with weight 0, but 0 * NaN is NaN: it would stay for every row to come."""
        for place in self.unclean.intersection(places):
            self.cache.view(self.cache.rows, self.cache.slots)[:, :, place].zero_()
            self.unclean.remove(place)

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
            kv = KVCache(self.llm.config, 1, len(shared), self.embedding).view(1, len(shared))
            if len(shared):
                self._run(shared, 0, kv, adapter=adapter)
            self.prefixes[key] = kv
            if len(self.prefixes) > PREFIXES_KEPT:
                self.prefixes.popitem(last=False)
        self.prefixes.move_to_end(key)
        return self.prefixes[key]

    def _run(self, tokens: np.ndarray, first: int, kv: Tensor, *, adapter: bool) -> None:
        """Put keys and values of a row's tokens into kv, the first at slot `first`."""
        ids = to_device(torch.from_numpy(tokens), self.embedding.device)[None]
        slots = torch.arange(first, first + len(tokens), device=ids.device)[None]
        self.llm(F.embedding(ids, self.embedding), slots, kv, adapter=adapter)

    def _prefill(
        self, first: int, n: int, width: int, room: int, columns: int, *, adapter: bool
    ) -> Callable[..., State]:
        def prefill(lines: Tensor, audio: Tensor, places: Tensor | None = None) -> State:
            ids, frames, draft = lines[:, :n], lines[:, n : 2 * n], lines[:, 2 * n : 2 * n + width]
            length, drafted, limit = lines[:, -3:].unbind(1)
            x = torch.where((frames == TEXT)[:, :, None], F.embedding(ids, self.embedding), audio[frames.clamp(min=0)])
            slots = torch.arange(first, first + n, device=lines.device)[None]
            kv = self.cache.view(lines.shape[0] if places is None else self.cache.rows, up(first + n, SPAN_STEP))
            hidden, queries = self.hidden(x, slots, kv, rows=places, adapter=adapter)

            # the outputs at the prompt's last token and at every token of the draft
            at = (length[:, None] - first - 1 + torch.arange(width + 1, device=lines.device)).clamp(max=n - 1)
            chosen, logprob = self._choose(hidden.gather(1, at[:, :, None].expand(-1, -1, hidden.shape[2])))
            queries = queries.gather(1, at[:, :, None].expand(-1, -1, queries.shape[2]))
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
                queries=queries.new_zeros(chosen.shape[0], columns, queries.shape[2]),
                broken=broken(hidden),
            )
            # each its own memory: they are changed in place from here on
            return advance(State(*(tensor.clone() for tensor in state)), chosen, logprob, queries, self.eos_id)

        return prefill

    def _step(self, ahead: int, span: int, *, adapter: bool) -> Callable[..., State]:
        def step(*tensors: Tensor) -> State:
            state = State(*tensors)
            kv = self.cache.view(state.token.shape[0], span)
            more = torch.arange(ahead, device=state.token.device)
            expected = state.draft.gather(1, (state.cursor[:, None] + more).clamp(max=state.draft.shape[1] - 1))
            ids = torch.cat([state.token[:, None], expected], dim=1)
            slots = state.position[:, None] + torch.arange(ahead + 1, device=ids.device)
            hidden, queries = self.hidden(F.embedding(ids, self.embedding), slots, kv, adapter=adapter)
            state.broken.logical_or_(broken(hidden))
            return advance(state, *self._choose(hidden), queries, self.eos_id)

        return step

    def hidden(
        self, x: Tensor, slots: Tensor, kv: Tensor, *, rows: Tensor | None = None, adapter: bool
    ) -> tuple[Tensor, Tensor]:
        """What `Qwen3` gives, and the aligning head's queries: [B, n, hidden], [B, n, d]."""
        if self.aligner is None:
            return self.llm(x, slots, kv, rows=rows, adapter=adapter), x.new_zeros(*x.shape[:2], 0)
        wanted, head = self.aligner
        kept: list[Tensor] = []

        def tap(layer: int, queries: Tensor) -> None:
            if layer == wanted:
                kept.append(queries[:, :, head])

        hidden = self.llm(x, slots, kv, rows=rows, adapter=adapter, tap=tap)
        return hidden, kept[0]

    def _choose(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """The likeliest token at each position and its log-probability: [B, k, hidden] -> [B, k] int64, [B, k]."""
        ids, logprobs = [], []
        for rows in hidden.flatten(0, 1).split(LOGIT_ROWS):
            logits = F.linear(rows, self.embedding).float()
            best, chosen = logits.max(dim=-1)
            ids.append(chosen)
            logprobs.append(best - logits.logsumexp(dim=-1))
        return torch.cat(ids).view(hidden.shape[:2]), torch.cat(logprobs).view(hidden.shape[:2])
