"""`stt devices` has no options."""

import argparse
from typing import Final

from stt.cli.options import Command


def _run(args: argparse.Namespace) -> int:  # noqa: ARG001 - called like the others
    from stt.commands.devices import run

    return run()


DEVICES: Final = Command(
    name="devices",
    help="list microphones",
    description="List the microphones, one a line: number, name, rate.",
    run=_run,
)
