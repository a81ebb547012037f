"""Four people at once, each with a client of another system, over one engine: everybody gets what they said."""

import asyncio
import base64
import json
import warnings

import pytest
from served import free_port, stt_serve
from websockets.asyncio.client import connect

from serving import frames
from spoken import sentences, talk, word_errors

openai = pytest.importorskip("openai")
deepgram = pytest.importorskip("deepgram")
pytest.importorskip("wyoming")
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # it imports audioop
    from wyoming.asr import Transcript
    from wyoming.audio import AudioChunk, AudioStop
    from wyoming.client import AsyncTcpClient

# Deepgram's SDK asks websockets for a name that is on its way out.
pytestmark = pytest.mark.filterwarnings("ignore:websockets:DeprecationWarning")

SAID = [sentences(2, seed) for seed in (11, 12, 13, 14)]
PIECE = 1_600  # 0.1 s


async def native(host: str, pcm: list[bytes]) -> str:
    async with connect(f"ws://{host}/ws/transcribe?interim_results=0") as websocket:
        for piece in pcm:
            await websocket.send(piece)
            await asyncio.sleep(0)
        await websocket.send('{"type": "finish"}')
        return " ".join([json.loads(message)["text"] async for message in websocket])


async def realtime(host: str, pcm: list[bytes]) -> str:
    async with (
        openai.AsyncOpenAI(base_url=f"http://{host}/v1", api_key="none") as client,
        client.realtime.connect(model="gpt-4o-transcribe", extra_query={"intent": "transcription"}) as connection,
    ):
        asked = {"input": {"format": {"type": "audio/pcm", "rate": 16_000}, "turn_detection": None}}
        await connection.session.update(session={"type": "transcription", "audio": asked})
        for piece in pcm:
            await connection.input_audio_buffer.append(audio=base64.b64encode(piece).decode())
        await connection.input_audio_buffer.commit()
        async for event in connection:
            assert event.type.rpartition(".")[2] not in ("error", "failed"), event
            if event.type == "conversation.item.input_audio_transcription.completed":
                return event.transcript
    raise AssertionError("no text")


async def flux(host: str, pcm: list[bytes]) -> str:
    environment = deepgram.DeepgramClientEnvironment(
        base=f"http://{host}", production=f"ws://{host}", agent=f"ws://{host}", agent_rest=f"http://{host}"
    )
    client = deepgram.AsyncDeepgramClient(api_key="none", environment=environment)
    async with client.listen.v2.connect(model="flux-general-en", encoding="linear16", sample_rate=16_000) as connection:
        for piece in pcm:
            await connection.send_media(piece)
        await connection.send_close_stream()
        ends = [message async for message in connection if getattr(message, "event", None) == "EndOfTurn"]
    return " ".join(message.transcript for message in ends)


async def wyoming(port: int, pcm: list[bytes]) -> str:
    async with AsyncTcpClient("127.0.0.1", port) as client:
        for piece in pcm:
            await client.write_event(AudioChunk(rate=16_000, width=2, channels=1, audio=piece).event())
        await client.write_event(AudioStop().event())
        while not Transcript.is_type((event := await client.read_event()).type):
            pass
        return Transcript.from_event(event).text


async def test_four_dialects_at_once() -> None:
    pcm = [frames(talk(texts, [1.2, 0.8], seed=i), PIECE) for i, texts in enumerate(SAID)]
    port = free_port()
    async with stt_serve("--wyoming", str(port)) as host, asyncio.timeout(120), asyncio.TaskGroup() as tasks:
        talks = [
            tasks.create_task(native(host, pcm[0])),
            tasks.create_task(realtime(host, pcm[1])),
            tasks.create_task(flux(host, pcm[2])),
            tasks.create_task(wyoming(port, pcm[3])),
        ]
    for texts, task in zip(SAID, talks, strict=True):
        errors, words = word_errors(" ".join(texts), task.result())
        assert errors <= words / 5, task.result()
