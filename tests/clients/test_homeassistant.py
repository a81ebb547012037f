"""A real Home Assistant, unmodified, against `stt serve` with its embedded engine and real speech.

It pins other versions of much that is installed here, so it has a virtual environment and a Python of its own
(`make homeassistant`); `STT_HOMEASSISTANT` names that Python.
"""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from served import free_port, stt_serve

from spoken import sentences, silence, talk, word_errors
from stt.audio import to_pcm16

PYTHON = os.environ.get("STT_HOMEASSISTANT", "")
RUN = Path(__file__).with_name("homeassistant_run.py")
TEXTS = [sentences(2, seed) for seed in (3, 4)]

pytestmark = pytest.mark.skipif(
    not PYTHON, reason="STT_HOMEASSISTANT names no Python with Home Assistant: `make homeassistant` makes one"
)


async def home_assistant(tmp_path: Path, port: int, speech: list[np.ndarray]) -> tuple[dict[str, Any], str]:
    """Return what it made of the server, and its log."""
    files = [tmp_path / f"{i}.pcm" for i in range(len(speech))]
    for file, sound in zip(files, speech, strict=True):
        file.write_bytes(to_pcm16(sound))
    arguments = ["hear", "127.0.0.1", str(port), "en", *map(str, files)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    run = await asyncio.create_subprocess_exec(
        *(PYTHON, RUN, *arguments),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, log = [stream.decode() for stream in await run.communicate()]
    assert run.returncode == 0, log
    return json.loads(out.splitlines()[-1]), log


def right(heard: str, texts: list[str]) -> bool:
    errors, words = word_errors(" ".join(texts), heard)
    return errors <= words / 5


@pytest.mark.timeout(400)
async def test_it_finds_the_server_and_its_assistants_hear_with_it(tmp_path: Path) -> None:
    port = free_port()
    speech = [*(talk(texts, [1.0, 0.5]) for texts in TEXTS), silence(1.0)]
    async with stt_serve("--wyoming", str(port)):
        found, log = await home_assistant(tmp_path, port, speech)
    assert found["titles"] == ["stt", "stt"]
    assert [name.partition(".")[0] for name in found["entities"]] == ["stt", "stt"]
    assert found["languages"] == ["en"]
    assert [result for result, _ in found["heard"]] == ["success"] * 3
    *spoken, nothing = [text for _, text in found["heard"]]
    assert all(right(heard, texts) for heard, texts in zip(spoken, TEXTS, strict=True))
    assert nothing == ""
    assert right(found["assistant"], TEXTS[0])
    assert "ERROR:homeassistant.components.wyoming" not in log


@pytest.mark.timeout(400)
async def test_it_hears_with_a_server_that_ends_turns(tmp_path: Path) -> None:
    """This one sends all of it, and reads then: it gets what was said up to the first silence."""
    port = free_port()
    async with stt_serve("--wyoming", str(port), "--wyoming-ends-turns", "--end-of-turn", "0.8"):
        found, _ = await home_assistant(tmp_path, port, [talk(TEXTS[0], [2.0, 2.0])])
    assert [result for result, _ in found["heard"]] == ["success"]
    assert right(found["heard"][0][1], TEXTS[0][:1])
