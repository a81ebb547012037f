"""Deepgram's live API, `WS /v1/listen`: audio in, `Results` out, span by span (`deepgram_spans.py`). Pure."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Final

from stt.control import Configure, Flush
from stt.errors import SettingsError
from stt.events import Event, RecognitionFailed
from stt.recognition import RecognitionOptions
from stt.server.dialect import (
    Answer,
    Codec,
    Command,
    Denial,
    Encoded,
    End,
    Ending,
    Finish,
    Frame,
    Goodbye,
    Malformed,
    NotAdmittedError,
    Notice,
    Obeyed,
    OfChannel,
    Opened,
    Request,
    SessionOptions,
)
from stt.server.dialects.deepgram import (
    MESSAGE_BYTES,
    MODEL,
    MODEL_UUID,
    codec,
    configured_terms,
    flag,
    goodbye,
    keyterms,
    language_of,
    options,
    raw_format,
    refusal,
)
from stt.server.dialects.deepgram_spans import Spans, Wishes
from stt.server.dialects.reading import UnreadableError, dump, json_object, number, shown
from stt.settings import TurnSettings

PATH: Final = "/v1/listen"
# Clients ask for 10 or 25 ms, which would cut between words, and flush 200 ms after speech: that shall come first.
_SHORTEST_SILENCE_S: Final = 0.3
_LONGEST_SILENCE_S: Final = 60.0
# Where a turn goes on and on: the engine hears no more than this at once, so its words are final before its end.
_WINDOW_S: Final = 8.0
_TICK_S: Final = 0.1
_PIECE_BYTES: Final = 256 << 10  # of a message, which may be a file


class DeepgramLive:
    """One connection."""

    path: ClassVar[str] = PATH
    message_bytes: ClassVar[int | None] = MESSAGE_BYTES

    def __init__(self) -> None:
        self._id = ""
        self._created = ""
        self._codec = Codec("container")
        self._recognition = RecognitionOptions(words=True)
        self._channels: list[Spans] = []
        self._heard = hashlib.sha256()

    def open(self, request: Request, turns: TurnSettings, language: str | None) -> SessionOptions:
        """Read the query; options that are not known do not count."""
        self._id, self._created = request.session, request.at.isoformat().replace("+00:00", "Z")
        given = options(request.query)
        try:
            rate, count = raw_format(given)
            for name in ("punctuate", "smart_format"):  # both always are
                flag(given, name)
            apart = flag(given, "multichannel")
            wishes = Wishes(
                flag(given, "interim_results"),
                given.get("endpointing", "").lower() != "false",
                flag(given, "vad_events"),
                _milliseconds(given, "utterance_end_ms", 1_000),
            )
            settings = _turns(given, wishes, turns)
            named, engine = keyterms(request.query) or request.terms, request.engine(given.get("model"))
            self._recognition = RecognitionOptions(language_of(given, language), named, words=True, engine=engine)
        except (UnreadableError, SettingsError) as wrong:
            raise NotAdmittedError("bad_option", str(wrong), option=getattr(wrong, "option", None)) from None
        self._codec = codec(given.get("encoding", ""), rate, count)
        if apart and count > 1 and self._codec.encoding == "container":
            text = "multichannel needs raw audio here: an encoding such as linear16, with sample_rate and channels"
            raise NotAdmittedError("bad_option", text, option="multichannel")
        count = count if apart else 1
        metadata = {"request_id": self._id, "model_info": MODEL, "model_uuid": MODEL_UUID}
        self._channels = [Spans((number, count), wishes, metadata) for number in range(count)]
        tick_s = _TICK_S if wishes.utterance_end_s is not None else None
        return SessionOptions(settings, self._recognition, (("dg-request-id", self._id),), tick_s, count)

    def refuse(self, error: NotAdmittedError) -> Denial:
        """Say no before there is a session."""
        return refusal(error, self._id)

    def decode(self, frame: Frame) -> Iterable[Command]:
        """Read a frame; an empty one is how old clients end a stream."""
        if isinstance(frame, bytes):
            return self._audio(frame) if frame else [Finish()]
        try:
            message = json_object(frame)
            match message.get("type"):
                case "KeepAlive":
                    return []
                case "Finalize":
                    return [self._finalize(message)]
                case "CloseStream":
                    return [Finish()]
                case "Configure":
                    return self._configure(message)
                case kind:
                    text = f"type must be KeepAlive, Finalize, CloseStream or Configure, got {shown(kind)}"
        except UnreadableError as wrong:
            text = str(wrong)
        return [Malformed("bad_message", text, details=shown(frame))]

    def _audio(self, frame: bytes) -> Iterator[Command]:
        """Hand out a whole file in pieces, and hash each as there is room for it: at once would hold everybody up."""
        size = _PIECE_BYTES if self._codec.encoding != "opus" else len(frame)  # a packet is one
        for at in range(0, len(frame), size):
            piece = frame[at : at + size]
            self._heard.update(piece)
            yield Encoded(piece, self._codec)

    def _finalize(self, message: Mapping[str, Any]) -> Command:
        channel = message.get("channel")
        if channel is None:
            return Flush()
        wanted = channel[0] if isinstance(channel, list) and channel else channel  # as `channel_index` has it
        if not isinstance(wanted, int) or isinstance(wanted, bool) or not 0 <= wanted < len(self._channels):
            raise UnreadableError(f"channel must be a number below {len(self._channels)}, got {shown(channel)}")
        return Flush() if len(self._channels) == 1 else OfChannel(wanted, Flush())

    def _configure(self, message: Mapping[str, Any]) -> Iterable[Command]:
        answer: dict[str, Any] = {"type": "ConfigureSuccess", "request_id": self._id}
        try:
            _check_features(message.get("features"))
            new = configured_terms(message)
        except UnreadableError as wrong:
            failure = {"code": "INVALID_CONFIGURATION", "description": str(wrong)}
            return [Answer({**answer, "type": "ConfigureFailure", **failure})]
        if new is None:
            return [Answer(answer)]
        self._recognition = replace(self._recognition, terms=new)
        return [Configure(options=self._recognition), Answer({**answer, "keyterms": list(new)})]

    def encode(self, item: Event | Notice) -> Iterable[Frame]:
        """Write what an item is for this client."""
        match item:
            case Answer(content):
                yield dump(content)
            case Malformed(code, message, _, details):
                variant = "SchemaError" if code != "bad_audio" else "DATA-0000"
                wrong = {"type": "Error", "variant": variant, "description": message}
                yield dump(wrong if details is None else {**wrong, "message": details})
            case OfChannel(channel, told):
                yield from map(dump, self._channels[channel].tell(told))  # type: ignore[arg-type]
            case Opened() | Obeyed() | Ending() | RecognitionFailed():
                pass
            case _:
                yield from map(dump, self._channels[0].tell(item))

    def ended(self, end: End) -> Goodbye:
        """Say what was received, unless it failed, and close."""
        if end.how == "failed":
            wrong = {"type": "Error", "variant": "INTERNAL_SERVER_ERROR", "description": "the server failed"}
            return goodbye(end, dump(wrong))
        if end.how == "bad_message":
            return Goodbye(1008, "DATA-0000: the audio cannot be decoded")
        metadata = {
            "type": "Metadata",
            "transaction_key": "deprecated",
            "request_id": self._id,
            "sha256": self._heard.hexdigest(),
            "created": self._created,
            "duration": round(end.audio_s, 3),
            "channels": len(self._channels),
        }
        return goodbye(end, dump(metadata))


def _check_features(given: Any) -> None:
    """See whether they could be those of a `Configure`; there are none here that could change.

    Raises:
        UnreadableError: they are no names with true or false.

    """
    if given is not None and not (isinstance(given, dict) and all(isinstance(on, bool) for on in given.values())):
        raise UnreadableError(f"features must be an object of true and false, got {shown(given)}")


def _milliseconds(given: Mapping[str, str], name: str, least: int) -> float | None:
    """Read a time in milliseconds as seconds; `None` where it is missing or `false`.

    Raises:
        UnreadableError: it is neither, or out of bounds.

    """
    value = given.get(name, "false")
    if value.lower() == "false":
        return None
    return number(value, name, least, _LONGEST_SILENCE_S * 1000) / 1000


def _turns(given: Mapping[str, str], wishes: Wishes, turns: TurnSettings) -> TurnSettings:
    """Return turns that end where a final is wanted: at a pause of the length asked for, else where the server's do."""
    asked = given.get("endpointing", "true")
    asked_s = 0.0 if asked.lower() == "true" else _milliseconds(given, "endpointing", 0)
    silence_s = None if asked_s is None else max(_SHORTEST_SILENCE_S, asked_s)
    if wishes.utterance_end_s is not None:  # it comes after the final
        silence_s = min(silence_s or turns.end_of_turn_s or _LONGEST_SILENCE_S, wishes.utterance_end_s)
    window_s = min(turns.window_s, _WINDOW_S)
    turns = replace(
        turns,
        interim_s=(turns.interim_s or 0.5) if wishes.interims else None,
        window_s=window_s,
        overlap_s=min(turns.overlap_s, window_s / 3),
    )
    return (turns if silence_s is None else turns.after_silence(silence_s)).before_flushes()
