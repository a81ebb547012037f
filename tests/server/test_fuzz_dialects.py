"""Any sequences of what clients of OpenAI's dialects and of Wyoming send: each mistake has the error of its dialect.

Those over HTTP go through the whole app as ASGI messages; Wyoming's as bytes of a stream, through everything but TCP.
"""

import asyncio
import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzzing import FUZZING, SEQUENCES, Client, fuzz, json_values, reporting
from scripted import tone
from serving import serving
from stt.audio import to_pcm16
from stt.server.dialects import openai_rest
from stt.server.dialects.openai_realtime import OpenAIRealtime

LOUD = base64.b64encode(to_pcm16(tone(0.4))).decode()
QUIET = base64.b64encode(bytes(32_000)).decode()


def mapping(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional={name: value | json_values for name, value in fields.items()})


# OpenAI Realtime

detection = st.none() | mapping(
    type=st.sampled_from(["server_vad", "semantic_vad"]),
    threshold=st.floats(0, 1),
    silence_duration_ms=st.integers(0, 3_000),
    prefix_padding_ms=st.integers(0, 900),
    eagerness=st.sampled_from(["low", "high", "auto"]),
)
transcription = mapping(
    model=st.sampled_from(["whisper-1", "gpt-realtime-whisper"]),
    language=st.sampled_from(["en", "tlh"]),
    prompt=st.text(max_size=9),
    keywords=st.lists(st.text(max_size=9), max_size=3),
)
form = mapping(type=st.sampled_from(["audio/pcm", "audio/pcmu", "audio/pcma"]), rate=st.sampled_from([16_000, 24_000]))
heard = mapping(format=form, transcription=transcription, turn_detection=detection)
session = mapping(
    type=st.just("transcription"),
    audio=mapping(input=heard),
    turn_detection=detection,
    input_audio_format=st.sampled_from(["pcm16", "g711_ulaw"]),
)
update = st.fixed_dictionaries(
    {"type": st.sampled_from(["session.update", "transcription_session.update"]), "session": session | json_values}
)
append = st.fixed_dictionaries(
    {
        "type": st.just("input_audio_buffer.append"),
        "audio": st.sampled_from([LOUD, QUIET, LOUD, QUIET, "", "AAA=", "%%"]) | json_values,
    }
)
command = st.sampled_from(["commit", "commit", "clear"]).map(lambda name: {"type": f"input_audio_buffer.{name}"})
realtime = st.lists(
    st.one_of(append, append, command, update, json_values).map(json.dumps)
    | st.text(max_size=30)
    | st.binary(max_size=30),
    max_size=12,
)


async def talk(app: Any, sequence: tuple[list[str | bytes], bool]) -> None:
    messages, vanishes = sequence
    client = Client(app, OpenAIRealtime.path)
    for message in messages:
        client.put(message)
    if vanishes:
        client.vanish()
    await client.end()
    kinds = [message["type"] for message in client.sent]
    assert kinds[0] == "websocket.accept"
    if not vanishes:
        assert kinds[-1] == "websocket.close"
    events = [json.loads(message["text"]) for message in client.sent if message["type"] == "websocket.send"]
    assert len({event["event_id"] for event in events}) == len(events)
    completed: list[str] = []
    committed: list[str] = []
    for event in events:
        kind, item = event["type"], event.get("item_id")
        assert item not in completed, "nothing comes after completed"
        if kind == "error":
            assert set(event["error"]) == {"type", "code", "message", "param", "event_id"}
            assert event["error"]["type"] == "invalid_request_error"
        elif kind == "input_audio_buffer.committed":
            assert event["previous_item_id"] == (committed[-1] if committed else None)
            committed.append(item)
        elif kind.endswith(".completed"):
            completed.append(item)
            assert completed == committed[: len(completed)], "items complete in the order of their commits"


@pytest.mark.timeout(900)
def test_any_sequence_of_realtime_events() -> None:
    fuzz(st.tuples(realtime, st.booleans()), talk)


# OpenAI REST

name = st.sampled_from(
    [
        *("file", "model", "response_format", "stream", "language", "prompt", "temperature", "chunking_strategy"),
        *("timestamp_granularities[]", "keywords[]", "chunking_strategy[silence_duration_ms]", 'a"b\r\nc'),
    ]
)
value = st.sampled_from(
    [b"", b"json", b"text", b"srt", b"verbose_json", b"true", b"word", b"en", b"auto", b"{", b"1e999", b"\xff", b"RIFF"]
) | st.binary(max_size=40)
part = st.tuples(name, value, st.booleans())
body = st.tuples(st.lists(part, max_size=6), st.sampled_from(["whole", "cut", "hangs up", "no boundary"]))


async def post(app: Any, sequence: tuple[list[tuple[str, bytes, bool]], str]) -> None:
    parts, how = sequence
    data = b""
    for field, content, is_file in parts:
        extra = '; filename="x"' if is_file else ""
        data += f'--b\r\nContent-Disposition: form-data; name="{field}"{extra}\r\n\r\n'.encode() + content + b"\r\n"
    data += b"--b--\r\n"
    if how == "cut":
        data = data[: len(data) // 2]
    kind = b"multipart/form-data" + (b"; boundary=b" if how != "no boundary" else b"")
    client = Client(app, openai_rest.PATH, type="http", scheme="http", method="POST", headers=[(b"content-type", kind)])
    client.incoming.put_nowait({"type": "http.request", "body": data[:50], "more_body": True})
    if how != "hangs up":
        client.incoming.put_nowait({"type": "http.request", "body": data[50:], "more_body": False})
        await asyncio.sleep(0)
    else:
        client.incoming.put_nowait({"type": "http.disconnect"})
    await client.end()
    if how == "hangs up" and not client.sent:
        return
    status = client.sent[0]["status"]
    assert 400 <= status < 500, "nothing that is sent here is audio"
    error = json.loads(b"".join(message.get("body", b"") for message in client.sent))["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"


@pytest.mark.timeout(900)
def test_any_form() -> None:
    fuzz(body, post)


# Wyoming

AUDIO = {"rate": 16_000, "width": 2, "channels": 1}
kinds = st.sampled_from(
    ["audio-start", "audio-chunk", "audio-chunk", "audio-stop", "transcribe", "describe", "ping", "synthesize"]
)
data = mapping(
    rate=st.sampled_from([16_000, 48_000]),
    width=st.sampled_from([2, 4]),
    channels=st.sampled_from([1, 2]),
    language=st.sampled_from(["en", "tlh"]),
    transcript_terms=st.lists(st.text(max_size=9), max_size=2),
    vad_sensitivity=st.just("relaxed"),
    text=st.text(max_size=9),
)


@st.composite
def wyoming_event(draw: Any) -> bytes:
    payload = draw(st.sampled_from([b"", b"", b"a", to_pcm16(tone(0.2)), bytes(6_400)]))
    inline, beside = draw(st.just(AUDIO) | data), draw(st.none() | data)
    line: dict[str, Any] = {"type": draw(kinds), "data": inline}
    rest = json.dumps(beside).encode() if beside is not None else b""
    if rest:
        line["data_length"] = len(rest)
    if payload:
        line["payload_length"] = len(payload)
    return json.dumps(line).encode() + b"\n" + rest + payload


broken = st.binary(max_size=30) | json_values.map(lambda value: json.dumps(value).encode() + b"\n")
stream = st.lists(st.one_of(wyoming_event(), wyoming_event(), wyoming_event(), broken), max_size=12)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("ends_turns", [False, True])
def test_any_stream_of_wyoming_events(ends_turns: bool) -> None:
    """Over real sockets; every whole utterance is answered once, and whatever comes last, the connection ends."""
    limits = {"wyoming": ("127.0.0.1", 0), "wyoming_ends_turns": ends_turns, "max_sessions": 100}
    loop = asyncio.new_event_loop()
    server = serving(handshake_timeout_s=0.5, **limits)
    running = loop.run_until_complete(server.__aenter__())

    async def play(sent: bytes) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.wyoming_port)
        writer.write(sent)
        writer.write_eof()
        async with asyncio.timeout(60):
            received = await reader.read(-1)
        writer.close()
        answers = []
        while received:
            line, _, received = received.partition(b"\n")
            head = json.loads(line)
            size = head.get("data_length", 0)
            content = json.loads(received[:size] or b"{}")
            received = received[size:]
            answers.append(head["type"])
            if head["type"] == "error":
                assert set(content) == {"text", "code"}
        assert set(answers) <= {"info", "pong", "error", "transcript-start", "transcript-chunk", "transcript", *STOP}
        assert answers.count("transcript") == answers.count("transcript-stop")
        assert answers.count("transcript") + answers.count("error") <= sent.count(b'"audio-st') + 2

    @settings(FUZZING, max_examples=-(-SEQUENCES // 24))
    @given(st.lists(stream, min_size=12, max_size=12))
    def together(streams: list[list[bytes]]) -> None:
        async def all_of_them() -> None:
            async with asyncio.TaskGroup() as tasks:
                for events in streams:
                    tasks.create_task(play(b"".join(events)))
            await running.until(lambda: not running.service.sessions)

        loop.run_until_complete(all_of_them())

    try:
        with reporting():
            together()
        assert running.service.state == "ready"
    finally:
        loop.run_until_complete(server.__aexit__(None, None, None))
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


STOP = ("transcript-stop",)
