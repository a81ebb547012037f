"""What voice activity detection costs per second of audio, by how many frames go into a call.

Run: python benchmarks/vad.py
"""

import time

import numpy as np

from _common import sentences, talk
from stt.audio import SAMPLE_RATE
from stt.vad import FRAME, SileroVad, SpeechDetector


def main() -> None:
    vad, audio = SileroVad(), talk(sentences(20), [0.5] * 20)
    reference: np.ndarray | None = None
    for frames in (1, 4, 31, 512):
        detector, scores, began = SpeechDetector(vad), [], time.perf_counter()
        for at in range(0, len(audio), frames * FRAME):
            scores.append(detector.feed(audio[at : at + frames * FRAME])[1])
        took = time.perf_counter() - began
        found = np.concatenate(scores)
        reference = found if reference is None else reference
        print(
            f"{frames:3} frames a call: {1000 * took / (len(audio) / SAMPLE_RATE):.2f} ms per second of audio, "
            f"largest difference {np.abs(found - reference).max():.1g}"
        )


if __name__ == "__main__":
    main()
