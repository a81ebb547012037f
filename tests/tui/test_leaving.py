"""Leaving: with `q` or by a signal, the running turn gets its final or is kept as what it is, and it is said."""

import asyncio
import os
import signal
from pathlib import Path

import pytest
from stage import FAST, Play, on_stage

from stt.events import TranscriptChanged, TurnCompleted, TurnStarted
from tui import journal
from tui.journal import Journal


async def almost(play: Play) -> None:
    """A turn runs, and its final takes its time."""
    await play.open()
    play.backend.closes_itself = False
    await play.hear(TurnStarted(0, 0), TranscriptChanged(0, 0, 16_000, "almost", 0, 0, "interim", FAST))


async def after(play: Play, seconds: float) -> None:
    play.app.clock_s += seconds
    await asyncio.sleep(0.55)  # the countdown's timer
    await play.settle()


async def test_q_waits_for_the_final_and_counts_down(tmp_path: Path):
    async with on_stage(journal=Journal(tmp_path / "a.jsonl")) as play:
        await almost(play)
        await play.press("q")
        assert play.backend.asked[-1] == "close"
        assert "Finishing the last turn · 60 s" in play.screen_text
        await after(play, 40)
        assert "Finishing the last turn · 20 s" in play.screen_text
        await play.hear(TurnCompleted(0, 0, 20_000, "Almost done.", (), FAST))
        assert play.app.is_running
        play.backend.end()
        await play.settle()
    assert not play.app.is_running
    assert not play.app.broken_off
    assert [block.unfinished for block in play.app.transcript.document.finals] == [False]


@pytest.mark.parametrize("hurried", [True, False])
async def test_a_turn_that_is_left_stays_with_its_words_and_says_that_it_is_not_finished(
    tmp_path: Path, *, hurried: bool
):
    async with on_stage(journal=Journal(tmp_path / "a.jsonl")) as play:
        await almost(play)
        await play.press("q")
        if hurried:
            await play.press("q")
        else:
            await after(play, 60)
    assert not play.app.is_running
    assert play.app.broken_off
    assert (tmp_path / "a.jsonl").read_text().splitlines()[-1].endswith('"is":"Unfinished","stretch":0,"turn":0}')
    resumed = journal.replayed(journal.read(tmp_path / "a.jsonl")[0])
    assert [(block.text, block.state, block.unfinished) for block in resumed.blocks] == [("almost", "final", True)]
    async with on_stage(document=resumed) as play:
        assert "almost [not finished]" in play.screen_text
        await play.press("c")
        assert play.app.copied == ["almost"]


async def test_every_turn_whose_final_is_still_to_come_is_kept_as_unfinished(tmp_path: Path):
    async with on_stage(journal=Journal(tmp_path / "a.jsonl")) as play:
        await almost(play)
        await play.hear(TurnStarted(1, 50_000), TranscriptChanged(1, 50_000, 60_000, "more", 0, 0, "interim", FAST))
        await play.press("q", "q")
    resumed = journal.replayed(journal.read(tmp_path / "a.jsonl")[0])
    assert [(block.text, block.unfinished) for block in resumed.blocks] == [("almost", True), ("more", True)]


async def test_a_turn_without_words_leaves_nothing_and_nothing_is_said(tmp_path: Path):
    async with on_stage(journal=Journal(tmp_path / "a.jsonl")) as play:
        await play.open()
        play.backend.closes_itself = False
        await play.hear(TurnStarted(0, 0))
        await play.press("q", "q")
    assert not play.app.broken_off
    assert play.app.transcript.document.blocks == []


async def test_a_backend_that_has_ended_by_itself_is_not_waited_for():
    async with on_stage() as play:
        await play.open()
        play.backend.end()
        play.backend.closes_itself = False
        await play.press("q")
    assert not play.app.is_running


async def test_sigterm_leaves_with_the_final_if_it_comes_soon(tmp_path: Path):
    async with on_stage(journal=Journal(tmp_path / "a.jsonl")) as play:
        await almost(play)
        os.kill(os.getpid(), signal.SIGTERM)
        await play.settle()
        assert play.backend.asked[-1] == "close"
        await play.hear(TurnCompleted(0, 0, 20_000, "Almost done.", (), FAST))
        play.backend.end()
        await play.settle()
    assert (play.app.return_code, play.app.broken_off) == (143, False)


@pytest.mark.parametrize("signals", [(signal.SIGHUP,), (signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, None)])
async def test_signals_leave_in_time_and_keep_the_words(signals: tuple[signal.Signals | None, ...], tmp_path: Path):
    async with on_stage(journal=Journal(tmp_path / "a.jsonl")) as play:
        await almost(play)
        for number in signals:
            if number is None:
                await after(play, 2)
            else:
                os.kill(os.getpid(), number)
                await play.settle()
    assert signals[0] is not None
    assert (play.app.return_code, play.app.broken_off) == (128 + signals[0], True)
    assert journal.replayed(journal.read(tmp_path / "a.jsonl")[0]).blocks[0].unfinished
