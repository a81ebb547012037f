"""pipecat's services for OpenAI, unmodified, against `stt serve` with its embedded engine and real speech."""

from typing import Any

import pytest
from served import stt_serve

pytest.importorskip("pipecat")
from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.processors.audio.vad_processor import VADProcessor
from pipecat.services.openai.stt import OpenAIRealtimeSTTService, OpenAISTTService
from pipecat_run import SPEECH, finals, hear, right


async def test_a_request_for_each_utterance() -> None:
    async with stt_serve() as host:
        service = OpenAISTTService(api_key="none", base_url=f"http://{host}/v1")
        vad = VADProcessor(vad_analyzer=SileroVADAnalyzer())
        arrived = await hear([vad, service], SPEECH, lambda frames: len(finals(frames)) == 2)
        await service._client.close()  # it does not do so itself
    assert right(finals([one.frame for one in arrived]))


@pytest.mark.parametrize("detection", [False, {"type": "server_vad"}], ids=["commit", "server_vad"])
async def test_realtime(detection: Any) -> None:
    """By itself it commits where its own voice activity detection hears an end; it can leave that to the server."""
    async with stt_serve() as host:
        service = OpenAIRealtimeSTTService(
            api_key="none", base_url=f"ws://{host}/v1/realtime", turn_detection=detection
        )
        vad = [VADProcessor(vad_analyzer=SileroVADAnalyzer())] if detection is False else []
        arrived = await hear([*vad, service], SPEECH, lambda frames: len(finals(frames)) == 2)
    heard = finals([one.frame for one in arrived])
    assert len(heard) == 2
    assert right(heard)
