"""How probable it is that the speaker is done, from all that is known in a pause: two logistic regressions. Pure.

One knows what was heard, until the text is there; the other what was said as well. Their weights, `fused.json`, are
fitted by `benchmarks/fit_end_of_turn.py` so that the probabilities come true; what is not known adds nothing. They have
few features because there are few labelled pauses. Melody (pitch, energy and length of the last syllables) was tried
and is not among them: it told next to nothing of other recordings than those it was fitted on.
"""

import functools
import json
import math
from pathlib import Path
from typing import Final

from stt.endofturn.texts import Reading

WEIGHTS: Final = Path(__file__).with_name("fused.json")
HEARD: Final = ("bias", "silence", "sound", "spoken")
"""What is weighed until the text is there."""
READ: Final = ("bias", "silence", "sound", "question", "goes_on", "number", "words", "ended")
"""What is weighed from then on."""
AFTER_S: Final = 0.5
"""The silence whose logarithm counts as 0."""
SPOKEN_S: Final = 3.0
"""Whoever has spoken for so long may be done; longer says no more, and counts as 0."""
_LEAST_SPOKEN_S: Final = 0.2
_WORDS: Final = math.log(8)  # of a usual turn, which counts as 0
_SUREST: Final = 0.01  # a single answer of the model is noisy, and never surer than that
# Engines end most texts with a full stop: so sure they are as a rule, which counts as 0. Their doubt tells.
_ENDED: Final = 3.0
_LEAST_ENDED: Final = -3.0
_MOST_ENDED: Final = 6.0


def features(silence_s: float, sound: float | None, text: Reading | None, spoken_s: float = SPOKEN_S) -> list[float]:
    """Return what the weights weigh, in the order of `HEARD`, or with a text of `READ`.

    Args:
        silence_s: how long it has been silent, above 0.
        sound: probability that the speaker is done by the sound; `None`: nobody can tell.
        text: what the words say; `None`: not known yet.
        spoken_s: how long the turn had lasted when the silence began.

    """
    known = [1.0, math.log(silence_s / AFTER_S), 0.0 if sound is None else logit(sound, _SUREST)]
    if text is None:
        return [*known, math.log(min(max(spoken_s, _LEAST_SPOKEN_S), SPOKEN_S) / SPOKEN_S)]
    ended = 0.0 if text.ended is None else min(max(logit(text.ended), _LEAST_ENDED), _MOST_ENDED) - _ENDED
    flags = (float(text.question), float(text.goes_on), float(text.number))
    return [*known, *flags, text.words - _WORDS, ended]


@functools.cache
def weights() -> dict[str, dict[str, float]]:
    """Return the weight of each feature, by what is known: `heard`, `read`."""
    return json.loads(WEIGHTS.read_text())["weights"]


def log_odds(silence_s: float, sound: float | None, text: Reading | None, spoken_s: float = SPOKEN_S) -> float:
    """Return the log-odds that who has been silent for so long is done; arguments as of `features`."""
    known = weights()["heard" if text is None else "read"]
    names = HEARD if text is None else READ
    return sum(known[name] * x for name, x in zip(names, features(silence_s, sound, text, spoken_s), strict=True))


def grows(text: Reading | None) -> float:
    """Return by how much the log-odds grow when the silence becomes e times as long."""
    return weights()["heard" if text is None else "read"]["silence"]


def logit(p: float, least: float = 1e-4) -> float:
    """Return the log-odds of a probability, of at least and at most so much."""
    p = min(max(p, least), 1 - least)
    return math.log(p / (1 - p))


def probability(odds: float) -> float:
    """Return the probability of log-odds."""
    return 1 / (1 + math.exp(-odds))
