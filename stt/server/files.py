"""A file that a client sends whole: from its request to the turns in it, whatever the client speaks.

    request -> receive_form, receive_body (a private file on disk, bounded) -> FileJob.run -> events -> sink

Files come behind everybody who speaks live: `RecognitionOptions(live=False)` tells the recognizer so. A client that
hangs up cancels its work. Of those that were taken in, a few are heard at a time, the others wait.
"""

import asyncio
import contextlib
import hashlib
import os
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import IO, Final, Self, TypeVar

from python_multipart.exceptions import FormParserError
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from stt.errors import AudioError
from stt.events import Event, RecognitionFailed, TurnCompleted
from stt.recognition import RecognitionOptions
from stt.server.dialect import NotAdmittedError, failed
from stt.server.gate import Gate
from stt.server.logs import LOGGER, log
from stt.session import Session, Sink
from stt.settings import TurnSettings
from stt.sources import FileSource
from stt.words import joined

_FIELD_BYTES: Final = 1 << 20
_MOST_FIELDS: Final = 200
_WRITTEN_BYTES: Final = 1 << 20  # at once, off the event loop
# A client that is refused reads the answer only once it has sent its file: what is on its way is read and dropped.
_DROPPED_BYTES: Final = 64 << 20
_DROPPING_S: Final = 5.0

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Form:
    """A multipart body: its fields in order, names without `[]`, and the file if there was one."""

    fields: tuple[tuple[str, str], ...]
    file: IO[bytes] | None


async def receive_form(request: Request, limit: int) -> Form:
    """Take a multipart body; its file goes to one on disk that has no name. Fields may stand on either side of it.

    Raises:
        NotAdmittedError: it is no such body, or longer than `limit` bytes.
        ClientDisconnect: the client hung up.

    """
    kind = request.headers.get("content-type", "")
    if kind.partition(";")[0].strip().lower() != "multipart/form-data":
        raise NotAdmittedError("bad_option", f"expected a body of multipart/form-data, got {kind[:60] or 'none'!r}")
    parser = _Parser(
        request.headers,
        _bounded(request, limit),
        max_files=4,
        max_fields=_MOST_FIELDS,
        max_part_size=_FIELD_BYTES,
    )
    try:
        parts = (await parser.parse()).multi_items()
    except _TooLargeError:
        raise _too_large(limit) from None
    except (MultiPartException, FormParserError) as error:  # Starlette up to 1.0 lets its parser's own errors through
        raise NotAdmittedError("bad_option", f"the body is no multipart/form-data: {error}") from None
    except OSError as error:
        raise _no_room(error) from error
    fields = tuple((name.removesuffix("[]"), value) for name, value in parts if isinstance(value, str))
    file = None
    for name, value in parts:
        if not isinstance(value, UploadFile):
            continue
        if name == "file" and file is None:
            file = value.file
        else:
            value.file.close()
    return Form(fields, file)


@dataclass(frozen=True, slots=True)
class Body:
    """A body that is nothing but a file."""

    file: IO[bytes]
    sha256: str


async def receive_body(request: Request, limit: int, head: bytes = b"") -> Body:
    """Take a body that is a file; it goes to one on disk that has no name, behind `head`.

    Raises:
        NotAdmittedError: it is empty, or longer than `limit` bytes.
        ClientDisconnect: the client hung up.

    """
    file, digest = tempfile.TemporaryFile(prefix="stt-"), hashlib.sha256()  # noqa: SIM115 - the caller's, or closed below

    def keep(data: bytes) -> None:
        digest.update(data)
        file.write(data)

    try:
        file.write(head)
        waiting = bytearray()
        async for piece in _bounded(request, limit):
            waiting += piece
            if len(waiting) >= _WRITTEN_BYTES:
                await asyncio.to_thread(keep, bytes(waiting))
                waiting.clear()
        await asyncio.to_thread(keep, bytes(waiting))
        file.flush()
        if file.tell() == len(head):
            raise NotAdmittedError("bad_audio", "the body is empty (0 bytes), expected audio")  # noqa: TRY301
    except BaseException as error:
        file.close()
        if isinstance(error, _TooLargeError):
            raise _too_large(limit) from None
        if isinstance(error, OSError):
            raise _no_room(error) from error
        raise
    return Body(file, digest.hexdigest())


async def drop_body(request: Request) -> None:
    """Read what is left of a body that nobody wants, within reason: so that its sender comes to read the answer."""
    dropped = 0
    with contextlib.suppress(TimeoutError, ClientDisconnect, RuntimeError):
        async with asyncio.timeout(_DROPPING_S):
            async for piece in request.stream():
                dropped += len(piece)
                if dropped > _DROPPED_BYTES:
                    return


async def attend(
    request: Request,
    gate: Gate,
    name: str,
    hear: Callable[["FileJob"], Awaitable[_T]],
    fail: Callable[[NotAdmittedError], Awaitable[None]],
) -> _T | None:
    """Let a request in, and hear its file; `None`: nobody waits for an answer, or `fail` has given it."""
    try:
        gate.check(request)
        with FileJob(gate, request, name) as job:
            return await hear(job)
    except ClientDisconnect:
        pass
    except NotAdmittedError as refused:
        await fail(refused)
    except Exception:  # noqa: BLE001 - a mistake of ours ends this request alone, and the client hears no details
        LOGGER.exception("request %s failed", name)
        await fail(failed())
    return None


class _Parser(MultiPartParser):
    """Starlette's, which takes a body that breaks off for a whole one, and leaves the file that broke off open.

    Before 1.6 it also leaves files open when a client hangs up, when the body is damaged, and when it is cancelled.
    """

    def __init__(self, headers: Headers, stream: AsyncGenerator[bytes, None], **limits: int) -> None:
        super().__init__(headers, self._whole(stream), **limits)
        self._ended = False

    def on_end(self) -> None:
        """Remember the last boundary."""
        self._ended = True

    async def parse(self) -> FormData:
        """Parse, and close all files if that fails, whatever the reason."""
        try:
            return await super().parse()
        except BaseException:
            for file in self._files_to_close_on_error:
                file.close()
            raise

    async def _whole(self, stream: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        async for piece in stream:
            yield piece
        if not self._ended:
            raise MultiPartException("it breaks off")


class _TooLargeError(MultiPartException):
    """A kind of those on which the parser cleans up."""


async def _bounded(request: Request, limit: int) -> AsyncGenerator[bytes, None]:
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > limit:
        raise _TooLargeError("")
    received = 0
    async for piece in request.stream():
        received += len(piece)
        if received > limit:
            raise _TooLargeError("")
        yield piece


def _too_large(limit: int) -> NotAdmittedError:
    return NotAdmittedError("too_large", f"expected at most {limit >> 20} MiB, got more", option="file")


def _no_room(error: OSError) -> NotAdmittedError:
    return NotAdmittedError("no_room", f"the file cannot be kept for now: {error.strerror or error}")


@dataclass(slots=True)
class Heard:
    """What is known of a file once all of it was heard."""

    turns: list[TurnCompleted] = field(default_factory=list)
    """Those with words."""
    duration_s: float = 0.0
    problem: str | None = None
    """What is missing of the audio, if something is."""

    @property
    def text(self) -> str:
        return joined(turn.text for turn in self.turns)

    @property
    def language(self) -> str | None:
        """The language the engine found, where it was to find out: that which was spoken for longest."""
        spoken: dict[str, int] = {}
        for turn in self.turns:
            if turn.language is not None:
                spoken[turn.language] = spoken.get(turn.language, 0) + turn.end - turn.start
        return max(spoken, key=lambda language: spoken[language], default=None)


def language_found(heard: Heard, known: frozenset[str]) -> str | None:
    """Return the language of a file where the engine was to find out; one that knows just one has found that."""
    return heard.language or (next(iter(known)) if len(known) == 1 else None)


class FileJob:
    """One file, heard by one session. It holds a session's place from `with` on."""

    def __init__(self, gate: Gate, request: Request, name: str) -> None:
        self._gate, self._request, self._name = gate, request, name
        self._began = time.monotonic()
        self._running: asyncio.Task[object] | None = None
        self._draining = False
        self.reason = "refused"

    def __enter__(self) -> Self:
        self._gate.room()
        self._gate.service.enter(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._gate.service.leave(self)
        self._gate.service.metrics.closed.labels(self.reason).inc()
        log("file ended", session=self._name, reason=self.reason, lasted_s=round(time.monotonic() - self._began, 2))

    def drain(self, *, now: bool) -> None:
        """Go on while there is time, then give up: nobody waits for the rest of two hours."""
        self._draining = True
        if now and self._running is not None:
            self._running.cancel()

    async def unless_gone(self, work: Awaitable[_T]) -> _T:
        """Do it while the client is there; the body must have been read.

        Raises:
            ClientDisconnect: it hung up, and the work was cancelled.
            NotAdmittedError: the server ends.

        """
        running = self._running = asyncio.ensure_future(work)
        gone = asyncio.ensure_future(self._gone())
        try:
            await asyncio.wait((running, gone), return_when=asyncio.FIRST_COMPLETED)
            if running.done() and not running.cancelled():
                self.reason = "finished" if running.exception() is None else "failed"
                return running.result()
            if self._draining and not gone.done():
                self.reason = "going_away"
                raise NotAdmittedError("draining", "the server is shutting down; send it again in a moment")
            self.reason = "vanished"
            raise ClientDisconnect
        finally:
            for task in (running, gone):
                task.cancel()
            await asyncio.gather(running, gone, return_exceptions=True)

    async def _gone(self) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            pass

    @staticmethod
    async def channels(file: IO[bytes]) -> int:
        """Say how many channels a file on disk has.

        Raises:
            NotAdmittedError: it is no audio.

        """
        source = await asyncio.to_thread(_open, file, 0)
        count = source.channels
        await asyncio.to_thread(source.close)
        return count

    async def run(
        self,
        file: IO[bytes],
        options: RecognitionOptions,
        turns: TurnSettings,
        sink: Sink,
        channel: int | None = None,
    ) -> Heard:
        """Hear it all; events go to `sink` as they come. Whoever opened the file closes it.

        Where it is one channel of a file on disk, the file can be heard once more.

        Raises:
            NotAdmittedError: it is no audio, or the engine failed.

        """
        service, heard, failures = self._gate.service, Heard(), list[str]()
        assert service.recognizer is not None  # noqa: S101 - for the type checker: only a ready service has
        assert service.vad is not None  # noqa: S101 - sessions

        async def hear(event: Event) -> None:
            if isinstance(event, TurnCompleted) and event.text:
                heard.turns.append(event)
            elif isinstance(event, RecognitionFailed):
                failures.append(event.message)
            await sink(event)

        # Nobody waits for the turns of a file to end, so `auto` is silence here.
        policy = "silence" if turns.end_of_turn == "auto" else turns.end_of_turn
        turns = replace(turns, interim_s=None, speculative=False, end_of_turn=policy)
        async with service.hearing_files:
            source = await asyncio.to_thread(_open, file, channel)
            try:
                session = Session(
                    service.recognizer,
                    service.vad,
                    settings=turns,
                    options=replace(options, live=False),
                    ahead_s=self._gate.settings.max_ahead_s,
                )
                try:
                    await session.run(source, hear)
                except AudioError as error:
                    if not source.position_s:
                        raise NotAdmittedError("bad_audio", str(error), option="file") from None
                    heard.problem = str(error)
            finally:
                await asyncio.to_thread(source.close)
        heard.duration_s = source.position_s
        service.metrics.audio.inc(heard.duration_s)
        if failures:
            service.metrics.errors.labels("engine_failed").inc(len(failures))
            text = f"the engine failed on {len(failures)} parts of the file: {failures[0]}"
            raise NotAdmittedError("engine_failed", text)
        return heard


def _open(file: IO[bytes], channel: int | None) -> FileSource:
    empty = not file.seek(0, os.SEEK_END)
    file.seek(0)
    try:
        if not empty:
            again = file if channel is None else os.fdopen(os.dup(file.fileno()), "rb")
            return FileSource(again, channel=channel)
        problem = "the file is empty (0 bytes), expected audio"
    except AudioError as error:
        problem = str(error)
    raise NotAdmittedError("bad_audio", problem, option="file")
