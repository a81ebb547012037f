"""The encoder against transformers' ParakeetEncoder, which is the same network, at any shape."""

import random

import pytest
import torch
from transformers import ParakeetEncoder, ParakeetEncoderConfig

from nemo_lite.config import EncoderConfig
from nemo_lite.encoder import FastConformer, encoder_frames


def build(seed: int, plain) -> tuple[FastConformer, ParakeetEncoder]:
    """A random shape with random weights, twice."""
    r = random.Random(seed)
    heads = r.choice([1, 2, 3, 4])
    config = EncoderConfig(
        mels=r.choice([16, 40, 80, 128]),
        layers=r.randint(1, 3),
        d_model=heads * r.choice([4, 6, 16]),
        heads=heads,
        d_ff=r.choice([24, 64]),
        conv_kernel=r.choice([3, 5, 9]),
        conv_channels=r.choice([4, 8, 24]),
    )
    torch.manual_seed(seed)
    ours = FastConformer(config).eval().requires_grad_(requires_grad=False)
    for name, tensor in ours.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2)
        elif tensor.is_floating_point():
            tensor.normal_(std=0.3)
            if "norm" in name and name.endswith("weight"):
                tensor.add_(1)
    theirs = ParakeetEncoder(
        ParakeetEncoderConfig(
            hidden_size=config.d_model,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.heads,
            intermediate_size=config.d_ff,
            conv_kernel_size=config.conv_kernel,
            subsampling_conv_channels=config.conv_channels,
            num_mel_bins=config.mels,
            scale_input=False,
            attn_implementation="sdpa",
        )
    ).eval()
    theirs.load_state_dict({plain.parakeet_name(name): tensor for name, tensor in ours.state_dict().items()})
    ours.prepare()
    return ours, theirs


def features(lengths: torch.Tensor, mels: int) -> tuple[torch.Tensor, torch.Tensor]:
    mask = torch.arange(int(lengths.max())) < lengths[:, None]
    return torch.randn(len(lengths), mels, mask.shape[1]).masked_fill(~mask[:, None], 0.0), mask


def deviation(got: torch.Tensor, expected: torch.Tensor) -> float:
    return float((got - expected).abs().max() / expected.pow(2).mean().sqrt())


@torch.inference_mode()
@pytest.mark.parametrize("seed", range(24))
def test_equals_parakeet_encoder(plain, seed):
    ours, theirs = build(seed, plain)
    r = random.Random(seed)
    lengths = torch.tensor([r.randint(1, 300) for _ in range(r.randint(1, 5))])
    mel, mask = features(lengths, ours.config.mels)
    got, expected = ours(mel, lengths), theirs(mel.transpose(1, 2), mask).last_hidden_state
    assert got.shape == expected.shape
    for row, length in enumerate(lengths.tolist()):
        frames = encoder_frames(length)
        assert deviation(got[row, :frames], expected[row, :frames]) <= 1e-5


@torch.inference_mode()
@pytest.mark.parametrize("seed", range(6))
def test_a_batch_equals_its_rows(plain, seed):
    ours, _ = build(seed, plain)
    lengths = torch.tensor([0, 1, 8, 9, 64, 201])
    mel, _ = features(lengths, ours.config.mels)
    batch = ours(mel, lengths)
    assert torch.isfinite(batch).all()
    for row, length in enumerate(lengths.tolist()):
        alone = ours(mel[row : row + 1, :, : max(length, 1)], lengths[row : row + 1])
        frames = encoder_frames(length)
        assert not frames or deviation(batch[row, :frames], alone[0, :frames]) <= 1e-5


@torch.inference_mode()
def test_longer_than_the_kept_positions(plain):
    """Positions beyond the table are projected on the spot; they join without a seam."""
    ours, theirs = build(3, plain)
    for length in (4088, 4096, 4104):  # 511, 512 and 513 frames
        mel, mask = features(torch.tensor([length]), ours.config.mels)
        expected = theirs(mel.transpose(1, 2), mask).last_hidden_state
        assert deviation(ours(mel, torch.tensor([length])), expected) <= 1e-5


@torch.inference_mode()
def test_what_lies_behind_a_clip_does_not_matter(plain):
    ours, _ = build(5, plain)
    lengths = torch.tensor([100, 57])
    mel, _ = features(lengths, ours.config.mels)
    longer = torch.cat([mel, torch.zeros(2, ours.config.mels, 61)], dim=2)
    got, expected = ours(longer, lengths), ours(mel, lengths)
    for row, length in enumerate(lengths.tolist()):
        frames = encoder_frames(length)
        assert deviation(got[row, :frames], expected[row, :frames]) <= 1e-5
