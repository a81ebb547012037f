"""Turns that end by meaning over the wire: per session, while it runs, in the words of other systems."""

import asyncio
import json
import re
import urllib.request
from collections.abc import AsyncIterator
from typing import Any, Final

import numpy as np
import pytest
from websockets.asyncio.client import connect

from judges import SAID, TALK, ByLength, enough
from scripted import LoudnessVad, ScriptedModel, tone
from serving import Running, frames, rest, said, serving
from spoken import silence
from stt.audio import Samples
from stt.client import RemoteSession
from stt.endofturn import smart_turn
from stt.endofturn.meaning import PACES
from stt.endofturn.texts import read
from stt.events import Event, Latency, Passage, TranscriptChanged, TurnCompleted, TurnPaused, TurnResumed, TurnStarted
from stt.recognition import LocalRecognizer
from stt.server.dialect import Request
from stt.server.dialects.flux import Flux
from stt.server.dialects.openai_session import SessionConfig
from stt.session import Session
from stt.settings import TurnSettings

SURE = np.concatenate([tone(1.2), silence(4)])
UNSURE = np.concatenate([tone(0.5), silence(4)])
AUTO = TurnSettings(end_of_turn="auto")
YES: Final = ScriptedModel(lambda _: SAID)


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> ByLength:
    judge = ByLength()
    monkeypatch.setattr(smart_turn, "shared", lambda: judge)
    monkeypatch.setattr("stt.endofturn.pauses._PATIENCE_S", 60.0)  # a busy machine changes nothing
    return judge


async def heard(running: Running, query: str, *parts: Samples | dict[str, Any]) -> list[dict[str, Any]]:
    async with running.connect(query) as websocket:
        for part in parts:
            for frame in [json.dumps(part)] if isinstance(part, dict) else frames(part, 512):
                await websocket.send(frame)
        await websocket.send('{"type":"finish"}')
        return await rest(websocket)


def ends(messages: list[dict[str, Any]]) -> list[tuple[str, Any]]:
    """Why turns ended, and after how much silence; a policy answers while 0.2 s and two frames come in."""
    finals = [message for message in messages if message.get("isFinal")]
    return [(final["why"], pytest.approx(final["decided"] - final["end"] - 0.15, abs=0.2)) for final in finals]


MEDIUM, CAREFUL = enough(PACES["medium"]), enough(PACES["careful"])


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ("meaning", MEDIUM)),
        ("&eagerness=fast", ("meaning", enough(PACES["fast"]))),
        ("&eagerness=careful", ("meaning", CAREFUL)),
        ("&eot_delay_ms=1000", ("meaning", 1.0)),
        ("&end_of_turn=silence", ("silence", 1.5)),
        ("&end_of_turn_ms=500", ("silence", 0.5)),
    ],
)
async def test_each_session_says_what_ends_its_turns(judge: ByLength, query: str, expected: tuple[str, float]) -> None:
    async with serving(YES, turns=AUTO) as running:
        assert ends(await heard(running, f"?events=1{query}", SURE)) == [expected]


async def test_it_changes_while_the_session_runs(judge: ByLength) -> None:
    async with serving(YES) as running:
        configure = {"type": "configure", "end_of_turn": "meaning", "eagerness": "careful", "eager": True}
        messages = await heard(
            running, "?events=1", SURE, configure, SURE, {"type": "configure", "end_of_turn_ms": 300}, SURE
        )
    assert ends(messages) == [("silence", 1.5), ("meaning", CAREFUL), ("silence", 0.3)]
    assert [m["command"] for m in messages if m.get("type") == "acknowledged"] == ["configure", "configure"]
    assert any("probability" in m for m in messages)


class Everything:
    def __init__(self) -> None:
        self.events: list[Event] = []

    async def __call__(self, event: Event) -> None:
        self.events.append(event)

    @property
    def turns(self) -> list[Any]:
        """What does not depend on how soon the policy has its answer."""
        finals = [(e.turn, e.start, e.end, e.text, e.why) for e in self.events if isinstance(e, TurnCompleted)]
        return [finals, [e for e in self.events if isinstance(e, TurnStarted | TurnResumed)]]

    @property
    def probabilities(self) -> list[float]:
        return [e.probability for e in self.events if isinstance(e, TurnPaused) and e.probability is not None]


@pytest.mark.parametrize("settings", [AUTO, TurnSettings(end_of_turn="meaning", eagerness="careful", eager=True)])
async def test_a_remote_session_has_the_events_of_one_in_process(judge: ByLength, settings: TurnSettings) -> None:
    async def source() -> AsyncIterator[Samples]:
        for at in range(0, len(TALK), 512):
            yield TALK[at : at + 512]
            await asyncio.sleep(0.001)

    here, there = Everything(), Everything()
    with LocalRecognizer(YES) as recognizer:
        await Session(recognizer, LoudnessVad(), settings=settings).run(source(), here)  # type: ignore[arg-type]
    async with serving(YES) as running:
        await RemoteSession(running.ws, settings=settings).run(source(), there)
    assert there.turns == here.turns
    for told in (here, there):
        assert len(told.probabilities) >= 3
        assert all(0 < p < 1 for p in told.probabilities)


@pytest.mark.parametrize("end", ["finish", "flush", "drain"])
async def test_an_end_that_is_asked_for_does_not_wait_for_the_meaning(judge: ByLength, end: str) -> None:
    """In the middle of a pause that the policy would have go on."""
    async with serving(turns=AUTO) as running, running.connect("?events=1") as websocket:
        for frame in frames(np.concatenate([tone(0.5), silence(0.9)])):
            await websocket.send(frame)
        while "probability" not in await said(websocket):
            pass
        if end == "drain":
            running.server.stop()
        else:
            await websocket.send(f'{{"type": "{end}"}}')
        messages = [await said(websocket)]
        while not messages[-1].get("isFinal"):
            messages.append(await said(websocket))
    [final] = [message for message in messages if message.get("isFinal")]
    assert (final["why"], final["text"] != "") == ("asked" if end == "flush" else "stream ended", True)


async def figures(running: Running) -> dict[str, float]:
    page = await asyncio.to_thread(lambda: urllib.request.urlopen(f"{running.http}/metrics").read().decode())
    return {name: float(value) for name, value in re.findall(r"^(stt_turn\S+) (\S+)$", page, re.MULTILINE)}


async def test_under_overload_silence_and_text_decide_and_the_figures_tell(judge: ByLength) -> None:
    async with serving(YES, turns=TurnSettings(end_of_turn="auto", end_of_turn_s=1.2)) as running:
        judge.busy = True
        assert ends(await heard(running, "?events=1", SURE)) == [
            ("meaning", PACES["medium"].enough_s(None, read(SAID)))
        ]
        judge.busy = False
        assert ends(await heard(running, "?events=1", SURE)) == [("meaning", MEDIUM)]
        shown = await figures(running)
    assert shown['stt_turns_ended_total{why="meaning"}'] == 2
    for outcome in ("answered", "refused", "late", "overtaken", "failed"):
        assert f'stt_turn_asks_total{{outcome="{outcome}"}}' in shown
    assert {"stt_turn_ask_seconds_sum", "stt_turn_asks_waiting", "stt_turn_ask_compute_seconds_total"} <= shown.keys()


async def test_without_weights_auto_is_silence_for_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smart_turn, "shared", lambda: None)
    async with serving(turns=AUTO) as running:
        assert running.service.turns == TurnSettings()
        assert ends(await heard(running, "?events=1", SURE)) == [("silence", 1.5)]


# in the words of other systems


@pytest.mark.parametrize(
    ("eagerness", "expected"), [("low", "careful"), ("medium", "medium"), ("high", "fast"), ("auto", "careful")]
)
def test_realtime_s_eagerness_is_the_policy_s(eagerness: str, expected: Any) -> None:
    config = SessionConfig.new(None).updated(
        {"audio": {"input": {"turn_detection": {"type": "semantic_vad", "eagerness": eagerness}}}}
    )
    server = TurnSettings(end_of_turn="auto", eagerness="careful", eot_threshold=0.9)
    turns = config.turns(server)
    assert (turns.end_of_turn, turns.eagerness) == ("auto", expected)
    assert turns.eot_threshold == (0.9 if eagerness == "auto" else None), "the server's own go with its own"
    assert config.turns(TurnSettings()).end_of_turn == "silence"


def test_realtime_s_server_vad_is_silence_whatever_the_server_does() -> None:
    turns = SessionConfig.new(None).turns(AUTO)
    assert (turns.end_of_turn, turns.end_of_turn_s) == ("silence", 0.5)


def flux(turns: TurnSettings, **query: str) -> tuple[Flux, TurnSettings]:
    dialect = Flux()
    return dialect, dialect.open(Request("id", tuple(query.items())), turns, "en").turns


def test_flux_s_thresholds_are_the_policy_s() -> None:
    _, turns = flux(AUTO, eot_threshold="0.9", eager_eot_threshold="0.4", eot_timeout_ms="3000")
    assert (turns.end_of_turn, turns.eot_threshold, turns.eot_delay_s) == ("auto", 0.9, 0.8)
    assert (turns.eot_timeout_s, turns.eager) == (3.0, True)
    assert not flux(AUTO)[1].eager
    assert flux(AUTO, eot_threshold="1.0")[1].end_of_turn == "silence"
    assert flux(AUTO, eot_timeout_ms="500")[1].eot_delay_s == 0.5
    assert flux(TurnSettings(), eot_threshold="0.9")[1] == TurnSettings(end_of_turn_s=1.5)


def told(flux: Flux, *items: Any) -> list[dict[str, Any]]:
    return [json.loads(frame) for item in items for frame in flux.encode(item)]


def short(messages: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(message["event"], message["transcript"]) for message in messages]


def text(words: str, cause: Any = "interim", end: int = 16_000) -> TranscriptChanged:
    return TranscriptChanged(0, 0, end, words, 0, 0, cause, Latency(0, 0, 1))


def final(words: str, decided: int) -> TurnCompleted:
    return TurnCompleted(0, 0, 16_000, words, (Passage(0, 16_000, words),), None, decided, "meaning")


def test_flux_s_early_end_comes_with_the_probability_that_was_asked_for() -> None:
    dialect, _ = flux(AUTO, eager_eot_threshold="0.6")
    messages = told(
        dialect, TurnStarted(0, 0), text("One"), TurnPaused(0, 16_000), text("One.", "pause"),
        TurnPaused(0, 16_000, 0.5), TurnPaused(0, 16_000, 0.65), TurnPaused(0, 16_000, 0.9),
        TurnResumed(0, 20_000), TurnPaused(0, 30_000), TurnPaused(0, 30_000, 0.9),
        text("One two.", "pause", 30_000), final("One two.", 40_000),
    )  # fmt: skip
    assert short(messages) == [
        ("StartOfTurn", "One"), ("Update", "One."), ("EagerEndOfTurn", "One."), ("TurnResumed", "One."),
        ("EagerEndOfTurn", "One two."), ("EndOfTurn", "One two."),
    ]  # fmt: skip
    confidences = [m["end_of_turn_confidence"] for m in messages if m["event"] in ("EagerEndOfTurn", "EndOfTurn")]
    assert confidences == [0.65, 0.9, 0.9]
    assert messages[-1]["trigger"] == "model"


def test_flux_s_time_out_is_none_of_the_model_s_ends() -> None:
    dialect, _ = flux(AUTO, eot_timeout_ms="2000")
    [*_, end] = told(dialect, text("One"), final("One", 48_000))
    assert end["trigger"] == "timeout"


async def test_flux_over_the_wire(judge: ByLength) -> None:
    async with serving(YES, turns=AUTO) as running:
        url = f"{running.ws.rpartition('/ws')[0]}/v2/listen?model=flux-general-en&encoding=linear16&sample_rate=16000"
        async with connect(f"{url}&eager_eot_threshold=0.5", compression=None) as websocket:
            for frame in frames(np.concatenate([tone(1.5), silence(3)]), 512):
                await websocket.send(frame)
                await asyncio.sleep(0.001)
            await websocket.send('{"type":"CloseStream"}')
            messages = await rest(websocket)
    early, end = [message for message in messages if message.get("event") in ("EagerEndOfTurn", "EndOfTurn")]
    assert (early["event"], end["event"], end["trigger"]) == ("EagerEndOfTurn", "EndOfTurn", "model")
    assert early["end_of_turn_confidence"] >= 0.5
