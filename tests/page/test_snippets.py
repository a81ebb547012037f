"""The page's snippets do what they say, with the address of the server that shows them."""

import asyncio
import importlib.util
import json
import shlex
import shutil
import sys
from pathlib import Path

import pytest
import soundfile
from browser import browsing

from serving import serving
from spoken import sentences, talk, word_errors
from stt.engines import open_engine
from stt.recognition import SpeechModel
from stt.settings import EngineSettings
from stt.vad_pool import VadPool

TEXTS = sentences(2, seed=3)


def whisper() -> SpeechModel:
    return open_engine(EngineSettings(engine="whisper", device="cpu")).model


async def said(folder: Path, *command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return out.decode()


async def test_they_run_against_this_server(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "talk.wav", talk(TEXTS, [2.0, 2.0]), 16_000, "PCM_16")
    async with serving(whisper, vad=VadPool, ready=False) as running:
        await running.until(lambda: running.service.state == "ready", 60)
        async with browsing(f"{running.http}/", tmp_path) as page:
            await page.locator("summary", has_text="from a program").click()
            names = await page.locator("#snippet option").all_inner_texts()
            snippets = {}
            for name in names:
                await page.select_option("#snippet", name)
                snippets[name] = await page.locator("#code").inner_text()
        assert all(f"127.0.0.1:{running.port}" in text for text in snippets.values())
        answers = {}
        for name, library in (
            ("Python", "websockets"),
            ("OpenAI SDK (Python)", "openai"),
            ("Deepgram SDK (Python)", "deepgram"),
        ):
            compile(snippets[name], name, "exec")
            if importlib.util.find_spec(library) is not None:
                answers[name] = await said(tmp_path, sys.executable, "-c", snippets[name])
        if shutil.which("curl"):
            asked = snippets["curl"].replace("talk.m4a", "talk.wav").splitlines()
            answers["curl"] = await said(tmp_path, *shlex.split(asked[0]))
            found = json.loads(await said(tmp_path, *shlex.split(snippets["Deepgram (curl)"])))
            answers["Deepgram (curl)"] = found["results"]["channels"][0]["alternatives"][0]["transcript"]
    assert len(answers) >= 1
    for name, text in answers.items():
        errors, words = word_errors(" ".join(TEXTS), text)
        assert errors <= words / 5, (name, text)


@pytest.mark.parametrize("allowed", [True, False])
async def test_they_can_be_copied(tmp_path: Path, *, allowed: bool) -> None:
    context = {"permissions": ["clipboard-read", "clipboard-write"]} if allowed else {}
    async with serving() as running, browsing(f"{running.http}/", tmp_path, **context) as page:
        if not allowed:
            await page.evaluate("navigator.clipboard.writeText = () => Promise.reject(new Error('no')); null")
        await page.locator("summary", has_text="from a program").click()
        await page.click("#copy-snippet")
        if allowed:
            copied = await page.evaluate("navigator.clipboard.readText()")
            assert copied == await page.locator("#code").inner_text()
        else:
            assert "select the text instead" in await page.locator("#notice").inner_text()
