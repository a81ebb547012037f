"""The native protocol, without any input or output: what a client sends becomes commands, events become messages.

`docs/protocol.md` tells it to people. A session knows nothing of this module; other protocols stand beside it.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

from stt.control import Control
from stt.errors import SettingsError
from stt.events import (
    Acknowledged,
    Event,
    RecognitionFailed,
    TranscriptChanged,
    TurnCompleted,
    TurnPaused,
    TurnResumed,
    TurnStarted,
)
from stt.recognition import RecognitionOptions
from stt.server.dialect import (
    MONO_16K,
    Audio,
    Command,
    Denial,
    End,
    Ending,
    Finish,
    Format,
    Frame,
    Goodbye,
    Malformed,
    NotAdmittedError,
    Notice,
    Opened,
    Request,
    SessionOptions,
    Tick,
)
from stt.server.dialects.native_control import ENDS, KINDS, Controls
from stt.server.dialects.native_reader import ProtocolError
from stt.server.dialects.reading import base64_bytes, dump, shown
from stt.settings import EAGERNESSES, POLICIES, TurnSettings
from stt.terms import checked

PATH: Final = "/ws/transcribe"

MIN_RATE: Final = 8_000
MAX_RATE: Final = 48_000
MAX_CHANNELS: Final = 2

# Each change of rate costs a new resampler, up to 1 ms of work; a client has no reason for more than a few.
_MAX_FORMATS: Final = 16

_HEARD_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Options:
    """What a client may ask for in the URL."""

    turns: TurnSettings
    language: str | None
    format: Format = MONO_16K
    """Of binary frames."""
    interim_results: bool = True
    events: bool = False
    repeat_committed: bool = True
    """Whether each text of a turn is all of it, or begins behind what is committed and was sent before."""
    words: bool = False
    """Whether finals have the times of their words."""
    terms: tuple[str, ...] | None = None
    """What will be said; `None`: nothing was said about it."""
    engine: str | None = None
    """Which engine, by name; `None`: any."""
    heard: bool = False
    """Whether it is told ten times a second how far the audio was heard, and whether somebody speaks."""


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
        *ENDS,
        "language",
        "engine",
        "events",
        "repeat_committed",
        "words",
        "term",
        "heard",
    )
    for name, value in query:
        if name not in known:
            raise ProtocolError("bad_option", f"unknown option {name[:40]!r}; known: {', '.join(known)}")
        if name in given and name != "term":
            raise ProtocolError("bad_option", f"{name} is given twice")
        given[name] = value
    interim_results = _flag(given, "interim_results", default=True)
    turns = _turns(given, turns, interim_results=interim_results)
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
        _flag(given, "words", default=False),
        _terms([value for name, value in query if name == "term"]) if "term" in given else None,
        given.get("engine"),
        _flag(given, "heard", default=False),
    )


def _turns(given: Mapping[str, str], turns: TurnSettings, *, interim_results: bool) -> TurnSettings:
    end_of_turn_s = _whole(given, "end_of_turn_ms", round((turns.end_of_turn_s or 60) * 1000), 100, 60_000) / 1000
    # A client that wants turns to end sooner than they would pause need not say so twice.
    pause_s = _whole(given, "pause_ms", round(min(turns.pause_s, end_of_turn_s) * 1000), 50, 10_000) / 1000
    if pause_s > end_of_turn_s:
        raise ProtocolError(
            "bad_option",
            f"pause_ms must not exceed end_of_turn_ms, got {round(pause_s * 1000)} and {round(end_of_turn_s * 1000)}",
        )
    # A number of milliseconds alone asks for silence, as it did before there was anything else.
    policy = given.get("end_of_turn", "silence" if "end_of_turn_ms" in given else turns.end_of_turn)
    if policy not in POLICIES:
        raise ProtocolError("bad_option", f"end_of_turn must be one of {', '.join(POLICIES)}, got {policy[:40]!r}")
    eagerness = given.get("eagerness", turns.eagerness)
    if eagerness not in EAGERNESSES:
        raise ProtocolError("bad_option", f"eagerness must be one of {', '.join(EAGERNESSES)}, got {eagerness[:40]!r}")
    threshold, delay_s, timeout_s = turns.eot_threshold, turns.eot_delay_s, turns.eot_timeout_s
    if "eot_threshold" in given:
        threshold = _probability(given["eot_threshold"], "eot_threshold")
    if "eot_delay_ms" in given:
        delay_s = _whole(given, "eot_delay_ms", 0, 50, 60_000) / 1000
    if "eot_timeout_ms" in given:
        timeout_s = _whole(given, "eot_timeout_ms", 0, 100, 60_000) / 1000
    try:
        return replace(
            turns,
            end_of_turn=policy,
            end_of_turn_s=end_of_turn_s,
            pause_s=pause_s,
            eagerness=eagerness,
            eot_threshold=threshold,
            eot_delay_s=delay_s,
            eot_timeout_s=timeout_s,
            eager=_flag(given, "eager", default=turns.eager),
            interim_s=turns.interim_s if interim_results else None,
        )
    except SettingsError as wrong:
        raise ProtocolError("bad_option", str(wrong)) from None


def _terms(given: Sequence[str]) -> tuple[str, ...]:
    try:
        return checked(given)
    except SettingsError as wrong:
        raise ProtocolError("bad_option", str(wrong)) from None


def _probability(text: str, name: str) -> float:
    try:
        value = float(text) if len(text) <= 20 else math.nan
    except ValueError:
        value = math.nan
    if not 0 < value <= 1:
        raise ProtocolError("bad_option", f"{name} must be a number above 0, up to 1, got {text[:40]!r}")
    return value


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

    def __init__(self, binary: Format = MONO_16K, controls: Controls | None = None) -> None:
        self._binary = binary
        self._last = binary
        self._changes = 0
        self._controls = controls or Controls(TurnSettings(), RecognitionOptions(), Request(""), parse_options)

    def text(self, data: str) -> Audio | Finish | Control:
        """Take a text frame.

        Raises:
            ProtocolError: it is not a message of this protocol; the next one may be.

        """
        try:
            message = json.loads(data)
        except (ValueError, RecursionError):
            raise ProtocolError("bad_json", f"expected a JSON object, got {shown(data)}") from None
        if not isinstance(message, dict):
            raise ProtocolError("bad_message", f"expected a JSON object, got {shown(data)}")
        if "samples" not in message:
            kind = message.get("type")
            if kind == "finish":
                return Finish()
            if kind is None:
                raise ProtocolError("bad_message", f'expected "samples" or "type", got {shown(data)}')
            if kind in KINDS:
                return self._controls.read(message)
            raise ProtocolError("unknown_type", f"expected type finish, {', '.join(KINDS)}, got {shown(kind)}")
        samples = message["samples"]
        if not isinstance(samples, str):
            raise ProtocolError("bad_message", f"samples must be a string of base64, got {shown(samples)}")
        form = self._format(
            message.get("sampleRate", self._binary.rate), message.get("channels", self._binary.channels)
        )
        try:
            pcm = base64_bytes(samples)
        except ValueError:
            raise ProtocolError("bad_base64", f"samples is not base64: {shown(samples)}") from None
        return self._audio(pcm, form)

    def binary(self, data: bytes) -> Audio:
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
                    "bad_format", f"{name} must be a whole number from {low} to {high}, got {shown(value)}"
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


def error(code: str, text: str, **more: Any) -> str:
    """Write the one kind of message that every client gets."""
    return dump({"error": text, "code": code, **more})


ENGINE_FAILED: Final = "the engine failed on a part of this turn; its text may be incomplete"


class Encoder:
    """Events of one session to messages: the table of `docs/protocol.md`.

    | event               | message                                            | sent                               |
    |---------------------|----------------------------------------------------|------------------------------------|
    | `TurnStarted`       | `{"type": "turn_started", turn, start}`            | events=1                           |
    | `TranscriptChanged` | `{text, isFinal: false, isEndOfTurn: false, ...}`  | unless interim_results=0 (1, 3)    |
    | `TurnPaused`        | `{"type": "turn_paused", turn, end}`               | events=1                           |
    | `TurnResumed`       | `{"type": "turn_resumed", turn, at}`               | events=1                           |
    | `TurnCompleted`     | `{text, isFinal: true, isEndOfTurn: true, ...}`    | always (2)                         |
    | `RecognitionFailed` | `{"error", "code": "engine_failed", turn}`         | always                             |
    | `Acknowledged`      | `{"type": "acknowledged", command, at}`            | always: it was asked for           |

    (1) With events=1 and interim_results=0, those of cause pause, cut and end are sent all the same.
    (2) Without events=1, a turn that gave no words is not mentioned, unless text of it was shown that now goes.
    (3) Not an interim without words, unless text of the turn was shown that now goes.

    `isFinal` is true once per turn, with `isEndOfTurn`: a client that appends finals gets each word once. The text of
    a pause is what the final will be if nobody speaks again, but if somebody does it is heard anew, with more of the
    sentence known; as a final it would stand there twice. Those who want it early look at `cause`.

    With repeat_committed=0 a text leaves out its first `from` characters: they are committed, and those of the turn's
    last text that was no interim (an interim may be skipped, should the client read slowly). So a turn costs what it
    says, not the square of it; `native_reader.EventDecoder` puts the texts together again.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self._shown: set[int] = set()  # turns with a text on the client's screen; one may start before another ends
        # Of the turn whose texts are sent:
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
                if not event.text and event.turn not in self._shown and (not events or event.cause == "interim"):
                    return None
                if event.text:
                    self._shown.add(event.turn)
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
                shown = event.turn in self._shown
                self._shown.discard(event.turn)
                written = self._text(event) if events or event.text or shown else None
                self._sent, self._committed = "", 0
                return written
            case RecognitionFailed():
                return error("engine_failed", ENGINE_FAILED, turn=event.turn)
            case Acknowledged():
                return dump({"type": "acknowledged", "command": event.command, "at": event.at_s})

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
        if event.language is not None:
            message["language"] = event.language
    if isinstance(event, TurnCompleted) and event.words:
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


# Close code and reason for each end.
_GOODBYES: Final = {
    "finished": Goodbye(1000, "finished"),
    "going_away": Goodbye(1001, "going away"),
    "idle": Goodbye(1008, "idle"),
    "too_many_errors": Goodbye(1008, "too many errors"),
    "slow_reader": Goodbye(1008, "reads too slowly"),
    "failed": Goodbye(1011, "internal error", (error("internal", "the server failed; please reconnect"),)),
}


def refusal(refused: NotAdmittedError) -> Denial:
    """Write a refusal in the shape of all errors."""
    return Denial(refused.status, {"error": str(refused), "code": refused.code})


class Native:
    """The protocol as a `Dialect`: one connection's decoder and encoder."""

    path: ClassVar[str] = PATH
    message_bytes: ClassVar[int | None] = None

    def __init__(self) -> None:
        self._session = ""
        self._finished = False

    def open(self, request: Request, turns: TurnSettings, language: str | None) -> SessionOptions:
        """Read the options of the URL; unlike other dialects, this one refuses those it does not know."""
        try:
            options = parse_options(request.query, turns, language)
        except ProtocolError as wrong:
            raise NotAdmittedError(wrong.code, str(wrong)) from None
        self._session = request.session
        self._events = options.events
        terms = request.terms if options.terms is None else options.terms
        recognition = RecognitionOptions(options.language, terms, words=options.words, engine=options.engine)
        self._decoder = Decoder(options.format, Controls(options.turns, recognition, request, parse_options))
        self._encoder = Encoder(options)
        return SessionOptions(options.turns, recognition, tick_s=_HEARD_S if options.heard else None)

    def refuse(self, error: NotAdmittedError) -> Denial:
        """Say it in the shape of all errors."""
        return refusal(error)

    def decode(self, frame: Frame) -> Iterable[Command]:
        """Read one frame: one command."""
        try:
            command = self._decoder.text(frame) if isinstance(frame, str) else self._decoder.binary(frame)
        except ProtocolError as wrong:
            return (Malformed(wrong.code, str(wrong)),)
        if self._finished and isinstance(command, Audio):
            return (Malformed("finished", "audio after finish is not heard"),)
        self._finished = self._finished or isinstance(command, Finish)
        return (command,)

    def encode(self, item: Event | Notice) -> Iterable[Frame]:
        """Write one message, or none."""
        match item:
            case Opened():
                return (dump({"type": "session_started", "session": self._session}),) if self._events else ()
            case Malformed():
                return (error(item.code, item.message),)
            case Ending(how=("idle" | "too_many_errors") as code, message=message):
                return (error(code, message),)
            case Tick():
                return (dump({"type": "heard", "at": round(item.at_s, 3), "speech": round(item.speech, 2)}),)
            case (
                TurnStarted()
                | TranscriptChanged()
                | TurnPaused()
                | TurnResumed()
                | TurnCompleted()
                | RecognitionFailed()
                | Acknowledged()
            ):
                message = self._encoder.encode(item)
                return () if message is None else (message,)
            case _:
                return ()

    def ended(self, end: End) -> Goodbye:
        """Close with the code that `docs/protocol.md` gives."""
        return _GOODBYES[end.how]
