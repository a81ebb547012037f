"""What installing takes: seconds, megabytes on the line and on disk, packages, the large ones; and the first words.

    python benchmarks/install.py [REQUIREMENT ...]     (default: the clone; '.[canary]', stt_live-0.2.0-....whl)
    python benchmarks/install.py --elsewhere           (what the light install's dependencies are on other platforms)

Each goes into a new virtual environment, without pip's cache; what an empty one has does not count. A clone needs Rust,
whose crates it may download.
"""

import re
import subprocess
import sys
import time
import tomllib
from importlib.metadata import distributions
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]
SCALE = {"bytes": 1e-6, "kB": 1e-3, "MB": 1.0, "GB": 1e3}
LARGE_MB = 5
LINUX = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014")
PLATFORMS = {  # the tags of wheels that go there, newest first
    "Linux, x86_64": [f"{tag}_x86_64" for tag in LINUX],
    "Linux, aarch64": [f"{tag}_aarch64" for tag in LINUX],
    "macOS 14, arm64": ["macosx_14_0_arm64"],
    "macOS 14, x86_64": ["macosx_14_0_x86_64"],
}


def measure(requirement: str) -> None:
    with TemporaryDirectory() as folder:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        empty_mb = on_disk_mb(Path(folder))
        said = install([f"{folder}/bin/pip"], requirement)
        installed_s = time.perf_counter() - began
        [packages] = re.findall(r"^Successfully installed (.*)$", said, re.MULTILINE)
        disk_mb = on_disk_mb(Path(folder)) - empty_mb
        stt = [f"{folder}/bin/stt", "file", "--quiet", "--engine", "whisper", "examples/news.flac"]
        words = subprocess.run(stt, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.split()
        print(
            f"{requirement}: {installed_s:.0f} s, first words after {time.perf_counter() - began:.0f} s; "
            f"{downloaded_mb(said):.0f} MB downloaded, {disk_mb:.0f} MB on disk, "
            f"{len(packages.split())} packages ({len(words)} words heard)"
        )
        [site] = Path(folder).glob("lib/python*/site-packages")
        print(sizes(site, besides=("pip", "setuptools")))


def measure_elsewhere() -> None:
    """Say how large the dependencies are on each platform: its wheels, unpacked, without bytecode and our own wheel."""
    requirements = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    for platform, tags in PLATFORMS.items():
        with TemporaryDirectory() as folder:
            there = [f"--platform={tag}" for tag in tags]
            pip = [sys.executable, "-m", "pip"]
            said = install(pip, "--target", folder, "--only-binary=:all:", "--no-compile", *there, *requirements)
            disk_mb = on_disk_mb(Path(folder))
            print(
                f"{platform}: {downloaded_mb(said):.0f} MB downloaded, {disk_mb:.0f} MB on disk; {sizes(Path(folder))}"
            )


def install(pip: list[str], *what: str) -> str:
    command = [*pip, "install", "--no-cache-dir", "--progress-bar", "off", *what]
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def downloaded_mb(said: str) -> float:
    lines = re.findall(r"^ *Downloading \S+ \(([\d.]+) ([kMG]?B|bytes)\)$", said, re.MULTILINE)
    return sum(float(size) * SCALE[unit] for size, unit in lines)


def on_disk_mb(folder: Path) -> float:
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_symlink()) / 1e6


def sizes(site: Path, besides: tuple[str, ...] = ()) -> str:
    """Return the packages of a directory that are large, and the sum of the others."""
    of: dict[str, float] = {}
    for package in distributions(path=[str(site)]):
        if package.name not in besides:
            files = [Path(str(file.locate())) for file in package.files or ()]
            of[package.name] = sum(path.stat().st_size for path in files if path.is_file()) / 1e6
    large = {name: mb for name, mb in sorted(of.items(), key=lambda item: -item[1]) if mb >= LARGE_MB}
    named = ", ".join(f"{name} {mb:.0f}" for name, mb in large.items())
    return f"{named}, {len(of) - len(large)} others {sum(of.values()) - sum(large.values()):.0f}"


if sys.argv[1:] == ["--elsewhere"]:
    measure_elsewhere()
else:
    for argument in sys.argv[1:] or ["."]:
        measure(argument)
