"""A long recording beside people who speak: they do not wait for it, and its text is complete."""

import asyncio
import io

import httpx
import numpy as np
import pytest
import soundfile

from scripted import ScriptedModel, tone
from serving import frames, rest, serving
from spoken import silence
from stt.recognition import Utterance


def wav(*parts: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.concatenate(parts), 16_000, format="WAV")
    return buffer.getvalue()


TURNS = 12  # in the recording, all of which wait for the engine at once
SPEAKERS = 2


@pytest.mark.parametrize("max_batch", [1, 4])
async def test_live_finals_wait_for_the_batch_of_a_file_that_runs_and_for_no_other(max_batch: int) -> None:
    order: list[bool] = []

    def hear(utterance: Utterance) -> str:
        if utterance.audio.any():  # not the warm-up
            order.append(utterance.options.live)
        return "Live." if utterance.options.live else f"Part {round(utterance.start / 16_000)}."

    model = ScriptedModel(hear, max_batch=max_batch)
    recording = wav(*(part for _ in range(TURNS) for part in (tone(1), silence(2))))
    async with serving(model) as running, httpx.AsyncClient(base_url=running.http, timeout=60) as client:
        recognizer = running.service.recognizer
        assert recognizer is not None
        model.free.clear()
        upload = asyncio.create_task(
            client.post("/v1/audio/transcriptions", files={"file": ("x.wav", recording)}, data={"model": "whisper-1"})
        )
        await running.until(lambda: not model.batches[-1][0].options.live)
        held = len(model.batches[-1])
        await running.until(lambda: recognizer.waiting == TURNS - held)
        talks = [await running.connect("?interim_results=0") for _ in range(SPEAKERS)]
        for websocket in talks:
            for frame in frames(np.concatenate([tone(1), silence(0.1)])):
                await websocket.send(frame)
            await websocket.send('{"type": "finish"}')
        await running.until(lambda: recognizer.waiting == TURNS - held + SPEAKERS)
        model.free.set()
        finals = [await rest(websocket) for websocket in talks]
        answer = await upload
    assert [messages[-1]["text"] for messages in finals] == ["Live."] * SPEAKERS
    assert order[held:][:SPEAKERS] == [True] * SPEAKERS
    assert answer.json()["text"] == " ".join(f"Part {max(0, 3 * i)}." for i in range(TURNS))
