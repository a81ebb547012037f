"""Canary-Qwen's language model by itself, with the adapter off: `LanguageModel` over `nemo_lite`."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from stt.errors import EngineError
from stt.recognition.answers import MOST_TOKENS, Answer, Finished, Message

if TYPE_CHECKING:
    from nemo_lite import CanaryQwen


class CanaryAnswers:
    """Answers in slices between the calls of those who speak."""

    def __init__(self, model: "CanaryQwen", failed: Callable[[Exception], None]) -> None:
        """`failed` is told of errors, and may raise another."""
        self._model = model
        self._failed = failed

    def answer(self, messages: Sequence[Message], most_tokens: int = MOST_TOKENS) -> Answer:
        """Answer a conversation, greedily and without thinking aloud.

        Raises:
            EngineError: it is longer than the model can read, or the engine failed.
            EngineLostError: the GPU will not work again in this process.

        """
        from nemo_lite.device import out_of_memory

        try:
            done = yield from self._model.language_model.answer(messages, most_tokens)
        except (ValueError, RuntimeError) as error:
            self._failed(error)
            words = sum(len(message.content.split()) for message in messages)
            why = f"out of memory on a conversation of {words} words" if out_of_memory(error) else error
            msg = f"canary-qwen's language model: {why}"
            raise EngineError(msg) from error
        return Finished(done.why, done.prompt_tokens, done.answer_tokens)
