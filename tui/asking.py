"""Questions about what was said, answered by the engine's language model in a thread of their own."""

import threading
import traceback
from collections.abc import Callable
from contextlib import closing

from stt.errors import EngineError
from stt.recognition.answers import LanguageModel, about
from tui.updates import Answered, NotAnswered, Update


class Questions:
    """One at a time: the next one, or `drop`, gives up the one before, of which nothing is told from then on."""

    def __init__(self, tell: Callable[[Update], None]) -> None:
        self._tell = tell
        self._lock = threading.Lock()
        self._wanted: int | None = None

    def ask(self, model: Callable[[], LanguageModel], number: int, transcript: str, question: str) -> None:
        """Have a question answered; what there is of the answer is told as it grows."""
        self._want(number)

        def answer() -> None:
            text = ""
            try:
                with closing(model().answer(about(transcript, question))) as answering:
                    while self._wanted == number:
                        text += next(answering)
                        self._say(Answered(number, text))
            except StopIteration as ended:
                self._say(Answered(number, text, "whole" if ended.value.why == "stop" else "cut off"))
            except EngineError as error:
                self._say(NotAnswered(number, str(error)))
            except Exception as error:  # noqa: BLE001 - a thread's last words would reach nobody
                traceback.print_exc()
                self._say(NotAnswered(number, f"{type(error).__name__}: {error}"))

        threading.Thread(target=answer, name="question", daemon=True).start()

    def drop(self) -> None:
        """Nobody waits for an answer any more."""
        self._want(None)

    def _want(self, number: int | None) -> None:
        with self._lock:
            self._wanted = number

    def _say(self, answer: Answered | NotAnswered) -> None:
        with self._lock:
            if self._wanted == answer.number:
                self._tell(answer)
