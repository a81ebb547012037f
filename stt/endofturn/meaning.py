"""A turn ends when it sounds, and reads, as if the speaker were done; the surer, the sooner.

smart-turn is asked as the silence grows, the text adds its log-odds, and the turn ends when the probability reaches a
threshold that falls with the silence:

    p >= threshold - fall x (silence - 0.19 s)        never before delay_s, at the latest at latest_s
"""

import logging
import math
from dataclasses import dataclass, replace
from typing import Final, Protocol

from stt.audio import Samples
from stt.endofturn import smart_turn
from stt.endofturn.policy import Pause
from stt.endofturn.texts import log_odds
from stt.errors import EngineError
from stt.settings import Eagerness, TurnSettings

_LOGGER: Final = logging.getLogger(__name__)

_ASKED_AT_S: Final = (0.51, 0.80, 0.99, 1.50)
"""Silences at which the answer changes most (an ask is 50 ms of a core)."""
_FALLS_FROM_S: Final = 0.19
_UNKNOWN: Final = 0.5  # the probability by sound where nobody can tell
# A turn that is as good as surely unfinished has until `unfinished_s`.
_UNFINISHED: Final = 0.2


@dataclass(frozen=True, slots=True)
class Pace:
    """How sure to be, and how soon."""

    threshold: float
    fall: float
    """Of the threshold, per second of silence."""
    delay_s: float
    """No turn ends before."""
    latest_s: float
    """Silence that ends a turn, unless it is surely unfinished."""
    unfinished_s: float
    """Silence that ends those as well."""

    def reached_s(self, p: float) -> float:
        """Return the silence at which this probability is enough; infinity: none is."""
        if p >= self.threshold:
            return self.delay_s
        if not self.fall:
            return math.inf
        return max(self.delay_s, _FALLS_FROM_S + (self.threshold - p) / self.fall)


PACES: Final[dict[Eagerness, Pace]] = {
    "fast": Pace(0.80, 0.6, 0.38, 2.5, 2.5),
    "medium": Pace(0.80, 0.6, 0.61, 2.5, 2.5),
    "careful": Pace(0.96, 0.0, 0.80, 1.5, 3.0),
}


def pace(settings: TurnSettings) -> Pace:
    """Return the numbers of these settings: those of their eagerness, unless they name their own."""
    found = PACES[settings.eagerness]
    if settings.eot_threshold is not None:
        found = replace(found, threshold=settings.eot_threshold)
    if settings.eot_timeout_s is not None:
        latest_s = settings.eot_timeout_s
        found = replace(found, delay_s=min(found.delay_s, latest_s), latest_s=latest_s, unfinished_s=latest_s)
    if (delay_s := settings.eot_delay_s) is not None:
        latest_s = max(found.latest_s, delay_s)
        found = replace(found, delay_s=delay_s, latest_s=latest_s, unfinished_s=max(found.unfinished_s, latest_s))
    return found


class Judge(Protocol):
    """What tells by the sound, as `smart_turn.SmartTurn` does."""

    async def ask(self, audio: Samples, *, patient: bool = False) -> float:
        """Return the probability that the speaker is done; raises `EngineError`.

        `patient`: this may wait behind others, and is not refused.
        """
        ...


class Meaning:
    """The policy.

    Args:
        pace: how sure to be and how soon, or the name of that.
        judge: tells by the sound; `None`: nobody does, the silence and the text decide.
        language: ISO 639-1 code of what is spoken, for the rules of words; `None`: not known.
        silence_s: silence that ends a turn while the judge has no time; `None`: the pace's longest.
        eager: whether to ask at every pause's beginning, too, for those who act on the probability.

    """

    def __init__(
        self,
        pace: Pace | Eagerness,
        judge: Judge | None,
        language: str | None = "en",
        *,
        silence_s: float | None = None,
        eager: bool = False,
    ) -> None:
        self._pace = pace if isinstance(pace, Pace) else PACES[pace]
        self._silence_s = self._pace.unfinished_s if silence_s is None else min(silence_s, self._pace.unfinished_s)
        self._eager = eager
        self._judge = judge
        self._language = language
        self.longest_s: float | None = self._pace.unfinished_s
        self.audio_s = smart_turn.SECONDS if judge is not None else 0.0

    async def judge(self, pause: Pause) -> float | None:
        """Ask as the silence grows, until the probability is enough for it."""
        pace = self._pace
        asks = [pace.delay_s, *(at for at in _ASKED_AT_S if pace.delay_s < at <= pace.latest_s)]
        asks = [0.0, *asks] if self._eager else asks
        p = _UNKNOWN
        for at, until in zip(asks, [*asks[1:], pace.latest_s], strict=True):
            await pause.lasts(at)
            try:
                p = await self._probability(pause)
            except smart_turn.BusyError:
                return max(at, self._silence_s)  # by silence alone, until there is room again
            pause.probability = p
            if at >= pace.delay_s and (enough_s := max(at, pace.reached_s(p))) <= until:
                return enough_s
        return pace.unfinished_s if p < _UNFINISHED else pace.latest_s

    async def _probability(self, pause: Pause) -> float:
        by_sound = _UNKNOWN
        if self._judge is not None:
            try:
                by_sound = await self._judge.ask(pause.audio(smart_turn.SECONDS), patient=pause.patient)
            except smart_turn.BusyError:
                raise
            except EngineError as error:
                _LOGGER.warning("turns end by silence and text: %s", error)
                self._judge = None
        await pause.heard()
        if (text := pause.whole_text) is None:
            return by_sound
        return _sigmoid(_logit(by_sound) + log_odds(text, self._language))


def _logit(p: float) -> float:
    p = min(max(p, 1e-6), 1 - 1e-6)
    return math.log(p / (1 - p))


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))
