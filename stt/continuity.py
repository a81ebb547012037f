"""One stream of events out of those of any number of connections: pure, no clock, no asyncio.

A connection that was lost is followed by one that hears the audio again from `resume_at` on:

    turn 7        |---window---|---window---|--wind          the connection is lost
    text             one two      three four  fi
    next connection                         |--window---|    its turn 0 is turn 7
    text                                       five six      told as "one two three four five six"

So the words of windows that are closed are kept here, not their audio, and a turn of an hour needs no more of the tape
than one of a minute. Where the speaker made no pause for a cut, a window's last seconds are heard again and the words
stitched, as `stt.transcript` does it. Connections may disagree about where turns end: to end one before words that are
kept is no end, and one more turn of the connection is the same turn to the sink. What the sink knows already is not
told again: no turn begins twice, none ends twice, and what is committed stays.
"""

from collections import deque
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from strops import find_overlap
from stt.clock import samples, seconds
from stt.events import (
    Acknowledged,
    Event,
    Passage,
    RecognitionFailed,
    TranscriptChanged,
    TurnCompleted,
    TurnPaused,
    TurnResumed,
    TurnStarted,
)
from stt.words import Word, joint, split_text

_OVERLAP_S: Final = 5.0  # of a closed window to hear again, unless it is known to end in a pause
_FASTEST_WORDS_PER_S: Final = 6.0  # as in stt.transcript: no more words than this can lie in an overlap
_BEFORE_TURN_S: Final = 0.3  # the pre-roll of a turn
_SAME_S: Final = 0.1  # two detectors that began at different times agree about a moment to within this

_Span = TypeVar("_Span", Passage, Word)


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
        self._words = split_text(kept.text)
        self._least = len(split_text(committed))  # words that must stay
        self._shared_words = 2 + round(_FASTEST_WORDS_PER_S * seconds(kept.end - kept.resume_at))
        self._fixed: tuple[int, int] | None = (len(self._words), 0) if kept.resume_at >= kept.end else None

    def find(self, text: str, committed_chars: int, end: int | None) -> tuple[int, int]:
        """Return how many of the kept words stay, and how many of the new ones go.

        The new text covers the audio up to `end`; `None`: all of the turn.
        """
        if self._fixed is not None:
            return self._fixed
        words = split_text(text)
        if end is not None and end < self.kept.end:
            return len(self._words), len(words)  # it is still catching up
        head = max(0, len(self._words) - self._shared_words)
        kept, dropped = len(self._words), 0
        if overlap := find_overlap(self._words[head:], words[: 2 * self._shared_words]):
            kept, dropped = head + overlap.prev_end, overlap.new_start
        if kept < self._least:  # from the first common word on both go on alike
            kept, dropped = self._least, min(len(words), dropped + self._least - kept)
        if committed_chars and dropped <= len(split_text(text[:committed_chars])):
            self._fixed = kept, dropped  # what it was found with will not change
        return kept, dropped

    @property
    def fixed(self) -> bool:
        """Whether the seam will not move any more."""
        return self._fixed is not None


class _Turn:
    """What the sink knows of a turn that has no final yet, and what a next connection needs to know."""

    def __init__(self, started: TurnStarted) -> None:
        self.number = started.turn
        self.start = started.start
        self.audible = started.start  # where its speech begins; earlier for who ends the turn before it earlier
        self.awaited = False  # on a new connection, until that hears the turn again
        self.gone = False  # a new connection did not hear it again
        self.reached = started.start  # the farthest moment that any event told of
        self.noticed = started.start  # the last change between speech and silence that was told
        self.paused = False
        self.resumed_at = started.start
        self.heard_from = started.start  # where the connection heard its first speech
        self.shown: TranscriptChanged | None = None  # the last text told
        self.told_until = 0  # texts that reach less far were told by the connection before
        self.closing: TranscriptChanged | None = None  # the last text: its window may be closed by now
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
        return self.kept.resume_at if self.kept else self.audible - samples(_BEFORE_TURN_S)

    def hear_again(self, start: int, free: int) -> int:
        """Expect the turn of a new connection that hears from a sample index on; returns how much nobody heard.

        What lies before `free` is of earlier turns, or of no stream: nobody needs it.
        """
        self.awaited, self.seam, self.closing = True, None, None
        needed = max(free, self.resume_at)
        if (shown := self.shown) is None:
            return max(0, start - needed)
        self.told_until = max(self.told_until, shown.end)
        kept = self.kept
        if kept is None and start <= needed and not self.committed:
            return 0  # the whole turn is heard again
        if kept is None or start > kept.resume_at or not kept.text.startswith(self.committed):
            kept = _Kept(shown.text, self.passages(shown.text, shown.end), max(start, shown.end), start)
        self.seam = _Seam(kept, self.committed)
        return max(0, start - shown.end)

    def goes_on(self, at: int) -> bool:
        """Whether speech follows a moment whose words were kept: an end of the turn there was a pause to others."""
        spoken = self.noticed if self.paused else self.reached
        return self.seam is not None and at + samples(_SAME_S) < min(self.seam.kept.end, spoken)

    def begin(self, start: int, *, again: bool) -> None:
        """Be heard by a connection; `again`: to which it is one more turn, of which it has told only the beginning."""
        self.heard_from = start
        if not again:
            self.audible = min(self.start, start)
        elif self.seam is not None:
            kept = self.seam.kept
            self.seam = _Seam(replace(kept, resume_at=max(kept.resume_at, start)), self.committed)

    def take(self, event: TranscriptChanged) -> TranscriptChanged | None:
        """Return a text of this connection as the turn's; `None` where the sink has heard of more."""
        event = self._joined(event)
        closing = self.closing
        if closing and closing.text == event.text[: event.committed_chars] != closing.text[: closing.committed_chars]:
            # Its window was closed in a pause: all words before `closing.end` are known, and none is cut in two. (Where
            # the text came so late that it was an interim by then, its end may be anywhere.)
            overlap = samples(_OVERLAP_S) if closing.cause == "interim" else 0
            self._keep(closing.text, closing.end, closing.end - overlap)
        behind = self.seam is not None and event.end < self.seam.kept.end
        if event.cause == "cut":
            end = self.seam.kept.end if self.seam and behind else event.end
            self._keep(event.text, end, event.end - samples(_OVERLAP_S))
        self.closing = None if behind else event
        if event.end < self.told_until:
            return None
        self.told_until = 0
        self.shown = event
        self.reached = max(self.reached, event.end)
        return replace(event, end=max(self.start, event.end))

    def notice(self, event: TurnPaused | TurnResumed, at: int) -> list[Event]:
        """Take a change between speech and silence; returns what the sink does not know of it."""
        resumed = isinstance(event, TurnResumed)
        same = abs(at - self.noticed) <= samples(_SAME_S)
        if isinstance(event, TurnPaused) and event.probability is not None and self.paused and same:
            return [event]  # more is known about the pause that was told
        if at <= self.noticed + samples(_SAME_S) or (resumed and not self.paused):
            return []
        events: list[Event] = [event]
        if self.paused and not resumed:  # the connection heard nothing of the speech before the pause that was told
            self.resumed_at = min(max(self.heard_from, self.noticed + 1), at - 1)
            events.insert(0, TurnResumed(self.number, self.resumed_at))
        self.paused, self.noticed = not resumed, at
        self.resumed_at = at if resumed else self.resumed_at
        self.reached = max(self.reached, at)
        return events

    def complete(self, event: TurnCompleted) -> TurnCompleted:
        """Return the final of this connection as the turn's."""
        text, passages, words = event.text, event.passages, event.words
        if self.seam:
            kept, dropped = self.seam.find(text, len(text), None)
            before = _first_words(self.seam.kept.passages, kept)
            text = _append(_lead(self.seam.kept.text, kept), _rest(text, dropped))
            passages = before + _after(before, _without_words(passages, dropped))
            words = _spread(before) + _words_after(before, words, dropped) if words else ()
        if event.start + samples(_SAME_S) < self.start:
            passages, words = _not_before(self.start, passages), _not_before(self.start, words)
        end = max(self.start, event.end)
        return replace(event, start=self.start, end=end, text=text, passages=passages, words=words)

    def give_up(self) -> TurnCompleted:
        """Return a final of what was told."""
        end = self.noticed if self.paused else self.reached
        passages = self.passages(self.text, end)
        return TurnCompleted(self.number, self.start, end, self.text, passages, None, self.reached, "stream ended")

    def passages(self, text: str, end: int) -> tuple[Passage, ...]:
        """Passages of a text whose beginning was kept: those, and one of what is new."""
        known = self.kept.passages if self.kept else ()
        words = split_text(text)
        same = 0
        for ours, theirs in zip((w for p in known for w in split_text(p.text)), words, strict=False):
            if ours.strip() != theirs.strip():
                break
            same += 1
        known = _first_words(known, same)
        begin = max([self.start, *(p.end for p in known[-1:])])
        begin = self.resumed_at if begin < self.resumed_at < end else begin
        new = _rest(text, same)
        return (*known, Passage(begin, max(begin, end), new)) if new else known

    def _keep(self, text: str, end: int, resume_at: int) -> None:
        """Keep the words of the windows that are closed."""
        at = max(resume_at, self.kept.resume_at if self.kept else 0)
        self.kept = _Kept(text, self.passages(text, end), end, at)

    def _joined(self, event: TranscriptChanged) -> TranscriptChanged:
        """Return a text of this connection behind what was kept of the connection before."""
        text, committed, stable = event.text, event.committed_chars, event.stable_chars
        if self.seam is not None:
            kept, dropped = self.seam.find(text, committed, event.end)
            head, rest = _lead(self.seam.kept.text, kept), _rest(text, dropped)
            skipped, length = len(text) - len(rest), len(text)
            text = _append(head, rest)
            committed, stable = (
                chars + len(text) - length if chars > skipped else len(head) for chars in (committed, stable)
            )
            committed = committed if self.seam.fixed else 0
        if text.startswith(self.committed):
            committed = max(committed, len(self.committed))
        return replace(
            event, start=self.start, text=text, committed_chars=committed, stable_chars=max(committed, stable)
        )


class Continuity:
    """Takes the events of one connection after the other, gives those of one session."""

    def __init__(self) -> None:
        self._open: deque[_Turn] = deque()  # without a final yet; texts are of the first, speech of the last
        self._next = 0  # number of the next turn that starts
        self._base = 0  # sample index where the connection's audio begins
        self._heard: list[_Turn] = []  # turns of the connection, by its numbers
        self._free = 0  # audio before this is not needed for the turns to come
        self.done = 0
        """Sample index up to which events have told of the stream; never falls."""

    @property
    def resume_at(self) -> int:
        """The audio from this sample index on is needed, should the connection be lost now."""
        return max(self._free, self._open[0].resume_at) if self._open else self._free

    def connect(self, start: int) -> int:
        """Begin a connection that hears the audio from a sample index on; returns how many samples nobody heard."""
        self._base, self._heard = start, []
        return max([turn.hear_again(start, self._free) for turn in self._open if not turn.gone], default=0)

    def take(self, event: Event) -> list[Event]:
        """Return what an event of this connection is to the sink.

        Raises:
            ValueError: the event cannot follow those before it.

        """
        if isinstance(event, Acknowledged):
            return []  # of a command that nobody gave
        events: list[Event] = []
        number = event.turn
        event = _moved(event, self._base)
        if isinstance(event, TurnStarted):
            self._start(event, events)
            return events
        if number == len(self._heard):  # a server that is sparing with events: the turn began all the same
            start = event.start if isinstance(event, TranscriptChanged | TurnCompleted) else max(self._base, self.done)
            self._start(TurnStarted(number, start), events)
        if not (0 <= number < len(self._heard)) or (turn := self._heard[number]) not in self._open:
            msg = f"expected events of a turn that runs, got one of turn {number}"
            raise ValueError(msg)
        told: Event | None = replace(event, turn=turn.number)
        match told:
            case TurnPaused(end=at) | TurnResumed(at=at):
                # Where one connection found the end of a turn the next may find a pause: the sink knows a later turn.
                events += turn.notice(told, at) if turn is self._open[-1] else []
                told = None
            case TranscriptChanged() | TurnCompleted() | RecognitionFailed():
                self._expect_texts(turn)
                if isinstance(told, TranscriptChanged):
                    told = turn.take(told)
                elif isinstance(told, TurnCompleted):
                    told = self._complete(turn.complete(told)) if self._ends(turn, number, told.end) else None
        self.done = max(self.done, turn.reached)
        if told is not None:
            events.append(told)
        if isinstance(told, TurnCompleted):
            self._drop_gone(events)
        return events

    def finish(self) -> list[Event]:
        """End the stream: turns that the last connection did not complete are, with the text that was told."""
        return [self._complete(self._open[0].give_up()) for _ in range(len(self._open))]

    def _start(self, event: TurnStarted, events: list[Event]) -> None:
        if event.turn != len(self._heard):
            msg = f"expected turn {len(self._heard)} to start, got turn {event.turn}"
            raise ValueError(msg)
        for turn in tuple(self._open):
            again = turn in self._heard[-1:]
            if not turn.awaited and not (again and turn.goes_on(event.start)):
                continue
            turn.awaited = False
            if event.start <= turn.reached + samples(_SAME_S):
                turn.begin(event.start, again=again)
                self._drop_gone(events)
                self._heard.append(turn)  # the sink knows that it began
                return
            turn.gone = True  # the server no longer hears as speech what it had heard so
        self._drop_gone(events)
        turn = _Turn(TurnStarted(self._next, event.start))
        self._next += 1
        self._open.append(turn)
        self._heard.append(turn)
        self.done = max(self.done, event.start)
        events.append(TurnStarted(turn.number, event.start))

    def _ends(self, turn: _Turn, number: int, end: int) -> bool:
        """Whether the end of a connection's turn is one to the sink, which may know how it goes on."""
        if number + 1 < len(self._heard):
            return self._heard[number + 1] is not turn
        turn.awaited = turn.goes_on(end)
        return not turn.awaited

    def _expect_texts(self, turn: _Turn) -> None:
        """Texts of a turn come when all before it have their finals."""
        if self._open[0] is not turn:
            msg = f"expected texts of turn {self._open[0].number}, got one of turn {turn.number}"
            raise ValueError(msg)

    def _drop_gone(self, events: list[Event]) -> None:
        while self._open and self._open[0].gone:
            events.append(self._complete(self._open[0].give_up()))

    def _complete(self, final: TurnCompleted) -> TurnCompleted:
        self._open.popleft()
        self._free = max(self._free, final.end + samples(_BEFORE_TURN_S / 2))
        self.done = max(self.done, final.end)
        if self._open and (following := self._open[0]).awaited:  # until this connection hears where it begins
            following.audible = min(following.audible, self._free)
        return final


def _lead(text: str, words: int) -> str:
    return "".join(split_text(text)[:words])


def _rest(text: str, words: int) -> str:
    return "".join(split_text(text)[words:]).lstrip()


def _append(text: str, more: str) -> str:
    return text + joint(text, more) if more else text


def _first_words(passages: tuple[Passage, ...], words: int) -> tuple[Passage, ...]:
    """Return the passages that hold the first words of a text."""
    kept: list[Passage] = []
    for passage in passages:
        if words <= 0:
            break
        kept.append(replace(passage, text=_lead(passage.text, words)))
        words -= len(split_text(passage.text))
    return tuple(kept)


def _without_words(passages: tuple[Passage, ...], words: int) -> tuple[Passage, ...]:
    """Return the passages that hold all but the first words of a text."""
    kept: list[Passage] = []
    for passage in passages:
        if rest := _rest(passage.text, max(0, words)):
            kept.append(replace(passage, text=rest))
        words -= len(split_text(passage.text))
    return tuple(kept)


def _after(before: tuple[Passage, ...], passages: tuple[Passage, ...]) -> tuple[Passage, ...]:
    """Return passages less the time that those before have taken: an overlap was heard twice."""
    return _not_before(max((p.end for p in before), default=0), passages)


def _not_before(at: int, spans: tuple[_Span, ...]) -> tuple[_Span, ...]:
    """Return passages or words less the time before a moment."""
    return tuple(replace(span, start=max(span.start, at), end=max(span.end, at)) for span in spans)


def _spread(passages: tuple[Passage, ...]) -> tuple[Word, ...]:
    """Return the words of passages, evenly over their time: what is known when those of a connection are lost."""
    words: list[Word] = []
    for passage in passages:
        texts = split_text(passage.text)
        for i, text in enumerate(texts):
            at = [passage.start + (passage.end - passage.start) * (i + n) // len(texts) for n in (0, 1)]
            words.append(Word(joint(words[-1].text if words else "", text) if i == 0 else text, at[0], at[1]))
    return tuple(words)


def _words_after(before: tuple[Passage, ...], words: tuple[Word, ...], dropped: int) -> tuple[Word, ...]:
    """Return words without the first pieces of text, and less the time that the passages before have taken."""
    end = max((p.end for p in before), default=0)
    kept: list[Word] = []
    for word in words:
        if text := _rest(word.text, max(0, dropped)):
            text = word.text if kept or not before else joint(before[-1].text, text)
            kept.append(replace(word, text=text, start=max(word.start, end), end=max(word.end, end)))
        dropped -= len(split_text(word.text))
    return tuple(kept)


def _moved(event: Event, base: int) -> Event:
    """Return an event of a connection with the times of the stream."""
    match event:
        case TurnStarted():
            return replace(event, start=event.start + base)
        case TurnPaused():
            return replace(event, end=event.end + base)
        case TurnResumed() | Acknowledged():
            return replace(event, at=event.at + base)
        case TranscriptChanged():
            return replace(event, start=event.start + base, end=event.end + base)
        case TurnCompleted():
            return replace(
                event,
                start=event.start + base,
                end=event.end + base,
                decided=event.decided + base,
                passages=tuple(replace(p, start=p.start + base, end=p.end + base) for p in event.passages),
                words=tuple(replace(w, start=w.start + base, end=w.end + base) for w in event.words),
            )
        case RecognitionFailed():
            return event
