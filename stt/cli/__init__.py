"""The command line. Only this package reads the environment, and it imports nothing heavy before a command needs it.

`options.py` says what an option is, each command describes its own in the module of its name, `parser.py` reads them.
"""

import os
import sys
from collections.abc import Sequence
from typing import Final

from stt.cli.bench import BENCH
from stt.cli.client import CLIENT
from stt.cli.devices import DEVICES
from stt.cli.file import FILE
from stt.cli.models import MODELS
from stt.cli.parser import complain, parse
from stt.cli.serve import SERVE
from stt.cli.tui import TUI

COMMANDS: Final = (FILE, SERVE, CLIENT, BENCH, TUI, MODELS, DEVICES)

_DESCRIPTION: Final = """\
Live speech-to-text you run yourself: turn by turn, from files, a microphone or over a WebSocket.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command `stt`; returns its exit status."""
    command, args = parse(COMMANDS, _DESCRIPTION, argv)
    from stt.errors import SettingsError, SttError

    try:
        return command.run(args)
    except SettingsError as error:
        complain(command.name, error)
        return 2
    except SttError as error:
        complain(command.name, error)
        return 1
    except KeyboardInterrupt:
        complain(command.name, "interrupted")
        return 130
    except BrokenPipeError:
        # Whoever read our output has had enough (`stt file x | head`); nothing more can be written, at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
