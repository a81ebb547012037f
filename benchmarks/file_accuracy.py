"""Word error rate of `stt file` against the same engine given each sentence alone.

Generated sentences with names, numbers, days and places, alone, in turns and in monologues of minutes, with pauses and
without. Run: python benchmarks/file_accuracy.py
"""

import random
import tempfile
from pathlib import Path

import soundfile

from _common import sentences, stt_file, talk, word_errors
from stt.audio import SAMPLE_RATE
from stt.engines.whisper import Whisper
from stt.recognition import Utterance

CASES = (  # name, sentences, pauses between them in seconds
    ("turns: 60 sentences, pauses of 1.6 to 3 s", 60, (1.6, 3.0)),
    ("mixed: 60 sentences, pauses of 0 to 2.5 s", 60, (0.0, 2.5)),
    ("monologue, pauses of 0.2 to 0.6 s", 40, (0.2, 0.6)),
    ("monologue, pauses of 0.4 to 1.2 s", 60, (0.4, 1.2)),
    ("monologue, pauses of 0.1 s", 40, (0.1, 0.1)),
    ("monologue without a pause", 40, (0.0, 0.0)),
)


def main() -> None:
    whisper, total = Whisper(device="cpu"), [0, 0, 0]
    print(f"{whisper.name}\n{'':44} seconds  turns          WER    alone")
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, count, (low, high)) in enumerate(CASES):
            texts, rng = sentences(count, seed=100 + number), random.Random(number)
            audio = talk(texts, [rng.uniform(low, high) for _ in texts])
            path = Path(folder, f"{number}.flac")
            soundfile.write(path, audio, SAMPLE_RATE)
            turns = stt_file(path, "--engine", "whisper", "--device", "cpu").document["turns"]
            wrong, words = word_errors(" ".join(texts), " ".join(turn["text"] for turn in turns))
            alone = 0
            for i, text in enumerate(texts):
                utterance = Utterance(talk([text], [0.3], lead_s=0.3, seed=i))
                alone += word_errors(text, whisper.transcribe([utterance])[0].text)[0]
            total = [total[0] + wrong, total[1] + alone, total[2] + words]
            print(
                f"{name:44} {len(audio) / SAMPLE_RATE:7.0f} {len(turns):6} "
                f"{100 * wrong / words:12.2f} % {100 * alone / words:5.2f} %",
                flush=True,
            )
    print(f"{'all':44} {100 * total[0] / total[2]:27.2f} % {100 * total[1] / total[2]:5.2f} %")


if __name__ == "__main__":
    main()
