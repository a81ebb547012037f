"""Events of one connection after the other in, events of one session out."""

import pytest

from stt.continuity import Continuity
from stt.events import (
    Event,
    Latency,
    Passage,
    RecognitionFailed,
    TranscriptChanged,
    TurnCompleted,
    TurnPaused,
    TurnResumed,
    TurnStarted,
)

S = 16_000
SPENT = Latency(0.0, 0.0, 1)


def text(end_s: float, words: str, committed: str = "", cause: str = "interim", turn: int = 0) -> TranscriptChanged:
    return TranscriptChanged(turn, 0, round(end_s * S), words, len(committed), len(committed), cause, SPENT)  # type: ignore[arg-type]


def final(end_s: float, words: str, turn: int = 0) -> TurnCompleted:
    end = round(end_s * S)
    return TurnCompleted(turn, 0, end, words, (Passage(0, end, words),) if words else (), None)


def told(stream: Continuity, *events: Event) -> list[Event]:
    return [out for event in events for out in stream.take(event)]


def texts(events: list[Event]) -> list[tuple[str, str]]:
    return [
        (e.text[: e.committed_chars], e.text[e.committed_chars :].strip())
        if isinstance(e, TranscriptChanged)
        else (e.text, "")
        for e in events
        if isinstance(e, TranscriptChanged | TurnCompleted)
    ]


def test_one_connection_is_passed_on_as_it_is() -> None:
    events = [
        TurnStarted(0, 0),
        text(1, "one"),
        TurnPaused(0, S),
        text(1.3, "one two", cause="pause"),
        TurnResumed(0, 2 * S),
        RecognitionFailed(0, "no"),
        final(2.5, "one two three"),
        TurnStarted(1, 5 * S),
    ]
    assert told(Continuity(), *events) == events


def test_a_window_closed_in_a_pause_is_not_heard_again() -> None:
    stream = Continuity()
    told(stream, TurnStarted(0, 0), text(24, "one two", cause="cut"), text(25, "one two three", "one two"))
    assert stream.resume_at == 24 * S
    assert stream.connect(24 * S) == 0
    out = told(stream, TurnStarted(0, 100), text(1, "three"), text(2, "three four"), final(3, "three four five"))
    assert texts(out) == [("one two", "three"), ("one two", "three four"), ("one two three four five", "")]
    done = out[-1]
    assert isinstance(done, TurnCompleted)
    assert (done.turn, done.start, done.end) == (0, 0, 27 * S)
    assert done.passages == (Passage(0, 24 * S, "one two"), Passage(24 * S, 27 * S, "three four five"))


def test_a_window_cut_without_a_pause_is_stitched_once_its_end_is_heard_again() -> None:
    stream = Continuity()
    told(stream, TurnStarted(0, 0), text(24, "we all came home at noo", cause="cut"))
    assert stream.resume_at == 19 * S
    told(
        stream, text(25, "we all came home at noon and", "we all")
    )  # an overlap: not all of the window before is committed
    assert stream.resume_at == 19 * S
    stream.connect(19 * S)
    caught_up = told(stream, TurnStarted(0, 0), text(3, "ome at"), text(6, "ome at noon and left"))
    assert texts(caught_up) == [("we all", "came home at noon and left")]
    assert texts(told(stream, final(7, "home at noon and left it"))) == [("we all came home at noon and left it", "")]


def test_committed_words_stay_where_the_next_connection_hears_others() -> None:
    stream = Continuity()
    told(stream, TurnStarted(0, 0), text(24, "a b c d e f", cause="cut"), text(25, "a b c d e f g", "a b c d e"))
    stream.connect(19 * S)
    out = told(stream, TurnStarted(0, 0), text(6, "x c d y f g h"), final(7, "x c d y f g h i"))
    assert texts(out) == [("a b c d e", "f g h"), ("a b c d e f g h i", "")]


def test_texts_that_the_sink_has_had_are_not_told_again() -> None:
    stream = Continuity()
    told(stream, TurnStarted(0, 0), text(1, "one"), TurnPaused(0, S), TurnResumed(0, 2 * S), text(3, "one two"))
    stream.connect(0)
    again = [TurnStarted(0, 0), text(1.1, "one"), TurnPaused(0, S + 300), TurnResumed(0, 2 * S - 300)]
    assert told(stream, *again, text(2.9, "one two")) == []
    assert texts(told(stream, text(3, "one two"), TurnPaused(0, 4 * S))) == [("", "one two")]


def test_who_spoke_on_unheard_after_a_pause_resumed_before_the_next() -> None:
    """A connection that begins within the pause hears speech from its beginning, and tells of no resuming."""
    stream = Continuity()
    told(stream, TurnStarted(0, 0), text(1, "one"), TurnPaused(0, S), text(1.2, "one", cause="pause"))
    stream.connect(S)
    out = told(
        stream, TurnStarted(0, 1600), text(1, "two"), TurnPaused(0, S), TurnResumed(0, 2 * S), TurnPaused(0, 3 * S)
    )
    changes = [event for event in out if isinstance(event, TurnPaused | TurnResumed)]
    assert changes == [
        TurnResumed(0, S + 1600), TurnPaused(0, 2 * S), TurnResumed(0, 3 * S), TurnPaused(0, 4 * S)
    ]  # fmt: skip


def test_what_is_no_longer_heard_as_speech_is_completed_with_the_text_it_had() -> None:
    stream = Continuity()
    told(stream, TurnStarted(0, S), text(3, "one two"), TurnPaused(0, 3 * S))
    stream.connect(0)
    out = told(stream, TurnStarted(0, 60 * S), text(61, "three"), final(62, "three"))
    assert [(type(e), e.turn) for e in out] == [
        (TurnCompleted, 0),
        (TurnStarted, 1),
        (TranscriptChanged, 1),
        (TurnCompleted, 1),
    ]
    assert texts(out)[0] == ("one two", "")
    told(stream, TurnStarted(1, 70 * S), text(71, "four", turn=1))
    stream.connect(65 * S)
    assert texts(stream.finish()) == [("four", "")]


def test_a_turn_may_start_before_the_one_before_it_has_its_final() -> None:
    stream = Continuity()
    begun = [TurnStarted(0, 0), text(1, "one"), TurnPaused(0, S), TurnStarted(1, 4 * S), TurnPaused(1, 6 * S)]
    assert told(stream, *begun) == begun
    stream.connect(0)
    again = [TurnStarted(0, 0), TurnPaused(0, S), TurnStarted(1, 4 * S), text(1, "one"), TurnPaused(1, 6 * S)]
    assert [type(e) for e in told(stream, *again)] == [TranscriptChanged]
    assert texts(told(stream, final(1, "one"), final(6, "two", turn=1))) == [("one", ""), ("two", "")]


def test_of_two_turns_that_run_one_may_not_be_heard_again() -> None:
    stream = Continuity()
    told(stream, TurnStarted(0, 0), text(1, "one"), TurnPaused(0, S), TurnStarted(1, 4 * S), TurnPaused(1, 5 * S))
    stream.connect(0)
    out = told(stream, TurnStarted(0, 0), TurnStarted(1, 9 * S), final(1, "one"), text(10, "three", turn=1))
    assert [(type(e), e.turn) for e in out if not isinstance(e, TranscriptChanged)] == [
        (TurnStarted, 2),
        (TurnCompleted, 0),
        (TurnCompleted, 1),
    ]
    assert texts(out) == [("one", ""), ("", ""), ("", "three")]


@pytest.mark.parametrize("early", [False, True])
def test_what_was_a_pause_to_one_connection_ends_no_turn_whose_later_words_are_committed(early: bool) -> None:
    """Where the next connection ends it there, the turn goes on with that one's next turn, whenever that begins."""
    stream = Continuity()
    told(stream, TurnStarted(0, 0), TurnPaused(0, 20 * S), TurnResumed(0, 21 * S))
    told(stream, text(24, "a b c d e f", cause="cut"), text(26, "a b c d e f g", "a b c d e"), TurnPaused(0, 26 * S))
    told(stream, TurnStarted(1, 30 * S), TurnPaused(1, 31 * S))
    stream.connect(19 * S)
    assert told(stream, TurnStarted(0, 0), text(1.2, "xb c", cause="pause")) == []
    ends, begins = final(1, "xb c"), TurnStarted(1, 2 * S)
    assert told(stream, *((begins, ends) if early else (ends, begins))) == []
    out = told(stream, text(4, "d e", turn=1), text(7, "d e f g h", turn=1), final(8, "d e f g h i", turn=1))
    assert texts(out) == [("a b c d e", "f g h"), ("a b c d e f g h i", "")]
    done = out[-1]
    assert isinstance(done, TurnCompleted)
    assert (done.turn, done.start, done.end) == (0, 0, 27 * S)
    out = told(stream, TurnStarted(2, 11 * S), final(13, "j", turn=2))
    assert [(type(event), event.turn) for event in out] == [(TurnCompleted, 1)]  # type: ignore[union-attr]


def test_a_turn_that_should_go_on_but_does_not_is_completed_with_the_text_it_had() -> None:
    stream = Continuity()
    told(stream, TurnStarted(0, 0), text(24, "a b c d e f", cause="cut"), text(26, "a b c d e f g", "a b c d e"))
    stream.connect(19 * S)
    assert told(stream, TurnStarted(0, 0), final(1, "xb c")) == []
    finished, begun = told(stream, TurnStarted(1, 20 * S))
    assert isinstance(finished, TurnCompleted)
    assert (finished.turn, finished.text) == (0, "a b c d e f g")
    assert begun == TurnStarted(1, 39 * S)


@pytest.mark.parametrize("early", [False, True])
def test_speech_that_belongs_to_the_next_turn_once_one_ends_earlier_is_kept_until_its_words_are(early: bool) -> None:
    stream = Continuity()
    told(stream, TurnStarted(0, 0), TurnPaused(0, 2 * S), TurnResumed(0, 5 * S), TurnPaused(0, 9 * S))
    told(stream, TurnStarted(1, 12 * S))
    stream.connect(0)
    ends, begins = final(2, "a b"), TurnStarted(1, 5 * S)
    told(stream, TurnStarted(0, 0), *((begins, ends) if early else (ends,)))
    assert 2 * S <= stream.resume_at <= 5 * S
    told(stream, *(() if early else (begins,)), text(6, "c d", turn=1))
    assert 2 * S <= stream.resume_at <= 5 * S
    begin = stream.resume_at
    stream.connect(begin)
    heard = TurnCompleted(0, 5 * S - begin, 10 * S, "c d e", (Passage(5 * S - begin, 10 * S, "c d e"),), None)
    (done,) = told(stream, TurnStarted(0, 5 * S - begin), heard)
    assert done == TurnCompleted(
        1, 12 * S, begin + 10 * S, "c d e", (Passage(12 * S, begin + 10 * S, "c d e"),), None, decided=begin
    )


def test_audio_that_is_gone_is_counted_and_the_text_of_it_stays() -> None:
    stream = Continuity()
    told(stream, TurnStarted(0, 0), text(10, "one two"))
    assert stream.connect(8 * S) == 0  # of what was heard until there, the words are known
    assert stream.connect(30 * S) == 20 * S
    out = told(stream, TurnStarted(0, 0), text(1, "three"))
    assert texts(out) == [("one two", ""), ("", "three")]
    assert [e.turn for e in out] == [0, 1, 1]


@pytest.mark.parametrize("start_s", [0, 0.1, 0.29, 0.3, 2])
@pytest.mark.parametrize("shown", [False, True])
def test_before_the_stream_began_there_was_nothing_to_lose(start_s: float, shown: bool) -> None:
    """A turn's pre-roll may reach to before the first sample; a connection that hears from there on hears all of it."""
    stream, start = Continuity(), round(start_s * S)
    told(stream, TurnStarted(0, start), *([text(start_s + 1, "one two")] if shown else []))
    needed = max(0, stream.resume_at)
    assert stream.connect(needed) == 0
    # all of it is heard again, so nothing has to be stitched: what is heard now is the text
    out = told(stream, TurnStarted(0, start - needed), text(start_s + 2, "you two three"), final(start_s + 2, "it is"))
    assert texts(out) == [("", "you two three"), ("it is", "")]


@pytest.mark.parametrize("gap_s", [0.2, 0.4, 0.6])
def test_the_end_of_the_turn_before_is_no_loss(gap_s: float) -> None:
    """Two turns may lie nearer to each other than a pre-roll is long: the tape begins between them."""
    stream = Continuity()
    second = round((1 + gap_s) * S)
    told(stream, TurnStarted(0, 0), TurnStarted(1, second), final(1, "one"))
    assert S < stream.resume_at < second
    assert stream.connect(stream.resume_at) == 0
    assert stream.connect(second + S) > 0.9 * S


@pytest.mark.parametrize(
    ("events", "why"),
    [
        ([TurnStarted(0, 0), TurnStarted(0, 5)], "expected turn 1 to start, got turn 0"),
        ([TurnStarted(1, 0)], "expected turn 0 to start, got turn 1"),
        ([TurnStarted(0, 0), final(1, "a"), final(1, "a")], "expected events of a turn that runs, got one of turn 0"),
        ([TurnStarted(0, 0), TurnStarted(1, S), text(1, "a", turn=1)], "expected texts of turn 0, got one of turn 1"),
        ([TurnStarted(0, 0), text(1, "a", turn=7)], "expected events of a turn that runs, got one of turn 7"),
    ],
)
def test_events_out_of_order_are_refused(events: list[Event], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        told(Continuity(), *events)


def test_a_turn_that_was_not_said_to_begin_begins_with_its_first_event() -> None:
    out = told(Continuity(), final(1, "a"))
    assert out == [TurnStarted(0, 0), final(1, "a")]
