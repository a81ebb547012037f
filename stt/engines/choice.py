"""Which Whisper weights `--model auto` takes: the most accurate of those on this machine that keep up with speech."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stt import machine
from stt.engines import speed, whisper, whisper_weights
from stt.engines.languages import language_code
from stt.errors import EngineError
from stt.settings import EngineSettings

PUBLISHED_WER: Final = {
    "tiny.en": 20.1,
    "base.en": 16.9,
    "small.en": 13.7,
    "medium.en": 12.4,
    "large-v1": 12.2,
    "large-v2": 12.1,
    "large": 11.7,  # v3
    "large-v3": 11.7,
    "large-v3-turbo": 12.1,
    "turbo": 12.1,
}
"""Per cent of words wrong, mean over 14 sets of short English recordings, greedy (OLMoASR report, 2025, table 4)."""

_BEST_FIRST: Final = (
    "large-v3",
    "large-v2",
    "large-v3-turbo",
    "turbo",
    "large-v1",
    "medium.en",
    "medium",
    "small.en",
    "small",
    "base.en",
    "base",
    "tiny.en",
    "tiny",
)


def here(language: str | None) -> Iterator[tuple[str, Path]]:
    """Names and folders of the Whisper models on this machine that know a language, the most accurate first."""
    english = language_code(language) == "en"
    sizes = whisper_weights.sizes()
    for name in _BEST_FIRST:
        if name.endswith(".en") and not english:
            continue
        path = whisper_weights.cached(sizes[name]) if name in sizes else None
        if name == whisper_weights.EMBEDDED:
            with contextlib.suppress(EngineError):  # those of that name on the hub are the same
                path = whisper_weights.embedded_path()
        if path is not None:
            yield name, path


def timed(name: str, path: Path, settings: EngineSettings) -> tuple[whisper.Whisper, speed.Speed]:
    """Open a model and measure how fast it is on this machine.

    That is remembered, unless it is too slow and the machine is busy: it may keep up on another day.

    Raises:
        EngineError: it could not be opened, or failed.

    """
    began = time.monotonic()
    model = _open(name, path, settings)
    found = speed.measure(model, time.monotonic() - began)
    if found.live or not machine.busy():
        speed.remember(path, settings, found)
    else:
        print(f"this machine is busy: {name} will be timed again", file=sys.stderr)
    return model, found


def open_best(settings: EngineSettings) -> tuple[whisper.Whisper, str]:
    """Open the best model that keeps up, and say why it is this one.

    A model that was never timed on this machine is timed now, which takes some times as long as it needs to load.

    Raises:
        EngineError: one could not be opened, or there is none for the language.

    """
    best = _best(settings, lambda found: found.live)
    if best is None:
        model = whisper.Whisper(device=settings.device, dtype=settings.dtype, threads=settings.threads)
        return model, "auto: the only weights here"
    return best.model or _open(best.name, best.path, settings), best.reason


def best_of_pair(settings: EngineSettings, *, interims: bool) -> str:
    """Name the best model for interims, or for what stands where another one has those; timed as by `open_best`.

    Raises:
        EngineError: one could not be opened.

    """
    best = _best(settings, (lambda found: found.live) if interims else (lambda found: found.final))
    if best is None:
        return whisper_weights.EMBEDDED
    if best.model is not None:
        best.model.close()
    return best.name


@dataclass(frozen=True, slots=True)
class _Best:
    name: str
    path: Path
    model: whisper.Whisper | None
    """Open, where it had to be timed."""
    reason: str


def _best(settings: EngineSettings, keeps_up: Callable[[speed.Speed], bool]) -> _Best | None:
    """Choose among those here, and time them where that was never done; `None`: there are none."""
    candidates = list(here(settings.language))
    slow: list[str] = []
    for name, path in candidates:
        model, found = None, speed.recall(path, settings)
        if found is None:
            print(f"timing {name} on this machine, once", file=sys.stderr)
            model, found = timed(name, path, settings)
        if keeps_up(found):
            why = f"auto: the best here that keeps up: a turn of {speed.TURN_S:g} s in {found.final_s:.2f} s"
            return _Best(name, path, model, why + (f"; too slow: {', '.join(slow)}" if slow else ""))
        if model is not None:
            model.close()
        slow.append(name)
    why = "auto: the fastest here, although none keeps up with speech on this machine"
    return _Best(*candidates[-1], None, why) if candidates else None


def _open(name: str, path: Path, settings: EngineSettings) -> whisper.Whisper:
    return whisper.Whisper(str(path), device=settings.device, dtype=settings.dtype, threads=settings.threads, name=name)
