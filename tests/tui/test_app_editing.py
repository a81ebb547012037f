"""The program by key presses: editing, searching, leaving, and what it says when something is wrong."""

import asyncio
import json
import re
from pathlib import Path

import pytest
from stage import FAST, SENTENCES, Scripted, meter, on_stage, talk
from textual.binding import Binding
from textual.widgets import TextArea

from stt.events import Passage, RecognitionFailed, TranscriptChanged, TurnCompleted, TurnPaused, TurnStarted
from stt.words import Word
from tui import clipboard, journal
from tui.condition import Options
from tui.dialogs import AskScreen, EditScreen, HelpScreen
from tui.journal import Journal
from tui.turnview import TurnView
from tui.updates import (
    EngineFailed,
    InputEnded,
    InputLost,
    Lagged,
    Late,
    Metered,
    ServerSays,
)


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


def unsure_turn(turn: int) -> TurnCompleted:
    """Of "we met Valkwist, and Marotin.", the names are not sure."""
    words = tuple(
        Word(text, 300_000 + i, 300_001 + i, confidence)
        for i, (text, confidence) in enumerate(
            [("we", 0.9), (" met", None), (" Valkwist,", 0.2), (" and", 0.5), (" Marotin.", 0.49)]
        )
    )
    text = "".join(word.text for word in words)
    return TurnCompleted(turn, 300_000, 310_000, text, (Passage(300_000, 310_000, text),), FAST, words=words)


async def test_words_that_the_engine_is_not_sure_of_are_underlined():
    async with on_stage() as play:
        await play.hear(TurnStarted(0, 300_000), unsure_turn(0))
        view = play.app.screen.query_one(TurnView)
        underlined = [
            s.text for y in range(view.size.height) for s in view.render_line(y) if s.style and s.style.underline
        ]
        assert underlined == ["Valkwist,", "Marotin."]


async def test_tab_in_the_editor_goes_from_one_unsure_word_to_the_next_and_typing_replaces_it():
    async with on_stage() as play:
        await play.hear(TurnStarted(0, 300_000), unsure_turn(0))
        await play.press("e", "tab")  # from the end on to the first
        area = play.app.screen.query_one(TextArea)
        assert area.selected_text == "Valkwist,"
        await play.press("tab")
        assert area.selected_text == "Marotin."
        await play.press("shift+tab")
        assert area.selected_text == "Valkwist,"
        await play.press("x", "y", "tab")
        assert area.selected_text == "Marotin."
        await play.press("tab", "ctrl+left")  # one that was mended is no more
        assert area.cursor_location == (0, len("we met xy and Marotin"))
        await play.press("enter")
        assert play.texts == ["we met xy and Marotin."]
        assert play.app.screen.query_one(TurnView).document.blocks[0].unsure == ()


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


@pytest.mark.parametrize("does", ["#!/no/such/program", "#!/bin/sh\nexec tail -f /dev/null", "#!/bin/sh\nexit 1"])
async def test_a_clipboard_that_does_not_answer_harms_nobody(
    does: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "xclip").write_text(f"{does}\n")
    (tmp_path / "xclip").chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("DISPLAY", ":77")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr(clipboard, "_PATIENCE_S", 0.05)
    async with on_stage() as play:
        await talk(play)
        await play.press("c")
        await play.app.workers.wait_for_complete()
        assert "Copied the turn" in play.told
