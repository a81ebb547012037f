"""Where the text of a recording goes, and how no other file is harmed on the way there.

A regular file is written beside its name and put in its place once it is complete: it is never half there, and what it
replaces keeps its mode, its owner and the symbolic links that lead to it. What is no regular file (a terminal, a FIFO,
a device, an open descriptor like /dev/stdout) cannot be replaced, so it is written to. New files are for their owner
alone: what people said is private.
"""

import contextlib
import errno
import os
import re
import stat
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from mimetypes import MimeTypes
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TextIO

from stt.errors import OutputError, SettingsError, reason
from stt.outputs import FORMATS
from stt.sources import STDIN, printable

STDOUT: Final = "-"
_STDOUT_NAME: Final = "standard output"

_DESCRIPTOR: Final = re.compile(r"(?:/dev/fd|/proc/self/fd)/(\d{1,9})")
_NAMED_DESCRIPTORS: Final = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}
_PLAIN: Final = ("text/plain", "text/markdown")
_MOST_LINKS: Final = 40  # what Linux follows


@dataclass(frozen=True, slots=True)
class Destination:
    """Standard output (`path` is `None`), or what a path leads to."""

    path: Path | None = None

    @property
    def name(self) -> str:
        return _STDOUT_NAME if self.path is None else printable(self.path)

    @property
    def descriptor(self) -> int | None:
        """The open file that is meant by itself, not by a path to it; `None`: there is a path."""
        return sys.stdout.fileno() if self.path is None else _descriptor(self.path)

    def status(self) -> os.stat_result | None:
        """Describe what is there; `None`: nothing yet.

        Raises:
            OutputError: the descriptor is closed, the links lead nowhere ...

        """
        with _told(self.name):
            if self.descriptor is not None:
                return os.fstat(self.descriptor)
            assert self.path is not None  # noqa: S101 - for the type checker
            try:
                return self.path.stat()
            except FileNotFoundError:
                return None

    def open(self) -> "Output":
        """Begin to write; waits for a reader where a FIFO has none.

        Raises:
            OutputError: it cannot be written.

        """
        with _told(self.name):
            if self.path is None:
                return Output(self.name, sys.stdout, close=False)
            if self.descriptor is not None:
                return Output(self.name, _text(os.dup(self.descriptor)))
            there = self.status()
            if there is not None and not stat.S_ISREG(there.st_mode):
                return Output(self.name, _text(os.open(self.path, os.O_WRONLY)))
            target = Path(os.path.realpath(self.path))
            make_private_folder(target.parent)
            return _replacement(self.name, target, there)


class Output:
    """A text on its way: a context manager that completes it, or, where the block raises, leaves what was there."""

    def __init__(
        self, name: str, file: TextIO, *, close: bool = True, complete: Callable[[bool], None] = lambda _: None
    ) -> None:
        self._name, self._file, self._close, self._complete = name, file, close, complete
        self.encoding = file.encoding
        self.completed = False

    def write(self, text: str) -> None:
        """Write at once, so that a reader has it as soon as it is known.

        Raises:
            OutputError: the disk is full, the reader is gone ...
            BrokenPipeError: the reader of standard output is gone.

        """
        with _told(self._name):
            self._file.write(text)
            self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError) if kind is not None else _told(self._name):
            try:
                if self._close:
                    self._file.close()
            except BaseException:
                self._complete(False)
                raise
            self._complete(kind is None)
            self.completed = kind is None


def kind_of(output: str, fallback: str | None = None) -> str | None:
    """Return the format that the suffix of an output's name asks for; `fallback`: it asks for none.

    Raises:
        SettingsError: it asks for one that is written by others (.pdf, .csv, .wav), and there is none to fall back on.

    """
    suffix = "" if output.endswith(("/", os.sep)) else Path(output).suffix.removeprefix(".").lower()
    if suffix in FORMATS:
        return suffix
    # A folder may have dots in its name; a FIFO or a device is called as it is; what nobody knows (mktemp) is no wish.
    wanted = MimeTypes().guess_type(f"_.{suffix}", strict=False)[0] or "text/plain"
    if wanted not in _PLAIN and fallback is None and (_is(stat.S_ISREG, output) or not os.path.lexists(output)):
        known = ", ".join(f".{kind}" for kind in FORMATS)
        msg = f"--output {output}: expected a name that ends in one of {known}, got .{suffix}; or say --format"
        raise SettingsError(msg)
    return fallback


def destinations(inputs: Sequence[str], output: str, kind: str) -> list[Destination]:
    """Say where each input's text goes, having looked that none is an input, nor another's destination.

    Args:
        inputs: paths, or `-` for standard input.
        output: `-` for standard output, a file, or a directory, which takes a file for each input.
        kind: the format, which is the suffix of files in a directory.

    Raises:
        SettingsError: it cannot be done, or would harm an input.
        OutputError: the output cannot be looked at.

    """
    chosen = _chosen(inputs, output, kind)
    read = {identity: path for path in inputs if (identity := _input_identity(path)) is not None}
    for destination in chosen:
        there = destination.status()
        if there is not None and (path := read.get((there.st_dev, there.st_ino))) is not None:
            told = _STDOUT_NAME if destination.path is None else f"--output {destination.path}"
            msg = f"{told}: is the input {'standard input' if path == STDIN else path} itself; give another name"
            raise SettingsError(msg)
    return chosen


def _chosen(inputs: Sequence[str], output: str, kind: str) -> list[Destination]:
    directory = Path(output)
    one = Destination(None if output == STDOUT else directory)
    if output == STDOUT or one.descriptor is not None:
        if len(inputs) > 1 and kind in ("srt", "vtt"):
            msg = (
                f"--format {kind}: expected one input for {one.name}, got {len(inputs)}; --output DIR/ writes one each"
            )
            raise SettingsError(msg)
        return [one] * len(inputs)
    if not (output.endswith(("/", os.sep)) or _is(stat.S_ISDIR, output)):
        if len(inputs) > 1:
            msg = f"--output {output}: expected a directory for {len(inputs)} inputs (end its name with / to make it)"
            raise SettingsError(msg)
        return [one]
    names = ["stdin" if path == STDIN else Path(path).name for path in inputs]
    stems = Counter(Path(name).stem for name in names)
    # talk.wav and talk.mp3 in one run: keep both apart as talk.wav.txt and talk.mp3.txt
    paths = [directory / f"{name if stems[Path(name).stem] > 1 else Path(name).stem}.{kind}" for name in names]
    real = Counter(os.path.realpath(path) for path in paths)
    twice = [str(path) for path in paths if real[os.path.realpath(path)] > 1]
    if twice:
        msg = f"--output {output}: several inputs would be written to {twice[0]}"
        raise SettingsError(msg)
    return [Destination(path) for path in paths]


def _is(kind: Callable[[int], bool], path: str) -> bool:
    """Tell whether a path leads to a file of this kind; what cannot be looked at does not, and is told when opened."""
    try:
        return kind(os.stat(path).st_mode)  # noqa: PTH116 - names that are no UTF-8, too
    except OSError:
        return False


def _input_identity(path: str) -> tuple[int, int] | None:
    """Tell an input from other files, whatever its names; `None`: nothing that writing would harm."""
    try:
        status = os.fstat(0) if path == STDIN else os.stat(path)  # noqa: PTH116 - names that are no UTF-8, too
    except OSError:
        return None  # the source will say what is wrong with it
    harmed = any(kind(status.st_mode) for kind in (stat.S_ISREG, stat.S_ISFIFO, stat.S_ISBLK))
    return (status.st_dev, status.st_ino) if harmed else None


def _descriptor(path: Path) -> int | None:
    """Return the number of the descriptor that a path stands for (/dev/stdout, the shell's `>(...)`), also by links."""
    at = os.path.abspath(path)  # noqa: PTH100 - without following links
    for _ in range(_MOST_LINKS):
        if at in _NAMED_DESCRIPTORS:
            return _NAMED_DESCRIPTORS[at]
        if found := _DESCRIPTOR.fullmatch(at):
            return int(found[1])
        try:
            at = os.path.normpath(os.path.join(os.path.dirname(at), os.readlink(at)))  # noqa: PTH115, PTH118, PTH120
        except OSError:
            return None
    return None


def _replacement(name: str, target: Path, there: os.stat_result | None) -> Output:
    """Open a file beside the target, which takes its place in the end; or the target itself, where that cannot be."""
    if there is not None and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(target))
    try:
        # By a name that nobody else has: a file that happens to be called so is somebody's, an input perhaps.
        fd, beside = tempfile.mkstemp(prefix=f"{target.name[:40]}.", suffix=".part", dir=target.parent)
    except PermissionError:
        if there is None:
            raise
        return Output(name, _text(os.open(target, os.O_WRONLY | os.O_TRUNC)))
    part = Path(beside)
    try:
        if there is not None and not (_kept(fd, there) and not target.is_mount()):
            os.close(fd)
            part.unlink()
            return Output(name, _text(os.open(target, os.O_WRONLY | os.O_TRUNC)))
    except BaseException:
        part.unlink(missing_ok=True)
        raise

    def complete(whole: bool) -> None:
        try:
            if whole:
                part.replace(target)
        finally:
            part.unlink(missing_ok=True)

    return Output(name, _text(fd), complete=complete)


def _kept(fd: int, there: os.stat_result) -> bool:
    """Give a file the owner and mode of the one it is to replace; says whether that was allowed."""
    try:
        new = os.fstat(fd)
        if (new.st_uid, new.st_gid) != (there.st_uid, there.st_gid):
            os.fchown(fd, there.st_uid, there.st_gid)
        os.fchmod(fd, stat.S_IMODE(there.st_mode))
    except PermissionError:
        return False
    return True


def make_private_folder(folder: Path) -> None:
    """Make a folder, and those it lies in, for their owner alone; what is there stays as it is."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    for place in reversed(missing):
        place.mkdir(mode=0o700, exist_ok=True)


def _text(fd: int) -> TextIO:
    # A file name may hold what is no UTF-8: it is written as an escape.
    return open(fd, "w", encoding="utf-8", errors="backslashreplace")


@contextlib.contextmanager
def _told(name: str) -> Iterator[None]:
    """Raise what the system says as an error that names the output."""
    try:
        yield
    except OSError as error:
        if isinstance(error, OutputError) or (isinstance(error, BrokenPipeError) and name == _STDOUT_NAME):
            raise
        msg = f"{name}: {reason(error)}"
        raise OutputError(msg) from error
