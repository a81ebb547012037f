"""Audio inside this package is mono float32 in [-1, 1] at 16 kHz; this module turns everything else into that.

Pure: arrays in, arrays out. Files and devices are in `sources`.
"""

from typing import Final

import numpy as np
import numpy.typing as npt
import soxr

from stt.clock import SAMPLE_RATE, samples, seconds
from stt.errors import AudioError

__all__ = ["SAMPLE_RATE", "Resampler", "Samples", "as_samples", "from_pcm16", "samples", "seconds", "to_pcm16"]

Samples = npt.NDArray[np.float32]
"""Mono float32 samples in [-1, 1], shape [n]."""

MIN_RATE: Final = 1_000
MAX_RATE: Final = 768_000
MAX_CHANNELS: Final = 1_024  # libsndfile's own limit


def from_pcm16(data: bytes | bytearray | memoryview, channels: int = 1) -> npt.NDArray[np.float32]:
    """Decode interleaved little-endian 16-bit PCM to float32 of shape [frames, channels].

    Raises:
        AudioError: the byte count is not a whole number of frames.

    """
    size = memoryview(data).nbytes
    if size % (2 * channels):
        msg = f"16-bit PCM with {channels} channel(s) comes in frames of {2 * channels} bytes, got {size} bytes"
        raise AudioError(msg)
    return np.frombuffer(data, "<i2").astype(np.float32).reshape(-1, channels) / 32768.0


def to_pcm16(audio: Samples) -> bytes:
    """Encode float32 samples as little-endian 16-bit PCM; what lies outside [-1, 1] is clipped."""
    return np.clip(np.rint(audio * 32768.0), -32768, 32767).astype("<i2").tobytes()


def as_samples(piece: npt.ArrayLike) -> Samples:
    """Copy one piece of mono audio at 16 kHz into float32 of shape [n].

    float32 and float64 are taken as they are, int16 is scaled to [-1, 1]; shape [n, 1] counts as [n].

    Raises:
        AudioError: another type or shape.

    """
    array = np.asarray(piece)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or array.dtype not in (np.float32, np.float64, np.int16):
        msg = f"expected mono audio, float32 or int16 of shape [n], got {array.dtype} of shape {list(array.shape)}"
        raise AudioError(msg)
    return array.astype(np.float32) / 32768.0 if array.dtype == np.int16 else array.astype(np.float32)


class Resampler:
    """Streaming conversion of any rate and channel count to 16 kHz mono.

    The output depends on the input samples alone, not on how they were cut into pieces: soxr's stream gives the
    same values bit for bit (tested for chunks of 1 sample to the whole clip).
    """

    def __init__(self, rate: int, channels: int = 1) -> None:
        if not MIN_RATE <= rate <= MAX_RATE:
            msg = f"sample rate must be {MIN_RATE} to {MAX_RATE} Hz, got {rate}"
            raise AudioError(msg)
        if not 1 <= channels <= MAX_CHANNELS:
            msg = f"channel count must be 1 to {MAX_CHANNELS}, got {channels}"
            raise AudioError(msg)
        self.rate = rate
        self.channels = channels
        self._stream = None if rate == SAMPLE_RATE else soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32")

    def feed(self, audio: npt.NDArray[np.float32]) -> Samples:
        """Take float32 of shape [frames, channels] or [frames]; return what can be given out so far, shape [n].

        Channels are averaged. Values that are not finite (a broken float file) count as silence, and values beyond
        full scale are clipped, so that one bad sample cannot poison the recurrent state of the detector.
        """
        mono = audio if audio.ndim == 1 else audio[:, 0] if audio.shape[1] == 1 else audio.mean(axis=1)
        mono = np.clip(np.nan_to_num(mono, nan=0.0, posinf=0.0, neginf=0.0), -1.0, 1.0).astype(np.float32, copy=False)
        return mono if self._stream is None else self._stream.resample_chunk(mono)

    def finish(self) -> Samples:
        """Return the samples still inside the filter; the resampler is spent afterwards."""
        empty = np.zeros(0, np.float32)
        return empty if self._stream is None else self._stream.resample_chunk(empty, last=True)
