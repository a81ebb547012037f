"""`RemoteSession`: a session on another machine, with the shape of `stt.session.Session`.

    source -> _record: tape -> _send -> websocket -> server
    sink <- _receive: Event <- message <-+

The tape keeps the audio since the last completed turn. When the connection is lost, the tape goes on recording, and the
next connection hears it again: turns go on being counted, nothing said is lost and no final comes twice.
"""

import asyncio
import json
import random
import socket
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI, WebSocketException

from stt.audio import to_pcm16
from stt.clock import samples, seconds
from stt.errors import RemoteError, SettingsError
from stt.events import (
    Acknowledged,
    Event,
    Passage,
    RecognitionFailed,
    TranscriptChanged,
    TurnCompleted,
    TurnPaused,
    TurnResumed,
    TurnStarted,
)
from stt.server.access import is_key
from stt.server.dialects.native import PATH, ProtocolError, decode_event
from stt.session import AudioSource, Sink
from stt.settings import TurnSettings

_KEEP_S: Final = 120.0  # on the tape; of a turn that does not end, what is older is lost with the connection
_AHEAD_S: Final = 5.0  # unsent audio on a connection, before a source that is faster than the network has to wait
_PIECE_S: Final = 1.0  # of a source that hands out more at once
_BEFORE_TURN_S: Final = 0.3  # the pre-roll of a turn may reach back so far, where the gap before it is as long
_FIRST_BACKOFF_S: Final = 0.25
_MOST_BACKOFF_S: Final = 5.0
_SETTLED_S: Final = 5.0  # a connection that lasted so long worked; so did one that brought something new
_TELL_EVERY_S: Final = 5.0  # of lost audio
_SEND_BUFFER: Final = 64 << 10  # more would only put our own pings at the end of a longer queue


class _Tape:
    """Audio of one stream from the last completed turn on; times are sample indices of the whole stream."""

    def __init__(self) -> None:
        self.pieces: deque[bytes] = deque()
        self.start = 0
        self.end = 0
        self.sent = 0
        self.finished = False
        self.connected = False
        self.changed = asyncio.Condition()

    async def append(self, piece: bytes) -> None:
        """Add PCM16, and wait while too much of the tape is unsent; without a connection, while the tape is full."""
        async with self.changed:
            self.pieces.append(piece)
            self.end += len(piece) // 2
            self.changed.notify_all()
            await self.changed.wait_for(self._room)
        self.forget(self.end - samples(_KEEP_S))

    def _room(self) -> bool:
        # What was sent and has no final must be heard again: new audio does not push it off the tape unseen.
        full = self.connected or self.end - self.start >= samples(_KEEP_S)
        return not full or self.end - self.sent < samples(_AHEAD_S)

    async def finish(self) -> None:
        async with self.changed:
            self.finished = True
            self.changed.notify_all()

    def rewind(self) -> int:
        """Go back to the beginning of what is kept, for a new connection; returns its sample index."""
        self.connected = True
        self.sent = self.start
        return self.start

    async def disconnect(self) -> None:
        """Take in all that there is room for, until the next connection."""
        async with self.changed:
            self.connected = False
            self.changed.notify_all()

    async def next(self, at: int) -> bytes | None:
        """Wait for the audio from a sample index on; `None` at the end."""
        async with self.changed:
            self.sent = at
            self.changed.notify_all()
            await self.changed.wait_for(lambda: self.end > self.sent or self.finished)
            if self.end <= self.sent:
                return None
            begin = self.end
            for piece in reversed(self.pieces):
                begin -= len(piece) // 2
                if begin <= self.sent:
                    return piece[2 * (self.sent - begin) :]
            raise AssertionError(self.sent)

    def forget(self, before: int) -> None:
        """Drop audio before a sample index, but none that was not sent."""
        before = min(before, self.sent)
        while self.pieces and self.start < before:
            cut = min(before - self.start, len(self.pieces[0]) // 2)
            rest = self.pieces.popleft()[2 * cut :]
            self.start += cut
            if rest:
                self.pieces.appendleft(rest)


class RemoteSession:
    """One stream of audio, heard by a server.

    Args:
        url: `ws://host:port` or `wss://...`; the path is added where there is none, options in the query are kept.
        api_key: sent as `Authorization: Bearer`; printable ASCII.
        settings: gaps and whether there are interims; `None`: the server's own. Other fields do not travel.
        language: `None`: the server's own; `auto` lets the engine find out.
        patience_s: how long to go on trying to reach a server that was lost, or is not ready yet.
        notify: called with a sentence for people when the connection is made, lost, or tried again, and when audio was
            lost: a source that cannot wait counts that in its `overruns`.
        on_message: called with each message as it came.

    Raises:
        SettingsError: the URL is not one of a WebSocket, or the key is none.

    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        settings: TurnSettings | None = None,
        language: str | None = None,
        patience_s: float = 60.0,
        notify: Callable[[str], None] | None = None,
        on_message: Callable[[str], None] | None = None,
    ) -> None:
        self.url = session_url(url, _options(settings, language))
        self._place = self.url.partition("?")[0].removesuffix(PATH)
        self._headers = authorization(api_key)
        self._patience_s = patience_s
        self._notify = notify or (lambda _: None)
        self._on_message = on_message or (lambda _: None)
        self._tape = _Tape()
        self._turns = 0  # completed
        self._started = -1  # the last turn of which the sink knows that it began
        self._done = 0
        self._reached = 0  # the farthest that any event was
        self._lost_blocks = 0  # as far as was told
        self._last_error: dict[str, Any] = {}

    @property
    def done_s(self) -> float:
        """Seconds of the stream up to the last event."""
        return seconds(self._done)

    async def run(self, source: AudioSource, sink: Sink) -> None:
        """Send the events of `source` to `sink` until the source ends and the last turn has its final.

        Where the source fails, the turn that runs is completed before the error is raised. What the sink raises ends
        the session at once. A session runs once.

        Raises:
            RemoteError: the server cannot be reached, refuses the session or ends it for a reason that will not pass.

        """
        try:
            async with asyncio.TaskGroup() as tasks:
                recording = tasks.create_task(self._record(source))
                await self._converse(sink)
                recording.cancel()
        except BaseExceptionGroup as group:
            failure: BaseException = group
            while isinstance(failure, BaseExceptionGroup) and len(failure.exceptions) == 1:
                failure = failure.exceptions[0]  # one failure needs no group around it
            raise failure from None
        if not recording.cancelled() and (error := recording.result()):
            raise error

    async def _record(self, source: AudioSource) -> Exception | None:
        failure: Exception | None = None
        size = samples(_PIECE_S)
        clock = asyncio.get_running_loop().time
        told = clock() - _TELL_EVERY_S
        try:
            async for piece in source:
                for at in range(0, len(piece), size):
                    await self._tape.append(to_pcm16(piece[at : at + size]))
                if clock() - told > _TELL_EVERY_S and self._tell_overruns(source):
                    told = clock()
        except Exception as error:  # noqa: BLE001 - kept and raised after the last final
            failure = error
        self._tell_overruns(source)
        await self._tape.finish()
        return failure

    def _tell_overruns(self, source: AudioSource) -> bool:
        lost = getattr(source, "overruns", 0) - self._lost_blocks
        if lost > 0:
            self._lost_blocks += lost
            self._notify(f"{lost} blocks of audio were lost: the server did not take them in time")
        return lost > 0

    async def _converse(self, sink: Sink) -> None:
        """Hold one connection after the other until all is said."""
        loop = asyncio.get_running_loop()
        known, backoff_s, lost = False, _FIRST_BACKOFF_S, loop.time()
        while True:
            try:
                async with connect(
                    self.url,
                    additional_headers=self._headers,
                    compression=None,
                    open_timeout=10,
                    close_timeout=2,
                    ping_interval=10,
                    ping_timeout=30,
                    max_size=4 << 20,
                ) as websocket:
                    self._notify(f"connected to {self._place}")
                    known, since, reached = True, loop.time(), self._reached
                    why = await self._talk(websocket, sink)
                    if why is None:
                        return
                    if self._reached > reached or loop.time() - since > _SETTLED_S:
                        backoff_s, lost = _FIRST_BACKOFF_S, loop.time()
            except InvalidStatus as refused:
                why = _refusal(refused)
                if refused.response.status_code != 503:
                    raise RemoteError(f"{self._place}: {why}") from None
            except (OSError, TimeoutError, InvalidHandshake, InvalidURI, WebSocketException) as error:
                why = str(error) or type(error).__name__
                if not known:
                    raise RemoteError(f"cannot connect to {self._place}: {why}") from error
            if loop.time() + backoff_s > lost + self._patience_s:
                raise RemoteError(f"{self._place}: gave up after {self._patience_s:g} s: {why}")
            self._notify(f"{why}; trying again in {backoff_s:.2g} s")
            # Many clients lose one server at the same moment; they should not all come back at the same moment.
            await asyncio.sleep(backoff_s * random.uniform(0.75, 1.25))
            backoff_s = min(2 * backoff_s, _MOST_BACKOFF_S)

    async def _talk(self, websocket: ClientConnection, sink: Sink) -> str | None:
        """Use one connection until it ends; returns why it ended early, or `None` if all is said."""
        raw: socket.socket | None = websocket.transport.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        self._last_error = {}
        base = self._tape.rewind()
        try:
            async with asyncio.TaskGroup() as tasks:
                sending = tasks.create_task(self._send(websocket, base))
                await self._receive(websocket, sink, base, self._turns)
                sending.cancel()
        finally:
            await self._tape.disconnect()
        code, reason = websocket.close_code, websocket.close_reason
        if code == 1000 and self._tape.finished and self._tape.sent == self._tape.end:
            return None
        error = self._last_error
        why = str(error.get("error") or reason or f"the connection was lost (code {code})")
        if code in (1002, 1003, 1007, 1008, 1009) and error.get("code") != "idle":
            raise RemoteError(f"{self._place}: {why}")
        return why

    async def _send(self, websocket: ClientConnection, at: int) -> None:
        try:
            while (piece := await self._tape.next(at)) is not None:
                await websocket.send(piece)
                at = self._tape.sent + len(piece) // 2
            await websocket.send('{"type":"finish"}')
        except ConnectionClosed:
            pass  # `_receive` sees it too, and knows why

    async def _receive(self, websocket: ClientConnection, sink: Sink, base: int, turns: int) -> None:
        """Hand events on, moved from this connection's turns and times to the stream's."""
        while True:
            try:
                text = await websocket.recv()
            except ConnectionClosed:
                return
            if isinstance(text, bytes):
                raise RemoteError(f"{self._place}: expected text messages, got bytes; is this an stt server?")
            self._on_message(text)
            try:
                message = json.loads(text)
                if not isinstance(message, dict):
                    raise ProtocolError("bad_message", f"expected a JSON object, got {text[:60]!r}")  # noqa: TRY301
                event = decode_event(message)
            except (ValueError, ProtocolError) as error:
                raise RemoteError(f"{self._place}: not understood: {error}; is this an stt server?") from None
            if event is not None:
                await self._pass_on(_moved(event, base, turns), sink)
            elif "error" in message:
                self._last_error = message
                self._notify(f"the server says: {message['error']}")

    async def _pass_on(self, event: Event, sink: Sink) -> None:
        match event:
            case TurnStarted(turn, start):
                self._done = start
                if turn <= self._started:
                    return  # begun on the connection before, and heard again
                self._started = turn
            case TranscriptChanged(end=end) | TurnPaused(end=end):
                self._done = end
            case TurnCompleted(turn, _, end):
                self._done = end
                self._turns = turn + 1
                self._tape.forget(end + samples(_BEFORE_TURN_S / 2))
        self._reached = max(self._reached, self._done)
        await sink(event)


def _moved(event: Event, base: int, turns: int) -> Event:
    match event:
        case TurnStarted(turn, start):
            return TurnStarted(turn + turns, start + base)
        case TurnPaused(turn, end):
            return TurnPaused(turn + turns, end + base)
        case TurnResumed(turn, at):
            return TurnResumed(turn + turns, at + base)
        case RecognitionFailed(turn, message):
            return RecognitionFailed(turn + turns, message)
        case Acknowledged(command, at):
            return Acknowledged(command, at + base)
        case TranscriptChanged():
            return replace(event, turn=event.turn + turns, start=event.start + base, end=event.end + base)
        case TurnCompleted():
            return replace(
                event,
                turn=event.turn + turns,
                start=event.start + base,
                end=event.end + base,
                passages=tuple(Passage(p.start + base, p.end + base, p.text) for p in event.passages),
            )


def session_url(url: str, options: Mapping[str, str], defaults: Mapping[str, str] | None = None) -> str:
    """Check a server's URL; add the path where there is none, and options to the query: it wins over `defaults` alone.

    Raises:
        SettingsError: it is not the URL of a WebSocket.

    """
    parts = urlsplit("")
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("ws", "wss") and bool(parts.hostname) and parts.port != 0
        (parts.hostname or "").encode("idna")  # as a resolver would: an empty label, or one that is too long
    except ValueError:
        fits = False
    if not fits:
        msg = f"expected a URL like ws://127.0.0.1:15751 or wss://host, got {url!r}"
        raise SettingsError(msg)
    query = urlencode({**(defaults or {}), **dict(parse_qsl(parts.query, keep_blank_values=True)), **options})
    return urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/") or PATH, query, ""))


def authorization(api_key: str | None) -> dict[str, str]:
    """Return the headers that carry a key; none for no key, or an empty one.

    Raises:
        SettingsError: no header can carry it. The message does not show it.

    """
    if not api_key:
        return {}
    if not is_key(api_key):
        msg = "API key: expected printable ASCII characters, without white space around them, got others"
        raise SettingsError(msg)
    return {"Authorization": f"Bearer {api_key}"}


def _options(settings: TurnSettings | None, language: str | None) -> dict[str, str]:
    options = {}
    if settings is not None:
        options |= {
            "end_of_turn_ms": str(round((settings.end_of_turn_s or 60) * 1000)),
            "pause_ms": str(round(settings.pause_s * 1000)),
            "interim_results": str(int(settings.interim_s is not None)),
        }
    if language is not None:
        options["language"] = language
    return options | {"events": "1", "sample_rate": "16000", "channels": "1"}


def _refusal(refused: InvalidStatus) -> str:
    status = refused.response.status_code
    try:
        return f"refused with HTTP {status}: {json.loads(refused.response.body or b'')['error']}"
    except (ValueError, KeyError, TypeError):
        return f"refused with HTTP {status}"
