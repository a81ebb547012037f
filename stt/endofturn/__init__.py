"""When a turn is over: `policy` protocol and `choose`, one module for each policy."""

import functools
import logging

from stt.endofturn import smart_turn, weights
from stt.endofturn.meaning import Meaning
from stt.endofturn.policy import EndOfTurn, Pause
from stt.endofturn.silence import Silence
from stt.settings import TurnSettings

__all__ = ["EndOfTurn", "Meaning", "Pause", "Silence", "choose"]


def choose(settings: TurnSettings, language: str | None = "en") -> EndOfTurn:
    """Make the policy that these settings ask for, for a spoken language (ISO 639-1; `None`: not known).

    Where only the client ends turns (`end_of_turn_s=None`), no policy does either.
    """
    if settings.end_of_turn == "silence" or settings.end_of_turn_s is None:
        return Silence(settings.end_of_turn_s)
    judge = smart_turn.shared()
    if judge is None:
        _say_once()
    elif language is not None and language not in weights.LANGUAGES:
        judge = None
    return Meaning(settings.eagerness, judge, language)


@functools.cache
def _say_once() -> None:
    logging.getLogger(__name__).warning(
        "the weights of %s are not here: turns end by silence and text (`pip install --no-deps pipecat-ai` has them)",
        weights.NAME,
    )
