"""`RemoteSession`: a session on another machine, with the shape of `stt.session.Session`.

    source -> _record: tape -> _send -> websocket -> server
    sink <- _receive: Event <- message <-+

The tape keeps the audio whose words are not yet settled (`Continuity.resume_at`). When the connection is lost, the tape
goes on recording, and the next connection hears it again: turns go on being counted, nothing said is lost and no final
comes twice.
"""

import asyncio
import contextlib
import json
import random
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidMessage,
    InvalidStatus,
    InvalidURI,
    WebSocketException,
)

from stt.audio import to_pcm16
from stt.clock import samples, seconds
from stt.continuity import Continuity
from stt.errors import RefusedError, RemoteError, SettingsError
from stt.events import Event, TurnCompleted
from stt.server.access import is_key, is_loopback
from stt.server.dialects.native import PATH
from stt.server.dialects.native_reader import EventDecoder, ProtocolError
from stt.session import AudioSource, Sink
from stt.settings import TurnSettings
from stt.tape import Tape
from stt.terms import checked

_KEEP_S: Final = 120.0  # on the tape: enough for a server that is far behind, as closed windows need none of it
_PIECE_S: Final = 1.0  # of a source that hands out more at once
_FIRST_BACKOFF_S: Final = 0.25
_MOST_BACKOFF_S: Final = 5.0
_SETTLED_S: Final = 5.0  # a connection that lasted so long worked; so did one that brought something new
_TELL_EVERY_S: Final = 5.0  # of lost audio
_SEND_BUFFER: Final = 64 << 10  # more would only put our own pings at the end of a longer queue
_MAX_MESSAGE: Final = 16 << 20  # a final of some hours, its passages beside it
_PASSING: Final = frozenset({408, 425, 429, 500, 502, 503, 504})  # HTTP statuses: not now, or a proxy's
_OURS_TO_MEND: Final = frozenset({1002, 1003, 1007, 1008, 1009})  # close codes: it would be the same again


class RemoteSession:
    """One stream of audio, heard by a server.

    Args:
        url: `ws://host:port` or `wss://...`; the path is added where there is none, options in the query are kept.
        api_key: sent as `Authorization: Bearer`; printable ASCII.
        tls: whom to trust, for `wss`; `None`: the authorities that the system trusts. See `trusting`.
        settings: gaps and whether there are interims; `None`: the server's own. Other fields do not travel.
        language: `None`: the server's own; `auto` lets the engine find out.
        terms: words and phrases that will be said, as they are to be written; `None`: the server's own.
        words: finals with the times of their words, where the server's engine gives them.
        patience_s: how long to go on trying to reach a server that was lost, or is not ready yet.
        notify: called with a sentence for people when the connection is made, lost, or tried again, and when audio was
            lost: a source that cannot wait counts that in its `overruns`.
        on_message: called with each message as it came.

    Raises:
        SettingsError: the URL is not one of a WebSocket, the key is none, or a term is none.

    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        tls: ssl.SSLContext | None = None,
        settings: TurnSettings | None = None,
        language: str | None = None,
        terms: Sequence[str] | None = None,
        words: bool = False,
        patience_s: float = 60.0,
        notify: Callable[[str], None] | None = None,
        on_message: Callable[[str], None] | None = None,
    ) -> None:
        self.url = session_url(url, _options(settings, language, words=words))
        self._place = self.url.partition("?")[0].removesuffix(PATH)
        parts = urlsplit(self.url)
        self._connecting: dict[str, Any] = {
            "additional_headers": authorization(api_key),
            "compression": None,
            "open_timeout": 10,
            "close_timeout": 2,
            "ping_interval": 10,
            "ping_timeout": 30,
            "max_size": _MAX_MESSAGE,
            "proxy": None if is_loopback(parts.hostname or "") else True,
        }
        if tls is not None and parts.scheme == "wss":
            self._connecting["ssl"] = tls
        self._terms = None if terms is None else checked(terms)
        self._brief = True  # until a server of an earlier version does not know what that is
        self._patience_s = patience_s
        self._notify = notify or (lambda _: None)
        self._on_message = on_message or (lambda _: None)
        self._tape = Tape(_KEEP_S)
        self._stream = Continuity()
        self._finishing = False  # all audio was sent, and `finish`
        self._lost_blocks = 0  # as far as was told
        self._last_error: dict[str, Any] = {}

    @property
    def done_s(self) -> float:
        """Seconds of the stream up to the farthest event; never falls."""
        return seconds(self._stream.done)

    async def run(self, source: AudioSource, sink: Sink) -> None:
        """Send the events of `source` to `sink` until the source ends and the last turn has its final.

        Where the source fails, the turn that runs is completed before the error is raised. What the sink raises ends
        the session at once. A session runs once.

        Raises:
            RefusedError: the server refuses the session for a reason that will not pass.
            RemoteError: the server cannot be reached, is no stt server, or ends the session for such a reason.

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
                url = session_url(self.url, {"repeat_committed": "0"}) if self._brief else self.url
                async with connect(url, **self._connecting) as websocket:
                    self._notify(f"connected to {self._place}")
                    known, since, done = True, loop.time(), self._stream.done
                    why = await self._talk(websocket, sink)
                    if why is None:
                        return
                    if self._stream.done > done or loop.time() - since > _SETTLED_S:
                        backoff_s, lost = _FIRST_BACKOFF_S, loop.time()
            except InvalidStatus as refused:
                why, status = _refusal(refused), refused.response.status_code
                if self._brief and status == 400 and "repeat_committed" in why:
                    self._brief = False
                    continue
                if status not in _PASSING:
                    raise RefusedError(f"{self._place}: {why}") from None
            except ssl.SSLCertVerificationError as error:
                raise RefusedError(f"cannot connect to {self._place}: {error.verify_message or error}") from error
            except (OSError, InvalidHandshake, InvalidURI, WebSocketException, ImportError) as error:
                why = str(error) or type(error).__name__
                if not known or isinstance(error, ImportError):  # a proxy that wants another package
                    raise RemoteError(f"cannot connect to {self._place}: {why}{self._hint(error)}") from error
            if loop.time() + backoff_s > lost + self._patience_s:
                raise RemoteError(f"{self._place}: gave up after {self._patience_s:g} s: {why}")
            self._notify(f"{why}; trying again in {backoff_s:.2g} s")
            # Many clients lose one server at the same moment; they should not all come back at the same moment.
            await asyncio.sleep(backoff_s * random.uniform(0.75, 1.25))
            backoff_s = min(2 * backoff_s, _MOST_BACKOFF_S)

    def _hint(self, error: Exception) -> str:
        parts = urlsplit(self.url)
        if isinstance(error, InvalidMessage) and parts.scheme == "ws":
            return "; a server with TLS is at wss://"
        if isinstance(error, ssl.SSLError):
            return "; a server without TLS is at ws://"
        here = is_loopback(parts.hostname or "")
        return "; is `stt serve` running?" if here and isinstance(error, ConnectionRefusedError) else ""

    async def _talk(self, websocket: ClientConnection, sink: Sink) -> str | None:
        """Use one connection until it ends; returns why it ended early, or `None` if all is said."""
        raw: socket.socket | None = websocket.transport.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        self._last_error, self._finishing = {}, False
        base = self._tape.rewind()
        if unheard := self._stream.connect(base):
            self._notify(f"{seconds(unheard):.1f} s of speech were lost: the server had not answered for too long")
        try:
            async with asyncio.TaskGroup() as tasks:
                sending = tasks.create_task(self._send(websocket, base))
                cut_off = await self._receive(websocket, sink)
                sending.cancel()
        finally:
            await self._tape.disconnect()
        code, reason = websocket.close_code, websocket.close_reason
        error = self._last_error
        finished = code == 1000 and self._finishing
        if finished or error.get("code") == "idle":
            for event in cut_off:
                await self._tell(event, sink)
        if finished:
            for event in self._stream.finish():
                await sink(event)
            return None
        why = str(error.get("error") or reason or f"the connection was lost (code {code})")
        if code in _OURS_TO_MEND and error.get("code") != "idle" and reason != "reads too slowly":
            raise RemoteError(f"{self._place}: {why}")
        return why

    async def _send(self, websocket: ClientConnection, at: int) -> None:
        try:
            if self._terms is not None:  # too long for a URL
                await websocket.send(json.dumps({"type": "configure", "terms": self._terms}))
            while (piece := await self._tape.next(at)) is not None:
                await websocket.send(piece)
                at = self._tape.sent + len(piece) // 2
            self._finishing = True
            await websocket.send('{"type":"finish"}')
        except ConnectionClosed:
            pass  # `_receive` sees it too, and knows why

    async def _receive(self, websocket: ClientConnection, sink: Sink) -> list[Event]:
        """Hand on what this connection tells of the stream until it ends.

        Returns the final of a turn that ended because the server takes no more audio, and what came after it. Only the
        close code tells whether that was all audio: a server that shuts down leaves the turn to the next connection.
        """
        decoder = EventDecoder()
        cut_off: list[Event] = []
        while True:
            try:
                text = await websocket.recv()
            except ConnectionClosed:
                return cut_off
            if isinstance(text, bytes):
                raise RemoteError(f"{self._place}: expected text messages, got bytes; is this an stt server?")
            self._on_message(text)
            try:
                message = json.loads(text)
                if not isinstance(message, dict):
                    raise ProtocolError("bad_message", f"expected a JSON object, got {text[:60]!r}")  # noqa: TRY301
                event = decoder.decode(message)
            except (ValueError, RecursionError, ProtocolError) as error:
                raise self._nonsense(error) from None
            if event is None:
                if "error" in message:
                    self._last_error = message
                    self._notify(f"the server says: {message['error']}")
            elif cut_off or (isinstance(event, TurnCompleted) and event.why == "stream ended"):
                cut_off.append(event)
            else:
                await self._tell(event, sink)

    async def _tell(self, event: Event, sink: Sink) -> None:
        try:
            events = self._stream.take(event)
        except ValueError as error:
            raise self._nonsense(error) from None
        self._tape.forget(self._stream.resume_at)
        for told in events:
            await sink(told)

    def _nonsense(self, error: Exception) -> RemoteError:
        return RemoteError(f"{self._place}: not understood: {error}; is this an stt server?")


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


def trusting(ca_file: str | Path | None) -> ssl.SSLContext | None:
    """Return what trusts the authorities of a PEM file alone: those of a company, or a server's own certificate.

    `None`, where there is no file: what the system trusts is good enough.

    Raises:
        SettingsError: the file cannot be read, or holds no certificate.

    """
    if not ca_file:
        return None
    try:
        return ssl.create_default_context(cafile=str(ca_file))
    except (OSError, ValueError) as error:
        msg = f"CA file {ca_file}: expected certificates in PEM, got: {error}"
        raise SettingsError(msg) from error


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


def _options(settings: TurnSettings | None, language: str | None, *, words: bool) -> dict[str, str]:
    options = {}
    if settings is not None:
        options |= {
            "end_of_turn_ms": str(round((settings.end_of_turn_s or 60) * 1000)),
            "pause_ms": str(round(settings.pause_s * 1000)),
            "interim_results": str(int(settings.interim_s is not None)),
        }
        if settings.end_of_turn != "silence" and settings.end_of_turn_s is not None:
            options |= {"end_of_turn": settings.end_of_turn, "eagerness": settings.eagerness}
            numbers = {
                "eot_threshold": settings.eot_threshold,
                "eot_delay_ms": settings.eot_delay_s and round(settings.eot_delay_s * 1000),
                "eot_timeout_ms": settings.eot_timeout_s and round(settings.eot_timeout_s * 1000),
                "eager": int(settings.eager) or None,
            }
            options |= {name: f"{value:g}" for name, value in numbers.items() if value is not None}
    if language is not None:
        options["language"] = language
    if words:
        options["words"] = "1"
    return options | {"events": "1", "sample_rate": "16000", "channels": "1"}


def _refusal(refused: InvalidStatus) -> str:
    status = refused.response.status_code
    said = f"refused with HTTP {status}"
    with contextlib.suppress(ValueError, KeyError, TypeError):
        said += f": {json.loads(refused.response.body or b'')['error']}"
    return said + (" (`api_key`; of commands --api-key or STT_API_KEY)" if status == HTTPStatus.UNAUTHORIZED else "")
