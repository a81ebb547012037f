"""Terms in what Whisper heard: spans that sound like one, judged by Whisper itself.

A hypothesis is scored once more, with the terms in the places of the spans that resemble them and the same terms as
the text before it: then it knows how they are written, and only the sound speaks for or against them. A term that
was not said has the sound against it, however likely the text before makes it. `benchmarks/terms.py` measures it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from stt.engines.terms import Lexicon
from stt.words import is_unspaced

# A word that the engine was as sure of as this is no misheard name, whatever it sounds like: mean log probability of
# its tokens.
_SURE: Final = -0.15
# So sure it has to be of a term: mean log probability of its tokens. What follows says nothing: after a term it knows
# from a list it expects a comma.
_ACCEPTED: Final = -0.4
# Of the text before: the decoder has room for 448 tokens in all.
_MOST_PROMPT: Final = 100
# What English hangs on names, as tokens: it stays behind a term.
_ENDINGS: Final = frozenset({"'s", "\u2019s"})


@dataclass(frozen=True, slots=True)
class Scored:
    """Tokens of a text, how probable each is, and where in the audio it lies (start and end in seconds)."""

    tokens: tuple[int, ...]
    probabilities: tuple[float, ...]
    spans: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class _Word:
    """Tokens `first` to `end` of a word, punctuation around it left out."""

    first: int
    end: int
    text: str
    spaced: bool


def with_terms(
    lexicon: Lexicon,
    heard: Scored,
    characters: Sequence[tuple[int, str]],
    encode: Callable[[str], Sequence[int]],
    score: Callable[[Sequence[int], Sequence[int]], Scored],
) -> Scored | None:
    """Put terms where they were said and something like them was heard; `None`: nowhere.

    Args:
        lexicon: the session's terms.
        heard: the hypothesis.
        characters: where in it tokens make up whole characters: the end of each such group, and its text.
        encode: makes tokens of a text.
        score: scores a hypothesis (its second argument) after a text (its first).

    """
    words = _words(characters)
    doubtful = [mean_logprob(heard.probabilities[word.first : word.end]) < _SURE for word in words]
    prompt: list[int] = []
    shown: set[str] = set()
    places: list[tuple[int, int, tuple[int, ...]]] = []  # first token, end, and what may belong there
    for found in lexicon.resembling([word.text for word in words], doubtful):
        if found.term not in shown:
            before = encode(f", {found.term}" if prompt else f" {found.term}")
            if len(prompt) + len(before) > _MOST_PROMPT:
                break
            prompt += before
            shown.add(found.term)
        first, last = words[found.first], words[found.last]
        places.append((first.first, last.end, tuple(encode(f" {found.term}" if first.spaced else found.term))))
    if not places:
        return None
    places.sort()
    spliced: list[int] = []
    at, begins = 0, []
    for first, end, tokens in places:
        spliced += heard.tokens[at:first]
        begins.append(len(spliced))
        spliced += tokens
        at = end
    spliced += heard.tokens[at:]
    scored = score(prompt, spliced)
    said = [
        (place, begin)
        for place, begin in zip(places, begins, strict=True)
        if mean_logprob(scored.probabilities[begin : begin + len(place[2])]) >= _ACCEPTED
    ]
    if not said:
        return None
    parts: list[Scored] = []
    at = 0
    for (first, end, tokens), begin in said:
        parts += [_cut(heard, at, first), _cut(scored, begin, begin + len(tokens))]
        at = end
    parts.append(_cut(heard, at, len(heard.tokens)))
    return Scored(
        tuple(token for part in parts for token in part.tokens),
        tuple(probability for part in parts for probability in part.probabilities),
        tuple(span for part in parts for span in part.spans),
    )


def _cut(text: Scored, first: int, end: int) -> Scored:
    return Scored(text.tokens[first:end], text.probabilities[first:end], text.spans[first:end])


def _words(characters: Sequence[tuple[int, str]]) -> list[_Word]:
    """Take tokens apart into words: at white space, and wherever they may be in scripts without."""
    words: list[_Word] = []
    first, open_ = 0, False  # whether more of the word may come
    for end, text in characters:
        core = text.strip()
        if not any(map(str.isalnum, core)) or core in _ENDINGS:
            open_ = False
        elif open_ and not text[0].isspace() and not is_unspaced(core[0]):
            words[-1] = _Word(words[-1].first, end, words[-1].text + core, words[-1].spaced)
        else:
            words.append(_Word(first, end, core, text[0].isspace()))
            open_ = True
        first = end
    return words


def mean_logprob(probabilities: Sequence[float]) -> float:
    """Return the mean log probability of some tokens."""
    return sum(math.log(max(p, 1e-10)) for p in probabilities) / len(probabilities)
