"""`stt mic`: the microphone to standard output, a line for each turn."""

import asyncio
import sys

from stt.commands.advice import once
from stt.commands.live import Screen, choose, stream
from stt.endofturn import prepare, warm_up
from stt.engines import open_engines
from stt.recognition import RecognitionOptions, recognizing
from stt.session import Session
from stt.settings import EngineSettings, TurnSettings
from stt.sources import Microphone
from stt.vad import SileroVad


def run(
    *,
    engine: EngineSettings,
    turns: TurnSettings,
    language: str | None,
    terms: tuple[str, ...],
    device: str | None,
    interim: bool,
    quiet: bool = False,
) -> int:
    """Listen until Ctrl-C; returns the exit status.

    Raises:
        DeviceError: there is no such microphone, or it is gone; the turn that ran has been printed.
        SettingsError: the engine does not know the language.
        EngineError: the engine cannot be opened.

    """
    index = choose(device)  # asked before the engine takes its seconds
    opened = open_engines(engine, language)
    prepare(turns)
    asyncio.run(warm_up(turns))  # or the first pause would wait for it
    if not quiet:
        print(f"engine: {opened.name} ({opened.reason})", file=sys.stderr)
        if advice := once(engine, opened.model.name, language):
            print(advice, file=sys.stderr)
    screen = Screen("mic", live=interim)
    with recognizing(opened.model, opened.interims) as recognizer, Microphone(index) as microphone:
        session = Session(recognizer, SileroVad(), settings=turns, options=RecognitionOptions(language, terms))
        if not quiet:
            screen.notice(f"listening to {microphone.name}; Ctrl-C ends")
        asyncio.run(stream(session, microphone, screen))
    return 1 if screen.failed else 0
