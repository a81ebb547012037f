"""The README's program does what it says."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_library_example_prints_the_turns_of_the_clip() -> None:
    [program] = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    run = subprocess.run([sys.executable, "-Pc", program], cwd=ROOT, capture_output=True, text=True, check=True)
    lines = run.stdout.splitlines()
    completed = [line for line in lines if line.startswith("TurnCompleted")]
    assert len(completed) == 3
    assert lines[0].startswith("TurnStarted")
    assert "electric buses" in completed[1]


def test_the_options_table_is_the_command_line_s() -> None:
    """Every option of the table is in `--help` with its variable and default."""
    run = subprocess.run(
        [sys.executable, "-Pm", "stt.cli", "file", "--help"], capture_output=True, text=True, check=True
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
