"""The configuration file: what the options are to be where neither the command line nor a variable says it.

    end-of-turn = 1.0      # for every command that has it

    [serve]                # for one command, which wins
    port = 8000
    api-key-file = "~/.keys"

A table has the options of its command under their names; flags are true or false. Above the tables stands what has an
environment variable, under the variable's name: `end-of-turn` is STT_END_OF_TURN. That is the option's name, too, but
where one name means different things: `device`, STT_DEVICE, is where the engine runs, in `stt tui` as well.
"""

import difflib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from stt.cli.options import Command, Flag, Option, ValueProblem

VARIABLE: Final = "STT_CONFIG"


class ConfigProblem(ValueError):  # noqa: N818 - what the user wrote, told like the problems of options
    """The file cannot be used; the text says where and why."""


@dataclass(frozen=True, slots=True)
class Config:
    """What a file says, its names checked."""

    path: Path | None = None
    tables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By command; "" has what stands above the tables."""

    def written(self, command: Command, option: Option | Flag) -> tuple[str, Any] | None:
        """Return where the option's value stands, and the value as TOML has it; `None`: nowhere, or empty."""
        for table, name in ((command.name, _name(option)), ("", general_name(option))):
            value = self.tables.get(table, {}).get(name) if self.path is not None and name else None
            if value == "":  # as with a variable: nothing is said, and so of what stands above the tables
                return None
            if value is not None:
                return f"{self.path}: {f'[{table}] ' if table else ''}{name}", value
        return None


def locate(environment: Mapping[str, str] = os.environ) -> Path | None:
    """Say where the file is, or would be; `None`: there is to be none."""
    if (path := environment.get(VARIABLE)) is not None:
        return Path(path).expanduser() if path else None
    from platformdirs import user_config_path

    return user_config_path("stt", appauthor=False) / "config.toml"


def read(path: Path | None, commands: Sequence[Command]) -> Config:
    """Read the file; where there is none, nothing is said in it.

    Raises:
        ConfigProblem: it cannot be read, is no TOML, or names what there is not.

    """
    try:
        text = path.read_text("utf-8") if path is not None else ""
    except FileNotFoundError:
        return Config()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigProblem(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    if path is None:
        return Config()
    import tomllib

    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigProblem(f"{path}: {error}") from error
    by_name = {command.name: command for command in commands}
    tables: dict[str, dict[str, Any]] = {"": {}}
    general = {name for command in commands for option in command.all_options if (name := general_name(option))}
    for name, value in document.items():
        if isinstance(value, dict):
            _check(path, "table", name, by_name)
            for key in value:
                _check(path, f"option in [{name}]", key, {_name(option) for option in by_name[name].all_options})
            tables[name] = value
        else:
            _check(path, "option", name, general)
            tables[""][name] = value
    return Config(path, tables)


def _check(path: Path, what: str, name: str, known: "set[str] | dict[str, Command]") -> None:
    if name not in known:
        near = difflib.get_close_matches(name.replace("_", "-").lower(), sorted(known), 1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(sorted(known)) or 'none'}"
        raise ConfigProblem(f"{path}: unknown {what}: {name!r}{hint}")


def as_texts(option: Option, value: Any) -> list[Any]:
    """Return what would stand on a command line for a value in TOML.

    Raises:
        ValueProblem: no option has such a value.

    """
    if option.repeats and isinstance(value, list):
        return [text for item in value for text in as_texts(option, item)]
    if value is True and option.bare is not None:
        return [option.bare]
    if isinstance(value, str):
        return [str(Path(value).expanduser()) if value.startswith("~/") else value]  # as a shell does
    if isinstance(value, int | float) and not isinstance(value, bool):
        return [str(value)]
    raise ValueProblem("a text or a number", str(value))


def as_flag(value: Any) -> bool:
    """Return what a flag is in TOML.

    Raises:
        ValueProblem: it is not true or false.

    """
    if not isinstance(value, bool):
        raise ValueProblem("true or false", str(value))
    return value


def _name(option: Option | Flag) -> str:
    return option.name.removeprefix("--")


def general_name(option: Option | Flag) -> str | None:
    """Return an option's name above the tables; `None`: it can stand in tables alone."""
    variable = option.environment if isinstance(option, Option) else None
    return variable.removeprefix("STT_").lower().replace("_", "-") if variable else None
