"""Options of `stt client`."""

import argparse
from dataclasses import replace
from typing import Final

from stt.cli.options import Argument, Command, Flag, Option
from stt.cli.shared import API_KEY, CA, END_OF_TURN_OPTIONS, LANGUAGE, TERMS, URL, said_terms, turn_ends

_DESCRIPTION: Final = """\
Stream a file or the microphone to a server (`stt serve`) and print what it hears, live. When the server restarts, the
client connects again and goes on where it was. Ctrl-C ends the audio and waits for the last final; twice: at once.
"""


def _run(args: argparse.Namespace) -> int:
    from stt.commands.client import run

    turns = None
    if any(getattr(args, option.attribute) is not None for option in END_OF_TURN_OPTIONS):
        args.end_of_turn = args.end_of_turn or "auto"  # who says how soon wants it by meaning
        args.eagerness = args.eagerness or "medium"
        turns = turn_ends(args)
    return run(
        args.path,
        url=args.url,
        api_key=args.api_key,
        ca=args.ca,
        device=args.mic,
        language=args.language,
        terms=said_terms(args),
        turns=turns,
        fast=args.fast,
        words=args.words,
        raw=args.json,
        quiet=args.quiet,
    )


CLIENT: Final = Command(
    name="client",
    help="stream a file or the microphone to a server",
    description=_DESCRIPTION,
    run=_run,
    arguments=(
        Argument(name="path", nargs="?", metavar="FILE", help="audio file, or - for standard input; none: microphone"),
    ),
    options=(
        URL,
        API_KEY,
        CA,
        Option(
            name="--mic",
            # The predecessor's name for it; in other commands that is where an engine runs, and STT_DEVICE with it.
            aliases=("--device",),
            metavar="NAME|INDEX",
            help="microphone (`stt devices`); asked for at a terminal if there are several",
        ),
        replace(LANGUAGE, default=None, help="language spoken", shown_default="that of the server"),
        *(replace(option, default=None, shown_default="that of the server") for option in END_OF_TURN_OPTIONS),
        Flag(name="--fast", help="send a file as fast as the server takes it"),
        Flag(
            name="--words",
            help="print a line for each word, tabs between: when it begins and ends in seconds, how sure the engine "
            "is (0 to 1), the word; with --json, finals have them",
        ),
        Flag(name="--json", help="print the messages as they come"),
        TERMS,
    ),
)
