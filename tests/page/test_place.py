"""The page at a path of its own, where a proxy shows other things at the same address."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import soundfile
from browser import browsing
from playwright.async_api import expect

from scripted import ScriptedModel
from serving import Running, serving
from spoken import silence


@asynccontextmanager
async def proxied(running: Running, path: str) -> AsyncIterator[str]:
    """Show a server at a path; what is asked for elsewhere it does not know."""

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, there: bool) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                writer.write(data.replace(f" {path}/".encode(), b" /") if there else data)
                await writer.drain()
        writer.close()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to, there = await asyncio.open_connection("127.0.0.1", running.port)
        await asyncio.gather(forward(reader, there, there=True), forward(to, writer, there=False))

    server = await asyncio.start_server(connect, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}{path}/"


async def test_the_page_asks_for_nothing_outside_its_path(tmp_path: Path) -> None:
    tone = 0.5 * np.sin(np.arange(16_000) * 0.2).astype(np.float32)
    soundfile.write(tmp_path / "talk.wav", tone, 16_000, "PCM_16")
    talk = np.concatenate([silence(0.5), tone, silence(10)])
    async with serving(ScriptedModel(lambda _: "well said")) as running, proxied(running, "/its/place") as url:
        async with browsing(url, tmp_path, talk) as page:
            asked: list[str] = []
            page.on("request", lambda request: asked.append(request.url))
            page.on("websocket", lambda socket: asked.append(socket.url.replace("ws:", "http:")))
            await page.reload()
            await page.click("#listen")
            await expect(page.locator("#turns p")).to_contain_text("well said", timeout=20_000)
            await page.click("#files-tab")
            await page.set_input_files("#choose", tmp_path / "talk.wav")
            await expect(page.locator(".file-state")).to_have_text("Done.", timeout=20_000)
            await page.locator("summary", has_text="from a program").click()
            for name in await page.locator("#snippet option").all_inner_texts():
                await page.select_option("#snippet", name)
                assert "/its/place" in await page.locator("#code").inner_text()
        assert len(asked) > 15
        assert [at for at in asked if not at.startswith(("blob:", url))] == []
