"""A client of OpenAI's Realtime API, for tests against bytes on the wire."""

import asyncio
import base64
import json
from typing import Any

import numpy as np
from websockets.asyncio.client import ClientConnection, connect

from serving import Running
from stt.audio import to_pcm16

TRANSCRIPTION = "conversation.item.input_audio_transcription"
PCM_16K = {"format": {"type": "audio/pcm", "rate": 16_000}}


def talking(running: Running, query: str = "?intent=transcription", **more: Any) -> connect:
    url = f"ws://127.0.0.1:{running.port}/v1/realtime{query}"
    return connect(url, compression=None, ping_interval=None, max_size=None, **more)


async def send(websocket: ClientConnection, kind: str, **fields: Any) -> None:
    await websocket.send(json.dumps({"type": kind, **fields}))


async def update(websocket: ClientConnection, **heard: Any) -> dict[str, Any]:
    """Set what is heard, in 16 kHz if nothing else is said; return the session as it is now."""
    await send(websocket, "session.update", session={"type": "transcription", "audio": {"input": PCM_16K | heard}})
    return (await until(websocket, "session.updated"))[-1]["session"]


async def append(websocket: ClientConnection, *parts: np.ndarray, size: int = 3_201) -> None:
    """Send sound in pieces that part samples."""
    data = to_pcm16(np.concatenate(parts))
    for at in range(0, len(data), size):
        await send(websocket, "input_audio_buffer.append", audio=base64.b64encode(data[at : at + size]).decode())


async def until(websocket: ClientConnection, kind: str) -> list[dict[str, Any]]:
    events = []
    async with asyncio.timeout(60):
        while not events or events[-1]["type"] != kind:
            events.append(json.loads(await websocket.recv()))
    return events


def kinds(events: list[dict[str, Any]]) -> list[str]:
    """Without deltas, whose number depends on the engine's pace."""
    names = [event["type"].removeprefix("input_audio_buffer.").removeprefix(f"{TRANSCRIPTION}.") for event in events]
    return [name for name in names if name != "delta"]
