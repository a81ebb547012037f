"""Deepgram's own Python SDK, unmodified, against `stt serve` with its embedded engine and real speech."""

import asyncio
import io
from typing import Any

import pytest
import soundfile
from served import stt_serve

from serving import frames
from spoken import sentences, talk, word_errors

deepgram = pytest.importorskip("deepgram")


TEXTS = sentences(2, 3)
SPEECH = talk(TEXTS, [1.5, 1.5])


def client(host: str) -> Any:
    environment = deepgram.DeepgramClientEnvironment(
        base=f"http://{host}", production=f"ws://{host}", agent=f"ws://{host}", agent_rest=f"http://{host}"
    )
    return deepgram.AsyncDeepgramClient(api_key="none", environment=environment)


def right(heard: str) -> bool:
    errors, words = word_errors(" ".join(TEXTS), heard)
    return errors <= words / 5


def transcript(message: Any) -> str:
    return message.channel.alternatives[0].transcript


async def test_flux_says_what_was_said() -> None:
    async with (
        stt_serve() as host,
        client(host).listen.v2.connect(
            model="flux-general-en", encoding="linear16", sample_rate=16_000, eager_eot_threshold=0.4
        ) as connection,
    ):
        for frame in frames(SPEECH, 1280):
            await connection.send_media(frame)
        await connection.send_close_stream()
        async with asyncio.timeout(60):
            messages = [message async for message in connection]
    assert all(message is not None for message in messages)
    ends = [message for message in messages if getattr(message, "event", None) == "EndOfTurn"]
    assert [message.turn_index for message in ends] == [0, 1]
    assert right(" ".join(message.transcript for message in ends))


async def test_version_1_says_what_was_said() -> None:
    async with stt_serve() as host, client(host).listen.v1.connect(
        model="nova-3", encoding="linear16", sample_rate=16_000, interim_results=True, endpointing=500,
        utterance_end_ms=1_000, vad_events=True, smart_format=True, keyterm=["Strops"],
    ) as connection:  # fmt: skip
        for frame in frames(SPEECH, 1280):
            await connection.send_media(frame)
        await connection.send_keep_alive()
        await connection.send_finalize()
        async with asyncio.timeout(60):
            messages = []
            async for message in connection:
                messages.append(message)
                if getattr(message, "from_finalize", False):
                    await connection.send_close_stream()
    kinds = [message.type for message in messages]  # all of them are known
    assert kinds.count("SpeechStarted") == kinds.count("UtteranceEnd") == 2
    assert (kinds.count("Metadata"), kinds[-1]) == (1, "Metadata")
    results = [message for message in messages if message.type == "Results"]
    assert any(not message.is_final for message in results)
    finals = [message for message in results if message.is_final]
    assert [message.speech_final for message in finals if transcript(message)] == [True, True]
    assert right(" ".join(transcript(message) for message in finals))


async def test_a_recording_in_version_1() -> None:
    file = io.BytesIO()
    soundfile.write(file, SPEECH, 16_000, format="FLAC")
    async with stt_serve() as host:
        transcribe = client(host).listen.v1.media.transcribe_file
        answer = await transcribe(request=file.getvalue(), model="nova-3", smart_format=True, utterances=True)
        with pytest.raises(deepgram.core.api_error.ApiError) as refused:
            await transcribe(request=b"no audio", model="nova-3")
    (alternative,) = answer.results.channels[0].alternatives
    assert right(alternative.transcript)
    assert right(" ".join(word.word for word in alternative.words))
    assert right(" ".join(utterance.transcript for utterance in answer.results.utterances))
    assert answer.metadata.duration == pytest.approx(len(SPEECH) / 16_000, abs=0.01)
    assert refused.value.status_code == 400
    assert "not audio" in refused.value.body["err_msg"]
