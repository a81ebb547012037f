"""The command lines and settings of docs/clients.md, run as they stand there."""

import asyncio
import io
import json
import re
import shutil
from pathlib import Path

import httpx
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


async def test_dictation() -> None:
    """What hyprwhspr posts by the settings in the docs: a form with the recording, read as JSON with a `text`."""
    (block,) = re.findall(r"```json\n(\{[^`]*rest-api[^`]*)```", DOCS.read_text())
    settings = json.loads(block)
    recording = io.BytesIO()
    soundfile.write(recording, np.clip(talk(TEXTS, [0.5, 0.5]), -1, 1), 16_000, format=settings["rest_audio_format"])
    async with stt_serve() as host, httpx.AsyncClient(timeout=settings["rest_timeout"]) as client:
        answer = await client.post(
            settings["rest_endpoint_url"].replace("127.0.0.1:15751", host),
            files={"file": ("audio.wav", recording.getvalue(), "audio/wav")},
            data=settings["rest_body"],
            headers={"accept": "application/json"} | settings["rest_headers"],
        )
    assert answer.status_code == 200
    errors, words = word_errors(" ".join(TEXTS), answer.json()["text"])
    assert errors <= words / 5
