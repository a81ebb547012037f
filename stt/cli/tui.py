"""Options of `stt tui`."""

import argparse
from typing import Final

from stt.cli.options import Command, Flag, Group, Option
from stt.cli.shared import (
    TERMS,
    TURNS,
    engine_options,
    engine_settings,
    said_terms,
    server_options,
    spoken_language,
    turn_settings,
)

_DESCRIPTION: Final = """\
Talk and watch it being written: interim words as you speak, turns as you pause. Press ? in it for the keys.
Everything is kept as it is said; --resume goes on with it.
"""

_EPILOG: Final = """\
examples:
  stt tui                                the default microphone, the engine in this process
  stt tui --device usb                   the microphone whose name has "usb" in it (stt devices lists them)
  stt tui --interim-model tiny.en --model small.en   two models: one keeps up, the other has the last word
  stt tui --source talk.flac             a recording, played as if it were spoken now
  stt tui --connect ws://box:15751       a server recognizes; its key: --api-key or STT_API_KEY
  stt tui --resume                       go on with the last session
  stt tui --sessions                     earlier sessions: read, save, go on with, delete
  stt tui --replay session.jsonl         watch a session again, with its timing

exit status: 0, 1 if a session cannot be read, 2 for a wrong option.
"""


def _run(args: argparse.Namespace) -> int:
    from stt.commands.tui import run

    return run(
        engine=engine_settings(args),
        turns=turn_settings(args),
        language=spoken_language(args),
        terms=said_terms(args),
        source=args.source,
        device=args.device,
        connect=args.connect,
        api_key=args.api_key,
        ca=args.ca,
        resume=args.resume,
        replay=args.replay,
        sessions=args.sessions,
        as_json=args.json,
        autosave=not args.no_autosave,
        record_format=args.record_format,
    )


TUI: Final = Command(
    name="tui",
    help="talk and watch it being written",
    description=_DESCRIPTION,
    epilog=_EPILOG,
    run=_run,
    options=(
        Group(
            "what to listen to",
            (
                Option(
                    name="--device",
                    variable="STT_MICROPHONE",
                    metavar="NAME|INDEX",
                    help="microphone: a part of its name, or its number",
                    shown_default="the system's",
                ),
                Option(
                    name="--source",
                    variable=None,
                    metavar="FILE",
                    help="play an audio file as the microphone, in real time",
                ),
                Option(
                    name="--replay",
                    variable=None,
                    metavar="FILE",
                    help="play a recorded session (.jsonl) back with its timing",
                ),
            ),
        ),
        server_options("ws://HOST:PORT of an `stt serve` that is to recognize, in place of an engine here"),
        Group(
            "what is kept",
            (
                Option(
                    name="--resume",
                    variable=None,
                    bare="",
                    metavar="FILE",
                    help="go on with the last session, or the one in FILE",
                ),
                Flag(name="--sessions", help="show the sessions there are: to read, save, go on with, delete"),
                Flag(name="--json", help="with --sessions: print one JSON document for each"),
                Flag(name="--no-autosave", help="do not keep the session as it grows"),
                Option(
                    name="--record-format",
                    default="wav",
                    choices=("wav", "flac"),
                    help="of the audio that the key r records",
                ),
            ),
        ),
        engine_options(device="--engine-device", interims=True),
        TERMS,
        TURNS,
    ),
)
