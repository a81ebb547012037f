"""Rows that come and go at every step give what each gives alone."""

import random

import numpy as np
import pytest
import torch

from nemo_lite import ContinuousBatch
from nemo_lite.state import Row


class Clips:
    """Random clips with what each gives alone, and drafts of every quality for them."""

    def __init__(self, model, seed: int, max_new_tokens: int, speech=()) -> None:
        self.r = random.Random(seed)
        generator = torch.Generator().manual_seed(seed)
        lengths = [self.r.choice([0, 100, 1600, 9000, 20_000, 40_000]) + self.r.randrange(1600) for _ in range(8)]
        self.clips = [torch.randn(n, generator=generator) * 0.1 for n in lengths] + list(speech)
        self.prompts = [
            self.r.choice(["Transcribe the following: <|audioplaceholder|>", "Names: Ada, Grace. <|audioplaceholder|>"])
            for _ in self.clips
        ]
        self.alone = [
            model.transcribe([clip], prompt=prompt, max_new_tokens=max_new_tokens)[0]
            for clip, prompt in zip(self.clips, self.prompts, strict=True)
        ]

    def pick(self, n: int):
        chosen = [self.r.randrange(len(self.clips)) for _ in range(n)]
        return chosen, {
            "prompt": [self.prompts[i] for i in chosen],
            "drafts": [self.draft(list(self.alone[i].token_ids)) for i in chosen],
        }

    def draft(self, tokens: list[int]):
        at = self.r.randrange(len(tokens))
        return self.r.choice(
            [
                None,
                tokens,
                tokens[:at],
                [*tokens[:at], 3, *tokens[at + 1 :]],
                [*tokens[:at], *tokens[at + 1 :]],
                [3] * 9,
            ]
        )


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("size", ["nano", "toy"])
@pytest.mark.parametrize("on", ["a CPU", "a GPU, emulated", "a GPU, emulated, on which few shapes have a graph"])
def test_rows_that_come_and_go_at_every_step_give_what_they_give_alone(static, models, heldout, size, seed, on):
    """On the emulated GPU shapes are static, captures replayed over shared buffers, and looks come one step late."""
    model = static(size)[0] if on.startswith("a GPU") else models[size]
    speech = [audio for audio, _ in heldout[8 * seed : 8 * seed + 3]] if size == "toy" else []
    clips = Clips(models[size], seed, 24, speech)
    batch = ContinuousBatch(model, 8, longest_s=12.0, max_new_tokens=24)
    waiting, expected, most = 24, {}, 0
    while waiting or batch.running:
        if "few" in on:
            model.decoder.graphs.sealed = clips.r.random() < 0.7
        n = clips.r.choice([0, 0, 1, 1, 2, 3, 8])
        if n := min(n, waiting, batch.free):
            chosen, options = clips.pick(n)
            tickets = batch.add([clips.clips[i] for i in chosen], **options)
            expected |= dict(zip(tickets, chosen, strict=True))
            waiting -= n
        most = max(most, batch.running)
        for ticket, got in batch.step().items():
            alone = clips.alone[expected.pop(ticket)]
            assert (got.token_ids, got.text, got.stop) == (alone.token_ids, alone.text, alone.stop)
            assert got.logprobs == pytest.approx(alone.logprobs, abs=2e-4)
            assert [word for word, _ in model.words(got)] == [word for word, _ in model.words(alone)]
    assert not expected
    assert most > 4
    # and the batch of one call after it
    chosen, options = clips.pick(5)
    again = model.transcribe([clips.clips[i] for i in chosen], max_new_tokens=24, **options)
    assert [got.token_ids for got in again] == [clips.alone[i].token_ids for i in chosen]


def test_a_row_whose_steps_have_no_graph_is_its_own_when_another_joins_by_a_graph(static, toy, heldout):
    """The graph of a first pass leaves the state where the next one will leave its own."""
    (first, its_text), (second, other_text) = heldout[:2]
    model, _ = static("toy")
    batch, graphs = ContinuousBatch(model, 2, longest_s=12.0, max_new_tokens=64), model.decoder.graphs
    model.transcribe([first], max_new_tokens=64)
    for key in [key for key in graphs.captured if key[0] == "step"]:
        del graphs.captured[key]
    graphs.sealed = True
    tickets = batch.add([first])
    done = batch.step()
    tickets += batch.add([second])
    while batch.running:
        done |= batch.step()
    assert [done[ticket].text for ticket in tickets] == [its_text, other_text]


def test_there_is_room_for_all_rows_where_the_cache_was_made_for_fewer_and_longer_ones(nano):
    nano.decoder.forget()
    nano.decoder.reserve(4, 1024)
    batch = ContinuousBatch(nano, 8, longest_s=2.0, max_new_tokens=12)
    clips = [torch.zeros(9000)] * 8
    tickets = [*batch.add(clips[:1]), *batch.add(clips[1:])]
    done = {}
    while batch.running:
        done |= batch.step()
    assert done.keys() == set(tickets)


def test_a_short_clip_does_not_wait_for_a_long_one(toy, clip):
    batch = ContinuousBatch(toy, 4, longest_s=12.0, max_new_tokens=64)
    [long] = batch.add([clip("toy", "multi_10s")])
    for _ in range(3):
        assert batch.step() == {}
    [short] = batch.add([clip("toy", "silence_2s")])
    order = []
    while batch.running:
        order += batch.step()
    assert order == [short, long]


def test_what_does_not_fit_is_refused_and_what_runs_goes_on(nano):
    batch = ContinuousBatch(nano, 2, longest_s=2.0, max_new_tokens=8)
    [ticket] = batch.add([torch.zeros(9000)])
    for clips, said in (
        ([torch.zeros(9000)] * 2, "at most 1 clips, got 2"),
        ([torch.zeros(16_000 * 60)], "row 0: expected at most .* tokens of audio and prompt, got 7"),
        ([torch.full((9000,), float("nan"))], "row 0: expected finite"),
    ):
        with pytest.raises(ValueError, match=said):
            batch.add(clips)
    with pytest.raises(RuntimeError, match="got one with 1 rows running"):
        nano.transcribe([torch.zeros(9000)], max_new_tokens=8)
    [alone] = _finished(batch, ticket)
    assert nano.transcribe([torch.zeros(9000)], max_new_tokens=8) == [alone]
    assert batch.add([]) == []


def test_an_error_on_the_way_loses_what_ran_and_nothing_later(nano, monkeypatch):
    batch = ContinuousBatch(nano, 4, longest_s=2.0, max_new_tokens=8)
    [alone] = nano.transcribe([torch.ones(9000) * 0.1], max_new_tokens=8)
    batch.add([torch.zeros(9000)] * 2)

    def fails(*args, **options):
        raise RuntimeError("CUDA error")

    with monkeypatch.context() as broken:
        broken.setattr(nano.llm, "forward", fails)
        with pytest.raises(RuntimeError, match="CUDA error"):
            batch.step()
    assert batch.running == 0
    [ticket] = batch.add([torch.ones(9000) * 0.1])
    assert _finished(batch, ticket) == [alone]


@pytest.mark.parametrize("emulated", [False, True])
def test_what_overflows_harms_neither_its_neighbours_nor_who_comes_after_it(static, nano, emulated):
    """NaN in a row of the cache would come back to whoever has the row next: 0 times NaN is NaN."""
    model = static("nano")[0] if emulated else nano
    good = torch.randn(20_000, generator=torch.Generator().manual_seed(1)) * 0.1
    [alone] = nano.transcribe([good], max_new_tokens=12)
    batch = ContinuousBatch(model, 2, longest_s=4.0, max_new_tokens=12)
    decoder = model.decoder
    with torch.inference_mode():
        rows = Row(np.zeros(100, dtype=np.int64), np.zeros(100, dtype=np.int64))
        [bad] = decoder.begin([rows], torch.full((1, model.config.llm.hidden), float("nan")), 12)
    done, tickets = {}, set(batch.add([good]))
    for _ in range(60):
        if batch.free and len(tickets) < 6:
            tickets |= set(batch.add([good]))
        done |= batch.step()
    assert done.pop(bad).stop == "overflow"
    assert {ticket: got.token_ids for ticket, got in done.items()} == dict.fromkeys(tickets, alone.token_ids)


def _finished(batch: ContinuousBatch, *tickets: int):
    done = {}
    while batch.running:
        done |= batch.step()
    return [done[ticket] for ticket in tickets]


@pytest.mark.parametrize("emulated", [False, True])
def test_a_row_that_is_given_up_is_free_at_once_and_the_others_go_on(static, toy, clip, emulated):
    model = static("toy")[0] if emulated else toy
    batch = ContinuousBatch(model, 2, longest_s=12.0, max_new_tokens=64)
    clips = [clip("toy", name) for name in ("multi_10s", "digits", "timer")]
    alone = [toy.transcribe([one], max_new_tokens=64)[0].token_ids for one in clips]
    gone, stays = batch.add(clips[:2])
    batch.step()
    assert batch.free == 0
    batch.drop([gone])
    assert (batch.running, batch.free) == (1, 1)
    [late] = batch.add(clips[2:])
    done = {}
    while batch.running:
        done |= batch.step()
    assert {ticket: got.token_ids for ticket, got in done.items()} == {stays: alone[1], late: alone[2]}
    [last] = batch.add(clips[:1])
    batch.drop([last])
    assert batch.step() == {}
    assert toy.transcribe(clips[:1], max_new_tokens=64)[0].token_ids == alone[0]


def test_after_a_warm_up_for_many_rows_every_step_is_a_graph(static, clip):
    model, capture = static("nano")
    model.warm_up([1, 2], longest_s=2.0, max_new_tokens=12, draft=12, largest=2, rows=8)
    captured = capture.captures
    batch = ContinuousBatch(model, 8, longest_s=2.0, max_new_tokens=12)
    speech = [torch.randn(n, generator=torch.Generator().manual_seed(n)) * 0.1 for n in (9000, 30_000)]
    [alone] = model.transcribe(speech[:1], max_new_tokens=12)
    tickets = []
    while len(tickets) < 8 or batch.running:
        if len(tickets) < 8:
            tickets += batch.add(speech, drafts=[None, alone.token_ids])
        replays = capture.replays
        batch.step()
        assert capture.replays > replays or not batch.running
    assert capture.captures == captured, "captured while somebody waits"
