"""The weights of smart-turn: where they are, and how they come here. Nothing is imported to find out."""

import hashlib
import importlib.util
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from nemo_lite import hub
from nemo_lite.errors import DownloadError as TransferError
from stt.errors import DownloadError, EngineError
from stt.hub import our_errors

NAME: Final = "smart-turn"
REPO: Final = "pipecat-ai/smart-turn-v3"
REVISION: Final = "f766f81d3cfdf7737ac64aad813d91bbfd56bf93"
FILE: Final = "smart-turn-v3.2-cpu.onnx"
BYTES: Final = 8_679_182
LICENCE: Final = "BSD-2-Clause"
LANGUAGES: Final = frozenset(
    "ar bn da de en es fi fr hi id it ja ko mr nl no pl pt ru tr uk vi zh".split()  # noqa: SIM905 - as its card has them
)
"""ISO 639-1 codes of the languages that it was made for."""
_SHA256: Final = "2bb026316b14a660486a75b1733cd3fbab8c2fd0314dc9af7be49f8cca967e4f"
_PACKAGE: Final = "pipecat"
WITHIN_S: Final = 60.0
"""A start does not wait longer for a download."""


def made_for(language: str | None) -> bool:
    """Tell whether the model knows a language by its ISO 639-1 code; of `None`, not known, that is assumed."""
    return language is None or language in LANGUAGES


def find() -> Path | None:
    """Return the file in the hub's cache, or that of an installed `pipecat-ai`; `None`: neither is here."""
    return next((path for path in _places() if path.is_file() and path.stat().st_size == BYTES), None)


def _places() -> Iterator[Path]:
    for revision in (REVISION, None):  # what another program fetched will do, if it is the same file
        if (folder := hub.cached(REPO, [FILE], revision=revision)) is not None:
            yield folder / FILE
    spec = importlib.util.find_spec(_PACKAGE)  # of a package without a dot: it is not executed
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        yield Path(folder, "audio", "turn", "smart_turn", "data", FILE)


def check(path: Path) -> None:
    """Raise `EngineError` unless this is the known file: others have other inputs, or worse."""
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != _SHA256:
        msg = f"{path}: expected SHA-256 {_SHA256[:16]}... of {FILE}, got {found[:16]}..."
        raise EngineError(msg)


def fetch(within_s: float | None = None) -> Path:
    """Return the file, downloading it into the hub's cache where it is not here, with a bar.

    Args:
        within_s: how long to wait for that; `None`: as long as something comes.

    Raises:
        DownloadError: no network, broken off, too slow ...; what has arrived is kept for the next time.
        EngineError: what came is another file.

    """
    if (path := find()) is not None:
        return path
    until = None if within_s is None else time.monotonic() + within_s
    done: list[Path | Exception] = []

    def work() -> None:
        try:
            with our_errors():
                done.append(hub.fetch(REPO, [FILE], revision=REVISION, progress=_Bar(until)) / FILE)
        except Exception as error:  # noqa: BLE001 - handed over
            done.append(error)

    # In a thread: a connection that gives nothing at all would not call the bar either.
    thread = threading.Thread(target=work, name="fetch", daemon=True)
    thread.start()
    thread.join(within_s)
    result = done[0] if done else DownloadError(_too_slow())
    if isinstance(result, Exception):
        raise result
    check(result)
    return result


class _Bar:
    """Shows how far a download is, and ends it when its time is over."""

    def __init__(self, until: float | None) -> None:
        self._until = until
        self._bar: Any = None

    def __call__(self, name: str, done: int, total: int) -> None:
        from tqdm import tqdm

        if self._bar is None:
            self._bar = tqdm(desc=name, total=total, unit="B", unit_scale=True, leave=False, disable=None)
        self._bar.update(done - self._bar.n)
        if self._until is not None and time.monotonic() > self._until:
            self._bar.close()
            raise TransferError(_too_slow())
        if done >= total:
            self._bar.close()


def _too_slow() -> str:
    return f"{REPO} came too slowly; `stt models download {NAME}` takes its time, and goes on where this stopped"
