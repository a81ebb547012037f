"""The program on the protocol's page does what it says."""

import asyncio
import re
import sys
from pathlib import Path

import numpy as np
import soundfile

from scripted import tone
from serving import serving
from spoken import silence

PAGE = Path(__file__).parents[2] / "docs" / "protocol.md"


async def test_its_example_prints_texts_while_somebody_speaks(tmp_path: Path) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    soundfile.write(tmp_path / "talk.wav", np.concatenate([tone(2), silence(0.5)]), 16_000)
    async with serving() as running, asyncio.timeout(30):
        program = program.replace("ws://127.0.0.1:15751/ws/transcribe", running.ws)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-uc", program, cwd=tmp_path, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        first = await process.stdout.readline()
        assert running.service.sessions, "it still speaks"
        last, _ = await process.communicate()
    assert process.returncode == 0
    assert re.fullmatch(rb"w\d+\n", first)
    assert re.search(rb"w\d+\n$", last)
