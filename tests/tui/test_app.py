"""Every key and every trouble, by pressing keys and looking at the screen."""

import asyncio
from pathlib import Path

import pytest
from stage import FAST, SENTENCES, ScriptedDevices, meter, on_stage, talk
from textual.widgets import Input, OptionList

from stt.commands.destinations import Output
from stt.errors import OutputError
from stt.events import TranscriptChanged, TurnCompleted, TurnPaused, TurnResumed, TurnStarted
from tui import journal
from tui.app import Got
from tui.condition import Options
from tui.devices import Row
from tui.dialogs import DeviceScreen, SaveScreen
from tui.document import Heard
from tui.updates import (
    EngineLoading,
    InputLost,
    Metered,
    RecordingChanged,
)

# the screen


async def test_the_screen_explains_itself_before_anything_is_said():
    async with on_stage() as play:
        assert "Starting" in play.screen_text
        await play.tell(EngineLoading("loading the engine"))
        assert "loading the engine" in play.screen_text
        await play.open()
        assert "Say something." in play.screen_text
        assert "Studio Mic, 48 kHz" in play.screen_text


async def test_a_download_shows_how_far_it_is():
    async with on_stage() as play:
        await play.tell(EngineLoading("loading the engine"))
        # what tqdm writes, as it writes it
        print("\rmodel.bin:  45%|████      | 35.1M/75.5M [00:03<00:04, 9.8MB/s]", file=__import__("sys").stderr)
        await play.settle()
        await play.settle()
        assert "model.bin" in play.screen_text
        assert "45%" in play.screen_text


async def test_words_appear_as_they_are_spoken_and_settle_in_place():
    async with on_stage() as play:
        await play.open()
        await play.hear(TurnStarted(0, 16_000))
        assert "● speaking" in play.screen_text
        assert "┃ …" in play.screen_text
        await play.hear(TranscriptChanged(0, 16_000, 40_000, "Good morning and thanks", 0, 12, "interim", FAST))
        line = next(line for line in play.screen_text.splitlines() if "Good morning" in line)
        column = line.index("Good")
        await play.hear(TurnPaused(0, 40_000))
        assert "‖ pause" in play.screen_text
        assert "┇ Good morning and thanks" in play.screen_text
        await play.hear(
            TurnResumed(0, 48_000), TurnCompleted(0, 16_000, 56_000, "Good morning, and thank you.", (), FAST)
        )
        line = next(line for line in play.screen_text.splitlines() if "Good morning" in line)
        assert line.index("Good") == column
        assert "12:00:01    2.5s │ Good morning, and thank you." in line
        assert "○ listening" in play.screen_text
        assert "1 turn · 5 words" in play.screen_text


async def test_tentative_words_look_different_without_colour():
    async with on_stage() as play:
        await play.open()
        await play.hear(TurnStarted(0, 0), TranscriptChanged(0, 0, 16_000, "solid dim", 0, 5, "interim", FAST))
        strips = play.app.screen._compositor.render_strips()
        italics = {
            s.text.strip(): bool(s.style and s.style.italic) for strip in strips for s in strip if s.text.strip()
        }
        assert italics["solid"] is False
        assert italics["dim"] is True


def test_a_newer_text_replaces_an_older_one_of_the_same_turn_only():
    def got(turn: int, stretch: int = 0) -> Got:
        return Got(Heard(stretch, TranscriptChanged(turn, 0, 1, "x", 0, 0, "interim", FAST)))

    assert got(1).can_replace(got(1))
    assert not got(1).can_replace(got(2))
    assert not got(1).can_replace(got(1, stretch=1))
    assert not got(1).can_replace(Got(Heard(0, TurnPaused(1, 1))))
    assert not Got(Heard(0, TurnPaused(1, 1))).can_replace(got(1))


async def test_the_status_line_tells_level_speech_lag_and_overruns():
    async with on_stage((120, 30)) as play:
        await play.open()
        await play.tell(*meter(play))
        text = play.screen_text
        assert "interim 0.42s" in text
        assert "final 0.08s" in text
        assert "≥.50" in text
        assert "█" in text
        assert "no overruns" in text
        await play.tell(Metered(1.0, 0.5, (0.9, 0.9), 3.0, 7))
        assert "CLIPPED" in play.screen_text
        assert "7 overruns" in play.screen_text


@pytest.mark.parametrize("size", [(80, 24), (200, 60), (40, 12)])
async def test_sizes(size: tuple[int, int]):
    async with on_stage(size) as play:
        await talk(play)
        await play.tell(*meter(play))
        lines = play.screen_text.splitlines()
        assert len(lines) == size[1]
        joined = " ".join(line[21:] if size[0] >= 56 else line for line in lines)
        assert "not even" in joined
        assert "● speaking" in play.screen_text or "○ listening" in play.screen_text


async def test_the_view_follows_the_end_until_the_reader_scrolls_up():
    async with on_stage((80, 16)) as play:
        await talk(play)
        for turn in range(3, 10):
            await play.say(turn, f"Turn number {turn}.")
        assert "Turn number 9." in play.screen_text
        await play.press("pageup")
        assert "more below" in play.screen_text
        top = play.screen_text.splitlines()[1]
        await play.say(10, "Turn number 10.")
        await play.say(11, "Turn number 11.")
        assert "↓ 2 new below" in play.screen_text
        assert play.screen_text.splitlines()[1] == top  # it stays where the reader is
        await play.press("end")
        assert "new below" not in play.screen_text
        assert "Turn number 11." in play.screen_text
        await play.press("home")
        assert SENTENCES[0][:20] in play.screen_text
        await play.pilot.click("#below")
        await play.settle()
        assert "Turn number 11." in play.screen_text


async def test_a_resize_keeps_the_end_in_sight():
    async with on_stage((80, 16)) as play:
        await talk(play)
        for turn in range(3, 10):
            await play.say(turn, f"{SENTENCES[2]} Number {turn}.")
        await play.pilot.resize_terminal(60, 12)
        await play.settle()
        assert "Number 9." in play.screen_text


# keys: listening


async def test_space_switches_the_microphone_off_and_on():
    async with on_stage() as play:
        await play.open()
        await play.press("space")
        assert play.backend.asked[-1] == ("listen", False)
        assert "■ mic off" in play.screen_text
        assert "The microphone is off" in play.screen_text
        await play.press("space")
        assert play.backend.asked[-1] == ("listen", True)
        await play.open()
        assert "○ listening" in play.screen_text


async def test_a_click_on_the_state_does_what_space_does():
    async with on_stage() as play:
        await play.open()
        await play.pilot.click("#status", offset=(3, 0))
        await play.settle()
        assert play.backend.asked[-1] == ("listen", False)


ROWS = [
    Row(0, "Studio Mic", is_default=True, peak=0.3, problem=""),
    Row(3, "Headset", is_default=False, peak=0.0, problem=""),
    Row(5, "Webcam", is_default=False, peak=0.0, problem="busy"),
]


async def test_d_chooses_a_device_by_its_level():
    devices = ScriptedDevices(ROWS)
    async with on_stage(devices=devices) as play:
        await play.open()
        await play.press("d")
        assert isinstance(play.app.screen, DeviceScreen)
        await asyncio.sleep(0.15)  # levels are drawn ten times a second
        await play.settle()
        text = play.screen_text
        assert "✓ Studio Mic (default)" in text
        assert "busy" in text
        await play.press("down", "enter")
        assert play.backend.asked[-1] == ("use", 3)
        assert devices.asked == ["open", "close"]
        assert [asked for asked in play.backend.asked if asked[0] == "hold"] == [("hold", True), ("hold", False)]


async def test_d_and_escape_leave_the_device_as_it_is():
    devices = ScriptedDevices(ROWS)
    async with on_stage(devices=devices) as play:
        await play.open()
        await play.press("d")
        await play.press("r")
        await play.press("escape")
        assert devices.asked == ["open", "again", "close"]
        assert not any(asked[0] == "use" for asked in play.backend.asked)


async def test_d_without_any_device_says_so():
    async with on_stage(devices=ScriptedDevices([], "no microphone found; plug one in and press r")) as play:
        await play.open()
        await play.press("d")
        await asyncio.sleep(0.15)
        await play.settle()
        assert "no microphone found" in play.screen_text
        assert play.app.screen.query_one(OptionList).option_count == 0


async def test_r_records_nothing_where_nothing_is_heard():
    async with on_stage() as play:
        await play.press("r")
        assert "nothing to record" in play.told
        await play.tell(InputLost("no microphone found", "microphone", ever_open=False))
        await play.press("r")
        await play.open()
        await play.press("space", "r")  # switched off
        assert not any(asked[0] == "record" for asked in play.backend.asked)
        await play.press("space")
        await play.open()
        await play.press("r")
        assert play.backend.asked[-1][0] == "record"


async def test_r_records_the_audio_and_its_events(tmp_path: Path):
    options = Options(recordings=tmp_path)
    async with on_stage(options=options) as play:
        await play.open()
        await play.press("r")
        path = str(tmp_path / "2026-01-01_12-00-00.wav")
        assert play.backend.asked[-1] == ("record", path)
        await play.tell(RecordingChanged(path))
        assert "● REC" in play.screen_text
        await play.say(0, "On the record.")
        await play.press("r")
        assert play.backend.asked[-1] == ("record", None)
        await play.tell(RecordingChanged(None))
        assert "● REC" not in play.screen_text
        records, _ = journal.read(tmp_path / "2026-01-01_12-00-00.jsonl")
        assert journal.replayed(records).finals[0].text == "On the record."


async def test_a_recording_that_fails_is_told():
    async with on_stage() as play:
        await play.open()
        await play.press("r")
        await play.tell(RecordingChanged(None, "No space left on device"))
        assert "No space left on device" in play.screen_text


# keys: text


async def test_c_copies_the_last_turn_or_the_selected_one():
    async with on_stage() as play:
        await play.open()
        await play.press("c")
        assert "no finished turn to copy" in play.screen_text
        await talk(play)
        await play.press("c")
        await play.press("up", "up", "c")
        assert play.app.copied == [SENTENCES[2], SENTENCES[1]]
        await play.press("C")
        assert play.app.copied[-1] == "\n".join(SENTENCES) + "\n"


async def test_a_click_selects_a_turn():
    async with on_stage() as play:
        await talk(play)
        await play.pilot.click("#turns", offset=(30, 2))
        await play.press("c")
        assert play.app.copied == [SENTENCES[1]]


async def test_s_saves_in_the_format_of_the_suffix(tmp_path: Path):
    async with on_stage(options=Options(folder=tmp_path)) as play:
        await talk(play)
        await play.press("s")
        assert isinstance(play.app.screen, SaveScreen)
        field = play.app.screen.query_one(Input)
        assert field.value == str(tmp_path / "transcript-2026-01-01-1200.txt")
        await play.press("enter")
        assert (tmp_path / "transcript-2026-01-01-1200.txt").read_text() == "\n".join(SENTENCES) + "\n"
        for key, kind, begins in (
            ("r", "srt", "1\n00:"),
            ("v", "vtt", "WEBVTT"),
            ("n", "md", "# Tr"),
            ("j", "json", "{"),
        ):
            await play.press("s", f"ctrl+{key}", "enter")
            assert (tmp_path / f"transcript-2026-01-01-1200.{kind}").read_text().startswith(begins)


async def test_s_writes_over_a_file_only_when_told_twice(tmp_path: Path):
    async with on_stage(options=Options(folder=tmp_path)) as play:
        path = tmp_path / "transcript-2026-01-01-1200.txt"
        path.write_text("mine")
        path.chmod(0o644)
        await talk(play)
        await play.press("s", "enter")
        assert "exists; Enter once more" in play.screen_text
        assert path.read_text() == "mine"
        await play.press("enter")
        assert path.read_text().startswith("Good morning")
        assert path.stat().st_mode & 0o777 == 0o600


async def test_enter_on_a_format_saves_in_it_and_a_click_chooses_it(tmp_path: Path):
    async with on_stage(options=Options(folder=tmp_path)) as play:
        await talk(play)
        srt = tmp_path / "transcript-2026-01-01-1200.srt"
        await play.press("s", "tab", "tab", "enter")
        assert srt.read_text().startswith("1\n00:")
        await play.press("s", "tab", "tab", "enter")
        assert "exists; Enter once more" in play.screen_text
        await play.press("enter")
        assert "Saved" in play.told
        await play.press("s")
        await play.pilot.click("#vtt")
        await play.settle()
        assert play.app.screen.query_one(Input).value == str(srt.with_suffix(".vtt"))


@pytest.mark.parametrize(
    ("name", "problem"),
    [("a.pdf", "expected a name ending in"), ("no/such/a.txt", "there is no directory"), ("", "expected a name"),
     ("~nobody-here/a.txt", "home directory"), ("x" * 300 + ".txt", "too long")],
)  # fmt: skip
async def test_s_refuses_what_cannot_be_saved(name: str, problem: str, tmp_path: Path):
    async with on_stage(options=Options(folder=tmp_path)) as play:
        await talk(play)
        await play.press("s")
        play.app.screen.query_one(Input).value = name
        await play.press("enter")
        assert problem in play.screen_text
        await play.press("escape")
    assert not any(tmp_path.glob("*"))  # noqa: ASYNC240


async def test_a_device_dialog_says_all_that_is_wrong():
    async with on_stage() as play:
        play.app.devices = ScriptedDevices(
            [], problem="microphones need a library " + "that is missing " * 4 + "on Debian"
        )
        await play.press("d")
        await asyncio.sleep(0.2)
        await play.settle()
        assert "on Debian" in " ".join(play.screen_text.replace("│", "").split())


@pytest.mark.parametrize("size", [(20, 5), (40, 8), (80, 12), (80, 24)])
async def test_dialogs_show_what_they_are_for_at_any_size(size: tuple[int, int], tmp_path: Path):
    async with on_stage(size, options=Options(folder=tmp_path)) as play:
        await talk(play)
        for key, shown in (("s", "2026"), ("e", "dollars"), ("question_mark", "Listening"), ("d", "System")):
            if key == "s":
                await play.press(key)
                play.app.screen.query_one(Input).value = "2026.txt"
                await play.settle()
            else:
                await play.press(key)
            assert shown in play.screen_text, key
            await play.press("escape")


@pytest.mark.parametrize(
    ("typed", "becomes"),
    [("", "transcript.srt"), ("/", "/transcript.srt"), ("talks/", "talks/transcript.srt"),
     ("talks/.", "talks/transcript.srt"), ("a.b/c", "a.b/c.srt"),
     ("talk.txt", "talk.srt"), ("~/talk", "~/talk.srt")],
)  # fmt: skip
async def test_a_format_can_be_chosen_whatever_is_typed(typed: str, becomes: str):
    async with on_stage() as play:
        await talk(play)
        await play.press("s")
        field = play.app.screen.query_one(Input)
        field.value = typed
        await play.press("ctrl+r")
        assert field.value == becomes


async def test_s_tells_of_a_disk_that_refuses_and_leaves_what_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(_: Output, __: str) -> None:
        raise OutputError("No space left on device")

    monkeypatch.setattr(Output, "write", full)
    path = tmp_path / "transcript-2026-01-01-1200.txt"
    path.write_text("mine")
    async with on_stage(options=Options(folder=tmp_path)) as play:
        await talk(play)
        await play.press("s", "enter", "enter")
        assert "Not saved: No space left on device" in play.told
        assert play.app.unsaved
    assert {file: file.read_text() for file in sorted(tmp_path.glob("*"))} == {path: "mine"}  # noqa: ASYNC240


# keys: the program


# sessions


# troubles
