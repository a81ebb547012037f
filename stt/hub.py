"""Weights by hub id: what is there is used, what is not is downloaded, with progress and errors that say what to do.

huggingface_hub does the work: resumes an interrupted download, shares one cache (`HF_HOME`) with other programs,
takes `HF_ENDPOINT`, `HF_TOKEN` and `HF_HUB_OFFLINE` from the environment.
"""

import shutil
import sys
from pathlib import Path

from stt.errors import DownloadError


def fetch(repo: str, files: list[str], *, progress: bool | None = None) -> Path:
    """Return the directory with a repository's files (glob patterns), downloading what is missing.

    Args:
        repo: hub id, `Systran/faster-whisper-small`.
        files: glob patterns of the files wanted.
        progress: bars on standard error; `None`: where that is a terminal.

    Raises:
        DownloadError: no network, no such repository, not allowed, disk full, broken off ...

    """
    import httpx
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )
    from huggingface_hub.utils import disable_progress_bars, enable_progress_bars

    try:
        return Path(snapshot_download(repo, allow_patterns=files, local_files_only=True))
    except HFValidationError as error:
        msg = f"{repo!r}: expected a directory or a hub id like Systran/faster-whisper-small"
        raise DownloadError(msg) from error
    except LocalEntryNotFoundError:
        pass
    if sys.stderr.isatty() if progress is None else progress:
        enable_progress_bars()
        print(f"downloading {repo} ...", file=sys.stderr)
    else:
        disable_progress_bars()
    try:
        return Path(snapshot_download(repo, allow_patterns=files))
    except GatedRepoError as error:
        msg = f"{repo}: its owner asks you to accept conditions on its web page first; then set HF_TOKEN and try again"
        raise DownloadError(msg) from error
    except RepositoryNotFoundError as error:
        msg = f"{repo}: no such repository (or it is private: set HF_TOKEN)"
        raise DownloadError(msg) from error
    except LocalEntryNotFoundError as error:
        msg = f"{repo}: not downloaded yet, and the hub cannot be reached; check the network, or give a directory"
        raise DownloadError(msg) from error
    except (HfHubHTTPError, httpx.HTTPError) as error:
        msg = f"{repo}: the download broke off ({error}); run the same command again, it goes on where it stopped"
        raise DownloadError(msg) from error
    except OSError as error:
        import errno

        if error.errno == errno.ENOSPC:
            free = shutil.disk_usage(Path.home()).free / 1e9
            msg = f"{repo}: the disk is full ({free:.1f} GB free); make room, or set HF_HOME to a larger disk"
        else:
            msg = f"{repo}: {error}"
        raise DownloadError(msg) from error
