"""The engine of a live session while it loads: what is said meanwhile waits for it, and listening need not."""

import asyncio
import threading
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Final

from stt.endofturn import prepare, warm_up
from stt.engines import OpenedEngine, check_language, open_engine, open_interims
from stt.errors import EngineError, SttError
from stt.recognition import Hypothesis, LocalRecognizer, PairRecognizer, Previewing, SpeechModel, Utterance
from stt.recognition.answers import LanguageModel, language_model
from stt.recognition.service import forget
from stt.settings import EngineSettings, TurnSettings
from tui.updates import EngineFailed, EngineLoading, EngineReady, Update

OpenEngine = Callable[[EngineSettings], OpenedEngine]
OpenInterims = Callable[[EngineSettings], SpeechModel]
_CLOSED: Final = "closed before the engine was loaded"


class Loading:
    """A `SpeechModel` while the engine loads: recognition waits, and listening need not."""

    def __init__(self) -> None:
        self.opened: Future[OpenedEngine] = Future()

    @property
    def name(self) -> str:
        return self.opened.result().model.name

    @property
    def languages(self) -> frozenset[str]:
        """Those it knows; none as long as it loads."""
        return self.opened.result().model.languages if self.ready else frozenset()

    @property
    def max_batch(self) -> int:
        return self.opened.result().model.max_batch if self.ready else 1

    def cost(self, seconds: Sequence[float]) -> float:
        """Estimate the time of one call."""
        return self.opened.result().model.cost(seconds) if self.ready else sum(seconds)

    @property
    def ready(self) -> bool:
        return self.opened.done() and self.opened.exception() is None

    @property
    def failed(self) -> bool:
        return self.opened.done() and self.opened.exception() is not None

    def transcribe(self, batch: Sequence[Utterance]) -> list[Hypothesis]:
        return self.opened.result().model.transcribe(batch)

    def forget(self, session: Hashable) -> None:
        if self.ready:
            forget(self.opened.result().model, session)

    def close(self) -> None:
        if self.ready:
            self.opened.result().model.close()

    def settle(self, outcome: OpenedEngine | str) -> None:
        """Let those go on who wait, with the engine or with an error; the first outcome counts."""
        with suppress(InvalidStateError):
            if isinstance(outcome, str):
                self.opened.set_exception(EngineError(outcome))
            else:
                self.opened.set_result(outcome)


class LoadingEngine:
    """The models of a session and who asks them: one, or one for interims, which is loaded first, and one for finals.

    Args:
        settings: which models; those of a pair have a name each (`stt.engines.settled`).
        language: what they have to know.
        turns: how turns end, which may want weights as well.
        openers: open the engine, and the model for interims.

    """

    def __init__(
        self,
        settings: EngineSettings,
        language: str | None,
        turns: TurnSettings,
        openers: tuple[OpenEngine, OpenInterims] = (open_engine, open_interims),
    ) -> None:
        self._settings, self._language, self._turns = settings, language, turns
        self._open_engine, self._open_interims = openers
        self._finals = LocalRecognizer(Loading())
        self._interims = LocalRecognizer(Loading()) if settings.interim_model is not None else None
        self.recognizer: LocalRecognizer | PairRecognizer = (
            self._finals if self._interims is None else PairRecognizer(self._finals, self._interims)
        )
        """To be entered before anything is loaded. Leaving waits for its threads, which may wait for an engine, unless
        `give_up` came first."""

    def load(self, tell: Callable[[Update], None], failed: Callable[[], None]) -> None:
        """Open what is not open yet in a thread that nobody has to wait for: a download may take minutes."""

        def load() -> None:
            tell(EngineLoading("loading the engine"))
            try:
                interims = self._interims and _loading(self._interims)
                if interims is not None and not interims.ready:
                    model = self._open_interims(self._settings)
                    check_language(model, self._language)
                    interims.settle(OpenedEngine(Previewing(model), "asked for"))
                opened = self._open_engine(self._settings)
                check_language(opened.model, self._language)
                prepare(self._turns)
            except Exception as error:  # noqa: BLE001 - whatever it is, the person in front of the screen must know
                text = str(error) if isinstance(error, SttError) else f"{type(error).__name__}: {error}"
                self.give_up(text)
                tell(EngineFailed(text))
                failed()
            else:
                _loading(self._finals).settle(opened)
                tell(EngineReady(self.recognizer.model.name, opened.reason))
                asyncio.run(warm_up(self._turns))  # or the first pause would wait for it

        threading.Thread(target=load, name="engine", daemon=True).start()

    def load_again(self, tell: Callable[[Update], None], failed: Callable[[], None]) -> None:
        """Try once more where it failed."""
        broken = [recognizer for recognizer in self._recognizers if _loading(recognizer).failed]
        for recognizer in broken:
            recognizer.restart(Loading())
        if broken:
            self.load(tell, failed)

    def give_up(self, why: str = _CLOSED) -> None:
        """Let those go on who wait for what is not loaded."""
        for recognizer in self._recognizers:
            _loading(recognizer).settle(why)

    def language_model(self) -> LanguageModel:
        """Return what answers questions, without waiting for it.

        Raises:
            EngineError: the engine is not loaded, or has none.

        """
        finals = _loading(self._finals)
        if not finals.ready:
            msg = "the engine cannot be opened" if finals.failed else "the engine is still loading"
            raise EngineError(msg)
        return language_model(finals.opened.result().model)

    @property
    def _recognizers(self) -> tuple[LocalRecognizer, ...]:
        return (self._finals,) if self._interims is None else (self._finals, self._interims)


def _loading(recognizer: LocalRecognizer) -> Loading:
    assert isinstance(recognizer.model, Loading)  # noqa: S101 - for the type checker: nothing else is given to it here
    return recognizer.model
