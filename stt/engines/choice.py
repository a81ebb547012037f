"""Which Whisper weights `--model auto` takes: the most accurate of those on this machine that keep up with speech."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from stt.engines import speed, whisper
from stt.engines.languages import language_code
from stt.settings import EngineSettings

AUTO: Final = "auto"

PUBLISHED_WER: Final = {
    "tiny.en": 20.1,
    "base.en": 16.9,
    "small.en": 13.7,
    "medium.en": 12.4,
    "large-v1": 12.2,
    "large-v2": 12.1,
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
    sizes = whisper.sizes()
    for name in _BEST_FIRST:
        if name.endswith(".en") and not english:
            continue
        path = whisper.embedded_path() if name == "tiny.en" else whisper.cached(sizes[name]) if name in sizes else None
        if path is not None:
            yield name, path


def open_best(settings: EngineSettings) -> tuple["whisper.Whisper", str]:
    """Open the best model that keeps up, and say why it is this one.

    A model that was never timed on this machine is timed now, which takes some times as long as it needs to load.

    Raises:
        EngineError: one could not be opened, or there is none for the language.

    """
    tried: list[str] = []
    for name, path in here(settings.language):
        found = speed.recall(str(path), settings.device, settings.dtype, settings.threads)
        if found is not None and not found.live:
            tried.append(name)
            continue
        began = time.monotonic()
        model = whisper.Whisper(
            str(path), device=settings.device, dtype=settings.dtype, threads=settings.threads, name=name
        )
        if found is None:
            print(f"timing {name} on this machine, once", file=sys.stderr)
            found = speed.measure(model, time.monotonic() - began)
            speed.remember(str(path), settings.device, settings.dtype, settings.threads, found)
        if found.live:
            why = f"auto: the best here that keeps up: a turn of {speed.TURN_S:g} s in {found.final_s:.2f} s"
            return model, why + (f"; too slow: {', '.join(tried)}" if tried else "")
        model.close()
        tried.append(name)
    if not tried:
        return whisper.Whisper(
            device=settings.device, dtype=settings.dtype, threads=settings.threads
        ), "auto: the only weights here"
    name, path = list(here(settings.language))[-1]
    model = whisper.Whisper(
        str(path), device=settings.device, dtype=settings.dtype, threads=settings.threads, name=name
    )
    return model, "auto: the fastest here, although none keeps up with speech on this machine"
