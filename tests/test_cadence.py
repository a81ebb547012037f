"""How often interims come, by a clock that only the engine moves on."""

import math
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

import pytest

from stt.recognition.cadence import MOST_S, Cadence

ASKED_EVERY_S = 0.5


def gaps(
    sessions: int, takes_s: float, *, at_once: int = 1, cores: float = 1.0, for_s: float = 60
) -> list[list[float]]:
    """Seconds between two interims of each session: an engine in whole calls, everybody speaks, no final comes."""
    cadence, now = Cadence(), 0.0
    asks = {session: ASKED_EVERY_S * (1 + session / sessions) for session in range(sessions)}  # the next is due
    began: dict[int, list[float]] = defaultdict(list)
    while now < for_s:
        now = max(now, cadence.next)
        due = sorted((at, session) for session, at in asks.items() if at <= now)[:at_once]
        if not due:
            now = min(asks.values())
            continue
        batch = [session for _, session in due]
        cadence.begins(now, batch, alone=True, waited_s=None)
        for session in batch:
            began[session].append(now)
            asks[session] = now + ASKED_EVERY_S
        cadence.called(now, now + takes_s, at_once=at_once, cores=cores)
        now += takes_s
    return [[b - a for a, b in pairwise(times[2:])] for times in began.values()]


def mean(values: Sequence[Sequence[float]]) -> float:
    return sum(map(sum, values)) / sum(map(len, values))


@pytest.mark.parametrize(
    ("sessions", "takes_s", "every_s"),
    [
        (1, 0.02, 0.5),  # idle: as often as they are asked for
        (4, 0.05, 0.5),
        (4, 0.1, 0.8),  # half of the engine is for finals
        (8, 0.1, 1.6),
        (12, 0.1, 2.0),  # more than half, so that nobody waits for more than 2 s
        (20, 0.1, 2.0),  # full
        (30, 0.1, 3.0),  # beyond: no rest any more, and everybody's turn comes
    ],
)
def test_the_cadence_follows_what_the_engine_was_measured_to_bear(sessions, takes_s, every_s):
    assert mean(gaps(sessions, takes_s)) == pytest.approx(every_s, rel=0.05)


@pytest.mark.parametrize(("sessions", "takes_s"), [(3, 0.1), (8, 0.1), (13, 0.12), (40, 0.11)])
def test_every_session_has_the_same(sessions, takes_s):
    means = [sum(own) / len(own) for own in gaps(sessions, takes_s)]
    assert len(means) == sessions
    assert max(means) < 1.1 * min(means)


def test_rows_side_by_side_are_as_much_more_capacity():
    assert mean(gaps(64, 0.1, at_once=16)) == pytest.approx(mean(gaps(4, 0.1)), rel=0.15)


@pytest.mark.parametrize(
    ("takes_s", "cores", "rest"),
    [(0.2, 1.0, 1), (0.3, 1.0, 1), (0.4, 1.0, 2), (0.6, 1.0, 3), (9.0, 1.0, 3), (0.4, 0.5, 4), (0.6, 0.5, 6)],
)
def test_a_slow_engine_is_mostly_free_for_finals_and_one_without_its_cores_more_so(takes_s, cores, rest):
    assert mean(gaps(1, takes_s, cores=cores, for_s=200)) == pytest.approx(max(0.5, takes_s * (1 + rest)))


def test_late_finals_make_interims_rest_and_finals_on_time_bring_them_back():
    cadence, now, rests = Cadence(), 0.0, []
    for waited_s in (None, 0.05, 0.11, 0.05, 0.05, 0.05, 0.05, None):
        if waited_s is not None:
            cadence.begins(now, [], alone=False, waited_s=waited_s)
        cadence.begins(now, ["a"], alone=True, waited_s=None)
        cadence.called(now, now + 0.2, at_once=1, cores=1.0)
        rests.append(round((cadence.next - now - 0.2) / 0.2))
        now = cadence.next
    assert rests == [1, 1, 8, 4, 2, 1, 1, 1]


def test_a_final_that_waited_for_other_finals_is_nobodys_fault():
    cadence = Cadence()
    for _ in range(3):
        cadence.begins(0.0, [], alone=False, waited_s=5.0)
    cadence.begins(0.0, ["a"], alone=True, waited_s=None)
    cadence.called(0.0, 0.2, at_once=1, cores=1.0)
    assert cadence.next == pytest.approx(0.4)


def test_who_has_stopped_speaking_is_not_counted():
    cadence = Cadence()
    for session in range(30):
        cadence.begins(0.0, [session], alone=True, waited_s=None)
    cadence.called(0.0, 0.1, at_once=1, cores=1.0)
    assert cadence.next == pytest.approx(0.1), "thirty: full"
    cadence.begins(2 * MOST_S + 1, ["a"], alone=True, waited_s=None)
    cadence.called(2 * MOST_S + 1, 2 * MOST_S + 1.1, at_once=1, cores=1.0)
    assert cadence.next == pytest.approx(2 * MOST_S + 1.2), "one: half of it"


def test_rows_that_come_and_go_are_taken_as_fast_as_they_are_given_back():
    """In rows of 64, held for 0.16 s, interims have room for 200 a second and are given half of that."""
    cadence, now, joined = Cadence(), 0.0, 0
    cadence.joined(now, 4, 64)
    assert cadence.next == 0.0, "nothing was measured yet"
    for _ in range(200):
        cadence.left(0.16)
    while now < 20:
        now = max(now, cadence.next)
        cadence.begins(now, [joined % 100], alone=True, waited_s=None)
        cadence.joined(now, 1, 64)
        joined += 1
    assert joined / now == pytest.approx(64 / 0.16 / 2, rel=0.05)


def test_what_is_measured_is_followed():
    cadence = Cadence()
    cadence.left(5.0)  # the first call of all
    for _ in range(100):
        cadence.left(0.1)
    cadence.begins(0.0, ["a"], alone=True, waited_s=None)
    cadence.joined(0.0, 1, 10)
    assert math.isclose(cadence.next, 0.02, rel_tol=0.1)
