"""What a session needs of an engine, wherever it runs: `RecognitionService` and the values that pass."""

import asyncio
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from stt.audio import Samples
from stt.errors import EngineLostError
from stt.events import Latency
from stt.words import Word


@dataclass(frozen=True, slots=True)
class RecognitionOptions:
    """What may differ from session to session."""

    language: str | None = "en"
    """ISO 639-1 code; `None`: let the engine find out, where it can."""
    terms: tuple[str, ...] = ()
    """Words and phrases that the speaker is likely to say: names above all."""
    words: bool = False
    """Whether results that stand are wanted with the times of their words."""
    engine: str | None = None
    """Which engine, by name, where a service has several; `None`: its own choice."""
    live: bool = True
    """Whether somebody waits for every single result, or only for all of them (a file)."""


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """What an engine heard."""

    text: str
    tokens: tuple[int, ...] = ()
    """The engine's own tokens, for it to take back as a draft."""
    confidence: float | None = None
    """Mean probability of the tokens, 0 to 1, where the engine tells."""
    language: str | None = None
    """The language it found, where it was to find out and could."""
    words: tuple[Word, ...] = ()
    """The words of `text` (their texts joined give it) with stream times, where they were asked for and it can."""
    ended: float | None = None
    """Probability that a sentence ends with the text (a full stop is written, and no comma or dots), where the engine
    tells; for end-of-turn policies."""
    preview: bool = False
    """Whether it is of a model that is there for interims alone: it makes nothing stable, and takes the place of
    nothing that the other one has heard (`pair.py`)."""


class WindowKey(NamedTuple):
    """Of which window a request is: a newer one of the same window makes an older one pointless."""

    session: Hashable = None
    turn: int = 0
    window: int = 0


class GivenUpError(Exception):
    """A model left off what nobody wanted any more (`Utterance.unwanted`)."""


def _wanted() -> bool:
    return False


Kind = Literal["interim", "speculative", "final"]
"""`interim`: will be replaced. `speculative`: stands, unless the speaker goes on. `final`: stands."""


@dataclass(frozen=True, slots=True, eq=False)
class Utterance:
    """What an engine is to hear; compared by identity, as arrays have no other."""

    audio: Samples
    """Mono, 16 kHz, at most `TurnSettings.window_s` long plus a frame."""
    options: RecognitionOptions = field(default_factory=RecognitionOptions)
    kind: Kind = "final"
    draft: Hypothesis | None = None
    """What was heard in an earlier part of the same audio; an engine may use it to be faster, not to differ."""
    key: WindowKey = field(default_factory=WindowKey)
    start: int = 0
    """Sample index of `audio[0]` in the stream."""
    speech_s: float | None = None
    """How much of the audio the voice detector took for speech, where that is known."""
    silences: tuple[tuple[int, int], ...] = ()
    """Where in it the voice detector heard nobody: sample indices of the stream."""
    unwanted: Callable[[], bool] = _wanted
    """Whether this one, begun, is only in the way by now: an interim that a final waits for, or a pause's text where
    the speaker went on and paused anew. A model may ask between two steps of its work, and raise `GivenUpError` where
    all of its batch is. From any thread."""
    trace: str = ""
    """What its session is called in logs, from the socket to the engine."""

    @property
    def end(self) -> int:
        return self.start + len(self.audio)

    def overtaken_by(self, newer: "Utterance") -> bool:
        """Tell whether it is pointless, unless it has begun, now that its session asks for a newer one."""
        return self.kind == "interim" or (self.kind == "speculative" and self.key == newer.key)


class SpeechModel(Protocol):
    """A speech recognition engine: synchronous, batched, called from one thread."""

    @property
    def name(self) -> str:
        """What it is and where it runs, for people: `whisper tiny.en (int8, cpu)`."""
        ...

    @property
    def languages(self) -> frozenset[str]:
        """ISO 639-1 codes of the languages it knows."""
        ...

    @property
    def max_batch(self) -> int:
        """Utterances that one call takes at most."""
        ...

    def cost(self, seconds: Sequence[float]) -> float:
        """Estimate the time of one call with utterances this long, in any unit, for the scheduler to compare.

        Rows that run side by side (a GPU with room) cost what the longest does, `max(seconds)`; rows that run one
        after the other (a CPU) cost their sum.
        """
        ...

    def transcribe(self, batch: Sequence[Utterance]) -> list[Hypothesis]:
        """Recognize each utterance by itself; the result has the batch's length and order.

        Raises:
            GivenUpError: all of the batch is `unwanted`.

        """
        ...

    def close(self) -> None:
        """Let its memory go; nothing can be recognized any more. From any thread, also while a call hangs."""
        ...


def forget(model: SpeechModel, session: Hashable) -> None:
    """Have a model let go of what it keeps of a session from one interim to the next, if it is one that does.

    Such a model has a method `forget(session)`, which may be called from any thread.
    """
    if (keeps := getattr(model, "forget", None)) is not None:
        keeps(session)


def device_lost(model: SpeechModel) -> EngineLostError | None:
    """Return why a model will not work again in this process, where it knows from something else than recognition.

    Such a model has an attribute `lost`.
    """
    return getattr(model, "lost", None)


@dataclass(frozen=True, slots=True)
class Recognition:
    """A hypothesis, and what it took."""

    hypothesis: Hypothesis
    latency: Latency


Ticket = asyncio.Future[Recognition | None]
"""Resolves to `None` where the request became pointless, or was an interim that failed; raises `EngineError` where
one that stands failed. Cancelling it takes the request back, unless it has begun."""


class RecognitionService(Protocol):
    """Recognition for many sessions at once."""

    def submit(self, utterance: Utterance) -> Ticket:
        """Ask for a recognition; call from the event loop that is to await the ticket.

        A newer request of the same window replaces any older one that has not begun, whatever its kind; only `final`
        ones are never dropped.

        Raises:
            EngineError: the service is closed.

        """
        ...

    def forget(self, session: Hashable) -> None:
        """Drop what a session that is gone still has waiting."""
        ...
