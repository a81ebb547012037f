"""Connections that do not get on: requests are timed from their first byte, and those that wait make room."""

import asyncio
import contextlib
import json
import resource
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import connect, unix_connect

from scripted import tone
from serving import Running, counted, serving, turn
from spoken import silence
from stt.errors import SettingsError
from stt.server import ServerSettings
from stt.server.sockets import listen, most_connections

SPOKEN = np.concatenate([silence(0.3), tone(1), silence(0.2)])


async def test_a_connection_that_sends_no_request_is_cut_off() -> None:
    async with serving(handshake_timeout_s=0.2) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(b"GET /health HTTP/1.1\r\nHost:")
        async with asyncio.timeout(60):
            with pytest.raises(ConnectionError):
                assert await reader.read() == b""
                raise ConnectionResetError
        writer.close()
        await running.until(lambda: not running.server.server_state.connections)


async def hangs_up(reader: asyncio.StreamReader) -> bytes:
    """Read until the server ends the connection; returns what it said."""
    got = b""
    async with asyncio.timeout(60):
        with contextlib.suppress(ConnectionError):
            while more := await reader.read(1 << 16):
                got += more
    return got


BODY = b"POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"


@pytest.mark.parametrize(
    ("first", "trickle"),
    [
        (b"", b"G"),
        (b"GET /health HTTP/1.1\r\nHost: x\r\n\r\nG", b"E"),
        (b"GET /health HTTP/1.1\r\nHost: x\r\n\r\nGET /health HTTP/1.1\r\nX-", b"a"),
        (BODY, b""),
        (BODY, b"x"),
        (b"POST /health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    ],
    ids=["first request", "second request", "second request's headers", "no body", "slow body", "chunks"],
)
async def test_a_request_that_is_not_whole_in_time_ends_its_connection(first: bytes, trickle: bytes) -> None:
    async with serving(handshake_timeout_s=0.3) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(first)

        async def drip() -> None:
            with contextlib.suppress(ConnectionError):
                while trickle:
                    writer.write(trickle)
                    await asyncio.sleep(0.05)

        dripping = asyncio.create_task(drip())
        await hangs_up(reader)
        dripping.cancel()
        await asyncio.gather(dripping, return_exceptions=True)
        assert counted(running, "stt_connections_dropped_total", reason="slow_request") == 1
        await running.until(lambda: not running.server.server_state.connections)
        writer.close()


async def test_whole_requests_on_one_connection_are_all_answered() -> None:
    async with serving(handshake_timeout_s=0.5) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        for _ in range(5):
            writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            async with asyncio.timeout(60):
                await reader.readuntil(b'{"status":"alive"}')
            await asyncio.sleep(0.15)
        assert counted(running, "stt_connections_dropped_total", reason="slow_request") == 0
        writer.close()


async def idle_connections(running: Running, count: int) -> list[asyncio.StreamWriter]:
    return [(await asyncio.open_connection("127.0.0.1", running.port))[1] for _ in range(count)]


async def test_connections_that_wait_make_room_for_a_client_that_gets_on() -> None:
    """Those with a session stay; the oldest of those without a whole request go."""
    async with serving(max_connections=20, handshake_timeout_s=60) as running, running.connect() as speaking:
        others = await idle_connections(running, 60)
        assert len(running.server.server_state.connections) <= 20
        async with running.connect() as websocket:
            assert (await turn(websocket, SPOKEN))[-1]["isFinal"]
        assert (await turn(speaking, SPOKEN))[-1]["isFinal"]
        assert counted(running, "stt_connections_dropped_total", reason="too_many") >= 40
        for writer in others:
            writer.transport.abort()


async def test_one_address_does_not_hold_all_the_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stt.server.sockets._GRACE_S", 0.0)
    async with serving(max_waiting_per_address=5, handshake_timeout_s=60) as running:
        others = await idle_connections(running, 40)
        await running.until(lambda: len(running.server.server_state.connections) <= 5)
        async with running.connect() as websocket:
            assert (await turn(websocket, SPOKEN))[-1]["isFinal"]
        for writer in others:
            writer.transport.abort()


async def test_clients_of_one_address_that_come_all_at_once_are_all_let_in() -> None:
    async with serving(max_waiting_per_address=2) as running:
        websockets = await asyncio.gather(*(running.connect() for _ in range(30)))
        assert len(running.service.sessions) == 30
        await asyncio.gather(*(websocket.close() for websocket in websockets))


FEW = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
sys.path[:0] = {path!r}
from scripted import ScriptedModel
from serving import LoudnessBatch
from stt.server import ServerSettings, create_app
from stt.server.run import serve
from stt.vad_pool import VadPool
settings = ServerSettings(port=0)
app = create_app(settings, open_model=ScriptedModel, open_vad=lambda: VadPool(LoudnessBatch()))
sys.exit(serve(app, settings, log_format="json"))
"""


async def test_with_256_descriptors_idle_connections_do_not_lock_a_client_out() -> None:
    """In a process of its own; SIGHUP drains it like SIGTERM."""
    path = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", FEW.format(path=path), stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    lines: list[dict[str, Any]] = []
    async with asyncio.timeout(60):
        while not lines or lines[-1]["message"] != "ready":
            lines.append(json.loads(await process.stderr.readline()))
        assert [line["files"] for line in lines if line["level"] == "warning"] == [256]
        (url,) = [line["url"] for line in lines if "url" in line]
        port = int(url.rsplit(":", 1)[1])
        others = [(await asyncio.open_connection("127.0.0.1", port))[1] for _ in range(400)]
        for writer in others:
            writer.write(b"GET / HTTP/1.1\r\nX: ")
        async with connect(f"{url}/ws/transcribe", compression=None) as websocket:
            assert (await turn(websocket, SPOKEN))[-1]["isFinal"]
        for writer in others:
            writer.transport.abort()
        process.send_signal(signal.SIGHUP)
        _, errors = await process.communicate()
    assert process.returncode == 0
    assert [line["message"] for line in map(json.loads, errors.splitlines())][-2:] == ["drained", "stopped"]


def test_how_many_connections_are_borne(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = [0, 0]
    monkeypatch.setattr(resource, "getrlimit", lambda _: tuple(limits))
    monkeypatch.setattr(resource, "setrlimit", lambda _, new: limits.__setitem__(0, new[0]))
    for settings, soft, hard, expected, after in (
        (ServerSettings(), 1024, 1024, (256, None), 1024),
        (ServerSettings(), 256, 256, (192, 256), 256),
        (ServerSettings(), 256, 4096, (256, None), 320),  # raised as far as needed
        (ServerSettings(max_connections=1000), 256, 512, (448, 512), 512),
        (ServerSettings(), resource.RLIM_INFINITY, resource.RLIM_INFINITY, (256, None), resource.RLIM_INFINITY),
    ):
        limits[:] = soft, hard
        assert (most_connections(settings), limits[0]) == (expected, after)


async def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "stt.sock"
    async with serving(host=f"unix:{path}"):
        assert path.stat().st_mode & 0o777 == 0o660
        async with unix_connect(str(path), "ws://localhost/ws/transcribe", compression=None) as websocket:
            assert (await turn(websocket, SPOKEN))[-1]["isFinal"]
        with pytest.raises(SettingsError, match="another server listens there"):
            listen(ServerSettings(host=f"unix:{path}"))
    assert path.exists()  # a server that was killed leaves it
    listen(ServerSettings(host=f"unix:{path}")).close()
    path.unlink()
    path.write_text("precious")
    with pytest.raises(SettingsError, match="no socket"):
        listen(ServerSettings(host=f"unix:{path}"))
    assert path.read_text() == "precious"


def test_an_ipv6_address_may_be_written_as_in_urls() -> None:
    try:
        listener = listen(ServerSettings(host="[::1]", port=0))
    except SettingsError as error:
        if "[::1]" in str(error) and "Name or service" not in str(error):
            pytest.skip(f"no IPv6 here: {error}")
        raise
    assert listener.getsockname()[0] == "::1"
    listener.close()
