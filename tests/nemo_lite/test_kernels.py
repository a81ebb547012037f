"""The fused kernels against PyTorch's operations, in Triton's interpreter (`TRITON_INTERPRET`, set in conftest.py)."""

import logging
import os
import random
import subprocess
import sys

import pytest
import torch

from nemo_lite import CanaryQwen
from nemo_lite.config import LLMConfig
from nemo_lite.errors import KernelsError
from nemo_lite.kernels import Pass, TorchKernels, check, choose, compare, rope, tolerance

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def fused():
    pytest.importorskip("triton")
    from triton.runtime import interpreter

    from nemo_lite.triton_kernels import TritonKernels

    patch = interpreter._patch_lang_tensor

    def patched(tensor, scope):  # numpy 2.4 makes no number of an array of one; Triton 3.6 asks it to
        patch(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: self.handle.data.item())

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(interpreter, "_patch_lang_tensor", patched)
        yield TritonKernels()


def sizes(
    heads: int = 4, kv_heads: int = 2, head_dim: int = 32, hidden: int = 96, intermediate: int = 130
) -> LLMConfig:
    return LLMConfig(
        layers=1,
        hidden=hidden,
        intermediate=intermediate,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        vocab=100,
        norm_eps=1e-6,
        rope_theta=1e6,
        lora=None,
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("seed", range(4))
def test_they_compute_what_pytorch_does_at_random_shapes(fused, dtype, seed):
    r = random.Random(seed)
    kv_heads, group = r.choice([1, 2, 3]), r.choice([1, 2, 4])
    config = sizes(
        kv_heads * group, kv_heads, r.choice([8, 24, 32, 128]), r.choice([48, 96, 160]), r.choice([64, 1100])
    )
    rows, tokens = r.choice([(1, 1), (5, 1), (2, 9), (1, 40), (4, 2)])
    span = r.randrange(tokens, 300)
    computed = compare(fused, config, dtype, CPU, rows, tokens, span, seed)
    if dtype == torch.bfloat16:
        del computed["attention"]  # the interpreter's products of bfloat16 are those of its bits
    for named, (expected, got) in computed.items():
        most = tolerance(dtype) * max(1.0, expected.float().abs().max().item())
        assert (got.float() - expected.float()).abs().max() <= most, named
        assert got.dtype == expected.dtype
        assert got.shape == expected.shape


@pytest.mark.parametrize(("rows", "tokens", "parts"), [(1, 1, 8), (1, 9, 8), (3, 2, 4), (4, 1, 2), (9, 1, 1)])
def test_few_rows_share_their_keys_among_programs_and_many_do_not(fused, monkeypatch, rows, tokens, parts):
    import nemo_lite.triton_kernels as module

    seen = []
    splits = module._splits
    monkeypatch.setattr(module, "_splits", lambda *given: seen.append(splits(*given)) or seen[-1])
    config = sizes(heads=2, kv_heads=1, head_dim=16, hidden=16, intermediate=16)
    monkeypatch.setattr(module, "PROGRAMS", 8)
    for named, (expected, got) in compare(fused, config, torch.float32, CPU, rows, tokens, 513).items():
        assert (got - expected).abs().max() < 1e-5, named
    assert seen == [parts]


def attention(kernels, slots: list[list[int]], kv: torch.Tensor, rows: list[int] | None = None) -> torch.Tensor:
    at = torch.tensor(slots)
    q = torch.randn(kv.shape[1] if rows is None else len(rows), at.shape[1], 4, 8, generator=torch.manual_seed(3))
    bias = kernels.bias(at, kv.shape[2], 2, q.dtype)
    return kernels.attend(
        q, kv, Pass(at, None if rows is None else torch.tensor(rows), *rope(at, 8, 1e6, q.dtype), bias)
    )


def test_nothing_behind_a_rows_end_is_read(fused):
    kv = torch.randn(2, 3, 200, 2, 8)
    slots = [[0, 1], [64, 65], [130, 131]]
    before = attention(fused, slots, kv)
    for row, end in enumerate((2, 66, 132)):
        kv[:, row, end:] = float("nan")  # stale, of a row that overflowed
    assert torch.equal(attention(fused, slots, kv), before)


def test_what_is_no_number_is_not_hidden(fused):
    kv = torch.randn(2, 2, 100, 2, 8)
    kv[0, 1, 40] = float("nan")
    out = attention(fused, [[90], [90]], kv)
    assert out[0].isfinite().all()
    assert out[1].isnan().all()


def test_rows_that_share_their_positions_and_take_any_places(fused):
    kv = torch.randn(2, 7, 90, 2, 8)
    expected, got = (attention(way, [[70, 71, 72]], kv, rows=[5, 0, 3]) for way in (TorchKernels(), fused))
    assert torch.allclose(expected, got, atol=1e-5)


def test_a_model_says_with_them_what_it_says_without(data, clip, fused):
    """The whole of it: a first pass, steps with a draft and without, the adapter off."""
    model = CanaryQwen.from_pretrained(data / "canary-nano", "cpu")
    clips = [clip("nano", "noise_0p5s")]
    ways = []
    for kernels in (TorchKernels(), fused):
        model.llm.kernels = kernels
        answers = model.transcribe(clips, max_new_tokens=3)
        drafted = model.transcribe(clips, max_new_tokens=3, drafts=[answers[0].token_ids])
        said = model.generate_text("Hello", max_new_tokens=2)
        ways.append([a.token_ids for a in (*answers, *drafted, said)])
    assert ways[0] == ways[1]


COMPILED = """
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from nemo_lite import triton_kernels as kernels

X, F, I = "*bf16", "*fp32", "*i64"
HEADS = dict(KV_HEADS=8, D=128, ROWS=True)
SHAPES = {
    "_place": (dict(slots=I, rows=I, eps="fp32"), dict(HEADS, HEADS=16, BLOCK=128)),
    "_attend": (
        dict(slots=I, rows=I, parts=F, weights=F, scale="fp32"),
        dict(HEADS, GROUP=2, BLOCK_D=128, BLOCK_M=64, BLOCK_N=64, SPLITS=4),
    ),
    "_join": (dict(parts=F, weights=F), dict(D=128, BLOCK_D=128, SPLITS=4)),
    "_gated": ({}, dict(WIDE=6144, BLOCK=1024)),
    "_add_norm": (dict(eps="fp32"), dict(SIZE=2048, BLOCK=2048)),
}
NUMBERS = {"n", "batch", "lines", "rope_stride", "slots_stride", "slots_per_row"}
POINTER = [["tt.divisibility", 16]]
MEMORY = {75: 64, 80: 163, 86: 99, 90: 227, 120: 99}  # KiB that a program may have (CUDA programming guide)
for card, most in MEMORY.items():
    for name, (types, sizes) in SHAPES.items():
        kernel = getattr(kernels, name)
        given = [argument for argument in kernel.arg_names if argument not in sizes]
        signature = {argument: types.get(argument, "i32" if argument in NUMBERS else X) for argument in given}
        if card < 80:
            signature = {argument: kind.replace("bf16", "fp16") for argument, kind in signature.items()}
        signature |= dict.fromkeys(sizes, "constexpr")
        constants = {(kernel.arg_names.index(argument),): value for argument, value in sizes.items()}
        aligned = {(kernel.arg_names.index(a),): POINTER for a, kind in signature.items() if kind[0] == "*"}
        source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=aligned)
        done = compile(source, GPUTarget("cuda", card, 32))
        assert done.asm["cubin"] and done.metadata.shared <= most << 10, (name, card, done.metadata.shared)
"""


def test_they_compile_for_the_cards_there_are_in_the_models_sizes(tmp_path):
    """Turing in float16, later ones in bfloat16: machine code, for which no card is needed, within their memory."""
    pytest.importorskip("triton")
    there = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    there["TRITON_CACHE_DIR"] = str(tmp_path)
    subprocess.run([sys.executable, "-c", COMPILED], check=True, env=there)


def test_where_they_do_not_do_pytorch_computes_and_the_log_says_so(monkeypatch, caplog, fused):
    config = sizes()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("nemo_lite.kernels.check", lambda *_: (_ for _ in ()).throw(ValueError("attention is wrong")))
    monkeypatch.setattr("nemo_lite.kernels.lost", lambda device: False)
    with caplog.at_level(logging.WARNING):
        assert choose("auto", config, torch.float32, torch.device("cuda")).name == "torch"
    assert "attention is wrong" in caplog.text
    with pytest.raises(KernelsError, match="attention is wrong"):
        choose("triton", config, torch.float32, torch.device("cuda"))
    monkeypatch.setattr("nemo_lite.kernels.lost", lambda device: True)  # PyTorch's would fail as well
    with pytest.raises(KernelsError, match="broke the GPU's context; go without"):
        choose("auto", config, torch.float32, torch.device("cuda"))


def test_what_a_pass_may_launch_is_compiled_before_anybody_waits(fused, monkeypatch):
    """By tile, parts of the keys and whether rows are chosen: `meet` has all that any shape leads to."""
    import nemo_lite.triton_kernels as module

    class Launched:
        def __init__(self, kernel):
            self.kernel, self.seen = kernel, set()

        def __getitem__(self, grid):
            def launch(*_, **sizes):
                self.seen.add(tuple(sorted(sizes.items())))

            return launch

    kernels = {name: Launched(getattr(module, name)) for name in ("_attend", "_join")}
    for name, launched in kernels.items():
        monkeypatch.setattr(module, name, launched)
    config = sizes(heads=16, kv_heads=8, head_dim=128)
    fused.meet(config, torch.float16, CPU)
    met = {name: set(launched.seen) for name, launched in kernels.items()}
    r = random.Random(0)
    for _ in range(300):
        rows, tokens = r.choice([(r.randint(1, 64), r.choice([1, 9])), (r.randint(1, 16), r.randint(1, 600))])
        span = r.randrange(tokens, 1200)
        q = torch.empty(rows, tokens, 16, 128, dtype=torch.float16, device="meta")
        kv = torch.empty(2, rows, span, 8, 128, dtype=torch.float16, device="meta")
        slots = torch.empty(r.choice([1, rows]), tokens, dtype=torch.int64, device="meta")
        fused.attend(q, kv, Pass(slots, r.choice([None, slots[:, 0]]), q, q, None))
    assert {name: launched.seen for name, launched in kernels.items()} == met


def test_without_triton_or_a_gpu_nobody_asks_for_it(monkeypatch, caplog):
    assert choose("auto", sizes(), torch.float32, CPU).name == "torch"
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delitem(sys.modules, "nemo_lite.triton_kernels", raising=False)
    with pytest.raises(KernelsError, match="triton"):
        choose("triton", sizes(), torch.float32, CPU)
    assert choose("torch", sizes(), torch.float32, torch.device("cuda")).name == "torch"


def test_wrong_kernels_are_found_out(fused):
    class Wrong(TorchKernels):
        def gated(self, gate_up):
            return super().gated(gate_up) * 1.01

    small = sizes(heads=1, kv_heads=1, head_dim=8, hidden=16, intermediate=16)
    check(fused, small, torch.float32, CPU)
    with pytest.raises(ValueError, match="SiLU"):
        check(Wrong(), small, torch.float32, CPU)
