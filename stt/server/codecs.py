"""What clients send as audio, turned into PCM that an inbox takes: G.711, PCM of other widths, Opus, containers.

    Encoded -> Decoder.decode -> Audio, Audio ...

What is a table or a shift is done where it is called. FFmpeg (PyAV) works in threads: each raw Opus packet in one of
the loop's, a container in one of its own, which rests whenever it has read all that came. Nothing is held but what was
fed and a second of what became of it; who takes the pieces sets the pace. A stream that stands for more audio than
its bytes could sensibly hold (a decompression bomb) is an error.
"""

import asyncio
import contextlib
import queue
import threading
from collections.abc import AsyncIterator
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from stt.audio import SAMPLE_RATE, Samples, to_pcm16
from stt.errors import AudioError
from stt.server.dialect import MONO_16K, Audio, Codec, Encoded, Format
from stt.sources.ffmpeg import NO_AUDIO, BetterElsewhere, FfmpegAudio
from stt.sources.truncation import index_comes_last

_OPUS_RATE: Final = 48_000  # whatever went in, this is what comes out
# Digital silence, the least of all sounds, takes 19 bytes a second in FLAC at 8 kHz, 5 or so in Opus.
_FEWEST_BYTES_PER_S: Final = 4
_FREE_S: Final = 600.0
_PIECE_BYTES: Final = 64 << 10  # of samples at once: a message may be a file, and whoever takes them sets the pace
_PIECES: Final = 16  # of 0.1 s that a container may be ahead of whoever takes them
_HEAD: Final = 65_536
_INDEX_LAST: Final = (
    "the stream is an MP4 (M4A, MOV) whose index comes after its sound, or is missing, and cannot be heard live; "
    "expected one with its index first (ffmpeg -movflags +faststart), WAV, Ogg, WebM or FLAC, or the file as an upload"
)


class Decoder:
    """The encoded audio of one connection, in order. `close` when it ends."""

    def __init__(self) -> None:
        self._codec: Codec | None = None
        self._rest = b""  # of a sample that is not whole
        self._opus: Any = None
        self._container: _Container | None = None

    async def decode(self, encoded: Encoded) -> AsyncIterator[Audio]:
        """Return what has become audio by it; all of it is to be taken before the next is fed.

        Raises:
            AudioError: it cannot be decoded. Of a container nothing more can be; of an Opus stream the next packet may.

        """
        if encoded.codec != self._codec:
            async for audio in self.finish():
                yield audio
            self._codec = encoded.codec
        match encoded.codec.encoding:
            case "opus":
                yield await asyncio.to_thread(self._packet, encoded.data, encoded.codec)
            case "container":
                self._container = self._container or _Container()
                self._container.feed(encoded.data)
                async for audio in self._contained():
                    yield audio
            case _:
                for at in range(0, len(encoded.data), _PIECE_BYTES):
                    yield self._samples(encoded.data[at : at + _PIECE_BYTES], encoded.codec)

    async def finish(self) -> AsyncIterator[Audio]:
        """Return what was still inside; another stream may begin.

        Raises:
            AudioError: nothing of it was audio.

        """
        self._rest, self._opus, self._codec = b"", None, None
        if self._container is not None:
            self._container.end()
            async for audio in self._contained():
                yield audio
            self._container = None

    def close(self) -> None:
        """Let go of everything; waits for nothing."""
        if self._container is not None:
            self._container.close()

    def _samples(self, data: bytes, codec: Codec) -> Audio:
        size = _WIDTHS[codec.encoding] * codec.channels
        data = self._rest + data if self._rest else data
        whole = len(data) // size * size
        data, self._rest = data[:whole], data[whole:]
        match codec.encoding:
            case "mulaw":
                data = _MULAW[np.frombuffer(data, np.uint8)].tobytes()
            case "alaw":
                data = _ALAW[np.frombuffer(data, np.uint8)].tobytes()
            case "linear32":
                data = (np.frombuffer(data, "<i4") >> 16).astype("<i2").tobytes()
        return Audio(data, Format(codec.rate, codec.channels))

    def _packet(self, data: bytes, codec: Codec) -> Audio:
        import av
        from av.error import FFmpegError

        if self._opus is None:
            self._opus = av.CodecContext.create("opus", "r")
            self._opus.sample_rate = _OPUS_RATE
            self._opus.layout = "mono" if codec.channels == 1 else "stereo"
        try:
            frames = self._opus.decode(av.Packet(data)) if data else []
        except (FFmpegError, ValueError) as error:
            self._opus = None
            msg = f"an Opus packet of {len(data)} bytes cannot be decoded: {error}"
            raise AudioError(msg) from error
        parts = [_interleaved(frame) for frame in frames]
        return Audio(b"".join(parts), Format(_OPUS_RATE, codec.channels))

    async def _contained(self) -> AsyncIterator[Audio]:
        assert self._container is not None  # noqa: S101 - for the type checker
        while (piece := await asyncio.to_thread(self._container.take)) is not None:
            yield Audio(to_pcm16(piece), MONO_16K)


class _Container:
    """A container that arrives in pieces: `feed`, then `take` until `None`, and again; at last `end`."""

    def __init__(self) -> None:
        self.name = "audio"
        self.head = b""
        self.size = 0
        """Bytes fed so far."""
        self._given: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._made: queue.Queue[Samples | AudioError | Literal["hungry", "done"]] = queue.Queue(_PIECES)
        self._resting = True  # the thread waits for bytes, or is no more
        self._ended = False
        # of the thread
        self._ahead = b""
        self._at_end = False
        self._heard_s = 0.0
        self._thread: threading.Thread | None = None
        self._closed = False

    def feed(self, data: bytes) -> None:
        if self._ended or not data:
            return
        self._resting = False
        self.size += len(data)
        self.head += data[: _HEAD - len(self.head)]
        if self._thread is not None:
            self._given.put(data)
            return
        self._ahead = data
        self._thread = threading.Thread(target=self._run, name="container", daemon=True)
        self._thread.start()

    def end(self) -> None:
        if self._thread is not None and not self._ended:
            self._resting = False
            self._given.put(b"")

    def take(self) -> Samples | None:
        """Wait for the next second of audio, or less; `None`: there is no more in what was fed."""
        parts: list[Samples] = []
        while not self._resting and sum(map(len, parts)) < SAMPLE_RATE:
            match self._made.get():
                case np.ndarray() as piece:
                    parts.append(piece)
                case AudioError() as error:
                    raise error
                case state:  # the strings: it waits for more, or is done
                    self._resting, self._ended = True, state == "done"
        return np.concatenate(parts) if parts else None

    def close(self) -> None:
        self._closed = True
        self._given.put(b"")
        with contextlib.suppress(queue.Empty):
            while True:
                self._made.get_nowait()  # the thread shall not wait for anybody to take it

    def read(self, size: int = -1) -> bytes:
        """Return to FFmpeg what is there; wait where nothing is."""
        if not self._ahead and not self._at_end:
            self._put("hungry")
            self._ahead = self._given.get()
            self._at_end = not self._ahead
        if size < 0:
            size = len(self._ahead)
        data, self._ahead = self._ahead[:size], self._ahead[size:]
        return data

    def _put(self, item: Samples | AudioError | Literal["hungry"]) -> None:
        if self._closed:
            raise _ClosedError
        self._made.put(item)

    def _run(self) -> None:
        from av.error import FFmpegError

        try:
            self._decode()
        except _ClosedError:
            pass
        except AudioError as error:
            if not self._heard_s or isinstance(error, _BombError):  # one that breaks off has been heard
                self._fail(error)
        except (FFmpegError, BetterElsewhere, OSError, ValueError):
            self._fail(AudioError(f"the stream is {NO_AUDIO}, or for raw samples their encoding and sample_rate"))
        finally:
            self._made.put("done")

    def _fail(self, error: AudioError) -> None:
        self._made.put(AudioError(_INDEX_LAST) if index_comes_last(self.head) else error)

    def _decode(self) -> None:
        audio = FfmpegAudio(self, "the stream", None)
        try:
            for piece in audio:
                self._heard_s += len(piece) / SAMPLE_RATE
                if self._heard_s > _FREE_S + self.size / _FEWEST_BYTES_PER_S:
                    msg = f"{self.size} bytes stand for more than {self._heard_s:.0f} s of audio: refused"
                    raise _BombError(msg)
                self._put(piece)
        finally:
            audio.close()


class _ClosedError(Exception):
    """Nobody wants to know any more."""


class _BombError(AudioError):
    """More audio than its bytes could sensibly hold."""


_WIDTHS: Final = {"linear16": 2, "linear32": 4, "mulaw": 1, "alaw": 1}


def _interleaved(frame: Any) -> bytes:
    """Return a decoded Opus frame (float, planar) as PCM16LE."""
    return np.clip(frame.to_ndarray().T * 32768.0, -32768, 32767).astype("<i2").tobytes()


def _mulaw() -> npt.NDArray[np.int16]:
    """Return all values of ITU-T G.711 mu-law."""
    code = ~np.arange(256, dtype=np.uint8)
    magnitude = (((code & 0x0F).astype(np.int32) << 3) + 0x84 << ((code & 0x70) >> 4).astype(np.int32)) - 0x84
    return np.where(code & 0x80, -magnitude, magnitude).astype("<i2")


def _alaw() -> npt.NDArray[np.int16]:
    """Return all values of ITU-T G.711 A-law."""
    code = np.arange(256, dtype=np.uint8) ^ 0x55
    mantissa, exponent = (code & 0x0F).astype(np.int32) << 4, ((code & 0x70) >> 4).astype(np.int32)
    magnitude = np.where(exponent == 0, mantissa + 8, (mantissa + 0x108) << np.maximum(exponent - 1, 0))
    return np.where(code & 0x80, magnitude, -magnitude).astype("<i2")


_MULAW: Final = _mulaw()
_ALAW: Final = _alaw()
