"""One WebSocket of the native protocol around one session.

    websocket -> _receive: Decoder -> Inbox -> Session.run -> _sink: Encoder -> Outbox -> _send -> websocket

Ways to end: `end` (finish, too many errors, idle, drain) stops the input, and what was said still gets its final
before the close code; a client that vanished, or that does not read, ends everything at once.
"""

import asyncio
import contextlib
import logging
import secrets
import time
from typing import Any, Final

from starlette.websockets import WebSocket, WebSocketDisconnect

from stt.events import Event, RecognitionFailed, TranscriptChanged, TurnCompleted, TurnStarted
from stt.recognition import RecognitionOptions
from stt.server.dialects import native as protocol
from stt.server.dialects.native import Audio, Decoder, Encoder, Finish, Options, ProtocolError
from stt.server.logs import LOGGER, log
from stt.server.service import Service
from stt.server.streams import Inbox, Outbox
from stt.session import Session

_PAUSE_EVERY: Final = 64  # messages: often enough to be fair, seldom enough to cost nothing
_DRAIN_IDLE_S: Final = 1.0
_LAST_WORD_S: Final = 1.0
# What a close code tells, of the client or of the server, where no `end` was under way; others: it vanished.
_GONE: Final[dict[Any, str]] = {
    1000: "left",
    1001: "left",
    1002: "bad_message",
    1007: "bad_message",
    1008: "flood",
    1009: "bad_message",
    1012: "cut_off",
}


class _GoneError(Exception):
    """The client left; the text says how."""


class _SlowError(Exception):
    """The client does not read."""


class Connection:
    """Serves one accepted WebSocket until it ends."""

    def __init__(self, websocket: WebSocket, service: Service, options: Options) -> None:
        assert service.recognizer is not None  # noqa: S101 - for the type checker: only a ready service has
        assert service.vad is not None  # noqa: S101 - sessions
        self.id = secrets.token_hex(4)
        self._websocket = websocket
        self._service = service
        self._settings = service.settings
        self._options = options
        self._decoder = Decoder(options.format)
        self._encoder = Encoder(options)
        self._inbox = Inbox(self._settings.max_buffer_s)
        self._outbox = Outbox(self._settings.max_unsent_bytes)
        self._session = Session(
            service.recognizer,
            service.vad,
            settings=options.turns,
            options=RecognitionOptions(options.language),
            ahead_s=self._settings.max_ahead_s,
        )
        self._clock = asyncio.get_running_loop().time
        self._last_heard = self._clock()
        self._idle_s = self._settings.idle_timeout_s
        self._idle_timer: asyncio.TimerHandle | None = None
        self._close: tuple[int, str] | None = None
        self._said_goodbye = False
        self._in_turn = False
        self._draining = False
        self._errors = 0
        self._counted_s = 0.0
        self._turns = 0
        self._interims = 0

    async def run(self) -> None:
        """Accept, and serve until the end; raises nothing but cancellation. The slot is taken at once."""
        began, reason = time.monotonic(), "cut_off"
        self._service.enter(self)
        try:
            await self._websocket.accept()
            client = self._websocket.client
            log("session started", session=self.id, client=f"{client.host}:{client.port}" if client else None)
            if self._options.events:
                self._put(protocol.dump({"type": "session_started", "session": self.id}))
            self._check_idle()
            reason = await self._serve()
        except (WebSocketDisconnect, RuntimeError):
            reason = "vanished"  # while it was let in
        except Exception:  # noqa: BLE001 - a mistake of ours ends this session alone, and the client hears no details
            reason = "failed"
            self._service.metrics.errors.labels("internal").inc()
            LOGGER.exception("session %s failed", self.id)
            with contextlib.suppress(Exception):
                async with asyncio.timeout(_LAST_WORD_S):
                    await self._websocket.send_text(protocol.error("internal", "the server failed; please reconnect"))
                    await self._websocket.close(1011, "internal error")
        finally:
            if self._idle_timer is not None:
                self._idle_timer.cancel()
            metrics = self._service.metrics
            self._count_audio()
            self._service.leave(self)
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
                unheard_s=round(self._inbox.waiting_s, 2) or None,
            )

    async def _serve(self) -> str:
        reason = ""
        try:
            async with asyncio.TaskGroup() as tasks:
                receiving = tasks.create_task(self._receive())
                sending = tasks.create_task(self._send())
                await self._session.run(self._inbox, self._sink)
                self._outbox.finish()
                await sending
                receiving.cancel()
        except* _GoneError as gone:
            reason = str(gone.exceptions[0])
        except* _SlowError:
            reason = "slow_reader"
        if reason == "slow_reader":
            await self._say_goodbye(1008, "reads too slowly")
        return reason or (self._close[1].replace(" ", "_") if self._close else "failed")

    def end(self, code: int, reason: str) -> None:
        """Take no more audio; close with this code once the final of what was said is sent."""
        if self._close is None:
            self._close = code, reason
            self._inbox.finish()

    def drain(self, *, now: bool) -> None:
        """End when the running turn does, when its audio stops coming, or now."""
        self._draining = True
        self._idle_s = min(self._idle_s, _DRAIN_IDLE_S)
        if now or not self._in_turn:
            self.end(1001, "going away")
        else:
            self._check_idle()

    async def _receive(self) -> None:
        """Read until the client leaves; audio that nobody has room for is left to TCP's own backpressure."""
        receive, inbox = self._websocket.receive, self._inbox
        pace_s = _PAUSE_EVERY / self._settings.max_messages_per_s
        since, count = self._clock(), 0
        while True:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                if self._said_goodbye:
                    return
                raise _GoneError(_GONE.get(message.get("code", 1006), "vanished"))
            count += 1
            if count % _PAUSE_EVERY == 0:
                # Messages that lie ready are handed out without a break: without this one, other sessions would wait.
                await asyncio.sleep(max(0.0, since + pace_s - self._clock()))
                since = self._clock()
                inbox.least_s = self._service.piece_s
                self._count_audio()
            self._last_heard = self._clock()
            try:
                text = message.get("text")
                command = self._decoder.text(text) if text is not None else self._decoder.binary(message["bytes"])
            except ProtocolError as error:
                self._reject(error)
                continue
            if self._close is not None:
                if isinstance(command, Audio) and self._close[0] == 1000:
                    self._reject(ProtocolError("finished", "audio after finish is not heard"))
                continue
            match command:
                case Audio():
                    inbox.put(command)
                    if inbox.full:
                        await inbox.room()
                        self._last_heard = self._clock()
                case Finish():
                    self.end(1000, "finished")

    def _count_audio(self) -> None:
        self._service.metrics.audio.inc(self._inbox.received_s - self._counted_s)
        self._counted_s = self._inbox.received_s

    def _reject(self, error: ProtocolError) -> None:
        self._errors += 1
        if self._errors > self._settings.max_errors:
            if self._close is None:
                self._error("too_many_errors", f"more than {self._settings.max_errors} messages were malformed")
                self.end(1008, "too many errors")
            return
        self._error(error.code, str(error))

    def _error(self, code: str, text: str) -> None:
        self._service.metrics.errors.labels(code).inc()
        self._put(protocol.error(code, text))

    def _put(self, message: str, *, interim: bool = False) -> None:
        if not self._outbox.put(message, interim=interim):
            raise _SlowError

    async def _sink(self, event: Event) -> None:
        metrics = self._service.metrics
        interim = False
        match event:
            case TurnStarted():
                self._in_turn = True
            case TranscriptChanged(cause=cause, latency=latency):
                interim = cause == "interim"
                self._interims += 1
                metrics.interims.inc()
                metrics.wait.observe(latency.waited_s)
            case TurnCompleted():
                self._in_turn = False
                self._turns += 1
                metrics.turns.labels("words" if event.text else "empty").inc()
                decided = self._inbox.arrival(event.decided)
                if decided is not None:
                    metrics.final.observe(max(0.0, self._clock() - decided))
            case RecognitionFailed():
                metrics.errors.labels("engine_failed").inc()
                log("recognition failed", logging.ERROR, session=self.id, turn=event.turn, error=event.message)
        message = self._encoder.encode(event)
        if message is not None:
            self._put(message, interim=interim)
        if self._draining and isinstance(event, TurnCompleted):
            self.end(1001, "going away")

    async def _send(self) -> None:
        while (message := await self._outbox.take()) is not None:
            try:
                async with asyncio.timeout(self._settings.send_timeout_s):
                    await self._websocket.send_text(message)
            except TimeoutError:
                raise _SlowError from None
            except (WebSocketDisconnect, RuntimeError):
                raise _GoneError("vanished") from None
        code, reason = self._close or (1011, "ended")
        await self._say_goodbye(code, reason)

    async def _say_goodbye(self, code: int, reason: str) -> None:
        self._said_goodbye = True
        # It goes behind what is buffered for a client that does not read; the server cuts such a one off later.
        with contextlib.suppress(TimeoutError, WebSocketDisconnect, RuntimeError):
            async with asyncio.timeout(_LAST_WORD_S):
                await self._websocket.close(code, reason)

    def _check_idle(self) -> None:
        """One timer per session that looks whether it is time, instead of one per message."""
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        if self._close is not None:
            return
        left_s = self._last_heard + self._idle_s - self._clock()
        if left_s <= 0 and not self._inbox.full:
            if self._draining:
                self.end(1001, "going away")
            else:
                with contextlib.suppress(_SlowError):
                    self._error("idle", f"nothing was sent for {self._idle_s:g} s")
                self.end(1008, "idle")
            return
        # While the inbox is full it is we who do not listen.
        wait_s = max(left_s, 0.001) if not self._inbox.full else 1.0
        self._idle_timer = asyncio.get_running_loop().call_later(wait_s, self._check_idle)
