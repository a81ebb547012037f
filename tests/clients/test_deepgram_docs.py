"""The blocks of Python in docs/clients.md about Deepgram's protocols, run as they stand but for the port."""

import ast
import asyncio
import contextlib
import io
import re
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest
import soundfile
from served import stt_serve

from serving import frames
from spoken import sentences, talk, word_errors

pytest.importorskip("pipecat")
from livekit import rtc
from livekit.agents.stt import SpeechEventType
from livekit.agents.utils import http_context
from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.frames.frames import TranscriptionFrame
from pipecat.processors.audio.vad_processor import VADProcessor
from pipecat_run import hear

TEXTS = sentences(2, 3)
SPEECH = talk(TEXTS, [1.5, 1.5])
DOCS = (Path(__file__).parents[2] / "docs" / "clients.md").read_text()
WHOLE = re.MULTILINE | re.DOTALL
SECTIONS = {
    title: re.findall(r"^```python\n(.*?)^```", body, WHOLE)
    for title, body in re.findall(r"^### (.+?)\n(.*?)(?=^##|\Z)", DOCS.partition("\n## Deepgram")[2], WHOLE)
}


def right(heard: str) -> bool:
    errors, words = word_errors(" ".join(TEXTS), heard)
    return errors <= words / 5


async def run(block: str, host: str, names: dict[str, Any]) -> str:
    """Run a block with these names; return what it prints."""
    code = compile(block.replace("127.0.0.1:15751", host), "docs/clients.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        result = eval(code, names)
        if isinstance(result, Awaitable):
            await result
    return printed.getvalue()


async def test_the_sdk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "talk.flac", SPEECH, 16_000)
    monkeypatch.chdir(tmp_path)
    opened, *blocks = SECTIONS["Deepgram's Python SDK"]
    assert len(blocks) == 3
    names: dict[str, Any] = {"pcm": b"".join(frames(SPEECH))}
    async with stt_serve() as host, asyncio.timeout(120):
        await run(opened, host, names)
        for block in blocks:
            assert right(await run(block, host, names)), block


async def test_pipecat() -> None:
    blocks = SECTIONS["pipecat"]
    assert len(blocks) == 2
    async with stt_serve() as host:
        for block, before in zip(blocks, ([], [VADProcessor(vad_analyzer=SileroVADAnalyzer())]), strict=True):
            names: dict[str, Any] = {}
            await run(block, host, names)

            def texts(found: list[Any]) -> list[str]:
                return [frame.text for frame in found if isinstance(frame, TranscriptionFrame)]

            arrived = await hear([*before, names["stt"]], SPEECH, lambda found: len(texts(found)) >= 2)
            assert right(" ".join(texts([one.frame for one in arrived])))


async def test_livekit() -> None:
    blocks = SECTIONS["LiveKit Agents"]
    assert len(blocks) == 2
    async with stt_serve() as host, http_context.open(), asyncio.timeout(120):
        for block in blocks:
            names: dict[str, Any] = {}
            await run(block, host, names)
            stream = names["stt"].stream()
            for pcm in frames(SPEECH, 160):
                stream.push_frame(rtc.AudioFrame(pcm, 16_000, 1, len(pcm) // 2))
            stream.end_input()
            events = [event async for event in stream]
            finals = [event for event in events if event.type == SpeechEventType.FINAL_TRANSCRIPT]
            assert right(" ".join(event.alternatives[0].text for event in finals))
