"""The native protocol, without any input or output: what a client sends becomes commands, events become messages.

`docs/protocol.md` tells it to people. A session knows nothing of this module; other protocols stand beside it.
"""

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, get_args

from stt import clock
from stt.errors import SettingsError
from stt.events import (
    Acknowledged,
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
from stt.settings import TurnSettings
from stt.words import Word

PATH: Final = "/ws/transcribe"

MIN_RATE: Final = 8_000
MAX_RATE: Final = 48_000
MAX_CHANNELS: Final = 2

# Each change of rate costs a new resampler, up to 1 ms of work; a client has no reason for more than a few.
_MAX_FORMATS: Final = 16

_LONGEST_S: Final = 2.0**40 / 16_000  # years: what is beyond it is no time of a session


class ProtocolError(Exception):
    """The client sent something this protocol does not know; the text is for the client to read."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Format:
    """How PCM16LE bytes are to be read."""

    rate: int
    channels: int


@dataclass(frozen=True, slots=True)
class Audio:
    """Interleaved PCM16LE; whole sample frames, perhaps none."""

    pcm: bytes
    format: Format


@dataclass(frozen=True, slots=True)
class Finish:
    """No more audio: the running turn is to get its final."""


Command = Audio | Finish


@dataclass(frozen=True, slots=True)
class Options:
    """What a client may ask for in the URL."""

    turns: TurnSettings
    language: str | None
    format: Format = Format(16_000, 1)
    """Of binary frames."""
    interim_results: bool = True
    events: bool = False
    repeat_committed: bool = True
    """Whether each text of a turn is all of it, or begins behind what is committed and was sent before."""


def parse_options(query: Sequence[tuple[str, str]], turns: TurnSettings, language: str | None) -> Options:
    """Read the URL's query over the server's defaults.

    Raises:
        ProtocolError: an option is unknown, given twice or has a value that cannot work.

    """
    given: dict[str, str] = {}
    known = (
        "sample_rate",
        "channels",
        "interim_results",
        "end_of_turn_ms",
        "pause_ms",
        "language",
        "events",
        "repeat_committed",
    )
    for name, value in query:
        if name not in known:
            raise ProtocolError("bad_option", f"unknown option {name[:40]!r}; known: {', '.join(known)}")
        if name in given:
            raise ProtocolError("bad_option", f"{name} is given twice")
        given[name] = value
    interim_results = _flag(given, "interim_results", default=True)
    end_of_turn_s = _whole(given, "end_of_turn_ms", round((turns.end_of_turn_s or 60) * 1000), 100, 60_000) / 1000
    # A client that wants turns to end sooner than they would pause need not say so twice.
    pause_s = _whole(given, "pause_ms", round(min(turns.pause_s, end_of_turn_s) * 1000), 50, 10_000) / 1000
    try:
        turns = replace(
            turns,
            end_of_turn_s=end_of_turn_s,
            pause_s=pause_s,
            interim_s=turns.interim_s if interim_results else None,
        )
    except SettingsError:
        raise ProtocolError(
            "bad_option",
            f"pause_ms must not exceed end_of_turn_ms, got {round(pause_s * 1000)} and {round(end_of_turn_s * 1000)}",
        ) from None
    asked = given.get("language", language or "auto")
    if not (asked.isascii() and asked.replace("-", "").isalpha() and len(asked) <= 12):
        raise ProtocolError("bad_option", f"language must be a code like en, or auto, got {asked[:40]!r}")
    return Options(
        turns,
        None if asked == "auto" else asked.lower(),
        Format(_whole(given, "sample_rate", 16_000, MIN_RATE, MAX_RATE), _whole(given, "channels", 1, 1, MAX_CHANNELS)),
        interim_results,
        _flag(given, "events", default=False),
        _flag(given, "repeat_committed", default=True),
    )


def _whole(given: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    if (text := given.get(name)) is None:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) <= 9 and low <= int(text) <= high):
        raise ProtocolError("bad_option", f"{name} must be a whole number from {low} to {high}, got {text[:40]!r}")
    return int(text)


def _flag(given: Mapping[str, str], name: str, *, default: bool) -> bool:
    known = {"1": True, "true": True, "0": False, "false": False}
    text = given.get(name, str(int(default)))
    if text.lower() not in known:
        raise ProtocolError("bad_option", f"{name} must be one of 1, 0, true, false, got {text[:40]!r}")
    return known[text.lower()]


class Decoder:
    """Frames of one connection to commands."""

    def __init__(self, binary: Format = Format(16_000, 1)) -> None:
        self._binary = binary
        self._last = binary
        self._changes = 0

    def text(self, data: str) -> Command:
        """Take a text frame.

        Raises:
            ProtocolError: it is not a message of this protocol; the next one may be.

        """
        try:
            message = json.loads(data)
        except (ValueError, RecursionError):
            raise ProtocolError("bad_json", f"expected a JSON object, got {_shown(data)}") from None
        if not isinstance(message, dict):
            raise ProtocolError("bad_message", f"expected a JSON object, got {_shown(data)}")
        if "samples" not in message:
            kind = message.get("type")
            if kind == "finish":
                return Finish()
            if kind is None:
                raise ProtocolError("bad_message", f'expected "samples" or "type", got {_shown(data)}')
            raise ProtocolError("unknown_type", f'expected type "finish", got {_shown(kind)}')
        samples = message["samples"]
        if not isinstance(samples, str):
            raise ProtocolError("bad_message", f"samples must be a string of base64, got {_shown(samples)}")
        form = self._format(
            message.get("sampleRate", self._binary.rate), message.get("channels", self._binary.channels)
        )
        try:
            pcm = base64.b64decode(samples, validate=True)
        except (binascii.Error, ValueError):
            raise ProtocolError("bad_base64", f"samples is not base64: {_shown(samples)}") from None
        return self._audio(pcm, form)

    def binary(self, data: bytes) -> Command:
        """Take a binary frame.

        Raises:
            ProtocolError: it does not hold whole 16-bit samples of all channels.

        """
        return self._audio(data, self._binary)

    def _format(self, rate: Any, channels: Any) -> Format:
        if type(rate) is type(channels) is int and rate == self._last.rate and channels == self._last.channels:
            return self._last
        for name, value, low, high in (
            ("sampleRate", rate, MIN_RATE, MAX_RATE),
            ("channels", channels, 1, MAX_CHANNELS),
        ):
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high or value % 1:
                raise ProtocolError(
                    "bad_format", f"{name} must be a whole number from {low} to {high}, got {_shown(value)}"
                )
        return Format(int(rate), int(channels))

    def _audio(self, pcm: bytes, form: Format) -> Audio:
        if len(pcm) % (2 * form.channels):
            raise ProtocolError(
                "bad_audio",
                f"PCM16 with {form.channels} channel(s) comes in units of {2 * form.channels} bytes, got {len(pcm)}",
            )
        if form != self._last:
            self._changes += 1
            if self._changes > _MAX_FORMATS:
                raise ProtocolError("bad_format", "sampleRate and channels change too often")
            self._last = form
        return Audio(pcm, form)


def _shown(value: Any) -> str:
    """Quote what came, short and harmless in any encoding."""
    text = value if isinstance(value, str) else repr(value)
    return ascii(text[:60]) + ("..." if len(text) > 60 else "")


def error(code: str, text: str, **more: Any) -> str:
    """Write the one kind of message that every client gets."""
    return dump({"error": text, "code": code, **more})


def dump(message: Mapping[str, Any]) -> str:
    """Write a message as JSON, in ASCII: lone surrogates in a text cannot break the connection."""
    return json.dumps(message, separators=(",", ":"))


ENGINE_FAILED: Final = "the engine failed on a part of this turn; its text may be incomplete"


class Encoder:
    """Events of one session to messages: the table of `docs/protocol.md`.

    | event               | message                                            | sent                               |
    |---------------------|----------------------------------------------------|------------------------------------|
    | `TurnStarted`       | `{"type": "turn_started", turn, start}`            | events=1                           |
    | `TranscriptChanged` | `{text, isFinal: false, isEndOfTurn: false, ...}`  | unless interim_results=0 (1)       |
    | `TurnPaused`        | `{"type": "turn_paused", turn, end}`               | events=1                           |
    | `TurnResumed`       | `{"type": "turn_resumed", turn, at}`               | events=1                           |
    | `TurnCompleted`     | `{text, isFinal: true, isEndOfTurn: true, ...}`    | always (2)                         |
    | `RecognitionFailed` | `{"error", "code": "engine_failed", turn}`         | always                             |

    (1) With events=1 and interim_results=0, those of cause pause, cut and end are sent all the same.
    (2) Without events=1, a turn that gave no words is not mentioned, unless text of it was shown that now goes.

    `isFinal` is true once per turn, with `isEndOfTurn`: a client that appends finals gets each word once. The text of
    a pause is what the final will be if nobody speaks again, but if somebody does it is heard anew, with more of the
    sentence known; as a final it would stand there twice. Those who want it early look at `cause`.

    With repeat_committed=0 a text leaves out its first `from` characters: they are committed, and those of the turn's
    last text that was no interim (an interim may be skipped, should the client read slowly). So a turn costs what it
    says, not the square of it; `EventDecoder` puts the texts together again.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        # Of the turn whose texts are sent; the next one may have begun.
        self._shown = False
        self._sent = ""  # the last text that was no interim
        self._committed = 0  # characters of it that will not change

    def encode(self, event: Event) -> str | None:
        """Return the message for an event, or `None` where this client gets none."""
        events = self._options.events
        match event:
            case TurnStarted():
                message = {"type": "turn_started", "turn": event.turn, "start": event.start_s}
                return dump(message) if events else None
            case TranscriptChanged():
                if not self._options.interim_results and (not events or event.cause == "interim"):
                    return None
                if not events and not event.text and not self._shown:
                    return None
                self._shown = self._shown or bool(event.text)
                written = self._text(event)
                self._committed = event.committed_chars
                if event.cause != "interim":
                    self._sent = event.text
                return written
            case TurnPaused():
                message: dict[str, Any] = {"type": "turn_paused", "turn": event.turn, "end": event.end_s}
                if event.probability is not None:
                    message["probability"] = round(event.probability, 4)
                return dump(message) if events else None
            case TurnResumed():
                return dump({"type": "turn_resumed", "turn": event.turn, "at": event.at_s}) if events else None
            case TurnCompleted():
                written = self._text(event) if events or event.text or self._shown else None
                self._shown, self._sent, self._committed = False, "", 0
                return written
            case RecognitionFailed():
                return error("engine_failed", ENGINE_FAILED, turn=event.turn)
            case Acknowledged():
                return None

    def _text(self, event: TranscriptChanged | TurnCompleted) -> str:
        message = _text(event, events=self._options.events)
        if not self._options.repeat_committed:
            committed = event.committed_chars if isinstance(event, TranscriptChanged) else self._committed
            known = self._sent[:committed]
            message["from"] = begin = len(known) if event.text.startswith(known) else 0
            message["text"] = event.text[begin:]
        return dump(message)


def _text(event: TranscriptChanged | TurnCompleted, *, events: bool) -> dict[str, Any]:
    final = isinstance(event, TurnCompleted)
    message: dict[str, Any] = {
        "text": event.text,
        "isFinal": final,
        "isEndOfTurn": final,
        "turn": event.turn,
        "start": event.start_s,
        "end": event.end_s,
    }
    if isinstance(event, TranscriptChanged):
        message |= {"stable": event.stable_chars, "committed": event.committed_chars, "cause": event.cause}
    elif events:
        message |= {"decided": event.decided_s, "why": event.why}
        message["passages"] = [{"start": p.start_s, "end": p.end_s, "text": p.text} for p in event.passages]
        if event.words:
            message["words"] = [
                {"start": w.start_s, "end": w.end_s, "text": w.text, "confidence": w.confidence} for w in event.words
            ]
    if events:
        message["type"] = "turn_completed" if final else "transcript"
        if event.latency is not None:
            message["latency"] = {
                "waited": round(event.latency.waited_s, 4),
                "decoded": round(event.latency.decoded_s, 4),
                "batch": event.latency.batch_size,
            }
    return message


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
        raise ProtocolError("bad_message", f"{type(wrong).__name__}: {wrong} in {_shown(dict(message))}") from None


def _transcript(message: Mapping[str, Any], text: str) -> TranscriptChanged:
    cause, committed, stable = message["cause"], _count(message["committed"]), _count(message["stable"])
    if cause not in ("interim", "pause", "cut", "end"):
        msg = f"expected a cause, got {_shown(cause)}"
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
        msg = f"expected why the turn ended, got {_shown(why)}"
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
        msg = f"expected a text that continues {len(sent)} characters, got {_shown(text)} from {begin}"
        raise ValueError(msg)
    return sent[:begin] + text


def _latency(message: Mapping[str, Any]) -> Latency | None:
    if (spent := message.get("latency")) is None:
        return None
    return Latency(float(spent["waited"]), float(spent["decoded"]), int(spent["batch"]))


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        msg = f"expected a count, got {_shown(value)}"
        raise ValueError(msg)
    return value


def _sample(value: Any) -> int:
    if type(value) not in (int, float) or not 0 <= value <= _LONGEST_S:
        msg = f"expected seconds since the session began, got {_shown(value)}"
        raise ValueError(msg)
    return clock.samples(value)
