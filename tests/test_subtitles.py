"""Subtitles keep to what subtitlers keep to, whatever was said: words in, cues out."""

import re
from collections.abc import Sequence
from itertools import pairwise

import pytest
import srt
import webvtt
from hypothesis import given, settings
from hypothesis import strategies as st

from stt.audio import samples
from stt.events import Passage, TurnCompleted
from stt.outputs import Writer
from stt.subtitles import LEAST_S, LINE, MOST_S, SILENCE_S, Cue, cues, each_word
from stt.words import Word, may_break

MS = 0.0011  # what writing milliseconds may do


def turn(spans: Sequence[tuple[str, float, float]], decided_s: float = 0, number: int = 0) -> TurnCompleted:
    words = tuple(Word(text, samples(start_s), samples(end_s), 0.5) for text, start_s, end_s in spans)
    text = "".join(word.text for word in words)
    start, end = words[0].start, words[-1].end
    passage = Passage(start, end, text)
    return TurnCompleted(number, start, end, text, (passage,), None, samples(decided_s), words=words)


def even(text: str, each_s: float = 0.3, start_s: float = 0) -> TurnCompleted:
    """Words of equal length, one right after the other."""
    texts = re.findall(r"\s*\S+", text)
    return turn([(t, start_s + each_s * i, start_s + each_s * (i + 1)) for i, t in enumerate(texts)])


def shown(found: Sequence[Cue]) -> list[tuple[float, float, str]]:
    return [(round(cue.start_s, 2), round(cue.end_s, 2), cue.text) for cue in found]


def test_a_cue_begins_and_ends_at_words() -> None:
    heard = turn([("Hello", 0.5, 0.9), (" there.", 1.0, 1.5)], decided_s=3)
    assert shown(list(cues([heard]))) == [(0.5, 1.5, "Hello there.")]


def test_what_is_short_stays_long_enough_to_be_read_but_not_into_what_comes() -> None:
    assert shown(list(cues([turn([("Yes.", 1, 1.2)], decided_s=3)]))) == [(1, 1.83, "Yes.")]
    assert shown(list(cues([turn([("Yes.", 1, 1.2)], decided_s=1.4)]))) == [(1, 1.4, "Yes.")]
    assert shown(list(cues([turn([("Yes.", 1, 1.2), (" No.", 2.3, 3.3)])]))) == [(1, 1.83, "Yes."), (2.3, 3.3, "No.")]


def test_no_cue_goes_on_across_a_silence() -> None:
    heard = turn([("So", 0, 0.3), (" then", 0.3, 0.6), (" we", 2, 2.4), (" went", 2.4, 3)])
    assert shown(list(cues([heard]))) == [(0, 0.83, "So then"), (2, 3, "we went")]


def test_cues_are_cut_after_sentences_and_lines_after_clauses() -> None:
    text = "We went down to the old harbour. There we saw the boats, and a man who was mending his nets in the sun."
    assert [cue.text for cue in cues([even(text)])] == [
        "We went down to the old harbour.",
        "There we saw the boats, and a man\nwho was mending his nets in the sun.",
    ]
    text = "When it is raining hard in the mountains, we stay at home and read."
    assert [cue.text for cue in cues([even(text)])] == [text.replace(", ", ",\n")]


def test_a_cue_is_cut_where_the_speaker_pauses() -> None:
    words = [
        (f" word{i}", i * 0.5 + (0.45 if i >= 9 else 0), i * 0.5 + 0.5 + (0.45 if i >= 9 else 0)) for i in range(18)
    ]
    assert [cue.text.split()[0] for cue in cues([turn(words)])] == ["word0", "word9"]


def test_an_abbreviation_ends_no_sentence() -> None:
    text = "It was said at length that Dr. Miller and Mrs. Jones had met with J. Smith in the old town near the river."
    for cue in cues([even(text)]):
        assert not re.search(r"(Dr|Mrs|J)\.$", cue.text)


def test_scripts_without_spaces_are_broken_between_words_and_count_double() -> None:
    pieces = [
        "今日",
        "は",
        "とても",
        "良い",
        "天気",
        "です",
        "から、",
        "みんな",
        "で",
        "公園",
        "に",
        "行き",
        "ましょう。",
    ]
    found = list(cues([turn([(piece, i * 0.3, i * 0.3 + 0.3) for i, piece in enumerate(pieces * 2)])]))
    assert "".join(cue.text for cue in found).replace("\n", "") == "".join(pieces * 2)
    assert all(len(line) <= LINE // 2 for cue in found for line in cue.text.split("\n"))
    assert found[0].text.endswith("。")


def test_without_times_of_words_those_of_the_window_are_spread() -> None:
    passage = Passage(0, samples(4), "今日は良い。")
    found = list(cues([TurnCompleted(0, 0, samples(4), passage.text, (passage,), None)]))
    assert shown(found) == [(0, 4, "今日は良い。")]


@pytest.mark.parametrize("spread", [False, True])
@pytest.mark.parametrize(
    "text",
    [
        "ちょっとコーヒーを「飲んで」から、駅へ行きましょう。" * 4,
        "ที่นี่ไม่มีใครเคยเห็นเก้าอี้ตัวนั้นเลยตั้งแต่เมื่อวาน" * 4,
        "我们（明天）去“北京”的《故宫》看看，好不好？" * 4,  # noqa: RUF001 - fullwidth
    ],
)
def test_lines_of_scripts_without_spaces_break_between_syllables_and_not_at_brackets(text: str, spread: bool) -> None:
    if spread:
        passage = Passage(0, samples(30), text)
        heard = TurnCompleted(0, 0, samples(30), text, (passage,), None)
    else:  # an engine whose words are characters
        heard = turn([(char, i * 0.2, i * 0.2 + 0.2) for i, char in enumerate(text)])
    lines = [line for cue in cues([heard]) for line in cue.text.split("\n")]
    assert "".join(lines) == text
    assert len(lines) > 3
    assert all(may_break(line, after) for line, after in pairwise(lines))


def test_word_by_word() -> None:
    heard = [turn([("Hello", 0.5, 0.9), (" <there>", 1.0, 1.5)])]
    assert shown(list(each_word(heard[0]))) == [(0.5, 0.9, "Hello"), (1.0, 1.5, "<there>")]
    assert written("vtt", heard, words=True) == (
        "WEBVTT\n\n00:00:00.500 --> 00:00:01.500\n<c>Hello</c> <00:00:01.000><c>&lt;there&gt;</c>\n\n"
    )
    assert [sub.content for sub in srt.parse(written("srt", heard, words=True))] == ["Hello", "<there>"]


def written(kind: str, turns: Sequence[TurnCompleted], *, words: bool = False) -> str:
    writer = Writer(kind, {}, words=words)
    return writer.head() + "".join(map(writer.turn, turns)) + writer.tail()


@st.composite
def talks(draw: st.DrawFn) -> list[TurnCompleted]:
    """Turns of any words, with any pauses."""
    turns, at = [], 0.0
    text = st.text("abcdefgh' &<>-日本เก้é", min_size=0, max_size=9).map(lambda t: "".join(t.split()))
    for number in range(draw(st.integers(1, 3))):
        spans = []
        for _ in range(draw(st.integers(1, 60))):
            word = (
                " " * draw(st.integers(0, 1))
                + "x"
                + draw(text)
                + draw(st.sampled_from(["", "", "", ".", ",", "?", "。"]))
            )
            at += draw(st.sampled_from([0, 0, 0, 0.1, 0.4, 0.7, 1.5]))
            length = draw(st.floats(0.02, 1.2))
            spans.append((word if spans else word.strip(), at, at + length))
            at += length
        wait = draw(st.floats(0.05, 3))
        turns.append(turn(spans, decided_s=at + wait, number=number))
        at += wait + 0.01
    return turns


@settings(deadline=None)
@given(talks())
def test_any_words_become_good_subtitles(turns: list[TurnCompleted]) -> None:
    found = list(cues(turns))
    # every word once, in order
    assert [word.text for cue in found for line in cue.lines for word in line] == [
        word.text for heard in turns for word in heard.words
    ]
    for cue, after in pairwise(found):
        assert cue.end_s <= after.start_s
    free = [word.start_s for heard in turns for word in heard.words] + [turns[-1].decided_s]
    for cue in found:
        words = [word for line in cue.lines for word in line]
        lines = cue.text.split("\n")
        assert len(lines) <= 2
        assert all(len(line) <= LINE for line in lines)
        assert 0 < cue.end_s - cue.start_s <= MOST_S + MS
        assert all(after.start_s - word.end_s < SILENCE_S + MS for word, after in pairwise(words))
        # it begins and ends with its words, but for what it takes to be read
        assert cue.start_s == words[0].start_s
        assert cue.end_s == words[-1].end_s or cue.end_s <= cue.start_s + LEAST_S + MS
        if cue.end_s - cue.start_s < LEAST_S - MS:  # short only where something else comes
            assert min(at for at in [*free, *(t.decided_s for t in turns)] if at >= cue.end_s) - cue.end_s <= 0.1
    for kind, parse in (
        ("srt", lambda text: list(srt.parse(text))),
        ("vtt", lambda text: webvtt.from_string(text).captions),
    ):
        for words in (False, True):
            parsed = parse(written(kind, turns, words=words))
            each = words and kind == "srt"
            assert len(parsed) == (sum(len(heard.words) for heard in turns) if each else len(found))


@pytest.mark.parametrize("kind", ["srt", "vtt"])
def test_words_that_share_a_moment_have_their_cue(kind: str) -> None:
    heard = turn([("one", 1, 1), (" two", 1, 1), (" three", 1, 1)])
    assert written(kind, [heard]).count("-->") == 1
    times = re.findall(r"[\d:.,]{12}", written("srt", [heard], words=True))
    assert times == sorted(times)
    assert "three" in written(kind, [heard], words=True)
