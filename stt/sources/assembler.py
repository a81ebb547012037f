"""Decoded pieces to one stream: 16 kHz, mono, without holes. Pure."""

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from stt.audio import Resampler, Samples, samples
from stt.errors import AudioError

BLOCK_S: Final = 2.0  # of a file at a time: memory stays flat whatever its length
LIVE_BLOCK_S: Final = 0.1


class Assembler:
    """Pieces in any format, and holes between them, to blocks of `block_s` at 16 kHz: of one channel, or all mixed."""

    def __init__(self, block_s: float, channel: int | None = None) -> None:
        self.position_s = 0.0
        """Where the next audio goes."""
        self.opposed = False
        """Channels cancelled each other in their mean."""
        self._block_s = block_s
        self._channel = channel
        self._given = 0  # samples at 16 kHz
        self._format: tuple[int, int] | None = None
        self._resampler: Resampler | None = None
        self._waiting: list[npt.NDArray[np.float32]] = []
        self._frames = 0  # that wait

    def feed(self, audio: npt.NDArray[np.float32], rate: int) -> Iterator[Samples]:
        """Take float32 of shape [frames, channels]."""
        if self._channel is not None:
            audio = audio[:, self._channel : self._channel + 1]
            if not audio.shape[1]:
                msg = f"there is no channel {self._channel + 1}"
                raise AudioError(msg)
        if self._format != (rate, audio.shape[1]):
            yield from self.flush()
            self._format = (rate, audio.shape[1])
            self._resampler = Resampler(*self._format)
        self._waiting.append(audio)
        self._frames += len(audio)
        self.position_s += len(audio) / rate
        if self._frames >= self._block_s * rate:
            yield self._convert()

    def silence(self, duration_s: float) -> Iterator[Samples]:
        yield from self.flush()
        self.position_s += duration_s
        while (missing := samples(self.position_s) - self._given) > 0:
            yield self._count(np.zeros(min(missing, samples(self._block_s)), np.float32))

    def flush(self) -> Iterator[Samples]:
        """Give out all that is still inside."""
        if self._resampler is not None:
            if self._waiting:
                yield self._convert()
            yield self._count(self._resampler.finish())
            self._resampler = self._format = None

    def _convert(self) -> Samples:
        assert self._resampler is not None  # noqa: S101 - for the type checker: there is one while something waits
        audio = self._resampler.feed(np.concatenate(self._waiting))
        self._waiting.clear()
        self._frames = 0
        self.opposed = self.opposed or self._resampler.opposed
        return self._count(audio)

    def _count(self, audio: Samples) -> Samples:
        self._given += len(audio)
        return audio
