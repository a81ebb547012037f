"""Is what a GPU computes right, and does what only a GPU can show go well? On canary-toy, with the tokens that NeMo
recorded for it; `canary_gpu.py` runs it first.

python benchmarks/canary_checks.py
"""

import gc
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parents[1]))  # nothing need be installed

from nemo_lite import CanaryQwen, ContinuousBatch
from nemo_lite.audio import Staging, as_clip
from nemo_lite.device import computing
from nemo_lite.errors import KernelsError
from nemo_lite.graphs import Replay, Run
from nemo_lite.kernels import Kernels, Pass, TorchKernels, choose, rope
from nemo_lite.linear import check_fp8, linear, quantized
from nemo_lite.verify import backend

TOY = Path(__file__).parents[1] / "tests" / "data" / "canary-toy"


def recorded() -> tuple[list[torch.Tensor], list[tuple[int, ...]]]:
    """Clips, and the tokens that NeMo gave for each in float32."""
    manifest = json.loads((TOY / "goldens" / "manifest.json").read_text())
    clips, expected = [], []
    for case in manifest["cases"].values():
        golden = load_file(TOY / "goldens" / case["file"])
        if "audio_i16" in golden:
            clips.append(golden["audio_i16"].float() / 32768)
            expected.append(tuple(case["generated"]))
    return clips, expected


def check(device: torch.device) -> bool:
    """Print what is right and what is not, in every precision; whether float32 is right to the token."""
    clips, expected = recorded()
    all_right = True
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        model = CanaryQwen.from_pretrained(TOY, device, dtype)
        eager = CanaryQwen.from_pretrained(TOY, device, dtype)
        eager.encoder_graphs.capture = eager.decoder.graphs.capture = None
        ways = {
            "one by one": [model.transcribe([clip])[0].token_ids for clip in clips],
            "again": [model.transcribe([clip])[0].token_ids for clip in clips],
            "in a batch, rows that end early": [a.token_ids for a in model.transcribe(clips)],
            "with drafts": [a.token_ids for a in model.transcribe(clips, drafts=expected)],
            "without graphs": [a.token_ids for a in eager.transcribe(clips)],
            "coming one after the other": _coming(model, clips),
        }
        counts = {way: sum(a == b for a, b in zip(got, expected, strict=True)) for way, got in ways.items()}
        said = ", ".join(f"{way} {count}" for way, count in counts.items())
        print(f"  {dtype}: of {len(clips)} as NeMo in float32: {said}; attention {backend(8, 2, 448, dtype, device)}")
        if dtype == torch.float32:
            all_right = all(got == expected for got in ways.values())
    print("  float32 is right to the token" if all_right else "  WRONG: float32 differs")
    return all_right


def contact(load: Callable[[], CanaryQwen]) -> bool:
    """Print how what only a GPU can show goes on it; `load` gives canary-toy in float32. Whether all went well."""
    clips, expected = recorded()
    steps = {
        "nothing that is captured waits for the device": lambda: not_waiting(load(), clips, expected),
        "captured in a thread that has ended, replayed in another": lambda: other_thread(load, clips, expected),
        "captures that fail spoil no other": lambda: failing_captures(load(), clips, expected),
        "what stands is right beside interims of windows that grow": lambda: beside_windows(load(), clips, expected),
    }
    wrong = 0
    for what, step in steps.items():
        try:
            said = step()
        except RuntimeError as error:
            said = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        wrong += bool(said)
        print(f"  {what}: {f'WRONG: {said}' if said else 'yes'}")
    return not wrong


def not_waiting(model: CanaryQwen, clips: Sequence[torch.Tensor], expected: Sequence[tuple[int, ...]]) -> str:
    """Run what would be captured as it is, with whatever waits for the device an error; what is wrong.

    A capture forbids it too, but then the shape runs without a graph, and nothing but a line in the log tells.
    """

    def watched(run: Run) -> tuple[tuple[torch.Tensor, ...], Replay]:
        with _waiting_is_an_error(model.device):
            outputs = run()

        def again() -> None:
            for kept, new in zip(outputs, run(), strict=True):
                kept.copy_(new)

        return outputs, again

    model.encoder_graphs.capture = model.decoder.graphs.capture = watched
    got = [answer.token_ids for answer in model.transcribe(clips, drafts=[(3, 4, 5)] * len(clips))]
    if refused := _refused(model):
        return ", ".join(sorted({str(key[0]) for key in refused}))
    captured = model.encoder_graphs.captured and model.decoder.graphs.captured
    return _differing(got, expected) or ("" if captured else "nothing was captured")


def other_thread(
    load: Callable[[], CanaryQwen], clips: Sequence[torch.Tensor], expected: Sequence[tuple[int, ...]]
) -> str:
    """Load and warm up in a thread that ends, as a server does, and transcribe in another; what is wrong."""
    with ThreadPoolExecutor(1) as loading:
        model = loading.submit(load).result()
        warm = partial(model.warm_up, [1], longest_s=4.0, max_new_tokens=60, draft=32, largest=2)
        loading.submit(warm).result()
    gc.collect()
    with ThreadPoolExecutor(1) as engine:
        answers = engine.submit(lambda: [model.transcribe([clip])[0].token_ids for clip in clips]).result()
    return _differing(answers, expected)


def failing_captures(model: CanaryQwen, clips: Sequence[torch.Tensor], expected: Sequence[tuple[int, ...]]) -> str:
    """Have captures fail in their middle, then use graphs from before and make new ones; what is wrong."""
    capture, x = model.encoder_graphs.capture, torch.ones(4, device=model.device)
    if capture is None:
        return "" if model.device.type == "cpu" else "nothing can be captured"
    faults: dict[str, Run] = {
        "a look at data": lambda: (x * float(x.sum()),),
        "more memory than there is": lambda: (torch.empty(1 << 50, device=x.device),),
    }
    model.transcribe(clips[:1])
    for what, fault in faults.items():
        with suppress(RuntimeError):
            capture(fault)
        before = [model.transcribe([clip])[0].token_ids for clip in clips[:2]]
        model.encoder_graphs.clear()
        model.decoder.graphs.clear()
        after = [model.transcribe([clip])[0].token_ids for clip in clips[:2]]
        if wrong := _differing(before + after, [*expected[:2]] * 2):
            return f"after {what}: {wrong}"
        if refused := _refused(model):
            return f"after {what}: {len(refused)} captures failed that should not"
    return ""


def beside_windows(model: CanaryQwen, clips: Sequence[torch.Tensor], expected: Sequence[tuple[int, ...]]) -> str:
    """Transcribe clips beside one that has grown, of which the end alone is encoded; what is wrong."""
    model.growing.worth_a_pass = 0
    long = torch.cat(list(clips))[: 20 * 16_000]
    model.transcribe([long[: len(long) * 9 // 10]], windows=["a"])
    *got, grown = [answer.token_ids for answer in model.transcribe([*clips, long], windows=[None] * len(clips) + ["a"])]
    kept = model.growing.kept["a"]
    if kept is None or kept.whole == len(kept.frames):
        return "all of the window was encoded"
    return _differing(got, expected) or ("" if grown else "nothing was heard in the window")


def fp8(device: torch.device, dtype: torch.dtype) -> None:
    """Print whether `--dtype fp8` can be had on this card, and how long a product of the model's takes in it."""
    if device.type != "cuda":
        return
    try:
        check_fp8(device, dtype)
    except KernelsError as error:
        print(f"  fp8: no ({error})")
        return
    plain = torch.randn(12288, 2048, device=device, dtype=dtype)
    rounded, scale = quantized(plain, "fp8")
    for tokens in (1, 64, 2048):
        x = torch.randn(tokens, 2048, device=device, dtype=dtype)
        times = [_events(partial(linear, x, *w)) for w in ((plain,), (rounded, scale))]
        print(f"  fp8: right; {tokens} tokens, 2048 to 12288: {times[1] * 1e6:.0f} us, {dtype} {times[0] * 1e6:.0f} us")


def _refused(model: CanaryQwen) -> set[Any]:
    """Keys whose capture failed: the model hides that, by running them without a graph."""
    return model.encoder_graphs.refused | model.decoder.graphs.refused


def _differing(got: Sequence[tuple[int, ...]], expected: Sequence[tuple[int, ...]]) -> str:
    differ = sum(a != b for a, b in zip(got, expected, strict=True))
    return f"{differ} of {len(expected)} differ from NeMo" if differ else ""


@contextmanager
def _waiting_is_an_error(device: torch.device) -> Iterator[None]:
    if device.type != "cuda":
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def host_time(batch: int = 128, seconds: float = 30.0) -> None:
    """Print what the host does for a batch before the device has anything to do."""
    clips = list(torch.randn(batch, int(seconds * 16_000)) * 0.05)
    staging = Staging(pinned=torch.cuda.is_available())
    took = []
    for _ in range(4):
        began = time.perf_counter()
        loaded = staging.load([as_clip(clip, "row") for clip in clips], batch, len(clips[0]) + 159, loudest=100.0)
        took.append(time.perf_counter() - began)
        staging.kept[:] = [(loaded.buffer, None)]
    threads = torch.get_num_threads()
    print(f"  host: {batch} clips of {seconds:g} s checked and padded in {min(took) * 1e3:.0f} ms, {threads} threads")


def fused(model: CanaryQwen) -> None:
    """Print whether the kernels in Triton are right on this card, and how long they and PyTorch's take under graphs."""
    config, dtype, device = model.config.llm, model.dtype, model.device
    if device.type != "cuda":
        return
    try:
        ours = choose("triton", config, dtype, device)
    except KernelsError as error:
        print(f"  WRONG: {error}")
        return
    print("  kernels in Triton: right, in the model's sizes")
    for rows, tokens, span in ((1, 1, 448), (1, 9, 448), (8, 1, 448), (64, 1, 448), (128, 1, 448), (8, 400, 448)):
        times = {way.name: _layer_time(way, model, rows, tokens, span) for way in (TorchKernels(), ours)}
        said = ", ".join(f"{name} {seconds * 1e6:.0f} us" for name, seconds in times.items())
        print(f"  {rows} x {tokens} tokens, {span} keys, a layer: {said}: {min(times, key=times.__getitem__)} wins")


def _layer_time(way: Kernels, model: CanaryQwen, rows: int, tokens: int, span: int, rounds: int = 50) -> float:
    """Seconds that one layer takes on the device, launches left to a CUDA graph."""
    config, like = model.config.llm, model.embed_tokens.weight
    layer, x = model.llm.layers[0], like.new_zeros(rows, tokens, config.hidden).normal_()
    kv = like.new_zeros(2, rows, span, config.kv_heads, config.head_dim).normal_()
    slots = torch.arange(span - tokens, span, device=like.device).expand(rows, -1)
    bias = way.bias(slots, span, config.heads // config.kv_heads, like.dtype)
    now = Pass(slots, None, *rope(slots, config.head_dim, config.rope_theta, like.dtype), bias)

    def run() -> None:
        layer(x, x, now, kv, model.llm.norm, way, adapter=True, tap=None)

    stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
    with computing(like.device):  # which chooses among PyTorch's kernels of attention
        with torch.cuda.stream(stream):
            run()  # compiles
        stream.synchronize()
        with torch.cuda.graph(graph):
            run()
    return _events(graph.replay, rounds)


def _events(run: Callable[[], object], rounds: int = 50) -> float:
    """Seconds that a call takes on the device."""
    began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    run()
    began.record()
    for _ in range(rounds):
        run()
    ended.record()
    ended.synchronize()
    return began.elapsed_time(ended) / 1e3 / rounds


def kernels(model: CanaryQwen) -> None:
    """Print how many kernels a decoding step launches, and their time, without a graph."""
    if model.device.type != "cuda":
        return
    clip = torch.randn(20 * 16_000) * 0.05
    counts = []
    for tokens in (4, 12):
        with (
            torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile,
            model.encoder_graphs.without(),
            model.decoder.graphs.without(),
        ):
            model.transcribe([clip], max_new_tokens=tokens)
        events = [e for e in profile.events() if e.device_type == torch.autograd.DeviceType.CUDA]
        counts.append((len(events), sum(e.device_time for e in events)))
    (few, short), (many, long) = counts
    print(f"  a step: {(many - few) / 8:.0f} kernels, {(long - short) / 8e3:.2f} ms in them")


def _coming(model: CanaryQwen, clips: list[torch.Tensor]) -> list[tuple[int, ...]]:
    batch = ContinuousBatch(model, 4, longest_s=30.0)
    order, waiting, done = [], list(clips), {}
    while waiting or batch.running:
        if waiting and batch.free:
            order += batch.add([waiting.pop(0)])
        done |= batch.step()
    return [done[ticket].token_ids for ticket in order]


if __name__ == "__main__":
    where = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print(f"on {where}")
    right = check(where)
    right &= contact(partial(CanaryQwen.from_pretrained, TOY, where, torch.float32))
    host_time()
    raise SystemExit(0 if right else 1)
