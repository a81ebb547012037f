"""Terms: words and phrases that a speaker is likely to say, names above all. What is a list of them: pure."""

import re
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Final

from stt.errors import SettingsError

MOST_TERMS: Final = 500
MOST_CHARS: Final = 100

# What a prompt for another recognizer is a list of, if it is one: what stands between these.
_LISTED: Final = re.compile(r"[,;:\n.!?\u3001\u3002\uff0c]+")
_MOST_WORDS: Final = 4  # more than this is a sentence, and says nothing about how a name is written


def checked(terms: Iterable[str]) -> tuple[str, ...]:
    """Return terms in their order, each once, with single spaces and none around.

    Raises:
        SettingsError: one has no letter or digit, or is too long, or there are too many.

    """
    found: dict[str, None] = {}
    for given in terms:
        term = _spaced(given)
        if not _is_text(term):
            raise SettingsError.about("term", f"expected a word or a phrase, got {given[:40]!r}")
        if len(term) > MOST_CHARS:
            text = f"expected at most {MOST_CHARS} characters, got {len(term)}: {term[:40]!r} ..."
            raise SettingsError.about("term", text)
        found[term] = None
    if len(found) > MOST_TERMS:
        raise SettingsError.about("term", f"expected at most {MOST_TERMS} terms, got {len(found)}")
    return tuple(found)


def usable(terms: Iterable[str]) -> tuple[str, ...]:
    """Return what of terms can be used, for protocols in which too many, or odd ones, are no mistake."""
    whole = (term for term in map(_spaced, terms) if _is_text(term) and len(term) <= MOST_CHARS)
    return tuple(islice(dict.fromkeys(whole), MOST_TERMS))


def in_prompt(prompt: str) -> tuple[str, ...]:
    """Return the terms in a prompt that lists some (`Zaphod, Trillian`); sentences have none."""
    return usable(piece for piece in _LISTED.split(prompt) if len(piece.split()) <= _MOST_WORDS)


def read(path: Path) -> list[str]:
    """Read a file with a term on each line; empty lines do not count.

    Raises:
        SettingsError: it cannot be read, or is no text.

    """
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError.about("terms", f"{path}: {getattr(error, 'strerror', None) or error}") from error
    return [line for line in lines if line.strip()]


def _is_text(term: str) -> bool:
    """Whether it says something, and can be written: JSON may hold half a character, at which tokenizers fail."""
    return any(map(str.isalnum, term)) and not any("\ud800" <= char <= "\udfff" for char in term)


def _spaced(text: str) -> str:
    return " ".join(text.split())
