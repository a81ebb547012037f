"""What the main states look like, held against SVG pictures in `snapshots/`.

With the Textual and Rich that made the pictures (`snapshots/versions.txt`) they must be equal to the last byte; other
versions draw the same screen with other markup, so there the text in its places is what counts. After a change that
is meant: `STT_SNAPSHOTS=write pytest tests/tui/test_snapshots.py`, and look at the pictures.
"""

import html
import os
import re
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from pathlib import Path

import pytest
from stage import FAST, SENTENCES, Play, ScriptedDevices, meter, on_stage
from textual.widgets import Input

from stt.events import TranscriptChanged, TurnPaused, TurnStarted
from tui.devices import Row
from tui.updates import EngineFailed, EngineLoading, InputLost, InputOpen, InputOpening

HERE = Path(__file__).parent / "snapshots"
VERSIONS = f"textual {version('textual')}\nrich {version('rich')}\n"
DEVICES = [
    Row(0, "Studio Mic", is_default=True, peak=0.25, problem=""),
    Row(1, "Headset", is_default=False, peak=0.02, problem=""),
    Row(4, "Webcam", is_default=False, peak=0.0, problem="Device unavailable"),
]

Act = Callable[[Play], Awaitable[None]]


async def empty(play: Play) -> None:
    await play.open()


async def loading(play: Play) -> None:
    await play.tell(EngineLoading("model.bin", 0.45), InputOpening(), InputOpen("Studio Mic", 48_000))


async def speaking(play: Play) -> None:
    await play.open()
    await play.tell(*meter(play))
    await play.say(0, SENTENCES[0])
    await play.say(1, SENTENCES[1])
    text = "We have spent forty thousand dollars on new"
    await play.hear(TurnStarted(2, 160_000), TranscriptChanged(2, 160_000, 200_000, text, 0, 28, "interim", FAST))


async def paused(play: Play) -> None:
    await speaking(play)
    await play.hear(TurnPaused(2, 200_000))


async def long(play: Play) -> None:
    await play.open()
    await play.tell(*meter(play))
    for turn in range(20):
        await play.say(turn, f"{turn + 1}. {SENTENCES[turn % 3]}")
    await play.press("pageup", "pageup")
    await play.say(20, "Said while the reader was reading above.")


async def searching(play: Play) -> None:
    await speaking(play)
    await play.press("slash", *"the", "enter")


async def asking_for_help(play: Play) -> None:
    await play.press("question_mark")


async def choosing(play: Play) -> None:
    await speaking(play)
    await play.press("d")
    for _ in range(100):
        await play.pilot.pause(0.05)
        if "Webcam" in play.screen_text:
            break


async def editing(play: Play) -> None:
    await speaking(play)
    await play.press("up", "up", "e")


async def saving(play: Play) -> None:
    await speaking(play)
    await play.press("s")
    play.app.screen.query_one(Input).cursor_blink = False


async def no_microphone(play: Play) -> None:
    await play.tell(InputLost("no microphone found", "microphone", ever_open=False))


async def lost(play: Play) -> None:
    await speaking(play)
    await play.tell(InputLost("'Studio Mic' is gone (unplugged?)", "microphone", ever_open=True))


async def broken_engine(play: Play) -> None:
    await play.tell(EngineFailed("model 'tinny': no such directory; or give a hub id, or one of tiny, small, medium"))


async def light(play: Play) -> None:
    await speaking(play)
    await play.press("t")


SCENES: list[tuple[str, Act, tuple[int, int]]] = [
    ("empty", empty, (80, 24)),
    ("loading", loading, (80, 24)),
    ("speaking", speaking, (80, 24)),
    ("paused", paused, (80, 24)),
    ("long", long, (80, 24)),
    ("narrow", speaking, (44, 20)),
    ("wide", speaking, (200, 60)),
    ("light", light, (80, 24)),
    ("search", searching, (80, 24)),
    ("help", asking_for_help, (100, 48)),
    ("devices", choosing, (80, 24)),
    ("edit", editing, (80, 24)),
    ("save", saving, (80, 24)),
    ("no-microphone", no_microphone, (80, 24)),
    ("lost", lost, (80, 24)),
    ("broken-engine", broken_engine, (80, 24)),
]


def picture(play: Play) -> str:
    svg = play.app.export_screenshot(title="stt tui")
    return re.sub(r"\s*@font-face \{.*?\}", "", svg, flags=re.DOTALL)  # a picture should not fetch fonts


def words(svg: str) -> list[tuple[str, str, str]]:
    """The text of a picture with its places."""
    found = re.findall(r'<text class="[^"]*" x="([^"]*)" y="([^"]*)"[^>]*>(.*?)</text>', svg, re.DOTALL)
    return sorted(
        (y, x, html.unescape(text).replace("\xa0", " ").strip()) for x, y, text in found if text.strip("\xa0 ")
    )


@pytest.mark.parametrize(("name", "act", "size"), SCENES, ids=[name for name, _, _ in SCENES])
async def test_snapshot(name: str, act: Act, size: tuple[int, int]) -> None:
    async with on_stage(size, devices=ScriptedDevices(DEVICES)) as play:
        await act(play)
        play.app.main.message.clear()
        await play.settle()
        found = picture(play)
    path = HERE / f"{name}.svg"
    if os.environ.get("STT_SNAPSHOTS") == "write":
        path.write_text(found)
        (HERE / "versions.txt").write_text(VERSIONS)
        return
    expected = path.read_text()
    if (HERE / "versions.txt").read_text() == VERSIONS:
        assert found == expected, f"the screen differs from {path}"
    else:
        assert words(found) == words(expected), f"the screen differs from {path}"


def test_the_comparison_sees_a_difference():
    svg = (HERE / "speaking.svg").read_text()
    assert len(words(svg)) > 10
    assert words(svg) != words(svg.replace("Good", "Bad"))
