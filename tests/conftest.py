"""What holds for all tests: no configuration of who runs them, as many workers as fit, and nothing missing but said.

Without the extra `canary` (torch and what goes with it) all tests run but those of canary-qwen.
"""

import os
from importlib.util import find_spec
from typing import Final

import pytest

from stt.engines.openmp import let_threads_sleep
from stt.machine import cores

os.environ["STT_CONFIG"] = ""  # no configuration of who runs the tests; also in the processes they start
let_threads_sleep()  # before a test imports torch: beside another worker, threads that spin take that one's core

WORKER_GB: Final = 3  # at most, with the processes that its tests start: 2.9 measured

WITH_CANARY = all(find_spec(name) for name in ("torch", "safetensors", "tokenizers", "transformers", "peft", "librosa"))

# The model's own tests need it all through.
collect_ignore_glob = [] if WITH_CANARY else ["nemo_lite", "test_canary_*.py"]


@pytest.hookimpl(optionalhook=True)  # without xdist as well, in one process
def pytest_xdist_auto_num_workers() -> int:
    """Say how many workers `-n auto` is: one for each core that this process may use, if there is memory for them."""
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return max(1, min(cores(), int(memory_gb / WORKER_GB)))


def pytest_report_header() -> str | None:
    """Say what is left out."""
    return None if WITH_CANARY else "no extra `canary`: the tests of canary-qwen are left out"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip single tests that need it in files that do not."""
    if not WITH_CANARY:
        for item in items:
            if item.get_closest_marker("canary"):
                item.add_marker(pytest.mark.skip(reason="needs the extra `canary`"))
