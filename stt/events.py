"""What a sink receives: the union `Event`.

Times are sample indices at 16 kHz since the stream began (audio is the clock); `*_s` properties give seconds.

What the detector found (`TurnStarted`, `TurnPaused`, `TurnResumed`) comes at once, whatever the engine is at, so that
an agent can stop talking. Texts (`TranscriptChanged`, `RecognitionFailed`, `TurnCompleted`, `Acknowledged`) are in
order among themselves: those of turn n before those of turn n + 1. So a turn may start before the one before it has
its final. Within a turn `TurnStarted` is first, `TurnCompleted` last, and a text of cause `pause` never comes after the
`TurnResumed` that made it pointless.
"""

from dataclasses import dataclass
from typing import Literal

from stt.clock import seconds
from stt.words import Word


class _Starts:
    __slots__ = ()
    start: int

    @property
    def start_s(self) -> float:
        return seconds(self.start)


class _Ends:
    __slots__ = ()
    end: int

    @property
    def end_s(self) -> float:
        return seconds(self.end)


@dataclass(frozen=True, slots=True)
class Latency:
    """Where the time of one recognition went, seconds of wall clock."""

    waited_s: float
    """In the queue, behind other work."""
    decoded_s: float
    """In the model, shared with the rest of its batch."""
    batch_size: int


@dataclass(frozen=True, slots=True)
class Passage(_Starts, _Ends):
    """A stretch of a turn whose words were recognized together (one window), for timestamps inside long turns."""

    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class TurnStarted(_Starts):
    """Someone began to speak; sent before any recognition, so that an agent can stop talking."""

    turn: int
    start: int


@dataclass(frozen=True, slots=True)
class TranscriptChanged(_Starts, _Ends):
    """The text of the running turn as known now; replaces the one before."""

    turn: int
    start: int
    end: int
    """The text covers the audio up to here."""
    text: str
    """All words of the turn so far: `committed`, then `stable`, then `tentative`."""
    committed_chars: int
    """`text[:committed_chars]` will never change."""
    stable_chars: int
    """`text[:stable_chars]` is agreed on by the last two hypotheses, or committed; where interims have a model of their
    own, it is what the other model has heard."""
    cause: Literal["interim", "pause", "cut", "end"]
    """`pause`: the speaker stopped, and this is the turn's final text if nothing more is said."""
    latency: Latency
    words: tuple[Word, ...] = ()
    """As those of `TurnCompleted`; those of an interim are spread over its time, after those the engine told."""

    @property
    def committed(self) -> str:
        """What will never change."""
        return self.text[: self.committed_chars].strip()

    @property
    def stable(self) -> str:
        """What the last two hypotheses agree on, after what is committed."""
        return self.text[self.committed_chars : self.stable_chars].strip()

    @property
    def tentative(self) -> str:
        """What may still change."""
        return self.text[self.stable_chars :].strip()


@dataclass(frozen=True, slots=True)
class TurnPaused(_Ends):
    """The speaker fell silent; the turn ends if the silence lasts.

    It comes again, for the same pause, with each probability that an end-of-turn policy finds.
    """

    turn: int
    end: int
    """Where speech stopped."""
    probability: float | None = None
    """That the speaker is done, where the end-of-turn policy tells."""


@dataclass(frozen=True, slots=True)
class TurnResumed:
    """The speaker went on after a pause."""

    turn: int
    at: int

    @property
    def at_s(self) -> float:
        return seconds(self.at)


Ending = Literal["silence", "meaning", "asked", "cleared", "stream ended"]
"""What ends a turn: it was silent for long enough (`silence`), or for as long as the end-of-turn policy wanted to be
sure (`meaning`); the client asked for it (`asked`), or for its text to be forgotten (`cleared`); the stream ended."""


@dataclass(frozen=True, slots=True)
class TurnCompleted(_Starts, _Ends):
    """The turn is over and this is its final text; empty where the sound held no words."""

    turn: int
    start: int
    end: int
    """Where speech stopped, not where the silence after it was found long enough."""
    text: str
    passages: tuple[Passage, ...]
    latency: Latency | None
    """Of the recognition that gave the last words; `None` where nothing was recognized."""
    decided: int = 0
    """When it was decided that the turn is over: the audio up to here was heard by then."""
    why: Ending = "silence"
    words: tuple[Word, ...] = ()
    """With times and confidence, where they were asked for and the engine gives them; joined they are the text."""
    language: str | None = None
    """ISO 639-1 code of what the engine found, where it was to find out and could."""

    @property
    def decided_s(self) -> float:
        return seconds(self.decided)


@dataclass(frozen=True, slots=True)
class RecognitionFailed:
    """The engine failed on a piece of this turn; the session goes on and keeps the text it had."""

    turn: int
    message: str


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A command of the source took effect, and all texts of what came before it have been sent."""

    command: Literal["flush", "clear", "configure"]
    at: int
    """Where in the stream."""

    @property
    def at_s(self) -> float:
        return seconds(self.at)


Event = TurnStarted | TranscriptChanged | TurnPaused | TurnResumed | TurnCompleted | RecognitionFailed | Acknowledged
