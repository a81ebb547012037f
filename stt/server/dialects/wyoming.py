"""Wyoming, the protocol of Home Assistant's voice assistants, over TCP. Pure.

An event is a line of JSON, `{"type", "data", "data_length", "payload_length"}`, then as many bytes of JSON (merged over
`data`), then as many bytes of payload. An *utterance* is everything between two events of the client:

    idle --audio-start--> hearing --audio-stop--> idle        the answer follows: transcript-start, transcript-chunk*
                                                              (perhaps while it hears), transcript, transcript-stop

A connection may have any number of utterances, one after the other; they are one session, in which `audio-stop` is a
flush. No silence ends an utterance, unless the server was told to find its end: then the answer may come while audio
does, the rest of which is dropped.
"""

import json
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final, NamedTuple

from stt.control import Clear, Configure, Flush
from stt.events import Acknowledged, Event, RecognitionFailed, TranscriptChanged, TurnCompleted
from stt.recognition import RecognitionOptions
from stt.server.deltas import Deltas
from stt.server.dialect import (
    Answer,
    Codec,
    Command,
    Denial,
    Encoded,
    End,
    Finish,
    Frame,
    Goodbye,
    Malformed,
    NotAdmittedError,
    Notice,
    Request,
    SessionOptions,
)
from stt.server.dialects.reading import UnreadableError, json_object, known_language, number, shown, texts
from stt.settings import TurnSettings
from stt.terms import usable
from stt.words import joined

MOST_BYTES: Final = 1 << 20
"""Of each part of an event: its line, its data, its payload."""
_WIDTHS: Final = {2: "linear16", 4: "linear32"}  # bytes of a sample
_SIZES: Final = {encoding: width for width, encoding in _WIDTHS.items()}
_MOST_CHANNELS: Final = 8
# How much of the server's own silence ends an utterance, where the server is to find its end.
_SENSITIVITIES: Final = {"relaxed": 1.5, "default": 1.0, "aggressive": 0.5}
_ENDS_S: Final = 0.8  # where the server has no silence of its own
_URL: Final = "https://pypi.org/project/stt-live/"


@dataclass(frozen=True, slots=True)
class Message:
    """An event on the wire, in either direction."""

    type: str
    data: Mapping[str, Any]
    payload: bytes = b""


class Head(NamedTuple):
    """The line of an event, and how many bytes follow it."""

    type: str
    data: dict[str, Any]
    data_size: int
    payload_size: int


def head(line: bytes) -> Head:
    """Read the line of an event.

    Raises:
        UnreadableError: it is none, or announces too much.

    """
    if len(line) > MOST_BYTES:
        msg = f"the line of an event may have {MOST_BYTES} bytes, got more; longer data has a length of its own"
        raise UnreadableError(msg)
    given = json_object(line.decode("utf-8", "replace"))
    kind, data = given.get("type"), given.get("data") or {}
    if not isinstance(kind, str) or not isinstance(data, dict):
        msg = f"expected a type and an object of data, got {shown(line.decode('utf-8', 'replace'))}"
        raise UnreadableError(msg)
    sizes = []
    for name in ("data_length", "payload_length"):
        size = 0 if given.get(name) is None else given[name]
        if type(size) is not int or not 0 <= size <= MOST_BYTES:
            msg = f"{name} must be a whole number from 0 to {MOST_BYTES}, got {shown(size)}"
            raise UnreadableError(msg)
        sizes.append(size)
    return Head(kind, data, *sizes)


def read(event: bytes) -> Message:
    """Read a whole event: line, data, payload.

    Raises:
        UnreadableError: it is none.

    """
    line, _, rest = event.partition(b"\n")
    kind, data, size, payload_size = head(line)
    if len(rest) != size + payload_size:
        msg = f"expected {size} bytes of data and {payload_size} of payload, got {len(rest)}"
        raise UnreadableError(msg)
    if size:
        data |= json_object(rest[:size].decode("utf-8", "replace"))
    return Message(kind, data, rest[size:])


def write(kind: str, data: Mapping[str, Any] | None = None) -> bytes:
    """Write an event without a payload. Data has a length of its own: clients read lines of 64 KiB at most."""
    line: dict[str, Any] = {"type": kind}
    body = json.dumps(data).encode() if data else b""
    if body:
        line["data_length"] = len(body)
    return json.dumps(line).encode() + b"\n" + body


def error(text: str, code: str) -> bytes:
    """Write what for the client means: this utterance is lost."""
    return write("error", {"text": text, "code": code})


def info(
    engine: str | None,
    languages: Iterable[str],
    version: str | None,
    *,
    ends_turns: bool,
    named: Mapping[str, tuple[str, Iterable[str]]] | None = None,
) -> dict[str, Any]:
    """Describe the server, which is one program with one model, and with those that can be asked for by name.

    Args:
        engine: what it runs; `None`: it loads.
        languages: ISO 639-1 codes that users may pick from. Home Assistant makes nothing of a model without any.
        version: of this program, where that is known.
        ends_turns: the server finds out where an utterance ends.
        named: by the name that a client may give in `transcribe`, what each engine is, and its languages.

    """
    about = {
        "version": version,
        "installed": True,
        "attribution": {"name": "stt", "url": _URL},
    }
    models = {(engine or "default").partition(" (")[0]: (engine or "an engine that loads", languages), **(named or {})}
    program = {
        "name": "stt",
        "description": "Live speech-to-text you run yourself",
        **about,
        "models": [
            {"name": name, "description": what, "languages": sorted(known), **about}
            for name, (what, known) in models.items()
        ],
        "supports_transcript_streaming": True,
        "requires_external_vad": not ends_turns,
        "prefers_auto_gain_enabled": False,
        "prefers_noise_reduction_enabled": False,
    }
    return {"asr": [program], "tts": [], "handle": [], "intent": [], "wake": [], "mic": [], "snd": []}


def reply(message: Message, describe: Callable[[], Mapping[str, Any]]) -> bytes | None:
    """Answer what needs no session; `None`: there is no answer."""
    match message.type:
        case "describe":
            return write("info", describe())
        case "ping":
            return write("pong", {"text": message.data["text"]} if "text" in message.data else None)
        case _:
            return None


@dataclass(slots=True, eq=False)
class _Utterance:
    """What both directions know of one. Its audio may still come in when its answer is out, and the other way round."""

    language: str | None
    refusal: str | None = None
    """Why it gets no text."""
    answered: bool = False
    said: list[str] = field(default_factory=list)
    """Texts of its completed turns."""
    deltas: Deltas = field(default_factory=Deltas)

    def text(self, more: str = "") -> str:
        return joined([*self.said, more])


class Wyoming:
    """One connection, from its first audio on. A frame is a whole event; an empty one means that no more will come.

    Args:
        describe: makes the data of `info`.
        ends_turns: the server finds out where an utterance ends.

    """

    path: ClassVar[str] = "wyoming"
    message_bytes: ClassVar[int | None] = None

    def __init__(self, describe: Callable[[], Mapping[str, Any]], *, ends_turns: bool = False) -> None:
        self._describe = describe
        self._ends_turns = ends_turns
        self._codec = Codec("linear16")
        self._rest = b""  # of a sample that is not whole
        self._refusal: str | None = None  # of the next utterance, which was asked for in vain
        self._incoming: _Utterance | None = None  # whose audio comes in
        self._begun: deque[_Utterance] = deque()  # whose texts come next
        self._outgoing: _Utterance | None = None  # whose texts go out
        self._over = False  # the last word was said

    def open(self, request: Request, turns: TurnSettings, language: str | None) -> SessionOptions:
        """Begin as a connection does that asks for nothing."""
        self._turns, self._language, self._request = turns, language, request
        self._recognition = RecognitionOptions(language, request.terms)
        return SessionOptions(self._settings("default"), self._recognition)

    def _settings(self, sensitivity: str) -> TurnSettings:
        interim_s = self._turns.interim_s or 0.5
        if not self._ends_turns:
            return replace(self._turns, end_of_turn_s=None, interim_s=interim_s)
        end_s = min(max(0.05, (self._turns.end_of_turn_s or _ENDS_S) * _SENSITIVITIES[sensitivity]), 60.0)
        return replace(self._turns, end_of_turn_s=end_s, pause_s=min(self._turns.pause_s, end_s), interim_s=interim_s)

    def refuse(self, error: NotAdmittedError) -> Denial:
        """Say that there is no session; over TCP it is sent as an `error`."""
        return Denial(error.status, {"text": str(error), "code": error.code})

    def decode(self, frame: Frame) -> Iterable[Command]:
        """Read one event; what is none ends the connection, as nobody knows where the next one begins."""
        if not frame:
            return (Finish(),)
        try:
            message = read(frame if isinstance(frame, bytes) else frame.encode())
        except UnreadableError as wrong:
            return (Malformed("bad_event", str(wrong), fatal=True),)
        match message.type:
            case "transcribe":
                return self._transcribe(message.data)
            case "audio-start":
                return (*self._begin(), *self._audio(message))
            case "audio-chunk":
                return (*(() if self._incoming else self._begin()), *self._audio(message))
            case "audio-stop":
                begun = () if self._incoming else self._begin()  # also one of which nothing came is answered
                self._incoming = self._refusal = None
                return (*begun, Flush())
        answer = reply(message, self._describe)
        return (Answer(answer),) if answer is not None else ()

    def _transcribe(self, data: Mapping[str, Any]) -> Iterable[Command]:
        self._refusal = None
        language, asked, sensitivity = self._language, data.get("language"), data.get("vad_sensitivity")
        engine = self._request.engine(data.get("name"))
        try:
            if asked is not None or engine is not None:
                language = known_language(
                    language or "" if asked is None else asked, self._request.known(engine), "language"
                )
            names = (*texts(data.get("transcript_names"), "transcript_names"),)
            more = texts(data.get("transcript_terms"), "transcript_terms")
        except UnreadableError as wrong:
            self._refusal = str(wrong)
            return ()
        self._recognition = RecognitionOptions(language, usable((*names, *more)) or self._request.terms, engine=engine)
        known = sensitivity if isinstance(sensitivity, str) and sensitivity in _SENSITIVITIES else "default"
        return (Configure(self._settings(known), self._recognition),)

    def _begin(self) -> Iterable[Command]:
        before = self._incoming
        if before is not None and not before.answered:
            return ()  # it goes on
        self._incoming, self._rest = _Utterance(self._recognition.language, self._refusal), b""
        self._begun.append(self._incoming)
        # Nobody told the end of the one that was answered. What lies between two utterances belongs to neither, and
        # that it is forgotten is acknowledged in the order of the texts.
        return (Flush(), Clear()) if before is not None else (Clear(),)

    def _audio(self, message: Message) -> Iterable[Command]:
        """Read how audio is laid out, and what there is of it; nobody wants that of an answered utterance."""
        utterance = self._incoming
        if utterance is None or utterance.answered or utterance.refusal is not None:
            return ()
        try:
            codec = _codec(message.data, self._codec)
        except UnreadableError as wrong:
            utterance.refusal = str(wrong)
            return ()
        if codec != self._codec:
            self._codec, self._rest = codec, b""
        data = self._rest + message.payload
        whole = len(data) // (size := codec.channels * _SIZES[codec.encoding]) * size
        self._rest = data[whole:]
        return (Encoded(data[:whole], codec),)

    def encode(self, item: Event | Notice) -> Iterable[Frame]:
        """Write what the client is to hear of it."""
        now = self._outgoing
        match item:
            case _ if self._over:
                pass
            case Answer(content=bytes() as answer):
                yield answer
            case Malformed():
                self._over = True
                yield error(item.message, item.code)
            case Acknowledged("clear"):
                self._outgoing = self._begun.popleft()
            case _ if now is None or now.answered:
                pass
            case TranscriptChanged():
                yield from self._chunks(now, now.text(item.text[: item.stable_chars]))
            case RecognitionFailed() if not now.said:
                now.refusal = "the engine failed on this audio"
            case TurnCompleted(text=text, why=why) if text:
                now.said.append(text)
                if self._ends_turns and why in ("silence", "meaning"):
                    yield from self._answer(now)
            case Acknowledged("flush"):
                yield from self._answer(now)
            case _:
                pass

    def _answer(self, now: _Utterance) -> Iterable[Frame]:
        """Give an utterance its text; an error only where there is none for a reason."""
        now.answered = True
        text = now.text()
        if now.refusal is not None and not text:
            yield error(now.refusal, "refused")
            return
        yield from self._chunks(now, text)
        yield write("transcript", {"text": text, **_spoken(now)})
        yield write("transcript-stop")

    @staticmethod
    def _chunks(now: _Utterance, text: str) -> Iterable[Frame]:
        begins = not now.deltas.sent
        if new := now.deltas.extend(text):
            if begins:
                yield write("transcript-start", _spoken(now))
            yield write("transcript-chunk", {"text": new})

    def ended(self, end: End) -> Goodbye:
        """Close; an utterance that runs gets what was heard of it, or an error."""
        now, frames = self._outgoing, []
        if now is not None and not now.answered and not self._over:
            if end.how == "failed" or not now.said:
                now.said, now.refusal = [], now.refusal or _REASONS.get(end.how, end.how.replace("_", " "))
            frames = list(self._answer(now))
        return Goodbye(end.code, "", tuple(frames))


def _spoken(utterance: _Utterance) -> dict[str, str]:
    return {} if utterance.language is None else {"language": utterance.language}


_REASONS: Final = {
    "going_away": "the server is shutting down; please try again in a moment",
    "idle": "no audio came for too long",
    "failed": "the server failed; please try again",
}


def _codec(data: Mapping[str, Any], now: Codec) -> Codec:
    """Read how samples are laid out; what is not said stays."""
    width = data.get("width")
    if width is not None and (type(width) is not int or width not in _WIDTHS):
        msg = f"width must be {' or '.join(map(str, _WIDTHS))} bytes, got {shown(width)}"
        raise UnreadableError(msg)
    return Codec(
        now.encoding if width is None else _WIDTHS[width],  # type: ignore[arg-type]
        round(number(data["rate"], "rate", 8_000, 48_000)) if data.get("rate") is not None else now.rate,
        round(number(data["channels"], "channels", 1, _MOST_CHANNELS))
        if data.get("channels") is not None
        else now.channels,
    )
