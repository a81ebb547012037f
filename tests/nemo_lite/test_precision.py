"""Less than float32: weights of 8 bits, and float16 with its short range."""

import pytest
import torch

from nemo_lite import CanaryQwen, linear
from nemo_lite.errors import KernelsError
from nemo_lite.linear import QuantizedLinear, check_fp8, quantized


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_int8_weights_change_no_word(data, heldout, dtype):
    model = CanaryQwen.from_pretrained(data / "canary-toy", "cpu", dtype, weights="int8")
    for at in range(0, len(heldout), 8):
        clips, texts = zip(*heldout[at : at + 8], strict=True)
        assert [answer.text for answer in model.transcribe(clips)] == list(texts)


@pytest.mark.parametrize("how", ["int8", "fp8"])
def test_weights_of_8_bits_take_half_the_memory_and_llm_mode_has_its_own(data, how):
    plain, small = (
        CanaryQwen.from_pretrained(data / "canary-toy", "cpu", torch.bfloat16, weights=w) for w in (None, how)
    )

    def size(model: CanaryQwen) -> int:
        return sum(p.numel() * p.element_size() for p in model.llm.parameters())

    assert size(small) < 0.52 * size(plain)
    assert any(isinstance(module, QuantizedLinear) for module in small.encoder.modules())
    for adapter in (True, False):
        tokens = [m.generate_text("Transcribe", max_new_tokens=1, adapter=adapter).token_ids for m in (plain, small)]
        assert tokens[0] == tokens[1]


def test_fp8_changes_no_word_of_clear_speech(data, heldout):
    """But in one clip, which is longer than what the model learned from: there NeMo loses a sentence as well."""
    model = CanaryQwen.from_pretrained(data / "canary-toy", "cpu", weights="fp8")
    some = heldout[3::5]
    heard = [
        answer.text for at in range(0, 20, 5) for answer in model.transcribe([clip for clip, _ in some[at : at + 5]])
    ]
    assert [i for i, (got, (_, text)) in enumerate(zip(heard, some, strict=True)) if got != text] == [7]
    assert len(some[7][0]) > 26 * 16_000


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_product_in_fp8_is_that_of_numbers_rounded_to_a_sixteenth_by_rows(dtype):
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(*shape, generator=generator) for shape in ((3, 5, 64), (48, 64)))
    bias = torch.randn(48, generator=generator).to(dtype)
    x[0, 0], x[1, 1], weight[7] = 1000 * x[0, 0], 0, 0  # loud, silent: no concern of their neighbours
    x, weight = x.to(dtype), weight.to(dtype)
    rounded, scale = quantized(weight, "fp8")
    assert rounded.dtype == torch.float8_e4m3fn
    got = linear.linear(x, rounded, scale, bias)
    assert got.dtype == dtype
    exact = x.double() @ weight.double().T + bias.double()
    # each factor is off by a part in 16 at most, or by half the smallest step of its row
    small = 448 * 2**9
    bounds = [v.double().abs() / 16 + v.double().abs().amax(-1, keepdim=True) / small for v in (x, weight)]
    both = (x.double().abs() + bounds[0]) @ (
        weight.double().abs() + bounds[1]
    ).T - x.double().abs() @ weight.double().abs().T
    assert ((got.double() - exact).abs() <= both + torch.finfo(dtype).eps * exact.abs() + 1e-6).all()
    assert torch.equal(got[1, 1], bias)
    assert torch.equal(got[:, :, 7], bias[7].expand(3, 5))
    assert torch.equal(linear.linear(x[2:, :1], rounded, scale, bias), got[2:, :1])


@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
def test_what_is_no_number_in_fp8_is_seen(bad):
    x = torch.ones(2, 32)
    x[0, 3] = bad
    rounded, scale = quantized(torch.ones(16, 32), "fp8")
    got = linear.linear(x, rounded, scale)
    assert not got[0].isfinite().any()
    assert got[1].isfinite().all()


@pytest.mark.parametrize("fault", ["none", "fails", "wrong"])
def test_a_gpu_whose_products_in_fp8_are_not_right_is_told_before_anything_is_loaded(monkeypatch, fault):
    real, rows = linear._fp8_linear, []

    def product(x, weight, scale, bias):
        rows.append(len(x))
        if fault == "fails":
            raise RuntimeError("CUBLAS_STATUS_NOT_SUPPORTED")
        return real(x, weight, scale, bias) * (1.1 if fault == "wrong" and len(rows) % 2 else 1)

    monkeypatch.setattr(linear, "_fp8_linear", product)
    monkeypatch.setattr(torch, "randn", lambda *shape, device, dtype=None: torch.ones(*shape, dtype=dtype))
    if fault == "none":
        check_fp8(torch.device("cuda"), torch.bfloat16)
        assert set(rows) == {1, 9, 300}
        return
    said = {"fails": "has no products in fp8 by rows: CUBLAS_STATUS_NOT_SUPPORTED", "wrong": "come out wrong"}[fault]
    with pytest.raises(KernelsError, match=f"expected int8 or none, .*{said}"):
        check_fp8(torch.device("cuda"), torch.bfloat16)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_row_is_rounded_to_a_part_in_254_of_its_largest_weight(dtype):
    weight = torch.randn(40, 64, generator=torch.Generator().manual_seed(0)).to(dtype)
    weight[3] = 0
    weight[4] *= 1e-2
    whole, scale = quantized(weight, "int8")
    error = (whole.float() * scale.float()[:, None] - weight.float()).abs()
    assert (error <= weight.float().abs().amax(1, keepdim=True) * (1 / 254 + torch.finfo(dtype).eps)).all()


def test_in_float16_the_residual_stream_may_outgrow_float16(data, toy):
    """Three thousand times the stream: every summand fits, their sum does not, and the last norm takes it back."""
    half = CanaryQwen.from_pretrained(data / "canary-toy", "cpu", torch.float16)
    x = torch.randn(1, 6, toy.config.llm.hidden, generator=torch.Generator().manual_seed(0))
    slots = torch.arange(6)[None]

    def hidden(model: CanaryQwen, times: float, x: torch.Tensor) -> torch.Tensor:
        saved = {n: p.clone() for n, p in model.llm.named_parameters() if ".out." in n or ".down." in n}
        for name, parameter in model.llm.named_parameters():
            if name in saved:
                parameter.mul_(times)
        model.decoder.reserve(1, 6)
        try:
            return model.llm(x * times, slots, model.decoder.cache.view(1, 6)).float()
        finally:
            for name, parameter in model.llm.named_parameters():
                if name in saved:
                    parameter.copy_(saved[name])

    streams = []
    handle = half.llm.norm.register_forward_pre_hook(lambda _m, args: streams.append(args[0].abs().max().item()))
    with torch.inference_mode():
        expected, got = hidden(toy, 1.0, x), hidden(half, 3_000.0, x.half())
    handle.remove()
    assert streams[0] > 65_504
    assert got.isfinite().all()
    assert (got - expected).abs().max() < 0.05 * expected.abs().max()
