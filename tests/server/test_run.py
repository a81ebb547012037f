"""What `serve` says on standard error, in a process of its own: it takes the process's logging and signals."""

import asyncio
import contextlib
import json
import logging
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from websockets.asyncio.client import connect

from scripted import tone
from serving import frames, rest
from spoken import silence
from stt.server.logs import configure, log

CODE = """
import sys
sys.path[:0] = {path!r}
from scripted import {model}
from serving import LoudnessBatch
from stt.server import ServerSettings, create_app
from stt.server.run import serve
from stt.vad_pool import VadPool
settings = ServerSettings(port=0, **{settings!r})
app = create_app(settings, open_model={model}, open_vad=lambda: VadPool(LoudnessBatch()))
sys.exit(serve(app, settings, log_format="json"))
"""


@contextlib.asynccontextmanager
async def served(
    model: str = "ScriptedModel", status: int = 0, **settings: object
) -> AsyncIterator[tuple[str, list[dict]]]:
    """Its URL, and what it logged; all of it once the context is left, and it ended with this status."""
    path = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CODE.format(path=path, settings=settings, model=model), stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    lines = []
    async with asyncio.timeout(60):
        while not lines or lines[-1]["message"] != "ready":
            lines.append(json.loads(await process.stderr.readline()))
        (url,) = [line["url"] for line in lines if "url" in line]
        yield url, lines
        if status == 0:
            process.send_signal(signal.SIGTERM)
        _, errors = await process.communicate()
    lines += [json.loads(line) for line in errors.splitlines() if line.startswith(b"{")]
    assert process.returncode == status


@pytest.mark.parametrize(
    ("settings", "warned"),
    [({"host": "0.0.0.0"}, True), ({"host": "0.0.0.0", "api_keys": ("key",)}, False), ({}, False)],
)
async def test_a_server_open_to_everyone_says_so(settings: dict[str, object], *, warned: bool) -> None:
    async with served(**settings) as (_, lines):
        pass
    warnings = [(line["message"], line["host"]) for line in lines if line["level"] == "warning"]
    text = "anyone who reaches this address can use the server: no API key is set"
    assert warnings == [(text, "0.0.0.0")] * warned


async def test_text_that_is_not_utf8_is_one_line_of_the_log() -> None:
    async with served() as (url, lines):
        async with connect(f"{url}/ws/transcribe", compression=None) as websocket:
            await websocket.send(b"\xff\xfe", text=True)
            await rest(websocket)
        assert websocket.close_code == 1007
    assert [line["level"] for line in lines if line["level"] != "info"] == []
    assert [line["reason"] for line in lines if line["message"] == "session ended"] == ["bad_message"]


async def test_a_server_whose_gpu_is_lost_ends_for_its_manager_to_start_it_anew() -> None:
    async with served("LosesItsDevice", status=1) as (url, lines):
        async with connect(f"{url}/ws/transcribe", compression=None) as websocket:
            for frame in frames(np.concatenate([tone(1), silence(2)])):
                await websocket.send(frame)
            messages = await rest(websocket)
        assert "engine_failed" not in [message.get("code") for message in messages], "its client asks the next one"
        assert websocket.close_code == 1012, "the service restarts"
    errors = [line["message"] for line in lines if line["level"] == "error"]
    assert errors == ["the engine is lost: the GPU is gone"]


async def test_a_log_level_leaves_out_what_is_below_it(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        configure("json", "warning")
        log("a session", session="1")
        log("trouble", logging.WARNING)
    finally:
        root.handlers[:] = before[0]
        root.setLevel(before[1])
        logging.getLogger("stt").setLevel(logging.NOTSET)
    assert [json.loads(line)["message"] for line in capsys.readouterr().err.splitlines()] == ["trouble"]
