"""What a transcription is asked for, and what it gives."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from nemo_lite.alignment import Attention
from nemo_lite.audio import Batch
from nemo_lite.growing import Growing
from nemo_lite.state import Memory


@dataclass(frozen=True, slots=True)
class Transcription:
    text: str
    """Without special tokens, otherwise as decoded."""
    token_ids: tuple[int, ...]
    """What was generated, the end token included if `stop` is "eos". Serves as the next draft as it is."""
    logprobs: tuple[float, ...]
    """Natural logarithm of the probability of each of `token_ids`."""
    stop: Literal["eos", "length", "overflow"]
    """Ended by the model, cut off at `max_new_tokens`, or where the numbers overflowed (float16, of short range)."""
    draft_kept: int
    """Tokens of the draft that were kept."""
    forwards: int
    """Passes through the language model."""
    attention: Attention | None = field(default=None, compare=False, repr=False)
    """[tokens, frames] where the aligning head looked for each of `token_ids`, if `timed`; for `alignment.align`."""
    memory: Memory | None = field(default=None, compare=False, repr=False)
    """What was heard, if `remembered`; for `score`. It holds on to memory of the device."""


class Piece(NamedTuple):
    """A part of a text that some of its tokens make: `token_ids[first:last]`."""

    text: str
    first: int
    last: int
    probability: float


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be transcribed, checked and on the host."""

    tokens: list[list[int]]
    """Each row's prompt, with placeholders."""
    drafts: list[tuple[int, ...]]
    lengths: list[int]
    """Each clip's encoder frames; the clips of all rows, one after the other."""
    wanted: list[tuple[bool, bool]]
    """Of each row, whether it is `timed` and `remembered`."""
    batch: Batch | None
    """The clips that are encoded as a whole."""
    tails: Batch | None = None
    """Those of which the last frames are encoded."""
    growing: Sequence[Growing | None] = ()
    """For each clip, what is known from before, if it is of a window."""
