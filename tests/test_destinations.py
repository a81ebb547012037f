"""Where text goes: `-o` never harms what it is not to replace, and leaves nothing half behind."""

import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stt.commands.destinations import Destination, destinations, kind_of
from stt.errors import OutputError, SettingsError

TEXT = "what was said\n"


def write(path: Path, text: str = TEXT) -> None:
    with Destination(path).open() as out:
        out.write(text)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "talk.wav"
    path.write_bytes(b"RIFF")
    return path


@contextmanager
def standard(fd: int, other: int) -> Iterator[None]:
    """Put another open file in the place of a standard one."""
    kept = os.dup(fd)
    os.dup2(other, fd)
    try:
        yield
    finally:
        os.dup2(kept, fd)
        os.close(kept)


# --- never onto an input


@pytest.mark.parametrize("way", ["same", "dotted", "symlink", "hard link", "descriptor", "case"])
def test_an_input_is_no_output_whatever_its_name(recording: Path, way: str) -> None:
    folder = recording.parent
    other = folder / "other"
    match way:
        case "same":
            other = recording
        case "dotted":
            other = folder / ".." / folder.name / "talk.wav"
        case "symlink":
            (folder / "step").symlink_to("talk.wav")
            other.symlink_to("step")
        case "hard link":
            other.hardlink_to(recording)
        case "descriptor":
            with recording.open("ab") as file:
                refused(recording, Path(f"/dev/fd/{file.fileno()}"))
            return
        case _:
            other = folder / "TALK.WAV"
            if not other.exists():
                pytest.skip("the file system tells capital letters from small ones")
    refused(recording, other)


def refused(recording: Path, output: Path) -> None:
    with pytest.raises(SettingsError, match=r"--output .* is the input .*talk\.wav itself"):
        destinations([str(recording)], str(output), "txt")
    assert recording.read_bytes() == b"RIFF"


def test_standard_input_is_no_output(recording: Path) -> None:
    said = pytest.raises(SettingsError, match="is the input standard input itself")
    with recording.open("rb") as file, standard(0, file.fileno()), said:
        destinations(["-"], str(recording), "txt")


def test_standard_output_is_no_input(recording: Path) -> None:
    """`stt file talk.wav >> talk.wav`."""
    program = f"from stt.commands.destinations import destinations; destinations([{str(recording)!r}], '-', 'txt')"
    with recording.open("ab") as file:
        run = subprocess.run(
            [sys.executable, "-c", program], stdout=file, stderr=subprocess.PIPE, text=True, check=False
        )
    assert "standard output: is the input" in run.stderr
    assert recording.read_bytes() == b"RIFF"


def test_in_a_directory_neither_an_input_nor_another_output_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "talk.txt").write_bytes(b"RIFF")  # sound, whatever its name
    with pytest.raises(SettingsError, match="is the input"):
        destinations([str(tmp_path / "talk.txt")], str(tmp_path), "txt")
    (tmp_path / "a.txt").symlink_to("b.txt")
    with pytest.raises(SettingsError, match="several inputs would be written to"):
        destinations(["a.wav", "b.wav"], str(tmp_path), "txt")


def test_files_named_like_a_part_are_somebody_s(tmp_path: Path) -> None:
    for name in ("talk.txt.part", ".talk.txt.part"):
        (tmp_path / name).write_text("a download that goes on later")
    write(tmp_path / "talk.txt")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "talk.txt": TEXT,
        "talk.txt.part": "a download that goes on later",
        ".talk.txt.part": "a download that goes on later",
    }


def test_devices_may_be_input_and_output(tmp_path: Path) -> None:
    destinations(["/dev/null"], "/dev/null", "txt")  # a terminal is both, too


# --- what is replaced, and how


def test_new_files_and_folders_are_private(tmp_path: Path) -> None:
    write(tmp_path / "new" / "deep" / "talk.txt")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("new", "new/deep", "new/deep/talk.txt")]
    assert modes == [0o700, 0o700, 0o600]


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o600, 0o755])
def test_a_file_that_is_replaced_keeps_its_mode_and_owner(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "talk.txt"
    path.write_text("old, and longer than what comes\n")
    path.chmod(mode)
    if os.geteuid() == 0:
        os.chown(path, 1234, 2345)
    before = path.stat()
    write(path)
    after = path.stat()
    assert path.read_text() == TEXT
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)


@pytest.mark.parametrize("there", [True, False])
def test_symbolic_links_stay_and_lead_to_the_text(tmp_path: Path, there: bool) -> None:
    real, step, link = tmp_path / "far" / "real.txt", tmp_path / "step", tmp_path / "link.txt"
    real.parent.mkdir()
    if there:
        real.write_text("old")
    step.symlink_to("far/real.txt")
    link.symlink_to(step)
    write(link)
    assert (link.is_symlink(), step.is_symlink(), real.is_symlink(), real.read_text()) == (True, True, False, TEXT)


def test_what_is_replaced_is_whole_until_then(tmp_path: Path) -> None:
    path = tmp_path / "talk.txt"
    path.write_text("old")
    with Destination(path).open() as out:
        out.write("half")
        assert path.read_text() == "old"
        [part] = tmp_path.glob("talk.txt.*.part")
        assert part.read_text() == "half", "written at once"
        assert stat.S_IMODE(part.stat().st_mode) & 0o077 == stat.S_IMODE(path.stat().st_mode) & 0o077
    assert [file.name for file in tmp_path.iterdir()] == ["talk.txt"]


@pytest.mark.parametrize("there", [True, False])
def test_what_ends_badly_leaves_what_was(tmp_path: Path, there: bool) -> None:
    path = tmp_path / "talk.txt"
    if there:
        path.write_text("old")
    with pytest.raises(RuntimeError), Destination(path).open() as out:
        out.write("half")
        raise RuntimeError
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("talk.txt", "old")] * there
    assert not out.completed


def test_a_full_disk_is_told_and_leaves_what_was(tmp_path: Path) -> None:
    program = (
        "import resource, signal, sys; from pathlib import Path; from stt.commands.destinations import Destination\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "with Destination(Path(sys.argv[1])).open() as out: out.write('x' * 2000)"
    )
    path = tmp_path / "talk.txt"
    path.write_text("old")
    run = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=False)
    assert f"OutputError: {path}: File too large" in run.stderr
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("talk.txt", "old")]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_file_in_a_folder_that_takes_no_others_is_written_in_place(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "talk.txt"
    path.parent.mkdir()
    path.write_text("old, and longer than what comes\n")
    path.parent.chmod(0o500)
    write(path)
    path.parent.chmod(0o700)
    assert path.read_text() == TEXT


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_file_that_is_for_reading_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "talk.txt"
    path.write_text("old")
    path.chmod(0o400)
    with pytest.raises(OutputError, match="Permission denied"):
        write(path)
    assert path.read_text() == "old"


@pytest.mark.parametrize("name", ["x" * 255, "ü" * 127])
def test_names_may_be_as_long_as_the_system_lets_them(tmp_path: Path, name: str) -> None:
    write(tmp_path / name)
    assert (tmp_path / name).read_text() == TEXT


@pytest.mark.parametrize("name", ["x" * 300, "x" * 300 + ".srt"])
def test_what_cannot_be_looked_at_is_told(tmp_path: Path, name: str) -> None:
    """As a folder that may not be looked into would be; root may look into all."""
    assert kind_of(str(tmp_path / name), "txt") in ("txt", "srt")
    with pytest.raises(OutputError, match=rf"{name}: File name too long"):
        destinations(["x.wav"], str(tmp_path / name), "txt")


def test_links_in_a_circle_and_folders_are_told(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OutputError, match=r"a: Too many levels of symbolic links"):
        destinations(["x.wav"], str(tmp_path / "a"), "txt")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"file/talk\.txt: Not a directory"):
        write(tmp_path / "file" / "talk.txt")


# --- what is no regular file is written to


def test_a_device_stays_one() -> None:
    before = Path("/dev/null").stat()
    write(Path("/dev/null"))
    after = Path("/dev/null").stat()
    assert (after.st_mode, after.st_ino, after.st_rdev) == (before.st_mode, before.st_ino, before.st_rdev)


def test_a_full_device_is_told(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/dev/full")
    for path in (Path("/dev/full"), tmp_path / "link"):
        with pytest.raises(OutputError, match=f"{path}: No space left on device"):
            write(path)
    assert stat.S_ISCHR(Path("/dev/full").stat().st_mode)
    assert (tmp_path / "link").is_symlink()


def test_a_fifo_has_a_reader(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    heard: list[str] = []
    reader = threading.Thread(target=lambda: heard.append(path.read_text()))
    reader.start()
    write(path)
    reader.join()
    assert heard == [TEXT]
    assert stat.S_ISFIFO(path.stat().st_mode)


@pytest.mark.parametrize("form", ["/dev/fd/{}", "/proc/self/fd/{}", "{link}"])
def test_an_open_descriptor_is_written_where_it_is(tmp_path: Path, form: str) -> None:
    """As in `(echo before; stt file x -o /dev/stdout) > log`."""
    log = tmp_path / "log"
    with log.open("w") as file:
        (tmp_path / "link").symlink_to(f"/dev/fd/{file.fileno()}")
        file.write("before\n")
        file.flush()
        write(Path(form.format(file.fileno(), link=tmp_path / "link")))
        write(Path(form.format(file.fileno(), link=tmp_path / "link")))
    assert log.read_text() == f"before\n{TEXT}{TEXT}"


def test_a_socket_can_be_a_descriptor() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        write(Path(f"/dev/fd/{ours.fileno()}"))
        assert theirs.recv(100).decode() == TEXT


def test_a_closed_descriptor_is_told() -> None:
    with pytest.raises(OutputError, match="/dev/fd/987: closed"):
        destinations(["x.wav"], "/dev/fd/987", "txt")


# --- formats


@pytest.mark.parametrize(
    ("output", "kind"),
    [
        ("talk.srt", "srt"),
        ("a.b/talk.VTT", "vtt"),
        ("talk.json", "json"),
        ("talk.txt", "txt"),
        ("talk", None),
        ("talk.md", None),
        ("talk.log", None),
        ("tmp.Xq3ZrT", None),
        ("subs.srt/", None),
        (".srt", None),
        ("-", None),
    ],
)
def test_the_suffix_names_the_format(output: str, kind: str | None) -> None:
    assert kind_of(output) == kind


def test_a_suffix_of_something_else_is_an_error_unless_a_format_was_said(tmp_path: Path) -> None:
    for suffix in ("csv", "html", "wav", "MP3"):
        with pytest.raises(SettingsError, match=f"got .{suffix.lower()}; or say --format"):
            kind_of(f"t.{suffix}")
    with pytest.raises(SettingsError, match=r"t\.pdf: expected a name that ends in one of \.txt, .* or say --format"):
        kind_of("t.pdf")
    assert kind_of("t.pdf", "vtt") == "vtt"
    (tmp_path / "t.pdf").touch()
    (tmp_path / "texts.d").mkdir()
    os.mkfifo(tmp_path / "fifo.out")
    with pytest.raises(SettingsError):
        kind_of(str(tmp_path / "t.pdf"))
    assert [kind_of(str(tmp_path / name)) for name in ("texts.d", "fifo.out")] == [None, None]


@pytest.mark.parametrize("kind", ["srt", "vtt"])
@pytest.mark.parametrize("output", ["-", "/dev/stdout"])
def test_subtitles_of_several_recordings_are_no_one_text(kind: str, output: str) -> None:
    with pytest.raises(SettingsError, match=f"--format {kind}: expected one input for .*, got 2; --output DIR/"):
        destinations(["a.wav", "b.wav"], output, kind)
    assert len(destinations(["a.wav", "b.wav"], output, "json")) == 2
