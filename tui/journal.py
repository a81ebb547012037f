"""Records on disk, one JSON object a line: the autosaved session, what `--replay` plays, and what `r` writes beside
the audio are the same format.

A line is written as its record happens and handed to the system at once, so that a crash or a closed terminal loses
nothing; of a line cut off by a full disk or a power failure the reader takes what stands before it.

    {"t": 3.21, "is": "Heard", "stretch": 0, "event": {"is": "TurnStarted", "turn": 0, "start": 8192}}
"""

import fcntl
import itertools
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import MISSING, asdict, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import NoneType, TracebackType
from typing import IO, Any, Final, Literal, Self, get_args, get_origin, get_type_hints

from stt.errors import SttError
from stt.events import (
    RecognitionFailed,
    TranscriptChanged,
    TurnCompleted,
    TurnPaused,
    TurnResumed,
    TurnStarted,
)
from tui import private
from tui.document import Cleared, Document, Edited, Heard, Record, StretchBegan, Undone, Unfinished

_SUFFIX: Final = ".jsonl"
_RECORDS: Final = {kind.__name__: kind for kind in (StretchBegan, Edited, Cleared, Undone, Unfinished)}
_EVENTS: Final = {
    kind.__name__: kind
    for kind in (TurnStarted, TranscriptChanged, TurnPaused, TurnResumed, TurnCompleted, RecognitionFailed)
}

_MOST: Final = 1e11  # of any number: in seconds since the epoch the year 5138, beyond which no clock shows anything
_ABSENT: Final = {NoneType, Ellipsis}  # in the type of what may be missing: `X | None`, `tuple[X, ...]`


class JournalError(SttError, ValueError):
    """A journal cannot be read or written."""


def encode(at_s: float, record: Record) -> str:
    """Write a record as a line; `at_s`: seconds since the journal began."""
    line: dict[str, Any] = {"t": round(at_s, 3), "is": type(record).__name__}
    if isinstance(record, Heard):
        line |= {"stretch": record.stretch, "event": {"is": type(record.event).__name__} | asdict(record.event)}
    else:
        line |= asdict(record)
    return json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n"


def decode(line: str) -> tuple[float, Record]:
    """Undo `encode`.

    Raises:
        ValueError, KeyError, TypeError: the line is not a record.

    """
    found = json.loads(line)
    if not isinstance(found, dict):
        msg = f"expected a JSON object, got {type(found).__name__}"
        raise TypeError(msg)
    at_s, kind = _scalar(float, found["t"]), found["is"]
    if kind != "Heard":
        return at_s, rebuilt(_RECORDS[kind], found)
    event: dict[str, Any] = found["event"]
    return at_s, Heard(_scalar(int, found["stretch"]), rebuilt(_EVENTS[event["is"]], event))


def rebuilt(kind: Any, value: Any) -> Any:
    """Return the value of type `kind` that `asdict` and JSON made `value` of.

    Journals outlive versions of the program: a field that is not known here is left out, and a list or an optional
    value that an older version did not write is empty.

    Raises:
        TypeError: it was made of something else.

    """
    if isinstance(kind, type) and is_dataclass(kind):
        if not isinstance(value, dict):
            msg = f"expected a JSON object for {kind.__name__}, got {type(value).__name__}"
            raise TypeError(msg)
        hints, given = _hints(kind), {}
        for field in fields(kind):
            if field.name in value:
                given[field.name] = rebuilt(hints[field.name], value[field.name])
            elif field.default is MISSING and (absent := _ABSENT & set(get_args(hints[field.name]))):
                given[field.name] = None if NoneType in absent else ()
        return kind(**given)
    inner = [argument for argument in get_args(kind) if argument not in (NoneType, Ellipsis)]
    origin = get_origin(kind)
    if origin is None:
        return _scalar(kind, value)
    if origin is Literal:  # a newer version may know more of them
        return _scalar(str, value)
    if NoneType in get_args(kind):
        return None if value is None else rebuilt(inner[0], value)
    if isinstance(value, list):
        return tuple(rebuilt(inner[0], item) for item in value)
    msg = f"expected a JSON array, got {type(value).__name__}"
    raise TypeError(msg)


def _scalar(kind: type, value: Any) -> Any:
    """Return a number, a text or a truth value if it is one, and within what clocks can show.

    Raises:
        TypeError: it is another.

    """
    if kind is float and type(value) is int:
        value = float(value) if abs(value) < _MOST else value
    if type(value) is not kind or (isinstance(value, int | float) and not abs(value) < _MOST):  # NaN is not less
        msg = f"expected {kind.__name__}, got {value!r:.60}"
        raise TypeError(msg)
    return value


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def read(path: Path) -> tuple[list[tuple[float, Record]], int]:
    """Return the records with their times, and how many lines could not be read.

    Raises:
        JournalError: there is no such file, it may not be read, or it holds no record at all.

    """
    records: list[tuple[float, Record]] = []
    bad = 0
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                try:
                    records.append(decode(line))
                except (ValueError, KeyError, TypeError):
                    bad += 1
    except OSError as error:
        msg = f"{path}: {error.strerror}"
        raise JournalError(msg) from error
    if bad and not records:
        msg = f"{path}: expected a session recorded by `stt tui` (one JSON record a line), found none"
        raise JournalError(msg)
    return records, bad


def replayed(records: Iterable[tuple[float, Record]]) -> Document:
    """Return the document that records lead to."""
    document = Document()
    for _, record in records:
        document.apply(record)
    return document


class Journal:
    """A file that grows by a line per record. Use as a context manager; made at the first record.

    Once a write has failed, `failure` says why, and later writes try again.

    Args:
        path: of the file; it is gone on with where it is there.
        new: it must not be there: if another program has made one of that name by then, this one gets a number.
        monotonic: seconds of a clock.
        at_s: where a resumed journal goes on.

    """

    def __init__(
        self, path: Path, *, new: bool = False, monotonic: Callable[[], float] = time.monotonic, at_s: float = 0.0
    ) -> None:
        self.path = path
        self._new = new
        self.failure = ""
        self._file: Any = None
        self._monotonic = monotonic
        self._began = monotonic() - at_s

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def write(self, record: Record) -> None:
        """Append a record; trouble with the disk is kept in `failure`: listening goes on without."""
        line = encode(self._monotonic() - self._began, record).encode()
        try:
            if self._file is None:
                private.make_folder(self.path.parent)
                if self._new:
                    self.path, self._file = _made(self.path)
                    self._new = False
                else:
                    self._file = private.open_file(self.path, "ab", buffering=0)
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # two programs must not mix their turns
                line = _after_torn_line(self.path) + line
            self._file.write(line)
            self.failure = ""
        except OSError as error:
            in_use = isinstance(error, BlockingIOError)
            self.failure = f"{self.path}: {'another stt tui writes to it' if in_use else error.strerror}"
            self.close()

    def close(self) -> None:
        """Let go of the file; the next record opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _numbered(path: Path) -> Iterator[Path]:
    """Yield a path, and then ones like it with a number."""
    yield path
    for number in itertools.count(1):
        yield path.with_stem(f"{path.stem}_{number}")


def _made(path: Path) -> tuple[Path, IO[bytes]]:
    """Make a file that nobody has made, by this name or one like it."""
    for free in _numbered(path):
        with suppress(FileExistsError):
            return free, private.open_file(free, "xb", buffering=0)
    raise AssertionError  # there is always another number


def _after_torn_line(path: Path) -> bytes:
    """Return the line break that a file lacks whose last line was cut off."""
    with path.open("rb") as file:
        if not file.seek(0, os.SEEK_END):
            return b""
        file.seek(-1, os.SEEK_END)
        return b"" if file.read(1) == b"\n" else b"\n"


def in_use(path: Path) -> bool:
    """Whether a program writes to a journal just now."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def sessions_folder() -> Path:
    """Where sessions are saved as they grow: `$XDG_DATA_HOME/stt/sessions`, or the system's like of it."""
    from platformdirs import user_data_path

    return user_data_path("stt", appauthor=False) / "sessions"


def new_path(folder: Path, wall_s: float) -> Path:
    """Name a new session after the time; a second one in the same second gets a number."""
    stem = time.strftime("%Y-%m-%d_%H-%M-%S", time.localtime(wall_s))
    return next(path for path in _numbered(folder / f"{stem}{_SUFFIX}") if not path.exists())


def latest(folder: Path) -> Path:
    """Return the session written to last.

    Raises:
        JournalError: there is none.

    """
    found = [path for path in folder.glob(f"*{_SUFFIX}") if path.stat().st_size]
    if not found:
        msg = f"no saved session to resume in {folder}"
        raise JournalError(msg)
    return max(found, key=lambda path: path.stat().st_mtime)
