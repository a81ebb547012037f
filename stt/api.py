"""The two calls most programs need; all they do is put the public parts together."""

from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike

from stt.engines import open_engine
from stt.events import Event, TurnCompleted
from stt.recognition import LocalRecognizer, RecognitionOptions
from stt.session import Session
from stt.settings import EngineSettings, TurnSettings
from stt.sources import FileSource
from stt.vad import SileroVad


@contextmanager
def open_session(
    engine: EngineSettings | None = None, turns: TurnSettings | None = None, language: str | None = "en"
) -> Iterator[Session]:
    """Load an engine for one session, and let go of it afterwards.

    Programs with several sessions open one `LocalRecognizer` and one `SileroVad` and share them.
    """
    with LocalRecognizer(open_engine(engine).model) as recognizer:
        yield Session(recognizer, SileroVad(), settings=turns, options=RecognitionOptions(language))


async def transcribe_file(
    path: str | PathLike[str], engine: EngineSettings | None = None, language: str | None = "en"
) -> list[TurnCompleted]:
    """Return the turns of an audio file that hold words.

    Raises:
        AudioError: the file cannot be read, or not all of it.
        EngineError: the engine cannot be opened.

    """
    turns: list[TurnCompleted] = []

    async def sink(event: Event) -> None:
        if isinstance(event, TurnCompleted) and event.text:
            turns.append(event)

    with FileSource(path) as source, open_session(engine, FINALS_ONLY, language) as session:
        await session.run(source, sink)
    return turns


FINALS_ONLY = TurnSettings(interim_s=None, speculative=False)
"""For what nobody watches as it is written: the same finals, without the work of interims."""
