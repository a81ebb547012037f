"""The build backend (PEP 517): maturin's, once it is clear that there is a Rust to build with.

maturin by itself fetches a whole toolchain where it finds none, unasked and silent for minutes, and where that cannot
be had it fails in words that do not say what to do.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import maturin
from maturin import (
    build_editable,
    build_sdist,
    build_wheel,
    get_requires_for_build_sdist,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]


def get_requires_for_build_wheel(config_settings: dict | None = None) -> list[str]:
    """Raise `SystemExit` with what to do where Rust is missing or too old."""
    if (problem := _without_rust()) is not None:
        print(problem, file=sys.stderr, flush=True)
        raise SystemExit(1)
    return maturin.get_requires_for_build_wheel(config_settings)


get_requires_for_build_editable = get_requires_for_build_wheel


def _without_rust() -> str | None:
    manifest = Path(__file__).parents[1] / "strops-rs" / "Cargo.toml"
    needed = re.search(r'^rust-version = "([\d.]+)"', manifest.read_text(), re.MULTILINE)[1]
    how = (
        f"Get it from https://rustup.rs, or from your system if that has {needed} or newer, and try again.\n"
        "A wheel needs no Rust: a file stt_live-*.whl of a release, given to `pip install`."
    )
    cargo = shutil.which("cargo")
    if cargo is None:
        return f"\nstt is built from source here, and that needs Rust: there is no `cargo` in PATH.\n{how}\n"
    answer = subprocess.run([cargo, "--version"], capture_output=True, text=True, check=False)  # noqa: S603
    version = re.match(r"cargo (\d+(?:\.\d+)*)", answer.stdout)
    if version is None:
        said = answer.stderr.strip() or answer.stdout.strip() or f"exit status {answer.returncode}"
        return f"\nstt is built from source here, and that needs Rust: `cargo --version` says {said!r}.\n{how}\n"
    if _numbers(version[1]) < _numbers(needed):
        return f"\nstt is built from source here, and that needs Rust {needed}: this is {version[1]}.\n{how}\n"
    return None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))
