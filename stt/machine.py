"""What this machine has that decides what to install and run. Asks the system, not torch; imports nothing heavy."""

import os
import platform
import shlex
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Literal

DISTRIBUTION: Final = "stt-live"
"""The package's name where packages are published; what is imported and run is called stt."""

_CANARY: Final = f"{DISTRIBUTION}[canary]"
_CPU_INDEX: Final = "https://download.pytorch.org/whl/cpu"


def gpu(root: Path = Path("/")) -> Literal["nvidia", "amd"] | None:
    """Say whose GPU the kernel sees, usable or not; also under WSL and where only the driver's nodes are passed on."""
    if any((root / "dev").glob("nvidia[0-9]*")) or any((root / "proc/driver/nvidia/gpus").glob("*")):
        return "nvidia"
    if (root / "usr/lib/wsl/lib/libcuda.so.1").exists():
        return "nvidia"
    return "amd" if (root / "dev/kfd").exists() else None


def cores() -> int:
    """Return how many cores this process may use; where the system does not tell (macOS), all there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def busy() -> bool:
    """Say whether more wants to run than there are cores: what is timed now is slower than it will be."""
    return os.getloadavg()[0] > cores()


def install_canary() -> str:
    """Return the command that adds the engine canary-qwen to this installation, with the torch for this machine."""
    whose = gpu()
    command = [*_install(), _CANARY]
    # The torch of PyPI is for CUDA on Linux, and has no other variants elsewhere.
    if platform.system() == "Linux" and whose is None:
        command += ["--extra-index-url", _CPU_INDEX] if find_spec("pip") else ["--torch-backend", "cpu"]
    untested = " (for ROCm, untested, first torch 2.11 and torchaudio 2.11 as https://pytorch.org says)"
    return shlex.join(command) + (untested if whose == "amd" else "")


def reinstall(*packages: str) -> str:
    """Return the command that installs packages of this installation anew."""
    return shlex.join([*_install(), "--force-reinstall", "--no-deps", *packages])


def _install() -> list[str]:
    if find_spec("pip"):
        return [sys.executable, "-m", "pip", "install"]
    return ["uv", "pip", "install", "--python", sys.executable]  # uv's environments have no pip
