"""Where models are, and how they come here: local directories, the Hugging Face cache, downloads.

Nothing here imports torch, so that listing and downloading start at once. The cache is huggingface_hub's own
(`HF_HOME`, `HF_ENDPOINT`, `HF_TOKEN`, `HF_HUB_OFFLINE` mean what they always mean), and what is in it is used without
any network. The transfer differs from `hf_hub_download` in two ways, because the file has 5 GB: what has arrived is
kept when a download breaks off, also when the process dies, and the next one goes on from there (huggingface_hub 2
starts again); and the content is checked against the hash the hub announced before it is put in its place.
"""

import errno
import hashlib
import ipaddress
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

from nemo_lite.errors import DownloadError, ModelNotFoundError

if TYPE_CHECKING:
    from huggingface_hub.file_download import HfFileMetadata

CHECKPOINT_FILES = ("config.json", "model.safetensors")
LLM_FILES = ("config.json", "tokenizer.json")
"""Its weights are not needed: the checkpoint has them."""
_LONGEST_ID = 96
SPARE_BYTES = 2**28
"""To be left free on the disk after a download."""

Progress = Callable[[str, int, int], None]
"""(file, bytes here so far, bytes in all), called often."""


@dataclass(frozen=True, slots=True)
class KnownModel:
    name: str
    repo: str
    bytes: int
    """To download, about."""
    licence: str
    note: str
    """What to know before choosing it."""


KNOWN = {
    "canary-qwen": KnownModel(
        "canary-qwen",
        "nvidia/canary-qwen-2.5b",
        5_130_000_000,
        "CC-BY-4.0",
        "English, 2.5 billion parameters; wants a GPU with 10 GB or more (estimated)",
    ),
}


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """The two directories a model consists of."""

    checkpoint: Path
    llm: Path

    @property
    def bytes(self) -> int:
        return sum(
            (folder / name).stat().st_size
            for folder, names in ((self.checkpoint, CHECKPOINT_FILES), (self.llm, LLM_FILES))
            for name in names
        )


class DamagedModelError(ModelNotFoundError):
    """A file is there, but cannot be what was downloaded."""

    def __init__(self, message: str, repo: str | None) -> None:
        super().__init__(message)
        self.repo = repo
        """The repository it comes from; None for a file in a directory given by hand."""


def locate(where: str | PathLike[str], *, cache_dir: Path | None = None) -> ModelFiles | None:
    """Find a model without any network: in a directory, or, for a hub id or known name, in the cache.

    None means that it, or a part of it, is still to be downloaded. Raises ModelNotFoundError for a path that does not
    exist or holds no model, DamagedModelError where the checkpoint's config cannot be read.
    """
    repo = _repo(where)
    checkpoint = _local_checkpoint(Path(where)) if repo is None else cached(repo, CHECKPOINT_FILES, cache_dir=cache_dir)
    if checkpoint is None:
        return None
    llm = (_local_llm(checkpoint) if repo is None else None) or cached(
        _llm_repo(checkpoint, repo), LLM_FILES, cache_dir=cache_dir
    )
    return llm and ModelFiles(checkpoint, llm)


def download(
    where: str | PathLike[str],
    *,
    folder: Path | None = None,
    cache_dir: Path | None = None,
    endpoint: str | None = None,
    progress: Progress | None = None,
) -> ModelFiles:
    """Download what is missing of a hub id or known name (of a local checkpoint: its tokenizer) and check all of it.

    Into the Hugging Face cache, or, with `folder`, into `folder/checkpoint` and `folder/llm`, which `locate(folder)`
    finds. Without `progress` a bar is shown for each file. Raises DownloadError or ModelNotFoundError, which say what
    to do.
    """
    repo = _repo(where)

    def have(repo: str, names: tuple[str, ...], part: str) -> Path:
        return fetch(
            repo, names, folder=folder and folder / part, cache_dir=cache_dir, endpoint=endpoint, progress=progress
        )

    checkpoint = _local_checkpoint(Path(where)) if repo is None else have(repo, CHECKPOINT_FILES, "checkpoint")
    llm = _local_llm(checkpoint) if repo is None else None
    return ModelFiles(checkpoint, llm or have(_llm_repo(checkpoint, repo), LLM_FILES, "llm"))


def fetch(
    repo: str,
    names: Sequence[str],
    *,
    folder: Path | None = None,
    cache_dir: Path | None = None,
    endpoint: str | None = None,
    progress: Progress | None = None,
    revision: str | None = None,
) -> Path:
    """Have these files of any repository in one directory, complete and checked -> that directory.

    Into the Hugging Face cache, or into `folder`. `revision`: a commit; None means the newest. Raises DownloadError or
    ModelNotFoundError, which say what to do.
    """
    return _Transfer(cache_dir, endpoint, progress, revision).fetch(repo, tuple(names), folder)


def cached(
    repo: str, names: Sequence[str], *, cache_dir: Path | None = None, revision: str | None = None
) -> Path | None:
    """The directory in the Hugging Face cache that holds all of these files, found without any network; or None."""
    from huggingface_hub import try_to_load_from_cache

    found = [try_to_load_from_cache(repo, name, cache_dir, revision) for name in names]
    folders = {Path(path).parent for path in found if isinstance(path, str)}
    return folders.pop() if len(folders) == 1 and all(isinstance(path, str) for path in found) else None


def _repo(where: str | PathLike[str]) -> str | None:
    """The hub id meant, or None if `where` is a local path."""
    if str(where) in KNOWN:
        return KNOWN[str(where)].repo
    if isinstance(where, str) and is_hub_id(where) and not Path(where).is_dir():
        return where
    return None


def is_hub_id(text: str) -> bool:
    """Whether this could be the name of a repository, `owner/name`: the hub refuses all others unseen."""
    owner, slash, name = text.partition("/")
    parts = [owner, name]
    return (
        bool(slash)
        and len(text) <= _LONGEST_ID
        and all(re.fullmatch(r"[A-Za-z0-9_]([\w.-]*[A-Za-z0-9_])?", part, re.ASCII) for part in parts)
        and not ("--" in text or ".." in text or text.endswith(".git"))
    )


def _local_checkpoint(path: Path) -> Path:
    path = path.expanduser()
    for folder in (path / "checkpoint", path):
        if all((folder / name).is_file() for name in CHECKPOINT_FILES):
            return folder
    if not path.is_dir():
        names = ", ".join(KNOWN)
        raise ModelNotFoundError(f"no such directory: {path} (known models: {names}; or give a hub id, owner/name)")
    raise ModelNotFoundError(
        f"no model in {path}: expected {' and '.join(CHECKPOINT_FILES)} there or in {path / 'checkpoint'}"
    )


def _local_llm(checkpoint: Path) -> Path | None:
    for folder in (checkpoint / "llm", checkpoint.parent / "llm"):
        if all((folder / name).is_file() for name in LLM_FILES):
            return folder
    return None


def _llm_repo(checkpoint: Path, repo: str | None) -> str:
    path = checkpoint / "config.json"
    try:
        config = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise DamagedModelError(f"{path} is damaged ({error}); delete it and download it again", repo) from error
    named = config.get("pretrained_llm") if isinstance(config, dict) else None
    if not isinstance(named, str) or not re.fullmatch(r"(\w[\w.-]*/)?\w[\w.-]*", named):
        raise ModelNotFoundError(
            f"{path}: expected pretrained_llm to be the hub id of the language model, got {named!r};"
            f" put its {' and '.join(LLM_FILES)} into {checkpoint / 'llm'}, if this is a Canary-Qwen model"
        )
    return named


@dataclass(frozen=True, slots=True)
class _Transfer:
    cache_dir: Path | None
    endpoint: str | None
    progress: Progress | None
    revision: str | None = None

    def fetch(self, repo: str, names: tuple[str, ...], folder: Path | None) -> Path:
        """Have `names` of `repo` in one directory, complete and checked -> that directory."""
        from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url
        from huggingface_hub.file_download import repo_folder_name
        from huggingface_hub.utils import WeakFileLock

        cache = Path(self.cache_dir or constants.HF_HUB_CACHE)
        blobs = cache / repo_folder_name(repo_id=repo, repo_type="model") / "blobs"
        paths = []
        with explained(repo, self.endpoint):
            offers = {
                name: get_hf_file_metadata(hf_hub_url(repo, name, revision=self.revision, endpoint=self.endpoint))
                for name in names
            }
            targets = {n: folder / n if folder else blobs / _etag(offer, repo, n) for n, offer in offers.items()}
            _need_space(targets, offers)
            for name, offer in offers.items():
                target = targets[name]
                target.parent.mkdir(parents=True, exist_ok=True)
                with WeakFileLock(target.with_name(f"{target.name}.lock")):
                    if not (target.is_file() and _is_what_was_offered(target, offer)):
                        self._resume(repo, name, offer, target)
                target.with_name(f"{target.name}.lock").unlink(missing_ok=True)
                if folder:
                    paths.append(target)
                    continue
                # finds the blob in place and links it into a snapshot of the commit
                there = {"revision": self.revision, "cache_dir": self.cache_dir, "endpoint": self.endpoint}
                path = Path(hf_hub_download(repo, name, **there))
                if not path.samefile(target) and not _is_what_was_offered(path, offer):  # a damaged copy, not a link
                    path.unlink()
                    path = Path(hf_hub_download(repo, name, **there))
                paths.append(path)
        return paths[0].parent

    def _resume(self, repo: str, name: str, offer: "HfFileMetadata", target: Path) -> None:
        from huggingface_hub import hf_hub_url
        from huggingface_hub.file_download import http_get
        from huggingface_hub.utils import build_hf_headers

        headers = build_hf_headers()
        if urlparse(offer.location).netloc != urlparse(hf_hub_url(repo, name, endpoint=self.endpoint)).netloc:
            headers.pop(
                "authorization", None
            )  # a content server has its own signed address; the token is not its business
        partial = target.with_name(f"{target.name}.incomplete")
        with partial.open("ab") as file:
            have = file.tell()
            if offer.size is not None and have > offer.size:
                have = file.truncate(0)
            http_get(
                offer.location,
                file,
                resume_size=have,
                headers=headers,
                expected_size=offer.size,
                displayed_filename=f"{repo}/{name}",
                tqdm_class=self.progress and _reporter(self.progress, name),
            )
        if not _is_what_was_offered(partial, offer):
            partial.unlink()
            raise DownloadError(
                f"{repo}/{name} arrived damaged: its hash is not {offer.etag}, which the hub announced."
                " What came was deleted; download it again, and if that does not help look at proxies on the way."
            )
        partial.replace(target)


def _reporter(progress: Progress, name: str) -> type:
    """A tqdm that shows nothing and tells `progress`."""
    from tqdm import tqdm

    class Report(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            options.pop("name", None)
            super().__init__(*args, **options | {"disable": True})
            self.total, self.n = options.get("total"), options.get("initial", 0)
            progress(name, int(self.n), int(self.total or 0))

        def update(self, n: float | None = 1) -> bool | None:
            self.n += n or 0
            progress(name, int(self.n), int(self.total or 0))
            return None

    return Report


def _etag(offer: "HfFileMetadata", repo: str, name: str) -> str:
    if not offer.etag or not offer.commit_hash:
        raise DownloadError(
            f"the server's answer for {repo}/{name} is not a hub's (no ETag or commit): check HF_ENDPOINT"
        )
    return offer.etag


def _is_what_was_offered(path: Path, offer: "HfFileMetadata") -> bool:
    """Large files are known by their SHA-256, small ones by their git blob hash; else only the size is known."""
    size, etag = path.stat().st_size, offer.etag or ""
    if offer.size is not None and size != offer.size:
        return False
    if re.fullmatch("[0-9a-f]{64}", etag):
        digest = hashlib.sha256()
    elif re.fullmatch("[0-9a-f]{40}", etag):
        digest = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    else:
        return True
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest() == etag


def _need_space(targets: dict[str, Path], offers: dict[str, "HfFileMetadata"]) -> None:
    needed = 0
    for name, target in targets.items():
        partial = target.with_name(f"{target.name}.incomplete")
        here = max((path.stat().st_size for path in (target, partial) if path.is_file()), default=0)
        needed += max((offers[name].size or 0) - here, 0)
    folder = next(iter(targets.values())).parent
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed and needed + SPARE_BYTES > free:
        raise DownloadError(
            f"not enough disk space for the model: {needed / 1e9:.2f} GB are still to come and {folder} has"
            f" {free / 1e9:.2f} GB free. Make room, or choose another place (HF_HOME, --model-dir)."
        )


@contextmanager
def explained(repo: str, endpoint: str | None = None) -> Iterator[None]:
    """Turn the hub's errors into ours, which say what to do. `endpoint`: not the hub that HF_ENDPOINT names."""
    from huggingface_hub import errors

    again = "What has arrived is kept: run the same command again to go on from there."
    _open_client(repo, endpoint)
    try:
        yield
    except DownloadError:
        raise
    except errors.GatedRepoError as error:
        raise DownloadError(
            f"{repo} is gated: accept its terms at https://huggingface.co/{repo} and log in (`hf auth login`, or"
            " HF_TOKEN)."
        ) from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise ModelNotFoundError(
            f"the hub has no model {repo}, or it is private: check the name, or log in (`hf auth login`, or HF_TOKEN)."
        ) from error
    except errors.RemoteEntryNotFoundError as error:
        raise ModelNotFoundError(f"{repo} lacks a file that such a model must have: {error}") from error
    except errors.OfflineModeIsEnabled as error:
        raise DownloadError(
            f"{repo} is not in the cache and HF_HUB_OFFLINE forbids the network: unset it, or copy the model here and"
            " give its directory."
        ) from error
    except errors.HfHubHTTPError as error:
        if error.response is not None and error.response.status_code in (401, 403):
            raise DownloadError(
                f"the hub refuses {repo}: log in with a valid token (`hf auth login`, or HF_TOKEN). {error}"
            ) from error
        raise DownloadError(f"the hub failed while {repo} was downloaded: {error}. {again}") from error
    except (errors.HTTPError, errors.LocalEntryNotFoundError) as error:  # pyright: ignore[reportPrivateImportUsage]
        raise DownloadError(
            f"cannot reach the hub for {repo} ({error}). Check the network and any proxy; or copy the model here from a"
            f" machine that has it and give its directory. {again}"
        ) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DownloadError(f"the disk is full ({error}). Make room, or choose another place. {again}") from error
        if error.errno in (errno.EACCES, errno.EROFS):
            raise DownloadError(
                f"cannot write there ({error}): choose another place (HF_HOME, --model-dir)."
            ) from error
        raise DownloadError(f"downloading {repo} failed: {error}. {again}") from error


def _open_client(repo: str, endpoint: str | None) -> None:
    """Have huggingface_hub make its HTTP client, which is when the environment's proxies and certificates are read.

    What is on this machine is reached directly, whatever proxy is set: no proxy elsewhere can reach it.
    """
    from huggingface_hub import constants, get_session

    host = urlparse(endpoint or constants.ENDPOINT).hostname or ""
    before = os.environ.get("no_proxy")
    if _is_loopback(host):
        os.environ["no_proxy"] = ",".join(filter(None, (before or os.environ.get("NO_PROXY"), host)))
    try:
        get_session()
    except Exception as error:  # each library it may use for this has its own
        proxies = [name for name in os.environ if name.lower() in ("all_proxy", "https_proxy", "http_proxy")]
        found = proxies or [name for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if name in os.environ]
        raise DownloadError(
            f"cannot connect to the hub for {repo}: {' or '.join(found) or 'the environment'} cannot be used"
            f" ({error}). Correct or unset it; or copy the model here and give its directory."
        ) from error
    finally:
        if before is not None:
            os.environ["no_proxy"] = before
        else:
            os.environ.pop("no_proxy", None)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
