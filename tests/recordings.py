"""Recordings of every kind, made here, and what a FileSource hears in them."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from stt.audio import Samples
from stt.errors import AudioError
from stt.sources import FileSource, RawPcm

CODECS: dict[str, tuple[str, str, int, dict[str, str]]] = {  # by extension: codec, sample format, rate, options
    "aac": ("aac", "fltp", 16_000, {}),
    "avi": ("libmp3lame", "fltp", 16_000, {}),
    "flac": ("flac", "s16", 16_000, {}),
    "flv": ("aac", "fltp", 44_100, {}),
    "m4a": ("aac", "fltp", 16_000, {}),
    "mka": ("flac", "s16", 16_000, {}),
    "mkv": ("aac", "fltp", 16_000, {}),
    "mov": ("pcm_s16le", "s16", 16_000, {}),
    "mp3": ("libmp3lame", "fltp", 16_000, {}),
    "mp4": ("aac", "fltp", 16_000, {"movflags": "faststart"}),
    "ogg": ("libopus", "flt", 48_000, {}),
    "ts": ("aac", "fltp", 16_000, {}),
    "wav": ("pcm_s16le", "s16", 16_000, {}),
    "webm": ("libopus", "flt", 48_000, {}),
}


@dataclass
class Heard:
    audio: Samples
    error: AudioError | None
    """What was wrong, said after the last piece."""
    notices: list[str]
    source: FileSource

    def whole(self) -> Samples:
        assert self.error is None, self.error
        return self.audio


def hear(path: str | Path, raw: RawPcm | None = None, track: int | str | None = None) -> Heard:
    pieces, notices, error = [np.zeros(0, np.float32)], [], None

    async def collect() -> None:
        async for piece in source:
            pieces.append(piece)

    with FileSource(path, raw, track=track, notice=notices.append) as source:
        try:
            asyncio.run(collect())
        except AudioError as raised:
            error = raised
    return Heard(np.concatenate(pieces), error, notices, source)


@dataclass
class Track:
    """`parts`: seconds at which each begins, and what it is."""

    parts: Iterable[tuple[float, Samples]]
    language: str | None = None
    default: bool = False


def encode(path: Path, *tracks: Track | Samples, **options: str) -> Path:
    """Write 16 kHz audio in the container and codec that the extension stands for."""
    import av
    from av.stream import Disposition

    codec, form, rate, its_options = CODECS[path.suffix[1:]]
    packets: list[Any] = []
    with av.open(str(path), "w", options={**its_options, **options}) as out:
        streams = []
        for track in tracks:
            stream: Any = out.add_stream(codec, rate=rate, layout="mono")
            if isinstance(track, Track):
                stream.disposition = Disposition.default if track.default else Disposition(0)
                if track.language:
                    stream.metadata["language"] = track.language
            streams.append(stream)
        out.start_encoding()
        for track, stream in zip(tracks, streams, strict=True):
            for frame in _frames(track if isinstance(track, Track) else Track([(0.0, track)]), stream, form, rate):
                packets += stream.encode(frame)
            packets += stream.encode(None)
        for packet in sorted(packets, key=lambda packet: packet.pts * packet.time_base):
            out.mux(packet)
    return path


def _frames(track: Track, stream: Any, form: str, rate: int) -> Iterable[Any]:
    import av

    size = stream.codec_context.frame_size or 1024
    for begins_s, audio in track.parts:
        at_rate = np.interp(np.arange(len(audio) * rate // 16_000) * 16_000 / rate, np.arange(len(audio)), audio)
        at_rate = np.pad(at_rate, (0, -len(at_rate) % size))
        for at in range(0, len(at_rate), size):
            data = at_rate[None, at : at + size]
            data = (data * 32767).astype(np.int16) if form == "s16" else data.astype(np.float32)
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(data), format=form, layout="mono")
            frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
            frame.pts = round(begins_s * rate) + at
            yield frame


def tones(seconds: float, hz: float = 440, rate: int = 16_000) -> Samples:
    """A steady tone: what is missing or moved shows."""
    return (0.3 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def sounding(audio: Samples, threshold: float = 0.05) -> list[tuple[float, float]]:
    """Where there is sound, as pairs of seconds; pauses of less than 50 ms count as sound."""
    loud = np.flatnonzero(np.abs(audio) > threshold)
    if not len(loud):
        return []
    ends = np.flatnonzero(np.diff(loud) > 800)
    begins = [loud[0], *loud[ends + 1]]
    return [(a / 16_000, b / 16_000) for a, b in zip(begins, [*loud[ends], loud[-1]], strict=True)]
