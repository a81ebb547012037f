"""What the words say about whether the speaker is done: pure.

Punctuation is the engine's guess and holds in every language; the words are English, and other languages have no such
rule. What each of these weighs is fitted (`fused`).
"""

import math
import re
from dataclasses import dataclass
from typing import Final

# Something follows these.
_DANGLING: Final = frozenset(
    [
        *("a", "an", "the", "my", "our", "their", "your", "and", "because", "but", "if", "or", "than", "while", "as"),
        *("i", "he", "she", "we", "they", "i'm", "it's", "she's", "he's", "we're", "they're", "you're", "would"),
        *("from", "of", "with", "ah", "er", "hmm", "mm", "uh", "um"),
    ]
)
# Or these, unless the engine is sure that they end a sentence: "with that.", "log in."
_MAY_DANGLE: Final = frozenset(
    [
        *("about", "at", "by", "for", "in", "into", "on", "to", "that", "since", "until", "so", "then"),
        *("how", "what", "when", "where", "which", "who", "is", "are", "was", "were"),
    ]
)
_SURE: Final = 0.9
_DIGIT: Final = "zero|oh|one|two|three|four|five|six|seven|eight|nine"
# Digits come in groups of three and four: where a number was announced, or they are said in groups already, less than
# a whole telephone number asks for more. "It's 2019" does not.
_ANNOUNCED: Final = re.compile(
    r"\b(?:number|phone|cell|mobile|code|account|card|serial|reach me|call me|dial)\b|(?:\d[\s,.-]+){2}\d+\W*$",
    re.IGNORECASE,
)
_DIGITS: Final = re.compile(rf"(?:\b(?:{_DIGIT})\b|\d)(?:[\s,.-]*(?:\b(?:{_DIGIT})\b|\d))*\W*$", re.IGNORECASE)
_ONE: Final = re.compile(rf"\b(?:{_DIGIT})\b|\d", re.IGNORECASE)
_NUMBER: Final = 7
_SPELLED: Final = re.compile(r"(?:\b[A-Z]\b[\s.-]*){2,}\W*$")
_GOES_ON: Final = ("...", "…", ",", "、", "，", "-", "–", "—")  # noqa: RUF001
_QUESTION: Final = ("?", "？", "؟")  # noqa: RUF001
_WORD: Final = re.compile(r"[\w']+")
_HUMMED: Final = re.compile(r"\b(?:m+|uh)[\s-]?(?:hm+|huh)\b")
"""A "yes" with the mouth shut: "mm-hm", "mhm", "uh-huh"."""
# Scripts without spaces: two characters are about a word.
_CHARACTER: Final = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\u0e00-\u0e7f]")
# Who answers so has said all; other turns of one or two words ("Okay.", "Hello.") mostly go on.
_ANSWERS: Final = frozenset(
    [
        *("yes", "yeah", "yep", "no", "nope", "not", "correct", "exactly", "right", "that's", "it"),
        *("please", "thanks", "thank", "you", "sir", "ma'am", "i", "do", "don't"),
    ]
)
_YES_NO: Final = frozenset(["yes", "yeah", "yep", "no", "nope", "correct", "exactly", "that's"])
_ENOUGH_WORDS: Final = 12  # whoever has said so much may be done; more says no more


@dataclass(frozen=True, slots=True)
class Reading:
    """What a turn's text says."""

    question: bool
    """It ends as one."""
    goes_on: bool
    """There is nothing in it, it ends in a comma or dots, or (English) with a word that something follows."""
    number: bool
    """It ends in single letters, or in digits of a number that is not yet whole (English)."""
    words: float
    """How many, as ln(1 + n), up to 12; a whole answer counts as so many (English)."""
    ended: float | None = None
    """Probability that a sentence ends there, by the engine (`Said.ended`); `None`: it does not tell, or the words tell
    more: a full stop behind half a number says nothing, nor does doubt about one behind "yes"."""


def read(text: str, language: str | None = "en", ended: float | None = None) -> Reading:
    """Read all that was said in a turn, in a language (ISO 639-1 code; `None`: not known); `ended` as of `Reading`."""
    text = text.rstrip()
    words = _WORD.findall(_HUMMED.sub("yes", text.lower()))
    written = len(_CHARACTER.findall(text))
    count = written / 2 if written else len(words)
    english, question = language == "en", text.endswith(_QUESTION)
    answer = english and bool(words) and words[0] in _YES_NO and _ANSWERS.issuperset(words)
    number = english and (_in_a_number(text) or _SPELLED.search(text) is not None)
    return Reading(
        question=question,
        goes_on=not words or text.endswith(_GOES_ON) or (english and _dangles(words[-1], question, ended)),
        number=number,
        words=math.log1p(_ENOUGH_WORDS if answer else min(count, _ENOUGH_WORDS)),
        ended=None if answer or number else ended,
    )


def _dangles(word: str, question: bool, ended: float | None) -> bool:
    return word in _DANGLING or (word in _MAY_DANGLE and not question and (ended is None or ended < _SURE))


def _in_a_number(text: str) -> bool:
    said = _DIGITS.search(text)
    announced = _ANNOUNCED.search(text) is not None
    return said is not None and announced and len(_ONE.findall(said[0])) < _NUMBER
