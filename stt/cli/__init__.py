"""The command line. Only this package reads the environment, and it imports nothing heavy before a command needs it.

`options.py` says what an option is, each command describes its own in the module of its name, `parser.py` reads them.
"""

import sys
from argparse import Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from stt.cli import streams
from stt.cli.ask import ASK
from stt.cli.bench import BENCH
from stt.cli.client import CLIENT
from stt.cli.cluster import CLUSTER
from stt.cli.completion import COMPLETION
from stt.cli.config import CONFIG
from stt.cli.configfile import locate
from stt.cli.devices import DEVICES
from stt.cli.doctor import DOCTOR
from stt.cli.file import FILE
from stt.cli.man import MAN
from stt.cli.mic import MIC
from stt.cli.models import MODELS
from stt.cli.options import Command
from stt.cli.parser import complain, parse
from stt.cli.serve import SERVE
from stt.cli.shared import talkative
from stt.cli.tui import TUI

if TYPE_CHECKING:
    from stt.errors import SttError

COMMANDS: Final = tuple(
    talkative(command)
    for command in (
        FILE,
        SERVE,
        CLIENT,
        CLUSTER,
        BENCH,
        TUI,
        MIC,
        ASK,
        MODELS,
        DEVICES,
        DOCTOR,
        CONFIG,
        COMPLETION,
        MAN,
    )
)

DESCRIPTION: Final = """\
Live speech-to-text you run yourself: turn by turn, from files, a microphone or over a WebSocket.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command `stt`; returns its exit status, or raises `SystemExit` with it."""
    streams.prepare()
    try:
        try:
            return _run(*parse(COMMANDS, DESCRIPTION, argv, config_file=locate))
        finally:
            sys.stdout.flush()  # not at Python's exit, which has no words for what may go wrong
    except BrokenPipeError:  # whoever read our output has had enough (`stt file x | head`)
        streams.give_up_stdout()
        return 141
    except OSError as error:
        from stt.errors import reason

        print(f"stt: standard output: {reason(error)}", file=sys.stderr)
        streams.give_up_stdout()
        return 1


def _named(error: "SttError", args: Namespace) -> str:
    """Put what was written, an option or a variable, in the place of the setting that an error is about."""
    text, setting = str(error), error.setting
    if setting is None:
        return text
    said = args.said.get(f"engine_{setting}") or args.said.get(setting)
    return f"{said}{text.removeprefix(setting)}" if said else text


def _trace(args: Namespace) -> None:
    if args.verbose:
        from traceback import print_exc

        print_exc()


def _run(command: Command, args: Namespace) -> int:
    from stt.errors import OutputError, SettingsError, SttError, reason

    if args.verbose:
        for origin in args.origins:
            complain(command.name, origin)
    try:
        return command.run(args)
    except SttError as error:
        _trace(args)
        complain(command.name, _named(error, args))
        if isinstance(error, OutputError):
            streams.give_up_stdout()
        return 2 if isinstance(error, SettingsError) else 1
    except OSError as error:  # a file or folder that somebody named may not be looked at, the disk is full, ...
        if error.filename is None:  # standard output, which is told by whoever gives it up
            raise
        from stt.sources import printable

        _trace(args)
        complain(command.name, f"{printable(str(error.filename))}: {reason(error)}")
        return 1
    except KeyboardInterrupt:
        complain(command.name, "interrupted")
        return 130
