"""The two calls most programs need; all they do is put the public parts together."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import PathLike

from stt.endofturn import prepare
from stt.engines import open_engine, open_engines
from stt.errors import IncompleteError
from stt.events import Event, RecognitionFailed, TurnCompleted
from stt.recognition import LocalRecognizer, RecognitionOptions, recognizing
from stt.session import Session
from stt.settings import EngineSettings, TurnSettings
from stt.sources import FileSource
from stt.terms import checked
from stt.vad import SileroVad


@contextmanager
def open_session(
    engine: EngineSettings | None = None,
    turns: TurnSettings | None = None,
    language: str | None = "en",
    *,
    terms: Sequence[str] = (),
) -> Iterator[Session]:
    """Load an engine for one session, and let go of it afterwards; `terms`: words and phrases that will be said.

    Programs with several sessions open one `LocalRecognizer` and one `SileroVad` and share them.
    """
    options = RecognitionOptions(language, checked(terms))
    prepare(turns or TurnSettings())
    opened = open_engines(engine, language)
    with recognizing(opened.model, opened.interims) as recognizer:
        yield Session(recognizer, SileroVad(), settings=turns, options=options)


async def transcribe_file(
    path: str | PathLike[str],
    engine: EngineSettings | None = None,
    language: str | None = "en",
    *,
    terms: Sequence[str] = (),
    words: bool = False,
) -> list[TurnCompleted]:
    """Return the turns of an audio file that hold words; none where nobody speaks.

    A coroutine: `asyncio.run(transcribe_file("talk.flac"))`, or `await` it where a loop runs.

    Args:
        path: WAV, FLAC, OGG, MP3, M4A ...
        engine: which speech model, where it runs; one for interims is not needed here.
        language: ISO 639-1 code; `None`: let the engine find out.
        terms: words and phrases that will be said, as they are to be written.
        words: with the times of their words, where the engine gives them.

    Raises:
        AudioError: the file cannot be read, or not all of it.
        SettingsError: there is no such engine or device, or a term is none.
        IncompleteError: the engine failed on parts of it, or all; `turns` has what it did recognize.
        EngineError: the engine cannot be opened.

    """
    options = RecognitionOptions(language, checked(terms), words=words, live=False)
    turns: list[TurnCompleted] = []
    failures: list[str] = []

    async def sink(event: Event) -> None:
        if isinstance(event, TurnCompleted) and event.text:
            turns.append(event)
        elif isinstance(event, RecognitionFailed):
            failures.append(event.message)

    with FileSource(path) as source, LocalRecognizer(open_engine(engine).model) as recognizer:
        await Session(recognizer, SileroVad(), settings=FINALS_ONLY, options=options).run(source, sink)
    if failures:
        msg = f"{path}: the engine failed on {len(failures)} parts of it: {failures[0]}"
        raise IncompleteError(msg, turns)
    return turns


FINALS_ONLY = TurnSettings(interim_s=None, speculative=False)
"""For what nobody watches as it is written: the same finals, without the work of interims."""
