"""When a turn is over: `policy` protocol and `choose`, one module for each policy."""

import contextlib
import logging
from dataclasses import replace
from typing import Final

import numpy as np

from stt.endofturn import smart_turn, weights
from stt.endofturn.meaning import Meaning, pace
from stt.endofturn.policy import EndOfTurn, Pause, Said
from stt.endofturn.silence import Silence
from stt.engines.languages import language_code
from stt.errors import EngineError
from stt.settings import TurnSettings

__all__ = ["EndOfTurn", "Meaning", "Pause", "Said", "Silence", "choose", "describe", "prepare", "warm_up"]


_SAID: Final[list[str]] = []  # why the weights cannot be had, once that was told


def choose(settings: TurnSettings, language: str | None = "en") -> EndOfTurn:
    """Make the policy that these settings ask for, for a spoken language (`en`, `en-US` ...; `None`: not known).

    Where only the client ends turns (`end_of_turn_s=None`), no policy does either. Nothing is fetched (`prepare`).
    """
    if settings.end_of_turn == "silence" or settings.end_of_turn_s is None:
        return Silence(settings.end_of_turn_s)
    judge = smart_turn.shared()
    if judge is not None and not weights.made_for(language_code(language)):
        judge = None
    elif judge is None and settings.end_of_turn == "meaning":
        _say_once("they are not on this machine; `stt models download smart-turn` fetches them")
    if judge is None and settings.end_of_turn == "auto":
        return Silence(settings.end_of_turn_s)
    return Meaning(pace(settings), judge, silence_s=settings.end_of_turn_s, eager=settings.eager)


def prepare(settings: TurnSettings) -> TurnSettings:
    """Have what the policy of these settings needs, before sessions begin: it may take a download.

    Weights are fetched where turns are to end by meaning; `auto` goes by what is on this machine, and comes back as
    `silence` where they are not. Blocks, for a minute at most. Where they cannot be had, a warning says so, and silence
    and text decide.
    """
    if settings.end_of_turn == "meaning" and weights.find() is None:
        try:
            weights.fetch(weights.WITHIN_S)
        except EngineError as error:
            _say_once(str(error))
    if settings.end_of_turn == "auto" and smart_turn.shared() is None:
        return replace(settings, end_of_turn="silence")
    return settings


async def warm_up(settings: TurnSettings) -> None:
    """Have the model loaded before the first pause asks it; where it cannot be, that pause says so."""
    if settings.end_of_turn != "silence" and (judge := smart_turn.shared()) is not None:
        with contextlib.suppress(EngineError):
            await judge.ask(np.zeros(smart_turn.SAMPLES, np.float32), patient=True)


def describe(settings: TurnSettings) -> str:
    """Say for people what ends a turn by these settings, once they are prepared."""
    if settings.end_of_turn_s is None:
        return "whoever speaks"
    if isinstance(choose(settings), Silence):
        return f"silence of {settings.end_of_turn_s:g} s"
    by = "silence and text" if smart_turn.shared() is None else "meaning"
    return f"{by}, {settings.eagerness}"


def _say_once(why: str) -> None:
    if _SAID:
        return
    _SAID.append(why)
    logging.getLogger(__name__).warning(
        "turns end by silence and text: the weights of %s cannot be had: %s", weights.NAME, why
    )
