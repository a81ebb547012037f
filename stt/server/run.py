"""Run the app under uvicorn, with what an app cannot do for itself: limits on sockets, signals, and the drain."""

import asyncio
import contextlib
import faulthandler
import functools
import logging
import os
import signal
import socket
import ssl
import sys
import threading
import time
import webbrowser
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

import uvicorn
from starlette.applications import Starlette

from stt.errors import SettingsError, SttError
from stt.server import announce
from stt.server.access import is_loopback
from stt.server.logs import configure, log
from stt.server.notify import Manager
from stt.server.settings import ServerSettings
from stt.server.sockets import Door, TimedHttp, WebSocketProtocol, listen, listen_tcp, most_connections
from stt.server.wyoming import WyomingServer

if TYPE_CHECKING:
    from stt.server.service import Service

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, *((signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ()))
_HEADER_BYTES: Final = 16 << 10
_CLOSING_S: Final = 12.0  # uvicorn waits 10 s for the close frame of the other side
_STOPPING_S: Final = 15.0  # after the drain: closing, and the end of the batch that runs


def serve(
    app: Starlette,
    settings: ServerSettings,
    *,
    log_format: str = "text",
    log_level: str = "info",
    manager: Manager | None = None,
    open_page: bool = False,
) -> int:
    """Serve until SIGTERM, SIGINT or SIGHUP; returns the exit status.

    `manager` is told when the server is ready, alive and stopping; `open_page` shows the page in the default browser.

    Raises:
        SettingsError: the address cannot be listened on, or the certificate cannot be read.
        SttError: the first engine cannot be opened.

    """
    configure(log_format, log_level)
    service: Service = app.state.service
    listener = listen(settings)
    url, local = _where(listener, "ws" if settings.tls_cert is None else "wss")
    if not settings.api_keys and not local:
        log(
            "anyone who reaches this address can use the server: no API key is set", logging.WARNING, host=settings.host
        )
    manager = manager or Manager(None)
    if manager.watched:
        faulthandler.enable()  # what a loop hung in, for the log: the watchdog ends it by SIGABRT
    try:
        wyoming = _listen_wyoming(settings)
    except SettingsError:
        listener.close()
        raise
    server = Server(app, settings, manager, wyoming)
    try:
        server.config.load()
    except OSError as error:
        listener.close()
        why = f"expected both in PEM, got: {error}" if isinstance(error, ssl.SSLError) else error
        msg = f"TLS: {settings.tls_cert} and {settings.tls_key} cannot be used: {why}"
        raise SettingsError(msg) from error
    service.on_failure = server.stop
    page = page_address(url) if settings.page else None
    log("listening", url=url, page=page)
    if open_page and page is not None:
        # It connects before we accept, and is answered once we do; a browser in a terminal does not return.
        threading.Thread(target=webbrowser.open, args=(page,), daemon=True).start()
    with listener:
        server.run(sockets=[listener])
    if settings.socket_path is not None:
        settings.socket_path.unlink(missing_ok=True)
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


def _listen_wyoming(settings: ServerSettings) -> socket.socket | None:
    """Listen for Wyoming, where that is wanted, and say who can use it: it has no keys."""
    if settings.wyoming is None:
        return None
    if settings.wyoming_announce:
        announce.check()
    listener = listen_tcp(*settings.wyoming, settings)
    url, local = _where(listener, "tcp")
    if settings.wyoming_announce and local:
        listener.close()
        msg = f"expected an address that others reach where Wyoming is announced to them, got {settings.wyoming[0]}"
        raise SettingsError(msg)
    log("listening for Wyoming", url=url)
    if not local:
        log("anyone who reaches this address can use the server: Wyoming has no keys", logging.WARNING, url=url)
    return listener


def _where(listener: socket.socket, scheme: str) -> tuple[str, bool]:
    """Say where a socket listens, and whether only this machine reaches it."""
    name = listener.getsockname()
    if isinstance(name, str):
        return f"unix:{name}", True
    host, port = name[:2]
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}", is_loopback(host)


def page_address(url: str) -> str | None:
    """Return where a browser on this machine finds the page of a server that listens at `url`; `None`: nowhere.

    Browsers give the microphone to localhost, but not to the plain http of any other name.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("ws", "wss"):
        return None
    name = parts.hostname or ""
    own = is_loopback(name) or name in ("0.0.0.0", "::")  # noqa: S104 - read, not bound
    host = "localhost" if own and not (name.startswith("127.") and name != "127.0.0.1") else name
    host = f"[{host}]" if ":" in host else host
    return f"{'http' if parts.scheme == 'ws' else 'https'}://{host}:{parts.port}/"


class Server(uvicorn.Server):
    """uvicorn, which drains before it shuts down, and cuts off connections that do not get on."""

    def __init__(
        self, app: Starlette, settings: ServerSettings, manager: Manager, wyoming: socket.socket | None = None
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                loop="auto",  # uvloop where there is one: with 200 sessions it is a third as late as asyncio's
                http="h11",
                ws=functools.partial(WebSocketProtocol, message_bytes=app.state.message_bytes),  # type: ignore[arg-type]
                ws_max_size=settings.max_message_bytes,
                ws_ping_interval=None,  # see `listen`
                ws_per_message_deflate=False,  # audio does not get smaller, and no small frame may become a large one
                h11_max_incomplete_event_size=_HEADER_BYTES,
                ssl_certfile=settings.tls_cert,
                ssl_keyfile=settings.tls_key,
                server_header=False,
                proxy_headers=True,
                forwarded_allow_ips=settings.forwarded_allow_ips,
                lifespan="on",
                timeout_graceful_shutdown=5,
            )
        )
        self._service: Service = app.state.service
        most, files = most_connections(settings)
        if files is not None:
            log("few connections: the limit of open files is low", logging.WARNING, connections=most, files=files)
        self._door = Door(settings, self._service.metrics, most)
        self._wyoming = WyomingServer(app.state.gate, wyoming, most) if wyoming is not None else None
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
        for number in _SIGNALS:
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
            TimedHttp,
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
            door=self._door,
        )
        for listener in sockets or ():
            self.servers.append(
                await asyncio.get_running_loop().create_server(
                    protocol,
                    sock=listener,
                    backlog=self.config.backlog,
                    ssl=self.config.ssl,
                    ssl_handshake_timeout=self._door.request_s if self.config.ssl is not None else None,
                )
            )
        if self._wyoming is not None:
            await self._wyoming.start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let running turns end while `/health` and `/ready` still answer; then shut down."""
        if self._service.failure is None:
            self._manager.stopping(self._service.settings.drain_timeout_s + _STOPPING_S)
            await self._service.drain(self._hurry)
        if self._wyoming is not None:
            await self._wyoming.close()
        await super().shutdown(sockets)

    async def on_tick(self, counter: int) -> bool:
        """Every 0.1 s."""
        self._manager.tick(self._service.state, self._service.summary)
        if counter % 10 == 0:
            self._cut_off(time.monotonic())
        return await super().on_tick(counter)

    def _cut_off(self, now: float) -> None:
        """Abort connections whose last bytes nobody takes."""
        for connection in list(self.server_state.connections):
            if not connection.transport.is_closing():
                continue
            since = self._since.setdefault(connection, now)
            if now - since > _CLOSING_S:
                transport: Any = connection.transport
                transport.abort()
