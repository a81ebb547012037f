"""Every stage against the tensors NVIDIA NeMo 3.0.0 recorded (float32; max |difference| / RMS of the reference)."""

import json
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from nemo_lite import CanaryQwen

DATA = Path(__file__).parents[1] / "data"
MANIFEST = {size: json.loads((DATA / f"canary-{size}/goldens/manifest.json").read_text()) for size in ("nano", "toy")}
CASES = [(size, name) for size in MANIFEST for name in MANIFEST[size]["cases"]]
MEL, PRE_ENCODE, ENCODER, EMBEDDINGS, LOGITS = 1e-5, 1e-5, 2e-5, 2e-5, 5e-5


def deviation(got: torch.Tensor, expected: torch.Tensor) -> float:
    assert got.shape == expected.shape
    if not expected.numel():
        return 0.0
    return float((got - expected).abs().max() / expected.double().pow(2).mean().sqrt().clamp(min=1e-3))


def rms_deviation(got: torch.Tensor, expected: torch.Tensor) -> float:
    assert got.shape == expected.shape
    if not expected.numel():
        return 0.0
    return float((got.float() - expected).pow(2).mean().sqrt() / expected.pow(2).mean().sqrt())


def max_new_tokens(size: str) -> int:
    return MANIFEST[size].get("max_new_tokens", 32)


class Heard:
    """Every call of the language model while the block runs: what went in, what came out."""

    def __init__(self, model) -> None:
        self.model, self.inputs, self.outputs = model, [], []

    def __enter__(self):
        def hook(_, arguments, output):
            self.inputs.append(arguments[0].clone())
            self.outputs.append(output.clone())

        self.handle = self.model.llm.register_forward_hook(hook)
        self.model.decoder.prefixes.clear()  # so that the prompt's start is computed here
        return self

    def __exit__(self, *exc):
        self.handle.remove()

    def prompt(self, forwards: int) -> torch.Tensor:
        """The embeddings of the prompt, its start and its rest."""
        return torch.cat(self.inputs[: len(self.inputs) - forwards + 1], dim=1)

    def logits(self, forwards: int, step: int = 0) -> torch.Tensor:
        return F.linear(self.outputs[len(self.outputs) - forwards + step][:, -1], self.model.embed_tokens.weight)


@torch.inference_mode()
@pytest.mark.parametrize(("size", "name"), CASES)
def test_mel(models, golden, size, name):
    """Equal up to rounding. Where a bin holds little but leakage, the logarithm blows the FFT's rounding up, and FFT
    libraries round differently from CPU to CPU: there NeMo's own distance to a float64 run is the measure."""
    reference, preprocessor = golden(size, name), models[size].preprocessor
    audio, valid = reference["audio_i16"].float()[None] / 32768, int(reference["mel_len"])
    mel = preprocessor(audio, torch.tensor([audio.shape[1]]))
    assert mel.shape[2] == audio.shape[1] // 160 + 1
    assert not mel[:, :, valid:].any()
    exact = preprocessor.double()(audio.double(), torch.tensor([audio.shape[1]]))
    preprocessor.float()
    expected, columns = reference.get("mel_sel"), reference.get("mel_idx")
    if expected is None or columns is None:
        expected, columns = reference["mel"], torch.arange(mel.shape[2])
    if name.startswith("silence"):  # the rounding of a mean, times 1e5: a constant, but not the same one everywhere
        assert float(mel[:, :, :valid].std()) < 1e-6
        assert mel.abs().max() < 1
        return
    rounding = deviation(exact[:, :, columns].float(), expected)
    assert deviation(mel[:, :, columns], expected) <= max(MEL, 3 * rounding)
    assert rounding < 1e-3  # recomputed filters alone are off by 5e-3


@torch.inference_mode()
@pytest.mark.parametrize(("size", "name"), CASES)
def test_every_stage_from_nemos_mel(models, golden, monkeypatch, size, name):
    model, reference, expected = models[size], golden(size, name), MANIFEST[size]["cases"][name]
    audio = reference["audio_i16"].float() / 32768
    frames, mel_lengths = int(reference["encoder_len"]), reference["mel_len"]
    mel = reference["mel"][:, :, : max(1, int(mel_lengths))] if "mel" in reference else model.mel([audio])[0]

    stages = []
    handles = [layer.register_forward_hook(lambda _m, _a, out: stages.append(out)) for layer in model.encoder.layers]
    pre_encode = model.encoder.pre_encode(mel, mel_lengths)
    model.encoder(mel, mel_lengths)
    for handle in handles:
        handle.remove()
    if "pre_encode" in reference:
        assert deviation(pre_encode[:, :frames], reference["pre_encode"][:, :frames]) <= PRE_ENCODE
    for i, stage in enumerate(stages):
        if f"layer_{i:02}" in reference:
            assert deviation(stage[:, :frames], reference[f"layer_{i:02}"][:, :frames]) <= ENCODER
    assert f"layer_{len(stages) - 1:02}" in reference

    monkeypatch.setattr(model, "mel", lambda _clips: (mel, mel_lengths))
    embedded, lengths = model.embed_audio([audio])
    assert lengths == [frames]
    assert deviation(embedded[:, :frames], reference["audio_embs"][:, :frames]) <= EMBEDDINGS

    with Heard(model) as heard:
        [answer] = model.transcribe([audio], max_new_tokens=max_new_tokens(size))
    assert deviation(heard.prompt(answer.forwards), reference["input_embeds"]) <= 3e-5
    for step in (0, 1, 8, len(expected["generated"]) - 1):
        if f"logits_step{step:02}" in reference:
            assert deviation(heard.logits(answer.forwards, step), reference[f"logits_step{step:02}"]) <= LOGITS
    assert list(answer.token_ids) == expected["generated"]
    logits = reference["logits_step00"][0]
    assert answer.logprobs[0] == pytest.approx(float(logits.log_softmax(0)[answer.token_ids[0]]), abs=1e-4)


@pytest.mark.parametrize(("size", "name"), CASES)
def test_tokens_and_text_from_audio(models, clip, size, name):
    expected = MANIFEST[size]["cases"][name]
    [answer] = models[size].transcribe([clip(size, name)], max_new_tokens=max_new_tokens(size))
    assert list(answer.token_ids) == expected["generated"]
    assert answer.text == expected["text"]
    assert answer.stop == ("eos" if expected["hit_eos"] else "length")
    assert len(answer.logprobs) == len(answer.token_ids) == answer.forwards


@torch.inference_mode()
@pytest.mark.parametrize("size", MANIFEST)
def test_batch(models, golden, clip, size):
    model, reference, expected = models[size], golden(size, "batch4"), MANIFEST[size]["batch"]
    clips = [clip(size, name) for name in expected["members"]]
    mel, _ = model.mel(clips)
    embedded, lengths = model.embed_audio(clips)
    assert lengths == expected["encoder_len"]
    singles = [golden(size, name) for name in expected["members"]]
    for row, length in enumerate(lengths):
        # against NeMo's single run on the same audio: the batch is worth no more and no less than its rows
        frames = expected["mel_len"][row]
        assert deviation(mel[row, :, :frames], reference["mel"][row, :, :frames]) < 1e-3
        assert deviation(embedded[row, :length], reference["audio_embs"][row, :length]) < 2e-4
        alone, _ = model.embed_audio([clips[row]])
        assert deviation(embedded[row, :length], alone[0, :length]) <= EMBEDDINGS
        assert singles[row]["encoder_len"] == length
    prompts = expected["user_contents"]
    answers = model.transcribe(clips, prompt=prompts, max_new_tokens=max_new_tokens(size))
    pad = MANIFEST[size]["special"]["pad_id"]
    width = len(expected["generated"][0])
    assert [[*a.token_ids, *[pad] * (width - len(a.token_ids))] for a in answers] == expected["generated"]


@torch.inference_mode()
@pytest.mark.parametrize("size", MANIFEST)
def test_batch_from_nemos_mel(models, golden, monkeypatch, clip, size):
    model, reference, expected = models[size], golden(size, "batch4"), MANIFEST[size]["batch"]
    lengths = reference["mel_len"]
    mel = reference["mel"][:, :, : int(lengths.max())]
    monkeypatch.setattr(model, "mel", lambda _clips: (mel, lengths))
    clips = [clip(size, name) for name in expected["members"]]
    embedded, frames = model.embed_audio(clips)
    for row, length in enumerate(frames):
        assert deviation(embedded[row, :length], reference["audio_embs"][row, :length]) <= EMBEDDINGS


@pytest.mark.parametrize("size", MANIFEST)
def test_two_audios(models, clip, size):
    expected = MANIFEST[size]["extras"]["two_audios"]
    clips = [clip(size, name) for name in expected["members"]]
    [answer] = models[size].transcribe([clips], prompt=expected["user_content"], max_new_tokens=max_new_tokens(size))
    assert [list(answer.token_ids)] == expected["generated"]


@pytest.mark.parametrize("adapter", [True, False])
@pytest.mark.parametrize("size", MANIFEST)
def test_text_only(models, size, adapter):
    expected = MANIFEST[size]["extras"]["text_only"]
    answer = models[size].generate_text(expected["user_content"], max_new_tokens=32, adapter=adapter)
    generated = expected[f"generated_lora_{'on' if adapter else 'off'}_INCLUDES_PROMPT"]
    assert [[*expected["token_ids"][0:], *answer.token_ids]] == generated


@torch.inference_mode()
@pytest.mark.parametrize("size", MANIFEST)
def test_bfloat16(golden, clip, size):
    """The whole model in bfloat16, as NeMo's salm_eval casts it, against NeMo in float32; bounds: NeMo's, doubled."""
    model = CanaryQwen.from_pretrained(DATA / f"canary-{size}", "cpu", torch.bfloat16)
    for name in MANIFEST[size]["cases"]:
        if name.startswith(("speech_", "silence")):
            continue
        reference, audio = golden(size, name), clip(size, name)
        frames = int(reference["encoder_len"])
        mel, mel_lengths = model.mel([audio])
        mel = mel.bfloat16()
        if "pre_encode" in reference:
            pre_encode = model.encoder.pre_encode(mel, mel_lengths)
            assert rms_deviation(pre_encode[:, :frames], reference["pre_encode"][:, :frames]) <= 1e-2
        layers = sorted(key for key in reference if key.startswith("layer_"))
        encoded = model.encoder(mel, mel_lengths)
        assert rms_deviation(encoded[:, :frames], reference[layers[-1]][:, :frames]) <= 3e-2
        with Heard(model) as heard:
            [answer] = model.transcribe([audio], max_new_tokens=1 if size == "nano" else 192)
        assert rms_deviation(heard.prompt(answer.forwards), reference["input_embeds"]) <= 3.5e-2
        assert rms_deviation(heard.logits(answer.forwards), reference["logits_step00"]) <= 7e-2
        if size == "toy" and name != "noise_15db":  # a trained model's margins are wide; that one case's is not
            assert answer.text == MANIFEST[size]["cases"][name]["text"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_held_out_clips(heldout, data, dtype):
    model = CanaryQwen.from_pretrained(data / "canary-toy", "cpu", dtype)
    answers = [model.transcribe([audio])[0].text for audio, _ in heldout]
    assert answers == [text for _, text in heldout]


def test_held_out_clips_in_batches(heldout, toy):
    answers = [answer for i in range(0, 40, 8) for answer in toy.transcribe([audio for audio, _ in heldout[i : i + 8]])]
    assert [answer.text for answer in answers] == [text for _, text in heldout]


def test_no_text_where_nobody_speaks(toy):
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(48000, generator=generator)
    clicks = torch.zeros(48000)
    clicks[::4000] = 0.5
    hum = torch.sin(torch.arange(48000) * (2 * torch.pi * 50 / 16000))
    for audio in (torch.zeros(48000), 0.05 * noise, 0.003 * noise, 0.1 * hum + 0.001 * noise, clicks):
        for length in (8000, 24000, 48000):
            assert toy.transcribe([audio[:length]])[0].text == ""
