"""The language model by itself ("LLM mode"): text in, text out, over the same weights with the adapter off.

It never stands in the way of those who speak: it has a cache of its own, so that a long prompt costs no graph of
theirs and, once it is answered, no memory; it runs without graphs, and gives the model up to whoever waits for it after
every few tokens, of the prompt too.
"""

import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import torch

from nemo_lite.decode import GreedyDecoder
from nemo_lite.device import finish
from nemo_lite.graphs import Graphs
from nemo_lite.shapes import AHEAD
from nemo_lite.state import TEXT, Decoded, Row

if TYPE_CHECKING:
    from nemo_lite.model import CanaryQwen

SLICE = 4
"""Passes in a row: some 40 ms on a GPU, a small part of what a live session waits for anyway. Beside rows that are
running it is one."""
READ = 512
"""Tokens of a prompt in one pass: an hour of speech is 12,000, which would keep even an H100 busy for a fifth of a
second. It also bounds what attention needs to know of who sees what."""
MOST_TOKENS = 32_768
"""What Qwen3 was trained to read, and the answer with it."""
NO_THOUGHT = "<think>\n\n</think>\n\n"
"""What Qwen3 is given to say first where it is not to think aloud, as its own chat template does."""


class Answered(NamedTuple):
    """How an answer ended."""

    why: Literal["stop", "length"]
    prompt_tokens: int
    answer_tokens: int


class LanguageModel:
    """Generates greedily; one text at a time."""

    def __init__(self, model: "CanaryQwen") -> None:
        self.model = model
        self.lock = threading.Lock()
        self.decoder = GreedyDecoder(
            model.llm, model.embed_tokens.weight, model.tokenizer.eos_id, Graphs(None), static=False
        )

    def generate(self, tokens: Sequence[int], max_new_tokens: int, *, adapter: bool = False) -> Iterator[Decoded]:
        """Continue a prompt: after every few tokens all that there is so far, last of all what there is in the end."""
        row = Row(np.array(tokens, dtype=np.int64), np.full(len(tokens), TEXT, dtype=np.int64))
        decoder, read = self.decoder, 0
        with self.lock:
            try:
                while len(tokens) - read > READ:
                    with self._turn():
                        decoder.reserve(1, len(tokens) + max_new_tokens + AHEAD + 1)
                        decoder.read(row.ids[read : read + READ], read, adapter=adapter)
                        finish(self.model.device)
                    read += READ
                with self._turn():
                    silent = decoder.embedding.new_zeros(1, decoder.embedding.shape[1])
                    [ticket] = decoder.begin([row], silent, max_new_tokens, adapter=adapter, read=read)
                done: dict[int, Decoded] = {}
                while ticket not in done:
                    with self._turn():
                        for _ in range(1 if self.model.decoder.running else SLICE):
                            done |= decoder.step()
                        so_far = done.get(ticket) or decoder.so_far()
                    yield so_far
            finally:
                decoder.forget()  # whoever listens may have left; the memory may be wanted by those who speak

    @contextmanager
    def _turn(self) -> Iterator[None]:
        with self.model.alone(background=True), torch.inference_mode():
            yield

    def answer(self, messages: Sequence[tuple[str, str]], max_new_tokens: int = 512) -> Generator[str, None, Answered]:
        """The answer to a conversation, (role, content) each, piece by piece, without thinking aloud.

        Raises ValueError for one that is longer than the model was trained to read.
        """
        tokenizer = self.model.tokenizer
        tokens = tokenizer.conversation(messages) + tokenizer.encode(NO_THOUGHT)
        if len(tokens) + max_new_tokens > MOST_TOKENS:
            most = MOST_TOKENS - max_new_tokens
            raise ValueError(f"expected a conversation of at most {most} tokens, got one of {len(tokens)}")
        said, text, ids = 0, "", []
        for decoded in self.generate(tokens, max_new_tokens):
            ids = decoded.ids
            text = tokenizer.decode(ids)
            sure = aloud(text.rstrip("\ufffd"))  # which may be a part of a character
            if len(sure) > said:
                yield sure[said:]
                said = len(sure)
        if rest := aloud(text, so_far=False)[said:]:
            yield rest
        ended = bool(ids) and ids[-1] == tokenizer.eos_id
        return Answered("stop" if ended else "length", len(tokens), len(ids))


def aloud(text: str, *, so_far: bool = True) -> str:
    """What is to be heard of a text: no thinking block; of what there is only so far, no beginning of one either."""
    while (start := text.find("<think>")) >= 0:
        end = text.find("</think>", start)
        if end < 0:
            return text[:start]
        text = text[:start] + text[end + len("</think>") :].lstrip("\n")
    if not so_far:
        return text
    partial = next((n for n in range(len("<think>") - 1, 0, -1) if text.endswith("<think>"[:n])), 0)
    return text[: len(text) - partial]
