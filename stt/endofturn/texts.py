"""What the words say about whether the speaker is done: pure.

The figures are log-odds. Punctuation is the
engine's guess and holds in every language; the words are English, and other languages have no such rule.
"""

import re
from typing import Final

_DANGLING: Final = frozenset(
    [
        "a",
        "an",
        "and",
        "are",
        "as",
        "at",
        "because",
        "but",
        "by",
        "for",
        "from",
        "how",
        "if",
        "in",
        "into",
        "is",
        "it's",
        "my",
        "of",
        "on",
        "or",
        "our",
        "so",
        "than",
        "that",
        "the",
        "their",
        "then",
        "to",
        "uh",
        "um",
        "until",
        "was",
        "were",
        "what",
        "when",
        "where",
        "which",
        "while",
        "who",
        "with",
        "would",
        "your",
    ]
)
_DIGIT: Final = ["zero", "oh", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
# Digits said one by one come in groups of three and four: less than a whole telephone number asks for more.
_DIGITS: Final = re.compile(rf"(?:(?:{'|'.join(_DIGIT)}|\d)[\s,.-]*)+$", re.IGNORECASE)
_ONE: Final = re.compile("|".join((*_DIGIT, r"\d")), re.IGNORECASE)
_NUMBER: Final = 7
_GOES_ON: Final = ("...", "…", ",", "、", "，", "-", "–", "—")  # noqa: RUF001


def log_odds(text: str, language: str | None = "en") -> float:
    """Return what a text adds to the log-odds that its speaker is done.

    Args:
        text: all that was said in the turn.
        language: ISO 639-1 code; `None`: not known.

    """
    text = text.rstrip()
    if text.endswith(("?", "？", "؟")):  # noqa: RUF001
        return 2.0
    odds = -2.0 if not text or text.endswith(_GOES_ON) else 0.0
    if language == "en":
        odds -= _dangles(text) + _in_a_number(text)
    return odds


def _dangles(text: str) -> bool:
    words = re.findall(r"[\w']+", text.lower())
    return bool(words) and words[-1] in _DANGLING


def _in_a_number(text: str) -> bool:
    said = _DIGITS.search(text)
    return said is not None and 2 <= len(_ONE.findall(said[0])) < _NUMBER
