"""What the benchmark scripts share: the test suite's speech, and running `stt` as a user does."""

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from spoken import sentences, talk, word_errors

__all__ = ["Run", "sentences", "stt_file", "talk", "word_errors"]


@dataclass(frozen=True, slots=True)
class Run:
    """A run of `stt file --format json`."""

    document: dict[str, Any]
    took_s: float
    peak_mb: float


def stt_file(path: Path, *options: str) -> Run:
    """Transcribe a file in a process of its own, and watch its memory."""
    command = [sys.executable, "-Pm", "stt.cli", "file", str(path), "--format", "json", "--quiet", *options]
    with tempfile.TemporaryFile("w+") as out:
        began, peak_kb = time.perf_counter(), 0
        process = subprocess.Popen(command, stdout=out)
        while process.poll() is None:
            peak_kb = max(peak_kb, _high_water_kb(process.pid))
            time.sleep(0.02)
        took_s = time.perf_counter() - began
        if process.returncode:
            sys.exit(f"{' '.join(command)} failed")
        out.seek(0)
        return Run(json.load(out), took_s, peak_kb / 1024)


def _high_water_kb(pid: int) -> int:
    """Most memory the process ever had. (The system's own account, `wait4`, counts in what its parent had.)"""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")), 0)
