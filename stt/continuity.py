"""One stream of events out of those of any number of connections: pure, no clock, no asyncio.

A connection that was lost is followed by one that hears the audio again from `resume_at` on:

    turn 7        |---window---|---window---|--wind          the connection is lost
    text             one two      three four  fi
    next connection                         |--window---|    its turn 0 is turn 7
    text                                       five six      told as "one two three four five six"

So the words of windows that are closed are kept here, not their audio, and a turn of an hour needs no more of the tape
than one of a minute. Where the speaker made no pause for a cut, a window's last seconds are heard again and the words
stitched, as `stt.transcript` does it. What the sink knows already is not told again: no turn begins twice, none ends
twice, and what is committed stays.
"""

from dataclasses import dataclass, replace
from typing import Final

from strops import find_overlap
from stt.clock import samples, seconds
from stt.events import (
    Event,
    Passage,
    RecognitionFailed,
    TranscriptChanged,
    TurnCompleted,
    TurnPaused,
    TurnResumed,
    TurnStarted,
)
from stt.transcript import join_words, split_words

_OVERLAP_S: Final = 5.0  # of a closed window to hear again, unless it is known to end in a pause
_FASTEST_WORDS_PER_S: Final = 6.0  # as in stt.transcript: no more words than this can lie in an overlap
_BEFORE_TURN_S: Final = 0.3  # the pre-roll of a turn
_SAME_S: Final = 0.1  # two detectors that began at different times agree about a moment to within this


@dataclass(frozen=True, slots=True)
class _Kept:
    """The text of a turn up to a moment, and where to listen on."""

    text: str
    passages: tuple[Passage, ...]
    end: int
    """The text covers the audio up to here."""
    resume_at: int
    """The rest of the turn is heard from here on: `end`, or earlier where words have to be stitched."""


class _Seam:
    """Where the text of a new connection continues the one that was kept."""

    def __init__(self, kept: _Kept, committed: str) -> None:
        self.kept = kept
        self._words = split_words(kept.text)
        self._least = len(split_words(committed))  # words that must stay
        self._shared_words = 2 + round(_FASTEST_WORDS_PER_S * seconds(kept.end - kept.resume_at))
        self._fixed: tuple[int, int] | None = (len(self._words), 0) if kept.resume_at >= kept.end else None

    def find(self, text: str, committed_chars: int, end: int | None) -> tuple[int, int]:
        """Return how many of the kept words stay, and how many of the new ones go.

        The new text covers the audio up to `end`; `None`: all of the turn.
        """
        if self._fixed is not None:
            return self._fixed
        words = split_words(text)
        if end is not None and end < self.kept.end:
            return len(self._words), len(words)  # it is still catching up
        head = max(0, len(self._words) - self._shared_words)
        kept, dropped = len(self._words), 0
        if overlap := find_overlap(self._words[head:], words[: 2 * self._shared_words]):
            kept, dropped = head + overlap.prev_end, overlap.new_start
        if kept < self._least:  # from the first common word on both go on alike
            kept, dropped = self._least, min(len(words), dropped + self._least - kept)
        if committed_chars and dropped <= len(split_words(text[:committed_chars])):
            self._fixed = kept, dropped  # what it was found with will not change
        return kept, dropped

    @property
    def fixed(self) -> bool:
        """Whether the seam will not move any more."""
        return self._fixed is not None


class _Turn:
    """What the sink knows of the turn that runs, and what a next connection needs to know."""

    def __init__(self, started: TurnStarted) -> None:
        self.number = started.turn
        self.start = started.start
        self.awaited = False  # on a new connection, until that hears the turn again
        self.reached = started.start  # the farthest moment that any event told of
        self.noticed = started.start  # the last change between speech and silence that was told
        self.paused = False
        self.resumed_at = started.start
        self.shown: TranscriptChanged | None = None  # the last text told
        self.told_until = 0  # texts that reach less far were told by the connection before
        self.closing: TranscriptChanged | None = None  # the last text that may close its window
        self.kept: _Kept | None = None
        self.seam: _Seam | None = None

    @property
    def text(self) -> str:
        return self.shown.text if self.shown else ""

    @property
    def committed(self) -> str:
        return self.text[: self.shown.committed_chars] if self.shown else ""

    @property
    def resume_at(self) -> int:
        return self.kept.resume_at if self.kept else self.start - samples(_BEFORE_TURN_S)

    def close_window(self, text: str, end: int, resume_at: int) -> None:
        """Keep the words of all windows up to here."""
        before = self.kept
        self.kept = _Kept(text, self.passages(text, end), end, max(resume_at, before.resume_at if before else 0))

    def passages(self, text: str, end: int) -> tuple[Passage, ...]:
        """Passages of a text whose beginning was kept: those, and one of what is new."""
        known = self.kept.passages if self.kept else ()
        words = split_words(text)
        same = 0
        for ours, theirs in zip(split_words(join_words([p.text for p in known])), words, strict=False):
            if ours != theirs:
                break
            same += 1
        known = _first_words(known, same)
        begin = max([self.start, *(p.end for p in known[-1:])])
        begin = self.resumed_at if begin < self.resumed_at < end else begin
        new = join_words(words[same:])
        return (*known, Passage(begin, max(begin, end), new)) if new else known


class Continuity:
    """Takes the events of one connection after the other, gives those of one session."""

    def __init__(self) -> None:
        self._turns = 0  # completed
        self._turn: _Turn | None = None
        self._base = 0  # sample index where the connection's audio begins
        self._first = 0  # number of its turn 0
        self._free = 0  # audio before this is not needed for the turns to come
        self.done = 0
        """Sample index up to which events have told of the stream; never falls."""

    @property
    def resume_at(self) -> int:
        """The audio from this sample index on is needed, should the connection be lost now."""
        return self._free if self._turn is None else max(self._free, self._turn.resume_at)

    def connect(self, start: int) -> int:
        """Begin a connection that hears the audio from a sample index on; returns how many samples nobody heard."""
        self._base, self._first = start, self._turns
        turn = self._turn
        if turn is None:
            return 0
        turn.awaited = True
        if (shown := turn.shown) is None:
            turn.seam = None
            return max(0, start - turn.resume_at)
        kept = turn.kept
        turn.told_until = max(turn.told_until, shown.end)
        if kept is None or start > kept.resume_at or not kept.text.startswith(turn.committed):
            if kept is None and start <= turn.resume_at and not turn.committed:
                turn.seam = None  # the whole turn is heard again
                return 0
            kept = _Kept(shown.text, turn.passages(shown.text, shown.end), max(start, shown.end), start)
        turn.seam = _Seam(kept, turn.committed)
        return max(0, start - shown.end)

    def take(self, event: Event) -> list[Event]:
        """Return what an event of this connection is to the sink.

        Raises:
            ValueError: the event cannot follow those before it.

        """
        event = _moved(event, self._base, self._first)
        events: list[Event] = []
        if isinstance(event, TurnStarted):
            self._start(event, events)
        else:
            turn = self._running(event, events)
            match event:
                case TranscriptChanged():
                    self._text(turn, event, events)
                case TurnPaused(end=at) | TurnResumed(at=at):
                    self._notice(turn, event, at, events)
                case TurnCompleted():
                    events.append(self._completed(turn, event))
                case RecognitionFailed():
                    events.append(event)
        return events

    def finish(self) -> list[Event]:
        """End the stream: a turn that the last connection did not complete is, with the text that was told."""
        return [self._given_up(self._turn)] if self._turn else []

    def _start(self, event: TurnStarted, events: list[Event]) -> None:
        turn = self._turn
        if turn is not None and not turn.awaited:
            msg = f"turn {event.turn} started before turn {turn.number} was completed"
            raise ValueError(msg)
        if turn is not None and event.start > turn.reached + samples(_SAME_S):
            # The server no longer hears as speech what it had heard so: this is the next turn.
            events.append(self._given_up(turn))
            self._first += 1
            turn, event = None, replace(event, turn=event.turn + 1)
        if event.turn != self._turns:
            msg = f"expected turn {self._turns} to start, got turn {event.turn}"
            raise ValueError(msg)
        if turn is not None:
            turn.awaited = False
            return
        self._turn = _Turn(event)
        self.done = max(self.done, event.start)
        events.append(event)

    def _running(
        self,
        event: TranscriptChanged | TurnPaused | TurnResumed | TurnCompleted | RecognitionFailed,
        events: list[Event],
    ) -> _Turn:
        if (self._turn is None or self._turn.awaited) and event.turn == self._turns:
            # A server that is sparing with events: the turn began all the same.
            at = event.start if isinstance(event, TranscriptChanged | TurnCompleted) else max(self._base, self.done)
            self._start(TurnStarted(event.turn, at), events)
        if self._turn is None or event.turn != self._turn.number:
            msg = f"expected events of turn {self._turns}, got turn {event.turn}"
            raise ValueError(msg)
        return self._turn

    def _notice(self, turn: _Turn, event: TurnPaused | TurnResumed, at: int, events: list[Event]) -> None:
        if at <= turn.noticed + samples(_SAME_S) or (isinstance(event, TurnResumed) and not turn.paused):
            return
        turn.paused = isinstance(event, TurnPaused)
        turn.noticed = at
        if isinstance(event, TurnResumed):
            turn.resumed_at = at
        self._reach(turn, at)
        events.append(event)

    def _text(self, turn: _Turn, event: TranscriptChanged, events: list[Event]) -> None:
        event = _joined(turn, event)
        closing = turn.closing
        if (
            closing
            and len(closing.text) > closing.committed_chars
            and event.text[: event.committed_chars] == closing.text
        ):
            # Its window was closed in a pause: all words before `closing.end` are known, and none is cut in two.
            turn.close_window(closing.text, closing.end, closing.end)
        caught_up = turn.seam is None or event.end >= turn.seam.kept.end
        if event.cause == "cut":
            end = event.end if turn.seam is None or caught_up else turn.seam.kept.end
            turn.close_window(event.text, end, event.end - samples(_OVERLAP_S))
        if event.cause != "interim":
            turn.closing = event if caught_up else None
        if event.end < turn.told_until:
            return
        turn.told_until = 0
        turn.shown = event
        self._reach(turn, event.end)
        events.append(event)

    def _completed(self, turn: _Turn, event: TurnCompleted) -> TurnCompleted:
        text, passages = event.text, event.passages
        if turn.seam:
            kept, dropped = turn.seam.find(text, len(text), None)
            text = _append(_lead(turn.seam.kept.text, kept), _rest(text, dropped))
            before = _first_words(turn.seam.kept.passages, kept)
            passages = before + _after(before, _without_words(passages, dropped))
        self._done(event.end)
        return replace(event, start=turn.start, end=max(turn.start, event.end), text=text, passages=passages)

    def _given_up(self, turn: _Turn) -> TurnCompleted:
        end = turn.noticed if turn.paused else turn.reached
        self._done(end)
        return TurnCompleted(turn.number, turn.start, end, turn.text, turn.passages(turn.text, end), None)

    def _done(self, end: int) -> None:
        self._turn = None
        self._turns += 1
        self._free = max(self._free, end + samples(_BEFORE_TURN_S / 2))
        self.done = max(self.done, end)

    def _reach(self, turn: _Turn, at: int) -> None:
        turn.reached = max(turn.reached, at)
        self.done = max(self.done, at)


def _joined(turn: _Turn, event: TranscriptChanged) -> TranscriptChanged:
    """Return a text of this connection behind what was kept of the connection before."""
    if turn.seam is None:
        committed = len(turn.committed) if event.text.startswith(turn.committed) else 0
        committed = max(committed, event.committed_chars)
        return replace(
            event, start=turn.start, committed_chars=committed, stable_chars=max(committed, event.stable_chars)
        )
    kept, dropped = turn.seam.find(event.text, event.committed_chars, event.end)
    head, rest = _lead(turn.seam.kept.text, kept), _rest(event.text, dropped)
    text = _append(head, rest)
    skipped, moved = len(event.text) - len(rest), len(text) - len(event.text)

    def there(chars: int) -> int:
        return chars + moved if chars > skipped else len(head)

    committed = max(len(turn.committed), there(event.committed_chars) if turn.seam.fixed else 0)
    stable = max(committed, there(event.stable_chars))
    return replace(event, start=turn.start, text=text, committed_chars=committed, stable_chars=stable)


def _end_of(text: str, words: int) -> int:
    """Return how many characters the first words of a text take."""
    at = 0
    for word in split_words(text)[:words]:
        at = text.index(word, at) + len(word)
    return at


def _lead(text: str, words: int) -> str:
    return text[: _end_of(text, words)]


def _rest(text: str, words: int) -> str:
    return text[_end_of(text, words) :].lstrip()


def _append(text: str, more: str) -> str:
    last, first = split_words(text)[-1:], split_words(more)[:1]
    if not last or not first:
        return text if last else more
    return f"{text} {more}" if " " in join_words(last + first) else text + more


def _first_words(passages: tuple[Passage, ...], words: int) -> tuple[Passage, ...]:
    """Return the passages that hold the first words of a text."""
    kept: list[Passage] = []
    for passage in passages:
        if words <= 0:
            break
        kept.append(replace(passage, text=_lead(passage.text, words)))
        words -= len(split_words(passage.text))
    return tuple(kept)


def _without_words(passages: tuple[Passage, ...], words: int) -> tuple[Passage, ...]:
    """Return the passages that hold all but the first words of a text."""
    kept: list[Passage] = []
    for passage in passages:
        if rest := _rest(passage.text, max(0, words)):
            kept.append(replace(passage, text=rest))
        words -= len(split_words(passage.text))
    return tuple(kept)


def _after(before: tuple[Passage, ...], passages: tuple[Passage, ...]) -> tuple[Passage, ...]:
    """Return passages less the time that those before have taken: an overlap was heard twice."""
    end = max((p.end for p in before), default=0)
    return tuple(replace(p, start=max(p.start, end), end=max(p.end, end)) for p in passages)


def _moved(event: Event, base: int, turns: int) -> Event:
    """Return an event of a connection with the turns and times of the stream."""
    match event:
        case TurnStarted(turn, start):
            return TurnStarted(turn + turns, start + base)
        case TurnPaused(turn, end):
            return TurnPaused(turn + turns, end + base)
        case TurnResumed(turn, at):
            return TurnResumed(turn + turns, at + base)
        case RecognitionFailed(turn, message):
            return RecognitionFailed(turn + turns, message)
        case TranscriptChanged():
            return replace(event, turn=event.turn + turns, start=event.start + base, end=event.end + base)
        case TurnCompleted():
            return replace(
                event,
                turn=event.turn + turns,
                start=event.start + base,
                end=event.end + base,
                passages=tuple(Passage(p.start + base, p.end + base, p.text) for p in event.passages),
            )
