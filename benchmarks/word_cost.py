"""What words cost: finals with the times of their words against finals without, one after the other in one run.

Run: python benchmarks/word_cost.py
"""

import statistics
import time
from collections.abc import Sequence

from _common import sentences, talk
from stt.engines.whisper import Whisper
from stt.recognition import RecognitionOptions, SpeechModel, Utterance

BOUND = 1.15
ROUNDS = 4


def main() -> None:
    model, texts = Whisper(device="cpu"), sentences(24, seed=3)
    print(f"{model.name}: a final with words against one without")
    for length in (1, 3):
        utterances = [
            Utterance(talk(texts[at : at + length], [0.4] * length, lead_s=0.3, seed=at)) for at in range(0, 12, length)
        ]
        ratio = cost(model, utterances)
        seconds = statistics.mean(len(u.audio) / 16_000 for u in utterances)
        within = "within" if ratio <= BOUND else "BEYOND"
        print(f"  finals of {seconds:4.1f} s: {ratio:.3f} times as long ({within} {BOUND})", flush=True)


def cost(model: SpeechModel, utterances: Sequence[Utterance]) -> float:
    """Return the median of the ratios, each of two calls that follow each other; who goes first alternates."""
    ratios = []
    for turn in range(ROUNDS):
        for utterance in utterances:
            took = {}
            for words in (False, True) if turn % 2 else (True, False):
                options = RecognitionOptions(words=words)
                began = time.perf_counter()
                model.transcribe([Utterance(utterance.audio, options)])
                took[words] = time.perf_counter() - began
            ratios.append(took[True] / took[False])
    return statistics.median(ratios)


if __name__ == "__main__":
    main()
