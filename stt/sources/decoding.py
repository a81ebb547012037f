"""Bytes to audio. FFmpeg (PyAV) is the truth: what it reads in full is heard in full, at the container's times;
libsndfile has what FFmpeg does not know.

An `Audio` is opened, iterated and closed by one thread. It yields all that is there, and only then raises what was
wrong with it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, Protocol, cast

from stt.audio import Resampler, Samples, from_pcm16
from stt.errors import AudioError
from stt.sources.assembler import BLOCK_S, LIVE_BLOCK_S, Assembler
from stt.sources.ffmpeg import NO_AUDIO, BetterElsewhere, FfmpegAudio
from stt.sources.inputs import Pipe, Stored


@dataclass(frozen=True, slots=True)
class RawPcm:
    """Headerless little-endian 16-bit PCM, interleaved."""

    rate: int
    channels: int = 1


class Audio(Protocol):
    """An open input."""

    duration_s: float | None
    """`None` where nothing says."""
    channels: int
    notes: list[str]
    """What a person should know; grows while it is read."""

    def __iter__(self) -> Iterator[Samples]: ...

    def close(self) -> None: ...


def open_audio(
    source: Stored | Pipe, name: str, raw: RawPcm | None, track: int | str | None, channel: int | None = None
) -> Audio:
    """Open whatever it is, for one channel or all of them mixed; a pipe is waited for.

    Raises:
        AudioError: it holds no audio in a format known here, or not the track that is wanted.

    """
    if raw is not None:
        return _Raw(source, raw, channel)
    if isinstance(source, Pipe):
        head = source.peek()
        if not head:
            msg = f"{name}: empty, expected audio"
            raise AudioError(msg)
        if not (head[:4] == b"OggS" or (head[:4] == b"RIFF" and head[8:12] == b"WAVE")):
            try:
                source = source.spool()  # to be searched back and forth
            except AudioError as error:
                msg = f"{name}: {error}"
                raise AudioError(msg) from error
    try:
        return _open_container(source, name, track, channel)
    except BaseException:
        if isinstance(source, Stored):
            source.close()
        raise


def _open_container(source: Stored | Pipe, name: str, track: int | str | None, channel: int | None) -> Audio:
    from av.error import FFmpegError

    try:
        return FfmpegAudio(source, name, track, channel)
    except (FFmpegError, BetterElsewhere) as error:
        failure = error
    if isinstance(source, Stored):
        if (other := _open_sndfile(source, name, channel)) is not None:
            return other
        if source.extension.lower() in _BY_NAME:
            source.name += source.extension
            source.seek(0)
            try:
                return FfmpegAudio(source, name, track, channel)
            except FFmpegError as error:
                failure = error
    if source.head[4:8] == b"ftyp":
        msg = f"{name}: truncated or damaged: an MP4 without its table of contents, which usually comes last"
    else:
        msg = f"{name}: {NO_AUDIO}"
    raise AudioError(msg) from failure


# What FFmpeg recognizes by its extension alone, or by that where it begins with garbage.
_BY_NAME: Final = {".aac", ".al", ".g722", ".g729", ".gsm", ".mp3", ".sln", ".ul"}


def _open_sndfile(source: Stored, name: str, channel: int | None) -> "_Sndfile | None":
    import soundfile

    source.seek(0)
    try:
        return _Sndfile(soundfile.SoundFile(cast("BinaryIO", source)), source, name, channel)
    except soundfile.LibsndfileError:
        return None


class _Sndfile:
    """The rare formats that libsndfile alone reads."""

    def __init__(self, sound: Any, source: Stored, name: str, channel: int | None) -> None:
        self._sound, self._source, self._name, self._channel = sound, source, name, channel
        self.notes: list[str] = []
        self.channels: int = sound.channels
        self.duration_s: float | None = sound.frames / sound.samplerate

    def close(self) -> None:
        self._sound.close()
        self._source.close()

    def __iter__(self) -> Iterator[Samples]:
        import soundfile

        out, rate = Assembler(BLOCK_S, self._channel), self._sound.samplerate
        failure = None
        try:
            while len(block := self._sound.read(round(BLOCK_S * rate), dtype="float32", always_2d=True)):
                yield from out.feed(block, rate)
        except soundfile.LibsndfileError as error:
            failure = error
        yield from out.flush()
        if failure is not None or self._sound.frames > round(out.position_s * rate):
            expected_s = self._sound.frames / rate
            msg = f"{self._name}: truncated or damaged: {expected_s:.1f} s expected, {out.position_s:.1f} s found"
            raise AudioError(msg) from failure


class _Raw:
    """Headerless PCM, as it comes."""

    def __init__(self, source: Stored | Pipe, raw: RawPcm, channel: int | None) -> None:
        Resampler(raw.rate, raw.channels)  # says what is impossible before anything is read
        self._source, self._raw, self._channel = source, raw, channel
        self.channels = raw.channels
        self._frame = 2 * raw.channels
        self.notes: list[str] = []
        self.duration_s = source.size / self._frame / raw.rate if isinstance(source, Stored) else None

    def close(self) -> None: ...

    def __iter__(self) -> Iterator[Samples]:
        live = isinstance(self._source, Pipe)
        out = Assembler(LIVE_BLOCK_S if live else BLOCK_S, self._channel)
        rest = b""
        while data := self._source.read(65_536):
            data, whole = rest + data, (len(rest) + len(data)) // self._frame * self._frame
            rest = data[whole:]
            yield from out.feed(from_pcm16(data[:whole], self._raw.channels), self._raw.rate)
        yield from out.flush()
