"""What draft verification saves: passes and time, on real words, with canary-toy on the CPU.

    python benchmarks/canary_drafts.py

First clips that grow by half a second at a time, as a live session decodes them, each hypothesis the next one's
draft. Then drafts that are right to a given share: the first so many tokens, or tokens spread at random. Every answer
is compared with plain greedy decoding. The toy's language model has 3 layers, so the times say little of the real one;
the passes do.
"""

import json
import random
import time
from pathlib import Path

import soundfile
import torch

from nemo_lite import CanaryQwen, Transcription

TOY = Path(__file__).parents[1] / "tests" / "data" / "canary-toy"
NEW_TOKENS = 192


def main() -> None:
    torch.set_num_threads(1)
    model = CanaryQwen.from_pretrained(TOY, "cpu")
    rows = [json.loads(line) for line in (TOY / "heldout" / "heldout.jsonl").read_text().splitlines()]
    clips = [
        torch.from_numpy(soundfile.read(TOY / "heldout" / row["file"], dtype="float32")[0])
        for row in rows
        if row["id"].startswith("multi") and row["seconds"] < 15
    ]

    def timed(clip: torch.Tensor, draft: tuple[int, ...] | None) -> tuple[Transcription, float]:
        started = time.perf_counter()
        [answer] = model.transcribe([clip], max_new_tokens=NEW_TOKENS, drafts=[draft])
        return answer, time.perf_counter() - started

    steps = kept = offered = passes = plain_passes = 0
    took = plain_took = 0.0
    for clip in clips:
        previous: tuple[int, ...] = ()
        for end in range(8000, len(clip) + 8000, 8000):
            plain, seconds = timed(clip[:end], None)
            plain_took, plain_passes = plain_took + seconds, plain_passes + plain.forwards
            answer, seconds = timed(clip[:end], previous)
            took, passes, steps = took + seconds, passes + answer.forwards, steps + 1
            assert answer.token_ids == plain.token_ids
            kept += answer.draft_kept
            offered += sum(token != model.tokenizer.eos_id for token in previous)
            previous = answer.token_ids
    print(
        f"{steps} interims of {len(clips)} growing clips: {kept / offered:.1%} of draft tokens kept,"
        f" {passes / steps:.2f} passes per interim with drafts, {plain_passes / steps:.2f} without;"
        f" {took / steps * 1e3:.0f} ms with, {plain_took / steps * 1e3:.0f} ms without"
    )

    r = random.Random(0)
    finals = [timed(clip, None)[0] for clip in clips]
    for where in ("first tokens right", "right tokens at random"):
        for share in (1.0, 0.9, 0.5):
            took = plain_took = 0.0
            passes = plain_passes = 0
            for clip, final in zip(clips, finals, strict=True):
                tokens = final.token_ids[:-1]
                right = [i < round(share * len(tokens)) for i in range(len(tokens))]
                if where != "first tokens right":
                    r.shuffle(right)
                draft = tuple(
                    t if ok else (t + 1) % model.tokenizer.eos_id for t, ok in zip(tokens, right, strict=True)
                )
                for _ in range(3):
                    plain, seconds = timed(clip, None)
                    plain_took, plain_passes = plain_took + seconds, plain_passes + plain.forwards
                    answer, seconds = timed(clip, draft)
                    took, passes = took + seconds, passes + answer.forwards
                    assert answer.token_ids == plain.token_ids == final.token_ids
            print(
                f"{share:.0%} {where}: {plain_passes / passes:.1f} times fewer passes"
                f" ({passes / len(clips) / 3:.1f} against {plain_passes / len(clips) / 3:.1f}),"
                f" {plain_took / took:.2f} times as fast"
            )


if __name__ == "__main__":
    main()
