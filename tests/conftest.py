"""Without the extra `canary` (torch and what goes with it) all tests run but those of canary-qwen."""

import os
from importlib.util import find_spec

import pytest

os.environ["STT_CONFIG"] = ""  # no configuration of who runs the tests; also in the processes they start

WITH_CANARY = all(find_spec(name) for name in ("torch", "safetensors", "tokenizers", "transformers", "peft", "librosa"))

# The model's own tests need it all through.
collect_ignore_glob = [] if WITH_CANARY else ["nemo_lite", "test_canary_*.py"]


def pytest_report_header() -> str | None:
    """Say what is left out."""
    return None if WITH_CANARY else "no extra `canary`: the tests of canary-qwen are left out"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip single tests that need it in files that do not."""
    if not WITH_CANARY:
        for item in items:
            if item.get_closest_marker("canary"):
                item.add_marker(pytest.mark.skip(reason="needs the extra `canary`"))
