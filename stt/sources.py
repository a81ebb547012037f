"""Where audio comes from: files, standard input, a microphone. Each is an async iterator of 16 kHz mono pieces."""

import asyncio
import errno
import os
import queue
import re
import shutil
import stat
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

import numpy as np

from stt.audio import SAMPLE_RATE, Resampler, Samples, seconds
from stt.errors import AudioError, DeviceError

STDIN: Final = "-"

_BLOCK_S: Final = 2.0  # of a file at a time: memory stays flat whatever its length, and little is lost at a broken spot
_SNIFF: Final = 12
_UNKNOWN_SIZE: Final = 0x7FFF_0000  # writers that cannot seek back leave 0xFFFFFFFF, 0x7FFFFFFF or close to it


@dataclass(frozen=True, slots=True)
class RawPcm:
    """Headerless little-endian 16-bit PCM, interleaved."""

    rate: int
    channels: int = 1


class FileSource:
    """An audio file, or standard input (`-`), read as a stream: memory does not grow with its length.

    What libsndfile reads (WAV, FLAC, OGG, MP3, AIFF, ...) goes through soundfile, the rest (M4A, MP4, WebM, ...)
    through PyAV. From a pipe, WAV, OGG and raw PCM are heard as they arrive; other formats, which need to be searched
    back and forth, are first copied to a temporary file. Use as a context manager, iterate once.

    Raises:
        AudioError: on opening, the file is missing, empty, not audio ...; while iterating, after the last good piece,
            the file is truncated or damaged.

    """

    def __init__(self, path: str | os.PathLike[str], raw: RawPcm | None = None) -> None:
        self.name = "standard input" if path == STDIN else str(path)
        self.position_s = 0.0
        """Audio handed out so far."""
        self.duration_s: float | None = None
        """`None` where the header does not say."""
        self._close: list[Any] = []
        try:
            file = self._stdin(raw) if path == STDIN else _regular_file(Path(path))
            self._pieces = self._open(file, raw)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        while self._close:
            self._close.pop().close()

    async def __aiter__(self) -> AsyncIterator[Samples]:
        while (piece := await asyncio.to_thread(next, self._pieces, None)) is not None:
            self.position_s += seconds(len(piece))
            yield piece

    def _open(self, file: Path | int, raw: RawPcm | None) -> Iterator[Samples]:
        import soundfile

        class Sequential(soundfile.SoundFile):
            """Reads without looking back.

            soundfile seeks to where it already is after every read of a seekable file. For MP3 that throws the
            decoder out of step: clicks at every block, and complaints of libmpg123 on standard error.
            """

            def seekable(self) -> bool:
                return False

        try:
            if raw is None:
                sound = Sequential(file)
            else:
                sound = Sequential(
                    file, samplerate=raw.rate, channels=raw.channels, format="RAW", subtype="PCM_16", endian="LITTLE"
                )
        except soundfile.LibsndfileError as error:
            if isinstance(file, Path):
                return self._open_av(file)
            msg = f"{self.name}: not audio in a format known here ({_reason(error)})"
            raise AudioError(msg) from error
        self._close.append(sound)
        if isinstance(file, Path):  # a pipe's header may promise anything
            self.duration_s = sound.frames / sound.samplerate
        return self._sndfile_pieces(sound, Resampler(sound.samplerate, sound.channels))

    def _sndfile_pieces(self, sound: Any, resampler: Resampler) -> Iterator[Samples]:
        import soundfile

        frames, failure = 0, None
        while True:
            try:
                block = sound.read(round(_BLOCK_S * sound.samplerate), dtype="float32", always_2d=True)
            except soundfile.LibsndfileError as error:
                failure = error
                break
            if not len(block):
                break
            frames += len(block)
            yield resampler.feed(block)
        yield resampler.finish()
        got_s = frames / sound.samplerate
        if failure is not None:
            msg = f"{self.name}: damaged or truncated after {got_s:.1f} s ({_reason(failure)}); the text ends there"
            raise AudioError(msg) from failure
        promised_s = _promised_frames(sound, frames) / sound.samplerate
        if promised_s > got_s:
            msg = f"{self.name}: truncated: {promised_s:.1f} s expected, {got_s:.1f} s found; the text covers those"
            raise AudioError(msg)

    def _open_av(self, path: Path) -> Iterator[Samples]:
        import av
        from av.error import FFmpegError

        try:
            container = av.open(str(path))
        except FFmpegError as error:
            msg = f"{path}: not audio in a format known here; expected WAV, FLAC, OGG, MP3, M4A, WebM or the like"
            raise AudioError(msg) from error
        self._close.append(container)
        if not container.streams.audio:
            msg = f"{path}: has no audio track, only {', '.join(s.type for s in container.streams) or 'nothing'}"
            raise AudioError(msg)
        if container.duration:
            self.duration_s = container.duration / av.time_base
        return self._av_pieces(container)

    def _av_pieces(self, container: Any) -> Iterator[Samples]:
        import av
        from av.error import FFmpegError

        stream = container.streams.audio[0]
        # FFmpeg brings any sample format to planar float; rate and channels go through our resampler, as everywhere.
        planar = av.AudioResampler(format="fltp")
        resampler: Resampler | None = None
        failure = None
        try:
            for frame in container.decode(stream):
                resampler = resampler or Resampler(frame.sample_rate, frame.layout.nb_channels)
                for converted in planar.resample(frame):
                    yield resampler.feed(np.asarray(converted.to_ndarray().T, np.float32))
        except FFmpegError as error:
            failure = error
        if resampler is not None:
            yield resampler.finish()
        if failure is not None:
            msg = f"{self.name}: damaged or truncated after {self.position_s:.1f} s ({failure}); the text ends there"
            raise AudioError(msg) from failure

    def _stdin(self, raw: RawPcm | None) -> Path | int:
        if sys.stdin is None or sys.stdin.isatty():
            msg = "standard input is a terminal, expected audio: `stt file - < recording.wav`"
            raise AudioError(msg)
        fd = sys.stdin.fileno()
        if raw is not None or stat.S_ISREG(os.fstat(fd).st_mode):
            return fd
        head = b""
        while len(head) < _SNIFF and (more := os.read(fd, _SNIFF - len(head))):
            head += more
        if not head:
            msg = "standard input: empty, expected audio"
            raise AudioError(msg)
        if head.startswith((b"RIFF", b"OggS")):
            return _rejoin(head, fd)
        copy: IO[bytes] = tempfile.NamedTemporaryFile(prefix="stt-stdin-")  # noqa: SIM115 - closed with the source
        self._close.append(copy)
        copy.write(head)
        with os.fdopen(os.dup(fd), "rb") as rest:
            shutil.copyfileobj(rest, copy)
        copy.flush()
        return Path(copy.name)


def _regular_file(path: Path) -> Path:
    """Check what libsndfile would call `System error` or `Format not recognised`, and say what it is."""
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            msg = f"{path}: is a directory, expected an audio file (`{path}/*` takes the files in it)"
            raise AudioError(msg)
        if stat.S_ISREG(status.st_mode) and not status.st_size:
            msg = f"{path}: empty (0 bytes), expected audio"
            raise AudioError(msg)
        with path.open("rb"):
            return path
    except OSError as error:
        what = {errno.ENOENT: "no such file", errno.EACCES: "no permission to read it"}
        msg = f"{path}: {what.get(error.errno or 0, error.strerror)}"
        raise AudioError(msg) from error


def _rejoin(head: bytes, fd: int) -> int:
    """Return a pipe that carries `head` and then all of `fd`: looking at the first bytes has taken them out."""
    reader, writer = os.pipe()

    def copy() -> None:
        with os.fdopen(os.dup(fd), "rb", buffering=0) as rest, os.fdopen(writer, "wb", buffering=0) as joined:
            try:
                joined.write(head)
                while data := rest.read(65536):
                    joined.write(data)
            except BrokenPipeError:  # the source was closed before its end
                pass

    threading.Thread(target=copy, name="stdin", daemon=True).start()
    return reader


def _promised_frames(sound: Any, got: int) -> int:
    """How many frames the header promises. libsndfile corrects a WAV's header in silence, but tells in its log."""
    if got < sound.frames < _UNKNOWN_SIZE:
        return sound.frames
    for claimed, actual in re.findall(r"(?:data|SSND|Data Size)\s*: (\d+) \(should be (\d+)\)", sound.extra_info):
        # A writer that pads or could not seek back is off by a few bytes, or by all of 32 bits.
        if int(actual) + 1024 < int(claimed) < _UNKNOWN_SIZE:
            return got * int(claimed) // max(1, int(actual))
    return got


def _reason(error: Any) -> str:
    return str(getattr(error, "error_string", error)).strip().rstrip(".")


@dataclass(frozen=True, slots=True)
class InputDevice:
    """A microphone as PortAudio lists it."""

    index: int
    name: str
    api: str
    """The system's sound interface it is reached by: ALSA, Core Audio ..."""
    channels: int
    rate: int
    is_default: bool


# PortAudio may be called from several threads, but not to open, close or list at the same time.
_PORTAUDIO: Final = threading.Lock()


def input_devices(*, rescan: bool = False) -> list[InputDevice]:
    """List the microphones.

    Args:
        rescan: look again. PortAudio looks once, when it is first used; what was plugged in later is found only after
            it has been shut down and started, which ends every open stream: close them before.

    Raises:
        DeviceError: PortAudio is not installed or does not start.

    """
    sounddevice = import_sounddevice()
    with _PORTAUDIO:
        try:
            if rescan:
                sounddevice._terminate()  # noqa: SLF001 - the documented way (sounddevice issue 16); there is no other
                sounddevice._initialize()  # noqa: SLF001
            devices: Any = [device for device in sounddevice.query_devices() if device["max_input_channels"] > 0]
            apis: Any = sounddevice.query_hostapis()
        except sounddevice.PortAudioError as error:
            msg = f"the sound system does not answer ({_portaudio(error)})"
            raise DeviceError(msg) from error
        try:
            default = sounddevice.query_devices(kind="input")["index"]
        except (ValueError, sounddevice.PortAudioError):  # there is none
            default = None
    return [
        InputDevice(
            index=device["index"],
            name=device["name"],
            api=apis[device["hostapi"]]["name"],
            channels=device["max_input_channels"],
            rate=round(device["default_samplerate"]),
            is_default=device["index"] == default,
        )
        for device in devices
    ]


def find_device(wanted: int | str | None, devices: list[InputDevice]) -> InputDevice:
    """Choose by index, by name or a part of it (case does not matter), or the system's default (`None`).

    Raises:
        DeviceError: no device fits, or a part of a name fits several.

    """
    if not devices:
        raise DeviceError("no microphone found" + _unreadable())
    listed = ", ".join(f"{device.index} {device.name}" for device in devices)
    if wanted is None:
        found = [device for device in devices if device.is_default] or devices[:1]
    elif isinstance(wanted, int) or wanted.isdecimal():
        found = [device for device in devices if device.index == int(wanted)]
    else:
        found = [device for device in devices if device.name == wanted] or [
            device for device in devices if wanted.casefold() in device.name.casefold()
        ]
    if not found:
        msg = f"no microphone {wanted!r}; there are: {listed}"
        raise DeviceError(msg)
    if len(found) > 1:
        msg = f"several microphones fit {wanted!r}: {', '.join(f'{d.index} {d.name}' for d in found)}; give the number"
        raise DeviceError(msg)
    return found[0]


class Microphone:
    """A live input device. Use as a context manager, iterate once; it goes on until it is closed or fails.

    `overruns` counts the blocks that were lost because nobody took them in time: with the bounded queue between the
    audio thread and the session, a slow engine costs a bounded delay and then counted gaps, never memory.

    Raises:
        DeviceError: PortAudio is missing, there is no such device, it is busy, or (while iterating) it is gone or no
            longer sends sound.

    """

    _QUEUE_S: Final = 30.0
    _BLOCK_S: Final = 0.02
    _STALLED_S: Final = 2.0  # a device that is suspended, or pulled out of a sound server, may just stop to send

    def __init__(self, device: int | str | None = None) -> None:
        found = find_device(device, input_devices())
        self.name = found.name
        self.channels = min(2, found.channels)
        self.overruns = 0
        self._blocks: queue.Queue[np.ndarray | None] = queue.Queue(round(self._QUEUE_S / self._BLOCK_S))
        self._closed = False
        sounddevice = import_sounddevice()
        # The device's own rate first; some name one that they then refuse.
        rates = list(dict.fromkeys((found.rate, 48_000, 44_100, SAMPLE_RATE)))
        for self.rate in rates:
            try:
                with _PORTAUDIO:
                    self._stream: Any = sounddevice.InputStream(
                        samplerate=self.rate,
                        device=found.index,
                        channels=self.channels,
                        dtype="float32",
                        blocksize=round(self._BLOCK_S * self.rate),
                        callback=self._heard,
                        finished_callback=self._ended,
                    )
                    self._stream.start()
                break
            except sounddevice.PortAudioError as error:
                if _code(error) == _INVALID_RATE and self.rate != rates[-1]:
                    continue
                busy = " (is another program using it?)" if _code(error) in _BUSY else ""
                msg = f"cannot open {self.name!r}: {_portaudio(error)}{busy}"
                raise DeviceError(msg) from error
        self._resampler = Resampler(self.rate, self.channels)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop recording; the iteration ends with what was heard until now. Any thread may call it, more than once."""
        with _PORTAUDIO:
            if self._closed:
                return  # PortAudio has freed the stream
            self._closed = True
            self._stream.close()
        self._ended()

    @property
    def backlog_s(self) -> float:
        """Sound that was recorded and not yet taken."""
        return self._blocks.qsize() * self._BLOCK_S

    async def __aiter__(self) -> AsyncIterator[Samples]:
        failure: DeviceError | None = None
        while True:
            try:
                block = await asyncio.to_thread(self._blocks.get, timeout=self._STALLED_S)
            except queue.Empty:
                failure = DeviceError(f"{self.name!r} sends no sound any more (suspended, or unplugged?)")
                break
            if block is None:
                if not self._closed:
                    failure = DeviceError(f"{self.name!r} is gone (unplugged?)")
                break
            yield self._resampler.feed(block)
        yield self._resampler.finish()
        if failure is not None:
            raise failure

    def _heard(self, data: np.ndarray, frames: int, when: Any, status: Any) -> None:  # noqa: ARG002 - PortAudio's
        """Runs on the audio thread: hand over and return."""
        if status:
            self.overruns += 1
        try:
            self._blocks.put_nowait(data.copy())
        except queue.Full:
            self.overruns += 1

    def _ended(self) -> None:
        while True:
            try:
                self._blocks.put_nowait(None)
                break
            except queue.Full:
                self._blocks.get_nowait()


class Level:
    """What a device hears just now, for choosing one: `peak`, the largest absolute sample of the latest block.

    Raises:
        DeviceError: it cannot be opened.

    """

    def __init__(self, device: InputDevice) -> None:
        sounddevice = import_sounddevice()
        self.peak = 0.0
        try:
            with _PORTAUDIO:
                self._stream: Any = sounddevice.InputStream(
                    samplerate=device.rate, device=device.index, channels=1, dtype="float32", callback=self._heard
                )
                self._stream.start()
        except sounddevice.PortAudioError as error:
            raise DeviceError(_portaudio(error)) from error

    def close(self) -> None:
        """Let go of the device."""
        with _PORTAUDIO:
            self._stream.close()

    def _heard(self, data: np.ndarray, frames: int, when: Any, status: Any) -> None:  # noqa: ARG002 - PortAudio's
        self.peak = float(np.abs(data).max())


# pa_error codes of portaudio.h
_INVALID_RATE: Final = -9997
_BUSY: Final = (-9985, -9999)  # device unavailable; unanticipated host error (ALSA's "device or resource busy")


def _code(error: Exception) -> int | None:
    return error.args[1] if len(error.args) > 1 and isinstance(error.args[1], int) else None


def _portaudio(error: Exception) -> str:
    """Say what PortAudio said, without its own prefix and numbers."""
    text = str(error.args[0]) if error.args else str(error)
    return re.sub(r"^Error (opening|starting) \w+: ", "", text).strip()


def _unreadable() -> str:
    """Tell whether Linux has sound devices that this user may not open."""
    nodes = list(Path("/dev/snd").glob("pcm*c"))
    if nodes and not any(os.access(node, os.R_OK | os.W_OK) for node in nodes):
        return " (there is one, but no permission to open /dev/snd; `sudo usermod -aG audio $USER`, then log in again)"
    return ""


def import_sounddevice() -> Any:
    """Import sounddevice, or say how to install the PortAudio library that it needs.

    Raises:
        DeviceError: PortAudio is not installed, or fails to start.

    """
    try:
        import sounddevice
    except OSError as error:
        msg = f"microphones need the PortAudio library ({error}); on Debian: apt-get install libportaudio2"
        raise DeviceError(msg) from error
    except Exception as error:  # sounddevice starts PortAudio as it is imported; its error class is then out of reach
        if type(error).__name__ != "PortAudioError":
            raise
        msg = f"the sound system does not start ({_portaudio(error)})"
        raise DeviceError(msg) from error
    return sounddevice


async def paced(pieces: AsyncIterator[Samples], piece_s: float = 0.02) -> AsyncIterator[Samples]:
    """Hand audio out in pieces of `piece_s`, at the pace at which it would be spoken."""
    loop = asyncio.get_running_loop()
    size, began, sent, rest = round(piece_s * SAMPLE_RATE), loop.time(), 0, np.zeros(0, np.float32)
    async for piece in pieces:
        rest = np.concatenate((rest, piece))
        while len(rest) >= size:
            sent += size
            await asyncio.sleep(began + seconds(sent) - loop.time())
            yield rest[:size]
            rest = rest[size:]
    if len(rest):
        yield rest
