"""An engine's mistakes, made on purpose: canary-toy knows all the words of its domain, so it spells none by ear."""

import random
from dataclasses import dataclass, replace
from itertools import takewhile

import numpy as np

from nemo_lite import CanaryQwen, Transcription
from spoken import talk
from stt.audio import Samples

PEOPLE = ("Anna", "John", "Maria", "Peter", "Laura", "David", "Susan")
CITIES = ("London", "Paris", "Berlin", "Madrid", "Boston")
ROOMS = ("kitchen", "bedroom", "garden", "office", "bathroom")
FOODS = ("apples", "lemons", "bottles", "carrots", "onions")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = ("January", "February", "April", "August", "September", "October", "November", "December")
NAMES = (*PEOPLE, *CITIES, *ROOMS, *FOODS, *DAYS, *MONTHS)
"""Words of the toy's domain that stand for names."""
_TEMPLATES = (
    ("Send a message to {} and Tom.", PEOPLE),
    ("Is {} free on Monday morning?", PEOPLE),
    ("Call {} at noon.", PEOPLE),
    ("Will it rain in {} tomorrow?", CITIES),
    ("It is cold in {}, nine degrees.", CITIES),
    ("The train from {} to Rome is ten minutes late.", CITIES[:3]),
    ("Turn on the lamp in the {}.", ROOMS),
    ("Paint the {} black and green.", ROOMS),
    ("Add seven {} and nine eggs to the list.", FOODS),
    ("The meeting is on {}, May third.", DAYS),
    ("My birthday is on {} ninth.", MONTHS),
)
_VOWELS = "aeiou"
_ALIKE = dict(zip("bdgkptvfszmnlr", "ptkgbdfvzsnmrl", strict=True))


@dataclass(frozen=True, slots=True)
class Named:
    """A sentence with a name in it, how that is spelled by ear, and the sentence spoken."""

    text: str
    name: str
    spelled: str
    audio: Samples


def named(count: int, seed: int = 0, noise_db: float | None = None) -> list[Named]:
    """Make sentences of the toy's domain, each with a name."""
    rng, noise = random.Random(seed), np.random.default_rng(seed)
    found: list[Named] = []
    for i in range(count):
        template, names = _TEMPLATES[i % len(_TEMPLATES)]
        name = rng.choice(names)
        text = template.format(name)
        audio = talk([text], [0.4], lead_s=0.3, seed=i)
        if noise_db is not None:
            power = float(np.mean(np.square(audio[np.abs(audio) > 0.01]))) / 10 ** (noise_db / 10)
            audio = (audio + np.sqrt(power) * noise.standard_normal(len(audio))).astype(np.float32)
        found.append(Named(text, name, by_ear(name, rng), audio))
    return found


def by_ear(word: str, rng: random.Random) -> str:
    """Spell a word otherwise: another vowel, or a consonant that is like it."""
    at = rng.randrange(1, len(word))
    char = word[at]
    other = rng.choice([v for v in _VOWELS if v != char]) if char in _VOWELS else _ALIKE.get(char, char * 2)
    return word[:at] + other + word[at + 1 :]


def misheard(model: CanaryQwen, heard: Transcription, right: str, wrong: str) -> Transcription:
    """Put a mistake into what was heard, of which the model was not sure: e to the -1 for each token."""
    end = heard.token_ids[-1:] if heard.stop == "eos" else ()
    text = heard.text.replace(right, wrong)
    tokens = (*model.tokenizer.encode(text), *end)
    old = heard.token_ids
    first = _same(tokens, old)
    last = min(_same(tokens[::-1], old[::-1]), min(len(tokens), len(old)) - first)
    middle = len(tokens) - first - last
    attention = None
    if heard.attention is not None:  # the mistake was heard where the right word is said
        share = np.linspace(first, len(old) - last - 1, middle).round().astype(int)
        rows = [*range(first), *share, *range(len(old) - last, len(old))]
        attention = heard.attention[rows]
    logprobs = (*heard.logprobs[:first], *[-1.0] * middle, *heard.logprobs[len(old) - last :])
    return replace(heard, text=text, token_ids=tokens, logprobs=logprobs, attention=attention)


def _same(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """How many tokens both begin with."""
    return len(list(takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))))
