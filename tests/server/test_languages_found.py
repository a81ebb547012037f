"""The language that an engine finds where it was to find out, in each dialect that has a place for it."""

import base64
import io
import json
from collections.abc import Sequence
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile
from websockets.asyncio.client import connect

from scripted import ScriptedModel, tone
from serving import frames, rest, serving
from spoken import silence
from stt.audio import to_pcm16
from stt.recognition import Hypothesis, Utterance

GERMAN = np.concatenate([tone(2.0), silence(2.0)])
FRENCH = np.concatenate([tone(1.0), silence(2.0)])


class Polyglot(ScriptedModel):
    """Takes long turns for German and short ones for French; tells so only where it was asked to find out."""

    languages = frozenset({"de", "en", "fr"})

    def transcribe(self, batch: Sequence[Utterance]) -> list[Hypothesis]:
        return [self._hypothesis(utterance) for utterance in batch]

    def _hypothesis(self, utterance: Utterance) -> Hypothesis:
        found = "de" if (utterance.speech_s or 0) > 1.5 else "fr"
        asked = utterance.options.language
        return Hypothesis(f"In {asked or found}.", language=found if asked is None else None)


def wav(*parts: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.concatenate(parts), 16_000, format="WAV")
    return buffer.getvalue()


async def post(http: str, path: str, **more: Any) -> dict[str, Any]:
    async with httpx.AsyncClient(base_url=http, timeout=20) as client:
        answer = await client.post(path, **more)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize(
    ("parts", "asked", "name", "code"),
    [
        ((GERMAN,), "auto", "german", "de"),
        ((FRENCH, GERMAN), "auto", "german", "de"),  # what was spoken for longer
        ((FRENCH, GERMAN, FRENCH, FRENCH), "auto", "french", "fr"),
        ((FRENCH,), "en", "english", None),
        ((silence(1.0),), "auto", "unknown", None),
    ],
)
async def test_openai_rest(parts: Sequence[np.ndarray], asked: str, name: str, code: str | None) -> None:
    file, path = {"file": ("x.wav", wav(*parts))}, "/v1/audio/transcriptions"
    async with serving(Polyglot()) as running:
        fields = {"model": "whisper-1", "language": asked}
        verbose = await post(running.http, path, files=file, data=fields | {"response_format": "verbose_json"})
        short = await post(running.http, path, files=file, data=fields)
    assert verbose["language"] == name
    assert short.get("languages") == (None if code is None else [{"code": code}])


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("detect_language=true", "de"),
        ("detect_language=en&detect_language=de", "de"),  # as Deepgram's SDK writes a list
        ("detect_language=true&language=fr", "fr"),  # there is nothing to find
        ("language=multi", None),  # nobody asked which
    ],
)
async def test_deepgram_recordings(query: str, found: str | None) -> None:
    async with serving(Polyglot()) as running:
        answer = await post(running.http, f"/v1/listen?{query}", content=wav(GERMAN))
    (channel,) = answer["results"]["channels"]
    assert channel.get("detected_language") == found


async def test_channels_of_a_recording_may_differ() -> None:
    french = np.concatenate([FRENCH, silence(1.0)])
    buffer = io.BytesIO()
    soundfile.write(buffer, np.stack([GERMAN, french], axis=1), 16_000, format="WAV")
    async with serving(Polyglot()) as running:
        query = "detect_language=true&multichannel=true"
        answer = await post(running.http, f"/v1/listen?{query}", content=buffer.getvalue())
    assert [channel["detected_language"] for channel in answer["results"]["channels"]] == ["de", "fr"]


@pytest.mark.parametrize(("asked", "found"), [("auto", [{"code": "de"}]), ("fr", None)])
async def test_openai_realtime(asked: str, found: list[dict[str, str]] | None) -> None:
    heard = {"format": {"type": "audio/pcm", "rate": 16_000}, "transcription": {"language": asked}}
    session = {"type": "transcription", "audio": {"input": heard}}
    async with serving(Polyglot()) as running:
        url = f"ws://127.0.0.1:{running.port}/v1/realtime?intent=transcription"
        async with connect(url, compression=None) as websocket:
            await websocket.send(json.dumps({"type": "session.update", "session": session}))
            audio = base64.b64encode(to_pcm16(GERMAN)).decode()
            await websocket.send(json.dumps({"type": "input_audio_buffer.append", "audio": audio}))
            while not (event := json.loads(await websocket.recv()))["type"].endswith(".completed"):
                pass
    assert event.get("languages") == found


@pytest.mark.parametrize(("asked", "found"), [("auto", "de"), ("fr", None)])
async def test_native(asked: str, found: str | None) -> None:
    async with serving(Polyglot()) as running, running.connect(f"?events=1&language={asked}") as websocket:
        for frame in frames(GERMAN):
            await websocket.send(frame)
        await websocket.send('{"type": "finish"}')
        (final,) = [message for message in await rest(websocket) if message.get("isFinal")]
    assert final.get("language") == found
