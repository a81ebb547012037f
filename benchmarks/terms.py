"""What terms do: how many names are written as they were given, what is written that nobody said, and what it costs.

60 sentences with 30 invented or rare names, and 60 with none of them, in four levels of white noise. The names are
none of those by which `stt.engines.whisper` was set. About 12 minutes; `--some 4` takes every fourth sentence.
Run: python benchmarks/terms.py
"""

import argparse
import math
import random
import statistics
import time
from collections.abc import Sequence

import numpy as np

from _common import sentences, talk, word_errors
from stt.audio import Samples
from stt.engines.whisper import Whisper
from stt.recognition import RecognitionOptions, Utterance

_NAMES = """
Corvanthe, Saoirse, Xanthippe, Tremaglia, Vostanik, Nkechi Obaro, Zelmira, Halvorsen Crick, Quibbledon,
Anwyl, Brockatoo, Delphaxis, Eskerra, Farquharson, Gwendrith, Hexolane, Imogasa, Jentacular, Kirrily,
Lovanium, Mirabex, Norrington Vale, Orphelia Dunst, Pazuko, Radzimir, Senhora Teles, Tuvalor, Uvelline,
Wrexin, Yarrowmere
"""
NAMES = tuple(name.strip() for name in _NAMES.split(","))
TEMPLATES = (
    "Please tell {} that the meeting moved to Friday.",
    "I spoke with {} about the invoice yesterday.",
    "The package from {} arrived this morning.",
    "We should ask {} before we order more chairs.",
    "{} will present the new design next week.",
    "Have you heard of {} or the people who work there?",
    "My flight to {} was delayed by two hours.",
    "Nobody from {} answered the phone today.",
    "The report that {} wrote is on the table.",
    "Later we met {} and talked about the contract.",
)
NOISE_DB = (None, 15, 10, 5)
MANY = 500


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--some", type=int, default=1, metavar="N", help="every Nth sentence alone")
    step = parser.parse_args().some
    whisper = Whisper(device="cpu")
    named = [(TEMPLATES[i % 10].format(NAMES[i * 7 % 30]), NAMES[i * 7 % 30]) for i in range(0, 60, step)]
    plain = sentences(60, seed=42)[::step]
    many = (*NAMES, *invented(MANY - len(NAMES)))
    print(f"{whisper.name}; {len(named)} sentences with a name, {len(plain)} without; 30 terms, and {MANY}")
    for noise_db in NOISE_DB:
        right = {"none": 0, "some": 0, "many": 0}
        for i, (text, name) in enumerate(named):
            audio = spoken(text, noise_db, i)
            for which, terms in (("none", ()), ("some", NAMES), ("many", many)):
                right[which] += name.lower() in hear(whisper, audio, terms).lower()
        false = {"some": 0, "many": 0}
        wrong = {"none": 0, "some": 0, "many": 0}
        words = 0
        for i, text in enumerate(plain):
            audio = spoken(text, noise_db, 100 + i)
            words += word_errors(text, "")[1]
            for which, terms in (("none", ()), ("some", NAMES), ("many", many)):
                heard = hear(whisper, audio, terms)
                wrong[which] += word_errors(text, heard)[0]
                if which in false:
                    false[which] += sum(term in heard and term not in text for term in terms)
        print(
            f"  {'clean' if noise_db is None else f'{noise_db} dB':>6}: names right "
            + ", ".join(f"{100 * count / len(named):.0f} %" for count in right.values())
            + f" (no terms, 30, {MANY}); said by nobody {false['some']}, {false['many']}; words wrong "
            + ", ".join(f"{100 * count / words:.2f} %" for count in wrong.values()),
            flush=True,
        )
    for what, texts in (("without a term", plain), ("with a term", [text for text, _ in named])):
        ratio = cost(whisper, [spoken(text, 15, i) for i, text in enumerate(texts[:8])], many)
        print(f"  a final of a sentence {what} takes {ratio:.3f} times as long with {MANY} terms", flush=True)


def spoken(text: str, noise_db: float | None, seed: int) -> Samples:
    audio = talk([text], [0.4], lead_s=0.3, seed=seed)
    if noise_db is None:
        return audio
    power = float(np.mean(np.square(audio[np.abs(audio) > 0.01]))) / 10 ** (noise_db / 10)
    noise = np.random.default_rng(seed).standard_normal(len(audio))
    return (audio + np.sqrt(power) * noise).astype(np.float32)


def hear(whisper: Whisper, audio: Samples, terms: tuple[str, ...]) -> str:
    [heard] = whisper.transcribe([Utterance(audio, RecognitionOptions(terms=terms))])
    return heard.text


def cost(whisper: Whisper, audios: Sequence[Samples], terms: tuple[str, ...]) -> float:
    """Return how much longer finals take with terms: the mean of each one's ratio, the fastest of three calls each."""
    ratios = []
    for audio in audios:
        fastest = {True: math.inf, False: math.inf}
        for _ in range(3):
            for with_terms in (True, False):
                began = time.perf_counter()
                hear(whisper, audio, terms if with_terms else ())
                fastest[with_terms] = min(fastest[with_terms], time.perf_counter() - began)
        ratios.append(fastest[True] / fastest[False])
    return statistics.mean(ratios)


def invented(count: int) -> list[str]:
    """Make names of two to four syllables."""
    rng = random.Random(5)
    starts, middles, ends = (
        text.split(",")
        for text in (
            "b,br,d,dr,f,g,gr,h,j,k,kl,l,m,n,p,pr,r,s,st,t,tr,v,w,z,sh,th",
            "a,e,i,o,u,ai,ea,o,a,e",
            ",,,,,,,n,r,l,s,th,x,m,nd,rk,t,st",
        )
    )
    return [
        "".join(
            rng.choice(part) for _ in range(rng.choice((2, 2, 3, 3, 4))) for part in (starts, middles, ends)
        ).title()
        for _ in range(count)
    ]


if __name__ == "__main__":
    main()
