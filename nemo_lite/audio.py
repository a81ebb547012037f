"""Waveforms as they are given to one padded batch on the host: checked, in memory that is used again.

This runs outside the model's lock, while the device computes for somebody else. A batch of 128 clips of 30 s is a
quarter of a gigabyte: fresh memory for it costs several times what copying into used memory does, and every pass over
it counts. So there is one copy, and one look at what was copied.
"""

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

Waveform = np.ndarray | Tensor
"""[samples] floating point in [-1, 1], 16 kHz, mono."""

KEPT_BYTES = 2**28
"""Of the memory of larger batches nothing is kept."""
BUFFERS_KEPT = 2
"""One that is being copied to the device, and one that is being filled."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Clips on the host, one a row."""

    audio: Tensor
    """[B, L] float32, 0 beyond a row's samples; in pinned memory where it goes to a GPU."""
    samples: Tensor
    """[B] int64, likewise."""
    buffer: Tensor

    def __len__(self) -> int:
        return len(self.samples)


def as_clip(waveform: Waveform, where: str) -> Tensor:
    """A waveform as a tensor, without a copy if that can be. Raises ValueError for what is not mono floating point."""
    if isinstance(waveform, np.ndarray) and (
        not (waveform.flags.writeable and waveform.dtype.isnative) or min(waveform.strides, default=0) < 0
    ):  # torch takes no backward strides, no foreign byte order, and warns of what is read-only
        waveform = np.array(waveform, waveform.dtype.newbyteorder("="))
    clip = torch.as_tensor(waveform).detach()
    if clip.ndim != 1 or not clip.is_floating_point():
        raise ValueError(
            f"{where}: expected mono audio [samples] of floating point in [-1, 1],"
            f" got {clip.dtype} {tuple(clip.shape)}; mix channels down and divide 16-bit samples by 32768 first"
        )
    return clip


class Staging:
    """Host memory for batches. Any thread may load one; whoever has copied it to the device gives it back."""

    def __init__(self, *, pinned: bool) -> None:
        self.pinned = pinned
        self.lock = threading.Lock()
        self.kept: list[tuple[Tensor, torch.cuda.Event | None]] = []

    def load(
        self, clips: Sequence[Tensor], rows: int, length: int, *, loudest: float, names: Sequence[str] = ()
    ) -> Batch:
        """Put clips into a batch of so many rows, each so long; those beyond the clips are silent and empty.

        Raises ValueError, with the row's name, for samples that are not finite, or louder than `loudest`.
        """
        buffer = self._take(rows * length)
        audio = buffer[: rows * length].view(rows, length)
        lengths = [len(clip) for clip in clips]
        samples = torch.tensor(lengths + [0] * (rows - len(clips)), dtype=torch.int64, pin_memory=self.pinned)
        longest = max(lengths, default=0)
        audio[len(clips) :].zero_()
        audio[: len(clips), longest:].zero_()  # at once for all: hundreds of small calls are milliseconds
        for i, (clip, n) in enumerate(zip(clips, lengths, strict=True)):
            if n < longest:
                audio[i, n:longest].zero_()
            if n:
                _check(audio[i, :n].copy_(clip), loudest, names[i] if names else f"row {i}")
        return Batch(audio, samples, buffer)

    def give_back(self, batch: Batch) -> None:
        """To be called once the copy to the device has been ordered."""
        event = None
        if self.pinned:
            event = torch.cuda.Event()
            event.record()
        with self.lock:
            if batch.buffer.numel() * 4 <= KEPT_BYTES and len(self.kept) < BUFFERS_KEPT:
                self.kept.append((batch.buffer, event))

    def _take(self, elements: int) -> Tensor:
        with self.lock:
            fitting = [i for i, (buffer, _) in enumerate(self.kept) if buffer.numel() >= elements]
            buffer, event = self.kept.pop(fitting[0]) if fitting else (None, None)
            if buffer is None and len(self.kept) == BUFFERS_KEPT:
                self.kept.pop(0)  # too small for what comes now
        if buffer is None:
            with torch.inference_mode(mode=False):  # it may be filled in either mode
                return torch.empty(elements, pin_memory=self.pinned)
        if event is not None:
            event.synchronize()
        return buffer


def _check(row: Tensor, most: float, where: str) -> None:
    low, high = (float(extreme) for extreme in torch.aminmax(row))  # NaN where there is any
    loudest = max(-low, high)
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"{where}: expected finite samples, got NaN or infinity")
    if loudest > most:
        raise ValueError(f"{where}: expected samples in [-1, 1], got {loudest:g}; divide 16-bit samples by 32768 first")
