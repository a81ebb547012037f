"""Deepgram's API for recordings, `POST /v1/listen`, against bytes on the wire."""

import asyncio
import contextlib
import hashlib
import io
from datetime import datetime
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from scripted import ScriptedModel, tone
from serving import Running, serving
from spoken import silence
from stt.audio import to_pcm16
from stt.server.dialect import NotAdmittedError
from stt.server.dialects.deepgram_rest import read
from stt.server.dialects.reading import UnreadableError

TWO_TURNS = np.concatenate([silence(0.5), tone(1.0), silence(2.0), tone(1.5), silence(0.5)])


def model() -> ScriptedModel:
    return ScriptedModel(lambda utterance: f"Heard it. For {round(utterance.speech_s or 0, 1)} seconds.")


def encoded(audio: np.ndarray, kind: str) -> bytes:
    """`audio`: [frames] or [frames, channels]."""
    buffer = io.BytesIO()
    soundfile.write(buffer, audio, 16_000, format=kind.upper())
    return buffer.getvalue()


async def post(running: Running, body: Any, query: str = "", **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(base_url=running.http, timeout=20) as client:
        return await client.post(f"/v1/listen?model=nova-3{query}", content=body, headers=headers)


def transcripts(answer: dict[str, Any]) -> list[str]:
    return [channel["alternatives"][0]["transcript"] for channel in answer["results"]["channels"]]


TEXT = "Heard it. For 1.0 seconds. Heard it. For 1.5 seconds."


async def test_the_whole_answer() -> None:
    body = encoded(TWO_TURNS, "flac")
    headers = {"content-type": "audio/flac", "authorization": "Token KEY"}
    async with serving(model(), api_keys=("KEY",)) as running:
        response = await post(running, body, "&smart_format=true&unknown=1&callback=x", **headers)
    answer, meta = response.json(), response.json()["metadata"]
    assert response.status_code == 200
    assert set(meta) == {
        "transaction_key", "request_id", "sha256", "created", "duration", "channels", "models", "model_info"
    }  # fmt: skip
    assert response.headers["dg-request-id"] == meta["request_id"]
    assert meta["sha256"] == hashlib.sha256(body).hexdigest()
    assert datetime.fromisoformat(meta["created"]).tzinfo is not None
    assert (meta["duration"], meta["channels"], list(meta["model_info"])) == (5.5, 1, meta["models"])
    assert transcripts(answer) == [TEXT]
    assert set(answer["results"]) == {"channels"}
    (channel,) = answer["results"]["channels"]
    (alternative,) = channel["alternatives"]
    assert (set(channel), set(alternative)) == ({"alternatives"}, {"transcript", "confidence", "words"})
    words = alternative["words"]
    assert all(set(word) == {"word", "start", "end", "confidence", "punctuated_word"} for word in words)
    assert " ".join(word["punctuated_word"] for word in words) == TEXT
    assert [word["word"] for word in words[:3]] == ["heard", "it", "for"]
    assert all(0.4 <= word["start"] <= word["end"] <= 1.7 for word in words[:5])
    assert all(3.4 <= word["start"] <= word["end"] <= 5.2 for word in words[5:])


async def test_utterances_paragraphs_and_the_language() -> None:
    async with serving(model()) as running:
        query = "&utterances=true&paragraphs=true&detect_language=true"
        answer = (await post(running, encoded(TWO_TURNS, "wav"), query)).json()
        together = (await post(running, encoded(TWO_TURNS, "wav"), "&utterances=true&utt_split=4")).json()
    first, second = answer["results"]["utterances"]
    assert set(first) == {"start", "end", "confidence", "channel", "transcript", "words", "id"}
    assert f"{first['transcript']} {second['transcript']}" == TEXT
    assert (first["start"], first["end"]) == (first["words"][0]["start"], first["words"][-1]["end"])
    assert first["id"] != second["id"]
    assert [one["transcript"] for one in together["results"]["utterances"]] == [TEXT]
    (channel,) = answer["results"]["channels"]
    assert channel["detected_language"] == "en"
    told = channel["alternatives"][0]["paragraphs"]
    assert told["transcript"] == "\nHeard it. For 1.0 seconds.\n\nHeard it. For 1.5 seconds."
    assert [p["num_words"] for p in told["paragraphs"]] == [5, 5]
    assert [s["text"] for s in told["paragraphs"][0]["sentences"]] == ["Heard it.", "For 1.0 seconds."]


async def test_channels_are_heard_one_by_one_or_mixed() -> None:
    left = np.concatenate([tone(1), silence(4)])
    right = np.concatenate([silence(3), tone(1.5), silence(0.5)])
    body = encoded(np.stack([left, right], axis=1), "wav")
    async with serving(model()) as running:
        apart = (await post(running, body, "&multichannel=true&utterances=true")).json()
        mixed = (await post(running, body)).json()
    assert transcripts(apart) == ["Heard it. For 1.0 seconds.", "Heard it. For 1.5 seconds."]
    assert apart["metadata"]["channels"] == 2
    assert [one["channel"] for one in apart["results"]["utterances"]] == [0, 1]
    assert transcripts(mixed) == [TEXT]
    assert mixed["metadata"]["channels"] == 1


@pytest.mark.parametrize("encoding", ["linear16", "linear32", "mulaw", "alaw"])
async def test_raw_audio_needs_no_container(encoding: str) -> None:
    pcm = to_pcm16(np.concatenate([tone(1), silence(1)]))
    loud = {"mulaw": b"\x8f", "alaw": b"\xaa"}.get(encoding)
    quiet = {"mulaw": b"\xff", "alaw": b"\xd5"}.get(encoding, b"")
    body = pcm if encoding == "linear16" else bytes(np.frombuffer(pcm, "<i2").astype("<i4") * 65_536)
    if loud is not None:
        body = loud * 16_000 + quiet * 16_000
    async with serving(model()) as running:
        answer = (await post(running, body, f"&encoding={encoding}&sample_rate=16000")).json()
    assert answer["metadata"]["duration"] == 2.0
    assert transcripts(answer) == ["Heard it. For 1.0 seconds."]


async def test_silence_is_no_error() -> None:
    async with serving(model()) as running:
        answer = (await post(running, encoded(silence(1), "wav"), "&utterances=true&paragraphs=true")).json()
    assert transcripts(answer) == [""]
    assert answer["results"]["utterances"] == []
    assert answer["results"]["channels"][0]["alternatives"][0]["confidence"] == 0.0


@pytest.mark.parametrize(
    ("body", "query", "kind", "text"),
    [
        (b"no audio at all" * 99, "", "audio/wav", "not audio"), (b"", "", "audio/wav", "empty"),
        (b"", "&encoding=linear16", "audio/wav", "empty"),
        (b'{"url": "http://127.0.0.1/x.wav"}', "", "application/json", "fetches nothing"),
        (b'{"URL": 1}', "", "application/json; charset=utf-8", "got JSON"),
        (b"[" * 9_999, "", "application/json", "JSON"),
        (b"x", "&encoding=g729", "audio/x", "encoding must be one of"),
        (b"x", "&encoding=opus", "audio/x", "container"),
        (b"x", "&utterances=perhaps", "audio/x", "true or false"),
        (b"x", "&language=tlh", "audio/x", "engine knows en"),
        (b"x", "&channels=99&encoding=linear16", "audio/x", "channels must be"),
    ],
)  # fmt: skip
async def test_what_cannot_work_is_refused_in_deepgrams_shape(body: bytes, query: str, kind: str, text: str) -> None:
    async with serving(model()) as running:
        response = await post(running, body, query, **{"content-type": kind})
    answer = response.json()
    assert response.status_code == 400
    assert set(answer) == {"err_code", "err_msg", "request_id"}
    assert answer["request_id"] == response.headers["dg-request-id"]
    assert text in answer["err_msg"]


async def test_keys_sizes_and_full_servers() -> None:
    body = encoded(tone(1), "wav")
    async with serving(model(), api_keys=("KEY",), max_upload_bytes=4096, max_sessions=1) as running:
        wrong = await post(running, body)
        large = await post(running, body, authorization="Token KEY")
        running.service.sessions.add(object())  # type: ignore[arg-type]
        full = await post(running, body, authorization="Bearer KEY")
        running.service.sessions.clear()
    assert [(r.status_code, r.json()["err_code"]) for r in (wrong, large, full)] == [
        (401, "INVALID_AUTH"), (413, "TOO_LARGE"), (503, "TOO_MANY_REQUESTS"),
    ]  # fmt: skip


async def test_a_client_that_hangs_up_ends_its_work() -> None:
    scripted = model()
    async with serving(scripted) as running:
        warmed = len(scripted.batches)
        scripted.free.clear()
        asking = asyncio.create_task(post(running, encoded(TWO_TURNS, "wav"), "&multichannel=true"))
        await running.until(lambda: len(scripted.batches) > warmed)
        asking.cancel()
        await running.until(lambda: not running.service.sessions)
        scripted.free.set()


KNOWN = """encoding sample_rate channels multichannel utterances utt_split paragraphs language detect_language keyterm
keywords punctuate smart_format model"""
VALUES = "true FALSE 0 1 2 16000 1e999 nan -1 linear16 opus en-US multi :"
options = st.sampled_from(KNOWN.split()) | st.text(max_size=9)
values = st.sampled_from(VALUES.split()) | st.text(max_size=9)


@settings(max_examples=5_000, deadline=None, database=None)
@given(st.lists(st.tuples(options, values), max_size=8))
def test_any_query_is_read_or_refused(query: list[tuple[str, str]]) -> None:
    with contextlib.suppress(UnreadableError, NotAdmittedError):
        read(query, "en")


def test_options_that_are_empty_do_not_count() -> None:
    names = ("sample_rate", "channels", "punctuate", "utterances", "utt_split", "multichannel", "language", "encoding")
    assert read([(name, "") for name in names], "en") == read([], "en")
