"""What stands between a connection and a session, in both directions: bounded, and pure but for the waiting."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from stt.audio import SAMPLE_RATE, Resampler, Samples, from_pcm16
from stt.server.dialects.native import Audio, Format
from stt.vad import FRAME

# More at once would keep the event loop too long.
_MOST_S: Final = 1.0
_NATIVE: Final = Format(SAMPLE_RATE, 1)
_MARKS: Final = 1024  # 20 s of messages of 20 ms


class Inbox:
    """Audio from a connection, as the source of a session. `put` never waits; whoever puts awaits `room` first."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._parts: deque[tuple[Format, bytearray]] = deque()
        self._waiting_s = 0.0
        self._heard = asyncio.Event()  # there is something to take
        self._room = asyncio.Event()
        self._room.set()
        self._finished = False
        self.least_s = FRAME / SAMPLE_RATE
        """What a session is woken for. The detector takes frames of 32 ms: less would be work for nothing."""
        self._resampler: Resampler | None = None
        self._format: Format | None = None
        self._marks: deque[tuple[int, float]] = deque(maxlen=_MARKS)
        self._clock = asyncio.get_running_loop().time
        self.received_s = 0.0
        """Audio put in so far."""

    @property
    def waiting_s(self) -> float:
        """Audio that waits to be taken."""
        return self._waiting_s

    def put(self, audio: Audio) -> None:
        """Add PCM; ignored after `finish`."""
        if self._finished or not audio.pcm:
            return
        if not self._parts or self._parts[-1][0] != audio.format:
            self._parts.append((audio.format, bytearray()))
        self._parts[-1][1].extend(audio.pcm)
        duration_s = len(audio.pcm) / (2 * audio.format.channels * audio.format.rate)
        self.received_s += duration_s
        self._waiting_s += duration_s
        self._marks.append((round(self.received_s * SAMPLE_RATE), self._clock()))
        if self._waiting_s >= self.least_s:
            self._heard.set()
        if self._waiting_s >= self._limit_s:
            self._room.clear()

    async def room(self) -> None:
        """Wait until less than the limit is waiting."""
        await self._room.wait()

    @property
    def full(self) -> bool:
        return not self._room.is_set()

    def finish(self) -> None:
        """End the source, once what waits has been taken."""
        self._finished = True
        self._heard.set()
        self._room.set()

    def arrival(self, sample: int) -> float | None:
        """When (on the event loop's clock) the sample of this index came in; `None` where it was long ago."""
        found = None
        for end, when in reversed(self._marks):
            if end < sample:
                return found
            found = when
        return found if len(self._marks) < _MARKS else None

    async def __aiter__(self) -> AsyncIterator[Samples]:
        while True:
            if not self._finished and self._waiting_s < self.least_s:
                self._heard.clear()
                await self._heard.wait()
            if not self._parts:
                break
            yield self._take()
        if self._resampler is not None:
            yield self._resampler.finish()

    def _take(self) -> Samples:
        form, pcm = self._parts[0]
        size = 2 * form.channels * round(_MOST_S * form.rate)
        if form == _NATIVE and len(pcm) >= 2 * FRAME:
            size = min(size, len(pcm)) // (2 * FRAME) * 2 * FRAME  # whole frames: the detector has nothing to keep
        taken = bytes(pcm[:size])
        if len(pcm) <= size:
            self._parts.popleft()
        else:
            del pcm[:size]
        self._waiting_s = self._waiting_s - len(taken) / (2 * form.channels * form.rate) if self._parts else 0.0
        if self._waiting_s < self._limit_s:
            self._room.set()
        if form != self._format:
            # What the old filter still holds, a few ms, is dropped: a client that changes its format starts anew.
            # Most clients send what is needed, and then nothing is left to do: no filter, and PCM16 has no NaN.
            self._format = form
            self._resampler = None if form == _NATIVE else Resampler(form.rate, form.channels)
        audio = from_pcm16(taken, form.channels)
        return audio[:, 0] if self._resampler is None else self._resampler.feed(audio)


@dataclass(slots=True, eq=False)
class _Message:
    text: str
    interim: bool


class Outbox:
    """Messages to a client that may read slowly: at most one interim waits, the newest; the rest up to a bound."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._messages: deque[_Message] = deque()
        self._interim: _Message | None = None
        self._bytes = 0
        self._changed = asyncio.Event()
        self._finished = False
        self.coalesced = 0
        """Interims that a newer one replaced before they were sent."""

    def put(self, text: str, *, interim: bool = False) -> bool:
        """Add a message; `False`: the bound is reached and it was not taken.

        An interim takes the place of one that still waits, which is removed where it stands and added at the end:
        what comes out is a part of what was put in, in the same order.
        """
        if interim and self._interim is not None:
            self._messages.remove(self._interim)
            self._bytes -= len(self._interim.text)
            self.coalesced += 1
        if self._bytes + len(text) > self._limit:
            return False
        message = _Message(text, interim)
        self._messages.append(message)
        self._bytes += len(text)
        if interim:
            self._interim = message
        self._changed.set()
        return True

    def finish(self) -> None:
        """End the stream, once what waits has been taken."""
        self._finished = True
        self._changed.set()

    async def take(self) -> str | None:
        """Wait for the next message; `None` at the end."""
        while not self._messages:
            if self._finished:
                return None
            self._changed.clear()
            await self._changed.wait()
        message = self._messages.popleft()
        self._bytes -= len(message.text)
        if message is self._interim:
            self._interim = None
        return message.text
