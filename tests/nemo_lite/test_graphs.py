"""CUDA graphs by key, their rules emulated: captures that fail, memory that is shared, a warm-up that ends."""

import contextlib
import gc
from collections import Counter

import pytest
import torch

from nemo_lite.graphs import CudaCapture, Graphs


class Recording:
    """A capture under the allocator's rule: a pool whose capture failed at its end goes on recording."""

    def __init__(self, *failures: str | None) -> None:
        self.failures = list(failures)  # for one capture after the other
        self.recording = False
        self.renewed = 0

    def renew(self) -> None:
        self.recording = False
        self.renewed += 1

    def __call__(self, run):
        if self.recording:
            raise RuntimeError("beginAllocateToPool: already recording to mempool_id")
        outputs = run()
        if self.failures and (failure := self.failures.pop(0)):
            self.renew()
            raise RuntimeError(failure)

        def replay() -> None:
            for kept, new in zip(outputs, run(), strict=True):
                kept.copy_(new)

        return outputs, replay


def test_a_capture_that_fails_leaves_one_key_without_a_graph_and_the_others_with_theirs():
    graphs, runs = Graphs(Recording(None, "operation not permitted when stream is capturing")), []

    def double(x):
        runs.append(1)
        return (x * 2,)

    for _ in range(3):
        for key in "abc":
            [out] = graphs(key, double, torch.arange(3.0))
            assert out.tolist() == [0.0, 2.0, 4.0]
    assert set(graphs.captured) == {"a", "c"}
    assert graphs.refused == {"b"}


def test_what_is_changed_in_place_is_changed_once_where_the_capture_fails():
    def count(x):
        return (x.add_(1),)

    for failure in (None, "operation not permitted"):
        graphs = Graphs(Recording(failure))
        [state] = graphs("step", count, torch.zeros(2))
        for _ in range(3):
            [state] = graphs("step", count, state)
        assert state.tolist() == [4.0, 4.0], failure


def test_memory_that_does_not_suffice_for_a_capture_is_told_to_the_caller():
    graphs = Graphs(Recording("CUDA out of memory. Tried to allocate 2.00 GiB"))
    with pytest.raises(RuntimeError, match="out of memory"):
        graphs("a", lambda x: (x + 1,), torch.ones(1))
    [out] = graphs("b", lambda x: (x + 1,), torch.ones(1))
    assert out.item() == 2
    graphs.renew()
    assert (graphs.capture.renewed, len(graphs.captured), len(graphs.refused)) == (2, 0, 0)


def test_inputs_and_outputs_of_all_keys_share_their_memory():
    graphs = Graphs(Recording())
    large, small = torch.rand(64, 4), torch.rand(3, 4, dtype=torch.float64)
    [a] = graphs("large", lambda x: (x + 1,), large)
    assert torch.equal(a, large + 1)
    [b] = graphs("small", lambda x: (x + 1,), small)
    assert torch.equal(b, small + 1)
    assert a.data_ptr() == b.data_ptr()
    inputs = [graphs.captured[key].inputs[0].data_ptr() for key in ("large", "small")]
    assert inputs[0] == inputs[1]
    [a] = graphs("large", lambda x: (x + 1,), large)
    assert torch.equal(a, large + 1)


def test_an_input_that_lies_in_the_place_of_another_arrives_whole():
    graphs = Graphs(Recording())

    def swap(x, y):
        return y, x

    x, y = torch.arange(4.0), torch.arange(4.0, 8.0)
    pair = graphs("swap", swap, x, y)
    for _ in range(3):
        pair = graphs("swap", swap, *pair)
    assert [t.tolist() for t in pair] == [x.tolist(), y.tolist()]
    # a part of what lies in the place, in another shape
    [out] = graphs("other", lambda z, w: (z + w,), pair[1][1:3], pair[0][:2])
    assert out.tolist() == [5.0 + 0.0, 6.0 + 1.0]


def test_nothing_is_captured_once_sealed():
    graphs = Graphs(capture := Recording())
    graphs("a", lambda x: (x + 1,), torch.ones(1))
    with graphs.paused():
        assert graphs("b", lambda x: (x + 2,), torch.ones(1))[0].item() == 3
    graphs.sealed = True
    assert graphs("c", lambda x: (x + 3,), torch.ones(1))[0].item() == 4
    assert list(graphs.captured) == ["a"]
    graphs.renew()
    graphs("c", lambda x: (x + 3,), torch.ones(1))
    assert (list(graphs.captured), capture.renewed) == (["c"], 1)


@pytest.fixture
def driver(monkeypatch):
    """torch.cuda as far as a capture needs it, with the allocator's books."""

    class Books:
        def __init__(self):
            self.pools, self.recording, self.failing, self.kept = 0, set(), None, []
            self.seed = None  # of the generator, on the device
            self.uses = Counter()  # of each pool, by graphs

    books = Books()

    class Stream:
        device_index = 0

    class CUDAGraph:
        pool = None  # until its capture has ended

        def replay(self):
            pass

        def __del__(self):
            if self.pool is not None:
                release(0, self.pool)

    class graph(contextlib.AbstractContextManager):  # noqa: N801
        def __init__(self, graph, pool, stream, capture_error_mode):
            self.graph, self.pool = graph, pool

        def __enter__(self):
            books.uses[self.pool] += 1
            if self.pool in books.recording:
                raise RuntimeError("beginAllocateToPool: already recording to mempool_id")
            books.recording.add(self.pool)
            if books.seed is None:
                books.seed = torch.empty(1)
            books.seed.fill_(0)

        def __exit__(self, kind, error, trace):
            if kind is not None or books.failing == "at its end":
                raise RuntimeError("CUDA error: operation failed due to a previous error during capture")
            books.recording.remove(self.pool)
            self.graph.pool = self.pool
            if books.failing == "when it is made executable":
                raise RuntimeError("CUDA error: out of memory")

    def handle():
        books.pools += 1
        return books.pools

    def end(device, pool):
        if pool not in books.recording:
            raise RuntimeError("endAllocatePool: not currently recording to mempool_id")
        books.recording.remove(pool)

    def release(device, pool):
        books.uses[pool] -= 1
        assert books.uses[pool] >= 0

    zeros = torch.zeros
    for name, value in {
        "Stream": Stream,
        "CUDAGraph": CUDAGraph,
        "graph": graph,
        "graph_pool_handle": handle,
        "current_stream": lambda: "the caller's",
        "set_stream": books.kept.append,
        "device": lambda device: contextlib.nullcontext(),
        "empty_cache": lambda: None,
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", end)
    monkeypatch.setattr(torch._C, "_cuda_releasePool", release)
    monkeypatch.setattr(torch._C, "_cuda_clearCublasWorkspaces", lambda: None)
    monkeypatch.setattr(torch, "zeros", lambda n, device: zeros(n))
    return books


def test_after_a_failed_capture_there_is_a_new_pool_and_nothing_records(driver):
    capture = CudaCapture(torch.device("cuda"))
    assert driver.pools == 1

    def forbidden():
        raise RuntimeError("operation not permitted when stream is capturing")

    with pytest.raises(RuntimeError, match="not permitted when stream is capturing"):  # not what the end says of it
        capture(forbidden)
    assert (driver.pools, driver.recording, driver.kept) == (2, set(), ["the caller's"])
    outputs, _ = capture(lambda: (torch.ones(1),))
    assert outputs[0].item() == 1
    capture.renew()
    assert (driver.pools, driver.recording) == (3, set())


@pytest.mark.parametrize("where", ["in its middle", "at its end", "when it is made executable"])
def test_a_pool_in_which_a_capture_failed_gives_its_memory_back_once_nobody_uses_it(driver, where):
    capture = CudaCapture(torch.device("cuda"))
    used = [capture(lambda: (torch.ones(1),))]
    renew, capture.renew = capture.renew, lambda: setattr(driver, "failing", None) or renew()
    driver.failing = where

    def run():
        if where == "in its middle":
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return (torch.ones(1),)

    with contextlib.suppress(RuntimeError):
        capture(run)
    gc.collect()
    assert +driver.uses == {1: 1, 2: 1}, "the graph from before, and the anchor of the new pool"
    used.clear()
    gc.collect()
    assert +driver.uses == {2: 1}


def test_a_model_loaded_in_inference_mode_spoils_no_capture_out_of_it(driver):
    with torch.inference_mode():
        CudaCapture(torch.device("cuda"))
    CudaCapture(torch.device("cuda"))(lambda: (torch.ones(1),))


def test_a_capture_that_fails_at_its_end_too(driver):
    capture = CudaCapture(torch.device("cuda"))
    renew, capture.renew = capture.renew, lambda: setattr(driver, "failing", None) or renew()
    driver.failing = "at its end"
    with pytest.raises(RuntimeError, match="due to a previous error"):
        capture(lambda: (torch.ones(1),))
    assert driver.recording == set()
    assert capture(lambda: (torch.ones(1),))[0][0].item() == 1


def test_where_nothing_can_be_captured_every_call_is_the_function(driver, monkeypatch, caplog):
    device = torch.device("cuda")
    driver.failing = "at its end"
    monkeypatch.setattr("nemo_lite.graphs.lost", lambda device: False)
    graphs = Graphs.on(device)
    assert graphs.capture is None
    assert graphs("a", lambda x: (x + 1,), torch.ones(1))[0].item() == 2
    assert "without CUDA graphs: CUDA error: operation failed" in caplog.text
    monkeypatch.setattr("nemo_lite.graphs.lost", lambda device: True)  # it is not the graphs
    with pytest.raises(RuntimeError, match="operation failed"):
        Graphs.on(device)


@pytest.mark.parametrize("every", [1, 2, 3])
def test_a_model_whose_captures_fail_says_the_same(static, nano, every):
    model, _ = static("nano")
    capture = Recording(*([*[None] * (every - 1), "operation not permitted when stream is capturing"] * 40))
    model.encoder_graphs.capture = model.decoder.graphs.capture = capture
    generator = torch.Generator().manual_seed(every)
    for n in (9000, 20_000, 9000, 30_000):
        clips = list(torch.randn(3, n, generator=generator) * 0.1)
        got, expected = (m.transcribe(clips, max_new_tokens=12) for m in (model, nano))
        assert [answer.token_ids for answer in got] == [answer.token_ids for answer in expected]
    assert capture.renewed > 0


def test_shapes_forgotten_give_their_memory_back_and_may_be_met_again(static):
    model, _ = static("nano")
    capture = Recording()
    model.encoder_graphs.capture = model.decoder.graphs.capture = capture
    model.warm_up([1], longest_s=1.0, max_new_tokens=8)
    graphs = len(model.decoder.graphs.captured)
    [before] = model.transcribe([torch.zeros(9000)], max_new_tokens=8)
    model.forget_shapes()
    assert capture.renewed == 1
    assert not model.decoder.graphs.captured
    assert not model.encoder_graphs.captured
    assert model.decoder.cache.memory.numel() == 0
    model.warm_up([1], longest_s=1.0, max_new_tokens=8)
    assert len(model.decoder.graphs.captured) == graphs > 0
    assert model.transcribe([torch.zeros(9000)], max_new_tokens=8) == [before]


def test_a_warm_up_ends_with_what_takes_most_memory_beside_all_the_graphs(static):
    """Graphs take memory that is not in their pool: what fitted before them may not fit any more."""
    model, capture = static("nano")
    taken = []
    encode, limit = model._embed, 1 << 30

    def embed(batch):
        taken.append((len(batch), batch.audio.shape[1], capture.captures))
        if len(batch) == 8 and capture.captures > limit:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return encode(batch)

    model._embed = embed
    model.warm_up([1, 2], longest_s=2.0, max_new_tokens=4, largest=8)
    largest = max(taken)
    assert taken[0][:2] == taken[-1][:2] == largest[:2]
    assert taken[-1][2] == capture.captures > taken[0][2]
    model.forget_shapes()
    limit = capture.captures + 1
    with pytest.raises(RuntimeError, match="out of memory"):
        model.warm_up([1, 2], longest_s=2.0, max_new_tokens=4, largest=8)


def test_a_warm_up_tells_how_far_it_is_and_ends_in_time(static, monkeypatch):
    model, capture = static("nano")
    told = []
    model.warm_up([1, 2], longest_s=2.0, max_new_tokens=4, progress=lambda done, of: told.append((done, of)))
    assert told == [(i, 4) for i in range(1, 5)]
    model.forget_shapes()
    clock = iter(range(100))
    monkeypatch.setattr("nemo_lite.model.time.monotonic", lambda: next(clock))
    before, told = capture.captures, []
    model.warm_up([1, 2], longest_s=2.0, max_new_tokens=4, budget_s=3, progress=lambda *how_far: told.append(how_far))
    assert told == [(1, 4), (2, 4)]
    warm = capture.captures
    assert warm > before
    model.transcribe([torch.zeros(9000)] * 2, max_new_tokens=4)  # not met: without a graph
    assert capture.captures == warm
