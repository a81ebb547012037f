"""`stt bench --turns`: what counts as cut off, and how late ends are, on turns made for it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from scripted import tone
from serving import serving
from spoken import silence
from stt.errors import RemoteError, SettingsError
from stt.turnbench import WIRES, Pause, Score, Spoken, read, score, spread, wire_of

TALK = np.concatenate([tone(0.4), silence(1.6), tone(0.4), silence(0.3)])
PAUSES = [{"start": 0.4, "dur": 1.6, "final": False}, {"start": 2.4, "dur": 2.0, "final": True}]


@pytest.fixture
def benchmark(tmp_path: Path) -> Path:
    """One turn with a pause of 1.6 s, said by two."""
    rows = [{"id": name, "group": name, "pauses": PAUSES} for name in ("a", "b")]
    (tmp_path / "turns.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name in ("a", "b"):
        soundfile.write(tmp_path / f"{name}.opus", TALK, 16_000, format="OGG", subtype="OPUS")
    return tmp_path


@pytest.mark.parametrize(("silence_ms", "cut_off", "latency_s"), [(400, 1.0, 0.4), (2000, 0.0, 2.0)])
async def test_a_server_is_scored_live(benchmark: Path, silence_ms: int, cut_off: float, latency_s: float) -> None:
    turns = await read(benchmark)
    async with serving() as running:
        found = await score(turns, f"{running.ws}?end_of_turn_ms={silence_ms}", sessions=2, speed=4)
    figures = found.figures()
    assert (figures["turns"], figures["holds"], figures["not_ended"]) == (2, 2, 0)
    assert (figures["cut_off"], figures["turns_cut_off"], figures["cut_off_95"]) == (cut_off, cut_off, [cut_off] * 2)
    assert latency_s - 0.1 < figures["latency_s"] < latency_s + 1.5
    assert figures["finals"] >= 2
    assert 0 <= figures["final_s_p50"] <= figures["final_s_p95"] < 1.5
    first = json.loads(found.traces().splitlines()[0])
    assert [pause["final"] for pause in first["pauses"]] == [False, True]
    assert (first["pauses"][0]["fire"] is None) == (not cut_off)


@pytest.mark.parametrize("path", ["/v2/listen?eot_threshold=0.5", "/v1/realtime"])
async def test_other_dialects_are_scored_by_their_own_words(benchmark: Path, path: str) -> None:
    turns = (await read(benchmark))[:1]
    async with serving() as running:
        found = await score(turns, f"ws://127.0.0.1:{running.port}{path}", speed=4)
    assert found.figures()["not_ended"] == 0


def test_a_final_is_there_when_it_comes_with_the_decision() -> None:
    found = Score([Spoken("x", "x", (Pause(1.0, 2.0, True, True),), silence(0))], behind_s=[0.01, 0.02, 0.05, 0.3])
    found.take(found.turns[0], [1.6])
    figures = found.figures()
    assert (figures["finals"], figures["finals_there"], figures["final_s_p50"]) == (4, 0.75, 0.035)
    found.behind_s = []
    assert "finals" not in found.figures(), "not told by this kind of server"


def test_some_turns_are_spread_over_all() -> None:
    turns = [Spoken(str(n), "x", (), silence(0)) for n in range(10)]
    assert [turn.id for turn in spread(turns, 4)] == ["0", "2", "5", "7"]
    assert spread(turns, None) == spread(turns, 99) == turns


def test_pauses_count_as_the_metrics_say() -> None:
    pauses = (
        Pause(1.0, 0.1, False, True),  # too short to be one
        Pause(2.0, 0.5, False, True),
        Pause(3.0, 0.5, False, False),  # not scored
        Pause(5.0, 2.0, True, True),
    )
    found = Score([Spoken("x", "x", pauses, silence(0)), Spoken("y", "y", pauses, silence(0))])
    found.take(found.turns[0], [1.05, 2.3, 5.7])
    found.take(found.turns[1], [])
    figures = found.figures()
    assert (figures["holds"], figures["cut_off"], figures["turns_cut_off"]) == (2, 0.5, 0.5)
    assert (figures["latency_s"], figures["not_ended"]) == (pytest.approx((0.7 + 4) / 2), 1)


def test_the_url_says_what_is_spoken_and_its_query_wins() -> None:
    wire, url = wire_of("ws://box:1/v2/listen?model=mine")
    assert wire is WIRES["/v2/listen"]
    assert "model=mine" in url
    assert "encoding=linear16" in url
    assert wire_of("ws://box:1")[1].startswith("ws://box:1/ws/transcribe?")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, "expected a directory with turns.jsonl, got"),
        ("", "expected turns, got none"),
        ("{", "expected a turn a line"),
        ('{"id": "a"}', "expected a turn a line"),
    ],
)
async def test_what_is_no_benchmark_is_told(tmp_path: Path, content: Any, text: str) -> None:
    if content is not None:
        (tmp_path / "turns.jsonl").write_text(content)
    with pytest.raises(SettingsError, match=text):
        await read(tmp_path)


async def test_a_server_that_refuses_or_is_not_there_is_told(benchmark: Path) -> None:
    turns = (await read(benchmark))[:1]
    async with serving(api_keys=("key",)) as running:
        with pytest.raises(RemoteError, match="refused with HTTP 401"):
            await score(turns, running.ws)
    with pytest.raises(RemoteError, match=r"ws://127\.0\.0\.1:9/ws/transcribe"):
        await score(turns, "ws://127.0.0.1:9")
