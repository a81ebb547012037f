"""What a client of OpenAI's Realtime API can set about its session, in the current shape and in the beta's: pure."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from stt.errors import SettingsError
from stt.recognition import RecognitionOptions
from stt.server.dialect import Codec, Request
from stt.server.dialects.openai import language_of, terms
from stt.server.dialects.reading import UnreadableError, number, shown, texts
from stt.settings import Eagerness, TurnSettings

_SERVER_VAD: Final[dict[str, Any]] = {
    "type": "server_vad",
    "threshold": 0.5,
    "prefix_padding_ms": 300,
    "silence_duration_ms": 500,
    "idle_timeout_ms": None,
}
_SEMANTIC_VAD: Final[dict[str, Any]] = {"type": "semantic_vad", "eagerness": "auto"}
# Seconds of silence that end a turn where nothing tells what it means.
_EAGERNESS_S: Final = {"low": 2.0, "medium": 1.2, "high": 0.7, "auto": 1.2}
_EAGERNESS: Final[dict[str, Eagerness]] = {"low": "careful", "medium": "medium", "high": "fast"}
_FORMATS: Final = {"audio/pcm": "linear16", "audio/pcmu": "mulaw", "audio/pcma": "alaw"}
_BETA_FORMATS: Final = {
    "pcm16": {"type": "audio/pcm", "rate": 24_000},
    "g711_ulaw": {"type": "audio/pcmu"},
    "g711_alaw": {"type": "audio/pcma"},
}
# Their real models reject turn_detection, so clients leave it out, detect turns themselves, and commit.
_COMMITTED: Final = ("gpt-realtime-whisper", "gpt-live-transcribe")
_SHORTEST_S: Final = 0.1
_MOST_KEYS: Final = 100

_MISSING: Final = object()


@dataclass(frozen=True, slots=True)
class SessionConfig:
    """A session as it now is. The dictionaries are as clients read them back."""

    format: Mapping[str, Any]
    transcription: Mapping[str, Any]
    turn_detection: Mapping[str, Any] | object | None = _MISSING
    noise_reduction: Mapping[str, Any] | None = None
    include: tuple[str, ...] = ()

    @classmethod
    def new(cls, model: str | None) -> "SessionConfig":
        return cls({"type": "audio/pcm", "rate": 24_000}, {"model": model} if model else {"model": "whisper-1"})

    @property
    def vad(self) -> Mapping[str, Any] | None:
        """The turn detection in force; `None`: the client commits."""
        if self.turn_detection is not _MISSING:
            return self.turn_detection  # type: ignore[return-value]
        return None if str(self.transcription.get("model")).startswith(_COMMITTED) else _SERVER_VAD

    @property
    def codec(self) -> Codec:
        return Codec(_FORMATS[self.format["type"]], self.format.get("rate", 8_000))  # type: ignore[arg-type]

    @property
    def padding_s(self) -> float:
        """How long before the first sound a turn is said to begin."""
        return (self.vad or {}).get("prefix_padding_ms", 0) / 1000

    def recognition(self, language: str | None, request: Request) -> RecognitionOptions:
        """Return what is asked of the engine; `language` and the request's terms: where the client names none."""
        given = self.transcription
        asked = given.get("language") or next(iter(given.get("languages") or ()), None)
        named = terms(given.get("prompt"), given.get("keywords") or ())
        return RecognitionOptions(
            language_of(asked) if asked else language,
            named or request.terms,
            engine=request.engine(given.get("model")),
        )

    def turns(self, turns: TurnSettings) -> TurnSettings:
        """Return how sound becomes turns.

        Raises:
            UnreadableError: values that each can be do not go together.

        """
        vad = self.vad
        try:
            if vad is None:
                return replace(turns, end_of_turn_s=None).before_flushes()
            if vad["type"] == "semantic_vad":
                return _semantic(turns, vad["eagerness"])
            silence_s = max(_SHORTEST_S, vad["silence_duration_ms"] / 1000)
            threshold = min(max(vad["threshold"], 0.05), 0.95)
            return replace(
                turns.after_silence(silence_s),
                speech_threshold=threshold,
                silence_threshold=max(0.03, threshold - 0.15),
                pre_roll_s=max(turns.pre_roll_s, self.padding_s),
            )
        except SettingsError as wrong:
            raise UnreadableError(str(wrong), "session.audio.input.turn_detection") from None

    def updated(self, session: Any) -> "SessionConfig":
        """Return it with what an update says; what that does not mention stays.

        Raises:
            UnreadableError: a field that is known has a value that cannot work.

        """
        session = _object(session, "session")
        if session.get("type", "transcription") != "transcription":
            msg = f'session.type must be "transcription", got {shown(session["type"])}: there are no conversations here'
            raise UnreadableError(msg, "session.type")
        audio = _object(session.get("audio", {}), "session.audio")
        given = {**_beta(session), **_object(audio.get("input", {}), "session.audio.input")}
        new = self
        if given.get("format") is not None:
            new = replace(new, format=_format(given["format"]))
        if "transcription" in given:
            transcription = given["transcription"]
            new = replace(
                new, transcription={} if transcription is None else _transcription(transcription, new.transcription)
            )
        if "turn_detection" in given:
            new = replace(new, turn_detection=_turn_detection(given["turn_detection"], self.vad))
        if "noise_reduction" in given:
            reduction = given["noise_reduction"]
            if reduction is not None:
                reduction = {"type": _object(reduction, "noise_reduction").get("type")}
                if reduction["type"] not in ("near_field", "far_field"):
                    msg = f"noise_reduction.type must be near_field or far_field, got {shown(reduction['type'])}"
                    raise UnreadableError(msg, "session.audio.input.noise_reduction")
            new = replace(new, noise_reduction=reduction)
        if session.get("include") is not None:
            new = replace(new, include=texts(session["include"], "include"))
        return new

    def shown(self, name: str, *, beta: bool) -> dict[str, Any]:
        """Write it whole."""
        vad = None if self.vad is None else dict(self.vad)
        head = {"id": name, "object": "realtime.transcription_session"}
        if beta:
            names = {kind["type"]: name for name, kind in _BETA_FORMATS.items()}
            return head | {
                "input_audio_format": names[self.format["type"]],
                "input_audio_transcription": dict(self.transcription) or None,
                "turn_detection": vad,
                "input_audio_noise_reduction": self.noise_reduction,
                "include": list(self.include),
            }
        heard = {
            "format": dict(self.format),
            "transcription": dict(self.transcription) or None,
            "noise_reduction": self.noise_reduction,
            "turn_detection": vad,
        }
        return {"type": "transcription", **head, "audio": {"input": heard}, "include": list(self.include)}


def _semantic(turns: TurnSettings, eagerness: str) -> TurnSettings:
    """Return turns that end by meaning, where this server's do; `auto`: as soon as they do."""
    silent = turns.after_silence(_EAGERNESS_S[eagerness])
    if turns.end_of_turn == "silence":
        return silent
    own = {"eot_threshold": None, "eot_delay_s": None, "eot_timeout_s": None} if eagerness != "auto" else {}
    return replace(silent, end_of_turn=turns.end_of_turn, eagerness=_EAGERNESS.get(eagerness, turns.eagerness), **own)


def _beta(session: Mapping[str, Any]) -> dict[str, Any]:
    """Return the flat fields of the beta under their new names."""
    found = {}
    for old, new in (
        ("input_audio_transcription", "transcription"),
        ("turn_detection", "turn_detection"),
        ("input_audio_noise_reduction", "noise_reduction"),
    ):
        if old in session:
            found[new] = session[old]
    if session.get("input_audio_format") is not None:
        kind = session["input_audio_format"]
        if not isinstance(kind, str) or kind not in _BETA_FORMATS:
            msg = f"input_audio_format must be one of {', '.join(_BETA_FORMATS)}, got {shown(kind)}"
            raise UnreadableError(msg, "session.input_audio_format")
        found["format"] = _BETA_FORMATS[kind]
    return found


def _format(given: Any) -> dict[str, Any]:
    name = "session.audio.input.format"
    given = _object(given, name)
    kind = given.get("type")
    if not isinstance(kind, str) or kind not in _FORMATS:
        msg = f"{name}.type must be one of {', '.join(_FORMATS)}, got {shown(kind)}"
        raise UnreadableError(msg, name)
    if kind != "audio/pcm":
        return {"type": kind}
    rate = 24_000 if given.get("rate") is None else given["rate"]
    return {"type": kind, "rate": int(number(rate, f"{name}.rate", 8_000, 48_000))}


def _transcription(given: Any, before: Mapping[str, Any]) -> dict[str, Any]:
    given = _object(given, "session.audio.input.transcription")
    new = dict(before)
    for name in ("model", "language", "prompt", "delay"):
        if name in given:
            value = given[name]
            if value is not None and not isinstance(value, str):
                msg = f"transcription.{name} must be a string, got {shown(value)}"
                raise UnreadableError(msg, f"session.audio.input.transcription.{name}")
            new[name] = value
    for name in ("keywords", "languages"):
        if name in given:
            new[name] = None if given[name] is None else list(texts(given[name], f"transcription.{name}"))
    return {name: value for name, value in new.items() if value is not None}


def _turn_detection(given: Any, before: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if given is None:
        return None
    name = "session.audio.input.turn_detection"
    given = _object(given, name)
    known = {"server_vad": _SERVER_VAD, "semantic_vad": _SEMANTIC_VAD}
    kind = given.get("type", (before or _SERVER_VAD)["type"])
    if not isinstance(kind, str) or kind not in known:
        msg = f"{name}.type must be one of {', '.join(known)}, or turn_detection null, got {shown(kind)}"
        raise UnreadableError(msg, name)
    new = dict(before) if before is not None and before["type"] == kind else dict(known[kind])
    for field, low, high in (
        ("threshold", 0, 1),
        ("prefix_padding_ms", 0, 5_000),
        ("silence_duration_ms", 0, 60_000),
        ("idle_timeout_ms", 0, 3_600_000),
    ):
        if field in new and field in given:
            value = given[field]
            if value is None:
                new[field] = known[kind][field]
            else:
                read = number(value, f"{name}.{field}", low, high)
                new[field] = read if field == "threshold" else round(read)
    if "eagerness" in new and given.get("eagerness") is not None:
        eagerness = given["eagerness"]
        if not isinstance(eagerness, str) or eagerness not in _EAGERNESS_S:
            msg = f"{name}.eagerness must be one of {', '.join(_EAGERNESS_S)}, got {shown(eagerness)}"
            raise UnreadableError(msg, name)
        new["eagerness"] = eagerness
    return new


def _object(given: Any, name: str) -> dict[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, dict) or len(given) > _MOST_KEYS:
        msg = f"{name} must be an object, got {shown(given)}"
        raise UnreadableError(msg, name)
    return given
