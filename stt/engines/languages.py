"""Names of languages, as people write them and as engines know them."""

import re
from typing import Final

from stt.settings import EngineSettings

_AUTO: Final = "auto"
_ENGLISH: Final = frozenset({"en"})
# Names that faster-whisper has for Whisper's sizes, and those of their repositories.
_SIZE: Final = re.compile(
    r"(.*/)?(faster-)?(distil-)?(whisper-)?(tiny|base|small|medium|large(-v[\w.]+)?(-turbo)?|turbo)(-ct2)?"
)


def language_code(language: str | None) -> str | None:
    """Bring a language to ISO 639-1, whatever its case and its region: `EN`, `en-US` and `en_us` are `en`.

    `None` for `None`, `auto` and what is empty: the engine is to find out. Whether it knows the language is another
    question (`check_language`).
    """
    if language is None:
        return None
    code = language.strip().replace("_", "-").partition("-")[0].lower()
    return None if code in ("", _AUTO) else code


def languages_by_name(engine: EngineSettings) -> frozenset[str]:
    """Return the languages of the engine that is asked for, as far as its name tells: nothing is loaded for it.

    None where it does not: a directory, weights of others, `auto` for English. For other languages, and where they are
    to be found out, `auto` becomes a Whisper that knows many, or nothing.
    """
    model = engine.model
    if engine.model_dir is not None:
        return frozenset()
    if model == _AUTO and engine.engine != "canary-qwen":
        return frozenset() if language_code(engine.language) == "en" else frozenset(NAMES)
    if engine.engine == "canary-qwen" or model is None or model.endswith((".en", "canary-qwen")):
        return _ENGLISH
    return frozenset(NAMES) if _SIZE.fullmatch(model) else frozenset()


_TABLE: Final = """
af:afrikaans am:amharic ar:arabic as:assamese az:azerbaijani ba:bashkir be:belarusian bg:bulgarian bn:bengali
bo:tibetan br:breton bs:bosnian ca:catalan cs:czech cy:welsh da:danish de:german el:greek en:english
es:spanish et:estonian eu:basque fa:persian fi:finnish fo:faroese fr:french gl:galician gu:gujarati ha:hausa
haw:hawaiian he:hebrew hi:hindi hr:croatian ht:haitian_creole hu:hungarian hy:armenian id:indonesian is:icelandic
it:italian ja:japanese jw:javanese ka:georgian kk:kazakh km:khmer kn:kannada ko:korean la:latin lb:luxembourgish
ln:lingala lo:lao lt:lithuanian lv:latvian mg:malagasy mi:maori mk:macedonian ml:malayalam mn:mongolian
mr:marathi ms:malay mt:maltese my:myanmar ne:nepali nl:dutch nn:nynorsk no:norwegian oc:occitan pa:punjabi
pl:polish ps:pashto pt:portuguese ro:romanian ru:russian sa:sanskrit sd:sindhi si:sinhala sk:slovak
sl:slovenian sn:shona so:somali sq:albanian sr:serbian su:sundanese sv:swedish sw:swahili ta:tamil te:telugu
tg:tajik th:thai tk:turkmen tl:tagalog tr:turkish tt:tatar uk:ukrainian ur:urdu uz:uzbek vi:vietnamese
yi:yiddish yo:yoruba yue:cantonese zh:chinese
"""
NAMES: Final = {code: name.replace("_", " ") for code, _, name in (pair.partition(":") for pair in _TABLE.split())}
"""English names, in lower case, of the languages that Whisper knows, by ISO 639-1 code."""
