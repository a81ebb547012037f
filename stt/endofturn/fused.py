"""How probable it is that the speaker is done, from all that is known in a pause: one logistic regression. Pure.

Its weights, `fused.json`, are fitted by `benchmarks/fit_end_of_turn.py` so that the probabilities come true; what is
not known adds nothing. It has few features because there are few labelled pauses. Melody (pitch, energy and length of
the last syllables) was tried and is not among them: it told next to nothing of other recordings than those it was
fitted on.
"""

import functools
import json
import math
from dataclasses import astuple
from pathlib import Path
from typing import Final

from stt.endofturn.texts import Reading

WEIGHTS: Final = Path(__file__).with_name("fused.json")
NAMES: Final = ("bias", "silence", "sound", "sounded", "read", "question", "goes_on", "number", "words")
AFTER_S: Final = 0.5
"""The silence whose logarithm counts as 0."""
_WORDS: Final = math.log(8)  # of a usual turn, which counts as 0
_SUREST: Final = 0.01  # a single answer of the model is noisy, and never surer than that


def features(silence_s: float, sound: float | None, text: Reading | None) -> list[float]:
    """Return what the weights weigh, in the order of `NAMES`.

    Args:
        silence_s: how long it has been silent, above 0.
        sound: probability that the speaker is done by the sound; `None`: nobody can tell.
        text: what the words say; `None`: not known yet.

    """
    heard = [0.0, 0.0] if sound is None else [logit(min(max(sound, _SUREST), 1 - _SUREST)), 1.0]
    said = [0.0] * 5
    if text is not None:
        question, goes_on, number, words = astuple(text)
        said = [1.0, float(question), float(goes_on), float(number), words - _WORDS]
    return [1.0, math.log(silence_s / AFTER_S), *heard, *said]


@functools.cache
def weights() -> dict[str, float]:
    """Return the weight of each feature."""
    return {name: float(weight) for name, weight in json.loads(WEIGHTS.read_text())["weights"].items()}


def log_odds(silence_s: float, sound: float | None, text: Reading | None) -> float:
    """Return the log-odds that who has been silent for so long is done; arguments as of `features`."""
    known = weights()
    return sum(known[name] * x for name, x in zip(NAMES, features(silence_s, sound, text), strict=True))


def logit(p: float) -> float:
    """Return the log-odds of a probability above 0 and below 1."""
    return math.log(p / (1 - p))


def probability(odds: float) -> float:
    """Return the probability of log-odds."""
    return 1 / (1 + math.exp(-odds))
