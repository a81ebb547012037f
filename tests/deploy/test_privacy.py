"""Nothing is collected behind one's back."""

import os
import subprocess
import sys
from pathlib import Path


def test_onnxruntime_gathers_nothing_to_send(tmp_path: Path) -> None:
    """Its telemetry keeps an identifier of the device and a database of events in the cache directory."""
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    use = "from stt.vad import SileroVad; SileroVad()"
    subprocess.run([sys.executable, "-c", use], env=environment, check=True, timeout=120)
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()] == []
