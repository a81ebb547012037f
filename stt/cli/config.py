"""`stt config`: what is in force for each command, and who says so. Works on what the command line is described by."""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any, Final

from stt.cli.configfile import ConfigProblem, locate, read
from stt.cli.options import Argument, Command, Flag, Option
from stt.cli.parser import Value, find

_DESCRIPTION: Final = """\
Show what is in force for each command, and where it comes from: a variable, the configuration file, or the default.
What it prints is such a file. Above the tables stands what holds for all commands; an option in the table of a command,
a variable and an option on the command line win over it, each over those before.
"""

_EPILOG: Final = """\
examples:
  stt config                      all of it
  stt config serve                of one command
  stt config --path               where the file is, or would be ($STT_CONFIG, or $STT_CONFIG= for none)

a configuration file:
  end-of-turn = 1.0
  language = "de"
  model = "small"

  [serve]
  port = 8000
  api-key-file = "~/.keys"

exit status: 0, 1 if something that is written cannot be used.
"""


def _run(args: argparse.Namespace) -> int:
    from stt.cli import COMMANDS
    from stt.errors import SettingsError

    path = locate()
    if args.path:
        print(path or "")
        return 0
    commands = [command for command in COMMANDS if command.configured and command.all_options]
    names = [command.name for command in commands]
    if unknown := [name for name in args.commands if name not in names]:
        msg = f"expected one of {', '.join(names)}, got {', '.join(unknown)}"
        raise SettingsError(msg)
    try:
        config = read(path, COMMANDS)
    except ConfigProblem as problem:
        raise SettingsError(str(problem)) from problem
    there = "" if config.path else " (there is none)"
    print(f"# {path}{there}" if path else "# no configuration file")
    problems = []
    for command in commands:
        if not args.commands or command.name in args.commands:
            print(f"\n[{command.name}]")
            for option in command.all_options:
                try:
                    print(_line(option, find(command, option, argparse.Namespace(), os.environ, config)))
                except ConfigProblem as problem:
                    problems.append(str(problem))
                    print(f"# {option.name.removeprefix('--')}: {problem}")
    for problem in dict.fromkeys(problems):
        print(f"stt config: {problem}", file=sys.stderr)
    return 1 if problems else 0


def _line(option: Option | Flag, found: Value) -> str:
    name = option.name.removeprefix("--")
    origin = found.origin or "default"
    if isinstance(option, Flag):
        return f"{name} = {str(found.value).lower()}  # {origin}"
    if option.secret and found.origin:
        return f"# {name}: not shown  # {origin}"
    values = list(found.texts if found.origin else option.default if option.repeats else [option.default])
    if values == [None]:
        return f"# {name}{f': {option.shown_default}' if option.shown_default else ''}  # {origin}"
    if option.repeats:
        return f"{name} = [{', '.join(map(_toml, values))}]  # {origin}"
    return f"{name} = {_toml(found.value if isinstance(found.value, int | float) else values[-1])}  # {origin}"


def _toml(value: Any) -> str:
    # JSON's numbers and texts are TOML's, but for the one character that JSON leaves as it is.
    return json.dumps(str(value) if isinstance(value, Path) else value, ensure_ascii=False).replace("\x7f", "\\u007f")


CONFIG: Final = Command(
    name="config",
    help="show the options in force, and where they come from",
    description=_DESCRIPTION,
    epilog=_EPILOG,
    run=_run,
    arguments=(Argument(name="commands", nargs="*", metavar="COMMAND", help="only of these"),),
    options=(Flag(name="--path", help="print the name of the configuration file"),),
    configured=False,
)
