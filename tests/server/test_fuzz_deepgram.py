"""Any sequences of what clients of Deepgram's dialects send, through the whole app: what they may count on holds.

The decoders by themselves have 5,000 sequences each in the tests of their dialects; here audio takes its time.
"""

import asyncio
import io
import json
from typing import Any

import pytest
import soundfile
from hypothesis import strategies as st

from fuzzing import SEQUENCES, Client, fuzz, json_values
from scripted import tone
from stt.audio import to_pcm16
from stt.server.dialects import deepgram_rest
from stt.server.dialects.deepgram_live import DeepgramLive
from stt.server.dialects.flux import Flux

LOUD, QUIET = to_pcm16(tone(0.4)), bytes(32_000)


def _wav() -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, tone(0.5), 16_000, format="WAV")
    return buffer.getvalue()


WAV = _wav()
RAW = "encoding=linear16&sample_rate=16000"
# Often whole and right, so that sequences get somewhere.
audio = st.sampled_from([LOUD, QUIET, LOUD, QUIET, LOUD[:-1], QUIET[:7]]) | st.binary(max_size=30)
terms = st.lists(st.text(max_size=9), max_size=3)
noise = st.text(max_size=30) | json_values.map(json.dumps)
endings = st.sampled_from(["closes", "closes", "vanishes", "is idle"])
CLOSE = '{"type": "CloseStream"}'


def messages(*kinds: str, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[str]:
    """JSON of one of these types, its fields right or not."""
    kind = st.fixed_dictionaries(
        {"type": st.sampled_from(kinds)}, optional={name: value | json_values for name, value in fields.items()}
    )
    return st.one_of(kind, kind, st.sampled_from(kinds).map(lambda name: {"type": name})).map(json.dumps)


async def played(
    app: Any, path: str, query: str, sent: list[str | bytes], ending: str
) -> tuple[list[dict[str, Any]], int | None]:
    """Return what the server told, and the code it closed with, if it was there to close."""
    client = Client(app, path, query)
    for message in sent:
        client.put(message)
    if ending == "closes":
        client.put(CLOSE)
    elif ending == "vanishes":
        client.vanish()
    await client.end()
    kinds = [message["type"] for message in client.sent]
    assert kinds[0] == "websocket.accept"
    closed = kinds[-1] == "websocket.close"
    assert kinds[1:] == ["websocket.send"] * (len(kinds) - 1 - closed) + ["websocket.close"] * closed
    assert closed or ending == "vanishes"
    told = [json.loads(message["text"]) for message in client.sent if message["type"] == "websocket.send"]
    return told, client.sent[-1].get("code")


# Version 1

live_message = messages(
    "KeepAlive", "Finalize", "Finalize", "Finalize", "Configure", "CloseStream",
    channel=st.sampled_from([0, 1, [0, 2], -1]), keyterms=terms, features=st.dictionaries(st.text(), st.booleans()),
)  # fmt: skip
live = st.tuples(
    st.sampled_from(
        [
            *(RAW, f"{RAW}&interim_results=true&vad_events=true&utterance_end_ms=1000"),
            f"{RAW}&interim_results=true&endpointing=false",
            f"{RAW}&interim_results=true&multichannel=true&channels=2&utterance_end_ms=1000",
        ]
    ),
    st.lists(st.one_of(audio, audio, audio, live_message, live_message, noise), max_size=14),
    endings,
)


def answers_due(sent: list[str | bytes], channels: int) -> list[int]:
    """Return of which channels a Finalize has to be answered, in order, up to the end of the stream."""
    due: list[int] = []
    for frame in sent:
        message: Any = None
        if isinstance(frame, str):
            try:
                message = json.loads(frame)
            except ValueError:
                continue
        elif not frame:
            return due
        kind = message.get("type") if isinstance(message, dict) else None
        if kind == "CloseStream":
            return due
        if kind == "Finalize":
            channel = message.get("channel")
            if channel is None:
                due += range(channels)
                continue
            channel = channel[0] if isinstance(channel, list) and channel else channel
            if type(channel) is int and 0 <= channel < channels:
                due.append(channel)
    return due


async def talk_live(app: Any, sequence: tuple[str, list[str | bytes], str]) -> None:
    query, sent, ending = sequence
    told, code = await played(app, DeepgramLive.path, query, sent, ending)
    channels = 2 if "multichannel" in query else 1
    due = answers_due(sent, channels)
    for message in told:
        assert message["type"] in KINDS, "the SDK hands out None for any other"
        if message["type"] == "Error":
            assert message["variant"] == "SchemaError"
    if code is not None:
        assert [message["type"] for message in told].count("Metadata") == 1
        assert told[-1]["type"] == "Metadata"
    for channel in range(channels):
        results = [m for m in told if m["type"] == "Results" and m["channel_index"] == [channel, channels]]
        answered = sum(message["from_finalize"] for message in results)
        assert answered == due.count(channel) if code == 1000 else answered <= due.count(channel)
        at = 0.0  # where the final before ended
        for message in results:
            assert message["start"] == pytest.approx(at, abs=0.0011)
            assert message["is_final"] or not (message["speech_final"] or message["from_finalize"])
            assert not message["speech_final"] or "endpointing=false" not in query
            (heard,) = message["channel"]["alternatives"]
            assert " ".join(word["punctuated_word"] for word in heard["words"]) == heard["transcript"]
            if message["is_final"]:
                at = message["start"] + message["duration"]


KINDS = {"Results", "SpeechStarted", "UtteranceEnd", "Metadata", "ConfigureSuccess", "ConfigureFailure", "Error"}


@pytest.mark.timeout(900)
def test_any_sequence_of_version_1() -> None:
    fuzz(live, talk_live, count=SEQUENCES // 4)


# Flux

thresholds = st.dictionaries(
    st.sampled_from(["eot_threshold", "eager_eot_threshold", "eot_timeout_ms"]),
    st.sampled_from([0.5, 0.6, 0.9, 1, 500, 700]) | json_values,
)
flux_message = messages(
    *("ForceEndTurn", "ForceEndTurn", "Configure", "Configure", "CloseStream"), thresholds=thresholds, keyterms=terms
)
flux = st.tuples(
    st.sampled_from([RAW, f"{RAW}&eager_eot_threshold=0.4", f"{RAW}&eager_eot_threshold=0.5&eot_threshold=0.5"]),
    st.lists(st.one_of(*[audio] * 5, *[flux_message] * 3, noise), max_size=14),
    endings,
)


async def talk_flux(app: Any, sequence: tuple[str, list[str | bytes], str]) -> None:
    told, code = await played(app, Flux.path, *sequence)
    assert [message["sequence_id"] for message in told] == list(range(len(told)))
    assert told[0]["type"] == "Connected"
    errors = [message for message in told if message["type"] == "Error"]
    assert [message["code"] for message in errors] == ["UNPARSABLE_CLIENT_MESSAGE"] * len(errors)
    assert len(errors) <= 1
    assert code != 1000 or not errors
    turn, early, reach = 0, None, 0.0
    speaking = False
    for message in told:
        if message["type"] != "TurnInfo":
            continue
        event, words = message["event"], message["transcript"]
        assert message["turn_index"] == turn
        assert message["audio_window_end"] >= reach
        reach = message["audio_window_end"]
        assert words
        assert " ".join(word["word"] for word in message["words"]) == words
        assert ("trigger" in message) == (event == "EndOfTurn")
        assert speaking == (event != "StartOfTurn")
        match event:
            case "StartOfTurn":
                speaking = True
            case "EagerEndOfTurn":
                assert early is None
                early = words
            case "TurnResumed":
                assert early is not None
                early = None
            case "Update":
                assert early in (None, words)
            case "EndOfTurn":
                assert early in (None, words)
                turn, early, speaking = turn + 1, None, False


@pytest.mark.timeout(900)
def test_any_sequence_of_flux() -> None:
    fuzz(flux, talk_flux, count=SEQUENCES // 4)


# Recordings

option = st.sampled_from(
    [
        *("utterances=true", "paragraphs=true", "multichannel=true", "detect_language=true", "language=multi"),
        *("encoding=linear16", "encoding=mulaw", "encoding=opus", "sample_rate=8000", "sample_rate=x", "channels=2"),
        *("keyterm=a", "utt_split=-1", "utt_split=0.5", "language=tlh", "callback=x", "%ff=%00"),
    ]
)
recording = st.tuples(
    st.lists(option, max_size=3).map("&".join),
    st.sampled_from([WAV, WAV, WAV[:5_000], WAV[:20], LOUD, b"", b'{"url": "http://x"}', b"{"])
    | st.binary(max_size=40),
    st.sampled_from([b"audio/wav", b"application/octet-stream", b"application/json", b"\xff"]),
    st.sampled_from(["whole", "whole", "whole", "hangs up"]),
)


async def post(app: Any, sequence: tuple[str, bytes, bytes, str]) -> None:
    query, body, kind, how = sequence
    http = {"type": "http", "scheme": "http", "method": "POST", "headers": [(b"content-type", kind)]}
    client = Client(app, deepgram_rest.PATH, query, **http)
    client.incoming.put_nowait({"type": "http.request", "body": body[:50], "more_body": True})
    if how == "hangs up":
        client.incoming.put_nowait({"type": "http.disconnect"})
    else:
        client.incoming.put_nowait({"type": "http.request", "body": body[50:], "more_body": False})
        await asyncio.sleep(0)
    await client.end()
    if how == "hangs up" and not client.sent:
        return
    status = client.sent[0]["status"]
    answer = json.loads(b"".join(message.get("body", b"") for message in client.sent))
    if status == 200:
        assert set(answer) == {"metadata", "results"}
    else:
        assert 400 <= status < 500, "what a client did is its own mistake"
        assert set(answer) == {"err_code", "err_msg", "request_id"}


@pytest.mark.timeout(900)
def test_any_recording() -> None:
    fuzz(recording, post, count=SEQUENCES // 4)
