"""`stt man`: the manual page, made from the same description as the command line."""

import argparse
import re
from collections.abc import Iterator, Sequence
from typing import Final

from stt.cli.configfile import VARIABLE
from stt.cli.options import Argument, Command, Flag, Group, Option

_DESCRIPTION: Final = """\
Print the manual page.

examples:
  stt man | man -l -                                   read it
  stt man >~/.local/share/man/man1/stt.1               for `man stt`
"""

_FILES: Final = f"""\
~/.config/stt/config.toml, or what ${VARIABLE} names: options for all commands, and in a table [COMMAND] for one.
`stt config` shows what is in force, and where it comes from. On macOS it lies in ~/Library/Application Support/stt.
"""

_STATUS: Final = """\
0: all went well. 1: something did not, and was said on standard error. 2: an option, a variable or the configuration
file says what cannot be. 130: interrupted.
"""


def page(commands: Sequence[Command], description: str, version: str) -> str:
    """Return the page, as troff with the macros of man(7)."""
    lines = [
        f'.TH STT 1 "" "stt {_escaped(version)}" "User Commands"',
        ".SH NAME",
        "stt \\- live speech\\-to\\-text you run yourself",
        ".SH SYNOPSIS",
        ".B stt",
        ".I COMMAND",
        "[options]",
        ".SH DESCRIPTION",
        *_prose(description),
        ".SH COMMANDS",
    ]
    for command in commands:
        lines += [f".SS stt {_escaped(_synopsis(command))}", *_prose(command.description)]
        for argument in command.arguments:
            lines += [".TP", f"\\fI{_escaped(argument.metavar or argument.name)}\\fR", *_text(_argument_help(argument))]
        for part in command.options:
            if isinstance(part, Group):
                lines += [".P", f"\\fB{_escaped(part.title)}\\fR"]
            for option in part.options if isinstance(part, Group) else (part,):
                lines += [".TP", _names(option), *_text(described(option))]
        lines += _prose(command.epilog or "")
    lines += [".SH ENVIRONMENT", "An option wins over its variable, and that over the configuration file."]
    for variable, names in sorted(_variables(commands).items()):
        lines += [".TP", f"\\fB{_escaped(variable)}\\fR", *_text(", ".join(names))]
    lines += [".SH FILES", *_prose(_FILES), ".SH EXIT STATUS", *_prose(_STATUS)]
    return "\n".join(lines) + "\n"


def described(option: Option | Flag) -> str:
    """Say what an option is for, its choices, default and variable."""
    if isinstance(option, Flag):
        return option.help
    from stt.cli.parser import help_text

    choices = f"; one of {', '.join(option.choices)}" if option.choices else ""
    return help_text(option).replace(option.help, option.help + choices, 1)


def _synopsis(command: Command) -> str:
    words = [command.name, *(["[options]"] if command.options else [])]
    for argument in command.arguments:
        name = argument.metavar or argument.name
        words.append({"+": f"{name}...", "*": f"[{name}...]", "?": f"[{name}]", None: name}[argument.nargs])
    return " ".join(words)


def _argument_help(argument: Argument) -> str:
    return argument.help + (f"; one of {', '.join(argument.choices)}" if argument.choices else "")


def _names(option: Option | Flag) -> str:
    names = ", ".join(f"\\fB{_escaped(name)}\\fR" for name in (*option.aliases, option.name))
    if isinstance(option, Flag):
        return names
    value = option.metavar or (option.name.removeprefix("--").replace("-", "_").upper())
    return f"{names} \\fI{_escaped(value if option.bare is None else f'[{value}]')}\\fR"


def _variables(commands: Sequence[Command]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {VARIABLE: ["the configuration file; empty: none"]}
    for command in commands:
        for option in command.all_options:
            if isinstance(option, Option) and option.environment:
                names = found.setdefault(option.environment, [])
                names += [option.name] if option.name not in names else []
    return found


def _prose(text: str) -> Iterator[str]:
    """Set paragraphs; what is indented, as examples are, stays as it is."""
    for paragraph in re.split(r"\n\s*\n", text.strip("\n")):
        if not paragraph.strip():
            continue
        yield ".P"
        indented = False
        for line in paragraph.splitlines():
            if line.startswith(" ") != indented:
                indented = not indented
                yield ".EX" if indented else ".EE"
            yield from _text(line)
        if indented:
            yield ".EE"


def _text(text: str) -> Iterator[str]:
    escaped = _escaped(text)
    yield f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


def _escaped(text: str) -> str:
    return (
        text.replace("\\", "\\e").replace("-", "\\-").replace("`", "\\(ga").replace("~", "\\(ti").replace("^", "\\(ha")
    )


def _run(args: argparse.Namespace) -> int:  # noqa: ARG001 - called like the others
    from importlib.metadata import version

    from stt.cli import COMMANDS, DESCRIPTION
    from stt.machine import DISTRIBUTION

    print(page(COMMANDS, DESCRIPTION, version(DISTRIBUTION)), end="")
    return 0


MAN: Final = Command(name="man", help="print the manual page", description=_DESCRIPTION, run=_run, configured=False)
