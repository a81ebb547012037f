"""What stands between a connection and a session, in both directions: bounded, and pure but for the waiting."""

import asyncio
import sys
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from stt.audio import SAMPLE_RATE, Resampler, Samples, from_pcm16
from stt.control import Configure, Control
from stt.events import Event, TranscriptChanged, TurnCompleted
from stt.server.dialect import MONO_16K, Answer, Audio, Ending, Format, Notice, Obeyed, OfChannel, Tick
from stt.vad import FRAME

# More at once would keep the event loop too long.
_MOST_S: Final = 1.0
_REST_BYTES: Final = 128
_OBEYED_BYTES: Final = 4096  # a dialect may keep a long answer for it
_MOST_CONTROLS: Final = 64  # waiting; more are left to the connection
_MARKS: Final = 1024  # 20 s of messages of 20 ms


class Inbox:
    """Audio and commands from a connection, as the source of a session; commands stay where they came in the audio.

    `put` never waits; whoever puts awaits `room` first.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._parts: deque[tuple[Format, bytearray] | Control] = deque()
        self._controls = 0  # of the parts
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
        self.opposed = False
        """Channels cancelled each other in their mean, and one was turned over."""

    @property
    def waiting_s(self) -> float:
        """Audio that waits to be taken."""
        return self._waiting_s

    def put(self, audio: Audio) -> None:
        """Add PCM; ignored after `finish`."""
        if self._finished or not audio.pcm:
            return
        last = self._parts[-1] if self._parts else None
        if not isinstance(last, tuple) or last[0] != audio.format:
            last = audio.format, bytearray()
            self._parts.append(last)
        last[1].extend(audio.pcm)
        duration_s = len(audio.pcm) / (2 * audio.format.channels * audio.format.rate)
        self.received_s += duration_s
        self._waiting_s += duration_s
        self._marks.append((round(self.received_s * SAMPLE_RATE), self._clock()))
        if self._waiting_s >= self.least_s:
            self._heard.set()
        if self._waiting_s >= self._limit_s:
            self._room.clear()

    def command(self, control: Control) -> None:
        """Add a command, which is taken after the audio before it; ignored after `finish`."""
        if self._finished:
            return
        self._parts.append(control)
        self._controls += 1
        self._heard.set()
        if self._controls >= _MOST_CONTROLS:
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

    async def __aiter__(self) -> AsyncIterator[Samples | Control]:
        while True:
            if not self._finished and not self._controls and self._waiting_s < self.least_s:
                self._heard.clear()
                await self._heard.wait()
            if not self._parts:
                break
            part = self._parts[0]
            if isinstance(part, tuple):
                form, pcm = part
                if form != self._format:
                    # What the old filter still holds, a few ms, was heard too, and later times count on it.
                    # Most clients send what is needed, and then nothing is left to do: no filter; PCM16 has no NaN.
                    if self._resampler is not None:
                        yield self._resampler.finish()
                    self._format = form
                    self._resampler = None if form == MONO_16K else Resampler(form.rate, form.channels)
                yield self._take(form, pcm)
            else:
                if self._resampler is not None and not isinstance(part, Configure):
                    yield self._resampler.finish()  # it came before the command
                    self._format = self._resampler = None
                self._parts.popleft()
                self._controls -= 1
                self._make_room()
                yield part
        if self._resampler is not None:
            yield self._resampler.finish()

    def _take(self, form: Format, pcm: bytearray) -> Samples:
        size = 2 * form.channels * round(_MOST_S * form.rate)
        if form == MONO_16K and len(pcm) >= 2 * FRAME:
            size = min(size, len(pcm)) // (2 * FRAME) * 2 * FRAME  # whole frames: the detector has nothing to keep
        taken = bytes(pcm[:size])
        if len(pcm) <= size:
            self._parts.popleft()
        else:
            del pcm[:size]
        self._waiting_s = self._waiting_s - len(taken) / (2 * form.channels * form.rate) if self._parts else 0.0
        self._make_room()
        audio = from_pcm16(taken, form.channels)
        if self._resampler is None:
            return audio[:, 0]
        heard = self._resampler.feed(audio)
        self.opposed = self.opposed or self._resampler.opposed
        return heard

    def _make_room(self) -> None:
        if self._waiting_s < self._limit_s and self._controls < _MOST_CONTROLS:
            self._room.set()


def apart(audio: Audio) -> list[Audio]:
    """Take interleaved channels apart."""
    channels, form = audio.format.channels, Format(audio.format.rate, 1)
    pcm = np.frombuffer(audio.pcm, "<i2")
    return [Audio(pcm[channel::channels].tobytes(), form) for channel in range(channels)]


@dataclass(slots=True, eq=False)
class _Waiting:
    item: Event | Notice
    kind: tuple[type, int]
    """And its channel."""
    size: int


class Outbox:
    """What a client is to be told and has not read yet; it is encoded as it is sent.

    At most one interim of a channel waits, the newest, and one tick; the rest up to a bound.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._items: deque[_Waiting] = deque()
        self._newest: dict[tuple[type, int], _Waiting] = {}  # of the kinds that replace each other, by channel
        self._bytes = 0
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._finished = False
        self.coalesced = 0
        """Interims that a newer one replaced before they were sent."""

    def put(self, item: Event | Notice) -> bool:
        """Add an item; `False`: more than the bound waits already, and it was not taken (`Ending` and `Obeyed` are).

        An item of any size is taken while what waits is within the bound: whoever reads promptly gets it. An interim
        takes the place of one that still waits, which is removed where it stands and added at the end: what comes out
        is a part of what was put in, in the same order.
        """
        said, channel = (item.item, item.channel) if isinstance(item, OfChannel) else (item, 0)
        interim = isinstance(said, TranscriptChanged) and said.cause == "interim"
        replaces, kind = interim or isinstance(said, Tick), (type(said), channel)
        if replaces and (old := self._newest.pop(kind, None)) is not None:
            self._items.remove(old)
            self._bytes -= old.size
            self.coalesced += interim
        if self._bytes > self._limit and not isinstance(said, Ending | Obeyed):
            return False
        waiting = _Waiting(item, kind, _size(said))
        self._items.append(waiting)
        self._bytes += waiting.size
        if replaces:
            self._newest[kind] = waiting
        self._changed.set()
        return True

    async def room(self) -> None:
        """Wait until what waits is within the bound."""
        while self._bytes > self._limit:
            self._room.clear()
            await self._room.wait()

    def finish(self) -> None:
        """End the stream, once what waits has been taken."""
        self._finished = True
        self._changed.set()

    async def take(self) -> Event | Notice | None:
        """Wait for the next item; `None` at the end."""
        while not self._items:
            if self._finished:
                return None
            self._changed.clear()
            await self._changed.wait()
        waiting = self._items.popleft()
        self._bytes -= waiting.size
        self._room.set()
        if self._newest.get(waiting.kind) is waiting:
            del self._newest[waiting.kind]
        return waiting.item


def _size(item: object) -> int:
    """Bytes of memory that an item holds, about: its texts, and something for the rest."""
    match item:
        case TranscriptChanged():
            return _REST_BYTES + sys.getsizeof(item.text) + _REST_BYTES * len(item.words)
        case TurnCompleted():
            return (
                _REST_BYTES
                + sys.getsizeof(item.text)
                + sum(_REST_BYTES + sys.getsizeof(passage.text) for passage in item.passages)
                + _REST_BYTES * len(item.words)
            )
        case Answer(content):  # it may repeat what a client sent
            return _REST_BYTES + len(content if isinstance(content, bytes | str) else repr(content))
        case Obeyed():
            return _OBEYED_BYTES
        case _:
            return _REST_BYTES
