"""What both of OpenAI's dialects share: errors, names of languages and models, terms."""

from collections.abc import Iterable
from typing import Any, Final

from stt.engines.languages import NAMES, language_code
from stt.server.dialect import Denial, NotAdmittedError
from stt.terms import in_prompt, usable

MODELS: Final = (
    "whisper-1",
    "gpt-4o-transcribe",
    "gpt-4o-mini-transcribe",
    "gpt-transcribe",
    "gpt-live-transcribe",
    "gpt-realtime-whisper",
)
"""Names that clients send; all of them stand for the engine there is."""

_CODES: Final = {"unauthorized": "invalid_api_key", "bad_audio": "invalid_audio", "bad_option": "invalid_value"}


def refusal(refused: NotAdmittedError) -> Denial:
    """Write a refusal in the shape of all errors."""
    code = _CODES.get(refused.code, refused.code)
    return Denial(refused.status, {"error": error(str(refused), code, refused.option, server=refused.status >= 500)})


def error(message: str, code: str | None, param: str | None = None, *, server: bool = False) -> dict[str, Any]:
    """Write an error; `server`: it is our fault."""
    kind = "server_error" if server else "invalid_request_error"
    return {"message": message, "type": kind, "param": param, "code": code}


def terms(prompt: str | None, keywords: Iterable[str]) -> tuple[str, ...]:
    """Return what the speaker is likely to say: key words as they are, and those that a prompt lists."""
    return usable([*keywords, *in_prompt(prompt or "")])


def language_of(text: str | None) -> str | None:
    """Read a code or an English name."""
    return None if text is None else _CODES_BY_NAME.get(text.strip().lower(), language_code(text))


def language_name(code: str | None) -> str:
    """Return the English name of a language, in lower case; `unknown` where there is no code."""
    return "unknown" if code is None else NAMES.get(code, code)


_CODES_BY_NAME: Final = {name: code for code, name in NAMES.items()}
