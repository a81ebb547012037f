"""Less than float32: int8 weights, and float16 with its short range."""

import pytest
import torch

from nemo_lite import CanaryQwen
from nemo_lite.linear import Int8Linear, quantized


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_int8_weights_change_no_word(data, heldout, dtype):
    model = CanaryQwen.from_pretrained(data / "canary-toy", "cpu", dtype, int8=True)
    for at in range(0, len(heldout), 8):
        clips, texts = zip(*heldout[at : at + 8], strict=True)
        assert [answer.text for answer in model.transcribe(clips)] == list(texts)


def test_int8_weights_take_half_the_memory_and_llm_mode_has_its_own(data):
    plain, small = (
        CanaryQwen.from_pretrained(data / "canary-toy", "cpu", torch.bfloat16, int8=i) for i in (False, True)
    )

    def size(model: CanaryQwen) -> int:
        return sum(p.numel() * p.element_size() for p in model.llm.parameters())

    assert size(small) < 0.52 * size(plain)
    assert any(isinstance(module, Int8Linear) for module in small.encoder.modules())
    for adapter in (True, False):
        tokens = [m.generate_text("Transcribe", max_new_tokens=1, adapter=adapter).token_ids for m in (plain, small)]
        assert tokens[0] == tokens[1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_row_is_rounded_to_a_part_in_254_of_its_largest_weight(dtype):
    weight = torch.randn(40, 64, generator=torch.Generator().manual_seed(0)).to(dtype)
    weight[3] = 0
    weight[4] *= 1e-2
    whole, scale = quantized(weight)
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
