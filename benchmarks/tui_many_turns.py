"""5,000 turns on the screen: how long opening, scrolling, adding and searching take, and whether memory stays flat.

    python benchmarks/tui_many_turns.py

A frame is what the screen's thread spends from the key or the event to the drawn lines.
"""

# ruff: noqa: B023, SLF001 - closures are called at once; a frame is drawn by hand to be timed

import asyncio
import resource
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent.parent / "tests" / "tui")]

from stage import NOON, SENTENCES, on_stage, spoken  # noqa: E402

from tui.document import Document, Heard, StretchBegan  # noqa: E402

TURNS = 5_000


def filled(turns: int) -> Document:
    document = Document()
    document.apply(StretchBegan(0, 0, NOON))
    for turn in range(turns):
        for event in spoken(turn, f"{turn}. {SENTENCES[turn % 3]}", 6.0 * turn):
            document.apply(Heard(0, event))
    return document


def show(name: str, times_s: list[float]) -> None:
    times_ms = sorted(1000 * t for t in times_s)
    p95 = times_ms[int(0.95 * (len(times_ms) - 1))]
    print(f"{name:<24} p50 {times_ms[len(times_ms) // 2]:6.1f} ms   p95 {p95:6.1f} ms   max {times_ms[-1]:6.1f} ms")


def memory_mb() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def main() -> None:
    for turns in (20, TURNS):
        document = filled(turns)
        began = time.perf_counter()
        async with on_stage((120, 40), document=document) as play:
            print(f"-- {turns} turns; app up and drawn in {1000 * (time.perf_counter() - began):.0f} ms")
            view = play.app.turns
            screen = play.app.screen

            def frame(act) -> float:
                """One frame, without waiting for anything: act, then draw what it made dirty."""
                began = time.perf_counter()
                act()
                screen._compositor.render_update(full=True).render_segments(play.app.console)
                return time.perf_counter() - began

            show("scroll a page", [frame(lambda: view.scroll_page_up(animate=False)) for _ in range(200)])
            await play.settle()
            places = range(0, view.max_scroll_y, max(1, view.max_scroll_y // 200))
            go = lambda y: view.scroll_to(y=y, animate=False, immediate=True)  # noqa: E731
            show("scroll to a place", [frame(lambda y=y: go(y)) for y in places])
            view.follow()
            await play.settle()
            play.stretch = 0
            added = []
            for turn in range(turns, turns + 50):
                for event in spoken(turn, f"{turn}. {SENTENCES[turn % 3]}", 6.0 * turn):
                    added.append(frame(lambda event=event: play.app._apply(Heard(0, event))))
            show("add", added)
            show(
                "search",
                [
                    frame(lambda n=n: (play.app.document.find(n), view.show_matches(n, None)))
                    for n in ("the", "budget", "x", "49")
                ],
            )
            first = memory_mb()
            for y in range(0, view.max_scroll_y, 10):
                frame(lambda y=y: view.scroll_to(y=y, animate=False, immediate=True))
            print(f"memory after the first screens {first:.0f} MB, after scrolling through all {memory_mb():.0f} MB")
            widths = []
            for width in (100, 140, 70, 120):
                began = time.perf_counter()
                await play.pilot.resize_terminal(width, 40)
                await play.pilot.pause()
                widths.append(time.perf_counter() - began)
            show("resize (with pilot)", widths)
    document = filled(TURNS)
    began = time.perf_counter()
    async with on_stage((120, 40), document=document) as play:
        await play.open()
        before = memory_mb()
        for turn in range(400):
            play.stretch = 0
            play.app.document.stretch = StretchBegan(0, 0, NOON)
            await play.say(TURNS + turn, f"{turn}. {SENTENCES[turn % 3]}")
        print(f"memory before and after 400 more turns through the app: {before:.0f} MB, {memory_mb():.0f} MB")


asyncio.run(main())
