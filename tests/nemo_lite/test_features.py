"""Lengths, padding and resampling of the front end; its values are held against NeMo's in test_goldens.py."""

import json

import pytest
import torch
from safetensors.torch import load_file

from nemo_lite import resample
from nemo_lite.encoder import encoder_frames


def test_lengths(data, nano):
    table = json.loads((data / "canary-nano/lengths.json").read_text())
    assert len(table["rows"]) == 475
    for samples, mel, encoder in table["rows"]:
        assert nano.preprocessor.frames(samples) == mel
        assert encoder_frames(mel) == encoder


@torch.inference_mode()
def test_padding_and_company_change_nothing(toy):
    generator = torch.Generator().manual_seed(1)
    clips = [torch.randn(n, generator=generator) * 0.1 for n in (16000, 0, 159, 160, 12345)]
    batch, lengths = toy.mel(clips)
    assert lengths.tolist() == [100, 0, 0, 1, 77]
    for row, clip in enumerate(clips):
        alone, _ = toy.mel([clip])
        valid = int(lengths[row])
        assert not batch[row, :, valid:].any()
        assert torch.allclose(batch[row, :, :valid], alone[0, :, :valid], atol=2e-5)
    assert not batch[3, :, :1].any()  # one frame minus its mean


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 24000, 32000, 44100, 48000])
def test_resampling_is_torchaudios(data, rate):
    reference = load_file(data / "canary-nano/resample.safetensors")
    audio = reference[f"in_{rate}"].float() / 32768
    got = resample(audio, rate)
    assert got.shape == reference[f"sinc_{rate}"].shape
    assert float((got - reference[f"sinc_{rate}"]).abs().max()) <= 4e-6
    both = resample(torch.stack([audio, audio.flip(0)]), rate)
    assert torch.allclose(both[0], got, atol=1e-6)


def test_resampling_to_the_same_rate_is_nothing():
    audio = torch.randn(100)
    assert resample(audio, 16000) is audio


@torch.inference_mode()
@pytest.mark.parametrize("name", ["chirp_1s", "amnoise_3p37s", "noise_0p5s", "odd_12345smp"])
def test_values_are_those_of_transformers_on_the_same_machine(data, nano, monkeypatch, name):
    """`ParakeetFeatureExtractor` is NeMo's mel bit for bit with the checkpoint's filters and window put in.

    NeMo's recorded tensors come from a machine whose FFT rounds otherwise; here both sides use the same one.
    """
    from transformers import ParakeetFeatureExtractor

    reference = ParakeetFeatureExtractor(feature_size=128)
    reference.mel_filters = nano.preprocessor.fb[0]
    monkeypatch.setattr(torch, "hann_window", lambda *_, **__: nano.preprocessor.window)
    audio = load_file(data / f"canary-nano/goldens/{name}.safetensors")["audio_i16"].float() / 32768
    expected = reference(audio.numpy(), sampling_rate=16000, return_tensors="pt").input_features[0].T
    mel, [valid] = nano.mel([audio])
    worst = float((mel[0, :, :valid] - expected[:, :valid]).abs().max() / expected[:, :valid].pow(2).mean().sqrt())
    assert worst <= 1e-5
