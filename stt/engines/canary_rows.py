"""Canary-Qwen with rows that come and go: `RunningBatch` over `nemo_lite.ContinuousBatch`."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TYPE_CHECKING

from stt.engines.canary_terms import wants_terms
from stt.engines.canary_windows import CanaryWindows
from stt.engines.canary_words import wants_words
from stt.errors import EngineError
from stt.recognition import Hypothesis, Utterance

if TYPE_CHECKING:
    from nemo_lite import ContinuousBatch
    from nemo_lite.transcription import Transcription


class CanaryRows:
    """The rows of one model, from the thread that owns it."""

    def __init__(
        self,
        batch: "ContinuousBatch",
        hear: Callable[["Transcription", Utterance], Hypothesis],
        failed: Callable[[RuntimeError], None],
        windows: CanaryWindows,
    ) -> None:
        """`hear` makes what is heard of what was decoded; `failed` is told of errors, and may raise another."""
        self._batch = batch
        self._windows = windows
        self._hear = hear
        self._failed = failed
        self._utterances: dict[Hashable, Utterance] = {}
        self._joins = batch.slots  # at a time; fewer, once memory did not suffice for so many

    @property
    def rows(self) -> int:
        return self._batch.slots

    @property
    def free(self) -> int:
        return min(self._batch.free, self._joins)

    @property
    def running(self) -> int:
        return self._batch.running

    def add(self, batch: Sequence[Utterance]) -> list[Hashable]:
        """Begin to recognize utterances.

        Raises:
            EngineError: there is no memory for so many; fewer are `free` from now on.
            EngineLostError: the GPU will not work again in this process.

        """
        try:
            tickets = self._batch.add(
                [utterance.audio for utterance in batch],
                drafts=[utterance.draft.tokens if utterance.draft else None for utterance in batch],
                timed=[wants_words(utterance) for utterance in batch],
                remembered=[wants_terms(utterance) for utterance in batch],
                windows=self._windows.of(batch),
            )
        except RuntimeError as error:
            self._failed(error)
            from nemo_lite.device import out_of_memory

            if not out_of_memory(error):
                raise
            self._joins = max(1, min(self._joins, len(batch)) // 2)
            msg = f"out of memory on {len(batch)} utterances beside others"
            raise EngineError(msg) from error
        self._utterances.update(zip(tickets, batch, strict=True))
        return list(tickets)

    def step(self) -> dict[Hashable, Hypothesis | Exception]:
        """Go on by a pass.

        Raises:
            EngineLostError: the GPU will not work again in this process.

        """
        try:
            done = self._batch.step()
        except RuntimeError as error:
            self._utterances.clear()
            self._failed(error)
            raise
        return {ticket: self._outcome(found, self._utterances.pop(ticket)) for ticket, found in done.items()}

    def drop(self, tickets: Iterable[Hashable]) -> None:
        unwanted = {ticket: self._utterances.pop(ticket) for ticket in tickets}
        self._batch.drop(ticket for ticket in unwanted if isinstance(ticket, int))

    def close(self) -> None:
        """Let the model go, whoever still holds on to this."""
        del self._batch

    def _outcome(self, found: "Transcription", utterance: Utterance) -> Hypothesis | Exception:
        try:
            return self._hear(found, utterance)
        except Exception as error:  # noqa: BLE001 - whatever it is, it concerns this row alone
            return error
