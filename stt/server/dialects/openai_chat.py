"""OpenAI's chat completions, over the language model inside the engine: questions about what was said.

    POST /v1/chat/completions

`read` is pure; `routes` puts it on the wire. The answer is made in slices between the calls of those who speak.
"""

import asyncio
import secrets
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from stt.errors import EngineError, EngineLostError
from stt.recognition.answers import MOST_TOKENS, Answer, Finished, LanguageModel, Message, language_model
from stt.server.dialect import NotAdmittedError, failed
from stt.server.dialects.openai_rest import EventStream
from stt.server.dialects.reading import UnreadableError, json_object, number, shown
from stt.server.gate import Gate
from stt.server.logs import LOGGER

PATH: Final = "/v1/chat/completions"
_BODY_BYTES: Final = 1 << 20
_MOST_MESSAGES: Final = 200
_MOST_ANSWER: Final = 8192
_MOST_WAITING: Final = 8
"""Questions at a time: they are answered one after the other."""
_ROLES: Final = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}


@dataclass(frozen=True, slots=True)
class Question:
    """What a request asks for."""

    messages: tuple[Message, ...]
    model: str
    most_tokens: int = MOST_TOKENS
    stream: bool = False
    usage: bool = False
    """Whether a stream ends with what it took."""


def read(body: str) -> Question:
    """Read a body; what tunes a sampler does not count, because answers are greedy.

    Raises:
        UnreadableError: a field that is known has a value that cannot work.

    """
    given = json_object(body)
    messages = given.get("messages")
    if not isinstance(messages, list) or not 0 < len(messages) <= _MOST_MESSAGES:
        msg = f"messages must be a list of 1 to {_MOST_MESSAGES}, got {shown(messages)}"
        raise UnreadableError(msg, "messages")
    if given.get("n", 1) not in (1, None):
        raise UnreadableError("n must be 1: there is one answer", "n")
    if given.get("tools"):
        raise UnreadableError("tools are not supported", "tools")
    stream = given.get("stream") or False
    if not isinstance(stream, bool):
        msg = f"stream must be true or false, got {shown(stream)}"
        raise UnreadableError(msg, "stream")
    name = next((key for key in ("max_completion_tokens", "max_tokens") if given.get(key) is not None), "max_tokens")
    options = given.get("stream_options")
    return Question(
        tuple(_message(i, message) for i, message in enumerate(messages)),
        str(given.get("model") or "canary-qwen")[:100],
        int(number(given.get(name) or MOST_TOKENS, name, 1, _MOST_ANSWER)),
        stream,
        isinstance(options, dict) and options.get("include_usage") is True,
    )


def _message(number: int, message: Any) -> Message:
    where = f"messages[{number}]"
    role = message.get("role") if isinstance(message, dict) else None
    if not isinstance(role, str) or role not in _ROLES:
        msg = f"{where}.role must be one of {', '.join(_ROLES)}, got {shown(role)}"
        raise UnreadableError(msg, "messages")
    content = message.get("content")
    if isinstance(content, list):  # parts, of which text alone can be read
        parts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
        texts = [part for part in parts if isinstance(part, str)]
        content = "".join(texts) if len(texts) == len(content) else None
    if not isinstance(content, str):
        msg = f"{where}.content must be text, got {shown(message.get('content'))}"
        raise UnreadableError(msg, "messages")
    return Message(_ROLES[role], content)


class _Completions:
    """The endpoint, as an ASGI app: it notices a client that hangs up."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._asked = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        stream = EventStream(send, f"chatcmpl-{secrets.token_hex(12)}")
        self._asked += 1
        try:
            self._gate.check(request)
            answer = await self._answer(request, stream)
        except ClientDisconnect:
            return
        except NotAdmittedError as refused:
            await stream.fail(request, self._gate, refused)
        except EngineLostError:  # the server ends for it, and its manager starts another
            await stream.fail(request, self._gate, failed())
        except EngineError as error:
            await stream.fail(request, self._gate, NotAdmittedError("bad_option", str(error), option="messages"))
        except Exception:  # noqa: BLE001 - a mistake of ours ends this request alone, and the client hears no details
            LOGGER.exception("request %s failed", stream.name)
            await stream.fail(request, self._gate, failed())
        else:
            if answer is not None:
                await answer(scope, receive, send)
        finally:
            self._asked -= 1

    async def _answer(self, request: Request, stream: EventStream) -> JSONResponse | None:
        """Return the answer, unless it was streamed."""
        if self._asked > _MOST_WAITING:
            raise NotAdmittedError(
                "too_many_sessions", f"{_MOST_WAITING} questions are being answered; try again later"
            )
        service = self._gate.service
        if service.state != "ready" or service.recognizer is None:
            raise NotAdmittedError("not_ready", f"the engine is {service.state}; try again when /ready says so")
        try:
            answering = language_model(service.recognizer.model)
        except EngineError as error:
            raise NotAdmittedError("bad_option", str(error), option="model") from None
        try:
            question = read(await _body(request))
        except UnreadableError as wrong:
            raise NotAdmittedError("bad_option", str(wrong), option=wrong.option) from None
        head = {"id": stream.name, "created": int(time.time()), "model": question.model}
        gone = asyncio.create_task(_hung_up(request))
        try:
            async with aclosing(_pieces(answering, question, gone)) as pieces:
                if question.stream:
                    await _stream(pieces, stream, head, question)
                    return None
                said: list[str] = []
                done: Finished | None = None
                async for piece in pieces:
                    if isinstance(piece, Finished):
                        done = piece
                    else:
                        said.append(piece)
        finally:
            gone.cancel()
        assert done is not None  # noqa: S101 - for the type checker: it comes last
        message = {"role": "assistant", "content": "".join(said), "refusal": None}
        choice = {"index": 0, "message": message, "finish_reason": done.why, "logprobs": None}
        return JSONResponse({**head, "object": "chat.completion", "choices": [choice], "usage": _usage(done)})


async def _stream(
    pieces: AsyncIterator[str | Finished], stream: EventStream, head: Mapping[str, Any], question: Question
) -> None:
    def chunk(delta: Mapping[str, Any], why: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": why, "logprobs": None}
        return {**head, "object": "chat.completion.chunk", "choices": [choice]}

    begun = False
    async for piece in pieces:
        if not begun:  # not before: what fails at once has a status of its own
            begun = True
            await stream.say(chunk({"role": "assistant", "content": ""}))
        if isinstance(piece, str):
            await stream.say(chunk({"content": piece}))
            continue
        await stream.say(chunk({}, piece.why))
        if question.usage:
            await stream.say({**head, "object": "chat.completion.chunk", "choices": [], "usage": _usage(piece)})
    await stream.end("[DONE]")


def _usage(done: Finished) -> dict[str, int]:
    total = done.prompt_tokens + done.answer_tokens
    return {"prompt_tokens": done.prompt_tokens, "completion_tokens": done.answer_tokens, "total_tokens": total}


async def _body(request: Request) -> str:
    taken = bytearray()
    async for piece in request.stream():
        taken += piece
        if len(taken) > _BODY_BYTES:
            raise NotAdmittedError("too_large", f"expected a body of at most {_BODY_BYTES} bytes")
    return taken.decode("utf-8", "replace")


async def _hung_up(request: Request) -> None:
    """Return when the client has left; its body has been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _pieces(
    answering: LanguageModel, question: Question, gone: "asyncio.Task[None]"
) -> AsyncGenerator[str | Finished, None]:
    """The answer as it is made in a thread, which gives up when nobody listens any more."""
    loop, given_up = asyncio.get_running_loop(), threading.Event()
    said: asyncio.Queue[str | Finished | Exception] = asyncio.Queue()  # of `most_tokens` at most

    def work() -> None:
        answer: Answer = answering.answer(question.messages, question.most_tokens)
        try:
            while not given_up.is_set():
                tell(next(answer))
        except StopIteration as ended:
            tell(ended.value)
        except Exception as error:  # noqa: BLE001 - handed over
            tell(error)
        finally:
            answer.close()

    def tell(what: str | Finished | Exception) -> None:
        loop.call_soon_threadsafe(said.put_nowait, what)

    thread = threading.Thread(target=work, name="answer", daemon=True)
    thread.start()
    try:
        while True:
            coming = asyncio.create_task(said.get())
            await asyncio.wait([coming, gone], return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                coming.cancel()
                raise ClientDisconnect
            what = coming.result()
            if isinstance(what, Exception):
                raise what
            yield what
            if isinstance(what, Finished):
                return
    finally:
        given_up.set()


def routes(gate: Gate) -> list[BaseRoute]:
    """Return what is served over HTTP."""
    return [Route(PATH, _Completions(gate), methods=["POST"])]
