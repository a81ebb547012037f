"""A recording at the pace at which it would be spoken."""

import asyncio
from collections.abc import AsyncIterator

import numpy as np

from stt.audio import SAMPLE_RATE, Samples, seconds


async def paced(pieces: AsyncIterator[Samples], piece_s: float = 0.02) -> AsyncIterator[Samples]:
    """Hand audio out in pieces of `piece_s`, at the pace at which it would be spoken."""
    loop = asyncio.get_running_loop()
    size, began, sent, rest = round(piece_s * SAMPLE_RATE), loop.time(), 0, np.zeros(0, np.float32)
    async for piece in pieces:
        rest = np.concatenate((rest, piece))
        while len(rest) >= size:
            sent += size
            await asyncio.sleep(began + seconds(sent) - loop.time())
            yield rest[:size]
            rest = rest[size:]
    if len(rest):
        yield rest
