"""Interims by one model, what stands by another: two schedulers in this process, each with its own queue and thread.

    interim ------------> interims: a model that keeps up   -> Hypothesis.preview
    pause, cut, end ----> finals:   a model that is right   -> stable, committed, final

Neither waits for the other. So while a final takes its seconds, `Session` tells the interims that come behind it; and
`Transcript` keeps what the second model has heard, whatever the first makes of it afterwards.
"""

import asyncio
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

from stt.recognition.answers import LanguageModel
from stt.recognition.around import AroundBatch, AroundModel
from stt.recognition.continuous import RunningBatch
from stt.recognition.keeper import Keeper, OpenModel
from stt.recognition.local import LocalRecognizer
from stt.recognition.service import Hypothesis, SpeechModel, Ticket, Utterance


class Previewing(AroundModel):
    """A `SpeechModel` for interims beside another model, and it says so of all it hears."""

    def transcribe(self, batch: Sequence[Utterance]) -> list[Hypothesis]:
        """Recognize each utterance by itself."""
        return [replace(hypothesis, preview=True) for hypothesis in super().transcribe(batch)]

    def around(self, batch: RunningBatch) -> RunningBatch:
        """Let what its rows hear say so as well."""
        return _PreviewingRows(batch)


class _PreviewingRows(AroundBatch):
    def step(self) -> dict[Hashable, Hypothesis | Exception]:
        return {
            ticket: replace(result, preview=True) if isinstance(result, Hypothesis) else result
            for ticket, result in super().step().items()
        }


@dataclass(frozen=True, slots=True)
class PairOfModels:
    """Two models as people and clients are told of them: it knows what the one for finals knows."""

    finals: SpeechModel
    interims: SpeechModel

    @property
    def name(self) -> str:
        return pair_name(self.finals.name, self.interims.name)

    @property
    def languages(self) -> frozenset[str]:
        return self.finals.languages

    @property
    def language_model(self) -> LanguageModel | None:
        """What answers questions, where the engine has one."""
        return getattr(self.finals, "language_model", None)


def pair_name(finals: str, interims: str) -> str:
    """Name two models as one engine."""
    return f"{finals}, interims by {interims}"


class PairRecognizer:
    """A `RecognitionService` over two others. Use as a context manager, as `LocalRecognizer`."""

    def __init__(self, finals: LocalRecognizer, interims: LocalRecognizer) -> None:
        """Take two recognizers; the model of `interims` is a `Previewing` one."""
        self._finals = finals
        self._interims = interims
        self._shown: dict[Hashable, list[Ticket]] = {}  # unanswered interims by session, oldest first

    def __enter__(self) -> Self:
        self._interims.__enter__()
        self._finals.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._finals.__exit__(kind, error, trace)
        self._interims.__exit__(kind, error, trace)

    @property
    def model(self) -> PairOfModels:
        """Both of them, as they are now."""
        return PairOfModels(self._finals.model, self._interims.model)

    @property
    def engines(self) -> Mapping[str, SpeechModel]:
        """None to choose from."""
        return {}

    @property
    def waiting(self) -> int:
        """Requests that wait, in both queues."""
        return self._finals.waiting + self._interims.waiting

    @property
    def lag_s(self) -> float:
        """For how long the oldest unanswered request that stands has been waiting; 0 where there is none."""
        return max(self._finals.lag_s, self._interims.lag_s)

    def submit(self, utterance: Utterance) -> Ticket:
        """Ask the model that is there for it.

        Interims in a language that theirs does not know go to the other one, as if there were no pair. Once a text that
        stands is there, the session's interims from before it have no reader, and nothing waits for them.

        Raises:
            EngineError: the service is closed.

        """
        session = utterance.key.session
        preview = utterance.kind == "interim" and self._interims_know(utterance.options.language)
        if utterance.draft is not None and utterance.draft.preview != preview:
            utterance = replace(utterance, draft=None)  # tokens of the other model
        if preview:
            self._finals.overtake(utterance)
            ticket = self._interims.submit(utterance)
            self._shown.setdefault(session, []).append(ticket)
            ticket.add_done_callback(lambda ticket: self._answered(session, ticket))
            return ticket
        ticket = self._finals.submit(utterance)
        if earlier := self._shown.get(session):
            ticket.add_done_callback(_takes_back(tuple(earlier)))
        return ticket

    def forget(self, session: Hashable) -> None:
        """Drop what a session that is gone still has waiting."""
        self._finals.forget(session)
        self._interims.forget(session)

    def _interims_know(self, language: str | None) -> bool:
        known = self._interims.model.languages
        return language in known if language is not None else self._finals.model.languages <= known

    def _answered(self, session: Hashable, ticket: Ticket) -> None:
        tickets = self._shown[session]
        tickets.remove(ticket)
        if not tickets:
            del self._shown[session]


def _takes_back(tickets: Iterable[Ticket]) -> Callable[[Ticket], None]:
    def take_back(answered: Ticket) -> None:
        if answered.cancelled() or answered.exception() is not None or answered.result() is None:
            return  # nothing came that would be in their place
        for ticket in tickets:
            ticket.cancel()

    return take_back


def recognizing(model: SpeechModel, interims: SpeechModel | None = None) -> LocalRecognizer | PairRecognizer:
    """Return what asks a model, or two: `interims` has a model of its own for those."""
    if interims is None:
        return LocalRecognizer(model)
    return PairRecognizer(LocalRecognizer(model), LocalRecognizer(Previewing(interims)))


class PairKeeper:
    """A `ServedEngine` of two keepers: ready while both are, and gone when one of them cannot be mended."""

    def __init__(
        self,
        open_model: OpenModel,
        open_interims: OpenModel,
        timeout_s: float,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        def became() -> None:
            before, self._told = self._told, self.state
            if self._told != before:
                changed()

        self._told = "loading"
        self._finals = Keeper(open_model, timeout_s, became)
        self._interims = Keeper(lambda: Previewing(open_interims()), timeout_s, became)
        self._recognizer: PairRecognizer | None = None

    @property
    def state(self) -> str:
        """`loading`, `ready`, `restarting`: that of whichever keeps sessions from beginning."""
        states = {self._finals.state, self._interims.state}
        return next(state for state in ("loading", "restarting", "ready") if state in states)

    @property
    def recognizer(self) -> PairRecognizer | None:
        """What sessions ask; there once both engines are."""
        finals, interims = self._finals.recognizer, self._interims.recognizer
        if self._recognizer is None and finals is not None and interims is not None:
            self._recognizer = PairRecognizer(finals, interims)
        return self._recognizer

    @property
    def hung(self) -> bool:
        """Whether a thread still opens or runs an engine that nobody waits for."""
        return self._finals.hung or self._interims.hung

    def refusal(self) -> str | None:
        """Why it can bear no more sessions: nothing is known here but what the server's own limits say."""
        return None

    async def run(self) -> None:
        """Open both engines and watch over them, until cancelled.

        Raises:
            EngineLostError: no engine will work in this process any more.
            Exception: whatever opening one of them for the first time raised.

        """
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._finals.run())
                tasks.create_task(self._interims.run())
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None  # the other, where it is not of its kind, says no more

    async def close(self, timeout_s: float) -> None:
        """Close both recognizers, once `run` has ended; the calls that run have this long."""
        await asyncio.gather(self._finals.close(timeout_s), self._interims.close(timeout_s))
