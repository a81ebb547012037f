"""A server with a scripted engine in a process of its own, to be killed: `python killable.py PORT`."""

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from scripted import ScriptedModel
from serving import serving


async def main() -> None:
    model = ScriptedModel(lambda heard: " ".join(f"word{i}" for i in range(1 + len(heard.audio) // 8_000)))
    async with serving(model, port=int(sys.argv[1])) as running:
        await running.task


asyncio.run(main())
