"""Deepgram's live API, `WS /v1/listen`, against bytes on the wire."""

import contextlib
import hashlib
import io
import json
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from scripted import ScriptedModel, tone
from serving import Running, frames, rest, said, serving
from spoken import silence
from stt.control import Flush
from stt.events import (
    Acknowledged,
    Latency,
    Passage,
    TranscriptChanged,
    TurnCompleted,
    TurnPaused,
    TurnResumed,
    TurnStarted,
)
from stt.recognition import Utterance
from stt.server.dialect import (
    Answer,
    Encoded,
    End,
    Malformed,
    NotAdmittedError,
    OfChannel,
    Request,
    SessionOptions,
    Tick,
)
from stt.server.dialects.deepgram_live import DeepgramLive
from stt.settings import TurnSettings
from stt.words import Word

SECOND = 16_000
FINALIZE, CLOSE = '{"type":"Finalize"}', '{"type":"CloseStream"}'


def opening(**query: Any) -> tuple[DeepgramLive, SessionOptions]:
    live = DeepgramLive()
    pairs = [(name, one) for name, given in query.items() for one in (given if isinstance(given, list) else [given])]
    return live, live.open(Request("id", tuple(pairs)), TurnSettings(), "en")


def told(live: DeepgramLive, *items: Any) -> list[dict[str, Any]]:
    return [json.loads(frame) for item in items for frame in live.encode(item)]


def text(words: str, end_s: float, committed: int = 0, turn: int = 0) -> TranscriptChanged:
    return TranscriptChanged(
        turn, 0, round(end_s * SECOND), words, committed, committed, "interim", Latency(0, 0, 1)
    )  # fmt: skip


def final(words: str, end_s: float = 1, why: Any = "silence", turn: int = 0, start_s: float = 0) -> TurnCompleted:
    start, end = round(start_s * SECOND), round(end_s * SECOND)
    return TurnCompleted(turn, start, end, words, (Passage(start, end, words),), None, end + SECOND // 2, why)


def transcript(message: dict[str, Any]) -> str:
    return message["channel"]["alternatives"][0]["transcript"]


def spans(messages: list[dict[str, Any]]) -> list[tuple[str, float, float, bool]]:
    return [
        (transcript(m), m["start"], round(m["start"] + m["duration"], 3), m["is_final"])
        for m in messages
        if m["type"] == "Results"
    ]


def test_a_whole_file_in_one_message_is_handed_out_and_hashed_as_there_is_room() -> None:
    """At once it would keep all others waiting."""
    live, _ = opening(encoding="linear16")
    file = bytes(range(256)) * (8 << 12)
    pieces = iter(live.decode(file))

    def hashed() -> str:
        return json.loads(str(live.ended(End("finished", 1.0)).frames[0]))["sha256"]

    first = next(pieces)
    assert isinstance(first, Encoded)
    assert len(first.data) < len(file) / 16
    assert hashed() == hashlib.sha256(first.data).hexdigest()
    rest = [piece.data for piece in pieces if isinstance(piece, Encoded)]
    assert b"".join([first.data, *rest]) == file
    assert hashed() == hashlib.sha256(file).hexdigest()


def test_interims_replace_each_other_and_finals_follow_one_another() -> None:
    live, _ = opening(interim_results="true")
    messages = told(
        live, TurnStarted(0, 0), text("One", 0.5), text("One two", 1.0), TurnPaused(0, SECOND), final("One two.", 1.1),
        TurnStarted(1, 3 * SECOND), final("Three", 4, turn=1, start_s=3),
    )  # fmt: skip
    assert spans(messages) == [
        ("One", 0, 0.5, False), ("One two", 0, 1.0, False), ("One two.", 0, 1.1, True), ("Three", 1.1, 4, True),
    ]  # fmt: skip
    assert [message["speech_final"] for message in messages] == [False, False, True, True]
    assert not any(message["from_finalize"] for message in messages)


def test_every_key_that_clients_index_is_there() -> None:
    (message,) = told(opening()[0], final("Strops, it's 5."))
    assert message["channel_index"] == [0, 1]
    assert set(message["metadata"]) == {"request_id", "model_info", "model_uuid"}
    assert set(message["metadata"]["model_info"]) == {"name", "version", "arch"}
    (alternative,) = message["channel"]["alternatives"]
    assert set(alternative) == {"transcript", "confidence", "words"}
    assert 0 < alternative["confidence"] <= 1
    assert [word["word"] for word in alternative["words"]] == ["strops", "it's", "5"]
    assert [word["punctuated_word"] for word in alternative["words"]] == ["Strops,", "it's", "5."]
    assert all(word["end"] >= word["start"] for word in alternative["words"])
    (empty,) = told(opening()[0], final(""))
    assert empty["channel"]["alternatives"] == [{"transcript": "", "confidence": 0.0, "words": []}]


@pytest.mark.parametrize("interims", ["true", "false"])
def test_what_a_long_turn_has_committed_is_final_once(interims: str) -> None:
    live, _ = opening(interim_results=interims)
    messages = told(
        live, TurnStarted(0, 0), text("One two three", 6), text("One two three four", 9, committed=7),
        text("One two three four five", 11, committed=7), text("One two three four five six", 15, committed=18),
        final("One two three four five six.", 16),
    )  # fmt: skip
    closed = [message for message in messages if message["is_final"]]
    assert [transcript(m) for m in closed] == ["One two", "three four", "five six."]
    assert [m["speech_final"] for m in closed] == [False, False, True]
    for before, after in pairwise(spans(closed)):
        assert after[1] == before[2]
    words = [word for message in closed for word in message["channel"]["alternatives"][0]["words"]]
    assert all(before["end"] <= after["start"] for before, after in pairwise(words))


def test_the_engines_times_are_told_of_a_turn_that_runs_too() -> None:
    words = (Word("One", 8_000, 16_000, 0.5), Word(" two", 24_000, 32_000, 0.75))
    live, _ = opening()
    change = TranscriptChanged(0, 0, 160_000, "One two", 7, 7, "interim", Latency(0, 0, 1), words)
    (message,) = told(live, TurnStarted(0, 8_000), change)
    (alternative,) = message["channel"]["alternatives"]
    assert [(w["start"], w["end"], w["confidence"]) for w in alternative["words"]] == [(0.5, 1, 0.5), (1.5, 2, 0.75)]
    assert alternative["confidence"] == 0.625
    assert message["duration"] == 2.0


@pytest.mark.parametrize(
    ("events", "answers"),
    [
        ([Acknowledged("flush", SECOND)], [("", 1.0)]),
        ([TurnStarted(0, 0), final("One", 1, "asked"), Acknowledged("flush", SECOND)], [("One", 1.0)]),
        ([TurnStarted(0, 0), final("", 1, "asked"), Acknowledged("flush", SECOND)], [("", 1.0)]),
        ([final("One"), Acknowledged("flush", 2 * SECOND), Acknowledged("flush", 2 * SECOND)], [("", 2.0), ("", 2.0)]),
        ([Acknowledged("configure", SECOND)], []),
    ],
)
def test_a_finalize_is_answered_exactly_once(events: list[Any], answers: list[tuple[str, float]]) -> None:
    messages = [message for message in told(opening()[0], *events) if message["from_finalize"]]
    assert all(message["is_final"] for message in messages)
    assert [(words, end) for words, _, end, _ in spans(messages)] == answers


def test_an_utterance_ends_once_after_its_final_and_only_in_silence() -> None:
    live, options = opening(utterance_end_ms="1000", interim_results="true", vad_events="true")
    assert options.tick_s is not None

    def kinds(*items: Any) -> list[str]:
        return [message["type"] for message in told(live, *items)]

    assert kinds(Tick(0.5), TurnStarted(0, 0)) == ["SpeechStarted"]
    assert kinds(Tick(1.3), final("One", 1), Tick(1.9)) == ["Results"]
    assert kinds(Tick(2.1)) == ["UtteranceEnd"]
    assert kinds(Tick(9)) == []
    # somebody speaks again before the second is over: it is one utterance
    assert kinds(TurnStarted(1, 10 * SECOND), final("Two", 11, turn=1, start_s=10)) == ["SpeechStarted", "Results"]
    assert kinds(TurnStarted(2, round(11.6 * SECOND)), Tick(12.5)) == ["SpeechStarted"]
    assert kinds(final("Three", 13, turn=2, start_s=11.6), Tick(13.9)) == ["Results"]
    (end,) = told(live, Tick(14.1))
    assert end == {"type": "UtteranceEnd", "channel": [0, 1], "last_word_end": 13.0}
    # a cough is no word, and does not hold it up for ever
    assert kinds(TurnStarted(3, 15 * SECOND), final("Four", 16, turn=3, start_s=15)) == ["SpeechStarted", "Results"]
    assert kinds(TurnStarted(4, round(16.8 * SECOND)), Tick(17.2)) == ["SpeechStarted"]
    assert kinds(final("", 16.9, turn=4, start_s=16.8)) == ["Results", "UtteranceEnd"]


@pytest.mark.parametrize(
    ("query", "silence_s", "says"),
    [
        ({}, 0.3, True), ({"endpointing": "10"}, 0.3, True), ({"endpointing": "1200"}, 1.2, True),
        ({"endpointing": "false"}, 1.5, False), ({"endpointing": "False"}, 1.5, False),
        ({"endpointing": "false", "utterance_end_ms": "1000"}, 1.0, False), ({"endpointing": "true"}, 0.3, True),
    ],
)  # fmt: skip
def test_endpointing_is_a_pause_of_that_length(query: dict[str, str], silence_s: float, says: bool) -> None:
    live, options = opening(**query)
    assert options.turns.end_of_turn_s == silence_s
    assert [message["speech_final"] for message in told(live, final("One"))] == [says]


def test_terms_languages_and_what_is_not_known() -> None:
    _, options = opening(
        keyterm=["Strops", "Silero VAD"], keywords=["snuffle:2", "a:b"], language="en-US", no_delay="x"
    )
    assert options.recognition.terms == ("Strops", "Silero VAD", "snuffle", "a:b")
    assert options.recognition.language == "en"
    assert options.headers == (("dg-request-id", "id"),)
    assert opening(language="multi")[1].recognition.language is None
    for found in ("True", "de", "pt-BR"):  # those to choose from are asked for by name
        assert opening(detect_language=found)[1].recognition.language is None
    with pytest.raises(NotAdmittedError, match="detect_language must be true or false, got 'tlh'"):
        opening(detect_language="tlh")


def test_configure_replaces_terms_or_nothing() -> None:
    live, _ = opening(keyterm="a")
    control, answer = live.decode('{"type":"Configure","keyterms":["b","c"],"features":{"numerals":true}}')
    assert control.options.terms == ("b", "c")  # type: ignore[union-attr]
    assert told(live, answer) == [{"type": "ConfigureSuccess", "request_id": "id", "keyterms": ["b", "c"]}]
    for bad in ('"keyterms":[1]', '"features":[]', '"features":{"numerals":1}'):
        (failure,) = told(live, *live.decode(f'{{"type":"Configure",{bad}}}'))
        assert set(failure) == {"type", "request_id", "code", "description"}
        assert failure["type"] == "ConfigureFailure"
    (same,) = told(live, *live.decode('{"type":"Configure"}'))
    assert same == {"type": "ConfigureSuccess", "request_id": "id"}


def test_ends_are_told_as_deepgram_does() -> None:
    codes = {"finished": 1000, "going_away": 1001, "idle": 1011, "failed": 1011, "bad_message": 1008}
    for how, code in codes.items():
        goodbye = opening()[0].ended(End(how, 1.5))  # type: ignore[arg-type]
        assert goodbye.code == code
        kinds = [json.loads(frame)["type"] for frame in goodbye.frames]
        assert kinds == {"failed": ["Error"], "bad_message": []}.get(how, ["Metadata"])
    assert opening()[0].ended(End("idle", 1.5)).reason.startswith("NET-0001")
    assert opening()[0].ended(End("bad_message", 1.5)).reason.startswith("DATA-0000")


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=8,
)
message = st.fixed_dictionaries(
    {"type": st.sampled_from(["KeepAlive", "Finalize", "CloseStream", "Configure"]) | anything},
    optional={
        "channel": st.sampled_from([0, 1, 2, -1, [0, 2], [1], [], True]) | anything,
        "keyterms": st.lists(st.text(max_size=9), max_size=3) | anything,
        "features": st.dictionaries(st.text(max_size=9), st.booleans(), max_size=3) | anything,
    },
)


@settings(max_examples=5_000, deadline=None, database=None)
@given(
    st.lists(st.text(max_size=30) | st.binary(max_size=30) | (message | anything).map(json.dumps), max_size=6),
    st.sampled_from([{}, {"multichannel": "true", "channels": "2", "encoding": "linear16"}]),
)
def test_any_sequence_of_frames_is_answered_in_this_dialect(sent: list[str | bytes], query: dict[str, str]) -> None:
    live, options = opening(**query)
    commands = [command for frame in sent for command in live.decode(frame)]
    assert all(0 <= command.channel < options.channels for command in commands if isinstance(command, OfChannel))
    wrong = [command for command in commands if isinstance(command, Malformed)]
    assert not any(command.fatal for command in wrong)
    answers = told(live, *(command for command in commands if isinstance(command, Answer | Malformed)))
    for answer in answers:
        if answer["type"] == "Error":
            assert set(answer) == {"type", "variant", "description", "message"}
            assert answer["variant"] == "SchemaError"
        else:
            assert answer["type"] in ("ConfigureSuccess", "ConfigureFailure")


KNOWN = """encoding sample_rate channels multichannel interim_results endpointing utterance_end_ms vad_events language
detect_language keyterm keywords punctuate smart_format model diarize"""
VALUES = "true FALSE 0 1 2 16000 1e999 nan -1 1500 linear16 opus en-US multi :"
options = st.sampled_from(KNOWN.split()) | st.text(max_size=9)
values = st.sampled_from(VALUES.split()) | st.text(max_size=9)


@settings(max_examples=5_000, deadline=None, database=None)
@given(st.lists(st.tuples(options, values), max_size=8))
def test_any_query_opens_a_session_or_is_refused_in_this_dialect(query: list[tuple[str, str]]) -> None:
    live = DeepgramLive()
    with contextlib.suppress(NotAdmittedError):
        live.open(Request("id", tuple(query)), TurnSettings(), "en")


def talking(running: Running, query: str = "", **more: Any) -> connect:
    url = f"ws://127.0.0.1:{running.port}/v1/listen?model=nova-3{query}"
    return connect(url, compression=None, ping_interval=None, **more)


RAW = "&encoding=linear16&sample_rate=16000"


async def send(websocket: ClientConnection, audio: np.ndarray, size: int = 501) -> None:
    for frame in frames(audio, size):
        await websocket.send(frame)


def seconds_heard() -> ScriptedModel:
    """Says which seconds of the stream it heard."""

    def hear(utterance: Utterance) -> str:
        return " ".join(f"w{s}" for s in range(round(utterance.start / SECOND), round(utterance.end / SECOND)))

    return ScriptedModel(hear)


async def test_a_session_on_the_wire() -> None:
    audio = np.concatenate([tone(1), silence(1.5), tone(1)])
    query = "&interim_results=true&vad_events=true&utterance_end_ms=1000&unknown=1&smart_format=true"
    async with serving(ScriptedModel(lambda _: "One two.")) as running, talking(running, RAW + query) as websocket:
        assert websocket.response is not None
        assert websocket.response.headers["dg-request-id"]
        await websocket.send('{"type":"KeepAlive"}')
        await send(websocket, audio)
        await websocket.send(CLOSE)
        messages = await rest(websocket)
        assert websocket.close_code == 1000
    starts = [m for m in messages if m["type"] == "SpeechStarted"]  # they wait for no text
    assert [round(m["timestamp"], 1) for m in starts] == [0, 2.5]
    kinds = [m["type"] for m in messages if m not in starts and m.get("is_final", True)]
    assert kinds == ["Results", "UtteranceEnd", "Results", "Metadata"]
    finals = [m for m in messages if m["type"] == "Results" and m["is_final"]]
    assert [transcript(m) for m in finals] == ["One two.", "One two."]
    assert any(m["type"] == "Results" and not m["is_final"] for m in messages)
    last = messages[-1]
    assert set(last) == {"type", "transaction_key", "request_id", "sha256", "created", "duration", "channels"}
    assert last["request_id"] == websocket.response.headers["dg-request-id"] == finals[0]["metadata"]["request_id"]
    assert (last["duration"], last["channels"]) == (3.5, 1)
    assert last["sha256"] == hashlib.sha256(b"".join(frames(audio, 501))).hexdigest()
    assert last["created"].endswith("Z")


async def test_by_default_finals_alone_are_told() -> None:
    async with serving(ScriptedModel(lambda _: "One.")) as running, talking(running, RAW) as websocket:
        await send(websocket, np.concatenate([tone(2), silence(0.5)]))
        await websocket.send(b"")  # how old clients close
        messages = await rest(websocket)
    assert [(m["type"], m.get("is_final")) for m in messages] == [("Results", True), ("Metadata", None)]


async def test_after_a_finalize_the_socket_stays_open() -> None:
    async with serving(ScriptedModel(lambda _: "One.")) as running, talking(running, RAW) as websocket:
        for _ in range(3):
            await send(websocket, np.concatenate([silence(0.2), tone(1), silence(0.2)]))
            await websocket.send(FINALIZE)
            answer = await said(websocket)
            assert (transcript(answer), answer["is_final"], answer["from_finalize"]) == ("One.", True, True)
            await websocket.send(FINALIZE)
            answer = await said(websocket)
            assert (transcript(answer), answer["is_final"], answer["from_finalize"]) == ("", True, True)
        await websocket.send(CLOSE)
        assert [m["type"] for m in await rest(websocket)] == ["Metadata"]


async def test_a_long_turn_is_several_finals_that_hold_each_word_once() -> None:
    async with serving(seconds_heard()) as running, talking(running, RAW + "&interim_results=true") as websocket:
        await send(websocket, tone(30), 8_000)
        await websocket.send(CLOSE)
        finals = [m for m in await rest(websocket) if m.get("is_final")]
    assert len(finals) >= 4
    assert " ".join(transcript(m) for m in finals) == " ".join(f"w{s}" for s in range(30))
    assert [m["speech_final"] for m in finals] == [False] * (len(finals) - 1) + [True]
    for before, after in pairwise(spans(finals)):
        assert after[1] == before[2]


async def test_each_channel_is_heard_by_itself() -> None:
    left = np.concatenate([tone(1), silence(3)])
    right = np.concatenate([silence(2), tone(1.5), silence(0.5)]) * np.float32(0.5)
    model = ScriptedModel(lambda utterance: "Loud." if np.abs(utterance.audio).max() > 0.4 else "Quiet.")
    both = np.stack([left, right], axis=1).reshape(-1)
    query = f"{RAW}&multichannel=true&channels=2&utterance_end_ms=1000"
    async with serving(model, max_sessions=2) as running, talking(running, query) as websocket:
        await send(websocket, both, 999)
        for channel in ("", ',"channel":[1,2]', ',"channel":0'):
            await websocket.send(f'{{"type":"Finalize"{channel}}}')
        await websocket.send('{"type":"Finalize","channel":2}')
        await websocket.send(CLOSE)
        messages = await rest(websocket)
    finals = [(m["channel_index"], transcript(m)) for m in messages if m.get("is_final") and transcript(m)]
    assert sorted(finals) == [([0, 2], "Loud."), ([1, 2], "Quiet.")]
    answers = [m["channel_index"] for m in messages if m.get("from_finalize")]
    assert sorted(answers) == [[0, 2], [0, 2], [1, 2], [1, 2]]
    assert [m["channel"] for m in messages if m["type"] == "UtteranceEnd"] == [[0, 2]]
    assert [m["variant"] for m in messages if m["type"] == "Error"] == ["SchemaError"]
    assert (messages[-1]["channels"], messages[-1]["duration"]) == (2, 4.0)


async def test_channels_hold_places_and_more_than_there_are_is_refused() -> None:
    query = f"{RAW}&multichannel=true&channels=2"
    async with serving(max_sessions=3) as running, talking(running, query):
        with pytest.raises(InvalidStatus) as refused:
            await talking(running, query)
        assert refused.value.response.status_code == 503
        async with talking(running):  # there is room for one
            pass
    async with serving(max_sessions=3) as running:
        for _ in range(3):
            async with talking(running, query):  # places are given back
                pass


@pytest.mark.parametrize("bad", ["{", "[]", '{"type":"Flush"}', '{"type":"Finalize","channel":7}'])
async def test_a_text_that_is_not_understood_is_told_and_the_stream_goes_on(bad: str) -> None:
    async with serving(ScriptedModel(lambda _: "One.")) as running, talking(running, RAW) as websocket:
        await websocket.send(bad)
        error = await said(websocket)
        assert (error["type"], error["variant"]) == ("Error", "SchemaError")
        await send(websocket, tone(1))
        await websocket.send(CLOSE)
        assert [transcript(m) for m in await rest(websocket) if m["type"] == "Results"] == ["One."]


@pytest.mark.parametrize("encoding", ["", "&encoding=flac", "&encoding=mulaw&sample_rate=8000", RAW + "&channels=2"])
async def test_raw_audio_and_containers_arrive_in_pieces_of_any_length(encoding: str) -> None:
    audio = np.concatenate([tone(1), silence(1)])
    file = io.BytesIO()
    soundfile.write(file, audio, 16_000, format="FLAC" if "flac" in encoding else "WAV")
    body = file.getvalue()
    if "mulaw" in encoding:
        body = b"\x8f" * 8_000 + b"\xff" * 8_000
    elif "channels" in encoding:  # they are mixed
        body = b"".join(frames(np.repeat(audio, 2)))
    async with serving(ScriptedModel(lambda _: "One.")) as running, talking(running, encoding) as websocket:
        for at in range(0, len(body), 777):
            await websocket.send(body[at : at + 777])
        await websocket.send(CLOSE)
        *finals, metadata = await rest(websocket)
    assert [(transcript(m), m["channel_index"]) for m in finals] == [("One.", [0, 1])]
    assert metadata["duration"] == pytest.approx(2, abs=0.01)


async def test_an_engine_that_fails_closes_its_span_and_the_next_turn_is_heard() -> None:
    def hear(utterance: Utterance) -> str:
        if utterance.speech_s and utterance.key.turn == 0:
            raise RuntimeError("secret words")
        return "One."

    async with serving(ScriptedModel(hear)) as running, talking(running, RAW) as websocket:
        await send(websocket, np.concatenate([tone(1), silence(1), tone(1)]))
        await websocket.send(CLOSE)
        messages = await rest(websocket)
        assert websocket.close_code == 1000
    assert [message["type"] for message in messages] == ["Results", "Results", "Metadata"]
    assert [transcript(message) for message in messages[:-1]] == ["", "One."]
    assert "secret" not in json.dumps(messages)


async def test_audio_that_cannot_be_decoded_closes_with_1008() -> None:
    async with serving() as running, talking(running) as websocket:
        await websocket.send(b"this is no container at all " * 4_000)
        await websocket.send(CLOSE)
        (error,) = await rest(websocket)
        assert (error["type"], error["variant"]) == ("Error", "DATA-0000")
        assert websocket.close_code == 1008


@pytest.mark.parametrize(
    "query",
    [
        "&encoding=g729", "&sample_rate=1", "&channels=0", "&interim_results=perhaps", "&endpointing=soon",
        "&encoding=amr-nb", "&encoding=amr-wb", "&encoding=speex", "&encoding=opus&channels=3",
        "&utterance_end_ms=10", "&vad_events=2", "&punctuate=x", "&language=tlh", "&multichannel=true&channels=2",
    ],
)  # fmt: skip
async def test_an_impossible_option_is_refused_in_the_handshake(query: str) -> None:
    async with serving(api_keys=("key",)) as running:
        for key, status, code in (("key", 400, "Bad Request"), ("no", 401, "INVALID_AUTH")):
            with pytest.raises(InvalidStatus) as refused:
                await talking(running, query, additional_headers={"Authorization": f"Token {key}"})
            assert refused.value.response.status_code == status
            body = json.loads(refused.value.response.body)
            assert set(body) == {"err_code", "err_msg", "request_id"}
            assert body["err_code"] == code


def test_a_finalize_of_one_channel_is_for_it_alone() -> None:
    live, _ = opening(multichannel="true", channels="2", encoding="linear16")
    assert live.decode('{"type":"Finalize","channel":1}') == [OfChannel(1, Flush())]
    assert live.decode(FINALIZE) == [Flush()]
    assert told(live, OfChannel(1, TurnResumed(0, 0))) == []
