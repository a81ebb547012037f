"""Waveforms on the host: one copy into memory that is used again."""

import numpy as np
import pytest
import torch

from nemo_lite.audio import KEPT_BYTES, Staging, as_clip


def load(staging: Staging, clips, rows=None, length=None):
    clips = [torch.as_tensor(clip) for clip in clips]
    return staging.load(clips, rows or len(clips), length or max(map(len, clips)), loudest=100.0)


def test_clips_of_any_length_and_precision_lie_in_rows_with_silence_behind():
    staging = Staging(pinned=False)
    staging.give_back(load(staging, [np.full(50, 9.0, np.float32)] * 4))  # what it leaves is not heard
    batch = load(staging, [np.ones(3), np.ones(0, np.float32), np.ones(5, np.float16)], 4, 6)
    assert batch.audio.tolist() == [[1, 1, 1, 0, 0, 0], [0] * 6, [1, 1, 1, 1, 1, 0], [0] * 6]
    assert batch.samples.tolist() == [3, 0, 5, 0]
    assert batch.audio.dtype == torch.float32


def test_memory_is_used_again_but_never_by_two_at_once():
    staging = Staging(pinned=False)
    first, second = load(staging, [np.ones(1000)]), load(staging, [np.ones(1000)])
    assert first.buffer.data_ptr() != second.buffer.data_ptr()
    staging.give_back(first)
    assert load(staging, [np.ones(10)]).buffer is first.buffer
    staging.give_back(second)
    assert load(staging, [np.ones(2000)]).buffer is not second.buffer


def test_memory_of_a_rare_large_batch_is_not_kept():
    staging = Staging(pinned=False)
    batch = staging.load([torch.zeros(4)], 1, KEPT_BYTES // 4 + 1, loudest=100.0)
    staging.give_back(batch)
    assert not staging.kept


def test_a_plain_waveform_is_not_copied_before_it_is_in_its_row():
    waveform = np.ones(100, np.float32)
    assert as_clip(waveform, "row 0").data_ptr() == waveform.ctypes.data
    for odd in (waveform[::-1], waveform.astype(">f4"), np.broadcast_to(np.float32(1), 100)):
        assert torch.equal(as_clip(odd, "row 0"), torch.ones(100))


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        ([0.0, float("nan")], "row 1: expected finite samples, got NaN or infinity"),
        ([float("-inf"), 0.0], "row 1: expected finite samples, got NaN or infinity"),
        ([1e300, 0.0], "row 1: expected finite samples, got NaN or infinity"),
        ([0.0, -32768.0], r"row 1: expected samples in \[-1, 1\], got 32768; divide 16-bit samples by 32768 first"),
    ],
)
def test_what_is_no_audio_is_refused_by_its_row(samples, said):
    with pytest.raises(ValueError, match=said):
        load(Staging(pinned=False), [np.zeros(2), np.array(samples)])


def test_while_one_computes_another_may_be_loaded(toy, clip):
    """What is done on the host does not wait for whoever has the model."""
    with toy.alone():
        request = toy.request([clip("toy", "timer")], "Transcribe the following: <|audioplaceholder|>", None)
    assert len(request.batch) == 1
