"""What an option is: described once, here as a value, for parsing, help, and whatever else speaks of options.

A command's options lie in the module of its name beside this one. Nothing heavy is imported.
"""

import argparse
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_PREFIX: Final = "STT_"
# What Kubernetes sets for a service named `stt`, in every container of its namespace: STT_PORT=tcp://10.0.0.1:15751
_SERVICE_LINK: Final = re.compile(r"(tcp|udp|sctp)://\S+:\d+")


class ValueProblem(ValueError):  # noqa: N818 - a problem of what a user wrote, which the parser tells
    """A value cannot be used; the text says what was expected and what came, not of which option."""

    def __init__(self, expected: str, got: str) -> None:
        super().__init__(f"expected {expected}, got {got!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """An option with a value, which an environment variable gives where the command line does not."""

    name: str
    """With its dashes: `--end-of-turn`."""
    help: str
    default: Any = None
    shown_default: str | None = None
    """The default in words, where its value does not tell; an empty text: do not speak of it."""
    convert: Callable[[str], Any] = str
    """Makes the value of what was written, or raises `ValueProblem`."""
    choices: tuple[str, ...] = ()
    metavar: str | None = None
    aliases: tuple[str, ...] = ()
    """Other names: `-o`."""
    variable: str | None = "*"
    """`*`: that of the name, `STT_END_OF_TURN`; `None`: the command line alone."""
    dest: str | None = None
    """Attribute of the parsed arguments; `None`: that of the name, `end_of_turn`."""
    repeats: bool = False
    """`convert` gives a list; several on a command line are joined."""
    bare: Any = None
    """Its value where it is given without one; `None`: it needs one."""
    secret: bool = False
    """Not to be shown."""

    @property
    def attribute(self) -> str:
        return self.dest or self.name.removeprefix("--").replace("-", "_")

    @property
    def environment(self) -> str | None:
        """The environment variable that stands for it."""
        if self.variable != "*":
            return self.variable
        return _PREFIX + self.name.removeprefix("--").replace("-", "_").upper()

    def value(self, text: str) -> Any:
        """Return what a text stands for.

        Raises:
            ValueProblem: it is none of the choices, cannot be converted, or is empty: `--api-key "$NOT_SET"` is a
                mistake, and an expensive one.

        """
        if not text and text != self.bare:
            raise ValueProblem("a value", text)
        if self.choices and text not in self.choices:
            raise ValueProblem(f"one of {', '.join(self.choices)}", text)
        return self.convert(text)

    def written_in(self, environment: Mapping[str, str]) -> str | None:
        """Return what the variable holds; `None`: unset, empty, or set by Kubernetes for what is no option."""
        text = environment.get(self.environment) if self.environment else None
        if not text or (self.environment == f"{_PREFIX}PORT" and _SERVICE_LINK.fullmatch(text)):
            return None
        return text


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """An option without a value."""

    name: str
    help: str
    aliases: tuple[str, ...] = ()

    @property
    def attribute(self) -> str:
        return self.name.removeprefix("--").replace("-", "_")

    @property
    def opposite(self) -> str:
        """What takes it back where the configuration file has it: `--no-json`, and `--autosave` for `--no-autosave`."""
        name = self.name.removeprefix("--")
        return "--" + (name.removeprefix("no-") if name.startswith("no-") else f"no-{name}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """What stands on the command line without a name."""

    name: str
    help: str
    metavar: str | None = None
    nargs: str | None = None
    choices: tuple[str, ...] = ()
    default: Any = None


@dataclass(frozen=True, slots=True)
class Group:
    """Options that stand under a heading of their own in the help."""

    title: str
    options: tuple[Option | Flag, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command of `stt`."""

    name: str
    help: str
    """A few words for the list of commands."""
    description: str
    run: Callable[[argparse.Namespace], int]
    """Called with the values of all options; returns the exit status."""
    epilog: str | None = None
    arguments: tuple[Argument, ...] = ()
    options: tuple[Option | Flag | Group, ...] = ()
    configured: bool = True
    """Whether the configuration file has its options; else it runs whatever stands there."""

    @property
    def all_options(self) -> tuple[Option | Flag, ...]:
        """The options of all groups."""
        return tuple(
            option for part in self.options for option in (part.options if isinstance(part, Group) else (part,))
        )


def number(low: float, high: float, what: str = "a number") -> Callable[[str], float]:
    """Convert to a number from `low` to `high`; `what` names it in errors."""

    def convert(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise ValueProblem(f"{what} from {low:g} to {high:g}", text)
        return value

    return convert


def seconds(low: float, high: float) -> Callable[[str], float]:
    """Convert to seconds from `low` to `high`."""
    return number(low, high, "seconds")


def count(low: int, high: int, what: str = "a whole number") -> Callable[[str], int]:
    """Convert to a whole number from `low` to `high`; `what` names it in errors."""

    def convert(text: str) -> int:
        # A limit on the length: int() of very many digits is slow, and refused by Python.
        if not (text.isascii() and text.isdigit() and len(text) < 20 and low <= int(text) <= high):
            raise ValueProblem(f"{what} from {low} to {high}", text)
        return int(text)

    return convert


def path(text: str) -> Path:
    """Convert to a path."""
    return Path(text)


def items(text: str) -> list[str]:
    """Convert `a,b` to a list."""
    return [item.strip() for item in text.split(",") if item.strip()]


def language(text: str) -> str:
    """Convert a language tag (`de`, `DE`, `de-AT`, `de_AT.UTF-8`) to its language in lower case; `auto` stays."""
    if text.lower() == "auto":
        return "auto"
    if (tag := re.fullmatch(r"([a-z]{2,3})([-_.@][\w.@-]*)?", text, re.IGNORECASE | re.ASCII)) is None:
        raise ValueProblem("a language code like en, de or pt-BR, or auto", text)
    return tag[1].lower()


def raw_pcm(text: str) -> tuple[int, int]:
    """Convert `44100x2` to rate and channels."""
    if (parts := re.fullmatch(r"(\d{1,9})(?:x(\d{1,4}))?", text, re.ASCII)) is None:
        raise ValueProblem("a sample rate in Hz, or one with channels like 44100x2", text)
    from stt.audio import MAX_CHANNELS, MAX_RATE, MIN_RATE

    rate, channels = int(parts[1]), int(parts[2] or "1")
    if not (MIN_RATE <= rate <= MAX_RATE and 1 <= channels <= MAX_CHANNELS):
        raise ValueProblem(f"{MIN_RATE} to {MAX_RATE} Hz, and 1 to {MAX_CHANNELS} channels", text)
    return rate, channels


def track(text: str) -> str:
    """Convert to the number of an audio track, from 1, or the language it is in: checked alone, it stays a text."""
    if re.fullmatch(r"0*[1-9]\d{0,8}|[a-z]{2,3}([-_]\w+)*", text, re.IGNORECASE | re.ASCII) is None:
        raise ValueProblem("the number of a track, from 1, or a language like de or deu", text)
    return text


def host(text: str) -> str:
    """Convert the name or address of a host; an IPv6 address may stand in brackets, as it does in URLs."""
    return text[1:-1] if re.fullmatch(r"\[[^\[\]]*:[^\[\]]*\]", text) else text


def address(text: str) -> tuple[str, int]:
    """Convert `HOST:PORT`; a port alone is one of this machine, for its own programs."""
    name, _, port = text.rpartition(":")
    try:
        return host(name) or "127.0.0.1", count(0, 65535)(port)
    except ValueProblem:
        raise ValueProblem("HOST:PORT, or a port alone for this machine only", text) from None
