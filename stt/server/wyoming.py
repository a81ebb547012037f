"""Wyoming over TCP: who connects, what needs no session, and a `Host` for whoever sends audio.

A connection waits at a door of its own kind (`sockets.Door`) until it sends audio, and can be dropped there to make
room. The PyPI package `wyoming` is not used: it reads lines, data and payloads as long as a peer announces, and waits
for them for ever. The tests speak with its client.
"""

import asyncio
import contextlib
import secrets
import socket
from collections.abc import Collection
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from stt.machine import DISTRIBUTION
from stt.server.announce import announced
from stt.server.dialect import Frame, NotAdmittedError, Request
from stt.server.dialects.reading import UnreadableError
from stt.server.dialects.wyoming import MOST_BYTES, Wyoming, error, head, info, read, reply
from stt.server.gate import Gate
from stt.server.host import Host
from stt.server.logs import LOGGER, log
from stt.server.sockets import Door
from stt.server.wire import LAST_WORD_S, GoneError, address

_AUDIO: Final = ("audio-start", "audio-chunk", "audio-stop")
_PIECE_BYTES: Final = 64 << 10


class WyomingServer:
    """Serves Wyoming beside HTTP, over the same engine and sessions.

    Args:
        gate: defaults and limits.
        listener: bound and listening.
        most: connections at once.

    """

    def __init__(self, gate: Gate, listener: socket.socket, most: int) -> None:
        self.gate = gate
        self.door = Door(gate.settings, gate.service.metrics, most)
        self.connections: dict[_Connection, asyncio.Task[None]] = {}
        self._listener = listener
        self._server: asyncio.Server | None = None
        self._announcing: asyncio.Task[None] | None = None
        try:
            self._version = version(DISTRIBUTION)
        except PackageNotFoundError:  # a source tree
            self._version = None

    async def start(self) -> None:
        """Begin to accept."""
        host, port = self._listener.getsockname()[:2]
        self._server = await asyncio.start_server(self._accept, sock=self._listener, limit=MOST_BYTES)
        if self.gate.settings.wyoming_announce:
            self._announcing = asyncio.create_task(self._announce(host, port), name="announcing")

    async def close(self) -> None:
        """Accept no more, and end what is left; sessions are drained before (`Service.drain`)."""
        if self._server is not None:
            self._server.close()
        tasks = list(self.connections.values())
        if self._announcing is not None:
            tasks.append(self._announcing)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @staticmethod
    async def _announce(host: str, port: int) -> None:
        async with announced(host, port):
            await asyncio.Event().wait()

    def describe(self) -> dict[str, Any]:
        """Make the data of `info`, also while the engine loads: clients may ask but once."""
        recognizer = self.gate.service.recognizer
        engine = recognizer.model.name if recognizer is not None else None
        engines = recognizer.engines if recognizer is not None else {}
        return info(
            engine,
            self.gate.offered_languages,
            self._version,
            ends_turns=self.gate.settings.wyoming_ends_turns,
            named={name: (model.name, model.languages) for name, model in engines.items()},
        )

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(self, reader, writer)
        task = self.connections[connection] = asyncio.create_task(connection.run(), name="wyoming")
        task.add_done_callback(lambda _: self.connections.pop(connection, None))
        self.door.enter(connection, asyncio.get_running_loop().time())


class _Connection:
    """One client; a `Caller` until it sends audio."""

    def __init__(self, server: WyomingServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._server = server
        peer = writer.get_extra_info("peername")
        self.client: tuple[str, int] | None = peer[:2] if peer else None
        self.transport = writer.transport
        self._wire = _EventWire(reader, writer, server.gate.settings.handshake_timeout_s)

    @property
    def connections(self) -> Collection[Any]:
        """All there are."""
        return self._server.connections

    async def run(self) -> None:
        """Serve until it ends; raises nothing but cancellation."""
        try:
            if await self._wait():
                await self._talk()
        except (GoneError, TimeoutError) as gone:
            if isinstance(gone, TimeoutError) or str(gone) == "slow_request":
                self._server.gate.service.metrics.dropped.labels(str(gone) or "idle").inc()
        except Exception:  # noqa: BLE001 - a mistake of ours ends this connection alone
            LOGGER.exception("a Wyoming connection failed")
        finally:
            self._server.door.leave(self)
            await self._wire.finish()

    async def _wait(self) -> bool:
        """Answer what needs no session; return whether audio comes."""
        gate, asked = self._server.gate, []
        while True:
            async with asyncio.timeout(gate.settings.idle_timeout_s):
                event = await self._wire.receive()
            if not event:
                return False
            try:
                message = read(event)
            except UnreadableError as wrong:
                gate.service.metrics.errors.labels("bad_event").inc()
                await self._say(error(str(wrong), "bad_event"))
                return False
            if message.type in _AUDIO:
                self._wire.unread(*asked, event)
                return True
            if message.type == "transcribe":
                asked = [event]
            elif (answer := reply(message, self._server.describe)) is not None:
                await self._say(answer)

    async def _talk(self) -> None:
        gate, name = self._server.gate, secrets.token_hex(4)
        self._server.door.leave(self)
        dialect = Wyoming(self._server.describe, ends_turns=gate.settings.wyoming_ends_turns)
        try:
            gate.room()
        except NotAdmittedError as refused:
            gate.service.metrics.refused.labels(refused.code).inc()
            log("refused", client=self._wire.client, path=dialect.path, code=refused.code)
            await self._say(error(str(refused), refused.code))
            return
        request = Request(name, languages=gate.languages, engines=gate.engines, terms=gate.terms)
        options = dialect.open(request, gate.turns, gate.language)
        await Host(name, self._wire, dialect, options, gate.service).run()

    async def _say(self, event: bytes) -> None:
        async with asyncio.timeout(self._server.gate.settings.send_timeout_s):
            await self._wire.send(event)


class _EventWire:
    """A TCP connection as a `Wire`, whose frames are whole events."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, whole_s: float) -> None:
        self._reader, self._writer = reader, writer
        self._whole_s = whole_s
        self._unread: list[bytes] = []
        self._mid_utterance = False
        self._over = False  # nothing more can be received
        self.client = address({"client": writer.get_extra_info("peername")})

    async def accept(self, headers: tuple[tuple[str, str], ...]) -> None:
        """Nothing is said to let a client in."""

    def unread(self, *events: bytes) -> None:
        """Put events back, to be received again."""
        self._unread += events

    async def receive(self) -> bytes:
        """Wait for an event; an empty one: the client sends no more, but waits for what it asked for.

        What is no event comes as it is, as far as it was read: it is for the dialect to say so. Nothing comes after it.
        """
        if self._unread:
            return self._unread.pop(0)
        if self._over:
            await asyncio.Event().wait()
        try:
            event = await self._reader.readexactly(1)
        except asyncio.IncompleteReadError:
            if self._mid_utterance:
                raise GoneError("vanished") from None
            self._over = True
            return b""
        except OSError:
            raise GoneError("vanished") from None
        try:
            async with asyncio.timeout(self._whole_s):
                return await self._rest(event)
        except TimeoutError:
            raise GoneError("slow_request") from None
        except OSError:
            raise GoneError("vanished") from None

    async def _rest(self, event: bytes) -> bytes:
        if event != b"\n":
            event += await self._line()
        try:
            kind, _, *sizes = head(event.removesuffix(b"\n"))
            event += await self._reader.readexactly(sum(sizes))
        except UnreadableError:
            self._over = True
            return event
        except asyncio.IncompleteReadError as cut:
            self._over = True
            return event + cut.partial
        if kind in _AUDIO:
            self._mid_utterance = kind != "audio-stop"
        return event

    async def _line(self) -> bytes:
        """Read to the end of a line, or to that of the stream; of one that is too long, enough to see that."""
        try:
            return await self._reader.readuntil(b"\n")
        except asyncio.IncompleteReadError as cut:
            return cut.partial
        except asyncio.LimitOverrunError:
            return await self._reader.readexactly(MOST_BYTES)

    async def send(self, frame: Frame) -> None:
        """Send an event; waits while the client does not read."""
        assert isinstance(frame, bytes)  # noqa: S101 - for the type checker: this dialect has no others
        try:
            self._writer.write(frame)
            await self._writer.drain()
        except OSError:
            raise GoneError("vanished") from None

    async def close(self, code: int, reason: str) -> None:
        """Say that nothing more comes; `finish` ends it."""
        del code, reason
        if not self._writer.is_closing():
            with contextlib.suppress(OSError):
                self._writer.write_eof()

    async def finish(self) -> None:
        """End it, once nobody receives any more; who does not take what it was sent is cut off."""
        await self.close(0, "")
        try:
            async with asyncio.timeout(LAST_WORD_S):
                # Closed with something unread, TCP would drop what the client was sent last.
                while await self._reader.read(_PIECE_BYTES):
                    pass
                self._writer.close()
                await self._writer.wait_closed()
        except (TimeoutError, OSError):
            pass
        finally:
            self._writer.transport.abort()
