"""Transcription of clips that come at any time: a row that has ended is free for the next one at once.

    batch = ContinuousBatch(model, rows=64)
    while ...:
        tickets = batch.add(clips, drafts=drafts)       # at most batch.free; what is urgent first
        for ticket, transcription in batch.step().items(): ...

In `CanaryQwen.transcribe` a batch takes as long as its longest row, and what comes meanwhile waits. Here the first pass
of what comes stands between two steps of what is running, and short clips do not wait for long ones. What a row gives
is what it gives alone, token for token.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypeVar

import torch

from nemo_lite.audio import Waveform
from nemo_lite.model import PROMPT_TOKENS, CanaryQwen, Transcription
from nemo_lite.shapes import most_slots
from nemo_lite.tokenizer import DEFAULT_PROMPT

T = TypeVar("T")


class ContinuousBatch:
    """Rows of one model's decoder, which `transcribe` cannot use meanwhile. Called from one thread."""

    def __init__(
        self,
        model: CanaryQwen,
        rows: int,
        *,
        longest_s: float = 30.0,
        prompt_tokens: int = PROMPT_TOKENS,
        max_new_tokens: int = 256,
    ) -> None:
        """Make room for so many rows, of clips of up to `longest_s` with prompts of up to `prompt_tokens` around them.

        Raises ValueError while rows are running, RuntimeError where there is no memory for so many.
        """
        self.model = model
        self.max_new_tokens = max_new_tokens
        self.most_tokens = model.most_frames(longest_s) + prompt_tokens
        self.space = rows, most_slots(self.most_tokens, max_new_tokens)
        with model.alone(), torch.inference_mode():
            if model.decoder.running:
                raise ValueError("expected a model with nothing to do, got one whose rows are running")
            model.decoder.reserve(*self.space)
        self.slots = rows

    @property
    def free(self) -> int:
        """Clips that can be added now."""
        return min(self.model.decoder.free or self.slots, self.slots - self.running)

    @property
    def running(self) -> int:
        return len(self.model.decoder.running)

    @torch.inference_mode()
    def add(
        self,
        waveforms: Sequence[Waveform | Sequence[Waveform]],
        *,
        prompt: str | Sequence[str] = DEFAULT_PROMPT,
        drafts: Sequence[Sequence[int] | None] | None = None,
        timed: Sequence[bool] | None = None,
        remembered: Sequence[bool] | None = None,
        windows: Sequence[Hashable | None] | None = None,
    ) -> list[int]:
        """Encode clips and run their first pass, beside those that are running; a ticket for each.

        As `transcribe`, and ValueError as well for more clips than are `free`, or a longer one than there is room for;
        nothing has happened then. After any other error whatever was running is lost.
        """
        request = self.model.request(waveforms, prompt, drafts, timed, remembered, windows)
        if request is None:
            return []
        if len(request.tokens) > self.free:
            raise ValueError(f"expected at most {self.free} clips, got {len(request.tokens)}")
        audio = iter(request.lengths)
        for i, ids in enumerate(request.tokens):
            placeholders = ids.count(self.model.tokenizer.audio_id)
            tokens = len(ids) - placeholders + sum(next(audio) for _ in range(placeholders))
            if tokens > self.most_tokens:
                raise ValueError(
                    f"row {i}: expected at most {self.most_tokens} tokens of audio and prompt, got {tokens}"
                )
        begin = self.model.decoder.begin
        return self._run(lambda: begin(*self.model.rows(request), self.max_new_tokens, space=self.space))

    @torch.inference_mode()
    def step(self) -> dict[int, Transcription]:
        """Let what is running go on by a pass; what has ended meanwhile, by ticket."""
        done = self._run(self.model.decoder.step)
        return {ticket: self.model.transcription(decoded) for ticket, decoded in done.items()}

    def drop(self, tickets: Iterable[int]) -> None:
        """Give up on clips that are running: their rows are free, and `step` will not tell of them."""
        self.model.decoder.drop(tickets)

    def _run(self, call: Callable[[], T]) -> T:
        with self.model.alone():
            try:
                return call()
            except BaseException:
                self.model.decoder.abandon()
                raise
