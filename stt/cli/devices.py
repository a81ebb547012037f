"""`stt devices` has no options of its own."""

import argparse
from typing import Final

from stt.cli.options import Command


def _run(args: argparse.Namespace) -> int:
    from stt.commands.devices import run

    return run(quiet=args.quiet)


DEVICES: Final = Command(
    name="devices",
    help="list microphones",
    description="List the microphones, one a line: number, name, rate.",
    run=_run,
)
