"""Where decoded audio belongs in the stream: containers say when each packet is to be heard.

Times of the text must be those of the film. So audio that starts late, and holes, become silence. Nothing that was
decoded is ever dropped: where the container's time jumps back (files joined end to end), it goes on from there.
"""

from dataclasses import dataclass
from typing import Final

_JITTER_S: Final = 0.1  # FFmpeg's own `aresample=async=1` lets as much pass (min_hard_comp)
_BACK_S: Final = 1.0  # and what lies this far behind is another recording
_LATEST_S: Final = 3600.0  # a stream of unknown length that starts later was joined while it ran
_BREAK_S: Final = 60.0  # in formats whose clock may start anew at any time, a longer jump is no hole
_HOLES_S: Final = 24 * 3600.0  # all in all; more is damage, whatever the header promises: kilobytes would cost hours


@dataclass(slots=True)
class Timeline:
    """The container's clock against what was handed out.

    Args:
        start_s: when the container says that its first stream begins.
        duration_s: when it says that it ends, if it does.
        restarts: its clock has no zero and may jump (MPEG-TS, Ogg).

    """

    start_s: float = 0.0
    duration_s: float | None = None
    restarts: bool = False
    jumped: bool = False
    """The clock went back, or too far ahead: several recordings are joined, and no length is that of all."""
    _origin_s: float = 0.0
    _holes_s: float = 0.0
    _begun: bool = False

    def __post_init__(self) -> None:
        if self.restarts or self.start_s > (self.duration_s or _LATEST_S):
            self._origin_s = self.start_s

    def hole_s(self, time_s: float | None, position_s: float) -> float:
        """Return the seconds of silence that belong between `position_s` and audio that is to be heard at `time_s`."""
        if time_s is None:
            return 0.0
        ahead_s = time_s - self._origin_s - position_s
        first, self._begun = not self._begun, True
        if ahead_s > (0.0 if first else _JITTER_S) and ahead_s <= self._longest_s(position_s):
            self._holes_s += ahead_s
            return ahead_s
        if ahead_s > _JITTER_S or ahead_s < -_BACK_S:
            self._origin_s = time_s - position_s
            self.jumped = True
        return 0.0

    def _longest_s(self, position_s: float) -> float:
        promised_s = (self.duration_s or position_s + _LATEST_S) - position_s
        return min(_HOLES_S - self._holes_s, _BREAK_S if self.restarts else promised_s)
