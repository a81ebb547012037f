"""LiveKit's plugin for Deepgram, unmodified, against `stt serve` with its embedded engine and real speech."""

import asyncio
from typing import Any

import pytest
from served import stt_serve

from serving import frames
from spoken import sentences, talk, word_errors

pytest.importorskip("livekit.plugins.deepgram")
import aiohttp
from livekit import rtc
from livekit.agents.stt import SpeechEventType
from livekit.plugins import deepgram

TEXTS = sentences(2, 3)
SPEECH = talk(TEXTS, [1.8, 2.0])  # the end of the second is decided before that of the stream


def right(events: list[Any]) -> bool:
    heard = " ".join(event.alternatives[0].text for event in events)
    errors, words = word_errors(" ".join(TEXTS), heard)
    return errors <= words / 5


async def heard(stream: Any) -> list[Any]:
    """Push all of the speech, and take events until the stream ends by itself."""
    async with asyncio.timeout(60):
        for pcm in frames(SPEECH, 160):
            stream.push_frame(rtc.AudioFrame(pcm, 16_000, 1, len(pcm) // 2))
        stream.end_input()
        return [event async for event in stream]


def of(events: list[Any], kind: SpeechEventType) -> list[Any]:
    return [event for event in events if event.type == kind]


async def test_flux() -> None:
    async with stt_serve() as host, aiohttp.ClientSession() as session:
        service = deepgram.STTv2(
            api_key="none", base_url=f"ws://{host}/v2/listen", eager_eot_threshold=0.4, http_session=session
        )
        events = await heard(service.stream())
    assert right(of(events, SpeechEventType.FINAL_TRANSCRIPT))
    for kind in ("START_OF_SPEECH", "PREFLIGHT_TRANSCRIPT", "FINAL_TRANSCRIPT", "END_OF_SPEECH"):
        assert len(of(events, SpeechEventType[kind])) == 2, kind


async def test_version_1() -> None:
    async with stt_serve() as host, aiohttp.ClientSession() as session:
        service = deepgram.STT(api_key="none", base_url=f"http://{host}/v1/listen", http_session=session)
        events = await heard(service.stream())
    finals = of(events, SpeechEventType.FINAL_TRANSCRIPT)
    assert right(finals)
    starts, ends = of(events, SpeechEventType.START_OF_SPEECH), of(events, SpeechEventType.END_OF_SPEECH)
    assert len(starts) == len(ends) == 2
    assert all(event.alternatives[0].words for event in finals)


async def test_a_recording() -> None:
    frame = rtc.AudioFrame(b"".join(frames(SPEECH)), 16_000, 1, len(SPEECH))
    async with stt_serve() as host, aiohttp.ClientSession() as session:
        service = deepgram.STT(api_key="none", base_url=f"http://{host}/v1/listen", http_session=session)
        assert right([await service.recognize(frame)])
