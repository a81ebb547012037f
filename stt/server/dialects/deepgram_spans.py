"""Deepgram's `Results`: the turns of one channel as spans of the stream, none of which repeats a word. Pure.

    |-- interim --|
    |-- interim ------|
    |-- is_final: committed words --|-- interim --|
                                    |-- is_final, speech_final --|-- next span ...

A span begins where the final before it ended. Interims replace each other; a final closes the span. What a long turn
has committed is final before its end, so a final holds what no earlier one of its turn has.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from stt.audio import seconds
from stt.events import Acknowledged, Event, TranscriptChanged, TurnCompleted, TurnStarted
from stt.server.dialect import Tick
from stt.server.dialects.deepgram import alternative
from stt.server.estimate import Speech
from stt.words import Word

Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a client wants to hear."""

    interims: bool = False
    endpoints: bool = True
    """Whether a final says that the speaker is done (`speech_final`)."""
    starts: bool = False
    """`SpeechStarted`."""
    utterance_end_s: float | None = None
    """Silence after the last word that `UtteranceEnd` tells of."""


class Spans:
    """What is told of one channel.

    Args:
        channel: its number, and how many there are.
        wishes: of the client.
        metadata: of every `Results`.

    """

    def __init__(self, channel: tuple[int, int], wishes: Wishes, metadata: Mapping[str, Any]) -> None:
        self._channel = list(channel)
        self._wishes = wishes
        self._metadata = metadata
        self._speech = Speech()
        self._start = 0  # of the open span
        self._reach = 0  # as far as it was told to go
        self._final_chars = 0  # of the turn whose texts are sent: those that finals have told
        self._answered = False  # the flush that is under way has its final
        self._heard_s = 0.0
        self._running: dict[int, float] = {}  # turns that began and have no final yet, and when
        self._last_word_s: float | None = None  # of the finals, until its `UtteranceEnd`

    def tell(self, item: Event | Tick) -> Iterator[Message]:
        """Return what a client is to hear of it."""
        match item:
            case Tick(at_s):
                self._heard_s = max(self._heard_s, at_s)
                yield from self._utterance_end()
            case TurnStarted(turn):
                self._running[turn] = item.start_s
                self._speech.feed(item)
                if self._wishes.starts:
                    channel = self._channel
                    yield {"type": "SpeechStarted", "channel": channel, "timestamp": round(item.start_s, 3)}
            case TranscriptChanged():
                yield from self._text(item)
            case TurnCompleted():
                yield from self._final(item)
                self._speech.feed(item)
            case Acknowledged("flush", at):
                if not self._answered:
                    self._reach = max(self._reach, at)
                    yield self._results((), is_final=True, from_finalize=True)
                self._answered = False
            case _:
                self._speech.feed(item)

    def _text(self, text: TranscriptChanged) -> Iterator[Message]:
        words = self._speech.words(text)
        if text.committed_chars > self._final_chars:
            new = tuple(_between(words, self._final_chars, text.committed_chars))
            self._final_chars = text.committed_chars
            self._reach = max(self._start, new[-1].end if new else 0)
            yield self._results(new, is_final=True)
        new = tuple(_between(words, self._final_chars, len(text.text)))
        if self._wishes.interims and new:
            self._reach = max(self._reach, text.end)
            yield self._results(new, is_final=False)

    def _final(self, final: TurnCompleted) -> Iterator[Message]:
        words = tuple(_between(self._speech.words(final), self._final_chars, len(final.text)))
        self._reach = max(self._reach, final.end)
        asked = final.why == "asked"
        yield self._results(words, is_final=True, speech_final=self._wishes.endpoints, from_finalize=asked)
        self._answered = asked
        self._final_chars = 0
        self._running.pop(final.turn, None)
        self._heard_s = max(self._heard_s, final.decided_s)
        yield from self._utterance_end()

    def _utterance_end(self) -> Iterator[Message]:
        """Tell of a silence after the last final, unless somebody spoke in it."""
        if self._last_word_s is None or self._wishes.utterance_end_s is None:
            return
        due_s = self._last_word_s + self._wishes.utterance_end_s
        if self._heard_s >= due_s and all(start_s >= due_s for start_s in self._running.values()):
            yield {"type": "UtteranceEnd", "channel": self._channel, "last_word_end": round(self._last_word_s, 3)}
            self._last_word_s = None

    def _results(
        self, words: Sequence[Word], *, is_final: bool, speech_final: bool = False, from_finalize: bool = False
    ) -> Message:
        """Write the open span; a final closes it."""
        # The sound before a turn may have been told of already.
        words = [replace(w, start=max(w.start, self._start), end=max(w.end, self._start)) for w in words]
        self._reach = max([self._reach, *(word.end for word in words)])
        start_s, end_s = round(seconds(self._start), 3), round(seconds(self._reach), 3)
        if is_final:
            self._start = self._reach
            self._last_word_s = words[-1].end_s if words else self._last_word_s
        return {
            "type": "Results",
            "channel_index": self._channel,
            "start": start_s,
            "duration": round(end_s - start_s, 3),
            "is_final": is_final,
            "speech_final": speech_final,
            "from_finalize": from_finalize,
            "channel": {"alternatives": [alternative(words)]},
            "metadata": self._metadata,
        }


def _between(words: Iterable[Word], low: int, high: int) -> Iterator[Word]:
    """Return the words of a text between two of its characters; one that lies across is cut."""
    at = 0
    for word in words:
        first, last = max(low - at, 0), min(high - at, len(word.text))
        if first < last:
            yield word if last - first == len(word.text) else replace(word, text=word.text[first:last])
        at += len(word.text)
