"""Run the app under uvicorn, with what an app cannot do for itself: limits on sockets, signals, and the drain."""

import asyncio
import contextlib
import faulthandler
import functools
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame
from websockets.protocol import State

from stt.errors import SettingsError, SttError
from stt.server.access import is_loopback
from stt.server.logs import configure, log
from stt.server.notify import Manager
from stt.server.settings import ServerSettings

if TYPE_CHECKING:
    from stt.server.service import Service

# What the kernel holds for one connection: it bounds how much audio is under way when a session is full, and how much
# work one read can hand us. 64 KiB are 2 s of 16 kHz audio, and enough for 48 kHz stereo over 200 ms of round trip.
_SOCKET_BUFFER: Final = 64 << 10
_HEADER_BYTES: Final = 16 << 10
_CLOSING_S: Final = 12.0  # uvicorn waits 10 s for the close frame of the other side
_STOPPING_S: Final = 15.0  # after the drain: closing, and the end of the batch that runs
# Frames that never become messages: what one second may hold of them, pings and pongs being the dearer ones.
_MOST_STRAYS: Final = 2_000
_FRAGMENT, _CONTROL = 1, 10
_FRAGMENT_BYTES: Final = 1 << 10  # larger ones are bounded by the size of a message
_PIECE_BYTES: Final = 4 << 10


def serve(app: Starlette, settings: ServerSettings, *, log_format: str = "text", manager: Manager | None = None) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit status.

    `manager` is told when the server is ready, alive and stopping.

    Raises:
        SettingsError: the address cannot be listened on, or the certificate cannot be read.
        SttError: the first engine cannot be opened.

    """
    configure(log_format)
    service: Service = app.state.service
    listener = listen(settings)
    host, port = listener.getsockname()[:2]
    if not settings.api_keys and not is_loopback(host):
        log("anyone who reaches this address can use the server: no API key is set", logging.WARNING, host=host)
    manager = manager or Manager(None)
    if manager.watched:
        faulthandler.enable()  # what a loop hung in, for the log: the watchdog ends it by SIGABRT
    server = Server(app, settings, manager)
    try:
        server.config.load()
    except OSError as error:
        listener.close()
        msg = f"TLS: {settings.tls_cert} and {settings.tls_key} cannot be used: {error}"
        raise SettingsError(msg) from error
    service.on_failure = server.stop
    scheme = "ws" if settings.tls_cert is None else "wss"
    log("listening", url=f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}")
    with listener:
        server.run(sockets=[listener])
    if service.failure is not None:
        if isinstance(service.failure, SttError):
            raise service.failure
        return 1
    log("stopped")
    if service.hung:
        # A thread in native code, when the interpreter is finalized around it, ends the process by SIGABRT or SIGSEGV.
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
    return 0


def listen(settings: ServerSettings) -> socket.socket:
    """Open the listening socket; accepted ones inherit its options (on Linux all of these, elsewhere most)."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, proto)
    except OSError as error:
        msg = f"cannot listen on {settings.host}: {error.strerror}"
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
        msg = f"cannot listen on {settings.host} port {settings.port}: {error.strerror}"
        raise SettingsError(msg) from error
    return listener


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's, with bounds on frames that never become messages: no app sees them, so none can pace them.

    Frames of data take their old way: there are 10,000 a second of them.
    """

    _second = 0.0
    _strays = 0
    _pong = b""  # the newest, for a client that does not read

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


class Server(uvicorn.Server):
    """uvicorn, which drains before it shuts down, and cuts off connections that do not get on."""

    def __init__(self, app: Starlette, settings: ServerSettings, manager: Manager) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                loop="auto",  # uvloop where there is one: with 200 sessions it is a third as late as asyncio's
                http="h11",
                ws=WebSocketProtocol,
                ws_max_size=settings.max_message_bytes,
                ws_ping_interval=None,  # see `listen`
                ws_per_message_deflate=False,  # audio does not get smaller, and no small frame may become a large one
                h11_max_incomplete_event_size=_HEADER_BYTES,
                ssl_certfile=settings.tls_cert,
                ssl_keyfile=settings.tls_key,
                server_header=False,
                proxy_headers=False,
                lifespan="on",
                timeout_graceful_shutdown=5,
            )
        )
        self._service: Service = app.state.service
        self._handshake_s = settings.handshake_timeout_s
        self._since: WeakKeyDictionary[Any, float] = WeakKeyDictionary()
        self._hurry = asyncio.Event()
        self._manager = manager

    def stop(self) -> None:
        """Begin to end."""
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take signals in the loop; unlike uvicorn, do not die of them in the end: a drained server exits with 0."""
        loop = asyncio.get_running_loop()
        taken = []
        for number in (signal.SIGTERM, signal.SIGINT):
            with contextlib.suppress(NotImplementedError, ValueError, RuntimeError):  # not in the main thread, Windows
                loop.add_signal_handler(number, self.handle_exit, number, None)
                taken.append(number)
        try:
            yield
        finally:
            for number in taken:
                loop.remove_signal_handler(number)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain at the first signal, hurry at the second; uvicorn's `force_exit` would leave the engine as it is."""
        del sig, frame
        if self.should_exit:
            self._hurry.set()
        self.stop()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen as uvicorn does, but bound the TLS handshake: no connection is known before it is done."""
        await super().startup(sockets=[])
        protocol = functools.partial(
            H11Protocol, config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        for listener in sockets or ():
            self.servers.append(
                await asyncio.get_running_loop().create_server(
                    protocol,
                    sock=listener,
                    backlog=self.config.backlog,
                    ssl=self.config.ssl,
                    ssl_handshake_timeout=self._handshake_s if self.config.ssl is not None else None,
                )
            )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let running turns end while `/health` and `/ready` still answer; then shut down."""
        if self._service.failure is None:
            self._manager.stopping(self._service.settings.drain_timeout_s + _STOPPING_S)
            await self._service.drain(self._hurry)
        await super().shutdown(sockets)

    async def on_tick(self, counter: int) -> bool:
        """Every 0.1 s."""
        self._manager.tick(self._service.state, self._service.summary)
        if counter % 10 == 0:
            self._cut_off(time.monotonic())
        return await super().on_tick(counter)

    def _cut_off(self, now: float) -> None:
        """Abort connections that sent no whole request in time, or whose last bytes nobody takes."""
        for connection in list(self.server_state.connections):
            transport: Any = connection.transport
            stage = "closing" if transport.is_closing() else "quiet" if getattr(connection, "scope", 1) is None else ""
            since = self._since.get(connection)
            if not stage:
                self._since.pop(connection, None)
            elif since is None:
                self._since[connection] = now
            elif now - since > (_CLOSING_S if stage == "closing" else self._handshake_s):
                transport.abort()
