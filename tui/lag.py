"""How far texts are behind what is heard. Pure: the clock is handed in.

A lag counts from the moment at which what a text is about was heard: of an interim its last sample, of a final that at
which the turn was found to be over. While a text that is due is not there, the lag grows, and is told nevertheless.
"""

from collections import deque
from typing import Final

from stt.clock import samples
from stt.events import Event, TranscriptChanged, TurnCompleted, TurnPaused, TurnResumed, TurnStarted
from stt.settings import TurnSettings
from tui.updates import Lagged

_MEMORY: Final = 3000  # pieces (60 s and more) whose time of hearing is remembered
_GRACE_S: Final = 1.0  # a text that is no later than this is not worth a warning


class Lag:
    """Of one stretch; its samples are counted from 0."""

    def __init__(self, settings: TurnSettings) -> None:
        self._interim = None if settings.interim_s is None else samples(settings.interim_s)
        self._silence = None if settings.longest_silence_s is None else samples(settings.longest_silence_s)
        self._times: deque[tuple[int, float]] = deque(maxlen=_MEMORY)  # samples, when they had been heard
        self._covered: dict[int, int] = {}  # of each turn without a final, up to where its text goes
        self._paused: dict[int, int] = {}  # and where it paused

    def hear(self, heard: int, at_s: float) -> None:
        """So many samples had been heard at a time."""
        self._times.append((heard, at_s))

    def take(self, event: Event, now_s: float) -> Lagged | None:
        """Return the lag of a text."""
        match event:
            case TurnStarted(turn, start):
                self._covered[turn] = start
            case TurnPaused(turn, end):
                self._paused[turn] = end
            case TurnResumed(turn):
                self._paused.pop(turn, None)
            case TranscriptChanged(turn=turn, end=end, cause=cause):
                self._covered[turn] = end
                return self._lagged(end, now_s, final=False) if cause == "interim" else None
            case TurnCompleted(turn=turn, end=end, text=text, decided=decided):
                self._covered.pop(turn, None)
                self._paused.pop(turn, None)
                return self._lagged(max(end, decided), now_s, final=True) if text else None
            case _:
                pass
        return None

    def waiting(self, now_s: float) -> Lagged | None:
        """Return by how much the text that is due is late by now, `None` where that is no more than usual."""
        late = (self._waiting(turn, now_s) for turn in self._covered)
        return max((lagged for lagged in late if lagged is not None), key=lambda lagged: lagged.lag_s, default=None)

    def _waiting(self, turn: int, now_s: float) -> Lagged | None:
        covered, paused = self._covered[turn], self._paused.get(turn)
        interim, silence = self._interim, self._silence
        if paused is not None:
            return None if silence is None else self._late(paused + silence, now_s, final=True)
        # What follows the text is due when it is worth an interim, and is as old as its beginning.
        if interim is None or self._late(covered + interim, now_s, final=False) is None:
            return None
        return self._late(covered, now_s, final=False)

    def _late(self, due: int, now_s: float, *, final: bool) -> Lagged | None:
        lagged = self._lagged(due, now_s, final=final)
        return None if lagged is None or lagged.lag_s <= _GRACE_S else lagged

    def _lagged(self, at: int, now_s: float, *, final: bool) -> Lagged | None:
        heard_s = next((when for heard, when in self._times if heard >= at), None)
        return None if heard_s is None else Lagged(now_s - heard_s, final)
