"""What Deepgram's dialects share: refusals, codecs, terms, languages, words as they are written, goodbyes."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from stt.engines.languages import NAMES, language_code
from stt.server.dialect import Codec, Denial, End, Frame, Goodbye, NotAdmittedError
from stt.server.dialects.reading import boolean, number, shown, texts
from stt.server.estimate import CONFIDENCE
from stt.terms import usable
from stt.words import Word

MESSAGE_BYTES: Final = 64 << 20
"""A whole file may come in one message; what is bounded is the audio that waits."""
_CODECS: Final[dict[str, Codec]] = {
    "linear16": Codec("linear16"),
    "linear32": Codec("linear32"),
    "mulaw": Codec("mulaw"),
    "alaw": Codec("alaw"),
    "opus": Codec("opus"),
    "ogg-opus": Codec("container"),
    "flac": Codec("container"),
    "": Codec("container"),
}
MODEL: Final = {"name": "stt", "version": "live", "arch": "stt"}
"""Whatever model a client asks for, this is what it gets."""
MODEL_UUID: Final = "7d0c1f6e-6f0b-4a7e-9a39-6b8a5a3e5c11"
MOST_CHANNELS: Final = 8
_MOST_OPUS_CHANNELS: Final = 2  # more are several streams, which nothing but a container tells apart
_CODES: Final = {"unauthorized": "INVALID_AUTH", "bad_option": "Bad Request", "too_many_sessions": "TOO_MANY_REQUESTS"}
_BARE: Final = re.compile(r"^\W+|\W+$")
_BOOST: Final = re.compile(r":-?\d+(\.\d+)?$")


def refusal(error: NotAdmittedError, request_id: str) -> Denial:
    """Write a refusal in the shape of all errors before a session."""
    code = _CODES.get(error.code, error.code.upper())
    return Denial(error.status, {"err_code": code, "err_msg": str(error), "request_id": request_id})


def codec(encoding: str, rate: int, channels: int) -> Codec:
    """Return how audio is to be read; no encoding: a container, which says so itself.

    Raises:
        NotAdmittedError: the encoding is unknown, or has no such channels.

    """
    if (known := _CODECS.get(encoding)) is None:
        names = ", ".join(name for name in _CODECS if name)
        text = f"encoding must be one of {names}, got {shown(encoding)}"
        raise NotAdmittedError("bad_option", text, option="encoding")
    if known.encoding == "opus" and channels > _MOST_OPUS_CHANNELS:
        text = f"channels must be at most {_MOST_OPUS_CHANNELS} with raw packets of Opus, got {channels}"
        raise NotAdmittedError("bad_option", text, option="channels")
    return Codec(known.encoding, rate, channels)


def keyterms(query: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Return what the speaker is likely to say: `keyterm`s, and `keywords` without their boost."""
    return usable(
        _BOOST.sub("", value) if name == "keywords" else value
        for name, value in query
        if name in ("keyterm", "keywords")
    )


def options(query: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the options of a query; empty ones do not count: programs send those of options that nobody has set."""
    return {name: value for name, value in query if value}


def configured_terms(message: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Read the terms of a `Configure`, a list or a single one; `None`: those there are stay.

    Raises:
        UnreadableError: they are no list of strings.

    """
    given = message.get("keyterms")
    given = [given] if isinstance(given, str) else given
    return None if given is None else usable(texts(given, "keyterms"))


def language_of(given: Mapping[str, str], default: str | None) -> str | None:
    """Return the code of the language; `None`: the engine finds out.

    Raises:
        UnreadableError: a flag is none.

    """
    asked = given.get("language")
    if asked == "multi" or (asked is None and detects_language(given)):
        return None
    return language_code(asked or default)


def detects_language(given: Mapping[str, str]) -> bool:
    """Tell whether the language is to be found; one of a list to choose from asks for that as well, and bounds nothing.

    Raises:
        UnreadableError: it is neither true or false nor a language.

    """
    name = "detect_language"
    return language_code(given.get(name)) in NAMES or flag(given, name)


def flag(given: Mapping[str, str], name: str) -> bool:
    """Read an option that is true or false; it is false where it is missing.

    Raises:
        UnreadableError: it is neither.

    """
    return boolean(given.get(name, "false"), name)


def raw_format(given: Mapping[str, str]) -> tuple[int, int]:
    """Return rate and channels of raw audio.

    Raises:
        UnreadableError: they cannot be.

    """
    rate = round(number(given.get("sample_rate", 16_000), "sample_rate", 8_000, 48_000))
    return rate, round(number(given.get("channels", 1), "channels", 1, MOST_CHANNELS))


def goodbye(end: End, *frames: Frame) -> Goodbye:
    """Close as Deepgram does, after last words."""
    if end.how == "idle":
        return Goodbye(1011, "NET-0001: nothing was sent for too long", frames)
    return Goodbye(end.code, "" if end.how == "finished" else end.how.replace("_", " "), frames)


def written(words: Iterable[Word]) -> list[dict[str, Any]]:
    """Write words so that, joined by spaces, they are the text: without a space, it belongs to the word before."""
    result: list[dict[str, Any]] = []
    for word in words:
        sure = CONFIDENCE if word.confidence is None else word.confidence
        if result and not word.text[:1].isspace():
            last = result[-1]
            last["word"] += word.text.rstrip()
            last["end"] = round(word.end_s, 3)
            last["confidence"] = min(last["confidence"], round(sure, 4))
        elif text := word.text.strip():
            result.append(
                {
                    "word": text,
                    "confidence": round(sure, 4),
                    "start": round(word.start_s, 3),
                    "end": round(word.end_s, 3),
                }
            )
    return result


def alternative(words: Iterable[Word]) -> dict[str, Any]:
    """Write words as the one alternative that there is."""
    told = listed(words)
    return {
        "transcript": " ".join(word["punctuated_word"] for word in told),
        "confidence": round(sum(word["confidence"] for word in told) / max(1, len(told)), 4),
        "words": told,
    }


def listed(words: Iterable[Word]) -> list[dict[str, Any]]:
    """Write words one by one: bare, and as they stand in the text."""
    return [
        {
            "word": _BARE.sub("", word["word"]).lower() or word["word"].lower(),
            "start": word["start"],
            "end": word["end"],
            "confidence": word["confidence"],
            "punctuated_word": word["word"],
        }
        for word in written(words)
    ]
