"""The checks that somebody with a GPU is asked to run, as far as a CPU goes: with captures as a GPU replays them."""

import os
import re
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from nemo_lite import CanaryQwen
from nemo_lite.tokenizer import ChatTokenizer
from nemo_lite.weights import destinations

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def checks():
    """benchmarks/canary_checks.py"""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.syspath_prepend(str(BENCHMARKS))
        import canary_checks

        yield canary_checks
        del sys.modules["canary_checks"]


@pytest.fixture
def few(checks):
    clips, expected = checks.recorded()
    return clips[:3], expected[:3]


def test_all_goes_well_on_a_cpu(checks, static, capsys, monkeypatch, few):
    monkeypatch.setattr(checks, "recorded", lambda: few)
    assert checks.contact(lambda: static("toy")[0])
    assert capsys.readouterr().out.splitlines() == [
        "  nothing that is captured waits for the device: yes",
        "  captured in a thread that has ended, replayed in another: yes",
        "  captures that fail spoil no other: yes",
        "  what stands is right beside interims of windows that grow: yes",
    ]


def test_what_waits_is_named_though_the_model_goes_on_without_a_graph(checks, static, few, monkeypatch):
    model, _ = static("toy")
    watched = []

    @contextmanager
    def watch(device):
        yield
        watched.append(device)
        if len(watched) == 2:  # the encoder is the first
            raise RuntimeError("called a synchronizing CUDA operation")

    monkeypatch.setattr(checks, "_waiting_is_an_error", watch)
    assert checks.not_waiting(model, *few) == "prefill"
    assert len(watched) > 2


def test_captures_spoilt_by_one_that_failed_are_found(checks, static, few):
    model, _ = static("toy")
    replayed, failed = model.encoder_graphs.capture, []

    def capture(run):
        if failed:
            raise RuntimeError("beginAllocateToPool: already recording to mempool_id")
        try:
            return replayed(run)
        except RuntimeError:
            failed.append(run)
            raise

    model.encoder_graphs.capture = model.decoder.graphs.capture = capture
    assert re.fullmatch(r"after .*: \d captures failed that should not", checks.failing_captures(model, *few))


def test_other_words_are_found(checks, static, few):
    clips, expected = few
    wrong = [expected[0], expected[2], expected[1]]
    assert checks.not_waiting(static("toy")[0], clips, wrong) == "2 of 3 differ from NeMo"
    assert checks.failing_captures(static("toy")[0], clips, wrong) == "after a look at data: 2 of 4 differ from NeMo"


def test_random_weights_are_looked_up_one_by_one_and_are_the_same_each_time(checks):
    """As a checkpoint's: whoever fills a model of true size has no memory for two."""
    import canary_gpu

    tokenizer = ChatTokenizer(canary_gpu.TOKENIZER, canary_gpu.TOY.audio_tag)
    model = CanaryQwen.empty(canary_gpu.TOY, tokenizer, torch.device("cpu"), torch.float32)
    tensors, where = canary_gpu.random_tensors(model, 0), destinations(model)
    for name in reversed(where):
        where[name].copy_(tensors[name])
    assert tensors.keys() == where.keys()
    for name, tensor in tensors.items():
        assert torch.equal(tensor, where[name]), name
    projections = [tensor for name, tensor in tensors.items() if name.endswith("linear_q.weight")]
    assert not torch.equal(*projections[:2])


def test_the_benchmark_runs_from_a_checkout_and_says_where_there_is_no_gpu(tmp_path):
    bare = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(BENCHMARKS / "canary_gpu.py"), "--weights", "fp8"]
    ended = subprocess.run(command, cwd=tmp_path, env=bare, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.endswith("error: there is no GPU here: run it with --toy\n")
