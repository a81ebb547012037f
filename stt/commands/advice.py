"""What a first run teaches: that weights better than the embedded ones exist, once, in one line."""

import os
import sys
from pathlib import Path
from typing import Final

from stt.machine import cores
from stt.settings import EngineSettings

# From the sizes of the models (39, 74 and 244 million parameters) and 17 times real time with tiny.en on two cores:
# what should keep up with live speech. `stt file` keeps up with more.
_BY_CORES: Final = ((8, "small.en"), (2, "base.en"))
_LEAST_GB: Final = 2.0


def better_weights(cores: int, memory_gb: float) -> str | None:
    """Name the weights that a machine should carry live; `None`: the embedded ones are what it can."""
    if memory_gb < _LEAST_GB:
        return None
    return next((name for least, name in _BY_CORES if cores >= least), None)


def once(settings: EngineSettings, engine: str, language: str | None, marker: Path | None = None) -> str | None:
    """Return the line for a user who runs the embedded weights for the first time; `None`: nothing is to be said.

    Only for a person at a terminal: it goes to standard error. `marker`: the file that says it has been said.
    """
    if not (engine.startswith("whisper tiny.en") and language == "en" and sys.stderr.isatty()):
        return None
    if settings.model is not None or settings.model_dir is not None:
        return None
    name = better_weights(cores(), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9)
    if name is None:
        return None
    if marker is None:
        from platformdirs import user_state_path

        marker = user_state_path("stt", appauthor=False) / "told-of-better-weights"
    try:
        marker.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        marker.touch(mode=0o600, exist_ok=False)
    except OSError:  # it was said, or where nothing can be kept it would be said every time
        return None
    return f"this machine should carry weights that err less: `stt models download {name}`, then `--model {name}`"
