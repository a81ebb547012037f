"""Messages of the native protocol that steer a running session: `flush`, `clear` and `configure`. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Protocol

from stt.control import Clear, Configure, Control, Flush
from stt.recognition import RecognitionOptions
from stt.server.dialects.native_reader import ProtocolError
from stt.server.dialects.reading import shown
from stt.settings import TurnSettings

KINDS: Final = ("flush", "clear", "configure")
ENDS: Final = (
    "end_of_turn",
    "end_of_turn_ms",
    "pause_ms",
    "eagerness",
    "eot_threshold",
    "eot_delay_ms",
    "eot_timeout_ms",
    "eager",
)
"""Settings of what ends a turn."""
_MAY_CHANGE: Final = (*ENDS, "language")
_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "end_of_turn": (str,),
    "eagerness": (str,),
    "language": (str,),
    "eot_threshold": (int, float),
    "eager": (bool,),
}
_EXPECTED: Final = {str: "a string", bool: "true or false", int: "a whole number"}


class Wanted(Protocol):
    """What of `native.Options` can be changed later."""

    @property
    def turns(self) -> TurnSettings: ...
    @property
    def language(self) -> str | None: ...


Parse = Callable[[Sequence[tuple[str, str]], TurnSettings, str | None], Wanted]
"""`native.parse_options`: names and values over what holds."""


class Controls:
    """What one session goes by, as its client has set it so far.

    `configure` sets what it names; the rest stays. Values are held to the bounds of those in the URL, and a message
    with one that cannot work changes nothing.
    """

    def __init__(
        self, turns: TurnSettings, options: RecognitionOptions, languages: frozenset[str], parse: Parse
    ) -> None:
        """Begin with what the URL asked for; `languages`: those that the engine knows, empty where nobody can tell."""
        self._parse = parse
        self._turns = turns
        self._options = options
        self._languages = languages

    def read(self, message: Mapping[str, Any]) -> Control:
        """Take a message whose `type` is one of `KINDS`.

        Raises:
            ProtocolError: it has a setting that is unknown or cannot work.

        """
        kind = message["type"]
        given = {name: value for name, value in message.items() if name != "type"}
        known = _MAY_CHANGE if kind == "configure" else ()
        for name, value in given.items():
            if name not in known:
                raise ProtocolError(
                    "bad_option", f"unknown setting {shown(name)} of {kind}; known: {', '.join(known) or 'none'}"
                )
            types = _TYPES.get(name, (int,))
            if type(value) not in types:
                expected = "a number" if float in types else _EXPECTED[types[0]]
                raise ProtocolError("bad_option", f"{name} must be {expected}, got {shown(value)}")
        match kind:
            case "flush":
                return Flush()
            case "clear":
                return Clear()
            case _:
                return self._configure(given)

    def _configure(self, given: Mapping[str, Any]) -> Configure:
        query = [(name, str(int(v) if isinstance(v, bool) else v)) for name, v in given.items()]
        wanted = self._parse(query, self._turns, self._options.language)
        if self._languages and wanted.language is not None and wanted.language not in self._languages:
            known = ", ".join(sorted(self._languages)[:12])
            raise ProtocolError("bad_option", f"language: the engine knows {known}, got {shown(wanted.language)}")
        self._turns, self._options = wanted.turns, replace(self._options, language=wanted.language)
        return Configure(self._turns, self._options)
