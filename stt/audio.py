"""Audio inside this package is mono float32 in [-1, 1] at 16 kHz; this module turns everything else into that.

Pure: arrays in, arrays out, and the same out of however many pieces. Files and devices are in `sources`.
"""

from fractions import Fraction
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from stt.clock import SAMPLE_RATE, samples, seconds
from stt.errors import AudioError

__all__ = [
    "SAMPLE_RATE",
    "Downmix",
    "Resampler",
    "Samples",
    "as_samples",
    "from_pcm16",
    "samples",
    "seconds",
    "to_pcm16",
]

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


class Downmix:
    """The mean of the channels, and where that would cancel, the mean with some of them turned upside down.

    A balanced microphone on a stereo input, or one cable soldered the wrong way, gives right = -left: every channel has
    the voice and their mean has nothing. Each block of 20 ms is looked at once it is complete; where its mix has lost
    most of what the channels hold, those that run against the loudest one are turned over from the next block on, faded
    over its length. Nothing is held back, ordinary recordings get the plain mean, and the result depends on the samples
    alone, not on how they were cut into pieces.
    """

    def __init__(self, rate: int, channels: int) -> None:
        self.opposed = False
        """The plain mean of the channels was found to cancel, for half a second or more."""
        self._size = max(1, round(_BLOCK_S * rate))
        self._block = np.zeros((self._size, channels), np.float32)  # the current one; `_filled` frames of it are there
        self._filled = 0
        self._signs = np.ones(channels, np.float32)
        self._before = self._signs  # as they were in the last block
        self._level = 0.0  # energy of the loudest channel of late
        self._opposed_blocks = 0

    def feed(self, audio: npt.NDArray[np.float32]) -> Samples:
        """Take finite float32 of shape [frames, channels]; return as many mono frames, shape [frames]."""
        mixed, at = [], 0
        while at < len(audio):
            part = audio[at : at + self._size - self._filled]
            mixed.append(self._mix(part))
            self._block[self._filled : self._filled + len(part)] = part
            self._filled += len(part)
            at += len(part)
            if self._filled == self._size:
                self._judge()
                self._filled = 0
        return np.concatenate(mixed) if mixed else np.zeros(0, np.float32)

    def _mix(self, part: npt.NDArray[np.float32]) -> Samples:
        if self._signs is not self._before:
            along = (np.arange(self._filled, self._filled + len(part), dtype=np.float32) / self._size)[:, None]
            return (part * (self._before + (self._signs - self._before) * along)).mean(axis=1)
        return part.mean(axis=1) if self._signs.min() > 0 else (part * self._signs).mean(axis=1)

    def _judge(self) -> None:
        self._before = self._signs
        block = self._block
        energies = np.einsum("nc,nc->c", block, block)
        loudest = int(energies.argmax())
        total = float(energies.sum())
        self._level = max(float(energies[loudest]), self._level * _LEVEL_DECAY)
        # What is left of a pause (hum, say, which a balanced line carries in phase) does not decide about speech.
        if energies[loudest] <= max(_SILENT * self._size, _QUIET * self._level):
            return
        plain = block.sum(axis=1)
        if float(plain @ plain) < _CANCELLED / 2 * total:
            self._opposed_blocks += 1
            self.opposed = self.opposed or self._opposed_blocks * _BLOCK_S >= _OPPOSED_S
        mix = block @ self._signs
        if float(mix @ mix) >= _CANCELLED * total:
            return
        along = block.T @ block[:, loudest]
        turned = np.where(np.abs(along) > _RELATED * np.sqrt(energies * energies[loudest]), np.sign(along), self._signs)
        turned = (turned * turned[loudest] * self._signs[loudest]).astype(np.float32)
        mix = block @ turned
        if float(mix @ mix) >= _CANCELLED * total:
            self._signs = turned


# Energies are relative to the sum over the channels: independent channels mix to 1 of it, n equal ones to n, and
# right = -0.5 left to 0.2.
_BLOCK_S: Final = 0.02
_CANCELLED: Final = 0.25
_RELATED: Final = 0.3  # correlation of two channels from which on they are taken for the same sound
_SILENT: Final = 1e-10  # -100 dBFS
_QUIET: Final = 10**-2.5  # 25 dB below the level of late
_LEVEL_DECAY: Final = 10 ** (-0.3 * _BLOCK_S)  # 3 dB a second
_OPPOSED_S: Final = 0.5


class Resampler:
    """Streaming conversion of any rate and channel count to 16 kHz mono.

    FFmpeg's resampler with a filter of 64 taps (at the lower of the two rates) holds back 2 ms from 16 kHz up, 4 ms at
    8 kHz, and never more than 8 ms (as the stream begins); soxr, whose filters work in blocks, held 37 ms of 48 kHz and
    115 ms of 8 kHz. The output depends on the input samples alone, not on how they were cut into pieces (tested bit for
    bit).

    `feed` until the format changes or the stream ends, then `finish`: together they return n * 16000 / rate samples.
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
        self._downmix = Downmix(rate, channels) if channels > 1 else None
        self._filter = None if rate == SAMPLE_RATE else _Filter(rate)

    @property
    def opposed(self) -> bool:
        """The channels were found to cancel each other in their plain mean."""
        return self._downmix is not None and self._downmix.opposed

    def feed(self, audio: npt.NDArray[np.float32]) -> Samples:
        """Take float32 of shape [frames, channels] or [frames]; return what can be given out so far, shape [n].

        Channels are mixed (`Downmix`). Values that are not finite (a broken float file) count as silence, and values
        beyond full scale are clipped, so that one bad sample cannot poison the recurrent state of the detector.
        """
        audio = audio.astype(np.float32, copy=False)
        if audio.size and not (audio.max() <= 1.0 and audio.min() >= -1.0):  # comparisons with NaN are false
            audio = np.clip(np.nan_to_num(audio, nan=0.0, posinf=0.0, neginf=0.0), -1.0, 1.0)
        mono = audio if audio.ndim == 1 else audio[:, 0] if self._downmix is None else self._downmix.feed(audio)
        return mono if self._filter is None else self._filter.feed(mono)

    def finish(self) -> Samples:
        """Return the samples still inside the filter; the resampler is spent afterwards."""
        return np.zeros(0, np.float32) if self._filter is None else self._filter.finish()


class _Filter:
    """FFmpeg's resampler behind arrays."""

    def __init__(self, rate: int) -> None:
        from av.filter import Graph  # 60 ms, and most live clients send 16 kHz

        self._rate = rate
        self._graph = Graph()
        self._in: Any = self._graph.add_abuffer(
            format="flt", sample_rate=rate, layout="mono", time_base=Fraction(1, rate)
        )
        taps = min(64, rate // 125)  # it waits for all of them at the start, later for half: 64 taps at 1 kHz are 64 ms
        # 2**14 phases: the ratio is exact at any rate, and the result does not depend on the pieces.
        how = f"sample_rate={SAMPLE_RATE}:out_sample_fmt=flt:filter_size={taps}:phase_shift=14"
        resample = self._graph.add("aresample", how)
        self._out: Any = self._graph.add("abuffersink")
        self._in.link_to(resample)
        resample.link_to(self._out)
        self._graph.configure()
        self._fed = 0

    def feed(self, mono: Samples) -> Samples:
        from av import AudioFrame

        if not len(mono):
            return mono
        frame = AudioFrame.from_ndarray(np.ascontiguousarray(mono)[None], format="flt", layout="mono")
        frame.sample_rate, frame.pts = self._rate, self._fed
        self._fed += len(mono)
        self._in.push(frame)
        return self._pull()

    def finish(self) -> Samples:
        self._in.push(None)
        return self._pull()

    def _pull(self) -> Samples:
        from av.error import BlockingIOError as NoneYet
        from av.error import EOFError as AtEnd

        parts = []
        while True:
            try:
                parts.append(self._out.pull().to_ndarray()[0])
            except (NoneYet, AtEnd):
                return np.concatenate(parts) if parts else np.zeros(0, np.float32)
