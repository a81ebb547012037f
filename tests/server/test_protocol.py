"""The protocol as a table: what comes in on one line, what it means on the next."""

import base64
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stt.control import Clear, Configure, Control, Flush
from stt.events import (
    Acknowledged,
    Event,
    Latency,
    Passage,
    RecognitionFailed,
    TranscriptChanged,
    TurnCompleted,
    TurnPaused,
    TurnResumed,
    TurnStarted,
)
from stt.recognition import RecognitionOptions
from stt.server.dialect import Request
from stt.server.dialects.native import (
    ENGINE_FAILED,
    Audio,
    Command,
    Decoder,
    Encoder,
    Finish,
    Format,
    Native,
    Options,
    parse_options,
)
from stt.server.dialects.native_control import Controls
from stt.server.dialects.native_reader import EventDecoder, ProtocolError, decode_event
from stt.settings import TurnSettings
from stt.words import Word

PCM = b"\x01\x00\x02\x00"
B64 = base64.b64encode(PCM).decode()
MONO = Format(16_000, 1)


@pytest.mark.parametrize(
    ("frame", "command"),
    [
        (json.dumps({"samples": B64, "sampleRate": 16000, "channels": 1}), Audio(PCM, MONO)),
        (json.dumps({"samples": B64}), Audio(PCM, MONO)),
        (json.dumps({"samples": f"{B64[:4]}\r\n{B64[4:]}\n"}), Audio(PCM, MONO)),
        (json.dumps({"samples": B64, "sampleRate": 8000, "channels": 2}), Audio(PCM, Format(8_000, 2))),
        (json.dumps({"samples": B64, "sampleRate": 44100.0, "channels": 1.0}), Audio(PCM, Format(44_100, 1))),
        (json.dumps({"samples": B64, "sampleRate": 48000, "more": [1]}), Audio(PCM, Format(48_000, 1))),
        (json.dumps({"samples": ""}), Audio(b"", MONO)),
        ('{"type": "finish"}', Finish()),
        (PCM, Audio(PCM, MONO)),
        (b"", Audio(b"", MONO)),
        ('{"type": "flush"}', Flush()),
        ('{"type": "clear"}', Clear()),
        ('{"type": "configure"}', Configure(TurnSettings(), RecognitionOptions())),
        (
            '{"type": "configure", "end_of_turn_ms": 200, "language": "DE"}',
            Configure(TurnSettings(end_of_turn_s=0.2, pause_s=0.2), RecognitionOptions("de")),
        ),
        ('{"type": "configure", "language": "auto"}', Configure(TurnSettings(), RecognitionOptions(None))),
        (b"\xff\x7f\xc0\xff\xff\xff", Audio(b"\xff\x7f\xc0\xff\xff\xff", MONO)),  # as floats, NaNs; as PCM16, loud
    ],
)
def test_good_frames(frame: str | bytes, command: Command) -> None:
    decoder = Decoder()
    assert (decoder.text(frame) if isinstance(frame, str) else decoder.binary(frame)) == command


RATE = "sampleRate must be a whole number from 8000 to 48000, got "
CHANNELS = "channels must be a whole number from 1 to 2, got "
BAD: list[tuple[str | bytes, str, str]] = [
    ("hello", "bad_json", "expected a JSON object, got 'hello'"),
    ("", "bad_json", "expected a JSON object, got ''"),
    ("{" * 70, "bad_json", "expected a JSON object, got '" + "{" * 60 + "'..."),
    ("[" * 200_000, "bad_json", "expected a JSON object, got '" + "[" * 60 + "'..."),
    (
        '{"sampleRate": ' + "1" * 5_000 + "}",
        "bad_json",
        'expected a JSON object, got \'{"sampleRate": ' + "1" * 45 + "'...",
    ),
    ("[1, 2]", "bad_message", "expected a JSON object, got '[1, 2]'"),
    ("null", "bad_message", "expected a JSON object, got 'null'"),
    ("{}", "bad_message", 'expected "samples" or "type", got \'{}\''),
    ('{"text": "hi"}', "bad_message", 'expected "samples" or "type", got \'{"text": "hi"}\''),
    ('{"type": "start"}', "unknown_type", "expected type finish, flush, clear, configure, got 'start'"),
    ('{"type": "\\ud800"}', "unknown_type", "expected type finish, flush, clear, configure, got '\\ud800'"),
    ('{"type": 7}', "unknown_type", "expected type finish, flush, clear, configure, got '7'"),
    ('{"type": "flush", "turn": 1}', "bad_option", "unknown setting 'turn' of flush; known: none"),
    (
        '{"type": "configure", "gap": 1}',
        "bad_option",
        (
            "unknown setting 'gap' of configure; known: end_of_turn, end_of_turn_ms, pause_ms, eagerness, "
            "eot_threshold, eot_delay_ms, eot_timeout_ms, eager, language, engine, terms"
        ),
    ),
    (
        '{"type": "configure", "end_of_turn_ms": "9"}',
        "bad_option",
        "end_of_turn_ms must be a whole number, got '9'",
    ),
    ('{"type": "configure", "pause_ms": true}', "bad_option", "pause_ms must be a whole number, got 'True'"),
    ('{"type": "configure", "eot_threshold": "1"}', "bad_option", "eot_threshold must be a number, got '1'"),
    ('{"type": "configure", "eager": 1}', "bad_option", "eager must be true or false, got '1'"),
    ('{"type": "configure", "end_of_turn": 1}', "bad_option", "end_of_turn must be a string, got '1'"),
    (
        '{"type": "configure", "end_of_turn_ms": 99}',
        "bad_option",
        "end_of_turn_ms must be a whole number from 100 to 60000, got '99'",
    ),
    ('{"type": "configure", "language": null}', "bad_option", "language must be a string, got 'None'"),
    ('{"samples": [1, 2]}', "bad_message", "samples must be a string of base64, got '[1, 2]'"),
    ('{"samples": null}', "bad_message", "samples must be a string of base64, got 'None'"),
    ('{"samples": "%%%%"}', "bad_base64", "samples is not base64: '%%%%'"),
    ('{"samples": "AAA"}', "bad_base64", "samples is not base64: 'AAA'"),
    ('{"samples": "\\u00e9"}', "bad_base64", "samples is not base64: '\\xe9'"),
    ('{"samples": "AAAA"}', "bad_audio", "PCM16 with 1 channel(s) comes in units of 2 bytes, got 3"),
    ('{"samples": "AAA=", "channels": 2}', "bad_audio", "PCM16 with 2 channel(s) comes in units of 4 bytes, got 2"),
    (b"\x00", "bad_audio", "PCM16 with 1 channel(s) comes in units of 2 bytes, got 1"),
    ('{"samples": "", "sampleRate": 0}', "bad_format", RATE + "'0'"),
    ('{"samples": "", "sampleRate": 7}', "bad_format", RATE + "'7'"),
    ('{"samples": "", "sampleRate": 1e9}', "bad_format", RATE + "'1000000000.0'"),
    ('{"samples": "", "sampleRate": 1e999}', "bad_format", RATE + "'inf'"),
    ('{"samples": "", "sampleRate": NaN}', "bad_format", RATE + "'nan'"),
    ('{"samples": "", "sampleRate": 16000.5}', "bad_format", RATE + "'16000.5'"),
    ('{"samples": "", "sampleRate": "16000"}', "bad_format", RATE + "'16000'"),
    ('{"samples": "", "sampleRate": true}', "bad_format", RATE + "'True'"),
    ('{"samples": "", "channels": 17}', "bad_format", CHANNELS + "'17'"),
    ('{"samples": "", "channels": 0}', "bad_format", CHANNELS + "'0'"),
    ('{"samples": "", "channels": true}', "bad_format", CHANNELS + "'True'"),
]


@pytest.mark.parametrize(("frame", "code", "text"), BAD, ids=lambda value: repr(value)[:30])
def test_bad_frames(frame: str | bytes, code: str, text: str) -> None:
    decoder = Decoder()
    with pytest.raises(ProtocolError) as raised:
        decoder.text(frame) if isinstance(frame, str) else decoder.binary(frame)
    assert (raised.value.code, str(raised.value)) == (code, text)
    assert decoder.binary(PCM) == Audio(PCM, MONO)  # the next frame may be good


def test_silence_in_milliseconds_alone_asks_for_silence_whatever_the_server_does() -> None:
    """As it did before there was anything else: clients that know nothing of meaning get the turns they ask for."""
    server = TurnSettings(end_of_turn="auto", eagerness="fast")
    assert parse_options([("end_of_turn_ms", "700")], server, "en").turns.end_of_turn == "silence"
    assert parse_options([("pause_ms", "200")], server, "en").turns.end_of_turn == "auto"


def test_what_ends_turns_can_be_changed_while_the_session_runs() -> None:
    controls = Controls(TurnSettings(end_of_turn="auto"), RecognitionOptions("en"), Request(""), parse_options)

    def configure(**settings: Any) -> TurnSettings:
        command = controls.read({"type": "configure", **settings})
        assert isinstance(command, Configure)
        assert command.settings is not None
        return command.settings

    assert configure(end_of_turn="meaning", eagerness="careful", eot_threshold=1, eager=True) == TurnSettings(
        end_of_turn="meaning", eagerness="careful", eot_threshold=1.0, eager=True
    )
    assert configure(end_of_turn_ms=800).end_of_turn == "silence"
    assert configure(end_of_turn="meaning").eagerness == "careful"


def test_a_setting_that_cannot_work_changes_none_and_others_stay_as_they_were_set() -> None:
    controls = Controls(
        TurnSettings(), RecognitionOptions("en"), Request("", languages=frozenset({"en", "de"})), parse_options
    )

    def configure(**settings: Any) -> Any:
        return controls.read({"type": "configure", **settings})

    wanted = TurnSettings(end_of_turn_s=0.9, pause_s=0.5)
    assert configure(end_of_turn_ms=900, pause_ms=500) == Configure(wanted, RecognitionOptions("en"))
    for wrong, text in (
        ({"end_of_turn_ms": 700, "language": "xx"}, "language: the engine knows de, en, got 'xx'"),
        ({"language": "de", "pause_ms": 901}, "pause_ms must not exceed end_of_turn_ms, got 901 and 900"),
    ):
        with pytest.raises(ProtocolError, match=text):
            configure(**wrong)
    assert configure() == Configure(wanted, RecognitionOptions("en"))
    assert configure(language="de") == Configure(wanted, RecognitionOptions("de"))


def test_what_was_asked_for_is_acknowledged_to_any_client() -> None:
    for events in (True, False):
        message = Encoder(Options(TurnSettings(), "en", events=events)).encode(Acknowledged("flush", 24_000))
        assert json.loads(message or "") == {"type": "acknowledged", "command": "flush", "at": 1.5}


def test_the_format_may_change_but_not_all_the_time() -> None:
    decoder = Decoder()
    for i in range(16):
        assert decoder.text(json.dumps({"samples": B64, "sampleRate": 8_000 + i})).format.rate == 8_000 + i  # type: ignore[union-attr]
    with pytest.raises(ProtocolError, match="change too often"):
        decoder.text(json.dumps({"samples": B64, "sampleRate": 48_000}))
    assert decoder.text(json.dumps({"samples": B64, "sampleRate": 8_015})) == Audio(PCM, Format(8_015, 1))


@given(
    st.one_of(
        st.text(),
        st.binary(),
        st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists).map(json.dumps),
    )
)
def test_whatever_comes_is_a_command_or_an_answer(frame: str | bytes) -> None:
    try:
        command = Decoder().text(frame) if isinstance(frame, str) else Decoder().binary(frame)
    except ProtocolError as error:
        answer = str(error)
    else:
        answer = ""
        assert isinstance(command, Audio | Finish | Control)
    assert len(answer) < 300
    assert answer.isascii()


def parse(query: str) -> Options:
    items = [tuple(item.split("=", 1)) for item in query.split("&") if item]
    return parse_options(items, TurnSettings(), "en")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("query", "options"),
    [
        ("", Options(TurnSettings(), "en", MONO)),
        ("sample_rate=8000&channels=2", Options(TurnSettings(), "en", Format(8_000, 2))),
        ("interim_results=0", Options(TurnSettings(interim_s=None), "en", MONO, interim_results=False)),
        ("interim_results=TRUE&events=1", Options(TurnSettings(), "en", MONO, events=True)),
        ("end_of_turn_ms=700", Options(TurnSettings(end_of_turn_s=0.7), "en", MONO)),
        ("end_of_turn_ms=200", Options(TurnSettings(end_of_turn_s=0.2, pause_s=0.2), "en", MONO)),
        ("end_of_turn_ms=900&pause_ms=500", Options(TurnSettings(end_of_turn_s=0.9, pause_s=0.5), "en", MONO)),
        ("end_of_turn=meaning", Options(TurnSettings(end_of_turn="meaning"), "en", MONO)),
        ("end_of_turn=auto&eagerness=fast", Options(TurnSettings(end_of_turn="auto", eagerness="fast"), "en", MONO)),
        (
            "end_of_turn=meaning&end_of_turn_ms=900&eot_threshold=0.9&eot_delay_ms=400&eot_timeout_ms=3000&eager=1",
            Options(
                TurnSettings(
                    end_of_turn="meaning",
                    end_of_turn_s=0.9,
                    eot_threshold=0.9,
                    eot_delay_s=0.4,
                    eot_timeout_s=3.0,
                    eager=True,
                ),
                "en",
                MONO,
            ),
        ),
        ("language=DE", Options(TurnSettings(), "de", MONO)),
        ("language=auto", Options(TurnSettings(), None, MONO)),
    ],
)
def test_options(query: str, options: Options) -> None:
    assert parse(query) == options


@pytest.mark.parametrize(
    ("query", "text"),
    [
        (
            "samplerate=8000",
            "unknown option 'samplerate'; known: sample_rate, channels, interim_results, end_of_turn, ",
        ),
        ("channels=1&channels=2", "channels is given twice"),
        ("sample_rate=7999", "sample_rate must be a whole number from 8000 to 48000, got '7999'"),
        ("sample_rate=-1", "sample_rate must be a whole number from 8000 to 48000, got '-1'"),
        ("sample_rate=16000.0", "sample_rate must be a whole number"),
        ("sample_rate=" + "9" * 5_000, "sample_rate must be a whole number"),
        ("sample_rate=\u0661\u0666\u0660\u0660\u0660", "sample_rate must be a whole number"),
        ("channels=3", "channels must be a whole number from 1 to 2, got '3'"),
        ("interim_results=maybe", "interim_results must be one of 1, 0, true, false, got 'maybe'"),
        ("events=", "events must be one of 1, 0, true, false, got ''"),
        ("end_of_turn_ms=99", "end_of_turn_ms must be a whole number from 100 to 60000, got '99'"),
        ("pause_ms=20", "pause_ms must be a whole number from 50 to 10000, got '20'"),
        ("pause_ms=2000", "pause_ms must not exceed end_of_turn_ms, got 2000 and 1500"),
        ("end_of_turn=0.5", "end_of_turn must be one of auto, silence, meaning, got '0.5'"),
        ("eagerness=brave", "eagerness must be one of fast, medium, careful, got 'brave'"),
        ("eot_threshold=0", "eot_threshold must be a number above 0, up to 1, got '0'"),
        ("eot_threshold=nan", "eot_threshold must be a number above 0, up to 1, got 'nan'"),
        ("eot_delay_ms=5000&eot_timeout_ms=3000", "expected eot_delay_s up to eot_timeout_s (3.0), got 5.0"),
        ("eot_timeout_ms=100", "expected eot_timeout_s from pause_s (0.2) to 60 seconds, got 0.1"),
        ("eager=yes", "eager must be one of 1, 0, true, false, got 'yes'"),
        ("language=", "language must be a code like en, or auto, got ''"),
        ("language=../../etc", "language must be a code like en, or auto, got '../../etc'"),
    ],
)
def test_bad_options(query: str, text: str) -> None:
    with pytest.raises(ProtocolError) as raised:
        parse(query)
    assert raised.value.code == "bad_option"
    assert str(raised.value).startswith(text)


SPENT = Latency(0.25, 0.5, 2)
STARTED = TurnStarted(3, 16_000)
INTERIM = TranscriptChanged(3, 16_000, 32_000, "one two", 0, 3, "interim", SPENT)
PAUSED = TurnPaused(3, 40_000)
PAUSE = TranscriptChanged(3, 16_000, 44_800, "one two three", 0, 13, "pause", SPENT)
RESUMED = TurnResumed(3, 48_000)
DONE = TurnCompleted(
    3, 16_000, 40_001, "one two three", (Passage(11_200, 44_800, "one two three"),), SPENT, 64_000, "meaning"
)
WORDS = replace(DONE, words=(Word("one", 11_200, 16_000, 0.9), Word(" two three", 16_000, 44_800)))
FAILED = RecognitionFailed(3, "Traceback: secrets")
NOTHING = TurnCompleted(3, 16_000, 40_000, "", (), None, 64_000)
EMPTY = TranscriptChanged(3, 16_000, 32_000, "", 0, 0, "interim", SPENT)

PLAIN: dict[str, Any] = {"text": "one two", "isFinal": False, "isEndOfTurn": False, "turn": 3, "start": 1.0, "end": 2.0}
LATENCY = {"waited": 0.25, "decoded": 0.5, "batch": 2}


def written(events: list[Event], query: str) -> list[dict[str, Any]]:
    encoder = Encoder(parse(query))
    return [json.loads(message) for event in events if (message := encoder.encode(event)) is not None]


def test_what_a_client_of_the_predecessor_gets() -> None:
    messages = written([STARTED, INTERIM, PAUSED, PAUSE, RESUMED, DONE], "")
    assert messages[0] == {**PLAIN, "stable": 3, "committed": 0, "cause": "interim"}
    three = [(m["text"], m["isFinal"], m["isEndOfTurn"]) for m in messages]
    assert three == [("one two", False, False), ("one two three", False, False), ("one two three", True, True)]


def test_what_a_client_with_events_gets() -> None:
    messages = written([STARTED, INTERIM, PAUSED, PAUSE, RESUMED, DONE], "events=1")
    kinds = ["turn_started", "transcript", "turn_paused", "transcript", "turn_resumed", "turn_completed"]
    assert [m["type"] for m in messages] == kinds
    assert messages[0] == {"type": "turn_started", "turn": 3, "start": 1.0}
    assert messages[1] == {
        **PLAIN,
        "stable": 3,
        "committed": 0,
        "cause": "interim",
        "type": "transcript",
        "latency": LATENCY,
    }
    assert messages[2] == {"type": "turn_paused", "turn": 3, "end": 2.5}
    assert messages[4] == {"type": "turn_resumed", "turn": 3, "at": 3.0}
    assert messages[5] == {
        "text": "one two three",
        "isFinal": True,
        "isEndOfTurn": True,
        "turn": 3,
        "start": 1.0,
        "end": 2.5000625,
        "decided": 4.0,
        "why": "meaning",
        "passages": [{"start": 0.7, "end": 2.8, "text": "one two three"}],
        "type": "turn_completed",
        "latency": LATENCY,
    }


def test_words_are_told_with_events_or_without() -> None:
    told = [{"start": w.start_s, "end": w.end_s, "text": w.text, "confidence": w.confidence} for w in WORDS.words]
    assert told
    for query in ("words=1", "words=1&events=1"):
        assert [m["words"] for m in written([WORDS], query)] == [told]
        assert all("words" not in m for m in written([STARTED, INTERIM, PAUSE, DONE], query))
    asked = Native().open(Request("", (("words", "1"),)), TurnSettings(), "en")
    assert asked.recognition.words


def test_without_interims() -> None:
    assert [m["isFinal"] for m in written([STARTED, INTERIM, PAUSED, PAUSE, DONE], "interim_results=0")] == [True]
    kinds = [
        m.get("cause") or m["type"]
        for m in written([STARTED, INTERIM, PAUSED, PAUSE, DONE], "interim_results=0&events=1")
    ]
    assert kinds == ["turn_started", "turn_paused", "pause", "turn_completed"]


def test_a_turn_without_words_is_mentioned_only_if_something_was_shown() -> None:
    assert written([STARTED, EMPTY, NOTHING], "") == []
    assert [m["text"] for m in written([STARTED, INTERIM, EMPTY, NOTHING], "")] == ["one two", "", ""]
    assert [m["type"] for m in written([STARTED, EMPTY, NOTHING], "events=1")] == ["turn_started", "turn_completed"]


def test_a_failing_engine_is_told_without_details() -> None:
    assert written([FAILED], "") == [{"error": ENGINE_FAILED, "code": "engine_failed", "turn": 3}]


def test_messages_become_the_same_events_again() -> None:
    events = [STARTED, INTERIM, PAUSED, replace(PAUSED, probability=0.75), PAUSE, RESUMED, DONE, WORDS, NOTHING]
    assert [decode_event(m) for m in written(events, "events=1")] == events
    assert decode_event(written([FAILED], "")[0]) == RecognitionFailed(3, ENGINE_FAILED)
    assert decode_event({"error": "no", "code": "bad_json"}) is None
    assert decode_event({"type": "session_started", "session": "x"}) is None
    with pytest.raises(ProtocolError, match="KeyError: 'start'"):
        decode_event({"type": "turn_started", "turn": 1})


@given(st.integers(0, 2**40))
def test_times_survive_the_way_over_json(sample: int) -> None:
    message = Encoder(parse("events=1")).encode(TurnStarted(0, sample))
    assert decode_event(json.loads(message or "")) == TurnStarted(0, sample)


def an_hour(words: list[str]) -> list[Event]:
    """One turn of windows of 60 words, with an interim every 2, as `Transcript` would tell it."""
    events: list[Event] = [TurnStarted(0, 0)]
    for count in range(2, len(words) + 1, 2):
        cut = count % 60 == 0
        text, committed = " ".join(words[:count]), len(" ".join(words[: (count - 1) // 60 * 60]))
        cause = "cut" if cut else "interim"
        events.append(TranscriptChanged(0, 0, count * 5_000, text, committed, committed, cause, SPENT))
    text = " ".join(words)
    return [*events, TurnStarted(1, 2**30), TurnCompleted(0, 0, 2**29, text, (), SPENT, 2**29), *events[:3]]


@settings(deadline=None)  # each takes some 0.1 s
@given(st.sets(st.integers(0, 1_000)))
def test_committed_text_is_sent_once_whatever_a_slow_reader_skips(skipped: set[int]) -> None:
    words = [f"\u0441\u043b\u043e\u0432\u043e{n}" for n in range(1_000)]
    events = an_hour(words)
    encoder, decoder = Encoder(parse("events=1&repeat_committed=0")), EventDecoder()
    sizes, got, sent = [], [], []
    for i, event in enumerate(events):
        message = encoder.encode(event)
        assert message is not None
        if isinstance(event, TranscriptChanged) and event.cause == "interim" and i in skipped:
            continue
        sizes.append(len(message))
        got.append(decoder.decode(json.loads(message)))
        sent.append(event)
    assert got == sent
    assert max(sizes) < 6_000
    assert sum(sizes) < 40 * len(json.dumps(" ".join(words)))  # each word while its window is open, then never again


def test_a_committed_text_that_changes_all_the_same_is_sent_whole() -> None:
    cut = replace(PAUSE, cause="cut", text="one two")
    changed = replace(INTERIM, text="won two three", committed_chars=7, stable_chars=7)
    messages = written([STARTED, cut, changed], "events=1&repeat_committed=0")
    assert [(m["from"], m["text"]) for m in messages[1:]] == [(0, "one two"), (0, "won two three")]


@pytest.mark.parametrize(
    "changes",
    [
        {"turn": -1},
        {"turn": 1.5},
        {"turn": True},
        {"start": float("nan")},
        {"end": float("inf")},
        {"end": -1},
        {"end": "1"},
        {"text": None},
        {"text": ["a"]},
        {"from": 1},
        {"from": -1},
        {"committed": 99},
        {"stable": -1},
        {"cause": "whim"},
        {"cause": []},
        {"latency": []},
        {"latency": {"waited": "x", "decoded": 1, "batch": 1}},
        {"type": "turn_completed", "passages": 3},
        {"type": "turn_completed", "passages": [3]},
        {"type": "turn_completed", "passages": [], "why": "whim"},
        {"type": "turn_completed", "passages": [], "words": [[]]},
    ],
)
def test_a_message_that_is_none_is_told(changes: dict[str, Any]) -> None:
    (message,) = written([INTERIM], "events=1")
    with pytest.raises(ProtocolError, match="in "):
        EventDecoder().decode(message | changes)


def test_a_turn_may_start_before_the_one_before_has_its_final() -> None:
    """What was shown is known per turn: an empty final takes back the text of its own turn alone."""
    later = TurnStarted(1, 64_000)
    assert [m["text"] for m in written([STARTED, INTERIM, later, NOTHING], "")] == ["one two", ""]
