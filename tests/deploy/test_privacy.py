"""Nothing is collected behind one's back, and what was said is for nobody else's eyes."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tui import preferences, private
from tui.document import Cleared
from tui.journal import Journal
from tui.recorder import FORMATS, open_recorder


def test_onnxruntime_gathers_nothing_to_send(tmp_path: Path) -> None:
    """Its telemetry keeps an identifier of the device and a database of events in the cache directory."""
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    use = "from stt.vad import SileroVad; SileroVad()"
    subprocess.run([sys.executable, "-c", use], env=environment, check=True, timeout=120)
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.fixture
def open_umask() -> Iterator[None]:
    """The umask of a machine where people share everything."""
    before = os.umask(0)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): f"{path.stat().st_mode & 0o777:o}" for path in sorted(folder.rglob("*"))}


@pytest.mark.usefixtures("open_umask")
def test_what_was_said_is_its_owner_s_alone(tmp_path: Path) -> None:
    """Whatever the terminal program writes: sessions, recordings, exports, pictures of the screen, the theme."""
    with Journal(tmp_path / "stt" / "sessions" / "a.jsonl") as journal:
        journal.write(Cleared())
    for kind in FORMATS:
        open_recorder(tmp_path / "stt" / "recordings" / f"a.{kind}").close()
    private.write_text(tmp_path / "talk.txt", "words")
    (tmp_path / "old.txt").write_text("readable by all until it is written over")
    private.write_text(tmp_path / "old.txt", "words")
    preferences.keep_theme(tmp_path / "stt" / "tui.json", "nord")
    assert modes(tmp_path) == {
        "old.txt": "600",
        "stt": "700",
        "stt/recordings": "700",
        "stt/recordings/a.flac": "600",
        "stt/recordings/a.wav": "600",
        "stt/sessions": "700",
        "stt/sessions/a.jsonl": "600",
        "stt/tui.json": "600",
        "talk.txt": "600",
    }


@pytest.mark.usefixtures("open_umask")
def test_what_an_earlier_version_left_open_is_closed(tmp_path: Path) -> None:
    home = tmp_path / "share"
    (home / "stt" / "recordings").mkdir(parents=True)
    (home / "stt" / "recordings" / "a.wav").write_text("speech")
    (tmp_path / "mine").write_text("not ours")
    (home / "stt" / "recordings" / "link").symlink_to(tmp_path / "mine")
    environment = os.environ | {"XDG_DATA_HOME": str(home)}
    command = [sys.executable, "-m", "stt.cli", "tui", "--sessions"]
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, timeout=120)
    assert modes(home / "stt")["recordings"] == "700"
    assert modes(home / "stt")["recordings/a.wav"] == "600"
    assert modes(home)["stt"] == "700"
    assert modes(tmp_path)["mine"] == "666"  # nor what a link points to


def test_what_is_no_file_is_written_through(tmp_path: Path) -> None:
    """A reader may save to a pipe or a device; its mode is not ours to change."""
    before = Path("/dev/null").stat().st_mode
    private.write_text(Path("/dev/null"), "words")
    assert Path("/dev/null").stat().st_mode == before
    (tmp_path / "real.txt").write_text("")
    (tmp_path / "link.txt").symlink_to(tmp_path / "real.txt")
    private.write_text(tmp_path / "link.txt", "words")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "real.txt").read_text() == "words"
