"""Where the aligning head looked: the path through it, what is kept of it, and how the head is found."""

import json
import random
from itertools import pairwise

import numpy as np
import pytest
import torch

from nemo_lite.alignment import Head, align
from nemo_lite.calibration import NAME, Calibration, calibration


def path_score(attention, spans):
    """What a path counts: its tokens' frames, and a pause wherever none is."""
    frames = attention.shape[1]
    own = sum(attention[i, int(a) : int(b)].sum() for i, (a, b) in enumerate(spans))
    return own - 2.2 * (frames - sum(b - a for a, b in spans))


def every_path(tokens, frames, begin=0):
    if not tokens:
        yield []
        return
    for a in range(begin, frames):
        for b in range(a + 1, frames + 1):
            for rest in every_path(tokens - 1, frames, b):
                yield [(a, b), *rest]


@pytest.mark.parametrize("seed", range(20))
def test_the_path_is_the_best_there_is(seed):
    r = np.random.default_rng(seed)
    attention = (r.normal(size=(r.integers(1, 4), 6)) * 3).astype(np.float32)
    found = align(attention)
    best = max(path_score(attention, spans) for spans in every_path(*attention.shape))
    assert path_score(attention, found.spans) == pytest.approx(best, abs=1e-4)
    assert all(a < b for a, b in found.spans)
    assert all(before[1] <= after[0] for before, after in pairwise(found.spans))


def test_more_tokens_than_frames_share_them():
    spans = align(np.zeros((5, 2), np.float32)).spans
    assert all(0 <= a < b <= 2 for a, b in spans)
    assert all(before[1] <= after[0] for before, after in pairwise(spans))
    assert align(np.zeros((2, 0), np.float32)).spans == [(0, 0), (0, 0)]
    assert align(np.zeros((0, 2), np.float32)).spans == []


@pytest.mark.parametrize("emulated", [False, True])
def test_what_is_kept_is_the_same_alone_in_a_batch_with_drafts_and_under_graphs(static, toy, clip, emulated):
    """Against the attention computed in one pass over the whole answer, by calibration's way."""
    from nemo_lite.calibration import _attention

    head = Head(2, 0)
    clips = [clip("toy", name) for name in ("timer", "digits", "multi_10s")]
    plain = toy.transcribe(clips)
    expected = [_attention(toy, one, t.token_ids)[head.layer][head.head] for one, t in zip(clips, plain, strict=True)]
    model = static("toy")[0] if emulated else toy
    model.align_with(head)
    try:
        r = random.Random(1)
        for timed in ([True] * 3, [False, True, True]):
            drafts = [r.choice([None, t.token_ids, t.token_ids[:4], (3, 4, *t.token_ids[2:])]) for t in plain]
            found = model.transcribe(clips, drafts=drafts, timed=timed)
            assert [t.token_ids for t in found] == [t.token_ids for t in plain]
            for want, got, whole in zip(timed, found, expected, strict=True):
                assert (got.attention is not None) == want
                if got.attention is not None:
                    assert got.attention.shape == whole.shape
                    assert np.abs(got.attention - whole).max() < 1e-3
    finally:
        model.align_with(None)


def test_words_want_a_head(toy):
    with pytest.raises(ValueError, match="expected a model with an aligning head"):
        toy.transcribe([torch.zeros(9000)], timed=[True])
    with pytest.raises(ValueError, match="as many `timed` as rows, got 2 and 1"):
        toy.transcribe([torch.zeros(9000)], timed=[False, False])


def test_the_head_is_found_without_labels_and_kept_beside_the_weights_or_in_the_cache(toy, data, tmp_path, monkeypatch):
    weights = tmp_path / "model.safetensors"
    weights.write_bytes((data / "canary-toy/checkpoint/model.safetensors").read_bytes())
    monkeypatch.setattr(toy, "checkpoint", tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    calls, found = [], Calibration(Head(1, 3), -1.25, -0.5)
    monkeypatch.setattr("nemo_lite.calibration.calibrate", lambda model, clips: calls.append(1) or found)
    assert calibration(toy) == calibration(toy) == found
    assert len(calls) == 1
    (tmp_path / NAME).write_text(json.dumps({"weights": "others", "layer": 1, "head": 1, "surety": 0, "logprob": 0}))
    assert calibration(toy) == found, "what was found for other weights is of no use"
    for damaged in ("", "[]", '{"weights": 1}'):
        (tmp_path / NAME).write_text(damaged)
        assert calibration(toy) == found
    (tmp_path / NAME).unlink()
    (tmp_path / NAME).mkdir()  # no file can be written there
    assert calibration(toy) == found
    assert [path.suffix for path in (tmp_path / "cache/nemo_lite").iterdir()] == [".json"]


def test_the_head_of_the_small_model_is_the_one_that_is_known(data):
    kept = json.loads((data / "canary-toy/checkpoint" / NAME).read_text())
    assert (kept["layer"], kept["head"]) == (2, 0)
    assert kept["surety"] == pytest.approx(-1.268, abs=0.01)
