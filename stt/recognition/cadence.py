"""How often interims come: as often as they are asked for while the engine has room, and never at the cost of finals.

One rule, out of what was measured. After interims have begun, the next ones begin `1 + rest` times as long later as
those took of the engine, so that interims have `1 / (1 + rest)` of it at the most. Sessions take turns, so each has one
every `round * (1 + rest)` seconds, where a round is what one interim of everybody who speaks takes of the engine.
`rest` is the largest of:

    load     1: half of the engine is free for finals. Less, down to 0, where the round would last longer than 2 s
    slow     1 to 3, where a call takes so long that a final in its way is late, load or not
    starved  twice that, where it is slow because other programs have the cores
    late     8 after a final that was late because of interims; then 4, 2, 1, 0 with each that was not

Sessions ask every 0.5 s (`TurnSettings.interim_s`): so that is what an engine with room gives, and one that is full
gives an interim every 2 s. Beyond that there is no promise but that of turns, and finals come first.

What an interim takes of the engine is the time of its call, or, where rows come and go, how long it holds its row over
how many rows there are. Nothing here reads a clock.
"""

from collections.abc import Collection, Hashable
from typing import Final

MOST_S: Final = 2.0
"""Between two interims of a session, as far as the engine can."""
LOAD: Final = 1.0
"""Rest for the sake of finals that may come."""
# A call that takes longer than this rests for as many times as its time has this many seconds, within bounds.
_SLOW_S: Final = 0.25
_SLOW_STEP_S: Final = 0.18
_SLOW: Final = 3
# This process had less of the cores meanwhile than one. A final takes most of its time there as well, and is late if an
# interim runs when it is asked for.
_STARVED_CORES: Final = 0.85
_STARVED: Final = 2
# A final that waited longer than this for a running batch of interims was late because of them.
_LATE_S: Final = 0.1
_LATE: Final = 8
# Who asked for no interim in this time does not speak: twice the longest that a session waits for its turn.
_SPEAKS_S: Final = 2 * MOST_S
# Of the mean time that a row is held; a new one counts for this part.
_NEWEST: Final = 1 / 16


class Cadence:
    """When interims may begin. Times are seconds on any one clock."""

    def __init__(self) -> None:
        self.next = 0.0
        """When interims may begin again."""
        self.alone = False
        """Whether what began last was interims and nothing else."""
        self._spoke: dict[Hashable, float] = {}  # when a session's last interim began, oldest first
        self._late = 0
        self._held_s = 0.0  # for which an interim holds its row, on average

    def begins(self, now: float, interims: Collection[Hashable], *, alone: bool, waited_s: float | None) -> None:
        """Take note of what begins: the sessions of its interims, whether there is nothing else in it, and for how long
        the live final among it that waited longest did, if there is one.
        """
        if waited_s is not None:
            late = self.alone and waited_s > _LATE_S
            self._late = _LATE if late else self._late // 2
        self.alone = alone
        for session in interims:
            self._spoke.pop(session, None)
            self._spoke[session] = now
        for session in [*self._spoke]:
            if self._spoke[session] >= now - _SPEAKS_S:
                break
            del self._spoke[session]

    def called(self, began: float, now: float, *, at_once: float, cores: float) -> None:
        """Rest after a call of interims alone, of which one takes `at_once` rows in the time of one.

        `cores`: processor time that this process had meanwhile, over the time that passed.
        """
        took_s = now - began
        slow = min(_SLOW, int(took_s / _SLOW_STEP_S)) if took_s > _SLOW_S else 0
        if cores < _STARVED_CORES:
            slow *= _STARVED
        self.next = now + max(slow, self._rest(took_s * max(1.0, len(self._spoke) / at_once))) * took_s

    def joined(self, now: float, interims: int, rows: int) -> None:
        """Rest after so many interims have taken rows of so many that come and go."""
        each_s = self._held_s / rows
        self.next = max(now, self.next) + (1 + self._rest(each_s * len(self._spoke))) * each_s * interims

    def left(self, held_s: float) -> None:
        """Take note of an interim that has ended, and for how long it held its row."""
        self._held_s += (held_s - self._held_s) * (_NEWEST if self._held_s else 1.0)

    def _rest(self, round_s: float) -> float:
        load = min(LOAD, max(0.0, MOST_S / round_s - 1)) if round_s > 0 else LOAD
        return max(load, self._late)
