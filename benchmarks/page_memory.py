"""The page in a real Chromium: its first paint, what its tab holds in a long conversation, and whether it falls behind.

An instant engine hears turns of 2 s and pauses of 1.2 s, over and over. Each line: minute, turns; what the tab's
scripts hold after a collection, elements of the document, memory that is the tab's process's own (Chromium's "private
memory footprint"); how late the last final and interim were; how much of the sound has not come to the server (wall
clock less audio: 0 but for the start). The first minute warms up.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "page"))

import numpy as np
from browser import browsing

from scripted import ScriptedModel
from serving import serving

SPEECH = 0.5 * np.sin(np.arange(32_000) * 0.2).astype(np.float32)
PAINTS = "performance.getEntriesByName('first-contentful-paint').map((one) => one.startTime)"
TALK = np.concatenate([SPEECH, np.zeros(19_200, np.float32)])


def hear(utterance) -> str:
    return " ".join(f"word{i}" for i in range(1 + len(utterance.audio) // 4_000))


def own_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("RssAnon:", "VmSwap:"))) / 1024


async def first_paint_ms(page, times: int = 9) -> float:
    found = []
    for _ in range(times):
        await page.reload()
        while not (entries := await page.evaluate(PAINTS)):  # noqa: ASYNC110 - another process knows
            await asyncio.sleep(0.01)
        found += entries
    return statistics.median(found)


async def listen(minutes: int, folder: Path) -> None:
    async with (
        serving(ScriptedModel(hear)) as running,
        browsing(f"{running.http}/", folder, TALK, over_and_over=True) as page,
    ):
        print(f"first paint after {await first_paint_ms(page):.0f} ms (median of 9 loads)")
        tab = await page.context.new_cdp_session(page)
        chromium = await page.context.browser.new_browser_cdp_session()
        await page.click("#listen")
        await running.until(lambda: bool(running.service.sessions), 30)
        (host,) = running.service.sessions
        inbox = host._inbox  # noqa: SLF001 - metrics count it in large pieces
        await running.until(lambda: inbox.received_s > 0, 30)
        began = time.monotonic() - inbox.received_s
        for minute in range(1, minutes + 1):
            await asyncio.sleep(began + 60 * minute - time.monotonic())
            behind_s = time.monotonic() - began - inbox.received_s
            await tab.send("HeapProfiler.collectGarbage")
            heap_mb = (await tab.send("Runtime.getHeapUsage"))["usedSize"] / 2**20
            nodes = (await tab.send("Memory.getDOMCounters"))["nodes"]
            processes = (await chromium.send("SystemInfo.getProcessInfo"))["processInfo"]
            tab_mb = max(own_mb(one["id"]) for one in processes if one["type"] == "renderer")
            turns = await page.locator("#turns li").count()
            late = [await page.locator(f"#{kind}-latency").inner_text() for kind in ("final", "interim")]
            print(
                f"{minute:3} min {turns:4} turns  scripts {heap_mb:5.2f} MB  {nodes:6} nodes  tab {tab_mb:5.1f} MB  "
                f"final {late[0]}  interim {late[1]}  behind {behind_s:5.2f} s",
                flush=True,
            )
            assert running.service.sessions == {host}, "the session was lost"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=int, default=30)
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(listen(parser.parse_args().minutes, Path(folder)))


if __name__ == "__main__":
    main()
