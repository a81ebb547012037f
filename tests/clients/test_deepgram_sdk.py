"""Deepgram's own Python SDK, unmodified, against `stt serve` with its embedded engine and real speech."""

import asyncio

import pytest
from served import stt_serve

from serving import frames
from spoken import sentences, talk, word_errors

deepgram = pytest.importorskip("deepgram")
# The SDK asks websockets for a name that is on its way out.
pytestmark = pytest.mark.filterwarnings("ignore:websockets:DeprecationWarning")


async def test_flux_says_what_was_said() -> None:
    texts = sentences(2, 3)
    async with stt_serve() as host:
        environment = deepgram.DeepgramClientEnvironment(
            base=f"http://{host}", production=f"ws://{host}", agent=f"ws://{host}", agent_rest=f"http://{host}"
        )
        client = deepgram.AsyncDeepgramClient(api_key="none", environment=environment)
        async with client.listen.v2.connect(
            model="flux-general-en", encoding="linear16", sample_rate=16_000, eager_eot_threshold=0.4
        ) as connection:
            for frame in frames(talk(texts, [1.5, 1.5]), 1280):
                await connection.send_media(frame)
            await connection.send_close_stream()
            async with asyncio.timeout(60):
                messages = [message async for message in connection]
    assert all(message is not None for message in messages)
    ends = [message for message in messages if getattr(message, "event", None) == "EndOfTurn"]
    assert [message.turn_index for message in ends] == [0, 1]
    errors, words = word_errors(" ".join(texts), " ".join(message.transcript for message in ends))
    assert errors <= words / 5
