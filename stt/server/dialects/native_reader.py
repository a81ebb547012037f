"""The native protocol as a client reads it: messages back to events. Pure; `native` is the side that writes them."""

from collections.abc import Mapping
from typing import Any, Final, get_args

from stt import clock
from stt.events import (
    Ending,
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
from stt.server.dialects.reading import shown
from stt.words import Word

_LONGEST_S: Final = 2.0**40 / 16_000  # years: what is beyond it is no time of a session


class ProtocolError(Exception):
    """The other side sent something this protocol does not know; the text is for whoever wrote it to read."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class EventDecoder:
    """Messages of one session with events=1 to its events, with repeat_committed=0 or without."""

    def __init__(self) -> None:
        self._sent = ""  # as `Encoder` has it

    def decode(self, message: Mapping[str, Any]) -> Event | None:
        """Turn a message back into its event; `None` for other kinds of messages.

        Raises:
            ProtocolError: it lacks what its kind promises.

        """
        event = decode_event(message, self._sent)
        match event:
            case TurnCompleted():
                self._sent = ""
            case TranscriptChanged() if event.cause != "interim":
                self._sent = event.text
            case _:
                pass
        return event


def decode_event(message: Mapping[str, Any], sent: str = "") -> Event | None:
    """Turn a message of a server with events=1 back into its event; `None` for other kinds of messages.

    `sent` is the turn's last text that was no interim, which a message with `from` continues.

    Raises:
        ProtocolError: it lacks what its kind promises.

    """
    try:
        if "error" in message:
            return RecognitionFailed(_count(message["turn"]), str(message["error"])) if "turn" in message else None
        match message.get("type"):
            case "turn_started":
                return TurnStarted(_count(message["turn"]), _sample(message["start"]))
            case "turn_paused":
                probability = message.get("probability")
                probability = None if probability is None else float(probability)
                return TurnPaused(_count(message["turn"]), _sample(message["end"]), probability)
            case "turn_resumed":
                return TurnResumed(_count(message["turn"]), _sample(message["at"]))
            case "transcript":
                return _transcript(message, _whole_text(message, sent))
            case "turn_completed":
                return _completed(message, _whole_text(message, sent))
            case _:
                return None
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as wrong:
        raise ProtocolError("bad_message", f"{type(wrong).__name__}: {wrong} in {shown(dict(message))}") from None


def _transcript(message: Mapping[str, Any], text: str) -> TranscriptChanged:
    cause, committed, stable = message["cause"], _count(message["committed"]), _count(message["stable"])
    if cause not in ("interim", "pause", "cut", "end"):
        msg = f"expected a cause, got {shown(cause)}"
        raise ValueError(msg)
    if not committed <= stable <= len(text):
        msg = f"expected committed <= stable <= {len(text)} characters, got {committed} and {stable}"
        raise ValueError(msg)
    return TranscriptChanged(
        _count(message["turn"]),
        _sample(message["start"]),
        _sample(message["end"]),
        text,
        committed,
        stable,
        cause,
        _latency(message) or Latency(0.0, 0.0, 1),
    )


def _completed(message: Mapping[str, Any], text: str) -> TurnCompleted:
    end, why = _sample(message["end"]), message.get("why", "silence")  # a server of an earlier version tells neither
    if why not in get_args(Ending):
        msg = f"expected why the turn ended, got {shown(why)}"
        raise ValueError(msg)
    return TurnCompleted(
        _count(message["turn"]),
        _sample(message["start"]),
        end,
        text,
        tuple(Passage(_sample(p["start"]), _sample(p["end"]), str(p["text"])) for p in message["passages"]),
        _latency(message),
        _sample(message["decided"]) if "decided" in message else end,
        why,
        tuple(_word(w) for w in message.get("words", ())),
        str(message["language"]) if "language" in message else None,
    )


def _word(word: Mapping[str, Any]) -> Word:
    confidence = word.get("confidence")
    return Word(
        str(word["text"]),
        _sample(word["start"]),
        _sample(word["end"]),
        None if confidence is None else float(confidence),
    )


def _whole_text(message: Mapping[str, Any], sent: str) -> str:
    text, begin = message["text"], _count(message.get("from", 0))
    if not isinstance(text, str) or begin > len(sent):
        msg = f"expected a text that continues {len(sent)} characters, got {shown(text)} from {begin}"
        raise ValueError(msg)
    return sent[:begin] + text


def _latency(message: Mapping[str, Any]) -> Latency | None:
    if (spent := message.get("latency")) is None:
        return None
    return Latency(float(spent["waited"]), float(spent["decoded"]), int(spent["batch"]))


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        msg = f"expected a count, got {shown(value)}"
        raise ValueError(msg)
    return value


def _sample(value: Any) -> int:
    if type(value) not in (int, float) or not 0 <= value <= _LONGEST_S:
        msg = f"expected seconds since the session began, got {shown(value)}"
        raise ValueError(msg)
    return clock.samples(value)
