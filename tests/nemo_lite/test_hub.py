"""Finding and downloading, against a stand-in for the hub on this machine."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nemo_lite import CanaryQwen, DownloadError, ModelNotFoundError, hub
from stand_in_hub import StandIn

REPO, LLM = "nvidia/canary-qwen-2.5b", "Qwen/Qwen3-1.7B"


@pytest.fixture
def stand_in(data):
    toy = data / "canary-toy"
    files = {f"{REPO}/{n}": (toy / "checkpoint" / n).read_bytes() for n in ("config.json", "model.safetensors")}
    files |= {f"{LLM}/{path.name}": path.read_bytes() for path in (toy / "llm").iterdir()}
    with StandIn(files) as stand_in:
        yield stand_in


@pytest.fixture
def fetch(stand_in, tmp_path):
    def fetch(where=REPO, **options) -> hub.ModelFiles:
        options.setdefault("progress", lambda *_: None)
        return hub.download(where, cache_dir=tmp_path / "cache", endpoint=stand_in.url, **options)

    return fetch


def test_downloaded_once_then_found_without_a_network(fetch, stand_in, tmp_path):
    assert hub.locate(REPO, cache_dir=tmp_path / "cache") is None
    told: list[tuple[str, int, int]] = []
    files = fetch("canary-qwen", progress=lambda *news: told.append(news))
    size = len(stand_in.files[f"{REPO}/model.safetensors"])
    assert [news for news in told if news[0] == "model.safetensors"][-1] == ("model.safetensors", size, size)
    assert sorted(path.name for path in files.llm.iterdir()) == ["config.json", "tokenizer.json"]
    asked = len(stand_in.asked)
    for where in (REPO, "canary-qwen"):
        assert hub.locate(where, cache_dir=tmp_path / "cache") == files
    assert len(stand_in.asked) == asked
    assert files.bytes == size + sum(
        len(stand_in.files[name]) for name in (f"{REPO}/config.json", f"{LLM}/config.json", f"{LLM}/tokenizer.json")
    )
    assert fetch() == files  # checks again, transfers nothing
    assert len(stand_in.gets("model.safetensors")) == 1


def test_goes_on_after_an_interruption(fetch, stand_in, tmp_path):
    stand_in.files[f"{REPO}/model.safetensors"] *= 4  # 24 MB: more than one block of the transfer

    def stop(name: str, here: int, size: int) -> None:
        if name == "model.safetensors" and here > size // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(progress=stop)
    [partial] = (tmp_path / "cache").rglob("*.incomplete")
    have = partial.stat().st_size
    assert have > 0
    assert hub.locate(REPO, cache_dir=tmp_path / "cache") is None
    files = fetch()
    assert stand_in.gets("model.safetensors") == [None, f"bytes={have}-"]
    assert (files.checkpoint / "model.safetensors").read_bytes() == stand_in.files[f"{REPO}/model.safetensors"]
    assert not list((tmp_path / "cache").rglob("*.incomplete"))


def test_into_a_directory_of_its_own(fetch, tmp_path, clip):
    files = fetch(folder=tmp_path / "models")
    assert (
        files
        == hub.locate(tmp_path / "models")
        == hub.ModelFiles(tmp_path / "models/checkpoint", tmp_path / "models/llm")
    )
    assert sorted(path.name for path in files.checkpoint.iterdir()) == ["config.json", "model.safetensors"]
    assert not (tmp_path / "cache" / "models--nvidia--canary-qwen-2.5b" / "blobs").exists()
    model = CanaryQwen.from_pretrained(tmp_path / "models", "cpu")
    assert model.transcribe([clip("toy", "short")])[0].text == "Zero seven."


def test_a_damaged_transfer_is_thrown_away(fetch, stand_in, tmp_path):
    path = f"{REPO}/model.safetensors"
    true = stand_in.files[path]
    stand_in.lie[path] = true[:-10] + bytes(10)
    with pytest.raises(DownloadError, match=r"model.safetensors arrived damaged.*download it again"):
        fetch()
    assert not list((tmp_path / "cache").rglob("*.incomplete"))
    assert hub.locate(REPO, cache_dir=tmp_path / "cache") is None
    stand_in.lie.clear()
    assert (fetch().checkpoint / "model.safetensors").read_bytes() == true


def test_a_file_that_went_bad_on_the_disk_is_fetched_again(fetch):
    files = fetch()
    path = files.checkpoint / "model.safetensors"
    true = path.read_bytes()
    path.resolve().write_bytes(true[:-10] + bytes(10))
    assert (fetch().checkpoint / "model.safetensors").read_bytes() == true


@pytest.mark.parametrize("part", ["checkpoint", "llm"])
@pytest.mark.parametrize("copied", [False, True], ids=["a link, as the hub makes it", "a copy of its own"])
@pytest.mark.parametrize("damage", [b"{", b"", bytes(700)], ids=["cut off", "empty", "zeros"])
def test_a_damaged_config_in_the_cache_is_fetched_again(fetch, stand_in, part, copied, damage):
    files = fetch()
    path = getattr(files, part) / "config.json"
    true = path.read_bytes()
    if copied:
        path.unlink()  # as in a cache that was carried here by something that knows no links
    path.write_bytes(damage)
    assert fetch() == files
    assert path.read_bytes() == true
    assert stand_in.gets("model.safetensors") == [None]


def test_a_damaged_config_is_named(fetch, tmp_path, data):
    path = fetch().checkpoint / "config.json"
    path.write_text("{")
    with pytest.raises(hub.DamagedModelError) as raised:
        hub.locate("canary-qwen", cache_dir=tmp_path / "cache")
    assert str(raised.value).startswith(f"{path} is damaged (Expecting property name")
    assert str(raised.value).endswith("; delete it and download it again")
    assert raised.value.repo == REPO
    path.unlink()  # as it says
    assert hub.locate(REPO, cache_dir=tmp_path / "cache") is None
    assert fetch().checkpoint == path.parent
    assert hub.locate(REPO, cache_dir=tmp_path / "cache")

    mine = tmp_path / "mine"
    shutil.copytree(data / "canary-toy" / "checkpoint", mine)
    (mine / "config.json").write_text("{")
    for find in (hub.locate, fetch):
        with pytest.raises(hub.DamagedModelError, match=r"mine/config\.json is damaged") as raised:
            find(mine)
        assert raised.value.repo is None


@pytest.mark.parametrize("named", [None, 5, "/models/Qwen3-1.7B", "../Qwen"])
def test_a_checkpoint_whose_language_model_is_not_on_the_hub(tmp_path, data, named):
    folder = tmp_path / "mine"
    shutil.copytree(data / "canary-toy" / "checkpoint", folder)
    config = json.loads((folder / "config.json").read_text()) | {"pretrained_llm": named}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        ModelNotFoundError, match=f"expected pretrained_llm to be the hub id .*, got {named!r}; put its"
    ):
        hub.locate(folder, cache_dir=tmp_path / "cache")
    shutil.copytree(data / "canary-toy" / "llm", folder / "llm")
    assert hub.locate(folder, cache_dir=tmp_path / "cache") == hub.ModelFiles(folder, folder / "llm")


@pytest.mark.parametrize(
    ("status", "code", "kind", "said"),
    [
        (404, "RepoNotFound", ModelNotFoundError, f"the hub has no model {REPO}.*check the name, or log in"),
        (401, "RepoNotFound", ModelNotFoundError, "log in"),
        (401, "GatedRepo", DownloadError, f"{REPO} is gated: accept its terms at https://huggingface.co/{REPO}"),
        (403, "", DownloadError, f"the hub refuses {REPO}: log in with a valid token"),
        (404, "EntryNotFound", ModelNotFoundError, f"{REPO} lacks a file that such a model must have"),
    ],
)
def test_refusals_say_what_to_do(fetch, stand_in, status, code, kind, said):
    stand_in.refuse[REPO] = (status, code)
    with pytest.raises(kind, match=said):
        fetch()


def test_a_missing_tokenizer_repository_is_named(fetch, stand_in):
    stand_in.refuse[LLM] = (404, "RepoNotFound")
    with pytest.raises(ModelNotFoundError, match=f"the hub has no model {LLM}"):
        fetch()


def test_no_network(tmp_path):
    with pytest.raises(DownloadError, match=r"cannot reach the hub for nvidia/canary-qwen-2\.5b .*Check the network"):
        hub.download(REPO, cache_dir=tmp_path, endpoint="http://127.0.0.1:9", progress=lambda *_: None)


def test_not_enough_disk(fetch, stand_in, monkeypatch):
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=3_000_000))
    with pytest.raises(DownloadError, match=r"not enough disk space.*0.01 GB are still to come.*0.00 GB free.*HF_HOME"):
        fetch()
    assert not stand_in.gets("model.safetensors")


def test_the_disk_fills_up_on_the_way(fetch):
    def full(name: str, here: int, _size: int) -> None:
        if name == "model.safetensors" and here:
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(DownloadError, match=r"the disk is full .*run the same command again"):
        fetch(progress=full)
    fetch()


def test_a_local_checkpoint_gets_its_tokenizer(fetch, stand_in, tmp_path, data):
    folder = tmp_path / "mine"
    shutil.copytree(data / "canary-toy" / "checkpoint", folder)
    assert hub.locate(folder, cache_dir=tmp_path / "cache") is None
    files = fetch(folder)
    assert files.checkpoint == folder
    assert hub.locate(folder, cache_dir=tmp_path / "cache") == files
    assert not stand_in.gets("model.safetensors")


def test_the_environment_is_huggingfaces(stand_in, tmp_path):
    """HF_ENDPOINT and HF_HOME from one process, then HF_HUB_OFFLINE in another; a bar is shown."""
    script = (
        "from nemo_lite import CanaryQwen; import torch\n"
        "print(CanaryQwen.from_pretrained('nvidia/canary-qwen-2.5b', 'cpu').transcribe([torch.zeros(8000)])[0].stop)\n"
    )
    environment = os.environ | {"HF_HOME": str(tmp_path), "HF_ENDPOINT": stand_in.url}

    def run(**more: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-c", script], env=environment | more, capture_output=True, text=True, check=False
        )

    offline = run(HF_HUB_OFFLINE="1")
    assert "HF_HUB_OFFLINE forbids the network" in offline.stderr
    online = run()
    assert online.stdout == "eos\n", online.stderr
    asked = len(stand_in.asked)
    assert run(HF_HUB_OFFLINE="1").stdout == "eos\n"
    assert len(stand_in.asked) == asked
    assert any(Path(tmp_path).rglob("model.safetensors"))


def test_known_models_name_what_they_are(data):
    known = hub.KNOWN["canary-qwen"]
    assert known.repo == REPO
    layout = json.loads((data / "canary-nano/full_keys.json").read_text())
    assert 0 < known.bytes - layout["tensor_bytes"] < 20e6  # the tensors, and a tokenizer
