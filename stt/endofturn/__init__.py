"""When a turn is over: `policy` protocol and `choose`, one module for each policy."""

from stt.endofturn.policy import EndOfTurn, Pause
from stt.endofturn.silence import Silence
from stt.settings import TurnSettings

__all__ = ["EndOfTurn", "Pause", "Silence", "choose"]


def choose(settings: TurnSettings) -> EndOfTurn:
    """Make the policy that these settings ask for."""
    return Silence(settings.end_of_turn_s)
