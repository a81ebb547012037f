"""What the public calls promise."""

import subprocess
import sys
import threading

import numpy as np
import pytest
import torch

from nemo_lite import CanaryQwen, Transcription


def tokens_of(answers: list[Transcription]) -> list[tuple[int, ...]]:
    return [answer.token_ids for answer in answers]


@pytest.mark.parametrize("batch", [1, 2, 3, 5, 9])
@pytest.mark.parametrize("size", ["nano", "toy"])
def test_static_shapes_and_replayed_graphs_change_nothing(static, models, heldout, size, batch):
    """What a GPU would do - padded rows, lengths and spans, fixed buffers, a shrinking batch - done on the CPU."""
    model, capture = static(size)
    generator = torch.Generator().manual_seed(batch)
    clips = [torch.randn(n, generator=generator) * 0.1 for n in (100, 200, 1600, 24000, 40000, 3000)][:batch]
    clips += [audio for audio, _ in heldout[: max(0, batch - len(clips))]]
    if size == "toy":
        clips = [audio for audio, _ in heldout[:batch]]
    for drafts in (None, [None if i % 2 else [260, 270, 12] for i in range(batch)], None):
        got = model.transcribe(clips, max_new_tokens=24, drafts=drafts)
        expected = models[size].transcribe(clips, max_new_tokens=24)
        assert tokens_of(got) == tokens_of(expected)
        for a, b in zip(got, expected, strict=True):
            assert a.logprobs == pytest.approx(b.logprobs, abs=2e-4)
    assert 0 < capture.captures < capture.replays
    for adapter in (True, False):
        got, expected = (
            m.generate_text("Transcribe", max_new_tokens=20, adapter=adapter) for m in (model, models[size])
        )
        assert got.token_ids == expected.token_ids


def test_a_graph_is_captured_once(static, heldout):
    model, capture = static("toy")
    clips = [audio for audio, _ in heldout[:4]]
    model.transcribe(clips)
    captures = capture.captures
    for _ in range(3):
        model.transcribe(clips)
        model.transcribe(clips[::-1])
    assert capture.captures == captures


def test_rows_that_end_leave_the_batch(toy, clip):
    """Three rows end at once, three after 4 to 12 tokens, one goes on to 26: once half have ended they leave."""
    clips = [
        clip("toy", name) for name in ("silence_2s", "short", "multi_10s", "noise_3s", "timer", "silence_2s", "digits")
    ]
    widths = []
    handle = toy.llm.register_forward_hook(lambda _m, _a, out: widths.append(out.shape[0]))
    answers = toy.transcribe(clips)
    handle.remove()
    assert widths[-26:] == [7] * 4 + [3] * 8 + [1] * 14  # the first pass is the prompt's
    assert tokens_of(answers) == [toy.transcribe([audio])[0].token_ids for audio in clips]


def test_a_smaller_batch_after_a_larger_one(nano, clip):
    """Stale rows of an earlier, larger call are never seen."""
    alone = nano.transcribe([clip("nano", "chirp_1s")], max_new_tokens=16)
    nano.transcribe([clip("nano", "amnoise_3p37s")] * 6, max_new_tokens=48)
    assert nano.transcribe([clip("nano", "chirp_1s")], max_new_tokens=16) == alone


def test_threads_may_share_a_model(toy, clip):
    names = ["timer", "short", "digits", "question"]
    expected = {name: toy.transcribe([clip("toy", name)])[0].text for name in names}
    got = {}
    threads = [
        threading.Thread(target=lambda n=name: got.update({n: toy.transcribe([clip("toy", n)])[0].text}))
        for name in names
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == expected


def test_waveforms_may_be_arrays_of_any_float(toy, clip):
    audio = clip("toy", "timer")
    expected = toy.transcribe([audio])
    assert toy.transcribe([audio.numpy()]) == expected
    assert toy.transcribe([audio.double().numpy()]) == expected
    backwards = audio.numpy()[::-1].copy()
    backwards.flags.writeable = False
    assert toy.transcribe([backwards[::-1]]) == expected
    assert toy.transcribe([audio.numpy().astype(">f4")]) == expected
    assert toy.transcribe([]) == []


@pytest.mark.parametrize(
    ("audio", "said"),
    [
        (np.zeros(1600, np.int16), "divide 16-bit samples by 32768"),
        (np.zeros((2, 1600), np.float32), r"\(2, 1600\)"),
        (np.full(1600, np.nan, np.float32), "row 1: expected finite"),
        (np.full(1600, np.inf, np.float32), "row 1: expected finite"),
        (np.full(1600, -12_000, np.float32), r"in \[-1, 1\], got 12000; divide 16-bit samples by 32768"),
    ],
)
def test_wrong_audio_is_refused(nano, audio, said):
    with pytest.raises(ValueError, match=said):
        nano.transcribe([np.zeros(1600, np.float32), audio])


def test_wrong_numbers_of_things_are_refused(nano):
    silence = torch.zeros(1600)
    with pytest.raises(ValueError, match="row 0: expected 2 clips"):
        nano.transcribe([silence], prompt="<|audioplaceholder|> and <|audioplaceholder|>")
    with pytest.raises(ValueError, match="as many prompts and drafts as rows, got 2, 1, 2"):
        nano.transcribe([silence, silence], prompt=["<|audioplaceholder|>"])
    with pytest.raises(ValueError, match="as many prompts and drafts as rows, got 1, 1, 2"):
        nano.transcribe([silence], drafts=[None, None])
    with pytest.raises(ValueError, match="max_new_tokens of at least 1, got 0"):
        nano.transcribe([silence], max_new_tokens=0)
    with pytest.raises(ValueError, match="takes no audio"):
        nano.generate_text("Describe <|audioplaceholder|>")


def test_one_clip_is_no_list_of_clips(nano):
    for clip in (torch.zeros(1600), np.zeros(1600, np.float32)):
        with pytest.raises(ValueError, match="put it into a list"):
            nano.transcribe(clip)


def test_prompts_without_audio(static, nano):
    for model in (nano, static("nano")[0]):
        [answer] = model.transcribe([[]], prompt="Say hi", max_new_tokens=8)
        assert answer.token_ids == nano.generate_text("Say hi", max_new_tokens=8, adapter=True).token_ids
        assert model.embed_audio([])[0].shape[0] == 0


def test_a_row_that_overflows_harms_no_other_and_no_later_one(models, static, clip, monkeypatch):
    """A value that is no number must not stay in the cache, where a weight of 0 would not take it away."""
    monkeypatch.setattr("nemo_lite.model.LOUDEST", float("inf"))
    audio = clip("toy", "timer")
    for model in (models["toy"], static("toy")[0]):
        expected = model.transcribe([audio])
        for draft in (None, expected[0].token_ids):
            healthy, broken = model.transcribe([audio, audio * 1e19], drafts=[draft, draft])
            assert healthy.token_ids == expected[0].token_ids
            assert (broken.text, broken.token_ids, broken.stop) == ("", (), "overflow")
            assert model.transcribe([audio])[0].token_ids == expected[0].token_ids
        assert all(np.isfinite(model.generate_text("Hi", max_new_tokens=8).logprobs))


def test_embeddings_are_the_callers_own(static, clip):
    model, _ = static("toy")
    first, lengths = model.embed_audio([clip("toy", "timer")] * 3)
    kept = first.clone()
    model.embed_audio([clip("toy", "digits")] * 3)
    assert first.shape[0] == len(lengths) == 3
    assert torch.equal(first, kept)


def test_the_adapter_off_is_the_model_before_merging(nano, data):
    """Bit for bit: merging keeps the rows it changed."""
    from safetensors.torch import load_file

    tensors = load_file(data / "canary-nano/checkpoint/model.safetensors")
    for i, layer in enumerate(nano.llm.layers):
        stem = f"llm.base_model.model.model.layers.{i}.self_attn"
        assert set(layer.self_attn.qkv.base) == {"q_proj", "v_proj"}
        for name in ("q_proj", "v_proj"):
            assert torch.equal(layer.self_attn.qkv.base[name], tensors[f"{stem}.{name}.base_layer.weight"].float())
    with_adapter = nano.generate_text("Transcribe", max_new_tokens=24, adapter=True)
    assert nano.generate_text("Transcribe", max_new_tokens=24) != with_adapter


def test_words_with_their_probability(toy, clip):
    [answer] = toy.transcribe([clip("toy", "meeting")])
    words = toy.words(answer)
    assert " ".join(word for word, _ in words) == answer.text == "The meeting is on Friday, July seventeenth."
    assert all(0.5 < probability <= 1 for _, probability in words)
    assert np.prod([p for _, p in words]) == pytest.approx(np.exp(sum(answer.logprobs[:-1])))


def test_words_of_characters_that_are_several_tokens(toy):
    text = "na\u00efve caf\u00e9 \u65e5\u672c\u8a9e \U0001f389 ok"
    ids = tuple(toy.tokenizer.tokenizer.encode(text).ids)
    answer = Transcription(text, ids, (-0.1,) * len(ids), "length", 0, len(ids))
    words = toy.words(answer)
    assert [word for word, _ in words] == text.split()
    assert np.prod([p for _, p in words]) == pytest.approx(np.exp(sum(answer.logprobs)))


def test_the_real_vocabularys_prompt_is_two_pieces(toy, nano, manifests):
    for size, model in (("nano", nano), ("toy", toy)):
        prompt = manifests[size]["batch"]["token_ids"][1]
        assert model.tokenizer.prompt("Transcribe the following: <|audioplaceholder|>") == prompt
        assert model.tokenizer.audio_id == manifests[size]["special"]["audio_locator_id"]
        assert model.tokenizer.eos_id == manifests[size]["special"]["eos_id"]
        assert model.tokenizer.pad_id == manifests[size]["special"]["pad_id"]


@pytest.mark.parametrize("size", ["nano", "toy"])
def test_the_tokenizer_is_transformers_tokenizer(models, data, size):
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(data / f"canary-{size}" / "llm")
    ours = models[size].tokenizer
    for text in (
        "Hello, world!",
        "  two  spaces\n\n",
        "naïve café 12345",
        "<|im_start|>user\n<think>x</think>",
        "日本語 🎉",
        "",
    ):
        ids = theirs.encode(text, add_special_tokens=False)
        assert ours.tokenizer.encode(text, add_special_tokens=False).ids == ids
        assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=True)


def test_nothing_heavy_is_imported():
    """No transformers, peft or torchaudio: not by importing, not by transcribing."""
    script = (
        "import sys, torch, nemo_lite.hub\n"
        "from nemo_lite import CanaryQwen\n"
        "model = CanaryQwen.from_pretrained('tests/data/canary-nano', 'cpu')\n"
        "model.transcribe([torch.zeros(8000)], max_new_tokens=2)\n"
        "print([m for m in ('transformers', 'peft', 'torchaudio', 'librosa', 'nemo', 'scipy') if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    done = subprocess.run(
        [sys.executable, "-c", "import sys, nemo_lite.hub; print('torch' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "False"


def test_half_precision_runs(data, clip):
    """float16, for GPUs without bfloat16: exercised here on the CPU, where the words survive it."""
    model = CanaryQwen.from_pretrained(data / "canary-toy", "cpu", torch.float16)
    assert model.transcribe([clip("toy", "timer")])[0].text == "Set a timer for thirty nine minutes."


def test_after_warming_up_no_graph_is_captured(static, heldout):
    model, capture = static("toy")
    model.warm_up([1, 2], longest_s=4.0, max_new_tokens=80, draft=20)
    warm = capture.captures
    assert warm > 0
    clips = [audio[:64000] for audio, _ in heldout[:6]]
    for i in range(5):
        [answer] = model.transcribe(clips[i : i + 1], max_new_tokens=80)
        model.transcribe(clips[i : i + 2], max_new_tokens=80, drafts=[answer.token_ids, None])
    assert capture.captures == warm


def test_after_the_engines_warm_up_nothing_is_captured(static):
    """With the engine's own numbers, for one batch size of its four."""
    model, capture = static("nano")
    model.warm_up([1], longest_s=30.0, max_new_tokens=200, draft=100, largest=4)
    warm, graphs = capture.captures, len(model.decoder.graphs.captured)
    r = np.random.default_rng(0)
    for _ in range(20):
        clip = 0.1 * r.standard_normal(r.integers(3_000, 28 * 16_000)).astype(np.float32)
        model.transcribe([clip], max_new_tokens=200, drafts=[r.integers(0, 200, r.integers(0, 97)).tolist()])
    assert capture.captures == warm
    clips = [np.zeros(28 * 16_000, np.float32)] * 4
    model.transcribe(clips, max_new_tokens=200, drafts=[[1] * 96] * 4)
    assert len(model.decoder.graphs.captured) >= graphs, "a larger batch must not cost the graphs there are"


def test_warming_up_on_a_cpu_is_short(toy, clip):
    before = toy.transcribe([clip("toy", "timer")])
    toy.warm_up([1, 4])
    assert toy.transcribe([clip("toy", "timer")]) == before
