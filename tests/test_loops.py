"""A loop is an engine's failure, not a speaker's: its copies have no time in the audio."""

import pytest

from stt.engines.loops import Repetition, cut_loop, find_repetition, least_s


def believe_all(repetition: Repetition) -> int:
    return repetition.copies


@pytest.mark.parametrize("said", [None, believe_all])
@pytest.mark.parametrize(
    ("text", "duration_s"),
    [
        ("no no no", 1),
        ("Bye bye bye bye bye bye bye bye.", 3),
        ("Testing one two three. Testing one two three. Testing one two three. Testing one two three.", 6),
        ("left right left right left right left right left right left right", 3),
        ("1 2 3 4 5 6 7 8 9 10 1 2 3 4 5 6 7 8 9 10", 6),
        ("1-2-3-4, 1-2-3-4, 1-2-3-4, 1-2-3-4", 4),
        ("Vote him out! " * 8, 9),
        ("We want more money now. " * 5, 7),
        ("the train leaves at seven the train leaves at seven", 4),
        ("谢谢大家 谢谢大家 谢谢大家 谢谢大家", 4),
        ("谢谢大家" * 5, 4),
        ("ありがとう、" * 4, 5),
        ("", 1),
        ("...", 1),
    ],
)
def test_what_people_say_again_and_again_stays(text: str, duration_s: float, said: object) -> None:
    assert cut_loop(text, duration_s, believe_all if said else None) == text


@pytest.mark.parametrize(
    ("text", "duration_s", "expected"),
    [
        ("hello there " + "thank you " * 40, 5, "hello there thank you"),
        ("hello there " + "thank you " * 40 + "thank", 5, "hello there thank you"),
        ("thank you " * 40, 5, ""),
        ("It was 20-20-" + "20-" * 60, 6, "It was 20"),
        ("20-" * 60, 6, ""),
        ("ha" * 100, 4, ""),
        ("He said ha" + "ha" * 100, 4, "He said ha"),
        ("我们走吧" + "谢谢大家" * 20, 4, "我们走吧谢谢大家"),
        ("谢谢大家\uff0c" * 20, 4, ""),
        # the same sentence twice in the time of one
        (
            "We painted the kitchen yellow last week. We painted the kitchen yellow last week.",
            2,
            "We painted the kitchen yellow last week.",
        ),
    ],
)
def test_what_nobody_can_say_in_the_time_is_a_loop(text: str, duration_s: float, expected: str) -> None:
    assert cut_loop(text, duration_s) == expected


def test_the_engine_knows_which_copies_were_said() -> None:
    text = "Hello there. " + "Thank you. " * 12
    assert cut_loop(text, 20, lambda _: 12) == text
    assert cut_loop(text, 20, lambda _: 2) == "Hello there. Thank you. Thank you."
    assert cut_loop(text, 20, lambda _: 0) == "Hello there."
    assert cut_loop("Thank you. " * 12, 20, lambda _: 0) == ""


def test_no_more_copies_stay_than_there_is_time_for_whatever_the_engine_believes() -> None:
    kept = cut_loop("The train leaves at seven. " * 40, 5, believe_all)
    assert 1 <= kept.count("train") <= 5
    assert least_s(kept) <= 5


def test_a_repetition_says_where_its_copies_are() -> None:
    repetition = find_repetition("So: go home, go home, Go home; go home, go", 10)
    assert repetition == Repetition((4, 13, 22, 31), "go home")
    assert find_repetition("So: go home, go home, go home", 10) is None


@pytest.mark.parametrize("text", ["a" * 5000, "ab " * 3000, "20-" * 4000, "谢谢大家" * 2000, "x" * 23 + " y" * 4000])
def test_a_text_of_any_length_and_kind_is_dealt_with(text: str) -> None:
    assert len(cut_loop(text, 10)) <= 25
