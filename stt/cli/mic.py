"""Options of `stt mic`."""

import argparse
import sys
from dataclasses import replace
from typing import Final

from stt.cli.options import Command, Flag, Option
from stt.cli.shared import TERMS, TURNS, engine_options, engine_settings, said_terms, spoken_language, turn_settings

_DESCRIPTION: Final = """\
Listen to a microphone and print what is said, a line for each turn, as soon as it ends: for pipes. `stt tui` shows
more. Ctrl-C ends the sound and waits for the last turn; twice: at once.
"""

_EPILOG: Final = """\
examples:
  stt mic | tee notes.txt                  keep what is said
  stt mic --interim                        see the running turn, too (on a terminal)
  stt mic -q | while read -r line; do notify-send "$line"; done

exit status: 0, 1 if something was not recognized or the microphone is gone, 2 for a wrong option.
"""


def _run(args: argparse.Namespace) -> int:
    from stt.commands.mic import run

    shown = args.interim and sys.stdout.isatty()
    engine = engine_settings(args)
    return run(
        engine=engine if shown else replace(engine, interim_model=None),
        turns=turn_settings(args) if shown else turn_settings(args, interim_s=None),
        language=spoken_language(args),
        terms=said_terms(args),
        device=args.device,
        interim=shown,
        quiet=args.quiet,
    )


MIC: Final = Command(
    name="mic",
    help="print what is said into a microphone",
    description=_DESCRIPTION,
    epilog=_EPILOG,
    run=_run,
    options=(
        Option(
            name="--device",
            variable="STT_MICROPHONE",
            metavar="NAME|INDEX",
            help="microphone: a part of its name, or its number; asked for at a terminal if there are several",
        ),
        Flag(name="--interim", help="show the running turn as it changes, on a terminal"),
        engine_options(device="--engine-device", interims=True),
        TERMS,
        TURNS,
    ),
)
