"""What every session of the server needs, whatever its client speaks: one connection around one session.

    wire -> _receive: Dialect.decode -> Inbox -> Session.run -> _sink -> Outbox -> _send: Dialect.encode -> wire

Ways to end: `end` (finished, too many errors, idle, going away) stops the input, and what was said still gets its final
before the goodbye; a client that vanished, or that does not read, ends everything at once.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from stt.audio import Samples, samples, seconds
from stt.control import Control
from stt.errors import AudioError
from stt.events import Acknowledged, Event, RecognitionFailed, TranscriptChanged, TurnCompleted, TurnStarted
from stt.server.codecs import Decoder
from stt.server.dialect import (
    Answer,
    Audio,
    Command,
    Dialect,
    Encoded,
    End,
    Ending,
    Finish,
    How,
    Malformed,
    Notice,
    Obeyed,
    OfChannel,
    Opened,
    SessionOptions,
    Tick,
)
from stt.server.logs import LOGGER, log
from stt.server.service import Service
from stt.server.streams import Inbox, Outbox, apart
from stt.server.wire import LAST_WORD_S, GoneError, Wire
from stt.session import Session

_PAUSE_EVERY: Final = 64  # messages: often enough to be fair, seldom enough to cost nothing
# While the server drains, a turn whose audio stops coming for so long is completed. Under load, and behind a proxy,
# clients that still speak were seen to be silent for more than a second.
_DRAIN_IDLE_S: Final = 5.0
_DRAIN_LOOK_S: Final = 0.1
# Frames of the detector, and what the resampler holds: audio that came in and that a session cannot have dealt with.
_UNDER_WAY_S: Final = 0.3


class _SlowError(Exception):
    """The client does not read."""


@dataclass(slots=True, eq=False)
class _Channel:
    """What is heard by itself: all of the audio, mostly."""

    number: int | None
    """`None` where there is but one."""
    inbox: Inbox
    session: Session
    started: int = -1
    completed: int = -1
    """The newest turns; one may start before the final of the one before."""

    @property
    def between_turns(self) -> bool:
        """Whether nobody speaks in what was received, also in what the session has not come to yet."""
        return self.started == self.completed and self.session.done_s >= self.inbox.received_s - _UNDER_WAY_S

    def told(self, item: Event | Tick | Obeyed) -> Event | Notice:
        """Return it as the dialect is to have it."""
        return item if self.number is None else OfChannel(self.number, item)


class Host:
    """Serves one connection, from the moment it is let in until it ends."""

    def __init__(self, name: str, wire: Wire, dialect: Dialect, options: SessionOptions, service: Service) -> None:
        assert service.recognizer is not None  # noqa: S101 - for the type checker: only a ready service has
        assert service.vad is not None  # noqa: S101 - sessions
        self.id = name
        self._wire = wire
        self._dialect = dialect
        self._options = options
        self._service = service
        self._settings = service.settings
        self._decoder = Decoder()
        self._outbox = Outbox(self._settings.max_unsent_bytes)
        numbers = range(options.channels) if options.channels > 1 else (None,)
        self._channels = [
            _Channel(
                number,
                Inbox(self._settings.max_buffer_s),
                Session(
                    service.recognizer,
                    service.vad,
                    settings=options.turns,
                    options=options.recognition,
                    ahead_s=self._settings.max_ahead_s,
                    trace=name,
                ),
            )
            for number in numbers
        ]
        self._inbox = self._channels[0].inbox  # as much came in for each
        self._clock = asyncio.get_running_loop().time
        self._last_heard = self._clock()
        self._idle_timer: asyncio.TimerHandle | None = None
        self._how: How | None = None
        self._saying_goodbye = False
        self._draining = False
        self._errors = 0
        self._unanswered = 0  # commands: who waits for what they ask for is not idle
        self._counted_s = 0.0
        self._turns = 0
        self._interims = 0

    async def run(self) -> None:
        """Accept, and serve until the end; raises nothing but cancellation. The slot is taken at once."""
        began, reason = time.monotonic(), "cut_off"
        self._service.enter(self, len(self._channels))
        try:
            await self._wire.accept(self._options.headers)
            log("session started", session=self.id, client=self._wire.client)
            await self._put(Opened())
            self._look()
            reason = await self._serve()
        except GoneError as gone:
            reason = str(gone)  # while it was let in
        except Exception:  # noqa: BLE001 - a mistake of ours ends this session alone, and the client hears no details
            reason = "failed"
            self._service.metrics.errors.labels("internal").inc()
            LOGGER.exception("session %s failed", self.id)
            with contextlib.suppress(Exception):
                await self._say_goodbye("failed")
        finally:
            if self._idle_timer is not None:
                self._idle_timer.cancel()
            self._decoder.close()
            metrics = self._service.metrics
            self._count_audio()
            self._service.leave(self, len(self._channels))
            metrics.closed.labels(reason).inc()
            metrics.coalesced.inc(self._outbox.coalesced)
            log(
                "session ended",
                session=self.id,
                reason=reason,
                lasted_s=round(time.monotonic() - began, 2),
                audio_s=round(self._inbox.received_s, 2),
                turns=self._turns,
                interims=self._interims,
                coalesced=self._outbox.coalesced or None,
                errors=self._errors or None,
                unheard_s=round(max(channel.inbox.waiting_s for channel in self._channels), 2) or None,
                opposed_channels=self._inbox.opposed or None,
            )

    async def _serve(self) -> str:
        reason = ""
        try:
            async with asyncio.TaskGroup() as tasks:
                receiving = tasks.create_task(self._receive())
                sending = tasks.create_task(self._send())
                listening = [tasks.create_task(self._listen(channel)) for channel in self._channels]
                for task in listening:
                    await task
                self._outbox.finish()
                await sending
                receiving.cancel()
        except* GoneError as gone:
            reason = str(gone.exceptions[0])
        except* _SlowError:
            reason = "slow_reader"
        if reason == "slow_reader":
            await self._say_goodbye("slow_reader")
        return reason or self._how or "failed"

    def end(self, how: How, message: str = "") -> None:
        """Take no more audio; say goodbye once the final of what was said is sent."""
        if self._how is None:
            self._how = how
            self._outbox.put(Ending(how, message))
            for channel in self._channels:
                channel.inbox.finish()

    def drain(self, *, now: bool) -> None:
        """End when the running turn does, when its audio stops coming, or now."""
        self._draining = True
        if now:
            self.end("going_away")
        else:
            self._look()

    async def _receive(self) -> None:
        """Read until the client leaves; audio that nobody has room for is left to TCP's own backpressure."""
        receive, decode = self._wire.receive, self._dialect.decode
        pace_s = _PAUSE_EVERY / self._settings.max_messages_per_s
        since, count = self._clock(), 0
        while True:
            try:
                frame = await receive()
            except GoneError:
                if self._saying_goodbye:
                    return
                raise
            count += 1
            if count % _PAUSE_EVERY == 0:
                # Messages that lie ready are handed out without a break: without this one, other sessions would wait.
                await asyncio.sleep(max(0.0, since + pace_s - self._clock()))
                since = self._clock()
                for channel in self._channels:
                    channel.inbox.least_s = self._service.piece_s
                self._count_audio()
            self._last_heard = self._clock()
            for command in decode(frame):
                await self._obey(command)

    async def _obey(self, command: Command) -> None:
        match command:
            case Audio():
                self._take(command)
            case Encoded():
                await self._decode(self._decoder.decode(command), fatal=command.codec.encoding == "container")
            case Malformed():
                await self._reject(command)
            case Answer():
                await self._put(command)
            case Finish():
                await self._decode(self._decoder.finish(), fatal=True)
                self.end("finished")
            case OfChannel(number, control):
                if self._how is None and isinstance(control, Control):
                    self._unanswered += 1
                    self._channels[number].inbox.command(control)
            case _:
                if self._how is None:
                    self._unanswered += len(self._channels)
                    for channel in self._channels:
                        channel.inbox.command(command)
        await self._room()

    def _take(self, audio: Audio) -> None:
        if self._how is not None:
            return
        if len(self._channels) == 1:
            self._inbox.put(audio)
            return
        for channel, part in zip(self._channels, apart(audio), strict=True):
            channel.inbox.put(part)

    async def _decode(self, pieces: AsyncIterator[Audio], *, fatal: bool) -> None:
        try:
            async for audio in pieces:
                self._take(audio)
                await self._room()
        except AudioError as error:
            await self._reject(Malformed("bad_audio", str(error), fatal=fatal))

    async def _room(self) -> None:
        for channel in self._channels:
            if channel.inbox.full:
                await channel.inbox.room()
                self._last_heard = self._clock()

    def _count_audio(self) -> None:
        self._service.metrics.audio.inc(self._inbox.received_s - self._counted_s)
        self._counted_s = self._inbox.received_s

    async def _reject(self, wrong: Malformed) -> None:
        if wrong.fatal and self._how is not None:
            return  # it has ended already
        self._errors += 1
        if self._errors <= self._settings.max_errors:
            self._service.metrics.errors.labels(wrong.code).inc()
            await self._put(wrong)
            if wrong.fatal:
                self.end("bad_message")
        elif self._how is None:
            self._service.metrics.errors.labels("too_many_errors").inc()
            self.end("too_many_errors", f"more than {self._settings.max_errors} messages were malformed")

    async def _put(self, item: Event | Notice) -> None:
        """Queue what the client is to hear; while it has too much to read, its session waits for it, but not long."""
        while not self._outbox.put(item):
            await self._read_up()

    async def _read_up(self) -> None:
        try:
            async with asyncio.timeout(self._settings.send_timeout_s):
                await self._outbox.room()
        except TimeoutError:
            raise _SlowError from None

    async def _listen(self, channel: _Channel) -> None:
        async def sink(event: Event) -> None:
            await self._sink(channel, event)

        noted = self._options.tick_s is not None or self._options.obeyed
        await channel.session.run(self._heard(channel) if noted else channel.inbox, sink)

    async def _heard(self, channel: _Channel) -> AsyncIterator[Samples | Control]:
        """Hand on the inbox; tell how far the audio's clock has got and where commands were obeyed, where asked to."""
        every = None if self._options.tick_s is None else samples(self._options.tick_s)
        taken = 0
        async for piece in channel.inbox:
            yield piece  # and go on once the session is done with it
            if isinstance(piece, Control):
                if self._options.obeyed:
                    self._outbox.put(channel.told(Obeyed(piece)))  # now: acknowledgements come after it
                    await self._read_up()
                continue
            before, taken = taken, taken + len(piece)
            if every is not None and taken // every > before // every:
                await self._put(channel.told(Tick(seconds(taken), channel.session.speech)))

    async def _sink(self, channel: _Channel, event: Event) -> None:
        metrics = self._service.metrics
        match event:
            case TurnStarted(turn):
                channel.started = turn
            case TranscriptChanged(latency=latency):
                self._interims += 1
                metrics.interims.inc()
                metrics.wait.observe(latency.waited_s)
            case TurnCompleted():
                channel.completed = event.turn
                self._turns += 1
                metrics.turns.labels("words" if event.text else "empty").inc()
                metrics.ended.labels(event.why).inc()
                decided = channel.inbox.arrival(event.decided)
                if decided is not None:
                    metrics.final.observe(max(0.0, self._clock() - decided))
            case Acknowledged():
                self._unanswered -= 1
                self._last_heard = self._clock()
            case RecognitionFailed():
                metrics.errors.labels("engine_failed").inc()
                log("recognition failed", logging.ERROR, session=self.id, turn=event.turn, error=event.message)
            case _:
                pass
        await self._put(channel.told(event))
        if self._draining and isinstance(event, TurnCompleted):
            self._look()

    async def _send(self) -> None:
        encode, send = self._dialect.encode, self._wire.send
        while (item := await self._outbox.take()) is not None:
            for frame in encode(item):
                try:
                    async with asyncio.timeout(self._settings.send_timeout_s):
                        await send(frame)
                except TimeoutError:
                    raise _SlowError from None
        await self._say_goodbye(self._how or "failed")

    async def _say_goodbye(self, how: How) -> None:
        self._saying_goodbye = True
        goodbye = self._dialect.ended(End(how, self._inbox.received_s))
        with contextlib.suppress(TimeoutError, GoneError):
            async with asyncio.timeout(LAST_WORD_S):
                for frame in goodbye.frames:
                    await self._wire.send(frame)
        # It goes behind what is buffered for a client that does not read; the server cuts such a one off later.
        await self._wire.close(goodbye.code, goodbye.reason)

    def _look(self) -> None:
        """See whether it is time to end: one timer per session that looks, instead of one per message."""
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        if self._how is not None:
            return
        idle_s = self._settings.idle_timeout_s
        if self._draining:
            if all(channel.between_turns for channel in self._channels):
                self.end("going_away")
                return
            idle_s = min(idle_s, _DRAIN_IDLE_S)
        left_s = self._last_heard + idle_s - self._clock()
        # While audio waits for us it is we who do not listen.
        full = any(channel.inbox.full for channel in self._channels)
        unheard = any(channel.inbox.waiting_s >= channel.inbox.least_s for channel in self._channels)
        if left_s <= 0 and not (full or (self._draining and unheard) or (self._unanswered and not self._draining)):
            if self._draining:
                self.end("going_away")
            else:
                self._service.metrics.errors.labels("idle").inc()
                self.end("idle", f"nothing was sent for {idle_s:g} s")
            return
        # Where the idle time is short, so is the time until it is looked at again: nobody then waits a whole second.
        again_s = _DRAIN_LOOK_S if self._draining else min(1.0, idle_s)
        wait_s = again_s if self._draining or full or left_s <= 0 else left_s
        self._idle_timer = asyncio.get_running_loop().call_later(wait_s, self._look)
