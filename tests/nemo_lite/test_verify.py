"""What somebody with the real weights is asked to run: it says all there is to say, and sees what is wrong."""

from collections import OrderedDict
from functools import partial

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


def test_what_is_told_is_of_the_graphs_that_the_warm_up_made(static, monkeypatch):
    model, _ = static("toy")
    monkeypatch.setattr("nemo_lite.verify.LATENCY_S", 4.0)
    model.warm_up([1, 8], longest_s=4.0, max_new_tokens=40, draft=40, largest=8)
    without: list[object] = []
    for graphs in (model.encoder_graphs, model.decoder.graphs):
        monkeypatch.setattr(graphs, "captured", Noted(graphs.captured, without))
    assert verify(model, lambda _: None, max_new_tokens=40)
    assert without == []


class Noted(OrderedDict):
    """Graphs by key; notes keys that have none."""

    def __init__(self, graphs, without):
        super().__init__(graphs)
        self.without = without

    def get(self, key):
        if key not in self:
            self.without.append(key)
        return super().get(key)


def test_a_model_that_hears_something_else_is_told(nano):
    lines: list[str] = []
    assert not verify(nano, lines.append, max_new_tokens=4)
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
    transcribe = partial(nano.transcribe, max_new_tokens=4)
    lines = _times(nano, transcribe, torch.zeros(16_000), BATCHES)
    assert any(line.startswith("1 x 20 s: ") and "times real time" in line for line in lines)
    assert "8 x 20 s: not timed, the warm-up found memory for 4 rows" in lines
    assert "32 x 20 s: not timed, the warm-up found memory for 4 rows" in lines
    monkeypatch.setattr(nano.decoder.graphs, "sealed", False)

    def little(clips, **options):
        if len(clips) > 1:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return transcribe(clips, **options)

    assert "8 x 20 s: out of memory" in _times(nano, little, torch.zeros(16_000), BATCHES)


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
