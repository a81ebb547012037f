"""The shapes that a decode comes in: what is rounded up to what, so that few have to be met, and what they cost."""

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
WIDE_GAIN = 4
"""Tokens that a wide step is taken to yield more than a narrow one, for a row with draft left."""
FREE_TOKENS = 300
"""Tokens that a pass computes while it waits for the weights (an H100: 990 TFLOP/s to 3.3 TB/s): beyond, they cost."""
LOGIT_ROWS = 512
"""Logits are computed for this many positions at a time: 152k floats each."""


def worth_widening(rows: int, running: int, drafting: int) -> bool:
    """Whether a step that verifies drafts yields more tokens, for what it costs, than one of a token for each row."""
    cost = max(1.0, rows * (AHEAD + 1) / FREE_TOKENS)
    return drafting > 0 and running + WIDE_GAIN * drafting >= cost * running


def most_slots(tokens: int, max_new_tokens: int) -> int:
    """Slots that a row of so many tokens needs at most: its first pass takes in the draft, rounded up as shapes are."""
    return up(tokens, TOKEN_STEP) + up(max_new_tokens, DRAFT_STEP) + AHEAD + 1


def up(n: int, step: int) -> int:
    return -(-n // step) * step
