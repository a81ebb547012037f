"""What installing takes: seconds, megabytes on the line and on disk, packages; and then the first words of the clip.

    python benchmarks/install.py [REQUIREMENT ...]     (default: the clone; '.[canary]', stt_live-0.2.0-....whl)

Each goes into a new virtual environment, without pip's cache. A clone needs Rust, whose crates it may download.
"""

import re
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]
SCALE = {"bytes": 1e-6, "kB": 1e-3, "MB": 1.0, "GB": 1e3}


def measure(requirement: str) -> None:
    with TemporaryDirectory() as folder:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip = [f"{folder}/bin/pip", "install", "--no-cache-dir", "--progress-bar", "off", requirement]
        said = subprocess.run(pip, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
        installed_s = time.perf_counter() - began
        lines = re.findall(r"^ *Downloading \S+ \(([\d.]+) ([kMG]?B|bytes)\)$", said, re.MULTILINE)
        [packages] = re.findall(r"^Successfully installed (.*)$", said, re.MULTILINE)
        disk = sum(path.lstat().st_size for path in Path(folder).rglob("*") if not path.is_symlink())
        stt = [f"{folder}/bin/stt", "file", "--quiet", "--engine", "whisper", "examples/news.flac"]
        words = subprocess.run(stt, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.split()
        print(
            f"{requirement}: {installed_s:.0f} s, first words after {time.perf_counter() - began:.0f} s; "
            f"{sum(float(size) * SCALE[unit] for size, unit in lines):.0f} MB downloaded, {disk / 1e6:.0f} MB on disk, "
            f"{len(packages.split())} packages ({len(words)} words heard)"
        )


for argument in sys.argv[1:] or ["."]:
    measure(argument)
