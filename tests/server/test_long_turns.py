"""A turn of any length reaches a reader that is prompt: no message repeats all that was said."""

import numpy as np

from scripted import ScriptedModel, tone
from serving import frames, rest, serving
from spoken import silence
from stt.recognition import Utterance
from stt.settings import TurnSettings


async def test_half_an_hour_of_cyrillic_in_one_turn_is_read_to_the_end() -> None:
    """Each of its characters takes six bytes of JSON: the final alone is larger than what may wait unsent."""
    settings = TurnSettings(window_s=5, overlap_s=1)

    def hear(utterance: Utterance) -> str:
        return " ".join(f"слово{utterance.start}номер{i}" for i in range(600))

    audio = np.concatenate([*(part for _ in range(20) for part in (tone(2), silence(0.25))), silence(2)])
    async with serving(ScriptedModel(hear), turns=settings) as running:
        limit = running.service.settings.max_unsent_bytes
        async with running.connect("?events=1", max_size=None) as websocket:
            for frame in frames(audio, 8_000):
                await websocket.send(frame)
            await websocket.send('{"type": "finish"}')
            messages = await rest(websocket, 30)
    assert websocket.close_code == 1000
    (final,) = [message for message in messages if message.get("isFinal")]
    assert len(final["text"]) * 6 > limit
    said = final["text"].split()
    assert len(said) == len(set(said)), "nothing is doubled"
    assert len(said) % 600 == 0, "nothing is lost"
