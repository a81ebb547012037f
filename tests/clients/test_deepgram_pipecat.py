"""pipecat's services for Deepgram, unmodified, against `stt serve` with its embedded engine and real speech."""

import pytest
from served import stt_serve

pytest.importorskip("pipecat")
from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.frames.frames import ProposedUserStartedSpeakingFrame, ProposedUserStoppedSpeakingFrame
from pipecat.processors.audio.vad_processor import VADProcessor
from pipecat.services.deepgram.flux.stt import DeepgramFluxSTTService
from pipecat.services.deepgram.stt import DeepgramSTTService
from pipecat_run import SPEECH, finals, hear, right, ttfs


async def test_flux_ends_the_turns() -> None:
    async with stt_serve() as host:
        service = DeepgramFluxSTTService(api_key="none", url=f"ws://{host}/v2/listen")
        arrived = await hear([service], SPEECH, lambda frames: len(finals(frames)) == 2)
    heard = finals([one.frame for one in arrived])
    assert len(heard) == 2
    assert right(heard)
    assert all(frame.finalized for frame in heard)
    turns = [type(one.frame) for one in arrived]
    assert turns.count(ProposedUserStartedSpeakingFrame) == turns.count(ProposedUserStoppedSpeakingFrame) == 2


async def test_each_finalize_of_version_1_brings_the_words_that_are_final() -> None:
    async with stt_serve() as host:
        service = DeepgramSTTService(api_key="none", base_url=f"ws://{host}")
        vad = VADProcessor(vad_analyzer=SileroVADAnalyzer())
        arrived = await hear(
            [vad, service], SPEECH, lambda frames: len(finals(frames)) >= 2 and finals(frames)[-1].finalized
        )
    heard = finals([one.frame for one in arrived])
    assert right(heard)
    # Its detector and ours race where the machine is busy: what ours ends first comes before the Finalize.
    assert any(frame.finalized for frame in heard)
    # It can measure its time to the final segment; how long that is, benchmarks/clients_latency.py says.
    assert ttfs(arrived)
