"""Options of `stt models`."""

import argparse
from dataclasses import replace
from typing import Final

from stt.cli.options import Argument, Command, Flag, Option
from stt.cli.shared import DEVICES, DTYPES, KERNELS, MODEL_DIR

_DESCRIPTION: Final = """\
List the models stt knows, where they are on this machine and how big, download some, time those that are here on
this machine, or have canary-qwen say what it makes of a few bundled clips: words, speed, memory.

examples:
  stt models                               what there is
  stt models download canary-qwen          5 GB, for a GPU
  stt models download small --model-dir weights/small
  stt models download smart-turn           9 MB, tells when a speaker is done (`--end-of-turn meaning`)
  stt models bench                         how fast those that are here are; `--model auto` goes by it
  stt models verify canary-qwen            to be sent to us, from the first GPUs
"""


def _run(args: argparse.Namespace) -> int:
    from stt.commands import models

    if args.action == "list":
        return models.list_models(as_json=args.json, quiet=args.quiet)
    if args.action == "verify":
        from stt.settings import EngineSettings

        settings = EngineSettings(model_dir=args.model_dir, device=args.device, dtype=args.dtype, kernels=args.kernels)
        return models.verify(args.names, settings)
    if args.action == "bench":
        from stt.settings import EngineSettings

        settings = EngineSettings(device=args.device, dtype=args.dtype)
        return models.bench(args.names, settings, as_json=args.json)
    return models.download(args.names, args.model_dir)


MODELS: Final = Command(
    name="models",
    help="list speech models, download and time them, verify canary-qwen",
    description=_DESCRIPTION,
    run=_run,
    arguments=(
        Argument(
            name="action",
            nargs="?",
            choices=("list", "download", "bench", "verify"),
            default="list",
            help="default: list",
        ),
        Argument(
            name="names", nargs="*", metavar="NAME", help="canary-qwen, smart-turn, a Whisper size (small), or a hub id"
        ),
    ),
    options=(
        replace(MODEL_DIR, help="download into this directory, or verify what is there"),
        Option(
            name="--device",
            default="auto",
            choices=DEVICES,
            help="where bench and verify run; auto: cuda where it can be",
        ),
        Option(
            name="--dtype",
            default="auto",
            choices=DTYPES,
            help="what they compute in; int8: the weights alone; fp8: products",
        ),
        KERNELS,
        Flag(name="--json", help="one JSON document per model"),
    ),
)
