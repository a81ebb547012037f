"""Terms in what canary-qwen heard: `stt.engines.rescoring` over `nemo_lite`, one pass for all that ended together."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from stt.engines.rescoring import Proposal, Scored, mean_logprob, propose
from stt.engines.terms import lexicon
from stt.recognition import Utterance

if TYPE_CHECKING:
    from nemo_lite import CanaryQwen, Transcription

# So sure it has to be of a term: mean log probability of its tokens.
_ACCEPTED: Final = -0.4


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
        for i, (found, session) in enumerate(zip(heard, terms, strict=True))
        if session and found.memory is not None and (proposal := _proposal(model, found, session)) is not None
    }
    found = list(heard)
    if not proposals:
        return found
    memories = [memory for i in proposals if (memory := heard[i].memory) is not None]
    answers = [[*proposal.before, *model.tokenizer.encode("\n"), *proposal.tokens] for proposal in proposals.values()]
    for (i, proposal), scored in zip(proposals.items(), model.score(memories, answers), strict=True):
        after = len(scored.logprobs) - len(proposal.tokens)
        attention = None if scored.attention is None else scored.attention[after:]
        rewritten = proposal.judged(_scored(proposal.tokens, scored.logprobs[after:], attention), _believed)
        if rewritten is not None:
            found[i] = _transcription(model, heard[i], rewritten)
    return found


def _believed(probabilities: Sequence[float]) -> bool:
    return mean_logprob(probabilities) >= _ACCEPTED


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
