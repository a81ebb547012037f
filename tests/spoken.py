"""Real-sounding speech with known words, as much as anyone wants: for tests and benchmarks.

hibari-tts renders it from text; the same text and seed give the same samples.
"""

import functools
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import soxr

from stt.audio import SAMPLE_RATE, Samples, samples

_NAMES = (
    "Sarah Thompson, Michael Chen, Doctor Patel, Jennifer Lopez, David Miller, Emily Watson, Robert King, "
    "Anna Schmidt, James Cooper, Maria Garcia"
)
_CITIES = "Chicago, London, Edinburgh, Boston, Seattle, Denver, Paris, Berlin, Toronto, Dublin"
_DAYS = "Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday"
_NUMBERS = (
    "three, seven, twelve, nineteen, twenty four, thirty one, forty two, fifty six, eighty nine, one hundred and five"
)
_THINGS = "boxes of paper, bottles of water, chairs, tickets, reports, laptops, apples, books, printers, blankets"
_TEMPLATES = (
    "{name} will arrive in {city} on {day} morning.",
    "We ordered {number} {things} for the office in {city}.",
    "Please call {name} before {day} afternoon.",
    "The train to {city} leaves at half past seven from platform nine.",
    "I think {name} already sent the {things} to our team in {city}.",
    "On {day} we counted {number} {things} in the storage room.",
    "Could you tell {name} that the meeting moved to {day}?",
    "The weather in {city} was cold and rainy all week.",
    "Nobody at the station had seen the {things} since {day}.",
    "My sister lives near the river in {city} with her two dogs.",
    "{name} explained how the new system saves both time and money.",
    "They painted the kitchen yellow and the bedroom a pale shade of green.",
    "After dinner we walked along the beach and talked about the future.",
    "The price went up from {number} dollars to more than two hundred dollars.",
    "It takes about {number} minutes to get from the hotel to the airport.",
)


def sentences(count: int, seed: int = 0) -> list[str]:
    """Make sentences with names, places, days and numbers; none like the one before it."""
    rng = random.Random(seed)
    chosen: list[str] = []
    template = ""
    while len(chosen) < count:
        template = rng.choice([t for t in _TEMPLATES if t != template])
        words = {"name": _NAMES, "city": _CITIES, "day": _DAYS, "number": _NUMBERS, "things": _THINGS}
        chosen.append(template.format(**{kind: rng.choice(known.split(", ")) for kind, known in words.items()}))
    return chosen


@functools.cache
def _voice() -> Any:
    from hibari import Hibari

    return Hibari()


@functools.cache
def say(text: str, seed: int = 0) -> Samples:
    """Speak a text: 16 kHz mono, without the silence before and after it."""
    audio = soxr.resample(_voice()(text, seed=seed), 24_000, SAMPLE_RATE).astype(np.float32)
    loud = np.flatnonzero(np.abs(audio) > 0.005)
    return audio[loud[0] : loud[-1] + 1]


def silence(duration_s: float) -> Samples:
    """Digital silence."""
    return np.zeros(samples(duration_s), np.float32)


def talk(texts: Sequence[str], pauses_s: Sequence[float], lead_s: float = 0.5, seed: int = 0) -> Samples:
    """Speak texts one after another, each followed by its pause."""
    parts = [silence(lead_s)]
    for i, (text, pause_s) in enumerate(zip(texts, pauses_s, strict=True)):
        parts += [say(text, seed + i), silence(pause_s)]
    return np.concatenate(parts)


@functools.cache
def _normalizer() -> Any:
    from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

    return EnglishTextNormalizer({})


def normalized(text: str) -> str:
    """Bring a text to the form in which Whisper's authors compare: no case, no punctuation, numbers as digits."""
    return _normalizer()(text)


def word_errors(reference: str, hypothesis: str) -> tuple[int, int]:
    """Count word errors (substituted, left out, put in) and reference words, both texts normalised."""
    import jiwer

    result = jiwer.process_words(normalized(reference), normalized(hypothesis))
    return result.substitutions + result.deletions + result.insertions, result.hits + (
        result.substitutions + result.deletions
    )
