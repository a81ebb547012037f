"""OpenAI's Realtime API for transcriptions, `WS /v1/realtime`: in its current shape, and in the beta's.

An *item* is a turn, or what the client committed. One id goes through all that is said of it:

    speech_started, delta*, speech_stopped, committed, delta*, completed       turn detection on
                    delta*,                 committed, delta*, completed       the client commits

A commit is a flush of the session, and has exactly one item: that of the turn that it ended, or one without words.
Where the client alone commits, it is told of it before the text is there, unless an earlier item is not committed yet:
items are committed, and completed, in the order of the stream.

What turn detection there is changes where the session obeys (`Obeyed`), not where the client's message is read: there
may be a backlog between. A turn that runs when it is switched on is detected from there on; one that runs when it is
switched off goes on until the client commits it.

An `error` is for what a client got wrong: LiveKit gives up for good at any, but connects again at a close.
"""

import secrets
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from stt.control import Clear, Configure, Control, Flush
from stt.events import Acknowledged, Event, RecognitionFailed, TranscriptChanged, TurnCompleted, TurnStarted
from stt.server.deltas import Deltas
from stt.server.dialect import (
    Answer,
    Command,
    Denial,
    Encoded,
    End,
    Ending,
    Frame,
    Goodbye,
    Malformed,
    NotAdmittedError,
    Notice,
    Obeyed,
    Opened,
    Request,
    SessionOptions,
)
from stt.server.dialects.openai import error, refusal
from stt.server.dialects.openai_session import SessionConfig
from stt.server.dialects.reading import UnreadableError, base64_bytes, dump, json_object, known_language, shown
from stt.settings import TurnSettings

PATH: Final = "/v1/realtime"
_MESSAGE_BYTES: Final = 16 << 20  # an append may hold 15 MiB of base64
_UPDATE_CHARS: Final = 1 << 16  # of a session: it is kept, and written back
_FEWEST_S: Final = 0.1  # of audio in a commit
_TRANSCRIPTION: Final = "conversation.item.input_audio_transcription"


@dataclass(slots=True, eq=False)
class _Item:
    """A turn, or what the client commits, on its way to the client."""

    id: str = field(default_factory=lambda: _new("item"))
    start_s: float = 0.0
    detected: bool = False
    """The client was told that it started."""
    committed: bool = False
    deltas: Deltas = field(default_factory=Deltas)
    failed: bool = False
    """The engine, on a part of it."""


@dataclass(frozen=True, slots=True)
class _Wrong:
    """An error of meaning: the session is none the worse for it."""

    error: dict[str, Any]


class OpenAIRealtime:
    """One connection."""

    path: ClassVar[str] = PATH
    message_bytes: ClassVar[int | None] = _MESSAGE_BYTES

    def __init__(self) -> None:
        self._name = ""
        self._items: dict[int, _Item] = {}  # by turn; one may start before another is completed
        self._previous: str | None = None  # the item last committed
        self._updates: deque[tuple[str, SessionConfig]] = deque()  # with the client's word for it; not yet obeyed
        self._flushes: deque[_Item] = deque()  # obeyed and not acknowledged: what each has if it ended no detected turn
        self._by_flush = False  # the oldest flush that is not acknowledged has ended a turn
        self._open = _Item()  # what the client has not committed, where it alone commits
        self._rest = b""  # of a sample that is not whole
        self._buffered_s = 0.0  # appended since the last commit or clear
        self._beta = False

    def open(self, request: Request, turns: TurnSettings, language: str | None) -> SessionOptions:
        """Begin as a new session does; all else comes with `session.update`."""
        self._name = f"sess_{request.session}"
        offered = request.headers.get("sec-websocket-protocol", "")
        self._beta = "realtime=v1" in request.headers.get("openai-beta", "") or "openai-beta.realtime-v1" in offered
        self._turns, self._language, self._request = turns, language, request
        self._config = self._obeyed = SessionConfig.new(dict(request.query).get("model"))
        return SessionOptions(self._config.turns(turns), self._config.recognition(language, request), obeyed=True)

    def refuse(self, error: NotAdmittedError) -> Denial:
        """Say it in the shape of all errors."""
        return refusal(error)

    def decode(self, frame: Frame) -> Iterable[Command]:
        """Read one event."""
        event_id = None
        try:
            if isinstance(frame, bytes):
                msg = f"expected a text message, got a binary one of {len(frame)} bytes"
                raise UnreadableError(msg)  # noqa: TRY301 - handled like any other
            event = json_object(frame)
            event_id = event.get("event_id") if isinstance(event.get("event_id"), str) else None
            if "session" in event and len(frame) > _UPDATE_CHARS:
                msg = f"expected a session of at most {_UPDATE_CHARS} characters, got {len(frame)}"
                raise UnreadableError(msg, "session")  # noqa: TRY301 - the same
            return self._obey(event, event_id)
        except UnreadableError as wrong:
            return (Malformed("invalid_value", str(wrong), details=(wrong.option, event_id)),)

    def _obey(self, event: dict[str, Any], event_id: str | None) -> Iterable[Command]:
        match event.get("type"):
            case "input_audio_buffer.append":
                return self._append(event.get("audio"))
            case "input_audio_buffer.commit":
                empty, self._buffered_s = self._buffered_s < _FEWEST_S, 0.0
                if empty:
                    text = f"the buffer holds less than {round(_FEWEST_S * 1000)} ms of audio: nothing to commit"
                    return (Answer(_Wrong(error(text, "input_audio_buffer_commit_empty") | {"event_id": event_id})),)
                return (Flush(),)
            case "input_audio_buffer.clear":
                self._buffered_s, self._rest = 0.0, b""
                return (Clear(),)
            case ("session.update" | "transcription_session.update") as kind:
                return self._update(kind, event.get("session"))
            case kind:
                msg = f"type must be one of session.update, input_audio_buffer.append and the like, got {shown(kind)}"
                raise UnreadableError(msg, "type")

    def _append(self, audio: Any) -> Iterable[Command]:
        if not isinstance(audio, str):
            msg = f"audio must be a string of base64, got {shown(audio)}"
            raise UnreadableError(msg, "audio")
        try:
            data = base64_bytes(audio)
        except ValueError:
            msg = f"audio is not base64: {shown(audio)}"
            raise UnreadableError(msg, "audio") from None
        codec = self._config.codec
        size = 2 if codec.encoding == "linear16" else 1
        self._buffered_s += len(data) / codec.rate / size
        data = self._rest + data
        whole = len(data) // size * size
        self._rest = data[whole:]
        return (Encoded(data[:whole], codec),)

    def _update(self, kind: str, session: Any) -> Iterable[Command]:
        config = self._config.updated(session)
        turns, options = config.turns(self._turns), config.recognition(self._language, self._request)
        languages = self._request.known(options.engine)
        known_language(options.language or "", languages, "session.audio.input.transcription.language")
        if config.codec != self._config.codec:
            self._rest = b""
        self._config = config
        self._updates.append((kind, config))
        return (Configure(turns, options),)

    def encode(self, item: Event | Notice) -> Iterable[Frame]:
        """Write what this client is to hear of it."""
        match item:
            case Opened():
                yield _event("session.created", session=self._obeyed.shown(self._name, beta=self._beta))
            case Answer(content=_Wrong(wrong)):
                yield _event("error", error=wrong)
            case Malformed(details=(option, event_id)):
                yield _event("error", error=error(item.message, item.code, option) | {"event_id": event_id})
            case Malformed() | Ending(how="too_many_errors"):
                code = item.code if isinstance(item, Malformed) else item.how
                yield _event("error", error=error(item.message, code) | {"event_id": None})
            case Obeyed(control):
                yield from self._obey_now(control)
            case TurnStarted():
                self._items[item.turn] = started = self._open if self._obeyed.vad is None else _Item()
                started.start_s = item.start_s
                if self._obeyed.vad is not None:
                    yield self._started(started)
            case TranscriptChanged():
                yield from self._delta(self._items[item.turn], item.text[: item.stable_chars])
            case RecognitionFailed():
                self._items[item.turn].failed = True
            case TurnCompleted():
                yield from self._complete(self._items.pop(item.turn), item)
            case Acknowledged("flush"):
                committed = self._flushes.popleft()
                if not self._by_flush:
                    yield from self._commit(committed)
                    yield self._completed(committed, "", 0.0)
                self._by_flush = False
            case Acknowledged("clear"):
                yield _event("input_audio_buffer.cleared")
            case _:
                pass

    def _obey_now(self, control: Control) -> Iterable[Frame]:
        match control:
            case Configure():
                kind, self._obeyed = self._updates.popleft()
                if self._obeyed.vad is not None and self._open in self._items.values():
                    yield self._started(self._open)
                    self._open = _Item()
                session = self._obeyed.shown(self._name, beta=kind == "transcription_session.update")
                yield _event(f"{kind}d", session=session)
            case Clear():
                self._open = _Item()
            case Flush():
                item, self._open = self._open, _Item()
                told = self._by_flush and not self._flushes  # all of it: the text was there already
                detected = any(item.detected for item in self._items.values())
                if self._obeyed.vad is None and not (told or detected) and all(one.committed for one in self._flushes):
                    yield from self._commit(item)
                self._flushes.append(item)

    def _complete(self, item: _Item, event: TurnCompleted) -> Iterable[Frame]:
        if event.why == "asked":
            self._by_flush = True
        if item.detected:
            yield _event("input_audio_buffer.speech_stopped", audio_end_ms=_ms(event.decided_s), item_id=item.id)
        elif event.why == "cleared":
            return  # nobody has heard of it, but for words that are taken back
        yield from self._conclude(item, event)

    def _conclude(self, item: _Item, event: TurnCompleted) -> Iterable[Frame]:
        yield from self._commit(item)
        yield from self._delta(item, event.text)
        if item.failed:
            failed = error("the engine failed on a part of this audio", "engine_failed", server=True)
            yield _event(f"{_TRANSCRIPTION}.failed", item_id=item.id, content_index=0, error=failed)
        else:
            yield self._completed(item, event.text, event.end_s - event.start_s, event.language)

    def _started(self, item: _Item) -> Frame:
        item.detected = True
        at_s = max(0.0, item.start_s - self._obeyed.padding_s)
        return _event("input_audio_buffer.speech_started", audio_start_ms=_ms(at_s), item_id=item.id)

    def _commit(self, item: _Item) -> Iterable[Frame]:
        if not item.committed:
            item.committed = True
            yield _event("input_audio_buffer.committed", previous_item_id=self._previous, item_id=item.id)
            self._previous = item.id

    def _delta(self, item: _Item, text: str) -> Iterable[Frame]:
        if new := item.deltas.extend(text):
            yield _event(f"{_TRANSCRIPTION}.delta", item_id=item.id, content_index=0, delta=new)

    @staticmethod
    def _completed(item: _Item, text: str, duration_s: float, language: str | None = None) -> Frame:
        usage = {"type": "duration", "seconds": round(duration_s, 3)}
        found = {} if language is None else {"languages": [{"code": language}]}
        kind = f"{_TRANSCRIPTION}.completed"
        return _event(kind, item_id=item.id, content_index=0, transcript=text, usage=usage, **found)

    def ended(self, end: End) -> Goodbye:
        """Close."""
        return Goodbye(end.code, end.how.replace("_", " "))


def _event(kind: str, **fields: Any) -> str:
    return dump({"type": kind, "event_id": _new("event"), **fields})


def _new(what: str) -> str:
    return f"{what}_{secrets.token_hex(10)}"


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
