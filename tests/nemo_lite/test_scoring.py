"""Answers that the model need not have given, scored from what it remembers of the audio."""

import random

import numpy as np
import pytest
import torch

from nemo_lite import ContinuousBatch
from nemo_lite.alignment import Head

HEAD = Head(2, 0)


@pytest.fixture
def aligned(toy):
    toy.align_with(HEAD)
    yield toy
    toy.align_with(None)


def whole(model, clip, answer):
    """Log-probabilities of an answer by one pass over everything, with nothing remembered: a cache of its own."""
    from nemo_lite.llm import KVCache

    request = model.request([clip], "Transcribe the following: <|audioplaceholder|>", None)
    with torch.inference_mode():
        [row], audio = model.rows(request)
        ids = torch.from_numpy(np.append(row.ids, answer))[None]
        frames = torch.from_numpy(np.append(row.frames, [-1] * len(answer)))[None]
        x = torch.where((frames == -1)[:, :, None], model.embed_tokens(ids), audio[frames.clamp(min=0)])
        kv = KVCache(model.config.llm, 1, ids.shape[1], audio).view(1, ids.shape[1])
        hidden = model.llm(x, torch.arange(ids.shape[1])[None], kv)[0, len(row.ids) - 1 : -1]
        logprobs = (hidden @ model.embed_tokens.weight.T).float().log_softmax(-1)
    return logprobs[torch.arange(len(answer)), torch.tensor(answer)].tolist()


def test_any_answer_is_scored_as_in_a_pass_over_everything(aligned, clip):
    clips = [clip("toy", name) for name in ("timer", "digits", "multi_10s")]
    heard = aligned.transcribe(clips, timed=[True] * 3, remembered=[True, False, True])
    assert [t.memory is not None for t in heard] == [True, False, True]
    r = random.Random(3)
    asked = [
        (0, list(heard[0].token_ids)),
        (2, list(heard[2].token_ids)),
        (0, [5]),
        (2, [r.randrange(800) for _ in range(30)]),
    ]
    aligned.transcribe([torch.randn(30_000) * 0.1] * 3)  # others come into the cache meanwhile
    found = aligned.score([heard[i].memory for i, _ in asked], [answer for _, answer in asked])
    for (i, answer), scored in zip(asked, found, strict=True):
        assert scored.logprobs == pytest.approx(whole(aligned, clips[i], answer), abs=2e-3)
        assert scored.attention.shape == (len(answer), heard[i].attention.shape[1])
    for i in (0, 1):  # what was decoded, scored: the same again
        decoded = heard[asked[i][0]]
        assert found[i].logprobs == pytest.approx(decoded.logprobs, abs=2e-3)
        assert np.abs(found[i].attention - decoded.attention).max() < 1e-2


def test_the_memory_that_many_answers_take_is_bounded(aligned, clip, monkeypatch):
    [heard] = aligned.transcribe([clip("toy", "timer")], remembered=[True])
    answers = [list(heard.token_ids[: 1 + i % 5]) for i in range(11)]
    together = aligned.score([heard.memory] * 11, answers)
    passes, hidden = [], aligned.decoder.hidden
    monkeypatch.setattr(
        aligned.decoder, "hidden", lambda x, *rest, **more: passes.append(len(x)) or hidden(x, *rest, **more)
    )
    monkeypatch.setattr("nemo_lite.scoring.MOST_ROWS", 4)
    parts = aligned.score([heard.memory] * 11, answers)
    assert passes == [4, 4, 3]
    for one, other in zip(together, parts, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)
        assert np.abs(one.attention - other.attention).max() < 1e-3


@pytest.mark.parametrize("emulated", [False, True])
def test_rows_that_come_and_go_are_remembered_as_they_were(static, toy, heldout, emulated):
    model = static("toy")[0] if emulated else toy
    clips = [audio for audio, _ in heldout[:9]]
    plain = toy.transcribe(clips, max_new_tokens=64)
    batch = ContinuousBatch(model, 4, longest_s=12.0, max_new_tokens=64)
    waiting, expected, r = list(range(9)), {}, random.Random(2)
    while waiting or batch.running:
        if n := min(r.choice([0, 1, 2]), len(waiting), batch.free):
            chosen, waiting = waiting[:n], waiting[n:]
            tickets = batch.add(
                [clips[i] for i in chosen],
                drafts=[r.choice([None, plain[i].token_ids[:3]]) for i in chosen],
                remembered=[True] * n,
            )
            expected |= dict(zip(tickets, chosen, strict=True))
        for ticket, got in batch.step().items():
            alone = plain[expected.pop(ticket)]
            assert got.token_ids == alone.token_ids
            [scored] = model.score([got.memory], [got.token_ids])
            assert scored.logprobs == pytest.approx(alone.logprobs, abs=2e-3)
            assert scored.attention is None  # no head was chosen
    assert not expected


def test_what_cannot_be_scored_is_said(toy, clip):
    [heard] = toy.transcribe([clip("toy", "timer")], remembered=[True])
    with pytest.raises(ValueError, match="expected 1 answers, one per memory and none empty, got 2"):
        toy.score([heard.memory], [[1], [2]])
    with pytest.raises(ValueError, match="none empty, got 1"):
        toy.score([heard.memory], [[]])
    with pytest.raises(ValueError, match=r"row 0: expected token ids in 0 \.\.\. \d+, got \[-1\]"):
        toy.score([heard.memory], [[1, -1]])
    with pytest.raises(ValueError, match="as many `remembered` as rows, got 2 and 1"):
        toy.transcribe([torch.zeros(9000)], remembered=[False, True])
    assert toy.score([], []) == []
