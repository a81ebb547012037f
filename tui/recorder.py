"""Audio to WAV or FLAC as it is heard, readable up to the last second whenever the program ends."""

import struct
from pathlib import Path
from typing import Any, Final, Protocol

from stt.audio import SAMPLE_RATE, Samples, to_pcm16
from stt.errors import SettingsError
from tui import private

FORMATS: Final = ("wav", "flac")


class Recorder(Protocol):
    """A file that audio is appended to."""

    def write(self, audio: Samples) -> None:
        """Append 16 kHz mono audio.

        Raises:
            OSError: the disk is full, or gone.

        """
        ...

    def close(self) -> None: ...


def open_recorder(path: Path) -> Recorder:
    """Make a file for audio; its suffix says of which format.

    Raises:
        OSError: it cannot be made.
        SettingsError: there is no such format.

    """
    private.make_folder(path.parent)
    match path.suffix:
        case ".wav":
            return _Wav(path)
        case ".flac":
            return _Flac(path)
        case _:
            msg = f"recordings are .wav or .flac, got {path.suffix!r}"
            raise SettingsError(msg)


class _Wav:
    """soundfile writes a WAV's sizes when it is closed; here they are right after every second."""

    def __init__(self, path: Path) -> None:
        self._file = private.open_file(path, "xb")
        self._bytes = 0
        self._unflushed = 0
        self._write_header()

    def write(self, audio: Samples) -> None:
        data = to_pcm16(audio)
        self._file.write(data)
        self._bytes += len(data)
        self._unflushed += len(data)
        if self._unflushed >= 2 * SAMPLE_RATE:
            self._write_header()

    def close(self) -> None:
        try:
            self._write_header()
        finally:
            self._file.close()

    def _write_header(self) -> None:
        size = min(self._bytes, 0xFFFF_FFFF - 36)
        head = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + size, b"WAVE", b"fmt ", 16, 1, 1,
                           SAMPLE_RATE, 2 * SAMPLE_RATE, 2, 16, b"data", size)  # fmt: skip
        self._file.seek(0)
        self._file.write(head)
        self._file.seek(0, 2)
        self._file.flush()
        self._unflushed = 0


class _Flac:
    def __init__(self, path: Path) -> None:
        import soundfile

        self._error: Any = soundfile.LibsndfileError
        with private.open_file(path, "xb"):  # soundfile would write over what is there, for all to read
            pass
        self._file = soundfile.SoundFile(path, "w", SAMPLE_RATE, 1, subtype="PCM_16", format="FLAC")

    def write(self, audio: Samples) -> None:
        try:
            self._file.write(audio)
            self._file.flush()
        except self._error as error:
            raise OSError(str(error)) from error

    def close(self) -> None:
        self._file.close()
