"""OpenAI's REST API for transcriptions: a file in, its text out, at once or while it is being recognized (SSE).

    POST /v1/audio/transcriptions    GET /v1/models    GET /v1/models/{id}

`read` and `Answer` are pure; `routes` puts them on the wire.
"""

import contextlib
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from stt.errors import SettingsError
from stt.events import Event, TranscriptChanged, TurnCompleted
from stt.outputs import Writer
from stt.recognition import RecognitionOptions
from stt.server.deltas import Deltas
from stt.server.dialect import NotAdmittedError
from stt.server.dialects.openai import MODELS, error, language_name, language_of, refusal, terms
from stt.server.dialects.reading import UnreadableError, boolean, dump, json_object, number, shown
from stt.server.estimate import Speech
from stt.server.files import FileJob, Heard, attend, drop_body, language_found, receive_form
from stt.server.gate import Gate
from stt.server.wire import response
from stt.settings import TurnSettings
from stt.words import joint

if TYPE_CHECKING:
    from stt.words import Word

PATH: Final = "/v1/audio/transcriptions"
FORMATS: Final = ("json", "text", "srt", "vtt", "verbose_json", "diarized_json")
_GRANULARITIES: Final = ("segment", "word")


@dataclass(frozen=True, slots=True)
class Ask:
    """What a request asks for."""

    turns: TurnSettings
    language: str | None
    terms: tuple[str, ...] = ()
    format: str = "json"
    stream: bool = False
    granularities: tuple[str, ...] = ("segment",)
    model: str = ""
    engine: str | None = None
    """That which is called as the model, if one is."""

    @property
    def recognition(self) -> RecognitionOptions:
        words = self.format == "verbose_json" and "word" in self.granularities
        return RecognitionOptions(self.language, self.terms, words, self.engine, live=False)


def read(fields: Sequence[tuple[str, str]], turns: TurnSettings, language: str | None) -> Ask:
    """Read the fields of a form (names without `[]`), over the server's turns and language.

    Unknown ones do not count, nor do empty ones: programs send those of options that nobody has set.

    Raises:
        UnreadableError: a field that is known has a value that cannot work.

    """
    fields = [(name, value) for name, value in fields if value]
    given = dict(fields)

    def every(name: str) -> list[str]:
        return [value for key, value in fields if key == name]

    kind = given.get("response_format", "json")
    if kind not in FORMATS:
        msg = f"response_format must be one of {', '.join(FORMATS)}, got {shown(kind)}"
        raise UnreadableError(msg, "response_format")
    granularities = tuple(every("timestamp_granularities")) or ("segment",)
    for name in granularities:
        if name not in _GRANULARITIES:
            msg = f"timestamp_granularities must be of {', '.join(_GRANULARITIES)}, got {shown(name)}"
            raise UnreadableError(msg, "timestamp_granularities")
    number(given.get("temperature", 0), "temperature", 0, 1)
    asked = next(iter([*every("language"), *every("languages")]), None)
    return Ask(
        _chunking(given, turns),
        language_of(asked) if asked else language,
        terms(given.get("prompt"), every("keywords")),
        kind,
        boolean(given.get("stream", "false"), "stream"),
        granularities,
        given.get("model", ""),
    )


def _chunking(given: Mapping[str, str], turns: TurnSettings) -> TurnSettings:
    """Read `chunking_strategy`: `auto`, an object as JSON, or one as bracketed keys, of which the silence matters."""
    name = "chunking_strategy"
    text = given.get(name, "auto")
    strategy: dict[str, Any] = json_object(text) if text.startswith("{") else {}
    if not strategy and text != "auto":
        msg = f"{name} must be auto or an object, got {shown(text)}"
        raise UnreadableError(msg, name)
    strategy |= {key[len(name) + 1 : -1]: value for key, value in given.items() if key.startswith(f"{name}[")}
    if strategy.get("type", "server_vad") != "server_vad":
        msg = f"{name}.type must be server_vad, got {shown(strategy['type'])}"
        raise UnreadableError(msg, f"{name}.type")
    if (silence_ms := strategy.get("silence_duration_ms")) is None:
        return turns
    silence_s = max(0.1, number(silence_ms, f"{name}.silence_duration_ms", 0, 60_000) / 1000)
    try:
        return turns.after_silence(silence_s)
    except SettingsError as wrong:
        raise UnreadableError(str(wrong), name) from None


class Answer:
    """The events of one file, as its client wants them; `hear` them, then take the `body`."""

    def __init__(self, ask: Ask, known: frozenset[str] = frozenset()) -> None:
        self._ask = ask
        self._known = known
        self._speech = Speech()
        self._words: list[Word] = []
        self._newest: tuple[Word, ...] = ()
        self._segments = 0
        self._deltas = Deltas()
        self.said = ""
        """All deltas so far, joined."""

    def hear(self, event: Event) -> str:
        """Take an event; return what it adds to the text that is being streamed."""
        self._speech.feed(event)
        match event:
            case TranscriptChanged():
                return self._add(event.text[: event.committed_chars])
            case TurnCompleted():
                if self._ask.recognition.words:
                    self._newest = self._speech.words(event)
                    self._words += self._newest
                new = self._add(event.text)
                self._deltas = Deltas()
                return new
            case _:
                return ""

    def segment(self, event: Event) -> dict[str, Any] | None:
        """Return the message for a turn that has just been heard, where the format has segments and it has words.

        `speaker` is as in `diarized_json`. Confidence, which OpenAI's words do not have, is null where nobody can tell.
        """
        if self._ask.format not in ("verbose_json", "diarized_json"):
            return None
        if not isinstance(event, TurnCompleted) or not event.text:
            return None
        message: dict[str, Any] = {
            "type": "transcript.text.segment",
            "id": f"seg_{self._segments}",
            "start": round(event.start_s, 3),
            "end": round(event.end_s, 3),
            "text": event.text,
            "speaker": "A",
        }
        if self._ask.recognition.words:
            message["words"] = [_word(word) | {"confidence": word.confidence} for word in self._newest]
        self._segments += 1
        return message

    def _add(self, text: str) -> str:
        first = not self._deltas.sent
        new = self._deltas.extend(text)
        if new and first:
            new = joint(self.said, new)
        self.said += new
        return new

    def body(self, heard: Heard) -> Response:
        """Write it all."""
        usage = {"type": "duration", "seconds": round(heard.duration_s, 3)}
        match self._ask.format:
            case "text":
                return PlainTextResponse(f"{heard.text}\n")
            case "srt" | "vtt" as kind:
                writer = Writer(kind, {})
                return PlainTextResponse("".join([writer.head(), *map(writer.turn, heard.turns), writer.tail()]))
            case "verbose_json":
                document = {
                    "task": "transcribe",
                    "language": language_name(self._ask.language or language_found(heard, self._known)),
                    "duration": round(heard.duration_s, 3),
                    "text": heard.text,
                    "usage": usage,
                }
                if "segment" in self._ask.granularities:
                    document["segments"] = [self._segment(i, *found) for i, found in enumerate(_passages(heard))]
                if "word" in self._ask.granularities:
                    document["words"] = [_word(word) for word in self._words]
            case "diarized_json":  # one speaker: who speaks is not told apart here
                document = {
                    "task": "transcribe",
                    "duration": round(heard.duration_s, 3),
                    "text": heard.text,
                    "segments": [
                        {
                            "type": "transcript.text.segment",
                            "id": f"seg_{i}",
                            "start": start,
                            "end": end,
                            "text": text,
                            "speaker": "A",
                        }
                        for i, (start, end, text) in enumerate(_passages(heard))
                    ],
                    "usage": usage,
                }
            case _:
                document = {"text": heard.text, "usage": usage}
                if self._ask.language is None and (found := language_found(heard, self._known)) is not None:
                    document["languages"] = [{"code": found}]
        return JSONResponse(document)

    @staticmethod
    def _segment(number: int, start: float, end: float, text: str) -> dict[str, Any]:
        """All fields that clients' types require; those of Whisper's insides say nothing."""
        nothing = {"tokens": [], "temperature": 0.0, "avg_logprob": 0.0, "compression_ratio": 0.0}
        return {"id": number, "seek": 0, "start": start, "end": end, "text": text, **nothing, "no_speech_prob": 0.0}


def _word(word: "Word") -> dict[str, Any]:
    return {"word": word.text.strip(), "start": round(word.start_s, 3), "end": round(word.end_s, 3)}


def _passages(heard: Heard) -> list[tuple[float, float, str]]:
    return [(round(p.start_s, 3), round(p.end_s, 3), p.text) for turn in heard.turns for p in turn.passages if p.text]


class _Transcriptions:
    """The endpoint, as an ASGI app: it answers when it has something to say, and notices a client that hangs up."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        stream = EventStream(send, f"req_{secrets.token_hex(8)}")
        answer = await attend(
            request,
            self._gate,
            stream.name,
            lambda job: self._hear(request, job, stream),
            lambda refused: stream.fail(request, self._gate, refused),
        )
        if answer is not None:
            answer.headers["x-request-id"] = stream.name
            await answer(scope, receive, send)

    async def _hear(self, request: Request, job: FileJob, stream: "EventStream") -> Response | None:
        """Return the answer, unless it was streamed."""
        gate = self._gate
        form = await receive_form(request, gate.settings.max_upload_bytes)
        if form.file is None:
            raise NotAdmittedError("bad_option", "expected a file, in a field named file", option="file")
        with contextlib.closing(form.file) as file:
            try:
                ask = read(form.fields, gate.turns, gate.language)
            except UnreadableError as wrong:
                raise NotAdmittedError("bad_option", str(wrong), option=wrong.option) from None
            engine = gate.engine(ask.model)
            language = gate.speaks(ask.language, engine)
            ask = replace(ask, language=language, terms=ask.terms or gate.terms, engine=engine)
            answer = Answer(ask, gate.known(engine))

            async def sink(event: Event) -> None:
                new = answer.hear(event)
                if ask.stream and new:
                    await stream.say({"type": "transcript.text.delta", "delta": new})
                if ask.stream and (segment := answer.segment(event)) is not None:
                    await stream.say(segment)

            heard = await job.unless_gone(job.run(file, ask.recognition, ask.turns, sink))
        if ask.stream:
            done: dict[str, Any] = {"type": "transcript.text.done", "text": answer.said}
            if heard.problem is not None:
                done["warning"] = heard.problem
            await stream.end(done)
            return None
        body = answer.body(heard)
        if heard.problem is not None:
            body.headers["x-stt-warning"] = ascii(heard.problem)[1:-1]
        return body


class EventStream:
    """Server-sent events; the response begins with the first, so that what fails before has a status of its own."""

    def __init__(self, send: Send, name: str) -> None:
        self._send = send
        self.name = name
        self._begun = False

    async def say(self, message: Mapping[str, Any] | str, *, more: bool = True) -> None:
        if not self._begun:
            self._begun = True
            headers = {
                "content-type": "text/event-stream",
                "cache-control": "no-cache",
                "x-accel-buffering": "no",  # a proxy shall not wait for more
                "x-request-id": self.name,
            }
            raw = [(key.encode(), value.encode()) for key, value in headers.items()]
            await self._send({"type": "http.response.start", "status": 200, "headers": raw})
        text = message if isinstance(message, str) else dump(message)
        body = f"data: {text}\n\n".encode()
        await self._send({"type": "http.response.body", "body": body, "more_body": more})

    async def end(self, message: Mapping[str, Any] | str) -> None:
        await self.say(message, more=False)

    async def fail(self, request: Request, gate: Gate, refused: NotAdmittedError) -> None:
        """Say no: as an answer, or, where there is one already, as its last event."""
        denial = refusal(refused)
        gate.refused(request, denial.status, refused.code)
        if self._begun:
            await self.end(denial.body)
            return
        await drop_body(request)
        denial = replace(denial, headers={"x-request-id": self.name})
        await response(denial)(request.scope, request.receive, self._send)


def routes(gate: Gate) -> list[BaseRoute]:
    """Return what is served over HTTP."""
    created = int(time.time())

    def models() -> dict[str, dict[str, Any]]:
        recognizer = gate.service.recognizer
        engine = recognizer.model.name.partition(" (")[0].replace(" ", "-") if recognizer is not None else None
        names = [*([engine] if engine is not None and not gate.engines else []), *gate.engines, *MODELS]
        return {name: {"id": name, "object": "model", "created": created, "owned_by": "stt"} for name in names}

    def admitted(request: Request) -> Response | None:
        try:
            gate.check(request)
        except NotAdmittedError as refused:
            denial = refusal(refused)
            gate.refused(request, denial.status, refused.code)
            return response(denial)
        return None

    async def every(request: Request) -> Response:
        return admitted(request) or JSONResponse({"object": "list", "data": list(models().values())})

    async def one(request: Request) -> Response:
        if (no := admitted(request)) is not None:
            return no
        name = request.path_params["name"]
        if (model := models().get(name)) is None:
            text = f"the model {shown(name)} does not exist; there are {', '.join(models())}"
            return JSONResponse({"error": error(text, "model_not_found", "model")}, 404)
        return JSONResponse(model)

    return [
        Route(PATH, _Transcriptions(gate), methods=["POST"]),
        Route("/v1/models", every),
        Route("/v1/models/{name:path}", one),
    ]
