"""Clients that find the end of speech themselves flush 0.2 s after it: the answer has to be under way by then."""

import base64
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import connect

from scripted import ScriptedModel, tone
from serving import frames, serving
from spoken import silence

CREATED = {"type": "session.update", "session": {"type": "transcription", "audio": {"input": {
    "format": {"type": "audio/pcm", "rate": 16_000}, "turn_detection": None,
}}}}  # fmt: skip


def appended(pcm: bytes) -> str:
    return json.dumps({"type": "input_audio_buffer.append", "audio": base64.b64encode(pcm).decode()})


@pytest.mark.parametrize(
    ("path", "first", "audio", "flush", "answered"),
    [
        (
            "/v1/listen?encoding=linear16&sample_rate=16000&interim_results=true",
            '{"type":"KeepAlive"}', bytes, '{"type":"Finalize"}', lambda message: message.get("from_finalize"),
        ),
        (
            "/v1/realtime?intent=transcription",
            json.dumps(CREATED), appended, '{"type":"input_audio_buffer.commit"}',
            lambda message: message["type"].endswith(".completed"),
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("after_s", [0.13, 0.2, 0.28])
async def test_a_flush_soon_after_speech_asks_for_nothing_new(
    path: str, first: str, audio: Callable[[bytes], Any], flush: str, answered: Callable[[Any], bool], after_s: float
) -> None:
    model = ScriptedModel(lambda _: "One.")
    async with serving(model) as running:
        async with connect(f"ws://127.0.0.1:{running.port}{path}", compression=None) as websocket:
            await websocket.send(first)
            for pcm in frames(np.concatenate([tone(1.0), silence(after_s)])):
                await websocket.send(audio(pcm))
            await websocket.send(flush)
            while not answered(message := json.loads(await websocket.recv())):
                pass
        asked = [heard.kind for batch in model.batches for heard in batch if heard.audio.any()]
    assert "One." in json.dumps(message)
    assert [kind for kind in asked if kind != "interim"] == ["speculative"]
