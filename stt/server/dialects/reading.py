"""What JSON dialects share in reading what clients write."""

import base64
import json
from collections.abc import Mapping
from typing import Any, Final

from stt.engines.languages import language_code

_MOST_TEXTS: Final = 1000
_MOST_CHARS: Final = 1 << 20
# Of a text that is longer: reading millions of values would keep everybody waiting, but a long string is no work.
_MOST_VALUES: Final = 1000
_LINE_BREAKS: Final = str.maketrans("", "", "\r\n\t ")


class UnreadableError(ValueError):
    """It is not what was expected; the text is for the client to read. `option`: what it is a value of, if known."""

    def __init__(self, message: str, option: str | None = None) -> None:
        super().__init__(message)
        self.option = option


def json_object(text: str) -> dict[str, Any]:
    """Read a JSON object; one beyond 1 Mi characters may be long for its strings alone.

    Raises:
        UnreadableError: it is none.

    """
    if len(text) > _MOST_CHARS and sum(map(text.count, ",[{")) > _MOST_VALUES:
        msg = f"expected a JSON object, got {len(text)} characters with more than {_MOST_VALUES} values"
        raise UnreadableError(msg)
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict):
        msg = f"expected a JSON object, got {shown(text)}"
        raise UnreadableError(msg)
    return message


def boolean(text: str, option: str) -> bool:
    """Read `true` or `false`, in any case, or 1 or 0.

    Raises:
        UnreadableError: it is neither.

    """
    known = {"1": True, "true": True, "0": False, "false": False}
    if (value := known.get(text.strip().lower())) is None:
        msg = f"{option} must be true or false, got {shown(text)}"
        raise UnreadableError(msg, option)
    return value


def number(value: Any, option: str, low: float, high: float) -> float:
    """Read a number, which may have come as text.

    Raises:
        UnreadableError: it is none, or not within the two.

    """
    try:
        read = float("nan") if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        read = float("nan")
    if not low <= read <= high:  # NaN is not
        msg = f"{option} must be a number from {low:g} to {high:g}, got {shown(value)}"
        raise UnreadableError(msg, option)
    return read


def texts(given: Any, option: str) -> tuple[str, ...]:
    """Read a list of strings; `None` is an empty one.

    Raises:
        UnreadableError: it is none.

    """
    if given is None:
        return ()
    if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
        msg = f"{option} must be a list of strings, got {shown(given)}"
        raise UnreadableError(msg, option)
    return tuple(given[:_MOST_TEXTS])


def known_language(asked: Any, languages: frozenset[str], option: str) -> str | None:
    """Read a language as engines know it; `None`: the engine is to find out.

    Args:
        asked: what a client wrote.
        languages: those that the engine knows; none: it is not there yet, and any will do.
        option: what this is a value of.

    Raises:
        UnreadableError: the engine does not know it.

    """
    code = language_code(asked) if isinstance(asked, str) else None
    if not isinstance(asked, str) or (code is not None and languages and code not in languages):
        known = ", ".join(sorted(languages)[:12])
        msg = f"language: the engine knows {known}, got {shown(asked)}"
        raise UnreadableError(msg, option)
    return code


def base64_bytes(text: str) -> bytes:
    """Read base64, also in lines: MIME's, Ruby's and the shell's encoders break them after 60 or 76 characters.

    Raises:
        ValueError: it is none.

    """
    return base64.b64decode(text.translate(_LINE_BREAKS), validate=True)


def dump(message: Mapping[str, Any]) -> str:
    """Write a message as JSON, in ASCII: lone surrogates in a text cannot break the connection."""
    return json.dumps(message, separators=(",", ":"))


def shown(value: Any) -> str:
    """Quote what came, short and harmless in any encoding."""
    text = value if isinstance(value, str) else repr(value)
    # A character beyond ASCII is written with up to ten.
    part = text[:60] if len(ascii(text[:60])) <= 150 else text[:12]
    return ascii(part) + ("..." if len(text) > len(part) else "")
