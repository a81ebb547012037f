"""Every key and every trouble, by pressing keys and looking at the screen."""

import asyncio
import json
import re
from pathlib import Path

import pytest
from stage import FAST, SENTENCES, Play, Scripted, ScriptedDevices, meter, on_stage
from textual.binding import Binding
from textual.widgets import Input, OptionList, TextArea

from stt.events import RecognitionFailed, TranscriptChanged, TurnCompleted, TurnPaused, TurnResumed, TurnStarted
from tui import journal, private
from tui.app import Got
from tui.condition import Options
from tui.devices import Row
from tui.dialogs import AskScreen, DeviceScreen, EditScreen, HelpScreen, SaveScreen
from tui.document import Heard
from tui.journal import Journal
from tui.updates import (
    EngineFailed,
    EngineLoading,
    InputEnded,
    InputLost,
    Lagged,
    Late,
    Metered,
    RecordingChanged,
    ServerSays,
)


async def talk(play: Play) -> None:
    await play.open()
    for turn, text in enumerate(SENTENCES):
        await play.say(turn, text)


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
        await talk(play)
        await play.press("s", "enter")
        assert "exists; Enter once more" in play.screen_text
        assert path.read_text() == "mine"
        await play.press("enter")
        assert path.read_text().startswith("Good morning")


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
    [("a.pdf", "expected a name ending in"), ("no/such/a.txt", "there is no directory"), ("", "expected a name")],
)
async def test_s_refuses_what_cannot_be_saved(name: str, problem: str, tmp_path: Path):
    async with on_stage(options=Options(folder=tmp_path)) as play:
        await talk(play)
        await play.press("s")
        play.app.screen.query_one(Input).value = name
        await play.press("enter")
        assert problem in play.screen_text
        await play.press("escape")
    assert not any(tmp_path.glob("*"))  # noqa: ASYNC240


async def test_s_tells_of_a_disk_that_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object, **__: object) -> object:
        raise OSError(28, "No space left on device")

    async with on_stage(options=Options(folder=tmp_path)) as play:
        await talk(play)
        await play.press("s")
        monkeypatch.setattr(private, "open_file", full)
        await play.press("enter")
        assert "No space left on device" in play.told
        assert play.app.unsaved


async def test_e_edits_a_final_turn():
    async with on_stage() as play:
        await talk(play)
        await play.press("e")
        assert isinstance(play.app.screen, EditScreen)
        play.app.screen.query_one(TextArea).text = "We have\nspent  40,000 dollars."
        await play.press("enter")
        assert play.texts[-1] == "We have spent 40,000 dollars."
        assert "✎" in play.screen_text
        await play.press("u")
        assert play.texts[-1] == SENTENCES[2]


async def test_e_and_escape_change_nothing():
    async with on_stage() as play:
        await talk(play)
        await play.press("e", "a", "b", "c", "escape")
        assert play.texts[-1] == SENTENCES[2]


async def test_typing_in_the_editor_reaches_the_text_while_someone_speaks():
    async with on_stage() as play:
        await talk(play)
        await play.press("e", "q", "x")
        await play.say(3, "Meanwhile another turn.")
        await play.press("enter")
        assert play.texts[2:] == [f"{SENTENCES[2]}qx", "Meanwhile another turn."]


async def test_a_running_turn_cannot_be_edited():
    async with on_stage() as play:
        await talk(play)
        await play.hear(
            TurnStarted(3, 200_000), TranscriptChanged(3, 200_000, 210_000, "not yet", 0, 0, "interim", FAST)
        )
        await play.press("up", "e")
        assert "Only a finished turn" in play.screen_text


async def test_x_clears_and_u_brings_it_back():
    async with on_stage() as play:
        await play.press("x")
        assert "nothing to clear" in play.screen_text
        await talk(play)
        await play.press("x")
        assert play.texts == []
        assert "Say something." in play.screen_text
        await play.press("u")
        assert play.texts == list(SENTENCES)
        await play.press("u")
        assert "nothing to take back" in play.screen_text


async def test_slash_searches_and_n_goes_round():
    async with on_stage((80, 12)) as play:
        await talk(play)
        await play.press("slash", *"THE")
        assert "4 of 4" in play.screen_text  # the latest first
        await play.press("enter", "n")
        assert "1 of 4" in play.screen_text
        assert "joining the meeting" in play.screen_text  # it was scrolled to
        await play.press("N")
        assert "4 of 4" in play.screen_text
        await play.say(3, "The end.")
        assert "4 of 5" in play.screen_text
        await play.press("escape")
        assert " of 5" not in play.screen_text
        await play.press("slash", *"zebra")
        assert "nothing found" in play.screen_text


# keys: the program


async def test_question_mark_helps():
    async with on_stage((100, 50)) as play:
        await play.press("question_mark")
        assert isinstance(play.app.screen, HelpScreen)
        text = play.screen_text
        for word in ("microphone off and on", "copy all turns", "record the audio", "n and N", "--resume"):
            assert word in text
        await play.press("escape")
        assert not isinstance(play.app.screen, HelpScreen)


async def test_every_binding_is_in_the_help_and_in_the_palette():
    from tui.app import SttApp
    from tui.dialogs import HELP
    from tui.mainscreen import MainScreen
    from tui.program import Program
    from tui.turnview import TurnView

    names = {"slash": "/", "question_mark": "?", "escape": "Esc", "left": "←", "right": "→", "minus": "-", "plus": "+",
             "equals_sign": "+", "ctrl+z": "Ctrl+Z", "up": "↑", "down": "↓", "pageup": "PgUp", "pagedown": "PgDn",
             "home": "Home", "end": "End"}  # fmt: skip
    helped = {word for marked in re.findall(r"\[b\](.*?)\[/b\]", HELP) for word in marked.split()}
    async with on_stage(options=Options(replay=True)) as play:
        commands = [command.title for command in play.app.get_system_commands(play.app.screen)]
        for owner in (SttApp, Program, MainScreen, TurnView):
            for binding in owner.BINDINGS:
                assert isinstance(binding, Binding)
                for key in binding.key.split(","):
                    assert names.get(key, key) in helped | {"?"}, key
                assert owner is TurnView or binding.description in commands
        assert "Screenshot" in commands
        assert "Theme" in commands


async def test_the_palette_runs_commands():
    async with on_stage() as play:
        await talk(play)
        await play.press("ctrl+p", *"copy all", "enter")
        await asyncio.sleep(0.3)
        await play.settle()
        await play.press("enter") if not play.app.copied else None
        assert play.app.copied == ["\n".join(SENTENCES) + "\n"]


async def test_t_switches_light_and_dark_for_good(tmp_path: Path):
    options = Options(preferences=tmp_path / "new" / "tui.json")
    async with on_stage(options=options) as play:
        assert play.app.current_theme.dark
        await play.press("t")
        assert not play.app.current_theme.dark
    async with on_stage(options=options) as play:
        assert play.app.theme == "textual-light"
        play.app.theme = "nord"  # as the palette does
    (tmp_path / "other").write_text('{"theme": "no such"}')
    for path, theme in ((tmp_path / "new" / "tui.json", "nord"), (tmp_path / "other", "textual-dark")):
        async with on_stage(options=Options(preferences=path)) as play:
            assert play.app.theme == theme


async def test_a_screenshot_needs_no_folder_for_downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    async with on_stage(options=Options(folder=tmp_path)) as play:
        await talk(play)
        await play.press("ctrl+p", *"screenshot", "enter")
        await asyncio.sleep(0.3)
        await play.settle()
        await play.press("enter") if not play.told else None
        path = tmp_path / "stt-2026-01-01-120000.svg"
        assert play.told == f"Screenshot: {path}"
        assert "budget" in path.read_text()
    async with on_stage(options=Options(folder=tmp_path / "gone")) as play:
        play.app.action_picture()
        await play.settle()
        assert "No screenshot" in play.told


async def test_vi_keys_move():
    async with on_stage((80, 10)) as play:
        await talk(play)
        await play.press("k", "k", "c", "j", "c")
        assert play.app.copied == [SENTENCES[1], SENTENCES[2]]
        await play.press("g")
        assert SENTENCES[0] in play.screen_text
        await play.press("G")
        assert "even begun" in play.screen_text
        await play.press("question_mark")
        first = play.screen_text
        await play.press("j", "j", "j")
        assert play.screen_text != first
        await play.press("g")
        assert play.screen_text == first


async def test_q_asks_only_if_something_would_be_lost():
    async with on_stage() as play:  # no journal: nothing is kept by itself
        await talk(play)
        await play.press("q")
        assert isinstance(play.app.screen, AskScreen)
        await play.press("n")
        assert not isinstance(play.app.screen, AskScreen)
        assert play.app.is_running
        await play.press("q", "y")
        await asyncio.sleep(0.1)
    assert "close" in play.backend.asked


async def test_q_does_not_ask_when_it_is_saved(tmp_path: Path):
    async with on_stage(options=Options(folder=tmp_path)) as play:
        await talk(play)
        await play.press("s", "enter")
        assert not play.app.unsaved
        await play.say(3, "One more.")
        assert play.app.unsaved


async def test_q_asks_when_autosave_fails(tmp_path: Path):
    blocked = tmp_path / "no"
    blocked.write_text("")
    async with on_stage(journal=Journal(blocked / "a.jsonl")) as play:
        await talk(play)
        assert "Saving by itself fails" in play.screen_text
        await play.press("q")
        assert isinstance(play.app.screen, AskScreen)
        await play.press("y")


# sessions


async def test_all_is_kept_as_it_happens_and_resumed(tmp_path: Path):
    path = tmp_path / "a.jsonl"
    async with on_stage(journal=Journal(path)) as play:
        await talk(play)
        await play.hear(
            TurnStarted(3, 300_000), TranscriptChanged(3, 300_000, 310_000, "half a", 0, 0, "interim", FAST)
        )
        await play.press("up", "up", "e")
        play.app.screen.query_one(TextArea).text = "Edited."
        await play.press("enter")
        # As if the terminal had been closed here: what is on disk is all.
        records, bad = journal.read(path)
    resumed = journal.replayed(records)
    end = resumed.end
    assert bad == 0
    async with on_stage(document=resumed, journal=Journal(path, at_s=records[-1][0])) as play:
        assert ("start", 1, end) in play.backend.asked
        assert play.texts == [SENTENCES[0], SENTENCES[1], "Edited.", "half a"]
        assert "Edited." in play.screen_text
        play.stretch = 0
        await play.open()
        await play.say(0, "After the break.")
        assert [block.state for block in play.app.transcript.document.blocks] == ["final"] * 5
        assert play.app.transcript.document.blocks[-1].start >= end
    again = journal.replayed(journal.read(path)[0])
    assert [block.text for block in again.blocks] == play.texts


# troubles


async def test_without_a_microphone_it_says_what_else_can_be_done():
    async with on_stage() as play:
        await play.tell(InputLost("no microphone found", "microphone", ever_open=False))
        text = play.screen_text
        assert "No microphone: no microphone found" in text
        assert "looking again" in text
        assert "stt tui --source" in text
        assert "stt tui --connect" in text
        assert "✗ no input" in text
        await play.press("space")
        assert play.backend.asked[-1] == ("listen", True)  # tries at once
        await play.open()
        assert "Say something." in play.screen_text


async def test_a_microphone_lost_in_mid_turn_keeps_the_text_and_comes_back():
    async with on_stage() as play:
        await play.open()
        await play.hear(TurnStarted(0, 0), TranscriptChanged(0, 0, 16_000, "so far so", 0, 6, "interim", FAST))
        await play.hear(TurnCompleted(0, 0, 16_000, "So far so good.", (), FAST))
        await play.tell(InputLost("'Studio Mic' is gone (unplugged?)", "microphone", ever_open=True))
        text = play.screen_text
        assert "So far so good." in text
        assert "'Studio Mic' is gone" in text
        assert "by itself when the device is back" in text
        await play.open()
        await play.say(0, "Here I am again.")
        text = play.screen_text
        assert "Listening to Studio Mic again" in text
        assert "is gone" not in text
        assert play.texts == ["So far so good.", "Here I am again."]


async def test_another_default_device_is_told():
    async with on_stage() as play:
        await play.open("Studio Mic")
        await play.open("Headset")
        assert "Listening to Headset" in play.screen_text


async def test_digital_silence_is_told():
    async with on_stage() as play:
        await play.open()
        await play.tell(*[Metered(0.0, 0.0, (0.0,), i * 0.064, 0) for i in range(60)])
        assert "digital silence" in play.screen_text
        await play.tell(Metered(0.1, 0.1, (0.9,), 5.0, 0))
        assert "digital silence" not in play.screen_text


async def test_an_engine_that_fails_says_why_and_space_tries_again():
    async with on_stage() as play:
        await play.tell(EngineFailed("model 'x': no such directory; or give a hub id, [b]like this[/b]"))
        text = play.screen_text
        assert "model 'x': no such directory; or give a hub id, [b]like this[/b]" in text.replace("\n", " ") or (
            "[b]like this[/b]" in text
        )
        await play.press("space")
        assert play.backend.asked[-1] == ("listen", True)


async def test_a_piece_that_fails_is_told_in_its_turn():
    async with on_stage() as play:
        await play.open()
        await play.hear(
            TurnStarted(0, 0), RecognitionFailed(0, "out of memory"), TurnCompleted(0, 0, 16_000, "", (), None)
        )
        assert "[not recognized: out of memory]" in play.screen_text


async def test_the_server_s_troubles_are_told():
    async with on_stage(options=Options(server="ws://box:15751")) as play:
        await play.tell(InputLost("cannot connect to ws://box:15751: refused", "server", ever_open=False))
        assert "The server cannot be reached" in play.screen_text
        await play.open()
        await talk(play)
        await play.tell(ServerSays("the connection was lost (code 1006); trying again in 1 s"))
        assert "the connection was lost" in play.screen_text
        await play.tell(ServerSays(""))
        assert "the connection was lost" not in play.screen_text


async def test_a_server_that_refuses_is_not_said_to_be_out_of_reach():
    async with on_stage(options=Options(server="ws://box:15751")) as play:
        await play.tell(InputLost("box: refused with HTTP 401: unknown key", "server", ever_open=False, again=False))
        text = play.screen_text
        assert "The server refuses" in text
        assert "unknown key" in text
        assert "--api-key" in text
        assert "tried again by itself" not in text
        await play.press("space")
        assert play.backend.asked[-1] == ("listen", True)


async def test_while_a_text_is_late_the_true_lag_is_shown():
    async with on_stage((120, 30)) as play:
        await play.open()
        await play.tell(*meter(play))
        await play.hear(TurnStarted(0, 0), TurnPaused(0, 16_000))
        assert "‖ pause" in play.screen_text
        await play.tell(Late(Lagged(7.25, final=True)))
        text = play.screen_text
        assert "◔ 7.2s late" in text
        assert "final >7.2s" in text
        assert "‖ pause" not in text
        await play.tell(Late(None), Lagged(7.5, final=True))
        text = play.screen_text
        assert "late" not in text
        assert "final 7.50s" in text


async def test_a_file_that_ends_or_breaks_is_told():
    async with on_stage() as play:
        await talk(play)
        await play.tell(InputEnded())
        assert "■ ended" in play.screen_text
        await play.press("space")
        assert "The file is over." in play.screen_text
    async with on_stage() as play:
        await play.tell(InputLost("talk.wav: truncated", "file", ever_open=False))
        assert "The file cannot be played: talk.wav: truncated" in play.screen_text


async def test_keys_before_the_backend_is_there():
    """It is being imported for the first half second; keys must not fail then."""
    backend = Scripted()
    async with on_stage() as play:
        play.app._backend = None
        await play.press("space", "d", "r")
        play.app._open_backend(0, 0)  # and it learns what was asked meanwhile
        assert ("listen", False) in play.backend.asked
    assert backend.asked == []


def test_saved_json_is_one_document(tmp_path: Path):
    from tui import export
    from tui.document import Block

    text = export.render("json", [Block(0, 0, 0.0, 0, 16_000, "a", 1, "final")], engine="e", language="en")
    assert json.loads(text)["engine"] == "e"
