"""Draw `tui.svg`: the program itself, while it listens to `examples/news.flac` with a real engine.

    python docs/tui_picture.py [--slowly TIMES] [AUDIO]

`--slowly 4` plays it at a quarter of its pace, for a machine that is busy with other things. The picture is taken in
the middle of a turn: someone speaks, with a level, a history of speech, and interim words that may still change.
"""

import argparse
import asyncio
import re
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import tui.lag
import tui.live
from stt.audio import Samples
from stt.sources import paced
from tui.app import SttApp
from tui.bottom import MessageLine
from tui.document import Document
from tui.journal import Journal, new_path
from tui.live import Live, Plan

HERE = Path(__file__).parent
SIZE = (100, 24)
FINISHED = 1  # turns before the one in the picture
WORDS = 9  # of the running turn, at least


def is_lively(app: SttApp) -> bool:
    """Whether there is something to see."""
    running = app.transcript.document.running
    return (
        len(app.transcript.document.finals) >= FINISHED
        and running is not None
        and running.state == "speaking"
        and len(running.text.split()) >= WORDS
        and running.stable_chars < len(running.text)
        and app.condition.late is None
        and app.condition.peak > 0.05
        and not app.screen.query_one(MessageLine).text
    )


async def draw(audio: str) -> str:
    """Return the picture, as an SVG without fonts to fetch."""
    with tempfile.TemporaryDirectory() as home:
        journal = Journal(new_path(Path(home), time.time()))
        live = Live(Plan(file=audio))
        app = SttApp(lambda: live, document=Document(), journal=journal)
        async with app.run_test(size=SIZE) as pilot:
            while not is_lively(app):
                if app.condition.phase == "ended":
                    sys.exit("the recording ended before there was something to see; try again on a quiet machine")
                await pilot.pause(0.02)
            svg = app.export_screenshot(title="stt tui")
            live.close()
            await asyncio.to_thread(live.join, 60)
    return re.sub(r"\s*@font-face \{.*?\}", "", svg, flags=re.DOTALL)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--slowly", type=float, default=1.0)
    parser.add_argument("audio", nargs="?", default=str(HERE.parent / "examples" / "news.flac"))
    args = parser.parse_args()

    async def slowly(pieces: AsyncIterator[Samples], piece_s: float) -> AsyncIterator[Samples]:
        async for piece in paced(pieces, piece_s):
            await asyncio.sleep((args.slowly - 1) * piece_s)
            yield piece

    tui.live.paced = slowly
    tui.lag._GRACE_S *= args.slowly  # noqa: SLF001 - what counts as late is slower likewise
    (HERE / "tui.svg").write_text(asyncio.run(draw(args.audio)), encoding="utf-8")


if __name__ == "__main__":
    main()
