"""What the times of words cost canary-qwen: a final with them against one without, the two in turns.

    python benchmarks/canary_words.py                        # canary-toy on the CPU, one thread
    python benchmarks/canary_words.py --model-dir DIR --device cuda

Each clip is one final, with its last interim as the draft; best of --rounds each.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

from stt.engines.canary_qwen import CanaryQwen
from stt.recognition import RecognitionOptions, Utterance

TOY = Path(__file__).parents[1] / "tests" / "data" / "canary-toy"


def took(call: Callable[[], object]) -> float:
    began = time.process_time()
    call()
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model-dir", default=str(TOY))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--clips", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    engine = CanaryQwen(model_dir=args.model_dir, device=args.device, threads=1)
    rows = [json.loads(line) for line in (TOY / "heldout" / "heldout.jsonl").read_text().splitlines()]
    ratios, costs = [], []
    for row in rows[:: max(1, len(rows) // args.clips)]:
        audio = np.asarray(soundfile.read(TOY / "heldout" / row["file"], dtype="float32")[0], np.float32)
        [draft] = engine.transcribe([Utterance(audio[: -len(audio) // 10], kind="interim")])
        ways = {words: Utterance(audio, RecognitionOptions(words=words), draft=draft) for words in (False, True)}
        best = dict.fromkeys(ways, float("inf"))
        for _ in range(args.rounds):
            for words, utterance in ways.items():
                best[words] = min(best[words], took(lambda utterance=utterance: engine.transcribe([utterance])))
        ratios.append(best[True] / best[False])
        costs.append(best[True] - best[False])
    print(
        f"{engine.name}: CPU time of a final with words over one without {np.median(ratios):.3f} (median of"
        f" {len(ratios)} clips), {max(ratios):.3f} at most; {np.median(costs) * 1e3:.1f} ms"
    )


if __name__ == "__main__":
    main()
