"""How much padding Whisper needs: words wrong and time taken by the length of what its encoder sees.

Why `stt.engines.whisper` pads interims to 15 s or more with 6 s of silence, not to 30 s as finals.
Run: python benchmarks/whisper_context.py
"""

import math
import time

from _common import sentences, talk, word_errors
from stt.engines.whisper import Whisper
from stt.recognition import Utterance

CASES = (
    (30, 30),
    (20, 10),
    (15, 6),
    (15, 3),
    (12, 5),
    (8, 3),
)  # least context, least silence after the speech; seconds


def main() -> None:
    whisper, texts = Whisper(device="cpu"), sentences(120, seed=2)
    print(f"{whisper.name}, {len(texts)} sentences, one at a time")
    full = 0.0
    for least_s, margin_s in CASES:
        wrong = words = 0
        took = 0.0
        for i, text in enumerate(texts):
            utterance = Utterance(talk([text], [0.3], lead_s=0.3, seed=i), kind="interim")
            frames = min(3000, max(least_s * 100, math.ceil(len(utterance.audio) / 160) + margin_s * 100))
            began = time.perf_counter()
            heard = whisper._decode([utterance], frames + frames % 2, 0)[0].hypothesis  # noqa: SLF001 - the thing to vary
            took += time.perf_counter() - began
            errors, of = word_errors(text, heard.text)
            wrong, words = wrong + errors, words + of
        full = full or took
        print(
            f"  {least_s:2} s or more, {margin_s:2} s after the speech: {100 * wrong / words:5.2f} % of words wrong, "
            f"{100 * took / full:3.0f} % of the time",
            flush=True,
        )


if __name__ == "__main__":
    main()
