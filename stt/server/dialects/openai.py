"""What both of OpenAI's dialects share: errors, names of languages and models, terms."""

from collections.abc import Iterable
from typing import Any, Final

from stt.engines.languages import language_code
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
    return "unknown" if code is None else _NAMES.get(code, code)


_TABLE: Final = """
af:afrikaans am:amharic ar:arabic as:assamese az:azerbaijani ba:bashkir be:belarusian bg:bulgarian bn:bengali
bo:tibetan br:breton bs:bosnian ca:catalan cs:czech cy:welsh da:danish de:german el:greek en:english
es:spanish et:estonian eu:basque fa:persian fi:finnish fo:faroese fr:french gl:galician gu:gujarati ha:hausa
haw:hawaiian he:hebrew hi:hindi hr:croatian hu:hungarian hy:armenian id:indonesian is:icelandic it:italian
ja:japanese jw:javanese ka:georgian kk:kazakh km:khmer kn:kannada ko:korean la:latin lb:luxembourgish
ln:lingala lo:lao lt:lithuanian lv:latvian mg:malagasy mi:maori mk:macedonian ml:malayalam mn:mongolian
mr:marathi ms:malay mt:maltese my:myanmar ne:nepali nl:dutch nn:nynorsk no:norwegian oc:occitan pa:punjabi
pl:polish ps:pashto pt:portuguese ro:romanian ru:russian sa:sanskrit sd:sindhi si:sinhala sk:slovak
sl:slovenian sn:shona so:somali sq:albanian sr:serbian su:sundanese sv:swedish sw:swahili ta:tamil te:telugu
tg:tajik th:thai tk:turkmen tl:tagalog tr:turkish tt:tatar uk:ukrainian ur:urdu uz:uzbek vi:vietnamese
yi:yiddish yo:yoruba yue:cantonese zh:chinese
"""
_NAMES: Final = {code: name for code, _, name in (pair.partition(":") for pair in _TABLE.split())}
_CODES_BY_NAME: Final = {name: code for code, name in _NAMES.items()}
