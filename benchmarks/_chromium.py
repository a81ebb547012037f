"""Chromium by its DevTools protocol alone.

Playwright has each frame of a WebSocket told to it, which costs the tab that is to be measured.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from browser import CHROMIUM
from websockets.asyncio.client import ClientConnection, connect

_ARGS = (
    "--headless",
    "--no-sandbox",
    "--no-first-run",
    "--remote-debugging-port=0",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    "--disable-background-timer-throttling",  # several tabs, all of which somebody looks at
    "--disable-renderer-backgrounding",
    "--disable-backgrounding-occluded-windows",
)


class DevTools:
    """One connection, one call at a time."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._calls = 0

    async def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """Call; `session` is a tab's. Raises RuntimeError if Chromium refuses."""
        self._calls += 1
        call = {"id": self._calls, "method": method, "params": params} | ({"sessionId": session} if session else {})
        await self._socket.send(json.dumps(call))
        while (answer := json.loads(await self._socket.recv())).get("id") != self._calls:
            pass  # events
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    async def worked_s(self) -> dict[int, float]:
        """Give the CPU time of each process that has tabs, in seconds."""
        info = await self.call("SystemInfo.getProcessInfo")
        return {one["id"]: one["cpuTime"] for one in info["processInfo"] if one["type"] == "renderer"}

    async def open(self, url: str) -> "Tab":
        """Open a tab in a process of its own, and wait until it is there."""
        context = (await self.call("Target.createBrowserContext"))["browserContextId"]
        target = (await self.call("Target.createTarget", url=url, browserContextId=context))["targetId"]
        session = (await self.call("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
        tab = Tab(self, target, session)
        await tab.loaded()
        return tab


@dataclass(frozen=True, slots=True)
class Tab:
    """A page."""

    tools: DevTools
    target: str
    session: str

    async def run(self, script: str) -> Any:
        """Run a script as if the user had asked for it, and wait for what it gives."""
        asked = {"expression": script, "awaitPromise": True, "returnByValue": True, "userGesture": True}
        answer = await self.tools.call("Runtime.evaluate", self.session, **asked)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"]["exception"]["description"])
        return answer["result"].get("value")

    async def go(self, url: str) -> None:
        """Load a page anew, or another one."""
        await self.run("window.left = true")
        await self.tools.call("Page.navigate", self.session, url=url)
        await self.loaded()

    async def loaded(self) -> None:
        """Wait until everything of the page is there."""
        there = "!window.left && location.protocol === 'http:' && document.readyState === 'complete'"
        while True:
            with suppress(RuntimeError):  # between two documents
                if await self.run(there):
                    return
            await asyncio.sleep(0.02)

    async def process(self) -> int:
        """Give the id of the tab's process: the one that works while the tab does, as Chromium does not tell."""
        before = await self.tools.worked_s()
        await self.run("for (let i = 0, x = 0; i < 4e9; i++) x ^= i;")
        after = await self.tools.worked_s()
        return max(before, key=lambda process: after.get(process, 0.0) - before[process])

    async def scripts_mb(self) -> float:
        """Collect garbage; give what the scripts hold then."""
        await self.tools.call("HeapProfiler.collectGarbage", self.session)
        return (await self.tools.call("Runtime.getHeapUsage", self.session))["usedSize"] / 2**20

    async def nodes(self) -> int:
        return (await self.tools.call("Memory.getDOMCounters", self.session))["nodes"]


def own_mb(process: int) -> float:
    """Give Chromium's "private memory footprint" of a process."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("RssAnon:", "VmSwap:"))) / 1024


@asynccontextmanager
async def chromium(folder: Path, microphone: Path) -> AsyncIterator[DevTools]:
    """Start Chromium, whose microphone is a WAV file."""
    assert CHROMIUM is not None, "there is no Chromium here"
    profile = folder / "profile"
    args = (*_ARGS, f"--user-data-dir={profile}", f"--use-file-for-fake-audio-capture={microphone}")
    with (folder / "chromium.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(CHROMIUM, *args, stdout=log, stderr=log)
    try:
        told = profile / "DevToolsActivePort"
        while len(where := told.read_text().split() if told.exists() else []) < 2:
            assert process.returncode is None, (folder / "chromium.log").read_text()
            await asyncio.sleep(0.05)
        port, path = where
        async with connect(f"ws://127.0.0.1:{port}{path}", max_size=None) as socket:
            yield DevTools(socket)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
