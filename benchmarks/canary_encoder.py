"""Encoder time per second of audio at Canary-Qwen's true shape, beside ParakeetEncoder on the same weights.

    python benchmarks/canary_encoder.py [--seconds 10] [--layers 32] [--threads 1]

Random weights, float32 on the CPU (about 2.5 GB). The two take turns and the best round of each counts. It is
measured in CPU time, because others may be at work on the machine; with several threads, their sum.
"""

import argparse
import time

import torch
from transformers import ParakeetEncoder, ParakeetEncoderConfig

from canary_plain import parakeet_name
from nemo_lite.config import EncoderConfig
from nemo_lite.encoder import FastConformer


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)

    config = EncoderConfig(
        mels=128, layers=args.layers, d_model=1024, heads=8, d_ff=4096, conv_kernel=9, conv_channels=256
    )
    ours = FastConformer(config).eval()
    for tensor in ours.state_dict().values():
        if tensor.is_floating_point() and tensor.ndim > 1:
            tensor.normal_(std=0.02)
        elif tensor.is_floating_point():
            tensor.uniform_(0.9, 1.1)
    ours.prepare()
    theirs = ParakeetEncoder(
        ParakeetEncoderConfig(num_hidden_layers=0, num_mel_bins=128, scale_input=False, attn_implementation="sdpa")
    )
    full = theirs.config
    full.num_hidden_layers = args.layers
    with torch.device("meta"):
        theirs = ParakeetEncoder(full).eval()
    shared = {parakeet_name(name): tensor for name, tensor in ours.state_dict().items()}
    theirs.load_state_dict(shared, assign=True)  # the same memory
    theirs.encode_positions.inv_freq = 1.0 / (10000.0 ** (torch.arange(0, 1024, 2, dtype=torch.float) / 1024))

    frames = int(args.seconds * 100)
    for batch, ragged in ((1, False), (4, False), (4, True)):
        lengths = torch.full((batch,), frames)
        if ragged:
            lengths = torch.tensor([frames, frames * 3 // 4, frames // 2, frames // 4])
        mel = torch.randn(batch, 128, frames)
        mask = torch.arange(frames) < lengths[:, None]
        mel = mel.masked_fill(~mask[:, None], 0.0)
        audio_s = float(lengths.sum()) / 100
        timed: dict[str, list[float]] = {"ours": [], "ParakeetEncoder": []}
        outputs = {}
        for turn in range(args.rounds + 1):
            for name, times in timed.items():
                started = time.process_time()
                if name == "ours":
                    outputs[name] = ours(mel, lengths)
                else:
                    outputs[name] = theirs(mel.transpose(1, 2), mask).last_hidden_state
                if turn:  # the first is for warming up
                    times.append(time.process_time() - started)
        valid = torch.arange(outputs["ours"].shape[1]) < (-(-lengths // 8))[:, None]
        reference = outputs["ParakeetEncoder"][valid]
        off = float((outputs["ours"][valid] - reference).abs().max() / reference.pow(2).mean().sqrt())
        mine, other = (min(timed[name]) / audio_s for name in timed)
        print(
            f"batch {batch}{' ragged' if ragged else ''}: {mine * 1e3:.1f} ms of CPU time per second of audio,"
            f" ParakeetEncoder {other * 1e3:.1f} ms: {other / mine:.2f} times as fast; max |d| / RMS {off:.1e}"
        )


if __name__ == "__main__":
    main()
