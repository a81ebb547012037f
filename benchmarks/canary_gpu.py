"""Canary-Qwen-2.5B on one GPU: throughput, latency, memory, and the plain way beside it.

    python benchmarks/canary_gpu.py           # true size; needs torch, transformers, a GPU; peft for the plain way
    python benchmarks/canary_gpu.py --toy           # the same run at toy size, also on a CPU

The weights are random (seeded, made on the device: nothing is downloaded), so the text means nothing and the tensors,
shapes and launches are the real ones. Every clip is decoded to exactly 3.5 tokens per second of audio. The language
model's residual branches are scaled down, which makes it repeat its last token with a wide margin: so a draft can be
made right to any share, and rounding does not decide.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from canary_checks import TOY as TOY_WEIGHTS
from canary_checks import check, contact, fp8, fused, host_time, kernels
from nemo_lite import CanaryQwen
from nemo_lite.config import CanaryQwenConfig, EncoderConfig, LLMConfig, LoraConfig, PreprocessorConfig
from nemo_lite.device import default_dtype, out_of_memory
from nemo_lite.kernels import choose
from nemo_lite.tokenizer import ChatTokenizer
from nemo_lite.weights import destinations

if TYPE_CHECKING:
    from canary_plain import PlainCanary

TOKENS_PER_S = 3.5
TRUE = CanaryQwenConfig(
    PreprocessorConfig(16000, 400, 160, 512, 128),
    EncoderConfig(mels=128, layers=32, d_model=1024, heads=8, d_ff=4096, conv_kernel=9, conv_channels=256),
    LLMConfig(
        layers=28,
        hidden=2048,
        intermediate=6144,
        heads=16,
        kv_heads=8,
        head_dim=128,
        vocab=151936,
        norm_eps=1e-6,
        rope_theta=1e6,
        lora=LoraConfig(128, 256, ("q_proj", "v_proj")),
    ),
    "<|audioplaceholder|>",
    "Qwen/Qwen3-1.7B",
)
TOY = replace(
    TRUE,
    encoder=replace(TRUE.encoder, layers=3, d_model=128, heads=4, d_ff=512, conv_channels=32),
    llm=replace(TRUE.llm, layers=3, hidden=160, intermediate=400, heads=4, kv_heads=2, head_dim=32, vocab=896),
)
TOKENIZER = Path(__file__).parents[1] / "tests" / "data" / "canary-toy" / "llm"


class Made(Mapping[str, torch.Tensor]):
    """Tensors by name, each made when it is looked up: a second copy of all of them need not fit."""

    def __init__(self, like: Mapping[str, torch.Tensor], make: Callable[[str], torch.Tensor]) -> None:
        self.like, self.make = like, make

    def __getitem__(self, name: str) -> torch.Tensor:
        return self.make(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.like)

    def __len__(self) -> int:
        return len(self.like)


def random_tensors(model: CanaryQwen, seed: int) -> Mapping[str, torch.Tensor]:
    """A checkpoint for `model` on its device, the same each time."""
    where = destinations(model)
    seeds = {name: seed + number for number, name in enumerate(where)}

    def make(name: str) -> torch.Tensor:
        like, generator = where[name], torch.Generator(model.device).manual_seed(seeds[name])
        if not like.is_floating_point():
            return torch.zeros_like(like)
        if "featurizer" in name:
            return torch.rand(like.shape, dtype=like.dtype, device=like.device, generator=generator) * 0.03
        if like.ndim == 1:
            return torch.full_like(like, float(name.endswith(("weight", "running_var"))))
        tensor = torch.empty_like(like).normal_(std=0.02, generator=generator)
        return tensor * 0.01 if "o_proj" in name or "down_proj" in name else tensor

    return Made(where, make)


def plain_way(model: CanaryQwen) -> "PlainCanary | None":
    """The same model put together from transformers and peft; `None`: a second copy of the weights does not fit.

    Raises ImportError where one of them is missing.
    """
    import peft  # noqa: F401

    from canary_plain import PlainCanary

    weights = sum(tensor.nbytes for tensor in destinations(model).values())
    if model.device.type == "cuda" and torch.cuda.mem_get_info()[0] < 2 * weights:
        print("the plain way is not measured: there is no memory for a second copy of the weights")
        return None
    tensors = dict(random_tensors(model, seed=0))
    return PlainCanary(model.config, tensors, model.tokenizer, model.preprocessor)


@contextmanager
def within_memory(what: str) -> Iterator[None]:
    """Say that something does not fit into the GPU's memory, and go on."""
    try:
        yield
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        print(f"  {what}: out of memory")


class Timed:
    """Wall time of a call, the device idle before and after."""

    def __init__(self, device: torch.device) -> None:
        self.cuda = device.type == "cuda"

    def __call__(self, function: Callable[[], object], rounds: int = 3, warm: int = 1) -> float:
        times = []
        for turn in range(warm + rounds):
            if self.cuda:
                torch.cuda.synchronize()
            started = time.perf_counter()
            function()
            if self.cuda:
                torch.cuda.synchronize()
            if turn >= warm:
                times.append(time.perf_counter() - started)
        return statistics.median(times)


def gigabytes(device: torch.device) -> str:
    if device.type != "cuda":
        return "not measured"
    peak = torch.cuda.max_memory_allocated() / 1e9
    torch.cuda.reset_peak_memory_stats()
    return f"{peak:.1f} GB"


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--toy", action="store_true")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32, 128])
    parser.add_argument("--seconds", type=float, nargs="+", default=[10, 30])
    parser.add_argument(
        "--plain-up-to", type=int, default=32, help="largest batch the plain way is timed with; 0: none"
    )
    parser.add_argument("--sustain-s", type=float, default=5, help="how long the stream of interims runs")
    parser.add_argument("--weights", choices=["int8", "fp8"], help="int8: for cards of 8 GB; fp8: for 8.9 and newer")
    parser.add_argument("--kernels", choices=["auto", "torch", "triton"], default="auto")
    parser.add_argument("--budget-s", type=float, default=540, help="start nothing new after this long")
    args = parser.parse_args()
    began = time.perf_counter()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu" and not args.toy:
        parser.error("there is no GPU here: run it with --toy")
    config = TOY if args.toy else TRUE
    dtype = default_dtype(device)
    timed = Timed(device)
    print("Correctness, canary-toy")
    right = check(device)
    right &= contact(partial(CanaryQwen.from_pretrained, TOY_WEIGHTS, device, torch.float32))
    host_time()

    model = CanaryQwen.empty(config, ChatTokenizer(TOKENIZER, config.audio_tag), device, dtype)
    where, parameters = destinations(model), 0
    for name, tensor in random_tensors(model, seed=0).items():
        where[name].copy_(tensor)
        parameters += tensor.numel()
    plain = None
    if args.plain_up_to:
        try:
            plain = plain_way(model)
        except ImportError as error:
            print(f"the plain way is not measured: {error}")
    model.llm.kernels = choose(args.kernels, config.llm, dtype, device)
    model.tokenizer.eos_id = -1  # never: every row runs to its limit
    model.prepare(weights=args.weights)
    card = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    kind = f"{dtype}{f', {args.weights} weights' if args.weights else ''}, random weights"
    print(f"{card}, torch {torch.__version__}, {parameters / 1e9:.2f} billion parameters, {kind}")
    print(f"kernels of the language model: {model.llm.kernels.name}")
    print(f"in memory at most: {gigabytes(device)}{', the plain way included' if plain else ''}")
    fused(model)
    fp8(device, dtype)
    kernels(model)
    if device.type == "cuda":
        free = torch.cuda.mem_get_info()[0]
        most = 16
        while True:
            batches = sorted({1, min(8, most)})
            try:
                warm_up = partial(model.warm_up, batches, longest_s=30, draft=100, largest=most)
                took = timed(warm_up, rounds=1, warm=0)
                break
            except RuntimeError as error:
                if most == 1 or not out_of_memory(error):
                    raise
            most //= 2
            print(f"no memory for {2 * most} rows")
            model.forget_shapes()
        used = (free - torch.cuda.mem_get_info()[0]) / 1e9
        print(f"warm-up of {' and '.join(map(str, batches))} rows: {took:.0f} s, {used:.1f} GB of the device")
        for graphs in (model.encoder_graphs, model.decoder.graphs):
            graphs.sealed = False  # what follows meets other shapes
    generator = torch.Generator().manual_seed(1)

    def noise(seconds: float, batch: int) -> list[torch.Tensor]:
        return list(torch.randn(batch, int(seconds * 16000), generator=generator) * 0.05)

    def late() -> bool:
        return time.perf_counter() - began > args.budget_s

    print("\nThroughput, batches decoded from nothing")
    for seconds in args.seconds:
        new = round(TOKENS_PER_S * seconds)
        for batch in args.batches:
            if late():
                print("  out of time")
                break
            clips = noise(seconds, batch)
            with within_memory(f"{batch} x {seconds:g} s"):
                gigabytes(device)
                whole = timed(lambda c=clips, n=new: model.transcribe(c, max_new_tokens=n))
                encoder = timed(lambda c=clips: model.embed_audio(c))
                first = timed(lambda c=clips: model.transcribe(c, max_new_tokens=1))
                peak = gigabytes(device)
                line = (
                    f"  {batch:3} x {seconds:g} s: {batch * seconds / whole:7.0f} times real time"
                    f" ({whole * 1e3:.1f} ms; encoder {encoder / whole:.0%}, prefill {(first - encoder) / whole:.0%},"
                    f" decode {(whole - first) / whole:.0%}, {(whole - first) / max(new - 1, 1) * 1e3:.2f} ms a step;"
                    f" peak {peak})"
                )
                if plain is not None and batch <= args.plain_up_to and not late():
                    other = timed(lambda c=clips, n=new: plain.generate(c, n, min_new_tokens=n), rounds=1)
                    line += (
                        f"; the plain way {batch * seconds / other:.0f} times real time: 1 / {other / whole:.1f} of it"
                    )
                print(line, flush=True)

    print("\nLatency, one session, a window of 20 s")
    seconds = 20.0
    new = round(TOKENS_PER_S * seconds)
    [clip] = noise(seconds, 1)
    grown = torch.cat([clip, *noise(0.5, 1)])
    [before] = model.transcribe([clip], max_new_tokens=new)

    def draft(share: float, tokens: Sequence[int] = before.token_ids) -> list[int]:
        right = round(share * len(tokens))
        return [token if i < right else token + 1 for i, token in enumerate(tokens)]

    longer = new + 2  # half a second more of speech
    for name, tokens in (
        ("an interim, 90 % of the draft right", draft(0.9)),
        ("an interim, all of it right", draft(1.0)),
    ):
        answers = [None]

        def interim(tokens: list[int] = tokens, answers: list = answers) -> None:
            answers[:] = model.transcribe([grown], max_new_tokens=longer, drafts=[tokens])

        took = timed(interim, rounds=9, warm=2)
        print(
            f"  {name}: {took * 1e3:.1f} ms ({answers[0].draft_kept} of {len(tokens)} kept,"
            f" {answers[0].forwards} passes)"
        )
    took = timed(lambda: model.transcribe([grown], max_new_tokens=longer), rounds=5)
    print(f"  a final without a draft: {took * 1e3:.1f} ms")
    encoder = timed(lambda: model.embed_audio([grown]), rounds=9)
    first = timed(lambda: model.transcribe([grown], max_new_tokens=1), rounds=9)
    print(f"  of which encoder {encoder * 1e3:.1f} ms, prefill {(first - encoder) * 1e3:.1f} ms")
    if plain is not None:
        took = timed(lambda: plain.generate([grown], longer, min_new_tokens=longer), rounds=2)
        print(f"  the plain way, interim or final: {took * 1e3:.1f} ms")

    print(
        f"\nInterims of 20 s windows, sustained for {args.sustain_s:g} s, 90 % of the draft right (aim: 64 per second)"
    )
    for batch in args.batches:
        if late():
            print("  out of time")
            break
        clips = noise(seconds, batch)
        with within_memory(f"{batch} at a time"):
            drafts = [draft(0.9, answer.token_ids) for answer in model.transcribe(clips, max_new_tokens=new)]
            kept = []

            def interims(clips: list = clips, drafts: list = drafts, kept: list = kept) -> None:
                answers = model.transcribe(clips, max_new_tokens=longer, drafts=drafts)
                kept[:] = [answer.draft_kept for answer in answers]

            timed(interims, rounds=1)
            gigabytes(device)
            calls, started = 0, time.perf_counter()
            while time.perf_counter() - started < args.sustain_s:
                interims()
                calls += 1
            took = (time.perf_counter() - started) / calls
            print(
                f"  {batch:3} at a time: {batch / took:6.1f} per second, {took * 1e3:.0f} ms each batch;"
                f" {sum(kept) / sum(map(len, drafts)):.0%} of the drafts kept; peak {gigabytes(device)}"
            )

    if device.type == "cuda":
        print(f"\ngraphs: {len(model.encoder_graphs.captured)} encoder, {len(model.decoder.graphs.captured)} decoder")
    if not right:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
