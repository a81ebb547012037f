"""How far texts are behind: events and times in, lags out. Audio is heard in real time from 0 s on."""

import pytest
from stage import FAST

from stt.events import Event, TranscriptChanged, TurnCompleted, TurnPaused, TurnResumed, TurnStarted
from stt.settings import TurnSettings
from tui.lag import Lag
from tui.updates import Lagged

SECOND = 16_000


def listening(until_s: float, settings: TurnSettings | None = None) -> Lag:
    lag = Lag(settings or TurnSettings(interim_s=0.5, end_of_turn_s=1.5))
    for tick in range(1, round(until_s * 50) + 1):
        lag.hear(tick * SECOND // 50, tick / 50)
    return lag


def text(end_s: float, cause: str = "interim") -> TranscriptChanged:
    return TranscriptChanged(0, 0, round(end_s * SECOND), "words", 0, 0, cause, FAST)  # pyright: ignore[reportArgumentType]


def final(end_s: float) -> TurnCompleted:
    return TurnCompleted(0, 0, round(end_s * SECOND), "words", (), None, round((end_s + 1.5) * SECOND))


def started(start_s: float = 0.0) -> TurnStarted:
    return TurnStarted(0, round(start_s * SECOND))


def paused(end_s: float) -> TurnPaused:
    return TurnPaused(0, round(end_s * SECOND))


def test_an_interim_is_as_late_as_its_last_sample_and_a_final_as_the_silence_that_ended_the_turn():
    lag = listening(10)
    assert lag.take(started(), 0.1) is None
    assert lag.take(text(2.0), 2.4) == Lagged(pytest.approx(0.4), final=False)
    assert lag.take(paused(3.0), 3.3) is None
    assert lag.take(text(3.0, "pause"), 3.5) is None
    assert lag.take(final(3.0), 4.6) == Lagged(pytest.approx(0.1), final=True)


@pytest.mark.parametrize(
    ("told", "now_s", "late"),
    [
        ([], 9.0, None),
        ([started()], 1.4, None),  # the first text is due at 0.5 s
        ([started()], 3.0, Lagged(pytest.approx(2.98), final=False)),  # the first piece was heard at 0.02 s
        ([started(), text(2.0)], 3.4, None),
        ([started(), text(2.0)], 7.0, Lagged(pytest.approx(5.0), final=False)),
        ([started(), text(2.0), paused(3.0)], 5.4, None),  # the final is due at 4.5 s
        ([started(), text(2.0), paused(3.0)], 8.5, Lagged(pytest.approx(4.0), final=True)),
        ([started(), text(2.0), paused(3.0), TurnResumed(0, 4 * SECOND), text(8.0)], 8.5, None),
        ([started(), text(2.0), paused(3.0), final(3.0)], 9.0, None),
    ],
)
def test_a_text_that_does_not_come_is_late_by_more_and_more(told: list[Event], now_s: float, late: Lagged | None):
    lag = listening(10)
    for event in told:
        lag.take(event, now_s)
    assert lag.waiting(now_s) == late


def test_a_turn_whose_final_is_due_is_late_though_the_next_one_goes_well():
    lag = listening(10)
    for event in (started(), text(2.0), paused(3.0), TurnStarted(1, 5 * SECOND)):
        lag.take(event, 5.0)
    assert lag.waiting(6.0) == Lagged(pytest.approx(1.5), final=True)
    lag.take(final(3.0), 6.0)
    assert lag.waiting(6.1) is None


def test_without_interims_only_finals_are_due():
    lag = listening(10, TurnSettings(interim_s=None, end_of_turn_s=1.5))
    lag.take(started(), 0.1)
    assert lag.waiting(9.0) is None
    lag.take(paused(3.0), 9.0)
    assert lag.waiting(9.5) == Lagged(pytest.approx(5.0), final=True)


def test_silence_that_was_not_heard_yet_makes_nothing_late():
    lag = listening(4)
    lag.take(started(), 0.1)
    lag.take(paused(3.0), 3.3)
    assert lag.waiting(60.0) is None
