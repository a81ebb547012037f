"""The command lines of docs/clients.md, run as they stand there."""

import asyncio
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from served import stt_serve

from spoken import sentences, talk, word_errors

DOCS = Path(__file__).parents[2] / "docs/clients.md"
TEXTS = sentences(2, 3)
COMMANDS = re.findall(
    r"^curl (?:-N )?http\S+/v1/audio/transcriptions(?:[^\n]*\\\n)*[^\n]*", DOCS.read_text(), re.MULTILINE
)


def test_they_are_found() -> None:
    assert len(COMMANDS) >= 4


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
async def test_curl(tmp_path: Path) -> None:
    """What it prints has the words that were spoken, in whatever format."""
    # FFmpeg goes by what is in a file, so that it need not be what its name says.
    soundfile.write(tmp_path / "talk.m4a", np.clip(talk(TEXTS, [2.0, 1.0]), -1, 1), 16_000, format="FLAC")
    async with stt_serve() as host:
        for command in COMMANDS:
            line = command.partition(" # ")[0].replace("127.0.0.1:15751", host)
            run = await asyncio.create_subprocess_exec("bash", "-c", line, cwd=tmp_path, stdout=asyncio.subprocess.PIPE)
            out = (await run.communicate())[0].decode()
            said = re.findall(r'"text": ?"([^"]*)"', out)
            heard = max(said, key=len) if said else " ".join(text for text in out.splitlines() if text[:1].isalpha())
            errors, words = word_errors(" ".join(TEXTS), heard)
            assert errors <= words / 5, (line, out)
