"""What the model thinks of an answer that it need not have given: each token's log-probability, in one pass.

For alternatives to what was decoded. The audio has been heard: its keys and values stand in a `Memory`, so a pass costs
the tokens of the answers and not the seconds of the clips.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from nemo_lite.alignment import Attention
from nemo_lite.decode import GreedyDecoder
from nemo_lite.device import to_device
from nemo_lite.llm import KVCache, keys_of, look
from nemo_lite.shapes import LOGIT_ROWS
from nemo_lite.state import Memory

MOST_ROWS = 16
"""Answers of one pass: each has a copy of what was heard, 50 MB for 30 s, beside the cache of those who speak."""


class Scored(NamedTuple):
    logprobs: list[float]
    """Natural logarithm of the probability of each token, after those before it; -inf where the numbers overflowed."""
    attention: Attention | None
    """[tokens, frames] where the aligning head looked for each of them; `None` without such a head or audio."""


def score(decoder: GreedyDecoder, memories: Sequence[Memory], answers: Sequence[Sequence[int]]) -> list[Scored]:
    """Score an answer after each memory; what else the decoder is at is not touched."""
    found: list[Scored] = []
    for first in range(0, len(answers), MOST_ROWS):
        rows = slice(first, first + MOST_ROWS)
        found += _score(decoder, memories[rows], answers[rows])
    return found


def _score(decoder: GreedyDecoder, memories: Sequence[Memory], answers: Sequence[Sequence[int]]) -> list[Scored]:
    rows, n = len(answers), max(map(len, answers))
    # The prompt's last token is run once more: what it gives predicts the answer's first.
    first = np.array([memory.kv.shape[2] - 1 for memory in memories])
    span = int(first.max()) + n
    kv = KVCache(decoder.llm.config, rows, span, decoder.embedding).view(rows, span)
    for row, memory in enumerate(memories):
        kv[:, :, row, : memory.kv.shape[2]].copy_(memory.kv)
    lines = np.zeros((rows, n + 1), dtype=np.int64)  # the filling at the end sees all, and nothing sees it
    for line, memory, answer in zip(lines, memories, answers, strict=True):
        line[: len(answer) + 1] = memory.last, *answer
    tokens = to_device(torch.from_numpy(lines), decoder.embedding.device)
    slots = to_device(torch.from_numpy(first[:, None] + np.arange(n)), decoder.embedding.device)
    hidden, queries = decoder.hidden(F.embedding(tokens[:, :-1], decoder.embedding), slots, kv, adapter=True)
    logprobs = _logprobs(hidden, tokens[:, 1:], decoder.embedding).nan_to_num(nan=-torch.inf).tolist()
    return [
        Scored(
            logprobs[row][: len(answer)], _attention(decoder, kv[:, :, row], memory.audio, queries[row, : len(answer)])
        )
        for row, (memory, answer) in enumerate(zip(memories, answers, strict=True))
    ]


def _logprobs(hidden: Tensor, chosen: Tensor, embedding: Tensor) -> Tensor:
    """[B, n, hidden] and ids [B, n] -> [B, n] float32."""
    found = []
    for states, ids in zip(hidden.flatten(0, 1).split(LOGIT_ROWS), chosen.flatten().split(LOGIT_ROWS), strict=True):
        logits = F.linear(states, embedding).float()
        found.append(logits.gather(1, ids[:, None])[:, 0] - logits.logsumexp(dim=-1))
    return torch.cat(found).view(chosen.shape)


def _attention(decoder: GreedyDecoder, kv: Tensor, audio: slice, queries: Tensor) -> Attention | None:
    """Where the aligning head looked: kv [layers, 2, span, kv_heads, d], queries [n, d] -> [n, frames]."""
    if decoder.aligner is None or audio.stop == audio.start:
        return None
    return look(queries, keys_of(decoder.aligner, kv[:, :, audio], decoder.llm.config)).cpu().numpy()
