"""The bytes of an input: a stored file, which can be searched back and forth, or a pipe, which cannot."""

import errno
import io
import os
import re
import select
import stat
import sys
import tempfile
import threading
from pathlib import Path
from typing import IO, Any, Final

from stt.errors import AudioError

STDIN: Final = "-"

_PIECE: Final = 65_536
_HEAD: Final = 65_536  # what is kept of the beginning: the header, but for pictures in front of it
_SNIFF: Final = 12
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class Stored(io.RawIOBase):
    """A regular file, or what a pipe was copied to."""

    def __init__(self, file: IO[bytes] | io.FileIO, extension: str = "") -> None:
        super().__init__()
        self._file = file
        self.name = "audio"
        """FFmpeg takes the extension of this for a hint."""
        self.extension = extension
        self.size = file.seek(0, os.SEEK_END)
        file.seek(0)
        self.head = file.read(_HEAD)
        file.seek(0)

    def read(self, size: int = -1, /) -> bytes:
        return self._file.read(size)

    def readinto(self, buffer: Any, /) -> int:
        data = self._file.read(memoryview(buffer).nbytes)
        memoryview(buffer)[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        try:
            return self._file.seek(offset, whence)
        except OSError:  # a damaged header sends FFmpeg to places before the beginning; this tells it so
            return -1

    def tell(self) -> int:
        return self._file.tell()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def interrupt(self) -> None:
        """Nothing to wake: a read of a file does not wait."""

    def close(self) -> None:
        self._file.close()
        super().close()


class Pipe:
    """A pipe, a FIFO, a socket or a device. Whoever waits in `read` is woken by `interrupt`."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._woken, self._wake = os.pipe()
        self._interrupted = threading.Event()
        self._ready = select.poll()
        self._ready.register(fd, select.POLLIN)
        self._ready.register(self._woken, select.POLLIN)
        self._ahead = b""
        self.name = "audio"
        self.size = 0
        """Bytes read so far."""
        self.head = b""

    def read(self, size: int = _PIECE) -> bytes:
        """Return what is there, at most `size` bytes, once something is; nothing at the end or when interrupted."""
        if self._ahead:
            data, self._ahead = self._ahead[:size], self._ahead[size:]
            return data
        return self._receive(min(size, _PIECE))

    def peek(self) -> bytes:
        """Wait for the first bytes, and return them without taking them."""
        while len(self._ahead) < _SNIFF and (more := self._receive(_SNIFF)):
            self._ahead += more
        return self._ahead

    def _receive(self, size: int) -> bytes:
        while True:
            self._ready.poll()
            if self._interrupted.is_set():
                return b""
            try:
                data = os.read(self._fd, size)
            except BlockingIOError:  # a FIFO whose writer has nothing to say yet
                continue
            self.size += len(data)
            if len(self.head) < _HEAD:
                self.head += data
            return data

    def spool(self) -> Stored:
        """Copy the rest to a temporary file that has no name and that nobody else can read.

        Raises:
            AudioError: there is no room for it.

        """
        copy = tempfile.TemporaryFile(prefix="stt-")  # noqa: SIM115 - closed with the source
        try:
            while data := self.read():
                copy.write(data)
        except OSError as error:
            copy.close()
            msg = f"cannot be copied to {tempfile.gettempdir()}, which its format needs ({error.strerror})"
            raise AudioError(msg) from error
        return Stored(copy)

    def interrupt(self) -> None:
        """Wake whoever waits in `read`: it is over. Any thread may call it."""
        if not self._interrupted.is_set():
            self._interrupted.set()
            os.write(self._wake, b"\0")

    def close(self) -> None:
        for fd in (self._fd, self._woken, self._wake):
            os.close(fd)


def open_input(path: str | os.PathLike[str]) -> Stored | Pipe:
    """Open a file, or standard input (`-`), without waiting for a pipe's writer.

    Raises:
        AudioError: it is missing, a directory, empty, a terminal, or may not be read; the message names it.

    """
    if path == STDIN:
        if sys.stdin is None or sys.stdin.isatty():
            msg = "standard input is a terminal, expected audio: `stt file - < recording.wav`"
            raise AudioError(msg)
        return _opened(os.dup(sys.stdin.fileno()), "standard input", "")
    name = printable(path)
    try:
        # Opening a FIFO would wait for its writer where nothing can wake us.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        what = {errno.ENOENT: "no such file", errno.EACCES: "no permission to read it"}
        msg = f"{name}: {what.get(error.errno or 0, error.strerror)}"
        raise AudioError(msg) from error
    return _opened(fd, name, Path(path).suffix)


def check_input(path: str | os.PathLike[str]) -> None:
    """See whether a file is there to be opened, before anything that takes long; nothing is taken from a pipe.

    Raises:
        AudioError: as `open_input`.

    """
    # Who opens a FIFO or a device and closes it again disturbs whoever is at its other end.
    there = None if path == STDIN or not os.path.exists(path) else os.stat(path)  # noqa: PTH110, PTH116 - names that are no UTF-8, too
    if there is None or (stat.S_ISREG(there.st_mode) and there.st_size) or stat.S_ISDIR(there.st_mode):
        open_input(path).close()


def _opened(fd: int, name: str, extension: str) -> Stored | Pipe:
    status = os.fstat(fd)
    if stat.S_ISDIR(status.st_mode):
        os.close(fd)
        msg = f"{name}: is a directory, expected an audio file (`{name}/*` takes the files in it)"
        raise AudioError(msg)
    if not stat.S_ISREG(status.st_mode) or os.lseek(fd, 0, os.SEEK_CUR):  # another program has read the beginning
        return Pipe(fd)
    if not status.st_size:
        os.close(fd)
        msg = f"{name}: empty (0 bytes), expected audio"
        raise AudioError(msg)
    return Stored(io.FileIO(fd), extension if extension.isascii() else "")


def printable(path: str | os.PathLike[str]) -> str:
    """Return a name that any terminal takes: what is no UTF-8 in it, or would steer a terminal, is replaced."""
    return _CONTROL.sub("\ufffd", os.fsencode(path).decode("utf-8", "replace"))
