"""A server of its own for each test, in the test's event loop: real sockets, scripted models."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from scripted import ScriptedModel
from stt.audio import to_pcm16
from stt.recognition import SpeechModel
from stt.server import ServerSettings, create_app
from stt.server.dialects.native import PATH
from stt.server.families import FAMILIES, Family
from stt.server.notify import Manager
from stt.server.run import Server
from stt.server.service import OpenEngine, Service
from stt.server.sockets import listen, listen_tcp
from stt.settings import EngineSettings, TurnSettings
from stt.vad_pool import VadPool


class LoudnessBatch:
    """For `SileroBatchVad`: a frame is speech if it is loud."""

    def run(self, frames: np.ndarray, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return (np.abs(frames[:, 64:]).max(axis=1) > 0.1).astype(np.float32), states


@dataclass
class Running:
    """A server that listens."""

    server: Server
    service: Service
    port: int
    task: asyncio.Task[None]
    wyoming_port: int = 0
    """0: it does not speak Wyoming."""

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws(self) -> str:
        return f"ws://127.0.0.1:{self.port}{PATH}"

    def connect(self, query: str = "", **more: Any) -> connect:
        return connect(self.ws + query, compression=None, ping_interval=None, **more)

    async def until(self, holds: Callable[[], bool], timeout_s: float = 60) -> None:
        """Wait for something that another task does; tests wait for what must happen, never for time to pass.

        The time is for what never happens: a busy machine may take its time.
        """
        async with asyncio.timeout(timeout_s):
            while not holds():
                await asyncio.sleep(0.005)


@asynccontextmanager
async def serving(
    model: SpeechModel | Callable[[], SpeechModel] | None = None,
    *,
    turns: TurnSettings | None = None,
    terms: Sequence[str] = (),
    ready: bool = True,
    vad: Callable[[], VadPool] = lambda: VadPool(LoudnessBatch()),
    dialects: Sequence[Family] = tuple(FAMILIES.values()),
    elsewhere: OpenEngine | None = None,
    engine: EngineSettings | None = None,
    open_interims: Callable[[], SpeechModel] | None = None,
    **settings: Any,
) -> AsyncIterator[Running]:
    model = model or ScriptedModel()
    limits = replace(ServerSettings(port=0, drain_timeout_s=2), **settings)
    open_model = model if not hasattr(model, "transcribe") else lambda: model
    app = create_app(
        limits,
        engine=engine,
        turns=turns,
        terms=terms,
        open_model=open_model,  # type: ignore[arg-type]
        open_interims=open_interims,
        open_vad=vad,
        dialects=dialects,
        elsewhere=elsewhere,
    )
    listener = listen(limits)
    wyoming = listen_tcp(*limits.wyoming, limits) if limits.wyoming is not None else None
    server = Server(app, limits, Manager(None), wyoming)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    port = 0 if limits.socket_path else listener.getsockname()[1]
    running = Running(server, app.state.service, port, task, wyoming.getsockname()[1] if wyoming is not None else 0)
    try:
        await running.until(lambda: server.started or task.done())
        if ready:
            await running.until(lambda: running.service.state == "ready")
        yield running
    finally:
        server.stop()
        server._hurry.set()
        await task
        listener.close()


def frames(audio: np.ndarray, size: int = 320) -> list[bytes]:
    pcm = to_pcm16(audio)
    return [pcm[at : at + 2 * size] for at in range(0, len(pcm), 2 * size)]


def as_json(pcm: bytes, rate: int = 16_000, channels: int = 1) -> str:
    return json.dumps({"samples": base64.b64encode(pcm).decode(), "sampleRate": rate, "channels": channels})


async def rest(websocket: ClientConnection, timeout_s: float = 60) -> list[dict[str, Any]]:
    """Receive until the connection is closed."""
    messages = []
    async with asyncio.timeout(timeout_s):
        try:
            while True:
                messages.append(json.loads(await websocket.recv()))
        except ConnectionClosed:
            return messages


async def said(websocket: ClientConnection, timeout_s: float = 60) -> dict[str, Any]:
    """Receive one message."""
    async with asyncio.timeout(timeout_s):
        return json.loads(await websocket.recv())


async def turn(websocket: ClientConnection, audio: np.ndarray) -> list[dict[str, Any]]:
    """Send audio and `finish`, and receive all that comes."""
    for frame in frames(audio):
        await websocket.send(frame)
    await websocket.send('{"type": "finish"}')
    return await rest(websocket)


async def refused(
    running: Running, query: str = "", path: str | None = None, **headers: str
) -> tuple[int, dict[str, Any]]:
    url = running.ws + query if path is None else f"ws://127.0.0.1:{running.port}{path}"
    with pytest.raises(InvalidStatus) as raised:
        async with connect(url, additional_headers=headers, compression=None):
            pass
    return raised.value.response.status_code, json.loads(raised.value.response.body)


def counted(running: Running, name: str, **labels: str) -> float:
    return running.service.metrics.registry.get_sample_value(name, labels) or 0.0


async def raw_websocket(running: Running) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a session by hand, for a client that does what no library does."""
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port, limit=1024)
    writer.write(
        b"GET /ws/transcribe HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    assert b"101 Switching" in await reader.readuntil(b"\r\n\r\n")
    return reader, writer


def masked(frame: bytes) -> bytes:
    return b"\x82\xfe" + len(frame).to_bytes(2, "big") + bytes(4) + frame
