"""The README's programs do what it says, and its table of options is the command line's."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BIN = str(Path(sys.executable).parent)


PROGRAMS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def output(program: str) -> list[str]:
    run = subprocess.run([sys.executable, "-Pc", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return run.stdout.splitlines()


def test_the_session_example_prints_the_turns_of_the_clip() -> None:
    lines = output(PROGRAMS[0])
    completed = [line for line in lines if line.startswith("TurnCompleted")]
    assert len(completed) == 3
    assert lines[0].startswith("TurnStarted")
    assert "electric buses" in completed[1]


def test_the_file_example_prints_when_turns_began() -> None:
    _, second, _ = output(PROGRAMS[1])
    assert re.match(r"\d+\.\d .*electric buses", second)


@pytest.mark.skipif(shutil.which("basedpyright", path=BIN) is None, reason="basedpyright is of the extra dev")
@pytest.mark.parametrize("mode", ["strict", "recommended"])
def test_the_examples_have_types(tmp_path: Path, mode: str) -> None:
    for i, program in enumerate(PROGRAMS):
        (tmp_path / f"example_{i}.py").write_text(program)
    settings = {"typeCheckingMode": mode, "extraPaths": [str(ROOT)], "failOnWarnings": True}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    checker = [f"{BIN}/basedpyright", "--pythonpath", sys.executable]
    run = subprocess.run(checker, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout
    assert "0 errors, 0 warnings" in run.stdout


def test_the_options_table_is_the_command_line_s() -> None:
    """Every option of the table is in `--help` with its variable and default."""
    run = subprocess.run(
        [sys.executable, "-Pm", "stt.cli", "serve", "--help"], capture_output=True, text=True, check=True
    )
    shown = " ".join(run.stdout.split())
    rows = re.findall(
        r"^\| `(--[\w-]+) ?([^`]*)` \|.*\| `(STT_\w+)` \|$", (ROOT / "README.md").read_text(), re.MULTILINE
    )
    assert len(rows) >= 7
    for option, default, variable in rows:
        assert f"{option} " in shown
        assert f"[{variable}]" in shown
        if re.fullmatch(r"[a-z0-9.]+", default):
            assert f"(default: {default})" in shown
