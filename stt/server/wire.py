"""What moves frames between a client and its session, knowing nothing of what they say: WebSockets."""

import asyncio
import contextlib
from typing import Any, Final, Protocol

from starlette.responses import JSONResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from stt.server.dialect import Denial, Frame

LAST_WORD_S: Final = 1.0
# What a close code tells, of the client or of the server, where the host ended nothing; others: it vanished.
_GONE: Final[dict[Any, str]] = {
    1000: "left",
    1001: "left",
    1002: "bad_message",
    1007: "bad_message",
    1008: "flood",
    1009: "bad_message",
    1012: "cut_off",
}


class GoneError(Exception):
    """The client left; the text says how, in one word for log and metrics."""


class Wire(Protocol):
    """One connection, before and after it is let in."""

    client: str | None
    """Where it comes from, for the log."""

    async def accept(self, headers: tuple[tuple[str, str], ...]) -> None:
        """Let it in.

        Raises:
            GoneError: nobody is there any more.

        """
        ...

    async def receive(self) -> Frame:
        """Wait for a frame.

        Raises:
            GoneError: there are no more.

        """
        ...

    async def send(self, frame: Frame) -> None:
        """Send; waits while the client does not read.

        Raises:
            GoneError: it does not arrive.

        """
        ...

    async def close(self, code: int, reason: str) -> None:
        """End it; goes behind what waits for a client that does not read, and raises nothing."""
        ...


class WebSocketWire:
    """A Starlette WebSocket as a `Wire`.

    Args:
        websocket: not yet accepted.
        subprotocol: of those it offered, the one to answer with.

    """

    def __init__(self, websocket: WebSocket, subprotocol: str | None = None) -> None:
        self._websocket = websocket
        self._subprotocol = subprotocol
        self._receive = websocket.receive
        self.client = address(websocket.scope)

    async def accept(self, headers: tuple[tuple[str, str], ...]) -> None:
        """Answer the handshake with 101."""
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        try:
            await self._websocket.accept(self._subprotocol, raw)
        except (WebSocketDisconnect, RuntimeError):
            raise GoneError("vanished") from None

    async def refuse(self, denial: Denial) -> None:
        """Answer the handshake with an HTTP response; where the server cannot do that, by a close code."""
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            if "websocket.http.response" in self._websocket.scope.get("extensions", {}):
                await self._websocket.send_denial_response(response(denial))
            else:
                text = str(next(iter(denial.body.values()), ""))
                await self._websocket.close(1013 if denial.status == 503 else 1008, text[:120])

    async def receive(self) -> Frame:
        """Wait for a message."""
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            raise GoneError(_GONE.get(message.get("code", 1006), "vanished"))
        text = message.get("text")
        return text if text is not None else message["bytes"]

    async def send(self, frame: Frame) -> None:
        """Send a message of its kind."""
        try:
            if isinstance(frame, str):
                await self._websocket.send_text(frame)
            else:
                await self._websocket.send_bytes(frame)
        except (WebSocketDisconnect, RuntimeError):
            raise GoneError("vanished") from None

    async def close(self, code: int, reason: str) -> None:
        """Send a close frame; the server cuts off a client that does not take it."""
        with contextlib.suppress(TimeoutError, WebSocketDisconnect, RuntimeError):
            async with asyncio.timeout(LAST_WORD_S):
                await self._websocket.close(code, reason)


def response(denial: Denial) -> JSONResponse:
    """Write a refusal as HTTP has it."""
    more = {401: {"www-authenticate": "Bearer"}, 503: {"retry-after": "5"}}.get(denial.status, {})
    return JSONResponse(dict(denial.body), denial.status, {**more, **denial.headers})


def address(scope: Any) -> str | None:
    """Say where a connection comes from; `None` for a Unix socket."""
    client = scope.get("client")
    if not client:
        return None
    return f"{client[0]}:{client[1]}" if client[1] else client[0]  # a proxy tells no port
