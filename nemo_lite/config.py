"""The sizes of a Canary-Qwen model, read from the two `config.json` files it comes with.

One file belongs to the NeMo checkpoint (front end, encoder, LoRA), the other to the language model it was built on.
Sizes are free; anything that would change the computation (another normalisation, a causal encoder, scaled RoPE, ...)
is compared with what this package computes and refused by name, never ignored.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nemo_lite.errors import CheckpointError, ModelNotFoundError


@dataclass(frozen=True, slots=True)
class PreprocessorConfig:
    sample_rate: int
    window_samples: int
    hop_samples: int
    n_fft: int
    mels: int


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    mels: int
    layers: int
    d_model: int
    heads: int
    d_ff: int
    conv_kernel: int
    conv_channels: int
    """Channels of the three stride-2 convolutions in front of the first block."""


@dataclass(frozen=True, slots=True)
class LoraConfig:
    rank: int
    alpha: float
    targets: tuple[str, ...]
    """Projection names, e.g. `q_proj`."""

    @property
    def scale(self) -> float:
        return self.alpha / self.rank

    def rank_of(self, projection: str) -> int:
        return self.rank if projection in self.targets else 0


@dataclass(frozen=True, slots=True)
class LLMConfig:
    """Qwen3, dense."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    norm_eps: float
    rope_theta: float
    lora: LoraConfig


@dataclass(frozen=True, slots=True)
class CanaryQwenConfig:
    preprocessor: PreprocessorConfig
    encoder: EncoderConfig
    llm: LLMConfig
    audio_tag: str
    pretrained_llm: str
    """Hub id of the language model whose tokenizer and config belong to the checkpoint."""


def read_config(checkpoint: Path, llm: Path) -> CanaryQwenConfig:
    """Read `checkpoint/config.json` and `llm/config.json`.

    Raises ModelNotFoundError if one is not there, CheckpointError naming every setting that is missing or that this
    package does not compute.
    """
    return parse_config(_read_json(checkpoint / "config.json"), _read_json(llm / "config.json"))


def parse_config(salm: dict[str, Any], qwen: dict[str, Any]) -> CanaryQwenConfig:
    top, llm = _Section(salm, "config.json"), _Section(qwen, "llm config.json")
    perception = top.section("perception")
    front, encoder = perception.section("preprocessor"), perception.section("encoder")
    adapter, lora = perception.section("modality_adapter"), top.section("lora")

    top.require(prompt_format="qwen")
    adapter.require(_target_="nemo.collections.speechlm2.modules.perception.IdentityConnector")
    front.require(normalize="per_feature", window="hann", log=True, frame_splicing=1, pad_to=0, pad_value=0.0)
    front.require_unless_absent(preemph=0.97, mag_power=2.0, log_zero_guard_type="add", log_zero_guard_value=2**-24)
    front.require_if_set(n_window_size=None, n_window_stride=None, exact_pad=False)
    encoder.require(
        subsampling="dw_striding",
        subsampling_factor=8,
        causal_downsampling=False,
        self_attention_model="rel_pos",
        att_context_size=[-1, -1],
        xscaling=False,
        untie_biases=True,
        conv_norm_type="batch_norm",
        conv_context_size=None,
    )
    encoder.require(feat_in=front.size("features"), feat_out=-1)
    encoder.require_unless_absent(use_bias=True, att_context_style="regular", conv_context_style="regular")
    encoder.require_if_set(reduction=None)
    lora.require(task_type="CAUSAL_LM")
    lora.require_if_set(use_rslora=False, use_dora=False, bias="none", lora_bias=False, fan_in_fan_out=False)
    lora.require_if_set(rank_pattern=None, alpha_pattern=None, layers_to_transform=None, exclude_modules=None)
    lora.require_if_set(layer_replication=None, target_parameters=None, trainable_token_indices=None)
    llm.require(model_type="qwen3", tie_word_embeddings=True, hidden_act="silu", attention_bias=False)
    llm.require_if_set(rope_scaling=None, use_sliding_window=False)
    layers = llm.size("num_hidden_layers")
    if (kinds := llm.values.get("layer_types")) is not None and kinds != ["full_attention"] * layers:
        raise CheckpointError(
            f"{llm.name}: nemo_lite computes layer_types of {layers} times 'full_attention' only, got {kinds!r}"
        )
    with_theta = llm
    if llm.values.get("rope_parameters"):  # transformers >= 5 writes it this way
        rope = llm.section("rope_parameters")
        rope.require_if_set(rope_type="default")
        with_theta = rope if rope.values.get("rope_theta") is not None else llm

    rate = front.size("sample_rate")
    hidden, heads = llm.size("hidden_size"), llm.size("num_attention_heads")
    d_model = encoder.size("d_model")
    perception.require(output_dim=hidden)
    config = CanaryQwenConfig(
        PreprocessorConfig(
            sample_rate=rate,
            window_samples=_samples(front, "window_size", rate),
            hop_samples=_samples(front, "window_stride", rate),
            n_fft=front.size("n_fft"),
            mels=front.size("features"),
        ),
        EncoderConfig(
            mels=front.size("features"),
            layers=encoder.size("n_layers"),
            d_model=d_model,
            heads=encoder.size("n_heads"),
            d_ff=d_model * encoder.size("ff_expansion_factor"),
            conv_kernel=encoder.size("conv_kernel_size"),
            conv_channels=encoder.size("subsampling_conv_channels"),
        ),
        LLMConfig(
            layers=layers,
            hidden=hidden,
            intermediate=llm.size("intermediate_size"),
            heads=heads,
            kv_heads=llm.size("num_key_value_heads"),
            head_dim=hidden // heads if llm.values.get("head_dim") is None else llm.size("head_dim"),
            vocab=llm.size("vocab_size"),
            norm_eps=llm.number("rms_norm_eps"),
            rope_theta=with_theta.number("rope_theta"),
            lora=LoraConfig(
                rank=lora.size("r"),
                alpha=lora.number("lora_alpha"),
                targets=tuple(lora.get("target_modules", list)),
            ),
        ),
        audio_tag=top.get("audio_locator_tag", str),
        pretrained_llm=top.get("pretrained_llm", str),
    )
    known = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    if unknown := [target for target in config.llm.lora.targets if target not in known]:
        raise CheckpointError(f"config.json: lora.target_modules: cannot adapt {unknown}, only {list(known)}")
    sizes = config.preprocessor
    if not sizes.hop_samples <= sizes.window_samples <= sizes.n_fft:
        raise CheckpointError(
            f"config.json: expected window_stride within window_size, and that within n_fft, got {sizes}"
        )
    sizes = config.encoder
    if sizes.d_model % sizes.heads or sizes.d_model % 2 or sizes.mels % 8 or sizes.conv_kernel % 2 == 0:
        raise CheckpointError(
            "config.json: expected an even d_model divisible by n_heads, features by 8 and an odd conv_kernel_size, got"
            f" {sizes}"
        )
    sizes = config.llm
    if sizes.heads % sizes.kv_heads or sizes.head_dim % 2 or not sizes.head_dim:
        raise CheckpointError(
            "llm config.json: expected num_attention_heads divisible by num_key_value_heads and an even head_dim, got"
            f" {sizes}"
        )
    return config


@dataclass(frozen=True, slots=True)
class _Section:
    """A JSON object that knows its name, so that a complaint can say where."""

    values: dict[str, Any]
    name: str

    def section(self, key: str) -> "_Section":
        return _Section(self.get(key, dict), f"{self.name}: {key}")

    def get(self, key: str, kind: type) -> Any:
        value = self.values.get(key)
        if not isinstance(value, kind):
            raise CheckpointError(f"{self.name}: expected {key} to be {kind.__name__}, got {value!r}")
        return value

    def size(self, key: str) -> int:
        value = self.values.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise CheckpointError(f"{self.name}: expected {key} to be a whole number above 0, got {value!r}")
        return value

    def number(self, key: str) -> float:
        value = self.values.get(key)
        # JSON as Python reads it has NaN, infinity and whole numbers beyond any float
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= sys.float_info.max:
            raise CheckpointError(f"{self.name}: expected {key} to be a number above 0, got {value!r}")
        return float(value)

    def require(self, **expected: Any) -> None:
        for key, value in expected.items():
            if key not in self.values or self.values[key] != value:
                got = repr(self.values[key]) if key in self.values else "nothing"
                raise CheckpointError(f"{self.name}: nemo_lite computes {key}={value!r} only, got {got}")

    def require_unless_absent(self, **expected: Any) -> None:
        """What is absent has this very value; null has not: `preemph: null` is no pre-emphasis."""
        self.require(**{key: value for key, value in expected.items() if key in self.values})

    def require_if_set(self, **expected: Any) -> None:
        """For what is left alone by null, [] or {} as well."""
        self.require(**{key: value for key, value in expected.items() if self.values.get(key) not in (None, [], {})})


def _samples(section: _Section, key: str, rate: int) -> int:
    """How many samples `key` seconds are, rounded down as NeMo does."""
    seconds = section.number(key)
    if not 1 <= seconds * rate <= sys.maxsize:
        raise CheckpointError(f"{section.name}: expected {key} to be a sample or more at {rate} Hz, got {seconds!r} s")
    return int(seconds * rate)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise ModelNotFoundError(f"no {path.name} in {path.parent}: is this a Canary-Qwen model directory?") from error
    except ValueError as error:
        raise CheckpointError(f"{path} is not valid JSON ({error}); delete it and download it again") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: expected a JSON object, got {type(content).__name__}")
    return content
