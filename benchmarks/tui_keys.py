"""How long a key takes while the embedded engine transcribes in the same process: by the pilot, and in tmux.

    python benchmarks/tui_keys.py [AUDIO]

Pilot: from the key event to the drawn line. tmux: from `send-keys` to the changed screen, which has tmux's own few
milliseconds for each of the two in it. The audio is played in a loop, so that the engine is busy all the time.
"""

# ruff: noqa: SLF001

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
from textual import events

from stt.settings import EngineSettings
from tui.app import SttApp
from tui.document import Document, Heard
from tui.live import Live, Plan
from tui.turnview import TurnView

PRESSES = 200


def show(name: str, times_s: list[float]) -> None:
    times_ms = sorted(1000 * t for t in times_s)
    p50, p95 = times_ms[len(times_ms) // 2], times_ms[int(0.95 * (len(times_ms) - 1))]
    print(f"{name:<28} {len(times_ms):3} keys   p50 {p50:6.1f} ms   p95 {p95:6.1f} ms   max {times_ms[-1]:6.1f} ms")


async def by_pilot(audio: str) -> None:
    drawn = asyncio.Event()

    class Drawn(TurnView):
        def render_line(self, y: int):
            drawn.set()
            return super().render_line(y)

    app = SttApp(lambda: Live(Plan(EngineSettings(), file=audio)), document=Document())
    app.main.turns = Drawn(app.transcript.document)
    async with app.run_test(size=(120, 40)) as pilot:
        texts = 0
        while texts < 4:
            await pilot.pause(0.1)
            texts = sum(block.state == "final" for block in app.transcript.document.blocks)
        counted = [0]
        apply = app.main.apply

        def applied(record):
            counted[0] += isinstance(record, Heard)
            apply(record)

        app.main.apply = applied
        times = []
        for press in range(PRESSES):
            await asyncio.sleep(0.05 + 0.01 * (press % 7))
            drawn.clear()
            began = time.perf_counter()
            app.post_message(events.Key("up" if press % 2 else "down", None))
            await drawn.wait()
            times.append(time.perf_counter() - began)
        show("pilot, engine at work", times)
        print(f"events shown meanwhile: {counted[0]}, load average {os.getloadavg()[0]:.1f}")
        app._backend.close()
        await asyncio.to_thread(app._backend.join, 60)


def tmux(*words: str) -> str:
    return subprocess.run(["tmux", "-L", "stt-keys", *words], capture_output=True, text=True, check=True).stdout


def selected(screen: str) -> str | None:
    """The time of day at which the selected turn began."""
    return next((line[:9] for line in screen.splitlines() if line.startswith("▸")), None)


def in_tmux(audio: str, home: str) -> None:
    path = ":".join(filter(None, sys.path))
    command = f"XDG_DATA_HOME={home} PYTHONPATH={path} {sys.executable} -m stt.cli tui --source {audio}"
    tmux("new-session", "-d", "-x", "120", "-y", "40", command)
    try:
        while "2 turns" not in tmux("capture-pane", "-p"):
            time.sleep(0.2)
        own = []
        for _ in range(30):
            began = time.perf_counter()
            tmux("send-keys", "F12")
            tmux("capture-pane", "-p")
            own.append(time.perf_counter() - began)
        show("tmux alone (no effect)", own)
        times = []
        tmux("send-keys", "Up", "Up")
        for press in range(60):
            time.sleep(0.1 + 0.01 * (press % 7))
            before = selected(tmux("capture-pane", "-p"))
            began = time.perf_counter()
            tmux("send-keys", "Up" if press % 2 else "Down")
            while selected(screen := tmux("capture-pane", "-p")) == before:
                time.sleep(0.002)
                if time.perf_counter() > began + 10:
                    raise SystemExit(f"the key had no effect within 10 s:\n{screen}")
            times.append(time.perf_counter() - began)
        show("tmux, engine at work", times)
    finally:
        tmux("kill-server")


def main() -> None:
    clip = sys.argv[1] if len(sys.argv) > 1 else str(Path(__file__).parent.parent / "examples" / "news.flac")
    audio, rate = soundfile.read(clip, dtype="float32", always_2d=True)
    with tempfile.TemporaryDirectory() as home:
        long = f"{home}/talk.wav"
        soundfile.write(long, np.tile(audio[:, 0], 1 + 600 * rate // len(audio)), rate)
        asyncio.run(by_pilot(long))
        in_tmux(long, home)


if __name__ == "__main__":
    main()
