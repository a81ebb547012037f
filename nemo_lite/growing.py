"""Windows that grow: encoder frames kept from one transcription of a window to the next, for interims alone.

    what was encoded before  |------------------ kept ------------------|-- RIGHT --|
    what is encoded now                         |--- LEFT ---|----- new frames ------------|

The encoder looks both ways, and the log-mel of a window is normalised by the mean and deviation of all of it: exactly,
every frame changes with every sound that is added. It changes little, though, once it has been encoded with some audio
behind it. So the frames that had RIGHT frames behind them stay what they were, and what comes after them is encoded
again, behind LEFT frames of context, out of the mel of the whole window. Once a window is REFRESH times as long as when
all of it was encoded, all of it is encoded again.

What is kept fits if the audio before its end is the same to the hop; otherwise all is encoded. It is an approximation:
not for what stands. `benchmarks/canary_fast_interims.py` measures what it costs in words.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from nemo_lite.device import to_device

LEFT = 25
"""Frames of 80 ms that are encoded again as context, and thrown away."""
RIGHT = 12
"""Frames that a frame has to have had behind it, to stay."""
REFRESH = 2.0
WORTH = 0.75
"""Of a window's frames, how many may have to be encoded at most; with more, all are."""
PASS_FRAMES = 700
"""What a pass of the encoder costs before it computes anything (2,000 kernels), in frames that it could compute instead
(an H100: 3 ms, 400 TFLOP/s). Tails beside whole windows are a pass more, which so many frames have to be saved for."""
FRAMES_KEPT = 2**16
"""Of all windows together, 87 minutes: 0.27 GB of 2.5B in bfloat16. Those not met for longest go first."""

MEL_FRAMES = 8
"""To a frame of the encoder."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What is known of a window from before."""

    marks: np.ndarray
    """[mel frames] the sum of each hop's samples: of which audio this was."""
    frames: Tensor
    """[frames, hidden], as the language model hears them."""
    whole: int
    """How many frames there were when all were encoded."""


class Tail(NamedTuple):
    """Of a window, what is encoded again: the frames from `first` to `end`, of which those from `kept` on are used."""

    before: Kept
    kept: int
    first: int
    end: int

    @property
    def frames(self) -> int:
        return self.end - self.first


@dataclass(frozen=True, slots=True)
class Growing:
    """A window as it is now, and what of it has to be encoded."""

    window: Hashable
    marks: np.ndarray
    tail: Tail | None
    """`None`: all."""


class GrowingWindows:
    """What is kept of each window. From any thread."""

    def __init__(self, hop_samples: int, worth_a_pass: int = 0) -> None:
        self.hop = hop_samples
        self.worth_a_pass = worth_a_pass  # frames
        self.lock = threading.Lock()
        self.kept: OrderedDict[Hashable, Kept | None] = OrderedDict()  # None: it is being encoded for the first time
        self.size = 0

    def look(self, rows: Sequence[Sequence[Tensor]], windows: Sequence[Hashable | None] | None) -> list[Growing | None]:
        """Find what of each row's clip [samples] need not be encoded; `None` for the clips of rows of no window.

        Raises ValueError for another number of windows than rows, and for one of a row that has not one clip.
        """
        if windows is None:
            return [None for row in rows for _ in row]
        if len(windows) != len(rows):
            raise ValueError(f"expected as many `windows` as rows, got {len(windows)} and {len(rows)}")
        for i, (row, window) in enumerate(zip(rows, windows, strict=True)):
            if window is not None and len(row) != 1:
                raise ValueError(f"row {i}: expected one clip in a window, got {len(row)}")
        named = [(window, clip) for row, window in zip(rows, windows, strict=True) for clip in row]
        found = [None if window is None else self._look(window, clip) for window, clip in named]
        tails = [one.tail for one in found if one is not None and one.tail is not None]
        if len(tails) < len(found) and sum(tail.end - tail.frames for tail in tails) < self.worth_a_pass:
            return [one and replace(one, tail=None) for one in found]
        return found

    def _look(self, window: Hashable, clip: Tensor) -> Growing:
        marks = clip[: len(clip) // self.hop * self.hop].float().numpy().reshape(-1, self.hop).sum(1)
        with self.lock:
            if window not in self.kept:
                self.kept[window] = None
                self.size += _size(None)
            before = self.kept[window]
            self.kept.move_to_end(window)
        return Growing(window, marks, None if before is None else tail(before, marks))

    def keep(self, windows: Sequence[Growing | None], audio: Tensor, lengths: Sequence[int]) -> None:
        """Keep frames for the next time, but for windows that were forgotten meanwhile.

        audio [rows, frames, hidden]; row i has lengths[i] frames of windows[i], or is none of a window.
        """
        for frames, growing, length in zip(audio, windows, lengths, strict=False):
            if growing is not None:
                whole = length if growing.tail is None else growing.tail.before.whole
                self._replace(growing.window, Kept(growing.marks, frames[:length].clone(), whole))

    def _replace(self, window: Hashable, kept: Kept) -> None:
        with self.lock:
            if window not in self.kept:
                return
            self.size += _size(kept) - _size(self.kept[window])
            self.kept[window] = kept
            while self.size > FRAMES_KEPT:
                self.size -= _size(self.kept.popitem(last=False)[1])

    def forget(self, wanted: Callable[[Hashable], bool]) -> None:
        """Let go of what is kept of some windows."""
        with self.lock:
            for window in [window for window in self.kept if wanted(window)]:
                self.size -= _size(self.kept.pop(window))


def tail(before: Kept, marks: np.ndarray) -> Tail | None:
    """Say what has to be encoded of a window with these marks; `None`: all."""
    end, both = -(-len(marks) // MEL_FRAMES), min(len(marks), len(before.marks))
    first = begins(len(before.frames), before.whole, end)
    if first is None or not np.array_equal(marks[:both], before.marks[:both]):
        return None
    return Tail(before, first + LEFT, first, end)


def begins(before: int, whole: int, end: int) -> int | None:
    """With which frame of `end` encoding begins where `before` are there, and all of the first `whole` were encoded at
    once; `None`: all has to be.
    """
    first = min(end, before) - RIGHT - LEFT
    return first if 0 < first >= (1 - WORTH) * end and end <= REFRESH * whole else None


def cut(mel: Tensor, windows: Sequence[Growing], rows: int, frames: int) -> tuple[Tensor, Tensor]:
    """The mel of windows' tails [rows, mels, 8 * frames], and their mel frames [rows], out of [B, mels, T].

    Rows beyond those of the windows are empty.
    """
    lines = np.zeros((rows, 3), dtype=np.int64)
    for i, window in enumerate(windows):
        assert window.tail is not None  # noqa: S101
        start = window.tail.first * MEL_FRAMES
        lines[i] = i, start, len(window.marks) - start
    row, start, length = to_device(torch.from_numpy(lines), mel.device).unbind(1)
    place = torch.arange(MEL_FRAMES * frames, device=mel.device)
    at = (start[:, None] + place).clamp(max=mel.shape[2] - 1)[:, None].expand(-1, mel.shape[1], -1)
    return mel[row].gather(2, at).masked_fill((place >= length[:, None])[:, None], 0.0), length


def spliced(
    whole: Tensor, again: Tensor, windows: Sequence[Growing | None], lengths: Sequence[int], rows: int, frames: int
) -> Tensor:
    """Bring frames into the order of the clips: [rows, frames, hidden], of which clip i has the first lengths[i].

    whole [.., .., hidden]: of clips that were encoded as a whole; again: of tails; the rest is kept from before.
    """
    tails = [None if window is None else window.tail for window in windows]
    parts = [whole.flatten(0, 1), again.flatten(0, 1), *(tail.before.frames for tail in tails if tail is not None)]
    starts = iter(np.cumsum([0, *map(len, parts)])[2:])
    wholes, agains = (iter(range(0, part.shape[0] * part.shape[1], part.shape[1])) for part in (whole, again))
    index = np.zeros((rows, frames), dtype=np.int64)
    for line, length, tail in zip(index, lengths, tails, strict=False):
        if tail is None:
            line[:length] = next(wholes) + np.arange(length)
        else:
            line[: tail.kept] = next(starts) + np.arange(tail.kept)
            line[tail.kept : length] = len(parts[0]) + next(agains) - tail.first + np.arange(tail.kept, length)
    return torch.cat(parts)[to_device(torch.from_numpy(index), whole.device)]


def _size(kept: Kept | None) -> int:
    """Frames, and one for the place it takes."""
    return 1 + (0 if kept is None else len(kept.frames))
