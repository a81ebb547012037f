"""What an end-of-turn policy is, and what it is given."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import monotonic
from typing import Protocol

from stt.audio import Samples, samples, seconds


@dataclass(frozen=True, slots=True)
class Said:
    """What was said in a turn, as far as it is known."""

    text: str = ""
    end: int = -1
    """The sample index up to which the text goes."""
    language: str | None = None
    """ISO 639-1 code, as it was asked for or as the engine found it; `None`: not known."""
    ended: float | None = None
    """Probability that a sentence ends with the text, by the engine; `None`: it does not tell."""


class Pause:
    """A silence in a running turn, as its policy sees it; audio is its clock.

    Args:
        turn: in which turn.
        start: sample index where the turn began.
        end: sample index where speech stopped.
        now: sample index up to which audio was taken.
        said: gives what is known of what was said in the turn.
        audio: gives the last so many samples up to now, fewer where the stream or the turn is younger.
        hear: has all that was said so far recognized; `None`: texts come when they do.
        comes: whether such a text is under way.

    """

    def __init__(
        self,
        turn: int,
        start: int,
        end: int,
        now: int,
        said: Callable[[], Said],
        audio: Callable[[int], Samples],
        hear: Callable[[], Awaitable[None]] | None = None,
        comes: Callable[[], bool] = lambda: False,
    ) -> None:
        self.turn = turn
        self.start = start
        self.end = end
        self.probability: float | None = None
        """That the speaker is done, as the policy last found it; whoever listens is told."""
        self._said = said
        self._audio = audio
        self._hear = hear
        self._comes = comes
        self.patient = hear is not None
        """Whether audio waits for the policy, and not the other way round."""
        self._told: float | None = None
        self.now = now
        """Sample index up to which audio was taken."""
        self._waits_for: int | None = None
        self._for_text = False
        self._busy_since = now, monotonic()
        self._changed = asyncio.Event()
        self._at_rest = asyncio.Event()

    @property
    def text(self) -> str:
        """What the speaker has said in this turn, as far as it is known now: an interim's, then the pause's own."""
        return "" if self._hear is not None else self._said().text

    @property
    def said(self) -> Said | None:
        """What was said in this turn, once that is all of it; `None` while words may be missing."""
        said = self._said()
        return said if said.end >= self.end and self._hear is None else None

    @property
    def text_comes(self) -> bool:
        """Whether that text is under way: until then a turn that ended here could not be told."""
        return self._comes()

    @property
    def spoken_s(self) -> float:
        """How long the turn had lasted when this silence began."""
        return seconds(self.end - self.start)

    @property
    def language(self) -> str | None:
        """What is spoken in this turn, ISO 639-1; `None`: not known (yet)."""
        return self._said().language

    async def heard(self) -> None:
        """Wait for the text where that is no matter of time: files come out the same however fast they are read.

        Live this returns at once: `said_within` waits there.
        """
        if self._hear is not None:
            await self._hear()
            self._hear = None

    def audio(self, most_s: float) -> Samples:
        """Return the sound up to now, from 0.5 s before the turn on, at most so many seconds of it, shape [n]."""
        return self._audio(samples(most_s))

    async def lasts(self, silence_s: float) -> None:
        """Wait until the silence has lasted for so long; whoever waits is cancelled when the pause is over before."""
        await self._until(silence_s, for_text=False)

    async def said_within(self, silence_s: float) -> Said | None:
        """Wait for all that was said, until the silence has lasted for so long; `None`: words are missing then."""
        await self._until(silence_s, for_text=True)
        return self.said

    async def _until(self, silence_s: float, *, for_text: bool) -> None:
        self._waits_for, self._for_text = self.end + samples(silence_s), for_text
        while not self._enough:
            self._changed.clear()
            self._at_rest.set()
            await self._changed.wait()
        self._waits_for = None

    @property
    def _enough(self) -> bool:
        return self._waits_for is not None and (
            self.now >= self._waits_for or (self._for_text and self.said is not None)
        )

    # for the session

    def advance(self, now: int) -> None:
        """Tell up to where audio was taken, or that a text came."""
        self.now = now
        if self._enough and self._at_rest.is_set():
            self._busy_since = now, monotonic()
            self._at_rest.clear()
            self._changed.set()

    def news(self) -> float | None:
        """Return the probability, once for each that the policy finds."""
        if self.probability == self._told:
            return None
        self._told = self.probability
        return self._told

    @property
    def ahead(self) -> int:
        """How much audio was taken since the policy has something to do; 0: it has nothing."""
        return 0 if self._at_rest.is_set() else self.now - self._busy_since[0]

    @property
    def busy_s(self) -> float:
        """For how long it has had that, in seconds that pass."""
        return 0.0 if self._at_rest.is_set() else monotonic() - self._busy_since[1]

    def finish(self) -> None:
        """Tell that the policy has nothing more to say."""
        self._waits_for = None
        self._at_rest.set()

    async def at_rest(self) -> None:
        """Wait until the policy has nothing to do before more audio is taken."""
        await self._at_rest.wait()


class EndOfTurn(Protocol):
    """How long a silence has to be to end a turn."""

    @property
    def longest_s(self) -> float | None:
        """Silence that ends a turn whatever `judge` says, or does not say; `None`: none does."""
        ...

    @property
    def audio_s(self) -> float:
        """How much sound before now `Pause.audio` is to have at hand; 0: none."""
        ...

    async def judge(self, pause: Pause) -> float | None:
        """Follow one pause from its beginning; return the seconds of silence that end the turn.

        `None` leaves it at `longest_s`. Cancelled when the pause is over. A result below the silence there is already
        ends the turn with the next frame.
        """
        ...
