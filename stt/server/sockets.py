"""The server's sockets: where it listens, how many connections it bears and how long it waits for what they ask.

A connection waits *at the door* until its request is whole, body included, and again after the answer. There it is
timed from the first byte of each request, and it can be dropped to make room; one whose request is whole cannot.
"""

import asyncio
import contextlib
import os
import socket
import stat
from collections import deque
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame
from websockets.http11 import Request
from websockets.protocol import State

from stt.errors import SettingsError
from stt.server.metrics import Metrics
from stt.server.settings import ServerSettings

# What the kernel holds for one connection: it bounds how much audio is under way when a session is full, and how much
# work one read can hand us. 64 KiB are 2 s of 16 kHz audio, and enough for 48 kHz stereo over 200 ms of round trip.
_SOCKET_BUFFER: Final = 64 << 10
# Frames that never become messages: what one second may hold of them, pings and pongs being the dearer ones.
_MOST_STRAYS: Final = 2_000
_FRAGMENT, _CONTROL = 1, 10
_FRAGMENT_BYTES: Final = 1 << 10  # larger ones are bounded by the size of a message
# Messages that wait for their session, each with what it takes beside its data. While there are no more, reading goes
# on: behind a message that is minutes of audio lie pings, and clients give up who wait 20 s for the answer.
_AHEAD_BYTES: Final = 64 << 10
_MESSAGE_BYTES: Final = 512
_PIECE_BYTES: Final = 4 << 10
# Clients that connect all at once need a moment each; from then on, those of an address that has too many may go.
_GRACE_S: Final = 1.0
# A body that somebody reads may take as long as it likes, at this rate.
_SLOWEST_BYTES_PER_S: Final = 4 << 10
_OTHER_FILES: Final = 64  # open ones that are no connections: models, logs, the loop's own
_FEWEST_CONNECTIONS: Final = 8


def listen(settings: ServerSettings) -> socket.socket:
    """Open the listening socket; accepted ones inherit its options (on Linux all of these, elsewhere most).

    Raises:
        SettingsError: it cannot be listened on.

    """
    if settings.socket_path is not None:
        return _listen_at(settings.socket_path)
    return listen_tcp(settings.host, settings.port, settings)


def listen_tcp(name: str, port: int, settings: ServerSettings) -> socket.socket:
    """Open a listening TCP socket.

    Raises:
        SettingsError: it cannot be listened on.

    """
    host = name[1:-1] if name.startswith("[") and name.endswith("]") else name  # as URLs have IPv6
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, proto)
    except OSError as error:
        msg = f"cannot listen on {name}: {error.strerror}"
        raise SettingsError(msg) from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SOCKET_BUFFER)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER)
        # A client whose machine is gone is noticed in about 10 s: while we wait for it by the keepalive, while it has
        # not acknowledged what we sent by the user timeout. Pings of the WebSocket would take a client for dead whose
        # answer waits behind audio that nobody has room for yet.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in (("TCP_KEEPIDLE", 4), ("TCP_KEEPINTVL", 2), ("TCP_KEEPCNT", 3)):
            if hasattr(socket, option):
                listener.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(settings.send_timeout_s * 1000))
        listener.bind(address)
        listener.listen(512)
    except OSError as error:
        listener.close()
        msg = f"cannot listen on {name} port {port}: {error.strerror}"
        raise SettingsError(msg) from error
    return listener


def _listen_at(path: Path) -> socket.socket:
    """Listen on a Unix socket, for its owner and group; one that a dead server left is replaced, nothing else is."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISSOCK(path.lstat().st_mode):
                raise FileExistsError(0, "there is a file that is no socket")
            with (
                socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe,
                contextlib.suppress(ConnectionRefusedError),
            ):
                probe.connect(str(path))
                raise FileExistsError(0, "another server listens there")
            path.unlink()
        before = os.umask(0o117)
        try:
            listener.bind(str(path))
        finally:
            os.umask(before)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER)
        listener.listen(512)
    except OSError as error:
        listener.close()
        msg = f"cannot listen on {path}: {error.strerror or error}"
        raise SettingsError(msg) from error
    return listener


def most_connections(settings: ServerSettings) -> tuple[int, int | None]:
    """How many connections to bear, and the limit of open files where that is why they are fewer than they should be.

    The limit is raised as far as this process may.
    """
    most = settings.max_connections or 2 * settings.max_sessions + 56
    try:
        import resource
    except ImportError:  # Windows
        return most, None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = most + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return most, None
    return max(_FEWEST_CONNECTIONS, soft - _OTHER_FILES), soft


class Caller(Protocol):
    """A connection, as far as a door knows it."""

    client: tuple[str, int] | None
    """Where it comes from; `None`: through a Unix socket."""

    @property
    def connections(self) -> Collection[Any]:
        """All there are beside it, itself included."""
        ...

    @property
    def transport(self) -> asyncio.WriteTransport: ...


class Door:
    """Connections whose request is not whole, in the order in which they came. Used in the event loop alone.

    Where there are too many connections, or too many here of one address, the one that waits longest is dropped: who
    sends a request and reads the answer is served, however many others connect and do nothing.
    """

    def __init__(self, settings: ServerSettings, metrics: Metrics, most: int) -> None:
        self.request_s = settings.handshake_timeout_s
        self._most = most
        self._most_of_address = settings.max_waiting_per_address
        self._metrics = metrics
        self._waiting: dict[Caller, float] = {}
        self._of_address: dict[str, dict[Caller, float]] = {}

    def enter(self, connection: Caller, now: float) -> None:
        """Let one wait; at the end of the queue."""
        self.leave(connection)
        self._waiting[connection] = now
        if connection.client is not None:
            same = self._of_address.setdefault(connection.client[0], {})
            same[connection] = now
            oldest = next(iter(same))
            if len(same) > self._most_of_address and now - same[oldest] >= _GRACE_S:
                self.drop(oldest, "too_many_of_address")
        if len(connection.connections) > self._most:
            self.drop(next(iter(self._waiting)), "too_many")

    def leave(self, connection: Caller) -> None:
        """Forget one that is gone, or whose request is whole."""
        self._waiting.pop(connection, None)
        if connection.client is not None and (same := self._of_address.get(connection.client[0])) is not None:
            same.pop(connection, None)
            if not same:
                del self._of_address[connection.client[0]]

    def drop(self, connection: Caller, why: str) -> None:
        """End one at once."""
        self.leave(connection)
        self._metrics.dropped.labels(why).inc()
        connection.transport.abort()


class TimedHttp(H11Protocol):
    """uvicorn's HTTP, with requests that have to be whole in time.

    uvicorn waits for ever for the rest of a request, and for a body that does not come.
    """

    def __init__(self, *args: Any, door: Door, **more: Any) -> None:
        super().__init__(*args, **more)
        self._door = door
        self._timer: asyncio.TimerHandle | None = None
        self._begun = False  # the first byte of a request is here
        self._received = 0  # bytes since the timer was set

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Time a request from its first byte."""
        if self._timer is not None and not self._begun:
            self._begun = True
            self._set_timer()
        self._received += len(data)
        super().data_received(data)
        self._look()

    def on_response_complete(self) -> None:
        """Begin to wait for the next request, or for what is missing of this one's body."""
        super().on_response_complete()
        self._look()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Hand over; the request is whole."""
        self._go_on()
        super().handle_websocket_upgrade(event)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop to wait."""
        self._go_on()
        super().connection_lost(exc)

    def _look(self) -> None:
        if self not in self.connections:  # it became a WebSocket, or is lost
            return
        missing = self.conn.their_state in (h11.IDLE, h11.SEND_BODY)
        if not missing:
            self._go_on()
        elif self._timer is None:
            self._wait()
            self._begun = self.conn.their_state is h11.SEND_BODY

    def _wait(self) -> None:
        self._begun = False
        self._set_timer()
        self._door.enter(self, self.loop.time())

    def _go_on(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._door.leave(self)

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._received = 0
        self._timer = self.loop.call_later(self._door.request_s, self._too_late)

    def _too_late(self) -> None:
        read = self.conn.their_state is h11.SEND_BODY and not (self.cycle is None or self.cycle.response_complete)
        if read and (self.flow.read_paused or self._received >= _SLOWEST_BYTES_PER_S * self._door.request_s):
            self._set_timer()
            return
        self._timer = None
        self._door.drop(self, "slow_request")


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's, with bounds on frames that never become messages: no app sees them, so none can pace them.

    Frames of data take their old way: there are 10,000 a second of them.

    Args:
        message_bytes: the longest message at paths that have a bound of their own.

    """

    _second = 0.0
    _strays = 0
    _pong = b""  # the newest, for a client that does not read
    _ahead = 0  # bytes that wait for the session

    def __init__(self, *args: Any, message_bytes: Mapping[str, int], **more: Any) -> None:
        super().__init__(*args, **more)
        self._message_bytes = message_bytes
        self._sizes: deque[int] = deque()  # of the messages that wait

    def handle_connect(self, event: Request) -> None:
        """Bound messages as the path has it."""
        self.conn.max_message_size = self._message_bytes.get(event.path.partition("?")[0], self.conn.max_message_size)
        super().handle_connect(event)

    def data_received(self, data: bytes) -> None:
        """Parse; what is large in pieces, or thousands of pings would be parsed before the first is counted."""
        if len(data) <= _PIECE_BYTES:
            super().data_received(data)
            return
        for at in range(0, len(data), _PIECE_BYTES):
            if self.transport.is_closing():
                return
            super().data_received(data[at : at + _PIECE_BYTES])

    def handle_ping(self) -> None:
        """Answer; to a client that does not read only the newest, once it does (RFC 6455, 5.5.3)."""
        if self._too_many(_CONTROL):
            return
        if self.writable.is_set() or self.conn.state is not State.OPEN:
            super().handle_ping()
        elif pongs := self.conn.data_to_send():
            self._pong = pongs[-1]

    def resume_writing(self) -> None:
        """Send the pong that was held back."""
        super().resume_writing()
        pong, self._pong = self._pong, b""
        if pong and not self.close_sent and not self.transport.is_closing():
            self.transport.write(pong)

    def handle_pong(self, event: Frame) -> None:
        """Count it; nobody asked for it."""
        if not self._too_many(_CONTROL):
            super().handle_pong(event)

    def handle_cont(self, event: Frame) -> None:
        """Add to an unfinished message; its first frame is always followed by one of these, and need not be counted."""
        if event.fin or len(event.data) >= _FRAGMENT_BYTES or not self._too_many(_FRAGMENT):
            super().handle_cont(event)

    def send_receive_event_to_app(self) -> None:
        """Queue a message; uvicorn would read no further, were it but one."""
        if not self.close_sent:
            self._sizes.append(sum(map(len, self.frames)) + _MESSAGE_BYTES)
            self._ahead += self._sizes[-1]
        few, paused = self._ahead <= _AHEAD_BYTES, self.read_paused
        self.read_paused = paused or few
        super().send_receive_event_to_app()
        self.read_paused = paused or not few

    async def receive(self) -> Any:
        """Hand out what was queued, and read on once little waits."""
        message = await self.queue.get()
        if message["type"] == "websocket.receive":
            self._ahead -= self._sizes.popleft()
            if self.read_paused and self._ahead <= _AHEAD_BYTES:
                self.read_paused = False
                self.transport.resume_reading()
        return message

    def _too_many(self, cost: int) -> bool:
        if self.transport.is_closing():
            return True
        now = self.loop.time()
        if now - self._second >= 1:
            self._second, self._strays = now, 0
        self._strays += cost
        if self._strays <= _MOST_STRAYS:
            return False
        self.conn.data_to_send()  # pongs: dropped
        if self.conn.state is State.OPEN:
            self.conn.fail(1008, "too many control frames or fragments")
            self.handle_parser_exception()
        else:
            self.transport.abort()
        return True

    async def send(self, message: Any) -> None:
        """Send, when there is room; a close frame at once, behind what is buffered: nothing comes after it."""
        if message["type"] == "websocket.close":
            self.writable.set()
        await super().send(message)
        # A refusal is an answer, and who is leaving needs none: uvicorn would log both as a mistake of the app's.
        self.handshake_complete = self.handshake_complete or self.transport.is_closing()
