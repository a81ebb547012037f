"""Where the weights of smart-turn are on this machine; nothing is imported to find out, and nothing is fetched."""

import hashlib
import importlib.util
from pathlib import Path
from typing import Final

from nemo_lite import hub
from stt.errors import EngineError

NAME: Final = "smart-turn"
REPO: Final = "pipecat-ai/smart-turn-v3"
FILE: Final = "smart-turn-v3.2-cpu.onnx"
LANGUAGES: Final = frozenset(
    [
        "ar",
        "bn",
        "da",
        "de",
        "en",
        "es",
        "fi",
        "fr",
        "hi",
        "id",
        "it",
        "ja",
        "ko",
        "mr",
        "nl",
        "no",
        "pl",
        "pt",
        "ru",
        "tr",
        "uk",
        "vi",
        "zh",
    ]
)
"""ISO 639-1 codes in which it is asked; not yet held against its model card."""
_SHA256: Final = "2bb026316b14a660486a75b1733cd3fbab8c2fd0314dc9af7be49f8cca967e4f"
_PACKAGE: Final = "pipecat"


def find() -> Path | None:
    """Return the file in the hub's cache, or that of an installed `pipecat-ai`; `None`: neither is here."""
    if (folder := hub.cached(REPO, [FILE])) is not None:
        return folder / FILE
    spec = importlib.util.find_spec(_PACKAGE)  # of a package without a dot: it is not executed
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        path = Path(folder, "audio", "turn", "smart_turn", "data", FILE)
        if path.is_file():
            return path
    return None


def check(path: Path) -> None:
    """Raise `EngineError` unless this is the known file: others have other inputs, or worse."""
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != _SHA256:
        msg = f"{path}: expected SHA-256 {_SHA256[:16]}... of {FILE}, got {found[:16]}..."
        raise EngineError(msg)
