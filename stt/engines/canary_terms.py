"""Terms in what canary-qwen heard: `stt.engines.rescoring` over `nemo_lite`.

Each candidate is an answer of its own: the term, shown on a line before, then what was heard up to its place, and the
term there. So none is judged after another that was not said. They are rows of one pass, as many as there
is memory for, which begins where the audio has been heard, and costs their tokens.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from stt.engines.rescoring import Candidate, Proposal, Scored, propose, said
from stt.engines.terms import lexicon
from stt.recognition import Utterance

if TYPE_CHECKING:
    from nemo_lite import CanaryQwen, Transcription


def wants_terms(utterance: Utterance) -> bool:
    """Interims are as they are heard: what stands is held against the terms."""
    return bool(utterance.options.terms) and utterance.kind != "interim"


def with_terms(
    model: "CanaryQwen", heard: Sequence["Transcription"], terms: Sequence[tuple[str, ...]]
) -> list["Transcription"]:
    """Put each session's terms where they were said; the rest stays as it was heard.

    Those with a `memory` alone can be scored, and so rewritten.
    """
    proposals = {
        i: proposal
        for i, (one, session) in enumerate(zip(heard, terms, strict=True))
        if session and one.memory is not None and (proposal := _proposal(model, one, session)) is not None
    }
    if not proposals:
        return list(heard)
    answers = {
        (i, candidate): [
            *candidate.shown,
            *model.tokenizer.encode("\n"),
            *proposal.heard.tokens[: candidate.first],
            *candidate.tokens,
        ]
        for i, proposal in proposals.items()
        for candidate in proposal.candidates
    }
    memories = [memory for i, _ in answers if (memory := heard[i].memory) is not None]
    scored: dict[tuple[int, Candidate], Scored] = {}
    for (i, candidate), found in zip(answers, model.score(memories, list(answers.values())), strict=True):
        at = -len(candidate.tokens)
        attention = None if found.attention is None else found.attention[at:]
        scored[i, candidate] = _scored(candidate.tokens, found.logprobs[at:], attention)
    written = list(heard)
    for i, proposal in proposals.items():
        text = proposal.written([said(scored[i, candidate]) for candidate in proposal.candidates])
        if text.tokens != heard[i].token_ids:
            written[i] = _transcription(model, heard[i], text)
    return written


def _proposal(model: "CanaryQwen", heard: "Transcription", terms: tuple[str, ...]) -> Proposal | None:
    characters = [(piece.last, piece.text) for piece in model.pieces(heard)]
    scored = _scored(heard.token_ids, heard.logprobs, heard.attention)
    return propose(lexicon(terms), scored, characters, model.tokenizer.encode)


def _scored(tokens: Sequence[int], logprobs: Sequence[float], attention: "np.ndarray | None") -> Scored:
    places = (None,) * len(tokens) if attention is None else tuple(attention)
    return Scored(tuple(tokens), tuple(math.exp(logprob) for logprob in logprobs), places)


def _transcription(model: "CanaryQwen", heard: "Transcription", scored: Scored) -> "Transcription":
    return replace(
        heard,
        text=model.tokenizer.decode(list(scored.tokens)),
        token_ids=scored.tokens,
        logprobs=tuple(math.log(max(probability, 1e-10)) for probability in scored.probabilities),
        attention=None if heard.attention is None else np.stack(scored.places),
    )
