"""Words where an engine gives no times: within what was spoken, in order, and the text is theirs."""

from stt.events import Latency, Passage, TranscriptChanged, TurnCompleted, TurnPaused, TurnResumed, TurnStarted
from stt.server.estimate import Speech, spread
from stt.words import Word


def test_words_share_the_time_by_their_characters() -> None:
    assert spread("a bcd", [(100, 500)]) == (Word("a", 100, 200), Word(" bcd", 200, 500))
    assert spread("", [(0, 100)]) == ()
    assert spread("b", [(0, 100)], after="a") == (Word(" b", 0, 100),)


def test_no_word_lies_in_a_silence() -> None:
    words = spread("aa bb cc", [(0, 300), (1000, 1300)])
    assert [(word.start, word.end) for word in words] == [(0, 200), (200, 300), (1100, 1300)]


def test_a_turn_with_a_pause_and_two_passages() -> None:
    speech = Speech()
    for event in (TurnStarted(3, 1_000), TurnPaused(3, 2_000), TurnResumed(3, 9_000), TurnStarted(4, 20_000)):
        speech.feed(event)
    event = TurnCompleted(
        3, 1_000, 10_000, "one two", (Passage(900, 5_000, "one"), Passage(5_000, 11_000, "two")), None
    )
    words = speech.words(event)
    assert words == (Word("one", 1_000, 2_000), Word(" two", 9_000, 10_000))
    assert "".join(word.text for word in words) == event.text
    speech.feed(event)
    interim = TranscriptChanged(4, 20_000, 21_000, "three", 0, 0, "interim", Latency(0, 0, 1))
    assert speech.words(interim) == (Word("three", 20_000, 21_000),)


def test_the_engines_own_words_are_taken() -> None:
    own = (Word("one", 1_500, 1_700, 0.5),)
    assert (
        Speech().words(TurnCompleted(0, 1_000, 2_000, "one", (Passage(1_000, 2_000, "one"),), None, words=own)) == own
    )
