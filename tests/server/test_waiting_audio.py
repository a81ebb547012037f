"""What a session may have waiting, with an engine that does not answer."""

import asyncio

import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from scripted import ScriptedModel, tone
from serving import Running, frames, rest, serving
from stt.audio import to_pcm16

LONG_S = 150
FRAMES = frames(np.tile(tone(1), LONG_S), 800)


async def say(websocket: ClientConnection) -> None:
    try:
        for frame in FRAMES:
            await websocket.send(frame)
        await websocket.send('{"type": "finish"}')
    except ConnectionClosed:
        pass


def read_s(running: Running) -> float:
    """Audio read from clients; counted every 64 messages, 3.2 s."""
    return running.service.metrics.registry.get_sample_value("stt_audio_seconds_total") or 0.0


async def until_no_more_is_read(running: Running) -> float:
    most_s = 0.0
    while most_s != (most_s := read_s(running)) or most_s < 30:
        await asyncio.sleep(0.5)
    return most_s


async def test_speech_that_waits_for_a_stalled_engine_is_bounded() -> None:
    """Two windows of 24 s, what follows them (less than a second of speech without a pause), and 10 s unheard."""
    model = ScriptedModel(max_batch=1)
    async with serving(model) as running, running.connect("?interim_results=0") as websocket:
        assert running.service.recognizer is not None
        model.batches.clear()
        model.free.clear()
        sending = asyncio.create_task(say(websocket))
        most_s = await until_no_more_is_read(running)
        assert running.service.recognizer.waiting + len(model.batches) == 2
        assert 45 < most_s < 65
        model.free.set()
        await sending
        (final,) = await rest(websocket, 30)
        assert final["isFinal"]
        assert final["end"] == LONG_S
        assert read_s(running) == pytest.approx(LONG_S)


async def test_a_drain_lets_a_session_that_is_held_back_have_its_final() -> None:
    model = ScriptedModel(max_batch=1)
    async with serving(model, drain_timeout_s=5) as running, running.connect("?interim_results=0") as websocket:
        model.free.clear()
        sending = asyncio.create_task(say(websocket))
        most_s = await until_no_more_is_read(running)
        running.server.stop()
        next(iter(running.service.sessions)).drain(now=True)  # what half of the timeout does
        model.free.set()
        messages = await rest(websocket)
        await sending
        assert messages[-1]["isFinal"]
        assert messages[-1]["end"] >= most_s
        assert websocket.close_code == 1001


@pytest.mark.parametrize("encoding", ["linear16", "mulaw"])
async def test_behind_a_message_that_is_minutes_of_audio_pings_are_answered(encoding: str) -> None:
    """Clients of Deepgram may send a whole file so, and give up when a ping is not answered in 20 s."""
    model = ScriptedModel(max_batch=1)
    query = f"encoding={encoding}&sample_rate=16000&endpointing=false"
    async with (
        serving(model) as running,
        connect(f"ws://127.0.0.1:{running.port}/v1/listen?{query}", compression=None, ping_interval=None) as websocket,
    ):
        assert running.service.recognizer is not None
        model.free.clear()
        await websocket.send(b"\x90" * (LONG_S * 16_000) if encoding == "mulaw" else to_pcm16(np.tile(tone(1), LONG_S)))
        await websocket.send('{"type": "KeepAlive"}')
        await websocket.send('{"type": "CloseStream"}')
        await until_no_more_is_heard(running)
        async with asyncio.timeout(60):
            await (await websocket.ping())
        model.free.set()
        messages = await rest(websocket, 30)
    assert messages[-1]["duration"] == LONG_S


async def until_no_more_is_heard(running: Running) -> None:
    """Wait until the session takes no more, and hold what waits against its bound."""
    (host,) = running.service.sessions
    most_s = 0.0
    while most_s != (most_s := host._inbox.received_s) or most_s < 30:  # type: ignore[attr-defined]
        await asyncio.sleep(0.5)
    assert most_s < 80
