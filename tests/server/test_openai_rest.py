"""OpenAI's REST API, against bytes on the wire."""

import asyncio
import errno
import io
import json
import tempfile
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile
from starlette.requests import ClientDisconnect, Request

from recordings import encode
from scripted import ScriptedModel, tone
from serving import Running, serving
from spoken import silence
from stt.recognition import Utterance
from stt.server.dialect import NotAdmittedError
from stt.server.files import receive_form

PATH = "/v1/audio/transcriptions"


def wav(*parts: np.ndarray, rate: int = 16_000) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.concatenate(parts), rate, format="WAV")
    return buffer.getvalue()


TWO_TURNS = wav(silence(0.5), tone(1.0), silence(2.0), tone(1.5), silence(0.5))


def _flac() -> bytes:
    buffer, noise = io.BytesIO(), np.random.default_rng(0).uniform(-0.5, 0.5, 48_000)
    soundfile.write(buffer, noise, 16_000, format="FLAC")
    return buffer.getvalue()


FLAC = _flac()


def model() -> ScriptedModel:
    """Hears how long it was: `w1 of 2s` and so on are words with white space in them."""
    return ScriptedModel(lambda utterance: f"Heard {round(utterance.speech_s or 0, 1)} seconds.")


async def post(running: Running, file: bytes | None = TWO_TURNS, headers: Any = None, **fields: Any) -> httpx.Response:
    async with httpx.AsyncClient(base_url=running.http, timeout=20) as client:
        files = {"file": ("x.wav", file)} if file is not None else {"other": ("x", b"x")}
        return await client.post(PATH, files=files, data={"model": "whisper-1"} | fields, headers=headers)


async def test_every_format() -> None:
    async with serving(model()) as running:
        answers = {kind: await post(running, response_format=kind) for kind in FORMATS}
    assert {answer.status_code for answer in answers.values()} == {200}
    text = "Heard 1.0 seconds. Heard 1.5 seconds."
    assert answers["json"].json() == {"text": text, "usage": {"type": "duration", "seconds": 5.5}}
    assert answers["text"].text == f"{text}\n"
    assert answers["text"].headers["content-type"].startswith("text/plain")
    assert answers["srt"].text.startswith("1\n00:00:00,")
    assert answers["srt"].text.count(" --> ") == 2
    assert answers["vtt"].text.startswith("WEBVTT\n\n00:00:00.")
    verbose = answers["verbose_json"].json()
    assert (verbose["task"], verbose["language"], verbose["text"]) == ("transcribe", "english", text)
    assert verbose["duration"] == pytest.approx(5.5)
    assert [segment["id"] for segment in verbose["segments"]] == [0, 1]
    insides = {"seek", "tokens", "temperature", "avg_logprob", "compression_ratio", "no_speech_prob"}
    needed = {"id", "start", "end", "text"} | insides
    assert all(set(segment) == needed for segment in verbose["segments"])
    assert "words" not in verbose
    diarized = answers["diarized_json"].json()
    assert [segment["speaker"] for segment in diarized["segments"]] == ["A", "A"]
    assert all(answer.headers["x-request-id"].startswith("req_") for answer in answers.values())


FORMATS = ("json", "text", "srt", "vtt", "verbose_json", "diarized_json")


@pytest.mark.parametrize("kind", ["wav", "mp3", "m4a", "webm", "ogg", "flac"])
async def test_a_file_is_what_is_in_it_whatever_it_is_called(kind: str, tmp_path: Any) -> None:
    """`post` says that it is `x.wav`."""
    sound = np.concatenate([tone(1.0), silence(2.0), tone(1.0)])
    async with serving(ScriptedModel(lambda _: "Heard.")) as running:
        answer = await post(running, encode(tmp_path / f"a.{kind}", sound).read_bytes())
    assert (answer.status_code, answer.json()["text"]) == (200, "Heard. Heard.")


async def test_words_have_times_within_what_was_spoken() -> None:
    async with serving(model()) as running:
        fields = {"response_format": "verbose_json", "timestamp_granularities[]": ["word", "segment"]}
        answer = (await post(running, **fields)).json()
    words = answer["words"]
    assert " ".join(word["word"] for word in words) == answer["text"]
    assert all(0.4 <= word["start"] <= word["end"] <= 1.7 for word in words[:3])
    assert all(3.4 <= word["start"] <= word["end"] <= 5.2 for word in words[3:])
    assert len(answer["segments"]) == 2


async def test_fields_may_stand_before_and_after_the_file() -> None:
    for order in (("file", "response_format"), ("response_format", "file")):
        boundary, body = "b", b""
        for name in order:
            extra, value = ('; filename="f"', TWO_TURNS) if name == "file" else ("", b"text")
            head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n\r\n'
            body += head.encode() + value + b"\r\n"
        body += f"--{boundary}--\r\n".encode()
        async with serving(model()) as running, httpx.AsyncClient(base_url=running.http) as client:
            kind = {"content-type": f"multipart/form-data; boundary={boundary}"}
            answer = await client.post(PATH, content=body, headers=kind)
        assert answer.text == "Heard 1.0 seconds. Heard 1.5 seconds.\n"


def events(body: str) -> list[dict[str, Any]]:
    assert body.endswith("\n\n")
    return [json.loads(line.removeprefix("data: ")) for line in body.split("\n\n") if line]


async def test_deltas_joined_are_the_text() -> None:
    async with serving(model()) as running:
        answer = await post(running, stream="True")
        silent = await post(running, wav(silence(1.0)), stream="true")
    assert answer.headers["content-type"] == "text/event-stream"
    told = events(answer.text)
    assert [event["type"] for event in told[-2:]] == ["transcript.text.delta", "transcript.text.done"]
    deltas = [event["delta"] for event in told if event["type"] == "transcript.text.delta"]
    assert "".join(deltas) == told[-1]["text"] == "Heard 1.0 seconds. Heard 1.5 seconds."
    assert len(deltas) == 2
    assert events(silent.text) == [{"type": "transcript.text.done", "text": ""}]


@pytest.mark.parametrize("kind", ["verbose_json", "diarized_json", "json"])
async def test_formats_with_segments_stream_each_turn_as_it_ends(kind: str) -> None:
    fields = {"stream": "true", "response_format": kind, "timestamp_granularities[]": ["word", "segment"]}
    async with serving(model()) as running:
        told = events((await post(running, **fields)).text)
    segments = [event for event in told if event["type"] == "transcript.text.segment"]
    if kind == "json":
        assert segments == []
        return
    assert [event["type"].rpartition(".")[2] for event in told] == ["delta", "segment"] * 2 + ["done"]
    assert [(segment["id"], segment["speaker"]) for segment in segments] == [("seg_0", "A"), ("seg_1", "A")]
    assert " ".join(segment["text"] for segment in segments) == told[-1]["text"]
    assert segments[0]["end"] < segments[1]["start"]
    assert [segment.get("words") is not None for segment in segments] == [kind == "verbose_json"] * 2
    for segment in segments:
        for word in segment.get("words", ()):
            assert segment["start"] <= word["start"] <= word["end"] <= segment["end"]
            assert word["word"] in segment["text"]
            assert word["confidence"] is None


async def test_what_is_missing_of_a_broken_recording_is_told_in_the_stream() -> None:
    async with serving(model()) as running:
        whole, half = [events((await post(running, file, stream="true")).text) for file in (FLAC, FLAC[:-6000])]
    assert "warning" not in whole[-1]
    assert half[-1]["warning"]


async def test_a_long_turn_is_streamed_while_it_is_recognized() -> None:
    """Committed words leave before the turn is over, and joined they are the text, in which windows overlap."""
    scripted = ScriptedModel(lambda utterance: " ".join(f"w{s}" for s in range(*spoken(utterance))))
    async with serving(scripted) as running:
        told = events((await post(running, wav(tone(60), silence(2)), stream="true")).text)
    deltas = [event["delta"] for event in told[:-1]]
    assert len(deltas) >= 2
    assert "".join(deltas) == told[-1]["text"] == " ".join(f"w{s}" for s in range(60))


def spoken(utterance: Utterance) -> tuple[int, int]:
    return round(utterance.start / 16_000), min(60, round(utterance.end / 16_000))


async def test_silence_is_no_error() -> None:
    async with serving(model()) as running:
        quiet = wav(silence(1.0))
        answers = [await post(running, quiet, response_format=kind) for kind in FORMATS]
    assert {answer.status_code for answer in answers} == {200}
    assert answers[0].json()["text"] == answers[4].json()["text"] == ""
    assert (answers[2].text, answers[3].text) == ("", "WEBVTT\n\n")


@pytest.mark.parametrize(
    ("file", "fields", "param", "text"),
    [
        (b"this is no audio at all" * 50, {}, "file", "not audio"),
        (b"", {}, "file", "empty"),
        (None, {}, "file", "expected a file"),
        (TWO_TURNS, {"response_format": "xml"}, "response_format", "must be one of json"),
        (TWO_TURNS, {"stream": "perhaps"}, "stream", "true or false"),
        (TWO_TURNS, {"temperature": "hot"}, "temperature", "number from 0 to 1"),
        (TWO_TURNS, {"temperature": "nan"}, "temperature", "number from 0 to 1"),
        (TWO_TURNS, {"timestamp_granularities[]": "phoneme"}, "timestamp_granularities", "segment, word"),
        (TWO_TURNS, {"language": "tlh"}, "language", "the engine knows en"),
        (TWO_TURNS, {"chunking_strategy": "{"}, None, "JSON object"),
        (TWO_TURNS, {"chunking_strategy": '{"type": "psychic"}'}, "chunking_strategy.type", "server_vad"),
        (TWO_TURNS, {"chunking_strategy[type]": "psychic"}, "chunking_strategy.type", "server_vad"),
        (
            TWO_TURNS,
            {"chunking_strategy[silence_duration_ms]": "-5"},
            "chunking_strategy.silence_duration_ms",
            "number",
        ),
    ],
)
async def test_what_cannot_work_is_the_clients_mistake(file: Any, fields: Any, param: str | None, text: str) -> None:
    async with serving(model()) as running:
        answers = [await post(running, file, **fields)]
        if "stream" not in fields:
            answers.append(await post(running, file, stream="true", **fields))
    for answer in answers:
        assert answer.status_code == 400
        assert answer.headers["x-request-id"].startswith("req_")
        error = answer.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert (error["type"], error["param"]) == ("invalid_request_error", param)
        assert text in error["message"]


async def test_what_is_no_form() -> None:
    async with serving(model()) as running, httpx.AsyncClient(base_url=running.http) as client:
        for kind in ("application/json", "multipart/form-data", "multipart/form-data; boundary=x", ""):
            answer = await client.post(PATH, content=b"garbage", headers={"content-type": kind})
            assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
        assert (await client.get(PATH)).status_code == 405


async def test_fields_nobody_knows_and_any_model_are_fine() -> None:
    fields = {
        "model": "gpt-9-transcribe",
        "include[]": "logprobs",
        "known_speaker_names[]": ["a", "b"],
        "chunking_strategy": "auto",
        "prompt": "Greetings",
        "keywords[]": ["Zaphod", "Trillian"],
        "language": "English",
        "wanted": "yes",
    }
    scripted = model()
    async with serving(scripted) as running:
        assert (await post(running, **fields)).status_code == 200
    options = scripted.batches[-1][0].options
    assert options.terms == ("Zaphod", "Trillian", "Greetings")
    assert (options.language, options.live) == ("en", False)


async def test_fields_that_nobody_has_set_are_fine() -> None:
    names = ("language", "prompt", "temperature", "response_format", "stream", "chunking_strategy", "keywords[]")
    async with serving(model()) as running:
        answer = await post(running, **dict.fromkeys((*names, "timestamp_granularities[]", "include[]"), ""))
    assert answer.json()["text"] == "Heard 1.0 seconds. Heard 1.5 seconds."


async def test_the_silence_of_a_chunking_strategy_parts_turns() -> None:
    file = wav(tone(1.0), silence(0.8), tone(1.0))
    async with serving(model()) as running:
        plain = (await post(running, file)).json()["text"]
        for strategy in (
            {"chunking_strategy": '{"type": "server_vad", "silence_duration_ms": 500}'},
            {"chunking_strategy[type]": "server_vad", "chunking_strategy[silence_duration_ms]": "500"},
        ):
            assert (await post(running, file, **strategy)).json()["text"].count("Heard") == 2
    assert plain.count("Heard") == 1


async def test_a_key_is_wanted_and_never_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", "stt")
    async with serving(model(), api_keys=("geheim",)) as running:
        for given in (None, {"authorization": "Bearer wrong-one"}):
            answer = await post(running, bytes(3 << 20), given)
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
        assert (await post(running, headers={"authorization": "Bearer geheim"})).status_code == 200
        async with httpx.AsyncClient(base_url=running.http) as client:
            assert (await client.get("/v1/models")).status_code == 401
            assert (await client.get("/v1/models/whisper-1", headers={"authorization": "Bearer geheim"})).is_success
    assert "wrong-one" not in caplog.text
    assert "geheim" not in caplog.text


async def test_a_foreign_page_may_not_send_files() -> None:
    async with serving(model()) as running:
        answer = await post(running, headers={"origin": "https://evil.example"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden_origin")


async def test_models() -> None:
    async with serving(model()) as running, httpx.AsyncClient(base_url=running.http) as client:
        every = (await client.get("/v1/models")).json()
        assert every["object"] == "list"
        assert {"scripted", "whisper-1", "gpt-4o-transcribe"} <= {one["id"] for one in every["data"]}
        assert all(type(one["created"]) is int and one["object"] == "model" for one in every["data"])
        assert (await client.get("/v1/models/whisper-1")).json()["id"] == "whisper-1"
        unknown = await client.get("/v1/models/gpt%2F9")
        assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")


@pytest.mark.parametrize("told", [True, False])
async def test_a_file_that_is_too_large(told: bool) -> None:
    async with serving(model(), max_upload_bytes=100_000) as running:
        if told:
            answer = await post(running, bytes(300_000))
        else:
            async with httpx.AsyncClient(base_url=running.http) as client:

                async def pieces() -> Any:
                    yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
                    for _ in range(30):
                        yield bytes(10_000)

                kind = {"content-type": "multipart/form-data; boundary=b"}
                answer = await client.post(PATH, content=pieces(), headers=kind)
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")
        await running.until(lambda: not running.service.sessions)


async def test_an_engine_that_fails_is_our_fault() -> None:
    def fail(_: object) -> str:
        raise RuntimeError("no")

    broken = False

    def hear(utterance: Utterance) -> str:
        return fail(utterance) if broken and utterance.speech_s else "fine"

    async with serving(ScriptedModel(hear)) as running:
        broken = True
        plain = await post(running)
        streamed = await post(running, stream="true")
    assert (plain.status_code, plain.json()["error"]["type"]) == (500, "server_error")
    assert (streamed.status_code, streamed.json()["error"]["type"]) == (500, "server_error")


async def test_one_that_fails_after_the_first_words_says_so_in_the_stream() -> None:
    def hear(utterance: Utterance) -> str:
        if utterance.start > 2 * 16_000:
            raise RuntimeError("no")
        return "fine"

    async with serving(ScriptedModel(hear, max_batch=1)) as running:
        told = events((await post(running, stream="true")).text)
    assert told[0] == {"type": "transcript.text.delta", "delta": "fine"}
    assert told[-1]["error"]["type"] == "server_error"


async def test_a_client_that_hangs_up_cancels_its_work() -> None:
    scripted = model()
    async with serving(scripted) as running:
        scripted.free.clear()
        before = len(scripted.batches)
        for stream in ("false", "true"):
            sending = asyncio.create_task(post(running, wav(*(tone(1.0), silence(2.0)) * 20), stream=stream))
            await running.until(lambda: running.service.recognizer.waiting > 3)
            sending.cancel()
            await running.until(lambda: not running.service.sessions)
            assert running.service.recognizer.waiting == 0
        scripted.free.set()
        assert (await post(running)).status_code == 200
        assert len(scripted.batches) - before <= 2 + 2


async def test_files_that_are_too_many_at_a_time_wait() -> None:
    scripted = model()
    async with serving(scripted, max_files=2) as running:
        scripted.free.clear()
        sending = [asyncio.create_task(post(running)) for _ in range(5)]
        await running.until(lambda: len(running.service.sessions) == 5 and running.service.hearing_files.locked())
        scripted.free.set()
        assert {answer.status_code for answer in await asyncio.gather(*sending)} == {200}


async def test_no_room_and_no_engine() -> None:
    async with serving(model(), max_sessions=1) as running:
        running.service.sessions.add(object())  # type: ignore[arg-type]
        answer = await post(running)
        running.service.sessions.clear()
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "too_many_sessions")
        assert answer.headers["retry-after"]


async def test_a_server_that_ends_gives_up_files() -> None:
    scripted = model()
    async with serving(scripted, drain_timeout_s=0.2) as running:
        scripted.free.clear()
        sending = asyncio.create_task(post(running))
        await running.until(lambda: running.service.recognizer.waiting > 0 or len(scripted.batches) > 1)
        await running.service.drain()
        scripted.free.set()
        answer = await sending
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "draining")


async def test_an_upload_is_private_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    scripted = model()
    async with serving(scripted) as running:
        scripted.free.clear()
        sending = asyncio.create_task(post(running, wav(tone(1.0), silence(60.0))))
        await running.until(lambda: running.service.sessions and len(scripted.batches) > 1)
        assert list(tmp_path.iterdir()) == []
        scripted.free.set()
        await sending
    assert list(tmp_path.iterdir()) == []


PART = b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'


@pytest.mark.parametrize(
    ("rest", "error"),
    [
        ([{"type": "http.disconnect"}], ClientDisconnect),
        ([{"type": "http.request", "body": b""}], NotAdmittedError),  # it breaks off
        ([{"type": "http.request", "body": b"\r\n--b\r\n\x01: no header\r\n\r\n"}], NotAdmittedError),
        ([{"type": "http.request", "body": bytes(2_000)}], NotAdmittedError),  # more than is taken
        ([{"type": "http.request", "body": b"no room"}], NotAdmittedError),
        ([], asyncio.CancelledError),
    ],
)
async def test_a_form_that_fails_leaves_no_file_open(
    rest: list[Any], error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    files: list[Any] = []

    class Spooled(tempfile.SpooledTemporaryFile):  # type: ignore[type-arg]
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            files.append(self)

        def write(self, s: Any) -> int:
            if s == b"no room":
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(s)

    async def receive() -> Any:
        if messages:
            return messages.pop(0)
        waits.set()
        return await asyncio.Event().wait()

    monkeypatch.setattr("starlette.formparsers.SpooledTemporaryFile", Spooled)
    waits = asyncio.Event()
    messages = [{"type": "http.request", "body": PART + bytes(1_000), "more_body": True}, *rest]
    kind = (b"content-type", b"multipart/form-data; boundary=b")
    request = Request({"type": "http", "method": "POST", "headers": [kind]}, receive)
    receiving = asyncio.create_task(receive_form(request, 2_000))
    if not rest:
        await waits.wait()
        receiving.cancel()
    with pytest.raises(error):
        await receiving
    assert [file.closed for file in files] == [True]


async def test_dialects_that_are_off_are_not_there() -> None:
    from stt.server.families import FAMILIES

    async with serving(model(), dialects=(FAMILIES["native"],), page=False) as running:
        answer = await post(running)
        async with httpx.AsyncClient(base_url=running.http) as client:
            about = (await client.get("/")).json()
    assert answer.status_code == 404
    assert about["dialects"] == {"native": ["WS /ws/transcribe"]}
