"""What the two `config.json` may say: what is computed is taken, all else refused by name."""

import json
from pathlib import Path
from typing import Any

import pytest

from nemo_lite import CheckpointError
from nemo_lite.config import CanaryQwenConfig, parse_config, read_config

DATA = Path(__file__).parents[1] / "data"
NANO = DATA / "canary-nano"
SHARED = Path(__file__).parents[3] / "shared" / "canary-qwen"

FRONT, ENCODER = ("checkpoint", "perception", "preprocessor"), ("checkpoint", "perception", "encoder")
LORA, LLM = ("checkpoint", "lora"), ("llm",)


def parse_with(where: tuple[str, ...], **settings: Any) -> CanaryQwenConfig:
    """Parse nano's configs with these settings put into one section."""
    files = {part: json.loads((NANO / part / "config.json").read_text()) for part in ("checkpoint", "llm")}
    section = files
    for name in where:
        section = section[name]
    section |= settings
    return parse_config(files["checkpoint"], files["llm"])


@pytest.mark.parametrize("folder", [NANO, DATA / "canary-toy", SHARED, SHARED / "toy"], ids=lambda path: path.name)
def test_what_nemo_saved_is_read(folder):
    if not folder.is_dir():
        pytest.skip(f"{folder} lies outside the repository")
    config = read_config(folder / "checkpoint", folder / "llm")
    assert (config.preprocessor.window_samples, config.preprocessor.hop_samples) == (400, 160)
    assert (config.llm.lora.scale, config.llm.rope_theta, config.llm.norm_eps) == (2.0, 1e6, 1e-6)


def test_the_true_config_is_read():
    layout = json.loads((NANO / "full_keys.json").read_text())
    qwen = json.loads((NANO / "llm" / "config.json").read_text()) | {"hidden_size": 2048, "head_dim": 128}
    config = parse_config(layout["config"], qwen)
    assert (config.encoder.layers, config.encoder.d_model, config.encoder.heads) == (32, 1024, 8)
    assert (config.llm.lora.rank, config.llm.lora.scale) == (128, 2.0)


@pytest.mark.parametrize(
    ("where", "settings"),
    [
        (FRONT, {"preemph": 0.97, "mag_power": 2, "log_zero_guard_type": "add", "log_zero_guard_value": 2**-24}),
        (FRONT, {"exact_pad": False, "n_window_size": None, "dither": 0.0, "pad_value": 0, "highfreq": None}),
        (ENCODER, {"use_bias": True, "reduction": None, "reduction_position": None, "reduction_factor": 1}),
        (ENCODER, {"att_context_style": "regular", "conv_context_style": "regular", "use_pytorch_sdpa": True}),
        (LORA, {"layers_to_transform": None, "fan_in_fan_out": False, "use_dora": None, "rank_pattern": {}}),
        (LORA, {"layers_to_transform": [], "exclude_modules": [], "init_lora_weights": True, "bias": "none"}),
        (LLM, {"layer_types": ["full_attention"] * 2}),
        (LLM, {"layer_types": None, "rope_parameters": {"rope_type": "default", "rope_theta": 1000000}}),
        (LLM, {"head_dim": None, "rope_parameters": None}),
    ],
)
def test_what_is_written_out_is_what_its_absence_means(where, settings):
    plain = parse_with(LLM, head_dim=12) if "head_dim" in settings else parse_with(LLM)
    assert parse_with(where, **settings) == plain


@pytest.mark.parametrize(
    ("where", "key", "value", "said"),
    [
        (FRONT, "preemph", 0.5, "config.json: perception: preprocessor: nemo_lite computes preemph=0.97 only, got 0.5"),
        (FRONT, "preemph", None, "preemph=0.97 only, got None"),
        (FRONT, "mag_power", 1.0, "mag_power=2.0 only, got 1.0"),
        (FRONT, "log_zero_guard_value", 1e-3, "log_zero_guard_value=5.960464477539063e-08 only, got 0.001"),
        (FRONT, "log_zero_guard_value", "tiny", "log_zero_guard_value=5.960464477539063e-08 only, got 'tiny'"),
        (FRONT, "log_zero_guard_type", "clamp", "log_zero_guard_type='add' only, got 'clamp'"),
        (FRONT, "exact_pad", True, "exact_pad=False only, got True"),
        (FRONT, "n_window_stride", 80, "n_window_stride=None only, got 80"),
        (
            ENCODER,
            "use_bias",
            False,
            "config.json: perception: encoder: nemo_lite computes use_bias=True only, got False",
        ),
        (ENCODER, "use_bias", None, "use_bias=True only, got None"),
        (ENCODER, "reduction", "pooling", "reduction=None only, got 'pooling'"),
        (ENCODER, "att_context_style", "chunked_limited", "att_context_style='regular' only, got 'chunked_limited'"),
        (ENCODER, "conv_context_style", "dcc", "conv_context_style='regular' only, got 'dcc'"),
        (
            LORA,
            "layers_to_transform",
            [0],
            "config.json: lora: nemo_lite computes layers_to_transform=None only, got [0]",
        ),
        (LORA, "layers_to_transform", 0, "layers_to_transform=None only, got 0"),
        (LORA, "fan_in_fan_out", True, "fan_in_fan_out=False only, got True"),
        (LORA, "rank_pattern", {"q_proj": 4}, "rank_pattern=None only, got {'q_proj': 4}"),
        (LORA, "exclude_modules", ["v_proj"], "exclude_modules=None only, got ['v_proj']"),
        (LORA, "target_modules", [["q_proj"], "lm_head"], "cannot adapt [['q_proj'], 'lm_head'], only ['q_proj', "),
        (
            LLM,
            "layer_types",
            ["sliding_attention", "full_attention"],
            "llm config.json: nemo_lite computes layer_types of 2 times 'full_attention' only, got ['sliding_",
        ),
        (LLM, "layer_types", ["full_attention"] * 3, "layer_types of 2 times 'full_attention' only, got ["),
        (LLM, "rope_parameters", {"rope_type": "yarn"}, "rope_parameters: nemo_lite computes rope_type='default' only"),
        (LLM, "rope_parameters", [1], "expected rope_parameters to be dict, got [1]"),
    ],
)
def test_what_would_change_the_computation_is_refused_by_name(where, key, value, said):
    with pytest.raises(CheckpointError) as raised:
        parse_with(where, **{key: value})
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


SIZES = [
    *((FRONT, key) for key in ("sample_rate", "n_fft", "features")),
    *((ENCODER, key) for key in ("n_layers", "d_model", "n_heads", "ff_expansion_factor", "conv_kernel_size")),
    (ENCODER, "subsampling_conv_channels"),
    (LORA, "r"),
    *((LLM, key) for key in ("num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads")),
    *((LLM, key) for key in ("num_key_value_heads", "head_dim", "vocab_size")),
]


@pytest.mark.parametrize("value", [0, -1, True, 1.5, "8", [8]])
@pytest.mark.parametrize(("where", "key"), SIZES, ids=lambda part: part if isinstance(part, str) else part[-1])
def test_a_size_is_a_whole_number_above_0(where, key, value):
    with pytest.raises(CheckpointError, match=f"expected {key} to be a whole number above 0, got ") as raised:
        parse_with(where, **{key: value})
    assert str(raised.value).endswith(f"got {value!r}")


@pytest.mark.parametrize("value", [0, -0.01, True, "0.01", float("nan"), float("inf"), 10**400])
@pytest.mark.parametrize(
    ("where", "key"),
    [
        (FRONT, "window_size"),
        (FRONT, "window_stride"),
        (LORA, "lora_alpha"),
        (LLM, "rms_norm_eps"),
        (LLM, "rope_theta"),
    ],
    ids=lambda part: part if isinstance(part, str) else part[-1],
)
def test_a_number_is_finite_and_above_0(where, key, value):
    with pytest.raises(CheckpointError, match=f"expected {key} to be a number above 0, got "):
        parse_with(where, **{key: value})


@pytest.mark.parametrize(
    ("where", "settings", "said"),
    [
        (FRONT, {"window_stride": 1e-6}, "expected window_stride to be a sample or more at 16000 Hz, got 1e-06 s"),
        (FRONT, {"window_stride": 1e308}, "expected window_stride to be a sample or more at 16000 Hz, got 1e+308 s"),
        (FRONT, {"window_size": 0.04}, "window_stride within window_size, and that within n_fft, got"),
        (FRONT, {"window_stride": 0.03}, "window_stride within window_size, and that within n_fft, got"),
        (ENCODER, {"n_heads": 5}, "an even d_model divisible by n_heads"),
        (ENCODER, {"d_model": 33, "n_heads": 3}, "an even d_model divisible by n_heads"),
        (ENCODER, {"conv_kernel_size": 8}, "an odd conv_kernel_size"),
        (LLM, {"num_key_value_heads": 3}, "num_attention_heads divisible by num_key_value_heads"),
        (LLM, {"head_dim": 15}, "an even head_dim"),
    ],
)
def test_sizes_that_do_not_go_together_are_refused(where, settings, said):
    with pytest.raises(CheckpointError) as raised:
        parse_with(where, **settings)
    assert said in str(raised.value)
