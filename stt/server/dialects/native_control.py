"""Messages of the native protocol that steer a running session: `flush`, `clear` and `configure`. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Protocol

from stt.control import Clear, Configure, Control, Flush
from stt.recognition import RecognitionOptions
from stt.recognition.engine import unknown_engine
from stt.server.dialect import Request
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
_NUMBER: Final = "a whole number"
_MAY_CHANGE: Final = {
    **dict.fromkeys(ENDS, _NUMBER),
    "end_of_turn": "a string",
    "eagerness": "a string",
    "eot_threshold": "a number",
    "eager": "true or false",
    "language": "a string",
    "engine": "a string",
    "terms": "a list of strings",
}
"""Settings, and what they have to be."""


class Wanted(Protocol):
    """What of `native.Options` can be changed later."""

    @property
    def turns(self) -> TurnSettings: ...
    @property
    def language(self) -> str | None: ...
    @property
    def terms(self) -> tuple[str, ...] | None: ...
    @property
    def engine(self) -> str | None: ...


Parse = Callable[[Sequence[tuple[str, str]], TurnSettings, str | None], Wanted]
"""`native.parse_options`: names and values over what holds."""


class Controls:
    """What one session goes by, as its client has set it so far.

    `configure` sets what it names; the rest stays. Values are held to the bounds of those in the URL, and a message
    with one that cannot work changes nothing.
    """

    def __init__(self, turns: TurnSettings, options: RecognitionOptions, request: Request, parse: Parse) -> None:
        """Begin with what the URL asked for."""
        self._parse = parse
        self._turns = turns
        self._options = options
        self._request = request

    def read(self, message: Mapping[str, Any]) -> Control:
        """Take a message whose `type` is one of `KINDS`.

        Raises:
            ProtocolError: it has a setting that is unknown or cannot work.

        """
        kind = message["type"]
        given = {name: value for name, value in message.items() if name != "type"}
        known = _MAY_CHANGE if kind == "configure" else {}
        for name, value in given.items():
            if name not in known:
                raise ProtocolError(
                    "bad_option", f"unknown setting {shown(name)} of {kind}; known: {', '.join(known) or 'none'}"
                )
            if not _is(value, known[name]):
                raise ProtocolError("bad_option", f"{name} must be {known[name]}, got {shown(value)}")
        match kind:
            case "flush":
                return Flush()
            case "clear":
                return Clear()
            case _:
                return self._configure(given)

    def _configure(self, given: Mapping[str, Any]) -> Configure:
        query = [
            (name, str(int(value) if isinstance(value, bool) else value))
            for name, value in given.items()
            if name != "terms"
        ]
        query += [("term", term) for term in given.get("terms", ())]
        wanted = self._parse(query, self._turns, self._options.language)
        engine = wanted.engine or self._options.engine
        if why := unknown_engine(wanted.engine, self._request.engines):
            raise ProtocolError("bad_option", why)
        languages = self._request.known(engine)
        if languages and wanted.language is not None and wanted.language not in languages:
            known = ", ".join(sorted(languages)[:12])
            raise ProtocolError("bad_option", f"language: the engine knows {known}, got {shown(wanted.language)}")
        terms = (wanted.terms or ()) if "terms" in given else self._options.terms
        self._turns = wanted.turns
        self._options = replace(self._options, language=wanted.language, terms=terms, engine=engine)
        return Configure(self._turns, self._options)


def _is(value: Any, expected: str) -> bool:
    match expected:
        case "a whole number":
            return isinstance(value, int) and not isinstance(value, bool)
        case "a number":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "true or false":
            return isinstance(value, bool)
        case "a list of strings":
            return isinstance(value, list) and all(isinstance(item, str) for item in value)
        case _:
            return isinstance(value, str)
