"""Engines with something around them, a meter say: all that a model can is passed on, also what is optional."""

from collections.abc import Hashable, Iterable, Sequence

from stt.errors import EngineLostError
from stt.recognition.answers import LanguageModel
from stt.recognition.continuous import RunningBatch, begin_rows
from stt.recognition.service import Hypothesis, SpeechModel, Utterance, device_lost, forget


class AroundModel:
    """A `SpeechModel` over another one; what is to be different is overridden."""

    def __init__(self, model: SpeechModel) -> None:
        self._model = model
        self.name, self.languages, self.max_batch = model.name, model.languages, model.max_batch

    def cost(self, seconds: Sequence[float]) -> float:
        """Estimate the time of one call."""
        return self._model.cost(seconds)

    def close(self) -> None:
        """Let the engine's memory go."""
        self._model.close()

    def forget(self, session: Hashable) -> None:
        """Let go of what is kept of a session, where the engine keeps anything."""
        forget(self._model, session)

    @property
    def language_model(self) -> LanguageModel | None:
        """What answers questions, where the engine has one."""
        return getattr(self._model, "language_model", None)

    @property
    def lost(self) -> EngineLostError | None:
        """Why it will not work again in this process, where the engine knows."""
        return device_lost(self._model)

    def transcribe(self, batch: Sequence[Utterance]) -> list[Hypothesis]:
        """Recognize each utterance by itself."""
        return self._model.transcribe(batch)

    def running_batch(self) -> RunningBatch | None:
        """Begin a batch whose rows come and go, where the engine can."""
        batch = begin_rows(self._model)
        return None if batch is None else self.around(batch)

    def around(self, batch: RunningBatch) -> RunningBatch:
        """Return the batch as it is to be used."""
        return batch


class AroundBatch:
    """A `RunningBatch` over another one; what is to be different is overridden."""

    def __init__(self, batch: RunningBatch) -> None:
        self._batch = batch

    @property
    def rows(self) -> int:
        return self._batch.rows

    @property
    def free(self) -> int:
        return self._batch.free

    @property
    def running(self) -> int:
        return self._batch.running

    def add(self, batch: Sequence[Utterance]) -> list[Hashable]:
        """Begin to recognize utterances."""
        return self._batch.add(batch)

    def step(self) -> dict[Hashable, Hypothesis | Exception]:
        """Let what is running go on."""
        return self._batch.step()

    def drop(self, tickets: Iterable[Hashable]) -> None:
        """Give up on some that are running."""
        self._batch.drop(tickets)
