"""How fast a model is on this machine: measured once on the bundled clips, remembered in the user's cache.

For `stt models bench`, which prints it, and `--model auto`, which takes the most accurate model that keeps up.
"""

import contextlib
import io
import json
import os
import platform
import statistics
import time
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final

import numpy as np

from stt.audio import Samples, samples, seconds
from stt.recognition import SpeechModel, Utterance
from stt.settings import EngineSettings

TURN_S: Final = 6.0
"""A turn as people speak them."""
WINDOW_S: Final = 24.0
"""The longest window there is."""
_REPEATS: Final = 3
# A turn's final has from the pause (0.2 s) to the end of the turn (1.5 s), and a machine is rarely idle. Long windows
# are a matter of falling behind in a monologue: half of the time is left for interims.
_FINAL_S: Final = 0.8
_LEAST_FACTOR: Final = 4.0
# Where another model has the interims, a final may be late by so much that a conversation still bears it.
_FINAL_APART_S: Final = 2.0
_LEAST_FACTOR_APART: Final = 2.0


@dataclass(frozen=True, slots=True)
class Speed:
    """What was measured."""

    load_s: float
    """From nothing to the first text."""
    final_s: float
    """Median time of the final of a turn of `TURN_S`."""
    factor: float
    """Seconds of speech heard per second, in windows of `WINDOW_S`."""

    @property
    def live(self) -> bool:
        """Whether one live speaker is kept up with: finals before their turns have ended, on a machine in use."""
        return self.final_s <= _FINAL_S and self.factor >= _LEAST_FACTOR

    @property
    def final(self) -> bool:
        """Whether the finals of one live speaker are kept up with, where another model has the interims."""
        return self.final_s <= _FINAL_APART_S and self.factor >= _LEAST_FACTOR_APART


def measure(model: SpeechModel, loaded_s: float) -> Speed:
    """Let a model hear bundled speech; `loaded_s`: how long it took to open it.

    Raises:
        EngineError: it failed.

    """
    speech = _speech()
    turn, window = speech[: samples(TURN_S)], np.resize(speech, samples(WINDOW_S))
    first_s = _time(model, turn)
    final_s = statistics.median(_time(model, turn) for _ in range(_REPEATS))
    return Speed(round(loaded_s + first_s, 3), round(final_s, 3), round(seconds(len(window)) / _time(model, window), 1))


def recall(path: Path, settings: EngineSettings) -> Speed | None:
    """Return what was measured of a model on this machine, run in the same way; `None`: nothing."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        return Speed(**json.loads(_cache().read_text())[_key(path, settings)])
    return None


def remember(path: Path, settings: EngineSettings, speed: Speed) -> None:
    """Keep what was measured; where nothing can be kept it is measured again the next time."""
    file = _cache()
    kept: dict[str, object] = {}
    with contextlib.suppress(OSError, ValueError):
        kept = dict(json.loads(file.read_text()))
    kept[_key(path, settings)] = asdict(speed)
    with contextlib.suppress(OSError):
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = file.with_suffix(f".{os.getpid()}.new")
        new.write_text(json.dumps(kept, indent=1))
        new.replace(file)


def _time(model: SpeechModel, audio: Samples) -> float:
    began = time.monotonic()
    model.transcribe([Utterance(audio)])
    return time.monotonic() - began


def _speech() -> Samples:
    import soundfile

    clips = sorted((files("nemo_lite") / "clips").iterdir(), key=lambda clip: clip.name)
    heard = [
        soundfile.read(io.BytesIO(clip.read_bytes()), dtype="float32")[0]
        for clip in clips
        if clip.name.endswith(".flac")
    ]
    return np.concatenate(heard, dtype=np.float32)


def _cache() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("stt", appauthor=False) / "speeds.json"


def _key(path: Path, settings: EngineSettings) -> str:
    stamp = int(path.stat().st_mtime)
    return f"{platform.node()} {path} {stamp} {settings.device} {settings.dtype} {settings.threads}"
