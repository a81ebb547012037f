"""The worst deviation of each stage from NVIDIA NeMo's recorded tensors, in max |d| / RMS, and how many tokens agree.

    python benchmarks/canary_goldens.py [--dtype float32|bfloat16]

"mel" is from audio; its rounding in float32 differs between FFT libraries (see docs/nemo-lite.md), so the distance of
NeMo's own mel from a float64 run stands beside it. The other stages start from NeMo's mel where it is recorded whole.
bfloat16 gives RMS instead of the maximum.
"""

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch.nn import functional as F  # noqa: N812

from nemo_lite import CanaryQwen

DATA = Path(__file__).parents[1] / "tests" / "data"


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    dtype = getattr(torch, parser.parse_args().dtype)

    def off(got: torch.Tensor, expected: torch.Tensor) -> float:
        if not expected.numel():
            return 0.0
        difference, rms = (got.float() - expected).abs(), float(expected.pow(2).mean().sqrt())
        worst = difference.max() if dtype == torch.float32 else difference.pow(2).mean().sqrt()
        return float(worst) / max(rms, 1e-3)

    for size in ("nano", "toy"):
        model = CanaryQwen.from_pretrained(DATA / f"canary-{size}", "cpu", dtype)
        manifest = json.loads((DATA / f"canary-{size}/goldens/manifest.json").read_text())
        worst: dict[str, tuple[float, str]] = {}
        equal = total = 0
        for name, case in manifest["cases"].items():
            path = DATA / f"canary-{size}/goldens/{case['file']}"
            if not path.is_file():
                print(f"{size} {name}: not part of this repository")
                continue
            golden = load_file(path)
            audio, valid = golden["audio_i16"].float() / 32768, int(golden["mel_len"])
            frames, lengths = int(golden["encoder_len"]), golden["mel_len"]

            def note(stage: str, value: float, worst: dict = worst, name: str = name) -> None:
                worst[stage] = max(worst.get(stage, (0.0, "")), (value, name))

            mel, _ = model.mel([audio])
            if "mel" in golden:
                if not name.startswith("silence"):
                    exact = model.preprocessor.double()(audio.double()[None], torch.tensor([len(audio)]))[:, :, :valid]
                    model.preprocessor.float()
                    note("mel", off(mel[:, :, :valid], golden["mel"][:, :, :valid]))
                    note("NeMo's mel from float64", off(exact, golden["mel"][:, :, :valid]))
                mel = golden["mel"][:, :, : max(1, valid)]
            mel = mel.to(dtype)
            encoded = model.encoder(mel, lengths)
            if "pre_encode" in golden:
                note(
                    "pre-encode",
                    off(model.encoder.pre_encode(mel, lengths)[:, :frames], golden["pre_encode"][:, :frames]),
                )
            last = max(key for key in golden if key.startswith("layer_"))
            note("encoder", off(encoded[:, :frames], golden[last][:, :frames]))
            note("audio embeddings", off(model.proj(encoded)[:, :frames], golden["audio_embs"][:, :frames]))
            hidden = []
            handle = model.llm.register_forward_hook(lambda _m, _a, out, h=hidden: h.append(out))
            model.decoder.prefixes.clear()
            own_mel, model.mel = model.mel, lambda _clips, given=(mel, lengths): given
            [answer] = model.transcribe([audio], max_new_tokens=manifest.get("max_new_tokens", 32))
            handle.remove()
            model.mel = own_mel
            first = hidden[len(hidden) - answer.forwards][:, -1]
            note("first logits", off(F.linear(first, model.embed_tokens.weight), golden["logits_step00"]))
            equal += list(answer.token_ids) == case["generated"]
            total += 1
        print(f"{size}, {dtype}: tokens equal in {equal} of {total} cases")
        for stage, (value, name) in worst.items():
            print(f"  {stage}: {value:.1e} ({name})")


if __name__ == "__main__":
    main()
