"""LiveKit's plugin for OpenAI, unmodified, against `stt serve` with its embedded engine and real speech."""

import asyncio
from typing import Any

import pytest
from served import stt_serve

from serving import frames
from spoken import sentences, talk, word_errors

pytest.importorskip("livekit.plugins.openai")
from livekit import rtc
from livekit.agents.stt import SpeechEventType
from livekit.agents.utils import http_context
from livekit.plugins import openai

TEXTS = sentences(2, 3)
SPEECH = talk(TEXTS, [1.8, 1.5])


def right(texts: list[str]) -> bool:
    errors, words = word_errors(" ".join(TEXTS), " ".join(texts))
    return errors <= words / 5


@pytest.mark.parametrize("model", ["gpt-4o-transcribe", "whisper-1"])
async def test_a_recording(model: str) -> None:
    frame = rtc.AudioFrame(b"".join(frames(SPEECH)), 16_000, 1, len(SPEECH))
    async with stt_serve() as host:
        service = openai.STT(api_key="none", base_url=f"http://{host}/v1", model=model, use_realtime=False)
        event = await service.recognize(frame)
        await service.aclose()
    assert event.type == SpeechEventType.FINAL_TRANSCRIPT
    assert right([event.alternatives[0].text])


async def test_turns_of_a_stream() -> None:
    """Its stream ends only when its owner closes it."""
    finals: list[Any] = []
    async with stt_serve() as host, http_context.open():
        service = openai.STT(api_key="none", base_url=f"http://{host}/v1", model="gpt-4o-transcribe", use_realtime=True)
        stream = service.stream()
        async with asyncio.timeout(120):
            for pcm in frames(SPEECH, 160):
                stream.push_frame(rtc.AudioFrame(pcm, 16_000, 1, len(pcm) // 2))
            while len(finals) < 2:
                event = await anext(stream)
                if event.type == SpeechEventType.FINAL_TRANSCRIPT:
                    finals.append(event)
        await stream.aclose()
        await service.aclose()
    assert right([event.alternatives[0].text for event in finals])
