"""What somebody with the real weights is asked to run: it says all there is to say, and sees what is wrong."""

import pytest
import torch

from nemo_lite.verify import BATCHES, _times, backend, verify, wer


def test_the_bundled_clips_are_heard_and_everything_is_said(toy):
    lines: list[str] = []
    assert verify(toy, lines.append)
    text = "\n".join(lines)
    for said in (
        "torch 2.",
        "float32 on cpu",
        "kernels of the language model: torch; attention by PyTorch would be: first pass flash_attention",
        '{"file": "single_000.flac", "text": "Turn the red fan off.", "wer": 0.0}',
        "please send these lines",
        "word error rate: 0.0%",
        "in one batch: 0 of 8 texts differ",
        "with drafts: 0 of 8 texts differ",
        "without graphs: 0 of 8 texts differ",
        "1 x 20 s: ",
        "times real time",
        "an interim of 20 s: ",
        "all is as it should be",
    ):
        assert said in text


def test_a_model_that_hears_something_else_is_told(nano):
    lines: list[str] = []
    assert not verify(nano, lines.append)
    assert "WRONG: expected a word error rate of at most 10%, got" in lines[-1]


@pytest.mark.parametrize(
    ("said", "heard", "rate"),
    [
        ("Turn it off.", "turn it OFF", 0),
        ("a b c d", "a c d", 0.25),
        ("a b c d", "a x b c y d", 0.5),
        ("a b", "c d e", 1.5),
        ("", "", 0),
        ("a", "", 1),
        ("don't", "dont", 1),
    ],
)
def test_word_error_rate(said, heard, rate):
    assert wer(said, heard) == rate


def test_a_card_with_little_memory_is_timed_with_what_it_holds(nano, monkeypatch):
    monkeypatch.setattr(nano.decoder.graphs, "sealed", True)
    nano.decoder.reserve(4, 1024)
    monkeypatch.setattr(nano, "transcribe", transcribe := nano.transcribe)
    lines = _times(nano, torch.zeros(16_000), BATCHES)
    assert any(line.startswith("1 x 20 s: ") and "times real time" in line for line in lines)
    assert "8 x 20 s: not timed, the warm-up found memory for 4 rows" in lines
    assert "32 x 20 s: not timed, the warm-up found memory for 4 rows" in lines
    monkeypatch.setattr(nano.decoder.graphs, "sealed", False)

    def little(clips, **options):
        if len(clips) > 1:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return transcribe(clips, **options)

    monkeypatch.setattr(nano, "transcribe", little)
    assert "8 x 20 s: out of memory" in _times(nano, torch.zeros(16_000), BATCHES)


def test_the_kernel_of_attention_has_a_name():
    assert backend(1, 2, 64, torch.float32, torch.device("cpu")) == "flash_attention"


def test_graphs_left_out_are_there_again(static, heldout):
    model, capture = static("toy")
    clips = [audio for audio, _ in heldout[:2]]
    expected = model.transcribe(clips)
    captures, replays = capture.captures, capture.replays
    with model.encoder_graphs.without(), model.decoder.graphs.without():
        without = model.transcribe(clips)
    assert [a.token_ids for a in without] == [a.token_ids for a in expected]
    assert (capture.captures, capture.replays) == (captures, replays)
    model.transcribe(clips)
    assert capture.captures == captures
    assert capture.replays > replays
