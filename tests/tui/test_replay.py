"""Playing back: clock, speed, winding, holding. Records half a second apart are played at many times that speed."""

import queue
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from stage import NOON, on_stage, spoken

from stt.events import TurnCompleted
from tui.condition import Options
from tui.document import Document, Heard, Record, StretchBegan
from tui.replay import Replay
from tui.updates import Closed, InputEnded, InputOpen, InputPaused, Played, Player, Position, Update, Wound

RECORDS: list[Record] = [
    StretchBegan(0, 0, NOON),
    *(Heard(0, event) for turn in range(3) for event in spoken(turn, f"Turn {turn}.", 4.0 * turn)),
]


class Clock:
    """Runs so much faster than time that nothing has to be waited for."""

    def __init__(self) -> None:
        self._now_s = 0.0

    def __call__(self) -> float:
        self._now_s += 0.1
        return self._now_s


class Viewer:
    def __init__(self) -> None:
        self.document = Document()
        self.news: queue.Queue[Update] = queue.Queue()
        self.positions: list[float] = []

    def __call__(self, update: Update) -> None:
        match update:
            case Played(record):
                self.document.apply(record)
            case Wound(records):
                self.document = Document()
                for record in records:
                    self.document.apply(record)
            case Position(at_s):
                self.positions.append(at_s)
            case _:
                pass
        self.news.put(update)

    def wait(self, kind: type) -> Any:
        while not isinstance(update := self.news.get(timeout=10), kind):
            pass
        return update

    @property
    def texts(self) -> list[str]:
        return [block.text for block in self.document.finals]


@contextmanager
def playing(records: list[tuple[float, Record]], **more: Any) -> Iterator[tuple[Replay, Viewer]]:
    replay, viewer = Replay("a", records, monotonic=Clock(), **more), Viewer()
    replay.start(viewer)
    try:
        yield replay, viewer
    finally:
        replay.close()
        viewer.wait(Closed)
        assert replay.join(5)


def timed(step_s: float = 0.01) -> list[tuple[float, Record]]:
    return [(step_s * i, record) for i, record in enumerate(RECORDS)]


def test_its_clock_runs_to_the_end():
    with playing(timed()) as (_, viewer):
        assert viewer.wait(InputOpen).name == "a"
        viewer.wait(InputEnded)
        assert viewer.texts == ["Turn 0.", "Turn 1.", "Turn 2."]
        assert viewer.positions[0] == 0.0
        assert viewer.positions == sorted(viewer.positions)
        assert viewer.positions[-1] == pytest.approx(0.12)


def test_long_waits_are_cut_short():
    with playing([(0.0, RECORDS[0]), (3600.0, RECORDS[1])], at_end=True) as (_, viewer):
        assert viewer.wait(Position).length_s == 5.0


def test_the_end_can_be_looked_at_at_once_and_played_from_the_beginning():
    with playing(timed(), at_end=True) as (replay, viewer):
        viewer.wait(InputEnded)
        assert viewer.texts == ["Turn 0.", "Turn 1.", "Turn 2."]
        replay.listen(on=True)
        assert viewer.wait(Wound).records == (RECORDS[0],)
        viewer.wait(InputEnded)
        assert viewer.texts == ["Turn 0.", "Turn 1.", "Turn 2."]


def test_winding_shows_what_had_been_said_by_then_and_goes_on():
    with playing(timed(1.0), at_end=True) as (replay, viewer):
        viewer.wait(InputEnded)
        replay.wind(-8.0)  # of 12 s: the first turn was just finished
        assert len(viewer.wait(Wound).records) == 5
        viewer.wait(InputOpen)
        replay.wind(-100.0)
        assert viewer.wait(Wound).records == (RECORDS[0],)
        replay.wind(100.0)
        viewer.wait(InputEnded)
        assert viewer.texts == ["Turn 0.", "Turn 1.", "Turn 2."]


def test_it_is_held_and_goes_on():
    with playing(timed(30.0)) as (replay, viewer):  # 5 s each, which nobody waits for
        viewer.wait(InputOpen)
        replay.listen(on=False)
        viewer.wait(InputPaused)
        replay.listen(on=True)
        viewer.wait(InputOpen)


def test_its_speed_has_bounds():
    with playing(timed(30.0)) as (replay, viewer):
        replay.change_speed(2)
        while viewer.wait(Position).speed != 2:
            pass
        replay.change_speed(1e9)
        while viewer.wait(Position).speed != 16:
            pass
        replay.change_speed(1e-9)
        while viewer.wait(Position).speed != 0.25:
            pass
        assert isinstance(replay, Player)


def test_an_empty_session_ends_at_once():
    with playing([]) as (_, viewer):
        viewer.wait(InputEnded)


async def test_keys_wind_and_change_the_speed_and_the_screen_shows_where_it_is():
    async with on_stage(options=Options(replay=True)) as play:
        asked: list[tuple[str, float]] = []
        play.backend.wind = lambda by_s: asked.append(("wind", by_s))  # type: ignore[attr-defined]
        play.backend.change_speed = lambda factor: asked.append(("speed", factor))  # type: ignore[attr-defined]
        await play.tell(InputOpen("a", 16_000), *(Played(record) for record in RECORDS))
        await play.press("left", "right", "plus", "minus")
        assert asked == [("wind", -10), ("wind", 10), ("speed", 2), ("speed", 0.5)]
        await play.tell(Position(65.0, 190.0, 2.0))
        assert "1:05/3:10 x2" in play.screen_text
        assert "▶ playing" in play.screen_text
        await play.tell(Wound(tuple(RECORDS[:5])))
        assert play.texts == ["Turn 0."]
        assert "Turn 2." not in play.screen_text
        await play.press("space")
        assert play.backend.asked[-1] == ("listen", False)
        assert "‖ held" in play.screen_text
        assert "mic" not in play.screen_text.lower()
        await play.tell(InputOpen("a", 16_000), InputEnded())
        await play.press("space")
        assert play.backend.asked[-1] == ("listen", True)


async def test_what_is_listened_to_cannot_be_wound():
    async with on_stage() as play:
        await play.open()
        await play.press("left", "plus")
        titles = [command.title for command in play.app.get_system_commands(play.app.screen)]
        assert "On by 10 s" not in titles


def test_the_last_turn_is_told_as_it_was():
    with playing(timed()) as (_, viewer):
        viewer.wait(InputEnded)
    assert isinstance(RECORDS[-1], Heard)
    assert isinstance(RECORDS[-1].event, TurnCompleted)
    assert viewer.document.finals[-1].end == RECORDS[-1].event.end
