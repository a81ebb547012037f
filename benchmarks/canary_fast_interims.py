"""What `--fast-interims` costs in words and saves in the encoder: growing windows of real words, canary-toy on the CPU.

    python benchmarks/canary_fast_interims.py
    python benchmarks/canary_fast_interims.py --left 25 50 --right 6 12      # other contexts

Held-out clips, and single ones three in a row with pauses, grow by half a second at a time, as a live session asks for
interims, each hypothesis the next one's draft. Words are compared with those of interims whose window is encoded as a
whole each time. The toy's encoder has 5 layers and has heard one voice, so its words say little of the real one's.
"""

import argparse
import itertools
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch

from nemo_lite import CanaryQwen, growing
from stt.bench import word_errors

TOY = Path(__file__).parents[1] / "tests" / "data" / "canary-toy"
STEP = 8000
NEW_TOKENS = 192


@dataclass
class Encoder:
    """What the encoder is asked for."""

    frames: int = 0
    seconds: float = 0.0
    """Of the processor."""
    began: float = 0.0


@contextmanager
def watched(model: CanaryQwen) -> Iterator[Encoder]:
    total = Encoder()

    def begins(_: object, given: tuple[torch.Tensor, torch.Tensor]) -> None:
        total.frames += sum(-(-n // 8) for n in given[1].tolist())
        total.began = time.thread_time()

    def ends(*_: object) -> None:
        total.seconds += time.thread_time() - total.began

    hooks = [model.encoder.register_forward_pre_hook(begins), model.encoder.register_forward_hook(ends)]
    yield total
    for hook in hooks:
        hook.remove()


def clips() -> list[torch.Tensor]:
    rows = [json.loads(line) for line in (TOY / "heldout" / "heldout.jsonl").read_text().splitlines()]
    audio = {row["id"]: soundfile.read(TOY / "heldout" / row["file"], dtype="float32")[0] for row in rows}
    several = [audio[row["id"]] for row in rows if row["id"].startswith("multi") and row["seconds"] < 15]
    single = [audio[row["id"]] for row in rows if row["id"].startswith("single")]
    spaced = [np.concatenate([clip, np.zeros(6400, np.float32)]) for clip in single]
    joined = [np.concatenate(spaced[i : i + row]) for row in (3, 8) for i in range(0, len(spaced) - row + 1, row)]
    return [torch.from_numpy(clip) for clip in (*several, *joined)]


def interims(model: CanaryQwen, clips: Sequence[torch.Tensor], *, fast: bool) -> tuple[list[str], Encoder]:
    texts: list[str] = []
    with watched(model) as encoder:
        for i, clip in enumerate(clips):
            draft: tuple[int, ...] = ()
            for end in range(STEP, len(clip), STEP):
                windows = [i] if fast else None
                [heard] = model.transcribe([clip[:end]], max_new_tokens=NEW_TOKENS, drafts=[draft], windows=windows)
                texts.append(heard.text)
                draft = heard.token_ids
            model.growing.forget(lambda window, i=i: window == i)
    return texts, encoder


def main() -> None:
    parser = argparse.ArgumentParser(description="measure interims whose encoder frames are kept")
    parser.add_argument("--left", type=int, nargs="+", default=[growing.LEFT])
    parser.add_argument("--right", type=int, nargs="+", default=[growing.RIGHT])
    parser.add_argument("--refresh", type=float, nargs="+", default=[growing.REFRESH])
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = CanaryQwen.from_pretrained(TOY, "cpu")
    windows = clips()
    seconds = [len(clip) / 16_000 for clip in windows]
    whole, before = interims(model, windows, fast=False)
    print(f"{len(whole)} interims of {len(windows)} windows of {min(seconds):.0f} to {max(seconds):.0f} s, every 0.5 s")
    for growing.LEFT, growing.RIGHT, growing.REFRESH in itertools.product(args.left, args.right, args.refresh):
        fast, after = interims(model, windows, fast=True)
        errors, words = map(sum, zip(*map(word_errors, whole, fast), strict=True))
        same = sum(a == b for a, b in zip(whole, fast, strict=True))
        frames, took = after.frames / before.frames, after.seconds / before.seconds
        print(
            f"left {growing.LEFT}, right {growing.RIGHT}, refresh {growing.REFRESH:g}: {errors / words:.2%} of words"
            f" differ, {same / len(whole):.1%} of interims are the same; the encoder has {frames:.0%} of the frames and"
            f" takes {took:.0%} of the time (CPU)"
        )


if __name__ == "__main__":
    main()
