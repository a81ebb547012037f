"""One audio track of whatever FFmpeg (PyAV) reads, at the container's times."""

import re
from collections.abc import Iterator
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from stt.audio import Samples
from stt.errors import AudioError
from stt.sources.assembler import BLOCK_S, LIVE_BLOCK_S, Assembler
from stt.sources.inputs import Stored, printable
from stt.sources.riff import plain_samples
from stt.sources.timeline import Timeline
from stt.sources.tracks import choose_track
from stt.sources.truncation import ends_inside_a_packet, ends_inside_a_page, is_open, mp3_frames, riff_promise

_PACKET: Final = 1024  # bytes of a WAV that are decoded at a time: 0.03 s at 16 kHz
_SAMPLE_BYTES: Final = 4 * _PACKET  # of a WAV's samples, which are more than enough to open it
_CLOCK: Final = re.compile(r"(\d{1,6}):(\d\d):(\d\d(?:\.\d+)?)", re.ASCII)
_PROBED: Final = 65_536  # bytes after which what nobody knows is no audio: FFmpeg would wait for 1 MiB, 32 s of PCM
_TAIL: Final = 131_072  # an Ogg page is 65 kB at most
NO_AUDIO: Final = "not audio in a format known here; expected WAV, FLAC, OGG, MP3, M4A, WebM or the like"


class Arriving(Protocol):
    """Bytes that cannot be searched back and forth: a pipe, say."""

    name: str
    head: bytes
    """The first of them."""
    size: int
    """Bytes read so far."""

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes, once there are some; nothing at the end."""
        ...


class _Opening:
    """Bytes that arrive, of which FFmpeg gets no more than it needs to open a WAV.

    It looks for S/PDIF in the first 64 KiB of PCM and would wait for them: 2 s of speech at 16 kHz. It is told
    that these were all, and asks again once it reads on.
    """

    def __init__(self, source: Arriving) -> None:
        self._source = source
        self._given = 0
        self.name = source.name
        self.is_open = False

    def read(self, size: int) -> bytes:
        if not self.is_open:
            begins = plain_samples(self._source.head)
            if begins is not None and self._given >= begins + _SAMPLE_BYTES:
                return b""
        data = self._source.read(size)
        self._given += len(data)
        return data


class BetterElsewhere(Exception):  # noqa: N818 - no error of anybody's
    """FFmpeg cannot decode it, or would do so wrongly."""


def _lenient(version: str) -> dict[str, Any]:
    """Return what makes PyAV open containers whose tags are not UTF-8.

    From 19 on it always does, and has no such option; what is no UTF-8 then comes as in names of files, as surrogates.
    """
    return {"metadata_errors": "replace"} if int(version.partition(".")[0]) < 19 else {}


class FfmpegAudio:
    """One audio track of whatever FFmpeg reads."""

    def __init__(
        self, source: Stored | Arriving, name: str, track: int | str | None, channel: int | None = None
    ) -> None:
        import av

        self._source, self._name, self._channel = source, name, channel
        options = {"protocol_whitelist": "none"}  # playlists and references lead nowhere: nothing leaves the machine
        given = source if isinstance(source, Stored) else _Opening(source)
        if isinstance(given, _Opening):
            options |= {"probesize": "4096", "max_size": str(_PACKET)}  # what is probed or collected is heard late
            if source.head[:3] != b"ID3":  # which may be pictures of any size
                options["formatprobesize"] = str(_PROBED)
        self._container: Any = av.open(given, options=options, **_lenient(av.__version__))
        if isinstance(given, _Opening):
            given.is_open = True
        try:
            index, note = self._choose(track)
        except BaseException:
            self._container.close()
            raise
        self._stream: Any = self._container.streams.audio[index]
        self._format: str = self._container.format.name
        # Once: PyAV 19 has none after an attempt to open the decoder has failed, and crashes when asked.
        self._codec: str = self._stream.codec_context.name
        self.channels: int = self._stream.codec_context.channels or 1
        self.notes: list[str] = [note] if note else []
        length = self._container.duration
        self._length_s = length / av.time_base if length else None
        self.duration_s = None if not isinstance(source, Stored) or self._is_open() else self._length_s

    def _choose(self, wanted: int | str | None) -> tuple[int, str | None]:
        tracks = self._container.streams.audio
        if not tracks:
            kinds = ", ".join(sorted({stream.type for stream in self._container.streams}))
            msg = f"{self._name}: not audio: has no audio track{kinds and f', only {kinds}'}"
            raise AudioError(msg)
        languages = [language and printable(language) for language in (t.metadata.get("language") for t in tracks)]
        flags = [(language, bool(t.disposition & 1)) for language, t in zip(languages, tracks, strict=True)]
        index, note = choose_track(flags, wanted, self._name)
        kind, codec = self._container.format.name, tracks[index].codec_context
        # In WAV it takes NMS ADPCM for AMR, and G.721 for G.726.
        if (
            codec is None
            or codec.format is None
            or kind == "sds"
            or (kind == "wav" and codec.name in {"amrnb", "g726"})
        ):
            raise BetterElsewhere
        return index, note

    def close(self) -> None:
        self._container.close()
        if isinstance(self._source, Stored):
            self._source.close()

    def __iter__(self) -> Iterator[Samples]:
        out = Assembler(LIVE_BLOCK_S if not isinstance(self._source, Stored) else BLOCK_S, self._channel)
        timeline, trusted = self._timeline()
        self._failures: list[tuple[float, str]] = []
        told, holes = False, list[tuple[float, float]]()
        try:
            for frame in self._frames(out):
                hole_s = timeline.hole_s(frame.time if trusted else None, out.position_s)
                if hole_s:
                    if out.position_s:  # not a late start
                        holes.append((out.position_s, hole_s))
                    yield from out.silence(hole_s)
                yield from out.feed(_planes(frame), frame.sample_rate)
                if out.opposed and not told:
                    told = True
                    self.notes.append(f"{self._name}: channels cancel each other (one is inverted): turned over")
            yield from out.flush()
        except AudioError as error:
            msg = f"{self._name}: {error}"
            raise AudioError(msg) from error
        if holes:  # something was said there, perhaps: FFmpeg passes over damaged pages of Ogg without a word
            (at_s, lasts_s), more = holes[0], f" (and {len(holes) - 1} more)" if len(holes) > 1 else ""
            self.notes.append(f"{self._name}: {lasts_s:.1f} s are missing at {at_s:.1f} s{more}: heard as silence")
        self._complain(out.position_s, joined=timeline.jumped)

    def _timeline(self) -> tuple[Timeline, bool]:
        from av.format import Flags

        flags = self._container.format.flags
        restarts = bool(flags & Flags.ts_discont.value)
        # Streams without a container have the times that their demuxer makes up from a bit rate, say.
        trusted = restarts or not flags & Flags.generic_index.value
        start = self._container.start_time
        return Timeline((start or 0) / 1e6, self._length_s, restarts), trusted

    def _frames(self, out: Assembler) -> Iterator[Any]:
        """Decode; a packet that cannot be decoded is passed over, as FFmpeg itself does."""
        from av.error import FFmpegError

        self._cut = False  # the last packet is not whole
        try:
            for packet in self._container.demux(self._stream):
                if packet.size:
                    self._cut = packet.is_corrupt
                try:
                    frames = packet.decode()
                except (FFmpegError, ValueError) as error:  # PyAV's own, from 19 on: the codec is unknown
                    self._failures.append((out.position_s, getattr(error, "strerror", None) or str(error)))
                    self._cut = True
                else:
                    yield from frames
        except IndexError:
            pass  # PyAV, at the end of a transport stream in which a track appeared late; ours has been flushed by then
        except (FFmpegError, OSError) as error:
            self._failures.append((out.position_s, error.strerror or str(error)))
            self._cut = True

    def _complain(self, got_s: float, *, joined: bool) -> None:
        """Say what is missing, if something is."""
        promised_s = self._promised_s(got_s, joined=joined)
        slack_s = 0.02 if self._codec.startswith(("pcm_", "flac")) else 0.25
        if promised_s is not None and promised_s > got_s + slack_s:
            msg = f"{self._name}: truncated: {promised_s:.1f} s expected, {got_s:.1f} s found; the text covers those"
            raise AudioError(msg)
        if self._ends_early():
            msg = f"{self._name}: truncated: it breaks off after {got_s:.1f} s; the text covers those"
            raise AudioError(msg)
        if self._failures and not got_s:
            msg = f"{self._name}: {NO_AUDIO}"
            raise AudioError(msg)
        # Between the frames of an MP3 may be anything: tags, pictures, another file's beginning.
        if self._failures and self._format != "mp3":
            (at_s, reason), count = self._failures[0], len(self._failures)
            lost = "a piece is" if count == 1 else f"{count} pieces are"
            msg = f"{self._name}: damaged at {at_s:.1f} s, {lost} lost ({reason})"
            raise AudioError(msg)

    def _promised_s(self, got_s: float, *, joined: bool) -> float | None:
        stream = self._stream
        if self._format == "ogg":  # by its last page: damaged ones are passed over without a word
            known = isinstance(self._source, Stored) and stream.duration is not None and not joined
            return float(stream.duration * stream.time_base) if known else None
        if self._format in {"wav", "avi"}:
            excess = riff_promise(self._source.head, self._source.size)
            return None if excess is None else excess * got_s
        if self._format == "mp3":
            frames, rate = mp3_frames(self._source.head), stream.codec_context.sample_rate
            return None if frames is None else frames * (1152 if rate >= 32_000 else 576) / rate  # MPEG 1; 2 and 2.5
        if self._format in _ESTIMATED:
            return None
        if found := _CLOCK.fullmatch(stream.metadata.get("DURATION", "")):  # Matroska
            hours, minutes, seconds = found.groups()
            return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
        if stream.duration is None:
            return self._length_s if len(self._container.streams) == 1 else None
        return None if self._is_open() else float(stream.duration * stream.time_base)

    def _is_open(self) -> bool:
        """Tell whether the writer of PCM did not know its length."""
        stream, context = self._stream, self._stream.codec_context
        if stream.duration is None or not self._codec.startswith("pcm_"):
            return False
        frames = round(stream.duration * stream.time_base * context.sample_rate)
        return is_open(frames * context.channels * context.format.bytes)

    def _ends_early(self) -> bool:
        """Tell whether the last packet was cut."""
        if self._format == "ogg":
            return isinstance(self._source, Stored) and ends_inside_a_page(_tail(self._source))
        if self._format == "mpegts" and ends_inside_a_packet(self._source.head, self._source.size):
            return True
        # A WAV's size may be anything (and has been looked at), and what follows the last frame of an MP3 as well.
        return self._cut and self._format not in {"wav", "mp3"}


# Formats whose duration FFmpeg computes, or corrects, from what is there.
_ESTIMATED: Final = {
    "aac",
    "ac3",
    "eac3",
    "amr",
    "amrnb",
    "amrwb",
    "dts",
    "mpegts",
    "mpeg",
    "loas",
    "w64",
    "caf",
}


_KINDS: Final = {"u8": "u1", "s16": "i2", "s32": "i4", "s64": "i8", "flt": "f4", "dbl": "f8"}


def _planes(frame: Any) -> npt.NDArray[np.float32]:
    """Return a frame of any sample format as float32 of shape [frames, channels]."""
    data = _stacked(frame) if frame.format.is_planar else frame.to_ndarray().reshape(-1, frame.layout.nb_channels)
    if data.dtype == np.uint8:
        return (data.astype(np.float32) - 128) / 128
    if np.issubdtype(data.dtype, np.integer):
        return data.astype(np.float32) / -float(np.iinfo(data.dtype).min)
    return data.astype(np.float32, copy=False)


def _stacked(frame: Any) -> Any:
    """Return a planar frame's samples, of shape [frames, channels].

    PyAV's own `to_ndarray` and `planes` read on until they find a null pointer, which ends no list of more than 8: they
    would take what lies behind for sound, refuse it, or crash.
    """
    from av.audio.plane import AudioPlane

    kind = np.dtype(_KINDS[frame.format.packed.name])
    planes: list[Any] = [AudioPlane(frame, index) for index in range(frame.layout.nb_channels)]
    return np.stack([np.frombuffer(plane, kind, frame.samples) for plane in planes], 1)


def _tail(source: Stored) -> bytes:
    source.seek(max(0, source.size - _TAIL))
    return source.read(_TAIL)
