"""Terms in what an engine heard: spans that sound like one, judged by the engine itself. Pure, and any engine's.

A hypothesis is scored once more, with the terms in the places of the spans that resemble them and the same terms as
the text before it: then the engine knows how they are written, and only the sound speaks for or against them. A term
that was not said has the sound against it, however likely the text before makes it. `benchmarks/terms.py` measures it.

    propose -> the engine scores `Proposal.tokens` after `Proposal.before` -> `Proposal.judged`
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from stt.engines.terms import Lexicon
from stt.words import is_unspaced

# A word that the engine was as sure of as this is no misheard name, whatever it sounds like: mean log probability of
# its tokens.
_SURE: Final = -0.15
# Of the text before: Whisper's decoder has room for 448 tokens in all.
_MOST_BEFORE: Final = 100
# What English hangs on names, as tokens: it stays behind a term.
_ENDINGS: Final = frozenset({"'s", "\u2019s"})


@dataclass(frozen=True, slots=True)
class Scored:
    """Tokens of a text, how probable each is, and where in the audio it lies, in whichever way its engine tells."""

    tokens: tuple[int, ...]
    probabilities: tuple[float, ...]
    places: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class _Word:
    """Tokens `first` to `end` of a word, punctuation around it left out."""

    first: int
    end: int
    text: str
    spaced: bool


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A term for the tokens `first` to `end` of what was heard, as the tokens of the proposal from `at` on."""

    first: int
    end: int
    tokens: tuple[int, ...]
    at: int


@dataclass(frozen=True, slots=True)
class Proposal:
    """A hypothesis with terms in the places of what sounds like them."""

    heard: Scored
    """The hypothesis as it was."""
    before: tuple[int, ...]
    """Tokens of a text that shows how those terms are written."""
    tokens: tuple[int, ...]
    """The hypothesis rewritten."""
    candidates: tuple[_Candidate, ...]

    def judged(self, scored: Scored, believed: Callable[[Sequence[float]], bool]) -> Scored | None:
        """Write the terms that the engine believes, and leave the rest as it was heard; `None`: it believes none.

        Args:
            scored: `tokens` after `before`.
            believed: tells by the probabilities of a term's tokens whether it was said.

        """
        parts: list[Scored] = []
        at = 0
        for candidate in self.candidates:
            put_in = _cut(scored, candidate.at, candidate.at + len(candidate.tokens))
            if believed(put_in.probabilities):
                parts += [_cut(self.heard, at, candidate.first), put_in]
                at = candidate.end
        return _joined([*parts, _cut(self.heard, at, len(self.heard.tokens))]) if parts else None


def propose(
    lexicon: Lexicon, heard: Scored, characters: Iterable[tuple[int, str]], encode: Callable[[str], Sequence[int]]
) -> Proposal | None:
    """Put the terms in the places of what sounds like them and was not surely heard; `None`: there is no such place.

    Args:
        lexicon: the session's terms.
        heard: the hypothesis.
        characters: where in it tokens make up whole characters: the end of each such group, and its text.
        encode: makes tokens of a text.

    """
    words = _words(characters)
    doubtful = [mean_logprob(heard.probabilities[word.first : word.end]) < _SURE for word in words]
    before: list[int] = []
    shown: set[str] = set()
    places: list[tuple[int, int, tuple[int, ...]]] = []  # first token, end, and what may belong there
    for found in lexicon.resembling([word.text for word in words], doubtful):
        if found.term not in shown:
            more = encode(f", {found.term}" if before else f" {found.term}")
            if len(before) + len(more) > _MOST_BEFORE:
                break
            before += more
            shown.add(found.term)
        first, last = words[found.first], words[found.last]
        places.append((first.first, last.end, tuple(encode(f" {found.term}" if first.spaced else found.term))))
    if not places:
        return None
    tokens: list[int] = []
    candidates: list[_Candidate] = []
    at = 0
    for first, end, term in sorted(places):
        tokens += heard.tokens[at:first]
        candidates.append(_Candidate(first, end, term, len(tokens)))
        tokens += term
        at = end
    tokens += heard.tokens[at:]
    return Proposal(heard, tuple(before), tuple(tokens), tuple(candidates))


def mean_logprob(probabilities: Sequence[float]) -> float:
    """Return the mean log probability of some tokens."""
    return sum(math.log(max(p, 1e-10)) for p in probabilities) / len(probabilities)


def _cut(text: Scored, first: int, end: int) -> Scored:
    return Scored(text.tokens[first:end], text.probabilities[first:end], text.places[first:end])


def _joined(parts: Sequence[Scored]) -> Scored:
    return Scored(
        tuple(token for part in parts for token in part.tokens),
        tuple(probability for part in parts for probability in part.probabilities),
        tuple(place for part in parts for place in part.places),
    )


def _words(characters: Iterable[tuple[int, str]]) -> list[_Word]:
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
