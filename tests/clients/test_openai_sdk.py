"""OpenAI's own Python SDK, unmodified, against `stt serve` with its embedded engine and real speech."""

import asyncio
import base64
import io
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
from served import stt_serve

from spoken import sentences, talk, word_errors

openai = pytest.importorskip("openai")

TEXTS = sentences(2, 3)
SPEECH = talk(TEXTS, [2.0, 2.0])


def upload(name: str = "talk.flac") -> tuple[str, bytes]:
    file = io.BytesIO()
    soundfile.write(file, SPEECH, 16_000, format=name.rpartition(".")[2].upper())
    return name, file.getvalue()


def right(heard: str) -> bool:
    errors, words = word_errors(" ".join(TEXTS), heard)
    return errors <= words / 5


async def test_files_in_all_formats() -> None:
    async with stt_serve() as host, openai.AsyncOpenAI(base_url=f"http://{host}/v1", api_key="none") as client:
        create = client.audio.transcriptions.create
        assert right((await create(file=upload(), model="gpt-4o-transcribe")).text)
        assert right(await create(file=upload(), model="whisper-1", response_format="text"))
        for form, mark in (("srt", "00:00:0"), ("vtt", "WEBVTT")):
            assert mark in await create(file=upload("talk.wav"), model="whisper-1", response_format=form)
        verbose = await create(
            file=upload("talk.ogg"),
            model="whisper-1",
            response_format="verbose_json",
            timestamp_granularities=["word", "segment"],
        )
        assert right(" ".join(word.word for word in verbose.words))
        assert [segment.id for segment in verbose.segments] == list(range(len(verbose.segments)))
        assert verbose.duration == pytest.approx(len(SPEECH) / 16_000, abs=0.1)
        assert (verbose.language, right(verbose.text)) == ("english", True)
        known = [model.id async for model in client.models.list()]
        assert (await client.models.retrieve(known[0])).id == known[0]
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("nobody's")


async def test_a_file_as_a_stream_of_texts() -> None:
    async with stt_serve() as host, openai.AsyncOpenAI(base_url=f"http://{host}/v1", api_key="none") as client:
        stream = await client.audio.transcriptions.create(file=upload(), model="gpt-4o-transcribe", stream=True)
        events = [event async for event in stream]
    assert [event.type for event in events] == ["transcript.text.delta"] * 2 + ["transcript.text.done"]
    assert "".join(event.delta for event in events[:-1]) == events[-1].text
    assert right(events[-1].text)


async def test_what_is_no_audio_is_told_once_in_its_errors() -> None:
    async with stt_serve() as host, openai.AsyncOpenAI(base_url=f"http://{host}/v1", api_key="none") as client:
        with pytest.raises(openai.BadRequestError, match="not audio"):
            await client.audio.transcriptions.create(file=("a.wav", b"nonsense"), model="whisper-1")


@pytest.mark.parametrize("detection", [{"type": "server_vad", "silence_duration_ms": 900}, None], ids=["vad", "commit"])
async def test_a_realtime_transcription(detection: dict[str, Any] | None) -> None:
    pcm = (np.clip(soxr.resample(SPEECH, 16_000, 24_000), -1, 1) * 32767).astype("<i2").tobytes()
    texts: list[str] = []
    async with (
        stt_serve() as host,
        openai.AsyncOpenAI(base_url=f"http://{host}/v1", api_key="none") as client,
        client.realtime.connect(model="gpt-4o-transcribe", extra_query={"intent": "transcription"}) as connection,
        asyncio.timeout(60),
    ):
        asked = {"input": {"format": {"type": "audio/pcm", "rate": 24_000}, "turn_detection": detection}}
        await connection.session.update(session={"type": "transcription", "audio": asked})
        for at in range(0, len(pcm), 48_000):
            await connection.input_audio_buffer.append(audio=base64.b64encode(pcm[at : at + 48_000]).decode())
        if detection is None:
            await connection.input_audio_buffer.commit()
        async for event in connection:
            assert event.type != "error", event
            if event.type == "conversation.item.input_audio_transcription.completed":
                texts.append(event.transcript)
                if len(texts) == (1 if detection is None else 2):
                    break
    assert right(" ".join(texts))
