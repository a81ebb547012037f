"""Options of `stt models`."""

import argparse
from dataclasses import replace
from typing import Final

from stt.cli.options import Argument, Command, Flag
from stt.cli.shared import MODEL_DIR

_DESCRIPTION: Final = """\
List the speech models stt knows, where they are on this machine and how big, or download some.

examples:
  stt models                               what there is
  stt models download canary-qwen          5 GB, for a GPU
  stt models download small --model-dir weights/small
"""


def _run(args: argparse.Namespace) -> int:
    from stt.commands import models

    if args.action == "list":
        return models.list_models(as_json=args.json, quiet=args.quiet)
    return models.download(args.names, args.model_dir)


MODELS: Final = Command(
    name="models",
    help="list speech models, download them",
    description=_DESCRIPTION,
    run=_run,
    arguments=(
        Argument(name="action", nargs="?", choices=("list", "download"), default="list", help="default: list"),
        Argument(name="names", nargs="*", metavar="NAME", help="canary-qwen, a Whisper size (small), or a hub id"),
    ),
    options=(
        replace(MODEL_DIR, help="download into this directory"),
        Flag(name="--json", help="one JSON document per model"),
    ),
)
