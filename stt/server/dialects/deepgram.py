"""What Deepgram's dialects share: refusals, codecs, and words as they are written."""

from collections.abc import Sequence
from typing import Any, Final

from stt.server.dialect import Codec, Denial, NotAdmittedError
from stt.server.dialects.reading import shown
from stt.server.estimate import CONFIDENCE
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
    "": Codec("container"),
}
_CODES: Final = {"unauthorized": "INVALID_AUTH", "bad_option": "Bad Request", "too_many_sessions": "TOO_MANY_REQUESTS"}


def refusal(error: NotAdmittedError, request_id: str) -> Denial:
    """Write a refusal in the shape of all errors before a session."""
    code = _CODES.get(error.code, error.code.upper())
    return Denial(error.status, {"err_code": code, "err_msg": str(error), "request_id": request_id})


def codec(encoding: str, rate: int, channels: int) -> Codec:
    """Return how audio is to be read; no encoding: a container, which says so itself.

    Raises:
        NotAdmittedError: the encoding is unknown.

    """
    if (known := _CODECS.get(encoding)) is None:
        names = ", ".join(name for name in _CODECS if name)
        text = f"encoding must be one of {names}, got {shown(encoding)}"
        raise NotAdmittedError("bad_option", text, option="encoding")
    return Codec(known.encoding, rate, channels)


def written(words: Sequence[Word]) -> list[dict[str, Any]]:
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
