"""Deepgram's Flux on the wire, byte for byte as a client reads it, and with its own SDK."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from scripted import ScriptedModel, tone
from serving import Running, frames, rest, serving
from spoken import silence
from stt.events import Latency, Passage, TranscriptChanged, TurnCompleted, TurnPaused, TurnResumed, TurnStarted
from stt.recognition import Utterance
from stt.server.dialect import Answer, Malformed, Opened, Request, Tick
from stt.server.dialects.flux import Flux
from stt.settings import TurnSettings


def opened(**query: str) -> Flux:
    flux = Flux()
    flux.open(Request("id", tuple(query.items())), TurnSettings(), "en")
    return flux


def told(flux: Flux, *items: Any) -> list[dict[str, Any]]:
    return [json.loads(frame) for item in items for frame in flux.encode(item)]


def text(words: str, cause: Any = "interim", turn: int = 0, end: int = 16_000) -> TranscriptChanged:
    return TranscriptChanged(turn, 0, end, words, 0, 0, cause, Latency(0, 0, 1))


def final(words: str, why: Any = "silence", turn: int = 0) -> TurnCompleted:
    return TurnCompleted(turn, 0, 16_000, words, (Passage(0, 16_000, words),), None, 28_800, why)


def short(messages: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(message.get("event", message["type"]), message.get("transcript", "")) for message in messages]


def test_a_turn_begins_with_its_first_words_and_a_cough_is_none() -> None:
    flux = opened()
    messages = told(
        flux, Opened(), TurnStarted(0, 0), final(""), TurnStarted(1, 0), text("", turn=1), text("One", turn=1),
        text("One two", turn=1), TurnPaused(1, 16_000), text("One two", "pause", turn=1), final("One two", turn=1),
    )  # fmt: skip
    assert short(messages) == [
        ("Connected", ""), ("StartOfTurn", "One"), ("Update", "One two"), ("Update", "One two"),
        ("EndOfTurn", "One two"),
    ]  # fmt: skip
    assert [message["sequence_id"] for message in messages] == list(range(5))
    assert [message.get("trigger") for message in messages] == [None] * 4 + ["model"]
    assert {message["turn_index"] for message in messages[1:]} == {0}
    for message in messages[1:]:
        assert " ".join(word["word"] for word in message["words"]) == message["transcript"]
    assert messages[-1]["end_of_turn_confidence"] >= 0.7


def test_what_was_sent_early_is_the_final_or_is_taken_back() -> None:
    flux = opened(eager_eot_threshold="0.5")
    messages = told(
        flux, TurnStarted(0, 0), text("One"), TurnPaused(0, 16_000), text("One.", "pause"), Tick(1.0), Tick(1.25),
        TurnResumed(0, 20_000), text("One two"), text("One two.", "pause"), final("One two."),
    )  # fmt: skip
    assert short(messages) == [
        ("StartOfTurn", "One"), ("EagerEndOfTurn", "One."), ("Update", "One."), ("TurnResumed", "One."),
        ("Update", "One two"), ("EagerEndOfTurn", "One two."), ("EndOfTurn", "One two."),
    ]  # fmt: skip
    again = told(flux, text("A", turn=1), text("A b", "pause", turn=1), final("A c", turn=1), final("D", turn=2))
    events = ["StartOfTurn", "EagerEndOfTurn", "TurnResumed", "EagerEndOfTurn", "EndOfTurn"]
    assert [message["event"] for message in again] == [*events, "StartOfTurn", "EagerEndOfTurn", "EndOfTurn"]
    assert [message["turn_index"] for message in again] == [1] * 5 + [2] * 3


@pytest.mark.parametrize(
    ("why", "query", "trigger"),
    [
        ("asked", {}, "manual"), ("stream ended", {}, "manual"), ("silence", {}, "model"), ("meaning", {}, "model"),
        ("silence", {"eot_threshold": "1.0"}, "timeout"), ("silence", {"eot_timeout_ms": "500"}, "timeout"),
    ],
)  # fmt: skip
def test_each_end_says_what_triggered_it(why: str, query: dict[str, str], trigger: str) -> None:
    assert [m.get("trigger") for m in told(opened(**query), final("One", why))] == [None, trigger]


def test_settings_change_whole_or_not_at_all() -> None:
    flux = opened()
    bad = '{"type":"Configure","thresholds":{"eot_threshold":0.6,"eager_eot_threshold":0.8},"keyterms":["x"]}'
    (failure,) = told(flux, *flux.decode(bad))
    assert (failure["type"], failure["code"]) == ("ConfigureFailure", failure["error_code"])
    good = '{"type":"Configure","thresholds":{"eager_eot_threshold":0.4},"keyterms":"Strops"}'
    control, answer = flux.decode(good)
    assert control.options.terms == ("Strops",)  # type: ignore[union-attr]
    (success,) = told(flux, answer)
    assert success["thresholds"] == {"eot_threshold": 0.7, "eager_eot_threshold": 0.4, "eot_timeout_ms": 5000}
    assert success["keyterms"] == ["Strops"]


@pytest.mark.parametrize("frame", ["", "[]", "{", '{"type":"KeepAlive"}', '{"type":[]}', "\ud800"])
def test_a_text_that_is_not_understood_is_fatal(frame: str) -> None:
    flux = opened()
    (wrong,) = flux.decode(frame)
    assert isinstance(wrong, Malformed)
    assert wrong.fatal
    (message,) = told(flux, wrong)
    assert (message["type"], message["code"]) == ("Error", "UNPARSABLE_CLIENT_MESSAGE")


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=8,
)
configure = st.fixed_dictionaries(
    {"type": st.sampled_from(["Configure", "ForceEndTurn", "CloseStream"]) | anything},
    optional={
        "thresholds": st.dictionaries(
            st.sampled_from(["eot_threshold", "eager_eot_threshold", "eot_timeout_ms"]),
            st.sampled_from([0.5, 0.9, 1, "0.6", 1e999, -1, 10**400, 700]) | anything,
        )
        | anything,
        "keyterms": st.lists(st.text(max_size=9), max_size=3) | anything,
    },
)


@settings(max_examples=5_000, deadline=None, database=None)
@given(st.lists(st.text(max_size=30) | st.binary(max_size=30) | (configure | anything).map(json.dumps), max_size=6))
def test_any_sequence_of_frames_is_answered_in_this_dialect(given: list[str | bytes]) -> None:
    flux = opened()
    commands = [command for frame in given for command in flux.decode(frame)]
    answers = told(flux, *(command for command in commands if isinstance(command, Answer | Malformed)))
    assert [message["sequence_id"] for message in answers] == list(range(len(answers)))
    assert {message["type"] for message in answers} <= {"ConfigureSuccess", "ConfigureFailure", "Error"}


def talking(running: Running, query: str = "", **more: Any) -> connect:
    url = f"ws://127.0.0.1:{running.port}/v2/listen?model=flux-general-en&encoding=linear16&sample_rate=16000{query}"
    return connect(url, compression=None, ping_interval=None, **more)


async def test_a_session_on_the_wire() -> None:
    model = ScriptedModel(lambda _: "One two.")
    async with serving(model) as running, talking(running, "&eager_eot_threshold=0.4&unknown=1") as websocket:
        assert websocket.response is not None
        assert websocket.response.headers["dg-request-id"]
        for frame in frames(np.concatenate([tone(1), silence(1.2), tone(0.6)]), 501):
            await websocket.send(frame)
        await websocket.send('{"type":"ForceEndTurn"}')
        await websocket.send('{"type":"CloseStream"}')
        messages = await rest(websocket)
        assert websocket.close_code == 1000
    assert [message["sequence_id"] for message in messages] == list(range(len(messages)))
    events = [m["event"] for m in messages[1:] if m["event"] != "Update"]
    assert events == ["StartOfTurn", "EagerEndOfTurn", "EndOfTurn", "StartOfTurn", "EndOfTurn"]
    assert [m["trigger"] for m in messages if "trigger" in m] == ["model", "manual"]
    ends = [m["audio_window_end"] for m in messages[1:]]
    assert ends == sorted(ends)


@pytest.mark.parametrize(
    "query", ["&eot_threshold=0.2", "&eot_timeout_ms=1", "&eager_eot_threshold=0.8", "&sample_rate=x", "&encoding=g729"]
)
async def test_an_impossible_option_is_refused_in_the_handshake(query: str) -> None:
    async with serving(api_keys=("key",)) as running:
        for key, status in (("key", 400), ("no", 401)):
            with pytest.raises(InvalidStatus) as refused:
                await talking(running, query, additional_headers={"Authorization": f"token {key}"})
            assert refused.value.response.status_code == status
            assert set(json.loads(refused.value.response.body)) == {"err_code", "err_msg", "request_id"}


@pytest.mark.parametrize("first", ["{", '{"type":"CloseStream"}'])
async def test_after_the_end_no_mistake_is_told(first: str) -> None:
    async with serving() as running, talking(running) as websocket:
        for frame in (first, "{", '{"type":"x"}'):
            await websocket.send(frame)
        messages = await rest(websocket)
    assert [message["type"] for message in messages] == ["Connected", *(["Error"] if first == "{" else [])]


async def test_an_end_that_is_forced_where_nobody_speaks_is_none() -> None:
    async with serving(ScriptedModel(lambda _: "")) as running, talking(running) as websocket:
        for sound in (silence(0.5), np.concatenate([tone(0.4), silence(1.5)])):  # a cough is no turn
            for frame in frames(sound):
                await websocket.send(frame)
            await websocket.send('{"type":"ForceEndTurn"}')
        await websocket.send('{"type":"CloseStream"}')
        assert [message["type"] for message in await rest(websocket)] == ["Connected"]


async def test_an_engine_that_fails_is_a_warning_and_the_next_turn_is_heard() -> None:
    def hear(utterance: Utterance) -> str:
        if utterance.speech_s and utterance.key.turn == 0:
            raise RuntimeError("secret words")
        return "One."

    async with serving(ScriptedModel(hear)) as running, talking(running) as websocket:
        for frame in frames(np.concatenate([tone(1), silence(1.5), tone(1)])):
            await websocket.send(frame)
        await websocket.send('{"type":"CloseStream"}')
        messages = await rest(websocket)
        assert websocket.close_code == 1000
    (warning,) = [message for message in messages if message["type"] == "Warning"]
    assert set(warning) == {"type", "request_id", "sequence_id", "code", "description"}
    assert "secret" not in json.dumps(messages)
    assert [(m["turn_index"], m["transcript"]) for m in messages if m.get("event") == "EndOfTurn"] == [(0, "One.")]
