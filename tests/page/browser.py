"""Debian's Chromium, whose microphone is a WAV file."""

import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from playwright.async_api import Page, async_playwright

_REFUSED = "Failed to load resource|WebSocket connection to|net::ERR"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@asynccontextmanager
async def browsing(
    url: str,
    folder: Path,
    audio: np.ndarray | None = None,
    *,
    allowed: bool = True,
    args: tuple[str, ...] = (),
    **context: Any,
) -> AsyncIterator[Page]:
    """Open a page; leaving checks that it had no errors and asked no other host."""
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here")
    args = ("--no-sandbox", *args)
    if audio is not None:
        soundfile.write(folder / "microphone.wav", audio, 16_000, "PCM_16")
        wav = f"{folder / 'microphone.wav'}%noloop"
        args += ("--use-fake-device-for-media-stream", f"--use-file-for-fake-audio-capture={wav}")
    if allowed:
        args += ("--use-fake-ui-for-media-stream",)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=args)
        page = await browser.new_page(**context)
        errors: list[str] = []
        hosts: set[str] = set()
        page.on("pageerror", lambda error: errors.append(str(error)))
        # What a browser says of a request that was refused or lost is no fault of the page.
        page.on(
            "console",
            lambda said: (
                errors.append(said.text)
                if said.type in ("error", "warning") and not re.match(_REFUSED, said.text)
                else None
            ),
        )
        page.on("request", lambda request: hosts.add(request.url.split("/")[2]))
        # Tones are no speech: what browsers do for speech takes them away.
        await page.add_init_script(
            "localStorage.stt ??= "
            "JSON.stringify({echoCancellation: false, autoGainControl: false, end_of_turn_ms: '800'})"
        )
        await page.goto(url)
        try:
            yield page
        finally:
            await browser.close()
        assert not errors
        assert hosts == {url.split("/")[2]}
