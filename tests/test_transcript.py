"""Hypotheses of windows in, words with their standing out."""

import itertools

import numpy as np
import pytest

from stt.audio import SAMPLE_RATE
from stt.recognition import Hypothesis
from stt.transcript import Transcript
from stt.turns import Window
from stt.words import Word, split_text


def window(index: int, start_s: float, end_s: float, cause: str = "interim", overlap_s: float = 0.0) -> Window:
    audio = np.zeros(round((end_s - start_s) * SAMPLE_RATE), np.float32)
    return Window(0, index, round(start_s * SAMPLE_RATE), round(overlap_s * SAMPLE_RATE), audio, cause)  # type: ignore[arg-type]


def standing(transcript: Transcript) -> tuple[str, str, str]:
    text, committed, stable = transcript.text, transcript.committed_chars, transcript.stable_chars
    return text[:committed].strip(), text[committed:stable].strip(), text[stable:].strip()


def test_stable_is_what_two_hypotheses_agree_on() -> None:
    transcript = Transcript()
    transcript.update(window(0, 0, 1), Hypothesis("I scream"))
    assert standing(transcript) == ("", "", "I scream")
    transcript.update(window(0, 0, 2), Hypothesis("Ice cream is"))
    assert standing(transcript) == ("", "", "Ice cream is")
    transcript.update(window(0, 0, 3), Hypothesis("ice cream, is very cold"))
    assert standing(transcript) == ("", "ice cream, is", "very cold")


def test_the_final_hypothesis_overrides_all() -> None:
    transcript = Transcript()
    transcript.update(window(0, 0, 1), Hypothesis("one two"))
    transcript.update(window(0, 0, 2), Hypothesis("one two three"))
    transcript.update(window(0, 0, 2.3, "pause"), Hypothesis("Won too tree."))
    assert standing(transcript) == ("", "Won too tree.", "")


def test_after_a_clean_cut_the_words_before_are_committed() -> None:
    transcript = Transcript()
    transcript.update(window(0, 0, 20, "cut"), Hypothesis("the first window."))
    transcript.update(window(1, 20, 21), Hypothesis("And the second"))
    assert standing(transcript) == ("the first window.", "", "And the second")
    transcript.update(window(1, 20, 22), Hypothesis("And the second one"))
    assert standing(transcript) == ("the first window.", "And the second", "one")


def test_overlapping_windows_are_stitched_and_the_committed_words_never_change() -> None:
    words = [f"word{chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(60)]
    transcript = Transcript()
    transcript.update(window(0, 0, 24, "cut"), Hypothesis(" ".join([*words[:40], "wor"])))
    first = transcript.text
    seen = ""
    for end in range(43, 61):
        transcript.update(window(1, 19, 24 + (end - 40), overlap_s=5), Hypothesis(" ".join(["ord", *words[33:end]])))
        text, committed = transcript.text, transcript.committed_chars
        assert text.split() == words[:end]
        assert text[:committed].startswith(seen)
        seen = text[:committed]
    assert seen
    assert first.startswith(seen)


def test_windows_that_say_nothing_in_common_lose_nothing() -> None:
    transcript = Transcript()
    transcript.update(window(0, 0, 24, "cut"), Hypothesis("a b c d ."))
    transcript.update(window(1, 19, 30, "end", overlap_s=5), Hypothesis("completely new sentence here ."))
    assert transcript.text == "a b c d . completely new sentence here ."


def test_an_empty_hypothesis_after_an_overlap_keeps_the_words_before() -> None:
    transcript = Transcript()
    transcript.update(window(0, 0, 24, "cut"), Hypothesis("all of this stays"))
    transcript.update(window(1, 19, 24.5, "end", overlap_s=5), Hypothesis(""))
    assert transcript.text == "all of this stays"
    assert [p.text for p in transcript.passages] == ["all of this stays"]


def test_passages_hold_all_words_once_and_their_times() -> None:
    transcript = Transcript()
    transcript.update(window(0, 1, 21, "cut"), Hypothesis("alpha beta gamma delta epsilon"))
    transcript.update(window(1, 16, 40, "cut", overlap_s=5), Hypothesis("delta epsilon zeta eta theta"))
    transcript.update(window(2, 40, 50, "end"), Hypothesis("iota kappa"))
    assert [(p.start_s, p.end_s, p.text) for p in transcript.passages] == [
        (1, 16, "alpha beta gamma"),
        (16, 40, "delta epsilon zeta eta theta"),
        (40, 50, "iota kappa"),
    ]
    assert transcript.text == " ".join(p.text for p in transcript.passages)


@pytest.mark.parametrize("text", ["", ".", "...", " - ", "♪♪"])
def test_punctuation_alone_is_no_text(text: str) -> None:
    transcript = Transcript()
    transcript.update(window(0, 0, 1, "end"), Hypothesis(text))
    assert transcript.text == ""
    assert transcript.passages == ()


@pytest.mark.parametrize(
    "text",
    [
        "one two three.",
        "今日は良い天気です。",
        "hello 世界 again",
        "สวัสดี ครับ",
        "你好,世界.",
        "谢谢大家 谢谢大家",
        "a - b",
    ],
)
def test_text_of_any_script_keeps_its_spacing(text: str) -> None:
    assert "".join(split_text(text)) == text
    transcript = Transcript()
    transcript.update(window(0, 0, 9, "end"), Hypothesis(text))
    assert transcript.text == text


def test_characters_are_the_words_of_scripts_without_spaces() -> None:
    assert split_text("  今日は \n ok") == ["今", "日", "は", " ok"]


@pytest.mark.parametrize(
    ("before", "after", "together"),
    [
        ("one two", "three", "one two three"),
        ("今日は", "良い", "今日は良い"),
        ("今日は", "ok", "今日は ok"),
        ("ok", "今日", "ok 今日"),
        ("你好.", "世界.", "你好. 世界."),
    ],
)
def test_texts_of_two_windows_meet_as_their_scripts_want_it(before: str, after: str, together: str) -> None:
    transcript = Transcript()
    transcript.update(window(0, 0, 9, "cut"), Hypothesis(before))
    transcript.update(window(1, 9, 18, "end"), Hypothesis(after))
    assert transcript.text == together


PHRASE = "please turn the second light off"


@pytest.mark.parametrize("between", ["", "well", None], ids=["no words", "few words", "failed"])
def test_a_phrase_said_again_after_a_window_with_few_words_stands_twice(between: str | None) -> None:
    transcript, committed = Transcript(), 0
    transcript.update(window(0, 0, 24, "cut"), Hypothesis(f"it was dark and so {PHRASE}"))
    if between is not None:
        transcript.update(window(1, 19, 43, "cut", overlap_s=5), Hypothesis(between))
        committed = transcript.committed_chars
    transcript.update(window(2, 38, 55, "end", overlap_s=5), Hypothesis(f"{PHRASE} again"))
    assert transcript.text.count(PHRASE) == 2
    assert transcript.committed_chars >= committed


def spoken(text: str, start_s: float, each_s: float = 0.5) -> Hypothesis:
    """Words of equal length, one right after the other."""
    texts = [f" {word}" if i else word for i, word in enumerate(text.split())]
    at = [round((start_s + each_s * i) * SAMPLE_RATE) for i in range(len(texts) + 1)]
    return Hypothesis(text, words=tuple(Word(t, at[i], at[i + 1], 0.5) for i, t in enumerate(texts)))


def test_an_overlap_is_bounded_by_the_times_of_words() -> None:
    transcript = Transcript()
    transcript.update(window(0, 0, 24, "cut"), spoken("left right left right", 16))  # over at 18 s
    transcript.update(window(1, 19, 30, "end", overlap_s=5), spoken("left right left right", 20))
    assert transcript.text == "left right left right left right left right"


def test_words_join_to_the_text_in_order_and_apart() -> None:
    transcript = Transcript()
    transcript.update(window(0, 0, 24, "cut"), spoken("one two three four", 22))
    transcript.update(window(1, 19, 30, "end", overlap_s=5), spoken("three four five six", 22.9))
    words = transcript.words
    assert "".join(word.text for word in words) == transcript.text == "one two three four five six"
    assert all(a.end <= b.start for a, b in itertools.pairwise(words))
    assert all(word.start <= word.end for word in words)


def test_a_word_of_the_engine_stays_one_in_scripts_without_spaces() -> None:
    transcript = Transcript()
    words = (Word("你好", 0, 100, 0.9), Word(",", 100, 110, 0.9), Word("世界", 110, 300, 0.8))
    transcript.update(window(0, 0, 1, "end"), Hypothesis("你好,世界", words=words))
    assert transcript.text == "你好,世界"
    assert transcript.words == words


def test_words_of_a_window_that_told_no_times_are_spread_over_it() -> None:
    transcript = Transcript()
    transcript.update(window(0, 0, 9, "cut"), spoken("one two", 1))
    transcript.update(window(1, 9, 18), Hypothesis("three four"))  # an interim, and the final failed
    transcript.update(window(2, 18, 27, "end"), spoken("five", 20))
    assert "".join(word.text for word in transcript.words) == transcript.text
    times = [(word.text, word.start_s, word.end_s, word.confidence) for word in transcript.words]
    assert times[:2] == [("one", 1, 1.5, 0.5), (" two", 1.5, 2, 0.5)]
    assert [(text, round(start), round(end), sure) for text, start, end, sure in times[2:4]] == [
        (" three", 9, 14, None),
        (" four", 14, 18, None),
    ]
    assert times[4] == (" five", 20, 20.5, 0.5)


def test_without_any_times_there_are_no_words() -> None:
    transcript = Transcript()
    transcript.update(window(0, 0, 9, "end"), Hypothesis("one two"))
    assert transcript.words == ()
