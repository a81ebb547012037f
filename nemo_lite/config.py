"""The sizes of a Canary-Qwen model, read from the two `config.json` files it comes with.

One file belongs to the NeMo checkpoint (front end, encoder, LoRA), the other to the language model it was built on.
Sizes are free; anything that would change the computation (another normalisation, a causal encoder, scaled RoPE, ...)
is compared with what this package computes and refused by name, never ignored.
"""

import json
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
    encoder.require(feat_in=front.get("features", int), feat_out=-1)
    lora.require(task_type="CAUSAL_LM")
    lora.require_if_present(use_rslora=False, use_dora=False, bias="none", rank_pattern={}, alpha_pattern={})
    llm.require(model_type="qwen3", tie_word_embeddings=True, hidden_act="silu", attention_bias=False)
    llm.require_if_present(rope_scaling=None, use_sliding_window=False)
    rope = llm.values.get("rope_parameters") or {}  # transformers >= 5 writes it this way
    _Section(rope, "llm config.json: rope_parameters").require_if_present(rope_type="default")

    rate = front.get("sample_rate", int)
    hidden, heads = llm.get("hidden_size", int), llm.get("num_attention_heads", int)
    d_model = encoder.get("d_model", int)
    perception.require(output_dim=hidden)
    config = CanaryQwenConfig(
        PreprocessorConfig(
            sample_rate=rate,
            window_samples=int(front.get("window_size", float) * rate),
            hop_samples=int(front.get("window_stride", float) * rate),
            n_fft=front.get("n_fft", int),
            mels=front.get("features", int),
        ),
        EncoderConfig(
            mels=front.get("features", int),
            layers=encoder.get("n_layers", int),
            d_model=d_model,
            heads=encoder.get("n_heads", int),
            d_ff=d_model * encoder.get("ff_expansion_factor", int),
            conv_kernel=encoder.get("conv_kernel_size", int),
            conv_channels=encoder.get("subsampling_conv_channels", int),
        ),
        LLMConfig(
            layers=llm.get("num_hidden_layers", int),
            hidden=hidden,
            intermediate=llm.get("intermediate_size", int),
            heads=heads,
            kv_heads=llm.get("num_key_value_heads", int),
            head_dim=llm.values.get("head_dim") or hidden // heads,
            vocab=llm.get("vocab_size", int),
            norm_eps=llm.get("rms_norm_eps", float),
            rope_theta=float(rope.get("rope_theta") or llm.get("rope_theta", float)),
            lora=LoraConfig(
                rank=lora.get("r", int),
                alpha=lora.get("lora_alpha", float),
                targets=tuple(lora.get("target_modules", list)),
            ),
        ),
        audio_tag=top.get("audio_locator_tag", str),
        pretrained_llm=top.get("pretrained_llm", str),
    )
    known = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    if unknown := set(config.llm.lora.targets) - known:
        raise CheckpointError(f"config.json: lora.target_modules: cannot adapt {sorted(unknown)}, only {sorted(known)}")
    if config.encoder.d_model % config.encoder.heads or config.encoder.mels % 8 or config.encoder.conv_kernel % 2 == 0:
        raise CheckpointError(
            "config.json: expected d_model divisible by n_heads, features by 8 and an odd conv_kernel_size, got"
            f" {config.encoder}"
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
        if kind is float and isinstance(value, int):
            value = float(value)
        if not isinstance(value, kind):
            raise CheckpointError(f"{self.name}: expected {key} to be {kind.__name__}, got {value!r}")
        return value

    def require(self, **expected: Any) -> None:
        for key, value in expected.items():
            if key not in self.values or self.values[key] != value:
                got = repr(self.values[key]) if key in self.values else "nothing"
                raise CheckpointError(f"{self.name}: nemo_lite computes {key}={value!r} only, got {got}")

    def require_if_present(self, **expected: Any) -> None:
        self.require(**{key: value for key, value in expected.items() if self.values.get(key) is not None})


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
