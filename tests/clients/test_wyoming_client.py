"""Wyoming's own Python library, as Home Assistant uses it, against `stt serve` and real speech."""

import asyncio
import warnings

import pytest
from served import free_port, stt_serve

from serving import frames
from spoken import sentences, talk, word_errors

pytest.importorskip("wyoming")
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # it imports audioop
    from wyoming.asr import Transcribe, Transcript, TranscriptChunk, TranscriptStart, TranscriptStop
    from wyoming.audio import AudioChunk, AudioStart, AudioStop
    from wyoming.client import AsyncTcpClient
    from wyoming.error import Error
    from wyoming.info import Describe, Info

TEXTS = sentences(2, 3)
SPEECH = talk(TEXTS, [2.0, 0.5])
FORMAT = {"rate": 16_000, "width": 2, "channels": 1}


async def speak(client: AsyncTcpClient) -> None:
    await client.write_event(Transcribe(language="en", transcript_names=["Sarah Thompson"]).event())
    await client.write_event(AudioStart(**FORMAT).event())
    for frame in frames(SPEECH, 160):
        await client.write_event(AudioChunk(**FORMAT, audio=frame).event())
    await client.write_event(AudioStop().event())


def right(heard: str, texts: list[str] = TEXTS) -> bool:
    errors, words = word_errors(" ".join(texts), heard)
    return errors <= words / 5


async def test_an_utterance_with_a_pause_is_one_transcript() -> None:
    port = free_port()
    async with stt_serve("--wyoming", str(port)), asyncio.timeout(60):
        async with AsyncTcpClient("127.0.0.1", port) as client:
            await client.write_event(Describe().event())
            info = Info.from_event(await client.read_event())
            (program,) = info.asr
            assert program.installed
            assert program.models[0].languages == ["en"]
            assert program.supports_transcript_streaming
        for _ in range(2):  # Home Assistant connects anew for each; it sends all first, and reads to the transcript
            async with AsyncTcpClient("127.0.0.1", port) as client:
                await speak(client)
                while not Transcript.is_type((event := await client.read_event()).type):
                    assert not Error.is_type(event.type)
                assert right(Transcript.from_event(event).text)


async def test_texts_are_streamed() -> None:
    port = free_port()
    async with stt_serve("--wyoming", str(port)), AsyncTcpClient("127.0.0.1", port) as client, asyncio.timeout(60):
        await speak(client)
        kinds, chunks, text = [], "", ""
        while not kinds or not TranscriptStop.is_type(kinds[-1]):
            event = await client.read_event()
            kinds.append(event.type)
            if TranscriptChunk.is_type(event.type):
                chunks += TranscriptChunk.from_event(event).text
            elif Transcript.is_type(event.type):
                text = Transcript.from_event(event).text
        assert TranscriptStart.is_type(kinds[0])
        assert text.startswith(chunks)
        assert right(text)


async def test_the_server_ends_turns_where_it_was_told_to() -> None:
    port = free_port()
    async with (
        stt_serve("--wyoming", str(port), "--wyoming-ends-turns", "--end-of-turn", "0.8"),
        AsyncTcpClient("127.0.0.1", port) as client,
        asyncio.timeout(60),
    ):
        await speak(client)
        while not Transcript.is_type((event := await client.read_event()).type):
            pass
        assert right(Transcript.from_event(event).text, TEXTS[:1])
