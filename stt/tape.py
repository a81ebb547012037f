"""The audio of one stream from some point on, as PCM16: what a lost connection has to hear again."""

import asyncio
from collections import deque
from typing import Final

from stt.clock import samples

_AHEAD_S: Final = 5.0  # unsent audio on a connection, before a source that is faster than the network has to wait


class Tape:
    """Grows at its end, is forgotten at its start; times are sample indices of the whole stream.

    Args:
        keep_s: most audio that is kept; what is older is dropped once it was sent.

    """

    def __init__(self, keep_s: float) -> None:
        self._keep = samples(keep_s)
        self._pieces: deque[bytes] = deque()
        self.start = 0
        self.end = 0
        self.sent = 0
        self.finished = False
        self._connected = False
        self._changed = asyncio.Condition()

    async def append(self, piece: bytes) -> None:
        """Add PCM16, and wait while too much of the tape is unsent; without a connection, while the tape is full."""
        async with self._changed:
            self._pieces.append(piece)
            self.end += len(piece) // 2
            self._changed.notify_all()
            await self._changed.wait_for(self._room)
        self.forget(self.end - self._keep)

    def _room(self) -> bool:
        # What was sent and has no final must be heard again: new audio does not push it off the tape unseen.
        full = self._connected or self.end - self.start >= self._keep
        return not full or self.end - self.sent < samples(_AHEAD_S)

    async def finish(self) -> None:
        """No more audio will come."""
        async with self._changed:
            self.finished = True
            self._changed.notify_all()

    def rewind(self) -> int:
        """Go back to the beginning of what is kept, for a new connection; returns its sample index."""
        self._connected = True
        self.sent = self.start
        return self.start

    async def disconnect(self) -> None:
        """Take in all that there is room for, until the next connection."""
        async with self._changed:
            self._connected = False
            self._changed.notify_all()

    async def next(self, at: int) -> bytes | None:
        """Wait for the audio from a sample index on; `None` at the end."""
        async with self._changed:
            self.sent = at
            self._changed.notify_all()
            await self._changed.wait_for(lambda: self.end > self.sent or self.finished)
            if self.end <= self.sent:
                return None
            begin = self.end
            for piece in reversed(self._pieces):
                begin -= len(piece) // 2
                if begin <= self.sent:
                    return piece[2 * (self.sent - begin) :]
            raise AssertionError(self.sent)

    def forget(self, before: int) -> None:
        """Drop audio before a sample index, but none that was not sent."""
        before = min(before, self.sent)
        while self._pieces and self.start < before:
            cut = min(before - self.start, len(self._pieces[0]) // 2)
            rest = self._pieces.popleft()[2 * cut :]
            self.start += cut
            if rest:
                self._pieces.appendleft(rest)
