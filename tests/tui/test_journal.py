import json
import os
import random
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
import soundfile
from stage import NOON, spoken

from stt.events import RecognitionFailed, TurnResumed
from tui import export, journal, sessions
from tui.document import Block, Cleared, Edited, Heard, Record, StretchBegan, Undone, Unfinished
from tui.journal import Journal, JournalError
from tui.recorder import open_recorder

RECORDS: list[Record] = [
    StretchBegan(0, 0, NOON),
    *(Heard(0, event) for event in spoken(0, "Hello wörld.", 1.0)),
    *(Heard(0, event) for event in spoken(1, "Bye.", 3.0)[:1]),
    Heard(0, TurnResumed(1, 50_000)),
    Heard(0, RecognitionFailed(1, "no [memory]")),
    Edited(0, 0, "Hello."),
    Cleared(),
    Undone(),
    Unfinished(0, 1),
]


@dataclass(frozen=True)
class Word:
    text: str
    start: int


@dataclass(frozen=True)
class Later:
    """An event of a version to come."""

    turn: int
    words: tuple[Word, ...]
    why: str | None
    best: Word | None


def test_every_record_comes_back_as_it_was(tmp_path: Path):
    now = iter(range(100))
    with Journal(tmp_path / "deep" / "a.jsonl", monotonic=lambda: next(now)) as kept:
        for record in RECORDS:
            kept.write(record)
        assert kept.failure == ""
    records, bad = journal.read(tmp_path / "deep" / "a.jsonl")
    assert records == [(float(i + 1), record) for i, record in enumerate(RECORDS)]
    assert bad == 0


def test_journals_outlive_versions():
    later = Later(3, (Word("a", 1), Word("b", 2)), "silence", Word("c", 3))
    assert journal.rebuilt(Later, json.loads(json.dumps(asdict(later)))) == later
    assert journal.rebuilt(Later, {"turn": 3, "unheard of": [1]}) == Later(3, (), None, None)
    with pytest.raises(TypeError):
        journal.rebuilt(Later, {"words": []})  # a turn without its number is none
    with pytest.raises(TypeError):
        journal.rebuilt(Later, {"turn": 3, "words": ["a"]})


def test_a_line_is_on_disk_when_write_returns(tmp_path: Path):
    code = f"""
import os, sys
from pathlib import Path
from typing import Any
from tui.document import Cleared
from tui.journal import Journal
journal = Journal(Path({str(tmp_path / "a.jsonl")!r}))
journal.write(Cleared())
os.kill(os.getpid(), 9)
"""
    env = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", code], check=False, env=env)
    assert done.returncode == -9
    assert [record for _, record in journal.read(tmp_path / "a.jsonl")[0]] == [Cleared()]


def test_after_a_torn_line_the_next_record_stands_alone(tmp_path: Path):
    path = tmp_path / "a.jsonl"
    path.write_text(journal.encode(1.0, Cleared()) + '{"t":2,"is":"Clea')
    with Journal(path) as kept:
        kept.write(Undone())
    records, bad = journal.read(path)
    assert [record for _, record in records] == [Cleared(), Undone()]
    assert bad == 1


def test_two_programs_do_not_write_to_one_journal(tmp_path: Path):
    with Journal(tmp_path / "a.jsonl") as one, Journal(tmp_path / "a.jsonl") as two:
        one.write(Cleared())
        two.write(Cleared())
        assert "another stt tui writes to it" in two.failure
    assert len(journal.read(tmp_path / "a.jsonl")[0]) == 1


def test_a_failing_disk_is_told_and_tried_again(tmp_path: Path):
    blocked = tmp_path / "no"
    blocked.write_text("a file where a folder should be")
    kept = Journal(blocked / "a.jsonl")
    kept.write(Cleared())
    assert str(blocked / "a.jsonl") in kept.failure
    blocked.unlink()
    kept.write(Cleared())
    assert kept.failure == ""
    kept.close()


def test_what_is_no_journal_is_said_so(tmp_path: Path):
    path = tmp_path / "talk.txt"
    path.write_text('hello\n[1]\n{"t": 1}\n')
    with pytest.raises(JournalError, match="expected a session recorded"):
        journal.read(path)
    with pytest.raises(JournalError, match="No such file"):
        journal.read(tmp_path / "gone.jsonl")
    with pytest.raises(JournalError, match="no saved session"):
        journal.latest(tmp_path)


def test_latest_is_the_one_written_to_last(tmp_path: Path):
    for age, name in ((30, "a"), (10, "b"), (20, "c"), (0, "empty")):
        path = tmp_path / f"{name}.jsonl"
        path.write_text("" if name == "empty" else "x")
        os.utime(path, (NOON - age, NOON - age))
    assert journal.latest(tmp_path).name == "b.jsonl"


def test_two_sessions_of_one_second_have_two_names(tmp_path: Path):
    first = journal.new_path(tmp_path, NOON)
    first.touch()
    assert (first.name, journal.new_path(tmp_path, NOON).name) == (
        "2026-01-01_12-00-00.jsonl",
        "2026-01-01_12-00-00_1.jsonl",
    )


BLOCKS = [
    Block(0, 0, NOON, 16_000, 48_000, "Hello *world*.", 14, "final"),
    Block(0, 1, NOON + 3, 64_000, 80_000, "Bye.", 4, "final"),
]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("txt", "Hello *world*.\nBye.\n"),
        ("srt", "1\n00:00:01,000 --> 00:00:03,000\nHello *world*.\n\n2\n00:00:04,000 --> 00:00:05,000\nBye.\n\n"),
        (
            "md",
            "# Transcript, 2026-01-01 12:00\n\n2 turns · e\n\n**12:00:00** Hello \\*world\\*.\n\n**12:00:03** Bye.\n",
        ),
    ],
)
def test_export(kind: str, expected: str):
    assert export.render(kind, BLOCKS, engine="e", language="en") == expected


def test_export_json_and_vtt():
    found = json.loads(export.render("json", BLOCKS, engine="e", language="en"))
    assert [turn["text"] for turn in found["turns"]] == ["Hello *world*.", "Bye."]
    assert export.render("vtt", BLOCKS, engine="e", language="en").startswith("WEBVTT\n\n00:00:01.000 --> 00:00:03.000")


@pytest.mark.parametrize(("seconds", "text"), [(0, "0.0s"), (99.9, "99.9s"), (99.96, "1m40s"), (3661, "1h01m")])
def test_durations_are_short(seconds: float, text: str):
    assert export.duration(seconds) == text


@pytest.mark.parametrize("kind", ["wav", "flac"])
def test_a_recording_holds_what_was_heard(kind: str, tmp_path: Path):
    import numpy as np

    audio = (np.sin(np.arange(40_000) / 20) * 0.5).astype(np.float32)
    recorder = open_recorder(tmp_path / f"a.{kind}")
    for at in range(0, len(audio), 320):
        recorder.write(audio[at : at + 320])
    if kind == "wav":  # readable before it is closed, up to the last second
        assert soundfile.info(str(tmp_path / "a.wav")).frames == 32_000
    recorder.close()
    found, rate = soundfile.read(tmp_path / f"a.{kind}", dtype="float32")
    assert rate == 16_000
    assert np.abs(found - audio).max() < 1e-4
    with pytest.raises(FileExistsError):
        open_recorder(tmp_path / f"a.{kind}")


def test_a_recording_of_another_kind_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"\.wav or \.flac, got '\.mp3'"):
        open_recorder(tmp_path / "a.mp3")


def test_sessions_that_begin_at_once_do_not_get_into_each_other(tmp_path: Path):
    """Both saw that the name was free: it is made with the first record."""
    path = tmp_path / "2026-01-01_12-00-00.jsonl"
    with Journal(path, new=True) as first, Journal(path, new=True) as second, Journal(path, new=True) as third:
        for kept in (first, second, third):
            kept.write(RECORDS[0])
            assert kept.failure == ""
    assert [kept.path.stem[19:] for kept in (first, second, third)] == ["", "_1", "_2"]
    assert all(len(journal.read(kept.path)[0]) == 1 for kept in (first, second, third))


ODD = [None, -1, 1e300, float("nan"), 10**30, "x", "", [], {}, True, [1], {"a": 1}, -5.5]


def test_what_a_damaged_journal_holds_ends_nobody(tmp_path: Path):
    """Its lines are records of the right types, or left out: sums, screens and files can be made of what is left."""
    rng = random.Random(1)

    def damaged(value: Any) -> Any:
        if rng.random() < 0.03:
            return rng.choice(ODD)
        if isinstance(value, dict):
            return {key: damaged(inner) for key, inner in value.items() if rng.random() > 0.005}
        return [damaged(inner) for inner in value] if isinstance(value, list) else value

    lines = [json.loads(journal.encode(i, record)) for i, record in enumerate(RECORDS * 5)]
    left = 0
    for _ in range(150):
        order = lines if rng.random() < 0.7 else rng.sample(lines, len(lines))
        (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(damaged(line)) for line in order))
        for summary in sessions.summaries(tmp_path):
            assert summary.line()
            assert summary.document()
        records, bad = journal.read(tmp_path / "a.jsonl")
        document = journal.replayed(records)
        assert all(export.wall(block.wall_s) for block in document.blocks)
        assert all(export.render(kind, document.finals, engine="e", language="en") for kind in export.FORMATS[2:])
        left += bad
    assert 0 < left < 150 * len(lines) / 2
