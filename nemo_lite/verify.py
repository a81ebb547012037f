"""One run on a machine with the real weights that tells all that is worth knowing of it, to be pasted in one piece."""

import json
import math
import re
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from nemo_lite.calibration import CLIPS, read_clip
from nemo_lite.device import BACKENDS, numerics, out_of_memory
from nemo_lite.model import CanaryQwen
from nemo_lite.transcription import Transcription

WORST = 0.1
"""The largest word error rate that the clips may have: they are clear speech of easy sentences."""
LATENCY_S = 20.0
BATCHES = (1, 8, 32)

Transcribe = Callable[..., list[Transcription]]


def verify(model: CanaryQwen, say: Callable[[str], None] = print, *, max_new_tokens: int = 256) -> bool:
    """Transcribe the bundled clips in every way there is, and time it; whether all is as it should be.

    `say` gets a line at a time: where it ran, each text with its word error rate, whether batches, drafts and graphs
    change anything, times, memory. Whoever pastes them has told everything. `max_new_tokens`: what the model was warmed
    up for, because its graphs are made for that.
    """
    rows = [json.loads(line) for line in (CLIPS / "clips.jsonl").read_text().splitlines()]
    clips = [read_clip(row["file"]) for row in rows]
    for line in _where(model):
        say(line)
    faults = []
    transcribe = partial(model.transcribe, max_new_tokens=max_new_tokens)

    alone = [transcribe([clip])[0] for clip in clips]
    for row, got in zip(rows, alone, strict=True):
        recorded = row.get("recorded")
        as_recorded = (
            "" if recorded is None else ", as recorded" if got.text == recorded else f", recorded {recorded!r}"
        )
        line = {"file": row["file"], "text": got.text, "wer": round(wer(row["text"], got.text), 3)}
        say(json.dumps(line) + as_recorded)
        if recorded is not None and got.text != recorded:
            faults.append(f"{row['file']}: expected {recorded!r}, got {got.text!r}")
    if all(row.get("recorded") is None for row in rows):
        say("nobody has recorded yet what the published model says to these clips: please send these lines")
    errors = wer(" ".join(row["text"] for row in rows), " ".join(got.text for got in alone))
    say(f"word error rate: {errors:.1%} of the words that are said")
    if errors > WORST:
        faults.append(f"expected a word error rate of at most {WORST:.0%}, got {errors:.0%}")

    half = model.dtype != torch.float32
    ways = {
        "in one batch": transcribe(clips),
        "with drafts": transcribe(clips, drafts=[got.token_ids for got in alone]),
    }
    with model.encoder_graphs.without(), model.decoder.graphs.without():
        ways["without graphs"] = transcribe(clips)
    for way, answers in ways.items():
        changed = sum(got.text != one.text for got, one in zip(answers, alone, strict=True))
        say(
            f"{way}: {changed} of {len(clips)} texts differ" + (" (half precision may round otherwise)" if half else "")
        )
        if changed and not half:
            faults.append(f"{way}: expected the same texts, got {changed} others")
    for line in _times(model, transcribe, torch.cat(clips), BATCHES if model.device.type == "cuda" else BATCHES[:1]):
        say(line)
    say("all is as it should be" if not faults else "\n".join(f"WRONG: {fault}" for fault in faults))
    return not faults


def wer(said: str, heard: str) -> float:
    """Word error rate: words put in, left out or replaced, over the words that were said; case and points apart."""
    expected, got = (re.findall(r"[\w']+", text.lower()) for text in (said, heard))
    row = list(range(len(got) + 1))
    for i, word in enumerate(expected, 1):
        above, row[0] = row[0], i
        for j, other in enumerate(got, 1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (word != other))
    return row[-1] / max(len(expected), 1)


def backend(rows: int, queries: int, keys: int, dtype: torch.dtype, device: torch.device) -> str:
    """Which kernel torch takes for attention with a mask, as the language model has it (8 key heads of 128)."""
    q, k = (torch.zeros(rows, 8, n, 128, dtype=dtype, device=device) for n in (queries, keys))
    bias = torch.zeros(1, 1, queries, keys, dtype=dtype, device=device)
    with numerics():
        choice = torch._fused_sdp_choice  # noqa: SLF001 # pyright: ignore[reportPrivateImportUsage] - no public way
        chosen = choice(q, k, k, attn_mask=bias)
    return next((known.name.lower() for known in BACKENDS if int(known.value) == chosen), f"number {chosen}")


def _where(model: CanaryQwen) -> list[str]:
    device, precision = (
        model.device,
        str(model.dtype).removeprefix("torch.") + (f", {model.weights} weights" if model.weights else ""),
    )
    lines = [f"torch {torch.__version__}, CUDA {torch.version.cuda}, {precision} on {device}"]
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        free, _ = torch.cuda.mem_get_info(device)
        graphs = len(model.encoder_graphs.captured) + len(model.decoder.graphs.captured)
        refused = len(model.encoder_graphs.refused) + len(model.decoder.graphs.refused)
        lines += [
            f"{card.name}, compute capability {card.major}.{card.minor}, cuDNN {torch.backends.cudnn.version()}",
            f"memory: {card.total_memory / 1e9:.1f} GB, {free / 1e9:.1f} GB of it free now",
            f"reserved by torch: {torch.cuda.memory_reserved(device) / 1e9:.1f} GB",
            f"graphs: {graphs}, {refused} refused",
        ]
    kinds = {"first pass": (1, 832, 448), "step": (8, 2, 448)}
    chosen = ", ".join(f"{kind} {backend(*shape, model.dtype, device)}" for kind, shape in kinds.items())
    if (head := model.decoder.aligner) is not None:
        lines.append(f"times of words: by head {head.head} of layer {head.layer}")
    fused = model.llm.kernels.name
    return [*lines, f"kernels of the language model: {fused}; attention by PyTorch would be: {chosen}"]


def _times(model: CanaryQwen, transcribe: Transcribe, speech: torch.Tensor, batches: Sequence[int]) -> list[str]:
    samples = int(LATENCY_S * model.config.preprocessor.sample_rate)
    clip = speech.repeat(math.ceil(samples / len(speech)))[:samples]
    lines = []
    for batch in batches:
        rows = model.decoder.cache.rows
        if model.decoder.graphs.sealed and batch > rows:  # a larger cache would cost the graphs of the warm-up
            lines.append(f"{batch} x {LATENCY_S:.0f} s: not timed, the warm-up found memory for {rows} rows")
            continue
        try:
            took = _timed(model, lambda n=batch: transcribe([clip] * n))
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            lines.append(f"{batch} x {LATENCY_S:.0f} s: out of memory")
            continue
        lines.append(
            f"{batch} x {LATENCY_S:.0f} s: {took * 1e3:.0f} ms, {batch * LATENCY_S / took:.0f} times real time"
        )
    [before] = transcribe([clip[: -samples // 40]])
    took = _timed(model, lambda: transcribe([clip], drafts=[before.token_ids]))
    [after] = transcribe([clip], drafts=[before.token_ids])
    lines.append(
        f"an interim of {LATENCY_S:.0f} s: {took * 1e3:.1f} ms,"
        f" {after.draft_kept} of {len(before.token_ids)} drafted tokens kept, {after.forwards} passes"
    )
    if model.device.type == "cuda":
        lines.append(f"most memory in use: {torch.cuda.max_memory_allocated(model.device) / 1e9:.1f} GB")
    return lines


def _timed(model: CanaryQwen, call: Callable[[], Any], rounds: int = 3) -> float:
    times = []
    for _ in range(1 + rounds):
        began = time.perf_counter()
        call()
        if model.device.type == "cuda":
            torch.cuda.synchronize(model.device)
        times.append(time.perf_counter() - began)
    return min(times[1:])
