"""The command line by argparse, made from the description of the commands.

argparse only takes the words apart. What they stand for is found here, the same way for options and for environment
variables, and for those alone that the command has: a wrong STT_PORT is no matter of `stt file`.
"""

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from stt.cli.configfile import Config, ConfigProblem, as_flag, as_texts, read
from stt.cli.options import Argument, Command, Flag, Group, Option, ValueProblem


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say what was wrong, and where to read more."""
        self.exit(2, f"{self.prog}: {message}\n{self.prog} --help tells more\n")

    def print_help(self, file: Any = None) -> None:
        """Print the help; argparse itself hides it where that fails."""
        print(self.format_help(), end="", file=file)


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        from importlib.metadata import version

        from stt.machine import DISTRIBUTION

        print(f"stt {version(DISTRIBUTION)}")
        parser.exit()


def parse(
    commands: Sequence[Command],
    description: str,
    argv: Sequence[str] | None = None,
    environment: Mapping[str, str] = os.environ,
    config_file: Callable[[], Path | None] = lambda: None,
) -> tuple[Command, argparse.Namespace]:
    """Return the command asked for, and the values of its options; exits with 2 where they cannot be used.

    `config_file` says where the configuration file is, and is asked when a command needs it.
    """
    parser, parsers = build(commands, description)
    written, unknown = parser.parse_known_args(argv)
    if unknown:
        parsers[written.command].error(f"unrecognized arguments: {' '.join(unknown)}")
    [command] = [command for command in commands if command.name == written.command]
    try:
        config = read(config_file(), commands) if command.configured else Config()
        _take_values(command, written, environment, config)
    except ConfigProblem as problem:
        parsers[command.name].error(str(problem))
    return command, written


def build(commands: Sequence[Command], description: str) -> tuple[argparse.ArgumentParser, dict[str, _Parser]]:
    """Return argparse's form of the commands: the whole, and each by its name."""
    parser = _Parser(
        prog="stt",
        description=description,
        epilog="`stt COMMAND --help` tells more about a command. Options can also be set as STT_* variables, and in a "
        "configuration file: `stt config`.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Parser)
    return parser, {command.name: _add(subparsers, command) for command in commands}


@dataclass(frozen=True, slots=True)
class Value:
    """What an option is, and who says so."""

    value: Any
    origin: str | None = None
    """The option as on the command line, its variable, or its place in the configuration file; `None`: the default."""
    texts: Sequence[Any] = ()
    """What is written there, as on a command line."""


def find(
    command: Command,
    option: Option | Flag,
    written: argparse.Namespace,
    environment: Mapping[str, str],
    config: Config,
) -> Value:
    """Find an option's value: on the command line, else in its variable, in the configuration file, its default.

    Raises:
        ConfigProblem: what is written cannot be used; says where it is written.

    """
    origin, texts = option.name, getattr(written, option.attribute, None)
    try:
        if isinstance(option, Flag):
            if texts is not None:
                return Value(texts, origin)
            if (said := config.written(command, option)) is None:
                return Value(value=False)
            origin, value = said
            return Value(as_flag(value), origin)
        if texts is None and (text := option.written_in(environment)) is not None:
            origin, texts = f"environment variable {option.environment}", [text]
        elif texts is None and (said := config.written(command, option)) is not None:
            origin, texts = said[0], said[1]
            texts = as_texts(option, texts)
        if not texts:
            return Value(option.default)
        values = [option.value(text) if isinstance(text, str) else text for text in texts]
    except ValueProblem as problem:
        raise ConfigProblem(f"{origin}: {problem}") from problem
    return Value([item for part in values for item in part] if option.repeats else values[-1], origin, texts)


def _take_values(command: Command, written: argparse.Namespace, environment: Mapping[str, str], config: Config) -> None:
    """Put values in the place of texts. `given` gets the attributes of the options on the command line.

    `origins` gets a line for each value that is not the default, with who says so; `said` who says so, by attributes.
    """
    written.given = frozenset(
        o.attribute for o in command.all_options if isinstance(o, Option) and o.attribute in written
    )
    written.origins = []
    written.said = {}
    for option in command.all_options:
        found = find(command, option, written, environment, config)
        setattr(written, option.attribute, found.value)
        if found.origin is not None:
            written.said[option.attribute] = found.origin
            shown = "not shown" if isinstance(option, Option) and option.secret else found.value
            written.origins.append(f"{option.name} {shown} ({found.origin})")


def _add(subparsers: Any, command: Command) -> _Parser:
    parser: _Parser = subparsers.add_parser(
        command.name,
        help=command.help,
        description=command.description,
        epilog=command.epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for argument in command.arguments:
        _add_argument(parser, argument)
    for part in command.options:
        if isinstance(part, Group):
            group = parser.add_argument_group(part.title)
            for option in part.options:
                _add_option(group, option)
        else:
            _add_option(parser, part)
    return parser


def _add_argument(parser: _Parser, argument: Argument) -> None:
    described = {"metavar": argument.metavar, "nargs": argument.nargs, "choices": argument.choices or None}
    given = {name: value for name, value in described.items() if value is not None}
    parser.add_argument(argument.name, help=_escaped(argument.help), default=argument.default, **given)


def _add_option(parser: Any, option: Option | Flag) -> None:
    names = (option.name, *option.aliases)
    if isinstance(option, Flag):
        parser.add_argument(*names, action="store_true", default=argparse.SUPPRESS, help=_escaped(option.help))
        parser.add_argument(
            option.opposite,
            dest=option.attribute,
            action="store_false",
            default=argparse.SUPPRESS,
            help=argparse.SUPPRESS,
        )
        return
    metavar = option.metavar or ("{" + ",".join(option.choices) + "}" if option.choices else None)
    bare = {} if option.bare is None else {"nargs": "?", "const": option.bare}
    parser.add_argument(
        *names,
        dest=option.attribute,
        action="append",
        default=argparse.SUPPRESS,
        metavar=metavar or option.name.removeprefix("--").replace("-", "_").upper(),
        help=_escaped(help_text(option)),
        **bare,
    )


def help_text(option: Option) -> str:
    """Say what an option is for, its default and its variable."""
    shown = option.shown_default
    if shown is None and option.default not in (None, [], ""):
        shown = f"{option.default:g}" if isinstance(option.default, float) else str(option.default)
    default = f" (default: {shown})" if shown else ""
    variable = f" [{option.environment}]" if option.environment else ""
    return f"{option.help}{default}{variable}"


def _escaped(text: str) -> str:
    return text.replace("%", "%%")


def complain(command: str, message: object) -> None:
    """Say on standard error what went wrong."""
    print(f"stt {command}: {message}", file=sys.stderr)
