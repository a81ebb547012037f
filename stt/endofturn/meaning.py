"""A turn ends when it sounds, and reads, as if the speaker were done; the surer, the sooner.

smart-turn is asked once in a pause, shortly before its answer could end the turn; the text counts from when it is
there. How probable it is that the speaker is done (`fused`) grows with the silence, and what a little more patience
could still save shrinks: of those who will go on, the part that does so in the next moment falls as 1 / silence. So a
turn ends, not before delay_s and at the latest at latest_s, when

    log-odds(silence) + ln(silence / 0.5 s) >= log-odds of the threshold
"""

import contextlib
import logging
import math
from dataclasses import dataclass, replace
from typing import Final, Protocol

from stt.audio import Samples
from stt.endofturn import fused, smart_turn
from stt.endofturn.policy import Pause
from stt.endofturn.texts import Reading, read
from stt.endofturn.weights import made_for
from stt.errors import EngineError
from stt.settings import Eagerness, TurnSettings

_LOGGER: Final = logging.getLogger(__name__)

_ASK_S: Final = 0.26  # later answers are no better
_ASK_AHEAD_S: Final = 0.05  # of the delay: what an answer takes of a core
_FRAME_S: Final = 0.032  # what is said now takes effect with the next


@dataclass(frozen=True, slots=True)
class Pace:
    """How sure to be, and how soon."""

    threshold: float
    """Probability that ends a turn after half a second; a longer silence needs less, a shorter one more."""
    delay_s: float
    """No turn ends before."""
    latest_s: float
    """Silence that ends a turn whatever it means."""

    @property
    def ask_s(self) -> float:
        """The silence at which to ask."""
        return min(self.delay_s, max(_ASK_S, self.delay_s - _ASK_AHEAD_S))

    def enough_s(self, sound: float | None, text: Reading | None, spoken_s: float = fused.SPOKEN_S) -> float:
        """Return the silence that ends a turn, by what is known of it (`fused.features`)."""
        if self.threshold >= 1:
            return self.latest_s
        missing = fused.logit(self.threshold) - fused.log_odds(fused.AFTER_S, sound, text, spoken_s)
        enough_s = fused.AFTER_S * math.exp(min(missing / (1 + fused.grows(text)), 9))
        return min(max(enough_s, self.delay_s), self.latest_s)


PACES: Final[dict[Eagerness, Pace]] = {
    "fast": Pace(0.74, 0.32, 2.5),
    "medium": Pace(0.82, 0.48, 2.5),
    "careful": Pace(0.96, 0.60, 3.0),
}


def pace(settings: TurnSettings) -> Pace:
    """Return the numbers of these settings: those of their eagerness, unless they name their own."""
    found = PACES[settings.eagerness]
    if settings.eot_threshold is not None:
        found = replace(found, threshold=settings.eot_threshold)
    if (latest_s := settings.eot_timeout_s) is not None:
        found = replace(found, delay_s=min(found.delay_s, latest_s), latest_s=latest_s)
    if (delay_s := settings.eot_delay_s) is not None:
        found = replace(found, delay_s=delay_s, latest_s=max(found.latest_s, delay_s))
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
        silence_s: silence that ends a turn of which neither judge nor text told in time; `None`: the pace's longest.
        eager: whether to ask at every pause's beginning, too, for those who act on the probability.

    """

    def __init__(
        self,
        pace: Pace | Eagerness,
        judge: Judge | None,
        *,
        silence_s: float | None = None,
        eager: bool = False,
    ) -> None:
        self._pace = pace if isinstance(pace, Pace) else PACES[pace]
        self._silence_s = self._pace.latest_s if silence_s is None else min(silence_s, self._pace.latest_s)
        self._eager = eager
        self._judge = judge
        self.longest_s: float | None = self._pace.latest_s
        self.audio_s = smart_turn.SECONDS if judge is not None else 0.0

    async def judge(self, pause: Pause) -> float | None:
        """Ask for the sound, then wait for the text until it is too late for it: live, while it is under way."""
        pace = self._pace
        if self._eager:
            with contextlib.suppress(smart_turn.BusyError):
                self._tell(pause, await self._sound(pause), None)
        await pause.lasts(pace.ask_s)
        try:
            sound = await self._sound(pause)
        except smart_turn.BusyError:
            sound, enough_s = None, max(pace.delay_s, self._silence_s)  # by silence, unless the text says more
        else:
            self._tell(pause, sound, None)
            enough_s = pace.enough_s(sound, None, pause.spoken_s)
        await pause.heard()
        said = await pause.said_within(enough_s - _FRAME_S)
        if said is None and pause.text_comes:
            # Whoever listens gets nothing before the text, and by then it may say that there is more, or the speaker
            # may have gone on. An engine that is behind changes nothing about turns that silence alone would end.
            enough_s = max(enough_s, self._silence_s)
            said = await pause.said_within(enough_s - _FRAME_S)
        if said is None:
            return enough_s
        text = read(said.text, said.language, said.ended)
        if not made_for(said.language):  # found with the text, after the sound was asked about
            sound = None
        self._tell(pause, sound, text)
        return pace.enough_s(sound, text)

    async def _sound(self, pause: Pause) -> float | None:
        """Return the probability that the speaker is done by the sound; `None`: nobody can tell."""
        if self._judge is None or not made_for(pause.language):
            return None
        try:
            return await self._judge.ask(pause.audio(smart_turn.SECONDS), patient=pause.patient)
        except smart_turn.BusyError:
            raise
        except EngineError as error:
            _LOGGER.warning("turns end by silence and text: %s", error)
            self._judge = None
            return None

    @staticmethod
    def _tell(pause: Pause, sound: float | None, text: Reading | None) -> None:
        """Tell what is known now, as of half a second of silence: that is what the threshold is for."""
        pause.probability = fused.probability(fused.log_odds(fused.AFTER_S, sound, text, pause.spoken_s))
