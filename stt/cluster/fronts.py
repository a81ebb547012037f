"""Fronts that run inside Ray, behind its proxy: what is to be deployed, and the app of each; knows nothing of Ray.

The app is that of `stt serve`. What is missing behind a proxy is the socket, and with it the one means to hold a
client back: Ray's proxy reads whatever comes and hands all of it on. So what a session has not taken yet is bounded
here, and a client that sends more is told so and closed.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from starlette.applications import Starlette
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stt import terms
from stt.cluster.spec import read_fields
from stt.errors import SettingsError
from stt.server.access import read_keys
from stt.server.app import create_app
from stt.server.families import FAMILIES
from stt.server.service import OpenEngine
from stt.server.settings import ServerSettings
from stt.settings import TurnSettings

HELD: Final = (
    "allowed_origins",
    "page",
    "max_sessions",
    "max_buffer_s",
    "max_ahead_s",
    "max_files",
    "max_upload_bytes",
    "max_message_bytes",
    "max_messages_per_s",
    "max_errors",
    "idle_timeout_s",
    "drain_timeout_s",
)
"""Settings of a server that hold behind a proxy; the others are about sockets, and those are the proxy's."""
_UNREAD_BYTES: Final = 16 << 20
"""Of one session, sent and not taken: 8 minutes of 16 kHz PCM16. Nobody who speaks gets there."""
_MESSAGE_BYTES: Final = 256
"""What a message takes beside what it holds."""


@dataclass(frozen=True, slots=True)
class FrontSpec:
    """Fronts and how each of them serves."""

    fronts: int = 1
    cpus: float = 1.0
    """For each; an event loop has no use for more."""
    api_key_file: str | None = None
    """Read where a front runs: so keys are in nothing that Ray keeps of a deployment."""
    language: str | None = "en"
    """Of sessions that name none; `None`: the engine finds out."""
    terms: tuple[str, ...] = ()
    """Of sessions that name none."""
    dialects: tuple[str, ...] = ()
    """What is spoken, by the names of families; none: all."""
    turns: TurnSettings = field(default_factory=lambda: TurnSettings(end_of_turn="auto"))
    server: ServerSettings = field(default_factory=ServerSettings)
    """Of each front, as far as `HELD` goes."""

    def __post_init__(self) -> None:
        def check(holds: bool, expected: str, got: object) -> None:
            if not holds:
                msg = f"expected {expected}, got {got}"
                raise SettingsError(msg)

        check(self.fronts >= 1, "1 front or more", self.fronts)
        check(self.cpus >= 0, "0 CPUs or more", self.cpus)
        check(set(self.dialects) <= set(FAMILIES), f"dialects of {', '.join(FAMILIES)}", ", ".join(self.dialects))
        object.__setattr__(self, "terms", terms.checked(self.terms))


def read_fronts(args: Mapping[str, Any]) -> FrontSpec:
    """Return the fronts that the `args` of a Serve configuration file stand for.

    Raises:
        SettingsError: there is an argument that fronts do not have, or a value that cannot work.

    """
    given = dict(args)
    server = given.get("server") or {}
    if beyond := [name for name in server if name not in HELD]:
        msg = f"server: expected some of {', '.join(HELD)} (all else is the proxy's), got {beyond[0]!r}"
        raise SettingsError(msg)
    given["server"] = read_fields(ServerSettings, "server", server)
    given["turns"] = read_fields(TurnSettings, "turns", {"end_of_turn": "auto", **(given.get("turns") or {})})
    return read_fields(FrontSpec, "args", given)


def front_app(spec: FrontSpec, elsewhere: OpenEngine) -> Starlette:
    """Build the app of a front; `elsewhere` makes its engine.

    Raises:
        SettingsError: the file of keys cannot be used.

    """
    keys = read_keys(Path(spec.api_key_file)) if spec.api_key_file is not None else ()
    settings = ServerSettings(**{name: getattr(spec.server, name) for name in HELD}, api_keys=keys)
    spoken = [FAMILIES[name] for name in spec.dialects or FAMILIES]
    app = create_app(
        settings,
        turns=spec.turns,
        language=spec.language,
        terms=spec.terms,
        dialects=spoken,
        elsewhere=elsewhere,
    )
    app.add_middleware(Bounded, most_bytes=settings.max_message_bytes, of_path=app.state.message_bytes)
    return app


class Bounded:
    """Ends WebSockets that send a message that is too long (1009), or more than their session takes (1008)."""

    def __init__(
        self, app: ASGIApp, most_bytes: int, of_path: Mapping[str, int] | None = None, unread_bytes: int = _UNREAD_BYTES
    ) -> None:
        """`most_bytes`: of a message; `of_path`: at paths that have a bound of their own."""
        self._app, self._most_bytes, self._of_path = app, most_bytes, of_path or {}
        self._unread_bytes = unread_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            await self._app(scope, receive, send)
            return
        most = self._of_path.get(scope["path"], self._most_bytes)
        unread = _Unread(receive, send, most, self._unread_bytes)
        taking = asyncio.create_task(unread.take(), name="unread")
        try:
            await self._app(scope, unread.receive, unread.send)
        finally:
            taking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await taking


class _Unread:
    """What one client sent and its session has not taken yet."""

    def __init__(self, receive: Receive, send: Send, most_bytes: int, unread_bytes: int) -> None:
        self._receive, self._send = receive, send
        self._most_bytes, self._unread_bytes = most_bytes, unread_bytes
        self._messages: deque[tuple[Message, int]] = deque()
        self._bytes = 0
        self._there = asyncio.Event()
        self._closed = False

    async def take(self) -> None:
        """Take what comes until the client is gone, or has to be."""
        while True:
            try:
                message = await self._receive()
            except Exception:  # noqa: BLE001 - who passes messages on is gone, whatever that raises, and the client with it
                message = {"type": "websocket.disconnect", "code": 1006}
            length = len(message.get("bytes") or message.get("text") or "")
            if length > self._most_bytes:
                message = await self._end(1009, f"expected messages of at most {self._most_bytes} bytes, got {length}")
            elif self._bytes + length > self._unread_bytes:
                text = f"more than {self._unread_bytes} bytes ahead of what is heard; send at the pace of speech"
                message = await self._end(1008, text)
            self._messages.append((message, length + _MESSAGE_BYTES))
            self._bytes += length + _MESSAGE_BYTES
            self._there.set()
            if message["type"] == "websocket.disconnect":
                return

    async def receive(self) -> Message:
        """Wait for the next message; as of any server, whoever is gone stays so."""
        while not self._messages:
            self._there.clear()
            await self._there.wait()
        message, kept_bytes = self._messages[0]
        if message["type"] != "websocket.disconnect":
            self._messages.popleft()
            self._bytes -= kept_bytes
        return message

    async def send(self, message: Message) -> None:
        """Pass on what goes to the client, as long as it is there."""
        if self._closed:
            msg = "the client was closed"
            raise OSError(msg)  # as a server has it that knows of the end
        await self._send(message)

    async def _end(self, code: int, reason: str) -> Message:
        self._closed = True
        self._messages.clear()
        await self._send({"type": "websocket.close", "code": code, "reason": reason})
        return {"type": "websocket.disconnect", "code": code, "reason": reason}
