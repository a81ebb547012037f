"""Everything can be read: in the light theme as in the dark one, and on a small screen."""

import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from stage import FAST, SENTENCES, Play, ScriptedDevices, meter, on_stage, talk
from test_app import ROWS

from stt.events import RecognitionFailed, TranscriptChanged, TurnCompleted, TurnPaused, TurnStarted
from tui.colours import READABLE, contrast
from tui.document import Unfinished
from tui.updates import InputLost, Lagged, Late, Metered, Played, RecordingChanged

THEMES = ["textual-dark", "textual-light"]


async def running(play: Play) -> None:
    await talk(play)
    await play.tell(*meter(play))
    await play.hear(
        RecognitionFailed(3, "x"), TurnStarted(3, 200_000),
        TranscriptChanged(3, 200_000, 210_000, "agreed not yet", 0, 6, "interim", FAST),
    )  # fmt: skip


async def selected(play: Play) -> None:
    await running(play)
    await play.press("up")


async def selected_final(play: Play) -> None:
    await running(play)
    await play.press("up", "up", "e", "enter")


async def paused(play: Play) -> None:
    await running(play)
    await play.hear(TurnPaused(3, 210_000))


async def late(play: Play) -> None:
    await running(play)
    await play.tell(Late(Lagged(12.0, final=False)), Metered(1.0, 0.9, (0.9,), 5.0, 3))


async def found(play: Play) -> None:
    await selected(play)
    await play.press("slash", *"e", "enter", "n")


async def failed(play: Play) -> None:
    await running(play)
    await play.hear(RecognitionFailed(3, "no memory"), TurnCompleted(3, 200_000, 210_000, "", (), None))
    await play.hear(TurnStarted(4, 300_000), TranscriptChanged(4, 300_000, 310_000, "a", 0, 0, "interim", FAST))
    await play.tell(Played(Unfinished(play.stretch, 4)), InputLost("it is gone", "microphone", ever_open=True))


async def recording(play: Play) -> None:
    await running(play)
    await play.tell(RecordingChanged("a.wav"), RecordingChanged(None, "no space"))


async def helping(play: Play) -> None:
    await play.press("question_mark")


async def saving(play: Play) -> None:
    await talk(play)
    await play.press("s", "tab")


async def choosing(play: Play) -> None:
    await talk(play)
    await play.press("d")
    await play.pilot.pause(0.2)


async def unheard(play: Play) -> None:
    await play.tell(InputLost("no microphone found", "microphone", ever_open=False))


SCENES: list[Callable[[Play], Awaitable[None]]] = [
    running, selected, selected_final, paused, late, found, failed, recording, helping, saving, choosing, unheard,
]  # fmt: skip


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("scene", SCENES)
async def test_all_text_stands_out_from_its_background(
    scene: Callable[[Play], Awaitable[None]], theme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    async with on_stage((110, 40), devices=ScriptedDevices(ROWS)) as play:
        play.app.theme = theme
        await scene(play)
        await play.settle()
        front = play.app.screen
        poor: dict[str, float] = {}
        for y, strip in enumerate(front._compositor.render_strips()):
            x = 0
            for segment in strip:
                widget, _ = front.get_widget_at(min(x, front.size.width - 1), y)
                x += segment.cell_length
                words = any(char.isalnum() for char in segment.text)
                # Below a dialog the screen is dimmed on purpose; what is typed over a hint is not a hint.
                if words and segment.style and widget.screen is front and widget is not front:
                    assert not segment.style.dim, f"{segment.text!r} is as dim as the terminal likes"
                    if (ratio := contrast(segment.style)) < READABLE:
                        poor[segment.text.strip()] = round(ratio, 2)
        assert poor == {}


@pytest.mark.parametrize("width", [40, 60, 80, 120])
async def test_the_last_line_shows_help_and_quit_at_any_width(width: int):
    async with on_stage((width, 12)) as play:
        await play.open()
        last = play.screen_text.splitlines()[-1]
        assert last.startswith(" space Mic  d Device ")
        assert "? Help  q Quit" in last
        await play.pilot.click("#keys", offset=(last.index("? Help") + 1, 0))
        await play.settle()
        assert type(play.app.screen).__name__ == "HelpScreen"


@pytest.mark.parametrize("size", [(40, 12), (80, 24)])
async def test_a_message_lies_over_no_dialog_and_little_of_a_screen(size: tuple[int, int]):
    async with on_stage(size) as play:
        await talk(play)
        await play.press("s")
        before = play.screen_text.splitlines()
        play.app.notify("A long message about something that has happened meanwhile. " * 5, title="Told")
        await play.settle()
        box = play.app.screen.query_one("#box").region
        for y in range(box.y, box.bottom):
            assert play.screen_text.splitlines()[y][box.x : box.right] == before[y][box.x : box.right]
        await play.press("escape")
        assert play.app.main.message.region.height <= 3
        assert "Told: A long message" in play.screen_text
        assert SENTENCES[2][-10:] in play.screen_text  # the newest words are seen


async def test_an_error_is_not_pushed_away_by_what_matters_less():
    async with on_stage() as play:
        play.app.notify("it broke", severity="error")
        play.app.notify("by the way")
        await play.settle()
        assert play.told == "it broke"
        play.app.main.message._next()  # its time is over
        assert play.told == "by the way"


async def test_dialogs_show_all_their_buttons_on_a_small_screen():
    async with on_stage((40, 12)) as play:
        await talk(play)
        await play.press("s")
        assert re.search(r"txt +srt +vtt +json +md", play.screen_text)
        await play.press("escape", "q")  # nothing is saved
        assert re.search(r"Stay \(n\) +Quit \(y\)", play.screen_text)
