from dataclasses import replace
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from stt.events import (
    Latency,
    Passage,
    RecognitionFailed,
    TranscriptChanged,
    TurnCompleted,
    TurnPaused,
    TurnResumed,
    TurnStarted,
)
from tui.document import Cleared, Document, Edited, Heard, Record, StretchBegan, Undone, wrap

FAST = Latency(0.0, 0.1, 1)


def changed(turn: int, text: str, stable: int = 0) -> TranscriptChanged:
    return TranscriptChanged(turn, 0, 16_000, text, 0, stable, "interim", FAST)


def completed(turn: int, text: str) -> TurnCompleted:
    return TurnCompleted(turn, 0, 32_000, text, (Passage(0, 32_000, text),) if text else (), FAST)


def document(*records: Record) -> Document:
    document = Document()
    for record in records:
        document.apply(record)
    return document


def heard(*events: object, stretch: int = 0) -> list[Record]:
    return [Heard(stretch, event) for event in events]  # type: ignore[arg-type]


BEGIN = StretchBegan(0, 0, 1000.0)


def test_a_turn_grows_pauses_resumes_and_settles():
    d = document(BEGIN)
    states = []
    spoken = [TurnStarted(0, 8000), changed(0, "hello wor", 5), TurnPaused(0, 16_000), TurnResumed(0, 20_000)]
    for record in heard(*spoken, completed(0, "Hello world.")):
        assert d.apply(record) == 0
        states.append((d.blocks[0].state, d.blocks[0].text, d.blocks[0].stable_chars))
    assert states == [
        ("speaking", "", 0),
        ("speaking", "hello wor", 5),
        ("paused", "hello wor", 5),
        ("speaking", "hello wor", 5),
        ("final", "Hello world.", 12),
    ]
    assert d.blocks[0].wall_s == 1000.5


def test_a_pause_tells_how_probable_the_end_is_until_the_speaker_goes_on():
    d = document(BEGIN)
    for event, probability in (
        (TurnStarted(0, 8000), None),
        (TurnPaused(0, 16_000), None),
        (TurnPaused(0, 16_000, 0.72), 0.72),
        (TurnResumed(0, 20_000), None),
        (TurnPaused(0, 30_000), None),
    ):
        d.apply(Heard(0, event))
        assert d.blocks[0].probability == probability


def test_a_turn_without_words_leaves_nothing():
    d = document(BEGIN, *heard(TurnStarted(0, 0), changed(0, "hm"), completed(0, "")))
    assert d.blocks == []


def test_a_failure_stays_on_the_screen():
    d = document(BEGIN, *heard(TurnStarted(0, 0), RecognitionFailed(0, "out of memory"), completed(0, "")))
    assert [(block.text, block.failure) for block in d.blocks] == [("", "out of memory")]
    assert d.finals == []  # nothing to save or copy


def test_a_stretch_that_breaks_off_keeps_the_words_it_had():
    d = document(BEGIN, *heard(TurnStarted(0, 0), changed(0, "half a sent")), StretchBegan(1, 48_000, 2000.0))
    assert [(block.text, block.state) for block in d.blocks] == [("half a sent", "final")]
    # What comes late from the stretch before is not mixed into the new one.
    d.apply(Heard(0, completed(0, "late")))
    d.apply(Heard(1, TurnStarted(0, 16_000)))
    assert [(block.key, block.text, block.start) for block in d.blocks] == [
        ((0, 0), "half a sent", 0),
        ((1, 0), "", 64_000),
    ]


def test_passages_and_times_lie_on_the_session_s_timeline():
    d = document(
        BEGIN, StretchBegan(1, 160_000, 2000.0), *heard(TurnStarted(0, 0), completed(0, "ten s later"), stretch=1)
    )
    turn = d.blocks[0].completed
    assert (turn.start_s, turn.end_s, turn.passages[0].start_s) == (10.0, 12.0, 10.0)


def test_edit_clear_and_taking_both_back():
    d = document(BEGIN, *heard(TurnStarted(0, 0), completed(0, "won")), *heard(TurnStarted(1, 0), completed(1, "two")))
    assert d.apply(Edited(0, 0, "one")) == 0
    assert [(block.text, block.edited) for block in d.blocks] == [("one", True), ("two", False)]
    assert d.apply(Cleared()) == 0
    assert d.blocks == []
    assert d.can_undo == "clearing"
    d.apply(Undone())
    d.apply(Undone())
    assert [(block.text, block.edited) for block in d.blocks] == [("won", False), ("two", False)]
    assert d.apply(Undone()) is None


def test_clearing_keeps_the_turn_that_runs():
    d = document(BEGIN, *heard(TurnStarted(0, 0), completed(0, "old"), TurnStarted(1, 0), changed(1, "new")), Cleared())
    assert [block.text for block in d.blocks] == ["new"]
    d.apply(Heard(0, completed(1, "New.")))
    d.apply(Undone())
    assert [block.text for block in d.blocks] == ["old", "New."]


def test_what_a_terminal_would_obey_is_not_kept():
    d = document(BEGIN, *heard(TurnStarted(0, 0), completed(0, "hi\x1b[2J\nthere")))
    assert d.blocks[0].text == "hi [2J there"


def test_find_ignores_case_and_finds_all():
    d = document(BEGIN, *heard(TurnStarted(0, 0), completed(0, "The cat and the dog")))
    assert d.find("the") == [(0, 0), (0, 12)]
    assert d.find("(") == d.find("  ") == []


def test_only_the_last_block_may_be_changed_by_what_is_heard():
    d = document(BEGIN, *heard(TurnStarted(0, 0), completed(0, "one")))
    before = replace(d.blocks[0])
    assert d.apply(Heard(0, changed(0, "again"))) is None
    assert d.blocks == [before]


TEXTS = st.text(st.sampled_from("ab, 字語é　") | st.characters(categories=["L", "P"]), max_size=120)


@given(TEXTS, st.integers(2, 30))
def test_wrapped_lines_fit_and_lose_nothing_but_spaces(text: str, width: int):
    lines = wrap(text, width)
    assert all(cell_len(text[start:end]) <= width for start, end in lines)
    covered = [start for start, _ in lines]
    assert covered[0] == 0
    assert lines[-1][1] == len(text)
    for (_, end), (start, _) in pairwise(lines):
        assert text[end:start] in ("", " ")


def test_wrapping_breaks_between_words():
    text = "one two three four"
    assert [text[a:b] for a, b in wrap(text, 9)] == ["one two", "three", "four"]
    text = "één twee drie vier"
    assert [text[a:b] for a, b in wrap(text, 9)] == ["één twee", "drie vier"]
