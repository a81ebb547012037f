"""Canary-Qwen the plain way: transformers' ParakeetEncoder and Qwen3, peft's LoRA unmerged, `generate`, dynamic cache.

What one would write in an afternoon from published parts. The tests hold nemo_lite against it at sizes NeMo recorded no
tensors for, and benchmarks/canary_gpu.py times it beside nemo_lite.
"""

import warnings
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from nemo_lite.config import CanaryQwenConfig
from nemo_lite.features import AudioPreprocessor
from nemo_lite.tokenizer import DEFAULT_PROMPT, ChatTokenizer

NAMES = {
    "pre_encode.conv": "subsampling.layers",
    "pre_encode.out": "subsampling.linear",
    "linear_q": "q_proj",
    "linear_k": "k_proj",
    "linear_v": "v_proj",
    "linear_out": "o_proj",
    "linear_pos": "relative_k_proj",
    "pos_bias_": "bias_",
    "batch_norm": "norm",
}
"""NeMo's encoder -> transformers'."""


def parakeet_name(name: str) -> str:
    for nemo, transformers in NAMES.items():
        name = name.replace(nemo, transformers)
    return name


class PlainCanary:
    def __init__(
        self,
        config: CanaryQwenConfig,
        tensors: Mapping[str, Tensor],
        tokenizer: ChatTokenizer,
        preprocessor: AudioPreprocessor,
    ) -> None:
        """`tensors` under the checkpoint's names; they are used where they are, not copied."""
        try:
            from peft import LoraConfig, get_peft_model
            from transformers import ParakeetEncoder, ParakeetEncoderConfig, Qwen3Config, Qwen3ForCausalLM
        except (OSError, RuntimeError) as error:
            raise SystemExit(
                f"transformers or peft could not be imported: {error}\nThey import torchaudio when it is there, and it"
                " imports only next to the torch it was built for: install torch 2.11 with torchaudio 2.11, or remove"
                " torchaudio."
            ) from error
        like = tensors["embed_tokens.weight"]
        self.tokenizer, self.preprocessor = tokenizer, preprocessor
        e, q = config.encoder, config.llm
        with torch.device(like.device), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.encoder = ParakeetEncoder(
                ParakeetEncoderConfig(
                    hidden_size=e.d_model,
                    num_hidden_layers=e.layers,
                    num_attention_heads=e.heads,
                    intermediate_size=e.d_ff,
                    conv_kernel_size=e.conv_kernel,
                    subsampling_conv_channels=e.conv_channels,
                    num_mel_bins=e.mels,
                    scale_input=False,
                    attn_implementation="sdpa",
                )
            ).to(like.dtype)
            self.proj = nn.Linear(e.d_model, q.hidden, dtype=like.dtype)
            llm = Qwen3ForCausalLM(
                Qwen3Config(
                    vocab_size=q.vocab,
                    hidden_size=q.hidden,
                    intermediate_size=q.intermediate,
                    num_hidden_layers=q.layers,
                    num_attention_heads=q.heads,
                    num_key_value_heads=q.kv_heads,
                    head_dim=q.head_dim,
                    rms_norm_eps=q.norm_eps,
                    rope_theta=q.rope_theta,
                    tie_word_embeddings=True,
                    attn_implementation="sdpa",
                )
            ).to(like.dtype)
            adapter = LoraConfig(
                r=q.lora.rank, lora_alpha=q.lora.alpha, target_modules=list(q.lora.targets), task_type="CAUSAL_LM"
            )
            self.llm = get_peft_model(llm, adapter)
        encoder, language = "perception.encoder.", "llm."
        self.encoder.load_state_dict(
            {parakeet_name(n.removeprefix(encoder)): t for n, t in tensors.items() if n.startswith(encoder)},
            assign=True,
        )
        self.proj.load_state_dict({n: tensors[f"perception.proj.{n}"] for n in ("weight", "bias")}, assign=True)
        names = {n.removeprefix(language): t for n, t in tensors.items() if n.startswith(language)}
        names |= dict.fromkeys(("base_model.model.model.embed_tokens.weight", "base_model.model.lm_head.weight"), like)
        self.llm.load_state_dict(names, assign=True)
        for module in (self.encoder, self.proj, self.llm):
            module.eval().requires_grad_(requires_grad=False)

    def embed_audio(self, clips: Sequence[Tensor]) -> list[Tensor]:
        device = self.proj.weight.device
        samples = torch.tensor([len(clip) for clip in clips])
        audio = nn.utils.rnn.pad_sequence(list(clips), batch_first=True)
        mel = self.preprocessor(audio.to(device), samples.to(device)).to(self.proj.weight.dtype)
        frames = samples // 160
        mask = torch.arange(mel.shape[2], device=device) < frames.to(device)[:, None]
        embedded = self.proj(self.encoder(mel.transpose(1, 2), mask).last_hidden_state)
        return [row[: -(-int(n) // 8)] for row, n in zip(embedded, frames, strict=True)]

    def generate(self, clips: Sequence[Tensor], max_new_tokens: int, min_new_tokens: int = 0) -> list[list[int]]:
        """The tokens of each clip, the end token included."""
        tokens = self.tokenizer.prompt(DEFAULT_PROMPT)
        at = tokens.index(self.tokenizer.audio_id)
        table = self.llm.get_input_embeddings()
        ids = torch.tensor(tokens, device=self.proj.weight.device)
        before, after = table(ids[:at]), table(ids[at + 1 :])
        rows = [torch.cat([before, audio, after]) for audio in self.embed_audio(clips)]
        width = max(map(len, rows))
        embeds = torch.stack([F.pad(row, (0, 0, width - len(row), 0)) for row in rows])
        mask = torch.stack([torch.arange(width, device=ids.device) >= width - len(row) for row in rows])
        from transformers import GenerationConfig

        end, pad = self.tokenizer.eos_id, self.tokenizer.pad_id
        config = GenerationConfig(
            max_new_tokens=max_new_tokens,
            min_new_tokens=(min_new_tokens or None) if end >= 0 else None,
            do_sample=False,
            eos_token_id=end if end >= 0 else None,
            pad_token_id=pad,
            bos_token_id=pad,
        )
        out = self.llm.generate(inputs_embeds=embeds, attention_mask=mask, generation_config=config).tolist()
        return [row[: row.index(end) + 1] if end in row else row for row in out]
