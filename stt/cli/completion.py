"""`stt completion`: what a shell needs to complete the command line, made from its description by shtab."""

import argparse
from typing import Final

from stt.cli.options import Argument, Command, Option

SHELLS: Final = ("bash", "zsh", "fish")

_DESCRIPTION: Final = """\
Print a script with which a shell completes commands, options, their choices and file names.
"""

_EPILOG: Final = """\
examples:
  stt completion bash >~/.local/share/bash-completion/completions/stt
  stt completion zsh  >"${fpath[1]}/_stt"
  stt completion fish >~/.config/fish/completions/stt.fish
"""

_FILES: Final = ("FILE", "PATH", "DIR|FILE|-")
_FOLDERS: Final = ("DIR", "DIR|ID")


def script(shell: str) -> str:
    """Return the script for one of `SHELLS`."""
    import shtab

    from stt.cli import COMMANDS, DESCRIPTION
    from stt.cli.parser import build

    parser, parsers = build(COMMANDS, DESCRIPTION)
    for command in COMMANDS:
        choices = {option.attribute: option.choices for option in command.all_options if isinstance(option, Option)}
        for action in parsers[command.name]._actions:  # noqa: SLF001 - where shtab looks, too; there is no other way
            action.choices = action.choices or choices.get(action.dest) or None
            if action.metavar in _FILES:
                action.complete = shtab.FILE  # type: ignore[attr-defined] - shtab's word for it
            elif action.metavar in _FOLDERS:
                action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    return shtab.complete(parser, shell)


def _run(args: argparse.Namespace) -> int:
    print(script(args.shell))
    return 0


COMPLETION: Final = Command(
    name="completion",
    help="print completions for a shell",
    description=_DESCRIPTION,
    epilog=_EPILOG,
    run=_run,
    arguments=(Argument(name="shell", choices=SHELLS, help="which one"),),
    configured=False,
)
