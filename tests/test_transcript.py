"""Hypotheses of windows in, words with their standing out."""

import numpy as np
import pytest

from stt.audio import SAMPLE_RATE
from stt.transcript import Transcript, cut_loop, join_words, split_words
from stt.turns import Window


def window(index: int, start_s: float, end_s: float, cause: str = "interim", overlap_s: float = 0.0) -> Window:
    audio = np.zeros(round((end_s - start_s) * SAMPLE_RATE), np.float32)
    return Window(0, index, round(start_s * SAMPLE_RATE), round(overlap_s * SAMPLE_RATE), audio, cause)  # type: ignore[arg-type]


def standing(transcript: Transcript) -> tuple[str, str, str]:
    text, committed, stable = transcript.text, transcript.committed_chars, transcript.stable_chars
    return text[:committed].strip(), text[committed:stable].strip(), text[stable:].strip()


def test_stable_is_what_two_hypotheses_agree_on() -> None:
    transcript = Transcript()
    transcript.update(window(0, 0, 1), "I scream")
    assert standing(transcript) == ("", "", "I scream")
    transcript.update(window(0, 0, 2), "Ice cream is")
    assert standing(transcript) == ("", "", "Ice cream is")
    transcript.update(window(0, 0, 3), "ice cream, is very cold")
    assert standing(transcript) == ("", "ice cream, is", "very cold")


def test_the_final_hypothesis_overrides_all() -> None:
    transcript = Transcript()
    transcript.update(window(0, 0, 1), "one two")
    transcript.update(window(0, 0, 2), "one two three")
    transcript.update(window(0, 0, 2.3, "pause"), "Won too tree.")
    assert standing(transcript) == ("", "Won too tree.", "")


def test_after_a_clean_cut_the_words_before_are_committed() -> None:
    transcript = Transcript()
    transcript.update(window(0, 0, 20, "cut"), "the first window.")
    transcript.update(window(1, 20, 21), "And the second")
    assert standing(transcript) == ("the first window.", "", "And the second")
    transcript.update(window(1, 20, 22), "And the second one")
    assert standing(transcript) == ("the first window.", "And the second", "one")


def test_overlapping_windows_are_stitched_and_the_committed_words_never_change() -> None:
    words = [f"word{chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(60)]
    transcript = Transcript()
    transcript.update(window(0, 0, 24, "cut"), " ".join([*words[:40], "wor"]))
    first = transcript.text
    seen = ""
    for end in range(43, 61):
        transcript.update(window(1, 19, 24 + (end - 40), overlap_s=5), " ".join(["ord", *words[33:end]]))
        text, committed = transcript.text, transcript.committed_chars
        assert text.split() == words[:end]
        assert text[:committed].startswith(seen)
        seen = text[:committed]
    assert seen
    assert first.startswith(seen)


def test_windows_that_say_nothing_in_common_lose_nothing() -> None:
    transcript = Transcript()
    transcript.update(window(0, 0, 24, "cut"), "a b c d .")
    transcript.update(window(1, 19, 30, "end", overlap_s=5), "completely new sentence here .")
    assert transcript.text == "a b c d . completely new sentence here ."


def test_an_empty_hypothesis_after_an_overlap_keeps_the_words_before() -> None:
    transcript = Transcript()
    transcript.update(window(0, 0, 24, "cut"), "all of this stays")
    transcript.update(window(1, 19, 24.5, "end", overlap_s=5), "")
    assert transcript.text == "all of this stays"
    assert [p.text for p in transcript.passages] == ["all of this stays"]


def test_passages_hold_all_words_once_and_their_times() -> None:
    transcript = Transcript()
    transcript.update(window(0, 1, 21, "cut"), "alpha beta gamma delta epsilon")
    transcript.update(window(1, 16, 40, "cut", overlap_s=5), "delta epsilon zeta eta theta")
    transcript.update(window(2, 40, 50, "end"), "iota kappa")
    assert [(p.start_s, p.end_s, p.text) for p in transcript.passages] == [
        (1, 21, "alpha beta gamma"),
        (21, 40, "delta epsilon zeta eta theta"),
        (40, 50, "iota kappa"),
    ]
    assert transcript.text == " ".join(p.text for p in transcript.passages)


@pytest.mark.parametrize("text", ["", ".", "...", " - ", "♪♪"])
def test_punctuation_alone_is_no_text(text: str) -> None:
    transcript = Transcript()
    transcript.update(window(0, 0, 1, "end"), text)
    assert transcript.text == ""
    assert transcript.passages == ()


@pytest.mark.parametrize(
    ("text", "duration_s", "expected"),
    [
        ("no no no", 2, "no no no"),
        ("bye bye bye bye bye bye", 4, "bye bye bye bye bye bye"),
        ("the train leaves at seven the train leaves at seven", 6, None),  # said twice: kept
        ("hello there " + "thank you " * 12, 10, "hello there thank you"),
        ("hello there " + "thank you " * 12 + "thank", 10, "hello there thank you"),
        ("thank you " * 12, 10, ""),
        ("you " * 40, 20, ""),
        # the same sentence twice in the time of one
        (
            "we painted the kitchen yellow last week we painted the kitchen yellow last week",
            1,
            "we painted the kitchen yellow last week",
        ),
    ],
)
def test_loops_are_cut(text: str, duration_s: float, expected: str | None) -> None:
    words = text.split()
    assert cut_loop(words, duration_s) == (words if expected is None else expected.split())


@pytest.mark.parametrize("text", ["one two three.", "今日は良い天気です。", "hello 世界 again", "สวัสดี"])
def test_words_of_any_script_come_back(text: str) -> None:
    assert join_words(split_words(text)) == text


def test_characters_are_the_words_of_scripts_without_spaces() -> None:
    assert split_words("今日は ok") == ["今", "日", "は", "ok"]
