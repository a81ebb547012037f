"""Weights by hub id: what is in the cache is used without any network, what is not is downloaded.

The transfer is `nemo_lite.hub`'s (importing it costs no torch): it goes on where an interrupted one stopped, checks
what came against the hash that the hub announced, and says what to do about every failure. `HF_HOME`, `HF_ENDPOINT`,
`HF_TOKEN` and `HF_HUB_OFFLINE` mean what they always mean.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

from nemo_lite import hub
from nemo_lite.errors import DownloadError as TransferError
from nemo_lite.errors import ModelNotFoundError
from stt.errors import DownloadError, EngineError, reason


def fetch(repo: str, needed: Sequence[str], wanted: Sequence[str] = (), folder: Path | None = None) -> Path:
    """Return the directory with a repository's files, downloading what is missing, with a bar for each file.

    Args:
        repo: hub id, `Systran/faster-whisper-small`.
        needed: names of files without which it is no model of this kind.
        wanted: glob patterns of further files to take where the repository has them.
        folder: download into this directory, not into the shared cache.

    Raises:
        DownloadError: no network, not allowed, disk full, broken off ...
        EngineError: there is no such repository, or it lacks a needed file.

    """
    with our_errors():
        if folder is not None and all((folder / name).is_file() for name in needed):
            return folder
        if folder is None and (found := hub.cached(repo, needed)) is not None:
            return found
        with hub.explained(repo):
            from huggingface_hub import HfApi

            there = [file.rfilename for file in HfApi().model_info(repo).siblings or []]
        names = [*needed, *(name for name in there if any(fnmatch(name, pattern) for pattern in wanted))]
        # The needed files last: where they are, all are.
        return hub.fetch(repo, names[::-1], folder=folder)


@contextmanager
def our_errors() -> Iterator[None]:
    """Raise nemo_lite's errors, and what the system says of a path, as those of this package."""
    try:
        yield
    except TransferError as error:
        raise DownloadError(str(error)) from error
    except hub.DamagedModelError as error:
        again = [f" (`stt models download {name}` does both)" for name, m in hub.KNOWN.items() if m.repo == error.repo]
        raise EngineError(f"{error}{''.join(again)}") from error
    except ModelNotFoundError as error:
        raise EngineError(str(error)) from error
    except OSError as error:
        if error.filename is None:
            raise
        raise EngineError(f"{error.filename}: {reason(error)}") from error
