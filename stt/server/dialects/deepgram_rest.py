"""Deepgram's API for recordings, `POST /v1/listen`: a file in, its channels' texts, words, utterances out.

`read` and `Answer` are pure; `routes` puts them on the wire.
"""

import contextlib
import json
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from stt.events import Event, TurnCompleted
from stt.recognition import RecognitionOptions
from stt.server.dialect import Codec, NotAdmittedError
from stt.server.dialects.deepgram import (
    MODEL,
    MODEL_UUID,
    MOST_CHANNELS,
    alternative,
    codec,
    detects_language,
    flag,
    keyterms,
    language_of,
    options,
    raw_format,
    refusal,
)
from stt.server.dialects.reading import UnreadableError, number
from stt.server.estimate import Speech
from stt.server.files import FileJob, Heard, attend, drop_body, language_found, receive_body
from stt.server.gate import Gate
from stt.server.wire import response
from stt.words import Word

PATH: Final = "/v1/listen"
_JSON_BYTES: Final = 64 << 10
_SENTENCE_ENDS: Final = tuple(".?!\u3002\uff1f\uff01")


@dataclass(frozen=True, slots=True)
class Ask:
    """What a request asks for."""

    recognition: RecognitionOptions
    codec: Codec
    multichannel: bool = False
    paragraphs: bool = False
    detect_language: bool = False
    utterance_gap_s: float | None = None
    """Silence between two utterances; `None`: they are not asked for."""
    model: str = ""


def read(query: Sequence[tuple[str, str]], language: str | None, server_terms: tuple[str, ...] = ()) -> Ask:
    """Read the options of a query, over the server's language and terms; unknown ones do not count.

    Raises:
        UnreadableError: an option that is known has a value that cannot work.
        NotAdmittedError: the encoding is unknown.

    """
    given = options(query)
    for name in ("punctuate", "smart_format"):  # both always are
        flag(given, name)
    gap_s = number(given.get("utt_split", 0.8), "utt_split", 0, 60)
    rate, channels = raw_format(given)
    named = keyterms(query) or server_terms
    return Ask(
        RecognitionOptions(language_of(given, language), named, words=True, live=False),
        codec(given.get("encoding", ""), rate, channels),
        flag(given, "multichannel"),
        flag(given, "paragraphs"),
        detects_language(given),
        gap_s if flag(given, "utterances") else None,
        given.get("model", ""),
    )


@dataclass(slots=True)
class Channel:
    """What was said in one channel; `hear` its events."""

    turns: list[tuple[Word, ...]] = field(default_factory=list)
    """The words of each, of those with words."""
    language: str | None = None
    """What was spoken, once all of it was heard and where somebody knows."""
    _speech: Speech = field(default_factory=Speech)

    async def hear(self, event: Event) -> None:
        if isinstance(event, TurnCompleted) and event.text:
            self.turns.append(self._speech.words(event))
        self._speech.feed(event)

    @property
    def words(self) -> list[Word]:
        """All of them; those of another turn have the space before them that makes them words of their own."""
        return [
            replace(word, text=f" {word.text}") if not i and not word.text[:1].isspace() else word
            for turn in self.turns
            for i, word in enumerate(turn)
        ]

    def shown(self, ask: Ask) -> dict[str, Any]:
        """Write it."""
        one = alternative(self.words)
        if ask.paragraphs:
            paragraphs = [_paragraph(alternative(turn)["words"]) for turn in self.turns]
            text = "\n\n".join(" ".join(s["text"] for s in paragraph["sentences"]) for paragraph in paragraphs)
            one["paragraphs"] = {"transcript": f"\n{text}" if text else "", "paragraphs": paragraphs}
        detected = {}
        if ask.detect_language and self.language is not None:
            detected["detected_language"] = self.language
        return {"alternatives": [one], **detected}

    def utterances(self, number: int, gap_s: float) -> list[dict[str, Any]]:
        """Write what was said between silences."""
        return [
            {
                "start": part[0].start_s,
                "end": part[-1].end_s,
                "channel": number,
                "id": str(uuid4()),
                **alternative(part),
            }
            for part in _cut(self.words, lambda before, after: after.start_s - before.end_s >= gap_s)
        ]


def _paragraph(words: list[dict[str, Any]]) -> dict[str, Any]:
    sentences = [
        {
            "text": " ".join(word["punctuated_word"] for word in sentence),
            "start": sentence[0]["start"],
            "end": sentence[-1]["end"],
        }
        for sentence in _cut(words, lambda before, _: before["punctuated_word"].endswith(_SENTENCE_ENDS))
    ]
    return {"sentences": sentences, "num_words": len(words), "start": words[0]["start"], "end": words[-1]["end"]}


def _cut(items: Sequence[Any], apart: Callable[[Any, Any], bool]) -> Iterator[list[Any]]:
    """Cut between neighbours that are apart."""
    part: list[Any] = []
    for item in items:
        if part and apart(part[-1], item):
            yield part
            part = []
        part.append(item)
    if part:
        yield part


def document(ask: Ask, channels: Sequence[Channel], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Write the whole answer."""
    results: dict[str, Any] = {"channels": [channel.shown(ask) for channel in channels]}
    if ask.utterance_gap_s is not None:
        found = [one for i, channel in enumerate(channels) for one in channel.utterances(i, ask.utterance_gap_s)]
        results["utterances"] = sorted(found, key=lambda one: one["start"])
    return {"metadata": dict(metadata), "results": results}


def wav_head(form: Codec) -> bytes:
    """Return the header of a WAV of unknown length, so that raw audio becomes a file.

    Raises:
        NotAdmittedError: there is none for this encoding.

    """
    kinds = {"linear16": (1, 2), "linear32": (1, 4), "mulaw": (7, 1), "alaw": (6, 1)}
    if form.encoding not in kinds:
        text = f"a recording in {form.encoding} needs a container around it, such as Ogg"
        raise NotAdmittedError("bad_option", text, option="encoding")
    kind, width = kinds[form.encoding]
    frame = width * form.channels
    head = struct.pack("<HHIIHH", kind, form.channels, form.rate, form.rate * frame, frame, 8 * width)
    unknown = b"\xff\xff\xff\xff"
    return b"RIFF" + unknown + b"WAVEfmt " + struct.pack("<I", len(head)) + head + b"data" + unknown


class _Recordings:
    """The endpoint, as an ASGI app: it answers when it has something to say, and notices a client that hangs up."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request, name = Request(scope, receive), str(uuid4())

        async def fail(refused: NotAdmittedError) -> None:
            denial = refusal(refused, name)
            self._gate.refused(request, denial.status, refused.code)
            await drop_body(request)
            await response(replace(denial, headers={"dg-request-id": name}))(scope, receive, send)

        answer = await attend(request, self._gate, name, lambda job: self._hear(request, job, name), fail)
        if answer is not None:
            answer.headers["dg-request-id"] = name
            await answer(scope, receive, send)

    async def _hear(self, request: Request, job: FileJob, name: str) -> Response:
        gate, created = self._gate, datetime.now(UTC)
        try:
            ask = read(request.scope["offered"].query, gate.language, gate.terms)
        except UnreadableError as wrong:
            raise NotAdmittedError("bad_option", str(wrong), option=wrong.option) from None
        engine = gate.engine(ask.model)
        recognition = replace(ask.recognition, engine=engine)
        gate.speaks(recognition.language, engine)
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json":
            await _refuse_url(request)
        head = b"" if ask.codec.encoding == "container" else wav_head(ask.codec)
        body = await receive_body(request, gate.settings.max_upload_bytes, head)
        with contextlib.closing(body.file) as file:
            count = await job.channels(file) if ask.multichannel else 1
            if count > MOST_CHANNELS:
                text = f"expected at most {MOST_CHANNELS} channels, got {count}; leave multichannel out to mix them"
                raise NotAdmittedError("bad_option", text, option="multichannel")
            channels = [Channel() for _ in range(count)]

            async def hear() -> list[Heard]:
                numbers = range(count) if ask.multichannel else (None,)
                return [
                    await job.run(file, recognition, gate.turns, channel.hear, number)
                    for number, channel in zip(numbers, channels, strict=True)
                ]

            heard = await job.unless_gone(hear())
        metadata = {
            "transaction_key": "deprecated",
            "request_id": name,
            "sha256": body.sha256,
            "created": created.isoformat().replace("+00:00", "Z"),
            "duration": round(max(one.duration_s for one in heard), 3),
            "channels": count,
            "models": [MODEL_UUID],
            "model_info": {MODEL_UUID: MODEL},
        }
        for channel, one in zip(channels, heard, strict=True):
            channel.language = ask.recognition.language or language_found(one, gate.known(engine))
        answer = JSONResponse(document(ask, channels, metadata))
        problem = next((one.problem for one in heard if one.problem is not None), None)
        if problem is not None:
            answer.headers["x-stt-warning"] = ascii(problem)[1:-1]
        return answer


async def _refuse_url(request: Request) -> None:
    """Say no to a body of JSON.

    Raises:
        NotAdmittedError: always.

    """
    received = bytearray()
    async for piece in request.stream():
        received += piece
        if len(received) > _JSON_BYTES:
            break
    with contextlib.suppress(ValueError, RecursionError):
        message = json.loads(received)
        if isinstance(message, dict) and "url" in message:
            text = "this server fetches nothing from elsewhere: send the recording itself as the body, not its url"
            raise NotAdmittedError("bad_option", text, option="url")
    raise NotAdmittedError("bad_option", "expected a recording as the body, got JSON")


def routes(gate: Gate) -> list[BaseRoute]:
    """Return what is served over HTTP."""
    return [Route(PATH, _Recordings(gate), methods=["POST"])]
