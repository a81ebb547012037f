"""The page in a real Chromium: its first paint, what its tab holds in a long conversation, and whether it falls behind.

An instant engine hears turns of 2 s and pauses of 1.2 s, over and over. Beside the page, in tabs with a process each,
stands what Chromium needs by itself: the page's session without anything shown ("unseen"), the microphone and its audio
thread alone ("microphone"), and a session whose sound is made by a timer ("socket").

Each line, after a collection of garbage: minute and turns; of the page what its scripts hold and the elements of the
document; of every tab the memory that is its process's own (Chromium's "private memory footprint"), and how much more
that is than at the end of minute 5; how late the last final and interim were; how much of the sound has not come to the
server ("behind": wall clock less audio), and how much Chromium itself dropped where it had no time ("lost": the turns
are 3.2 s apart, whatever a clock says; less than 0: it put in silence).
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "page"))

import numpy as np
import soundfile

from _chromium import DevTools, Tab, chromium, own_mb
from scripted import ScriptedModel
from serving import Running, serving
from stt.recognition import Hypothesis, Utterance
from stt.server.host import Host

SPEECH = 0.5 * np.sin(np.arange(32_000) * 0.2).astype(np.float32)
TALK = np.concatenate([SPEECH, np.zeros(19_200, np.float32)])
PERIOD_S = len(TALK) / 16_000
WARM_MINUTES = 5

RAW = "{ echoCancellation: false, noiseSuppression: false, autoGainControl: false }"  # tones are no speech
PAGE = f"localStorage.stt = JSON.stringify({{ ...{RAW}, end_of_turn_ms: 800 }})"
MICROPHONE = f"""(async () => {{
    const {{ Microphone }} = await import("/page/microphone.js");
    window.kept = new Microphone((piece) => window.session?.feed(piece), () => {{}});
    return kept.open({RAW});
}})()"""
SESSION = """(async () => {
    const { Session } = await import("/page/session.js");
    const on = { state() {}, event() {}, failed(code, text) { throw Error(text); } };
    window.session = new Session(16000, { terms: [], end_of_turn_ms: 800 }, "", undefined, on);
})()"""
TIMER = f"""
    const began = performance.now();
    let pieces = 0;
    setInterval(() => {{
        for (; pieces * 20 < performance.now() - began; pieces++) {{
            const spoken = pieces * 0.02 % {PERIOD_S} < 2;
            session.feed(new Int16Array(320).map((_, i) => spoken * 16000 * Math.sin(i)));
        }}
    }}, 20);
    0
"""
PAINT = "performance.getEntriesByName('first-contentful-paint').map((one) => one.startTime)"


class Listener(ScriptedModel):
    """Notes where turns begin and keeps no sound."""

    def __init__(self) -> None:
        super().__init__()
        self.starts: dict[str, dict[int, float]] = defaultdict(dict)
        """Seconds of the stream at which each turn of a session began."""

    def transcribe(self, batch: Sequence[Utterance]) -> list[Hypothesis]:
        for heard in batch:
            self.starts[heard.trace].setdefault(heard.key.turn, heard.start / 16_000)
        return [Hypothesis(" ".join(f"word{i}" for i in range(1 + len(heard.audio) // 4_000))) for heard in batch]

    def lost_s(self, session: str) -> float:
        """Less sound came between the second and the newest turn than there are seconds between them."""
        starts = self.starts[session]
        newest = max(starts)
        return (newest - 1) * PERIOD_S - (starts[newest] - starts[1])


async def first_paint_ms(page: Tab, url: str, times: int = 9) -> float:
    found = []
    for _ in range(times):
        await page.go(url)
        while not (entries := await page.run(PAINT)):  # noqa: ASYNC110 - another process knows
            await asyncio.sleep(0.01)
        found += entries
    return statistics.median(found)


async def others(tools: DevTools, blank: str) -> dict[str, Tab]:
    """Open what the page is compared with: documents of the same host that show nothing."""
    tabs = {name: await tools.open(blank) for name in ("unseen", "microphone", "socket")}
    await tabs["unseen"].run(SESSION)
    await tabs["unseen"].run(MICROPHONE)
    await tabs["microphone"].run(MICROPHONE)
    await tabs["socket"].run(SESSION)
    await tabs["socket"].run(TIMER)
    return tabs


async def listen(running: Running, model: Listener, tools: DevTools, minutes: int) -> None:
    blank = f"{running.http}/page/icon.svg"
    page = await tools.open(blank)
    await page.run(PAGE)
    print(f"first paint after {await first_paint_ms(page, f'{running.http}/'):.0f} ms (median of 9 loads)")
    await page.run('document.getElementById("listen").click()')
    await running.until(lambda: bool(running.service.sessions), 30)
    (host,) = running.service.sessions
    assert isinstance(host, Host)
    inbox = host._inbox  # noqa: SLF001 - metrics count it in large pieces
    await running.until(lambda: inbox.received_s > 0, 30)
    began = time.monotonic() - inbox.received_s
    tabs = {"page": page, **await others(tools, blank)}
    processes = {name: await tab.process() for name, tab in tabs.items()}
    assert len(set(processes.values())) == len(tabs), processes
    warm: dict[str, float] = {}
    for minute in range(1, minutes + 1):
        await asyncio.sleep(began + 60 * minute - time.monotonic())
        behind_s = time.monotonic() - began - inbox.received_s
        scripts = {name: await tab.scripts_mb() for name, tab in tabs.items()}
        own = {name: own_mb(process) for name, process in processes.items()}
        if minute == min(WARM_MINUTES, minutes):
            warm = own
        late = [await page.run(f'document.getElementById("{kind}-latency").innerText') for kind in ("final", "interim")]
        print(
            f"{minute:3} min {max(model.starts[host.id]):4} turns  scripts {scripts['page']:5.2f} MB"
            f"  {await page.nodes():6} nodes  own MB:",
            *(f" {name} {mb:5.1f}" + (f" ({mb - warm[name]:+.1f})" if warm else "") for name, mb in own.items()),
            f"  final {late[0]}  interim {late[1]}  behind {behind_s:5.2f} s  lost {model.lost_s(host.id):5.2f} s",
            flush=True,
        )
        assert host in running.service.sessions, "the session was lost"


async def measure(minutes: int, folder: Path) -> None:
    model = Listener()
    # Chromium would play a file over and over, but with a gap of some milliseconds between.
    soundfile.write(folder / "microphone.wav", np.tile(TALK, round(60 * (minutes + 3) / PERIOD_S)), 16_000, "PCM_16")
    async with serving(model) as running, chromium(folder, folder / "microphone.wav") as tools:
        await listen(running, model, tools, minutes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=int, default=30)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        asyncio.run(measure(parser.parse_args().minutes, Path(folder)))


if __name__ == "__main__":
    main()
