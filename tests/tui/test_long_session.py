"""Eight hours of talk by a fast clock: the right transcript on the screen and on disk, and memory that stays flat."""

from pathlib import Path

from stage import FAST, NOON, on_stage

from stt.events import Passage, TranscriptChanged, TurnCompleted, TurnPaused, TurnStarted
from tui import journal
from tui.document import Heard, StretchBegan
from tui.journal import Journal

TURN_S = 8
TURNS = 8 * 3600 // TURN_S


def said(turn: int) -> str:
    return f"This is turn number {turn + 1} of a long day, and there are some more words in it."


def events(turn: int) -> list[Heard]:
    start, text = turn * TURN_S * 16_000, said(turn)
    end = start + 5 * 16_000
    return [
        Heard(0, TurnStarted(turn, start)),
        Heard(0, TranscriptChanged(turn, start, end - 8000, text[:40], 0, 20, "interim", FAST)),
        Heard(0, TranscriptChanged(turn, start, end, text, 0, len(text), "pause", FAST)),
        Heard(0, TurnPaused(turn, end)),
        Heard(0, TurnCompleted(turn, start, end, text, (Passage(start, end, text),), FAST)),
    ]


def resident_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


async def test_eight_hours_end_with_the_right_transcript(tmp_path: Path):
    path = tmp_path / "day.jsonl"
    async with on_stage(journal=Journal(path)) as play:
        await play.tell(StretchBegan(0, 0, NOON))
        resident = []
        for first in range(0, TURNS, 100):
            await play.tell(*(heard for turn in range(first, first + 100) for heard in events(turn)))
            resident.append(resident_mb())
        assert play.texts == [said(turn) for turn in range(TURNS)]
        assert said(TURNS - 1)[:30] in play.screen_text
        assert "3600 turns" in play.screen_text
        last = play.app.transcript.document.blocks[-1]
        assert (last.completed.start_s, last.wall_s) == (8 * 3600 - TURN_S, NOON + 8 * 3600 - TURN_S)
        await play.press("home")
        assert said(0)[:30] in play.screen_text
        # The turns themselves take some; what is drawn or told must leave nothing behind.
        assert resident[-1] - resident[5] < 25
    kept = journal.replayed(journal.read(path)[0])
    assert [block.text for block in kept.blocks] == play.texts
