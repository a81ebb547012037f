"""Questions to the language model inside an engine: what one that has it offers."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, Protocol

from stt.errors import EngineError

MOST_TOKENS: Final = 512
"""Of an answer, unless more are asked for."""
_INSTRUCTION: Final = "Answer the question from the transcript alone, briefly. Say so where it does not tell."


class Message(NamedTuple):
    role: str
    """`system`, `user` or `assistant`."""
    content: str


@dataclass(frozen=True, slots=True)
class Finished:
    """How an answer ended, and what it took."""

    why: Literal["stop", "length"]
    """It came to its end, or to the most tokens that were allowed."""
    prompt_tokens: int
    answer_tokens: int


Answer = Generator[str, None, Finished]
"""The pieces of an answer, as they come; closing it gives the language model up."""


class LanguageModel(Protocol):
    """Text in, text out; never in the way of those who speak. From any thread; several take turns."""

    def answer(self, messages: Sequence[Message], most_tokens: int = MOST_TOKENS) -> Answer:
        """Answer a conversation.

        Raises:
            EngineError: at the first piece: it is longer than the model can read; or the engine failed.

        """
        ...


def language_model(model: object) -> LanguageModel:
    """Return the language model of an engine.

    Raises:
        EngineError: it has none.

    """
    found: LanguageModel | None = getattr(model, "language_model", None)
    if found is None:
        name = getattr(model, "name", type(model).__name__)
        msg = f"{name} has no language model to answer with; canary-qwen has (`--engine canary-qwen`; it wants a GPU)"
        raise EngineError(msg)
    return found


def about(transcript: str, question: str) -> list[Message]:
    """Write a conversation that asks a question about a transcript."""
    return [Message("system", _INSTRUCTION), Message("user", f"Transcript:\n{transcript}\n\nQuestion: {question}")]
