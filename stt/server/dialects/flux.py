"""Deepgram's Flux, `WS /v2/listen`: turns that the server ends, for voice agents. Pure.

    idle --StartOfTurn--> speaking --EagerEndOfTurn--> waiting --TurnResumed--> speaking
                          waiting --EndOfTurn(model)--> idle, turn_index + 1
                          speaking|waiting --EndOfTurn(manual|timeout)--> idle, turn_index + 1

A turn begins with its first words, so a cough is none. Where turns end by meaning, its thresholds are the policy's, and
the policy's probability is the confidence. Elsewhere a threshold stands for a silence, and a silence for a confidence
(`_CURVE`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

import numpy as np

from stt.control import Configure, Flush
from stt.errors import SettingsError
from stt.events import Event, RecognitionFailed, TranscriptChanged, TurnCompleted, TurnPaused, TurnResumed
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
    Tick,
)
from stt.server.dialects.deepgram import (
    MESSAGE_BYTES,
    codec,
    configured_terms,
    goodbye,
    keyterms,
    options,
    raw_format,
    refusal,
    written,
)
from stt.server.dialects.reading import UnreadableError, dump, json_object, number, shown
from stt.server.estimate import Speech
from stt.settings import TurnSettings

PATH: Final = "/v2/listen"
_UPDATE_S: Final = 0.25
_EAGER_S: Final = 0.2  # of silence
# Confidence that a turn is over, and the silence that gives it.
_CURVE: Final = ((0.0, 0.0), (0.5, 0.4), (0.7, 0.8), (0.9, 1.5), (1.0, 1.9))
_CONFIDENCES, _SILENCES = zip(*_CURVE, strict=True)
# Who wants to be surer waits longer before anything is decided: the delays of fast, medium and careful.
_DELAYS: Final = ((0.5, 0.7, 0.9), (0.38, 0.61, 0.8))


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When a turn is over, as a client says it."""

    eot_threshold: float = 0.7
    eager_eot_threshold: float | None = None
    eot_timeout_ms: int = 5000

    @property
    def model_s(self) -> float | None:
        """Silence that gives the confidence wanted; `None`: none does, or the time-out comes first."""
        silence_s = float(np.interp(self.eot_threshold, _CONFIDENCES, _SILENCES))
        return silence_s if self.eot_threshold < 1 and silence_s < self.eot_timeout_ms / 1000 else None

    def turns(self, turns: TurnSettings) -> TurnSettings:
        """Return settings with these turns, by meaning where this server's are."""
        timeout_s = self.eot_timeout_ms / 1000
        gap_s = self.model_s or timeout_s
        silent = replace(turns.after_silence(gap_s), pause_s=min(_EAGER_S, gap_s), interim_s=turns.interim_s or 0.5)
        if turns.end_of_turn == "silence" or self.eot_threshold == 1:
            return silent
        return replace(
            silent,
            end_of_turn=turns.end_of_turn,
            eot_threshold=self.eot_threshold,
            eot_delay_s=min(timeout_s, float(np.interp(self.eot_threshold, *_DELAYS))),
            eot_timeout_s=timeout_s,
            eager=self.eager_eot_threshold is not None,
        )


def thresholds(given: Mapping[str, Any], now: Thresholds) -> Thresholds:
    """Read those that are given over those there are.

    Raises:
        UnreadableError: a value cannot work, alone or beside the others.

    """
    if "eot_threshold" in given:
        now = replace(now, eot_threshold=number(given["eot_threshold"], "eot_threshold", 0.5, 1))
    if "eager_eot_threshold" in given:
        eager = given["eager_eot_threshold"]
        eager = None if eager is None else number(eager, "eager_eot_threshold", 0.3, 0.9)
        now = replace(now, eager_eot_threshold=eager)
    if "eot_timeout_ms" in given:
        now = replace(now, eot_timeout_ms=round(number(given["eot_timeout_ms"], "eot_timeout_ms", 500, 60_000)))
    if now.eager_eot_threshold is not None and now.eager_eot_threshold > now.eot_threshold:
        most, got = now.eot_threshold, now.eager_eot_threshold
        msg = f"eager_eot_threshold must not exceed eot_threshold ({most:g}), got {got:g}"
        raise UnreadableError(msg, "eager_eot_threshold")
    return now


class Flux:
    """One connection."""

    path: ClassVar[str] = PATH
    message_bytes: ClassVar[int | None] = MESSAGE_BYTES

    def __init__(self) -> None:
        self._id = ""
        self._sequence = 0
        self._thresholds = Thresholds()
        self._codec = Codec("container")
        self._turns = TurnSettings()
        self._recognition = RecognitionOptions(words=True)
        self._speech = Speech()
        self._index = 0
        self._window_end = 0.0
        self._quiet = True  # since the last tick
        self._by_meaning = False
        self._paused: TurnPaused | None = None  # with the newest probability that the speaker is done
        # of the turn whose texts are sent:
        self._shown: TranscriptChanged | None = None  # its last text; `None`: it has not begun
        self._eager: str | None = None  # what was sent early and still holds

    def open(self, request: Request, turns: TurnSettings, language: str | None) -> SessionOptions:
        """Read the query; options that are not known do not count."""
        self._id, self._turns = request.session, turns
        given = options(request.query)
        try:
            self._thresholds = thresholds(given, self._thresholds)
            rate, _ = raw_format({**given, "channels": "1"})
            settings = self._thresholds.turns(turns)
            self._by_meaning = settings.end_of_turn != "silence"
        except (UnreadableError, SettingsError) as wrong:
            raise NotAdmittedError("bad_option", str(wrong), option=getattr(wrong, "option", None)) from None
        self._codec = codec(given.get("encoding", ""), rate, 1)
        named, engine = keyterms(request.query) or request.terms, request.engine(given.get("model"))
        self._recognition = RecognitionOptions(language, named, words=True, engine=engine)
        headers = (("dg-request-id", self._id),)
        return SessionOptions(settings, self._recognition, headers, _UPDATE_S)

    def refuse(self, error: NotAdmittedError) -> Denial:
        """Say no before there is a session."""
        return refusal(error, self._id)

    def decode(self, frame: Frame) -> Iterable[Command]:
        """Read a frame."""
        if isinstance(frame, bytes):
            return [Encoded(frame, self._codec)]
        try:
            message = json_object(frame)
        except UnreadableError as wrong:
            return [Malformed("bad_json", str(wrong), fatal=True)]
        match message.get("type"):
            case "CloseStream":
                return [Finish()]
            case "ForceEndTurn":
                return [Flush()]
            case "Configure":
                return self._configure(message)
            case kind:
                text = f"type must be Configure, ForceEndTurn or CloseStream, got {shown(kind)}"
                return [Malformed("unknown_type", text, fatal=True)]

    def _configure(self, message: Mapping[str, Any]) -> Iterable[Command]:
        given = message.get("thresholds") or {}
        try:
            if not isinstance(given, dict):
                raise UnreadableError(f"thresholds must be an object, got {shown(given)}")  # noqa: TRY301
            new_terms = configured_terms(message)
            now = thresholds(given, self._thresholds)
            settings = now.turns(self._turns)
        except (UnreadableError, SettingsError) as wrong:
            code = "INVALID_CONFIGURATION"
            return [
                Answer({"type": "ConfigureFailure", "code": code, "error_code": code, "description": str(wrong)}),
            ]
        self._thresholds, self._by_meaning = now, settings.end_of_turn != "silence"
        if new_terms is not None:
            self._recognition = replace(self._recognition, terms=new_terms)
        as_now = {
            "eot_threshold": now.eot_threshold,
            "eager_eot_threshold": now.eager_eot_threshold,
            "eot_timeout_ms": now.eot_timeout_ms,
        }
        answer = {"type": "ConfigureSuccess", "thresholds": as_now, "keyterms": list(self._recognition.terms)}
        return [Configure(settings, self._recognition), Answer(answer)]

    def encode(self, item: Event | Notice) -> Iterable[Frame]:
        """Write what an item is for this client."""
        match item:
            case Opened():
                yield self._message({"type": "Connected"})
            case Answer(content):
                yield self._message(content)
            case Malformed(code, message, fatal):
                code = "UNPARSABLE_CLIENT_MESSAGE" if code != "bad_audio" else "DATA-0000"
                yield self._message({"type": "Error" if fatal else "Warning", "code": code, "description": message})
            case RecognitionFailed():
                text = "the engine failed on a part of this turn; its text may be incomplete"
                yield self._message({"type": "Warning", "code": "ENGINE_FAILED", "description": text})
            case Tick(at_s):
                self._window_end = max(self._window_end, at_s)
                if self._quiet and self._shown is not None:
                    yield self._turn("Update", self._shown)
                self._quiet = True
            case TranscriptChanged():
                self._speech.feed(item)
                yield from self._text(item)
            case TurnCompleted():
                yield from self._final(item)
                self._speech.feed(item)
            case Obeyed() | Ending() | OfChannel():
                pass
            case TurnPaused():
                self._speech.feed(item)
                self._paused = item
                if item.probability is not None and self._shown is not None and self._early(self._shown):
                    yield from self._eagerly(self._shown)
            case _:
                self._speech.feed(item)
                if isinstance(item, TurnResumed):
                    self._paused = None
                if isinstance(item, TurnResumed) and self._shown is not None and item.turn == self._shown.turn:
                    yield from self._resumed()

    def ended(self, end: End) -> Goodbye:
        """Close."""
        if end.how != "failed":
            return goodbye(end)
        wrong = {"type": "Error", "code": "INTERNAL_SERVER_ERROR", "description": "the server failed"}
        return goodbye(end, self._message(wrong))

    def _text(self, text: TranscriptChanged) -> Iterable[Frame]:
        if not text.text:
            return
        begins = self._shown is None
        if self._eager is not None and text.text != self._eager:
            yield from self._resumed()
        self._shown = text
        if begins:
            yield self._turn("StartOfTurn", text)
        if self._early(text):
            yield from self._eagerly(text)
        elif not begins:
            yield self._turn("Update", text)

    def _early(self, text: TranscriptChanged) -> bool:
        """Whether a text is sure enough to be told as an early end."""
        enough = self._thresholds.eager_eot_threshold
        if text.cause != "pause" or enough is None:
            return False
        if not self._by_meaning or self._eager is not None:
            return True
        paused = self._paused
        return (
            paused is not None
            and (paused.turn == text.turn and paused.end <= text.end)  # not the text of the pause before
            and (paused.probability or 0.0) >= enough
        )

    def _eagerly(self, text: TranscriptChanged) -> Iterable[Frame]:
        if self._eager is None:
            self._eager = text.text
            yield self._turn("EagerEndOfTurn", text)

    def _resumed(self) -> Iterable[Frame]:
        if self._eager is not None and self._shown is not None:
            self._eager = None
            yield self._turn("TurnResumed", self._shown)

    def _final(self, final: TurnCompleted) -> Iterable[Frame]:
        # Who was told that somebody speaks waits for the end, and clients overlook one without words.
        text = final if final.text or self._shown is None else self._shown
        if not text.text:
            return
        silence_s = max(0.0, final.decided_s - final.end_s)
        trigger = "manual"
        if final.why in ("meaning", "silence"):
            in_time = silence_s < self._thresholds.eot_timeout_ms / 1000
            by_model = self._by_meaning or self._thresholds.model_s is not None
            trigger = "model" if in_time and by_model else "timeout"
        if self._shown is None:
            yield self._turn("StartOfTurn", text)
        if self._eager is not None and text.text != self._eager:
            yield from self._resumed()
        if trigger == "model" and self._eager is None and self._thresholds.eager_eot_threshold is not None:
            yield self._turn("EagerEndOfTurn", text)
        self._window_end = max(self._window_end, final.decided_s)
        yield self._turn("EndOfTurn", text, trigger, silence_s)
        self._shown = self._eager = self._paused = None
        self._index += 1

    def _turn(
        self, event: str, text: TranscriptChanged | TurnCompleted, trigger: str | None = None, silence_s: float = 0.0
    ) -> str:
        self._quiet = False
        self._window_end = max(self._window_end, text.end_s)
        told = self._paused.probability if self._paused is not None and self._paused.turn == text.turn else None
        if event == "EagerEndOfTurn":
            silence_s = _EAGER_S
        sure = float(np.interp(silence_s, _SILENCES, _CONFIDENCES)) if told is None else told
        if event == "EagerEndOfTurn":
            sure = max(sure, self._thresholds.eager_eot_threshold or 0.0)
        elif trigger == "model":
            sure = max(sure, self._thresholds.eot_threshold)
        words = written(self._speech.words(text))
        message: dict[str, Any] = {
            "type": "TurnInfo",
            "event": event,
            "turn_index": self._index,
            "audio_window_start": round(text.start_s, 3),
            "audio_window_end": round(self._window_end, 3),
            "transcript": " ".join(word["word"] for word in words),
            "words": words,
            "end_of_turn_confidence": round(sure, 4),
        }
        if trigger is not None:
            message["trigger"] = trigger
        return self._message(message)

    def _message(self, message: Mapping[str, Any]) -> str:
        number, self._sequence = self._sequence, self._sequence + 1
        return dump({**message, "request_id": self._id, "sequence_id": number})
