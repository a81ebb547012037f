"""A server as people run it: `stt serve` in a process of its own, with its embedded engine."""

import asyncio
import json
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


def free_port() -> int:
    """Find a port at which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@asynccontextmanager
async def stt_serve(*options: str) -> AsyncIterator[str]:
    """Run a server of its own; the host and port it is ready at."""
    port = free_port()
    command = (sys.executable, "-m", "stt.cli", "serve", "--port", str(port), *options)
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)

    def is_ready() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready") as answer:
                return "ready" in json.load(answer).values()
        except (urllib.error.URLError, OSError):
            return False

    try:
        async with asyncio.timeout(60):
            while not await asyncio.to_thread(is_ready):
                assert process.returncode is None
                await asyncio.sleep(0.1)
        yield f"127.0.0.1:{port}"
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
