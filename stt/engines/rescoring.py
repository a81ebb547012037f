"""Terms in what an engine heard: spans that sound like one, judged by the engine itself. Pure, and any engine's.

A hypothesis is scored once more, with terms in the places of the spans that resemble them, after a text that has the
same terms: then the engine knows how they are written, and only the sound speaks for or against them. A term that was
not said has the sound against it, however likely the text before makes it. `benchmarks/terms.py` measures it.

    propose -> the engine scores the candidates, all at once or one by one -> `said` -> `Proposal.written`
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
# So sure it has to be of a term (docs/terms.md). What follows says nothing: after a term it knows from a list it
# expects a comma.
_SAID: Final = -0.4
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
class Candidate:
    """A term in the place of the tokens `first` to `end` of what was heard."""

    first: int
    end: int
    shown: tuple[int, ...]
    """Tokens of the term as they stand in a text before."""
    tokens: tuple[int, ...]
    """Those of the term in its place."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A hypothesis, and what else may have been said in some places of it: in order, none overlapping another."""

    heard: Scored
    candidates: tuple[Candidate, ...]
    before: tuple[int, ...]
    """Tokens of a text that has all the terms, once each."""

    @property
    def tokens(self) -> tuple[int, ...]:
        """The hypothesis with all candidates in their places."""
        return self.written([Scored(c.tokens, c.tokens, c.tokens) for c in self.candidates]).tokens

    def parts(self, scored: Scored) -> list[Scored]:
        """Take the candidates out of `tokens`, which the engine has scored."""
        found: list[Scored] = []
        longer = 0  # than the hypothesis, up to here
        for candidate in self.candidates:
            at = candidate.first + longer
            found.append(_cut(scored, at, at + len(candidate.tokens)))
            longer += len(candidate.tokens) - (candidate.end - candidate.first)
        return found

    def written(self, said: Sequence[Scored | None]) -> Scored:
        """Put those candidates that were said into their places; `None`: that one was not, what was heard stays."""
        parts: list[Scored] = []
        at = 0
        for candidate, part in zip(self.candidates, said, strict=True):
            if part is not None:
                parts += [_cut(self.heard, at, candidate.first), part]
                at = candidate.end
        return _joined([*parts, _cut(self.heard, at, len(self.heard.tokens))])


def said(scored: Scored) -> Scored | None:
    """Return a candidate that the engine believes; `None`: it does not."""
    return scored if mean_logprob(scored.probabilities) >= _SAID else None


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
    listed: set[str] = set()
    candidates: list[Candidate] = []
    for found in lexicon.resembling([word.text for word in words], doubtful):
        shown = encode(f" {found.term}")
        if found.term not in listed:
            more = encode(f", {found.term}") if before else shown
            if len(before) + len(more) > _MOST_BEFORE:
                break
            before += more
            listed.add(found.term)
        first, last = words[found.first], words[found.last]
        tokens = shown if first.spaced else encode(found.term)
        candidates.append(Candidate(first.first, last.end, tuple(shown), tuple(tokens)))
    if not candidates:
        return None
    return Proposal(heard, tuple(sorted(candidates, key=lambda candidate: candidate.first)), tuple(before))


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
