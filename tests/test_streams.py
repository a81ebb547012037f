"""Standard streams that are closed, full, or of an encoding that cannot hold what is said; names that are no UTF-8."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

from spoken import normalized, sentences, silence, talk

[TEXT] = sentences(1, seed=2)
STT = [sys.executable, "-Pm", "stt.cli"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recordings") / "one.wav"
    soundfile.write(path, talk([TEXT], [0.5]), 16_000)
    return path


def shell(command: str, *args: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a line in which "$@" is `stt ARGS`."""
    theirs = ("STT_", "LC_", "PYTHONIOENCODING", "PYTHONUNBUFFERED")
    plain = {name: value for name, value in os.environ.items() if not name.startswith(theirs)}
    run = ["bash", "-c", command, "bash", *STT, *map(str, args)]
    return subprocess.run(run, capture_output=True, text=True, check=False, env=plain | environment)


def test_a_closed_standard_error_takes_nothing_away(clip: Path) -> None:
    run = shell('"$@" 2>&-', "file", clip)
    assert (run.returncode, normalized(run.stdout), run.stderr) == (0, normalized(TEXT), "")
    assert len(run.stdout.splitlines()) == 1, "what went to standard error is not in the text"


def test_a_closed_standard_error_does_not_mix_with_the_output(clip: Path, tmp_path: Path) -> None:
    run = shell('"$@" 2>&-', "file", clip, "-o", tmp_path / "one.txt")
    assert run.returncode == 0
    assert normalized((tmp_path / "one.txt").read_text()) == normalized(TEXT)


@pytest.mark.parametrize("args", [("--help",), ("--version",), ("models",), ("file", "{clip}", "-q")])
@pytest.mark.parametrize(("end", "why"), [(">&-", "closed"), (">/dev/full", "No space left on device")])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_standard_output_that_takes_nothing_is_told_once(
    clip: Path, args: tuple[str, ...], end: str, why: str, unbuffered: str
) -> None:
    run = shell(f'"$@" {end}', *(arg.format(clip=clip) for arg in args), PYTHONUNBUFFERED=unbuffered)
    assert run.returncode == 1
    [said] = [line for line in run.stderr.splitlines() if "standard output" in line]
    assert said.startswith("stt")
    assert said.endswith(f"standard output: {why}")
    assert "Traceback" not in run.stderr
    assert "Exception ignored" not in run.stderr


def test_without_standard_streams_files_are_written(clip: Path, tmp_path: Path) -> None:
    run = shell('"$@" <&- >&- 2>&-', "file", clip, "-o", tmp_path / "one.txt")
    assert run.returncode == 0
    assert normalized((tmp_path / "one.txt").read_text()) == normalized(TEXT)


def test_a_closed_standard_input_is_told() -> None:
    run = shell('"$@" <&-', "file", "-q", "-")
    assert run.returncode == 1
    assert "standard input" in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_json_is_whole_in_any_encoding(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "gruß 你好 \N{MICROPHONE}.wav"
    soundfile.write(path, silence(0.1), 16_000)
    run = shell('"$@"', "file", "-q", path, "--format", "json", PYTHONIOENCODING=encoding)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["file"] == str(path)


def test_text_that_the_encoding_cannot_hold_is_escaped() -> None:
    program = "import sys; from stt.cli import streams; streams.prepare(); print('gr\\u00fc\\u00df \\u4f60')"
    run = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        check=True,
    )
    assert run.stdout == b"gr\xfc\xdf \\u4f60\n"


def test_names_that_are_no_utf_8(clip: Path, tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/caf\xe9.wav"
    Path(os.fsdecode(path)).write_bytes(clip.read_bytes())
    for args in (["-o", os.fsencode(tmp_path) + b"/caf\xe9/"], ["--format", "json"], ["-o", tmp_path / "x.json"]):
        command = [*STT, "file", path, *args]
        run = subprocess.run(command, capture_output=True, check=False, timeout=60)
        assert run.returncode == 0, run.stderr
    text = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9/caf\xe9.txt")).read_text()
    assert normalized(text) == normalized(TEXT)
    assert json.loads((tmp_path / "x.json").read_text())["file"] == os.fsdecode(path)


def test_an_error_says_in_which_file(clip: Path, tmp_path: Path) -> None:
    wild = tmp_path / "wild.wav"
    header = bytearray(clip.read_bytes())
    header[24:28] = (4_000_000).to_bytes(4, "little")  # the sample rate
    wild.write_bytes(header)
    run = shell('"$@"', "file", "-q", wild, clip)
    assert run.returncode == 1
    assert normalized(run.stdout) == normalized(TEXT)
    assert run.stderr.splitlines()[0].startswith(f"stt file: {wild}: ")


def test_where_nobody_speaks_it_says_so(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "quiet.wav", silence(2), 16_000)
    run = shell('"$@"', "file", tmp_path / "quiet.wav")
    assert (run.returncode, run.stdout) == (0, "")
    assert run.stderr.splitlines()[-1] == f"{tmp_path}/quiet.wav: no speech found"


def test_the_shell_s_own_descriptors_are_written_to(clip: Path, tmp_path: Path) -> None:
    run = shell(f'"$@" -o >(cat); (echo before; "$@" -o /dev/stdout; echo after) > {tmp_path}/log', "file", "-q", clip)
    assert (run.returncode, run.stderr) == (0, "")
    assert normalized(run.stdout) == normalized(TEXT)
    before, text, after = (tmp_path / "log").read_text().splitlines()
    assert (before, normalized(text), after) == ("before", normalized(TEXT), "after")


def test_the_suffix_decides_the_format_unless_an_option_does(clip: Path, tmp_path: Path) -> None:
    for name, args, environment, start in (
        ("a.srt", (), {"STT_FORMAT": "json"}, "1\n00:00:0"),
        ("b.srt", ("--format", "vtt"), {}, "WEBVTT\n\n"),
        ("c.out", (), {"STT_FORMAT": "vtt"}, "WEBVTT\n\n"),
    ):
        run = shell('"$@"', "file", "-q", clip, "-o", tmp_path / name, *args, **environment)
        assert run.returncode == 0, run.stderr
        assert (tmp_path / name).read_text().startswith(start)
