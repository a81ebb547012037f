"""The sessions that are kept: listed, read, gone on with, deleted."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from stage import NOON, SENTENCES, spoken
from textual.pilot import Pilot

from tui import sessions
from tui.browser import Choice, SessionBrowser
from tui.dialogs import AskScreen
from tui.document import Heard, StretchBegan
from tui.journal import Journal


def keep(folder: Path, name: str, *texts: str, began_s: float = NOON) -> Path:
    path = folder / f"{name}.jsonl"
    with Journal(path) as journal:
        journal.write(StretchBegan(0, 0, began_s))
        for turn, text in enumerate(texts):
            for event in spoken(turn, text, 4.0 * turn):
                journal.write(Heard(0, event))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    keep(tmp_path, "2026-01-01_12-00-00", *SENTENCES)
    keep(tmp_path, "2026-01-02_12-00-00", "One [b]word[/b].", began_s=NOON + 86_400)
    keep(tmp_path, "2026-01-03_12-00-00", began_s=NOON + 2 * 86_400)
    (tmp_path / "2026-01-04_12-00-00.jsonl").write_text("no session\n")
    return tmp_path


def test_sessions_are_summed_up_the_newest_first(folder: Path):
    found = list(sessions.summaries(folder))
    assert [(s.path.stem[:10], s.turns, s.words, s.beginning) for s in found] == [
        ("2026-01-03", 0, 0, ""),
        ("2026-01-02", 1, 2, "One [b]word[/b]."),
        ("2026-01-01", 3, 34, SENTENCES[0]),
    ]
    assert found[2].duration_s == pytest.approx(8 + 0.3 * 16)
    assert found[2].line() == f"2026-01-01 12:00  12.8s     34 words  {SENTENCES[0]}"
    assert found[0].line().endswith("(nothing was said)")


def test_they_are_printed_for_people_and_for_programs(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert sessions.show(folder, as_json=False) == 0
    printed = capsys.readouterr().out
    assert "2 words  One [b]word[/b].\n" in printed
    assert str(folder / "2026-01-02_12-00-00.jsonl") in printed
    assert sessions.show(folder, as_json=True) == 0
    documents = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert documents[1] == {
        "path": str(folder / "2026-01-02_12-00-00.jsonl"),
        "began": "2026-01-02T12:00:00Z",
        "duration": 0.6,
        "turns": 1,
        "words": 2,
        "beginning": "One [b]word[/b].",
    }
    assert sessions.show(folder / "none", as_json=False) == 0
    assert "no sessions in" in capsys.readouterr().out


@asynccontextmanager
async def browsing(folder: Path, size: tuple[int, int] = (80, 24), **more: Any) -> AsyncIterator[Pilot[Choice]]:
    app = SessionBrowser(folder, None, **more)
    async with app.run_test(size=size) as pilot:
        await app.workers.wait_for_complete([worker for worker in app.workers if worker.name == "_look"])
        await pilot.pause()
        yield pilot


def shown(pilot: Pilot[Choice]) -> str:
    strips = pilot.app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip) for strip in strips)


async def test_the_list_is_on_the_screen(folder: Path):
    async with browsing(folder) as pilot:
        text = shown(pilot)
        assert "3 sessions" in text
        assert "2 words  One [b]word[/b]." in text
        assert SENTENCES[0][:20] in text
        assert "Enter Read" in text


async def test_a_small_screen_shows_a_session_in_a_line(folder: Path):
    async with browsing(folder, (40, 12)) as pilot:
        lines = shown(pilot).splitlines()
        assert [line[1:11] for line in lines[1:4]] == ["2026-01-03", "2026-01-02", "2026-01-01"]
        assert lines[-1].rstrip().endswith("q Quit")


@pytest.mark.parametrize(
    ("keys", "choice"),
    [
        (("enter",), ("2026-01-03", False)),
        (("j", "enter"), ("2026-01-02", False)),
        (("G", "k", "j", "r"), ("2026-01-01", True)),
        (("G", "g", "r"), ("2026-01-03", True)),
        (("q",), None),
    ],
)
async def test_one_is_read_or_gone_on_with(keys: tuple[str, ...], choice: tuple[str, bool] | None, folder: Path):
    async with browsing(folder) as pilot:
        await pilot.press(*keys)
    found = pilot.app.return_value
    assert (found and (found.path.stem[:10], found.resume)) == choice


async def test_the_one_read_last_is_marked(folder: Path):
    async with browsing(folder, at=folder / "2026-01-02_12-00-00.jsonl") as pilot:
        await pilot.press("enter")
    assert pilot.app.return_value == Choice(folder / "2026-01-02_12-00-00.jsonl", resume=False)


async def test_one_is_deleted_only_if_that_is_meant(folder: Path):
    path = folder / "2026-01-02_12-00-00.jsonl"
    async with browsing(folder) as pilot:
        await pilot.press("j", "x")
        assert isinstance(pilot.app.screen, AskScreen)
        await pilot.press("n")
        assert path.exists()
        await pilot.press("x", "y")
        await pilot.pause()
        assert not path.exists()
        assert "Deleted 2026-01-02" in shown(pilot)
        assert "2 sessions" in shown(pilot)
        await pilot.press("enter")  # the one that took its place
    assert pilot.app.return_value == Choice(folder / "2026-01-01_12-00-00.jsonl", resume=False)


async def test_a_session_that_goes_on_just_now_is_not_deleted(folder: Path):
    path = folder / "2026-01-03_12-00-00.jsonl"
    with Journal(path) as running:
        running.write(StretchBegan(1, 0, NOON))
        async with browsing(folder) as pilot:
            await pilot.press("x", "y")
            await pilot.pause()
            assert "another stt tui writes to it" in shown(pilot).replace("\n", " ") or "Not deleted" in shown(pilot)
            assert path.exists()


async def test_without_sessions_nothing_can_be_done(tmp_path: Path):
    async with browsing(tmp_path) as pilot:
        await pilot.press("enter", "r", "x")
        assert "0 sessions" in shown(pilot)
