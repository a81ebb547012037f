"""Building from source says what is missing before anything is fetched or compiled."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

BACKEND = Path(__file__).parents[2] / "packaging"
HOW = "Get it from https://rustup.rs"


@pytest.fixture
def ask(tmp_path: Path):
    """Ask the backend what it requires, where this shell script is cargo, and maturin says that it was asked."""

    def ask(cargo: str | None, hook: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "maturin.py").write_text(
            "def __getattr__(name):\n"
            "    if name.startswith('__'): raise AttributeError(name)\n"
            "    return lambda *_: [f'asked: {name}']\n"
        )
        if cargo is not None:
            (tmp_path / "cargo").write_text(f"#!/bin/sh\n{cargo}\n")
            (tmp_path / "cargo").chmod(0o755)
        code = f"import build_backend; print(build_backend.{hook}())"
        environment = os.environ | {"PATH": str(tmp_path), "PYTHONPATH": f"{tmp_path}:{BACKEND}"}
        return subprocess.run(
            [sys.executable, "-Bc", code], env=environment, capture_output=True, text=True, check=False
        )

    return ask


@pytest.mark.parametrize("hook", ["get_requires_for_build_wheel", "get_requires_for_build_editable"])
@pytest.mark.parametrize(
    ("cargo", "says"),
    [
        (None, "there is no `cargo` in PATH"),
        ("echo 'cargo 1.63.0'", "needs Rust 1.85: this is 1.63.0"),
        ("echo 'cargo 1.9.0 (nightly)'", "needs Rust 1.85: this is 1.9.0"),
        ("echo 'no default toolchain' >&2; exit 1", "`cargo --version` says 'no default toolchain'"),
        ("exit 127", "`cargo --version` says 'exit status 127'"),
    ],
)
def test_without_a_rust_that_will_do_it_says_so(ask, hook: str, cargo: str | None, says: str) -> None:
    run = ask(cargo, hook)
    assert (run.returncode, run.stdout) == (1, "")
    assert says in run.stderr
    assert HOW in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("version", ["1.85.0", "1.100.2 (abc 2026-01-01)", "2.0"])
def test_with_rust_it_is_maturin(ask, version: str) -> None:
    run = ask(f"echo 'cargo {version}'", "get_requires_for_build_wheel")
    assert (run.returncode, run.stderr) == (0, "")
    assert "asked: get_requires_for_build_wheel" in run.stdout


def test_a_source_distribution_needs_no_look_at_rust(ask) -> None:
    assert ask(None, "get_requires_for_build_sdist").returncode == 0
