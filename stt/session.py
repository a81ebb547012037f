"""The one pipeline: `Session.run(source, sink)`. All asynchronous wiring of listening and recognizing is here.

    source -> listen: resampled audio -> SpeechDetector -> TurnSegmenter -> [bounded queue]
                                                                                 |
    sink <- recognize: Event <- Transcript <- Recognizer's ticket <--------------+

The terminal program, the server and the file command are this call with another source and sink.
"""

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from stt.audio import Samples, samples, seconds
from stt.errors import EngineError
from stt.events import (
    Event,
    Latency,
    RecognitionFailed,
    TranscriptChanged,
    TurnCompleted,
    TurnPaused,
    TurnResumed,
    TurnStarted,
)
from stt.recognizer import Hypothesis, Recognizer, Ticket, Utterance
from stt.settings import TurnSettings
from stt.transcript import Transcript
from stt.turns import TurnEnded, TurnEvent, TurnSegmenter, Window
from stt.vad import BLOCK, Probabilities, SileroVad, SpeechDetector
from stt.vad_pool import VadPool

Source = AsyncIterable[Samples]
"""Pieces of 16 kHz mono audio of any length, in order; it ends when the stream does."""

Sink = Callable[[Event], Awaitable[None]]
"""Called with one event at a time, in order; a slow sink slows the session, not other sessions."""

# Pieces longer than this are scored off the event loop: a frame takes about 0.1 ms, and nothing may block it for long.
_INLINE: Final = samples(0.5)
# Turn events ahead of the recognizer: for a file this is what lets windows share batches. All of them may be windows of
# 24 s, which is why live sessions of a server are given a bound in seconds as well.
_QUEUE: Final = 24


@dataclass(slots=True)
class _Asked:
    """A request on its way through the queue."""

    window: Window | None
    """`None` once a newer request has made this one pointless: its audio, up to 1.5 MB, need not be kept."""
    ticket: Ticket


class Session:
    """One stream of audio, from its first sample to its last turn.

    Args:
        recognizer: shared by all sessions.
        vad: a model of this thread, or the pool that scores many streams together.
        settings: how sound becomes turns.
        language: ISO 639-1 code; `None`: let the engine find out.
        ahead_s: speech in windows that wait for the engine or are with it, interims aside; what would exceed it is not
            taken from the source. One window may always be under way. `None`: the queue of turn events is bound enough.

    """

    def __init__(
        self,
        recognizer: Recognizer,
        vad: SileroVad | VadPool,
        *,
        settings: TurnSettings | None = None,
        language: str | None = "en",
        ahead_s: float | None = None,
    ) -> None:
        settings = settings or TurnSettings()
        self._recognizer = recognizer
        self._language = language
        self._detector = vad.detector() if isinstance(vad, VadPool) else SpeechDetector(vad)
        self._segmenter = TurnSegmenter(settings)
        self._queue: asyncio.Queue[TurnEvent | _Asked | None] = asyncio.Queue(_QUEUE)
        self._drafts: dict[tuple[int, int], Hypothesis] = {}  # of the window last heard of
        self._tickets: set[Ticket] = set()
        self._unanswered = 0  # samples in windows whose recognition stands, once it is there
        self._answered = asyncio.Event()
        # While more than this is unanswered, no audio is taken: a whole window might be too much.
        self._most_unanswered = None if ahead_s is None else max(0, samples(ahead_s - settings.window_s))
        self._open = False  # a turn has begun and its end is not yet sent
        self._done = 0  # samples up to the last event sent

    async def run(self, source: Source, sink: Sink) -> None:
        """Send the events of `source` to `sink` until the source ends and the last turn has its final.

        Where the source fails (an `AudioError`, say), the turn that runs is completed with what was heard before the
        error is raised. What the sink raises ends the session at once. A session runs once.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                listening = tasks.create_task(self._listen(source))
                tasks.create_task(self._recognize(sink))
        except BaseExceptionGroup as group:
            if len(group.exceptions) == 1:
                raise group.exceptions[0] from None  # one failure needs no group around it
            raise
        finally:
            self._recognizer.forget(self)
            for ticket in self._tickets:
                ticket.cancel()
        if error := listening.result():
            raise error

    @property
    def done_s(self) -> float:
        """Seconds of the stream that are dealt with: recognized, or found silent."""
        return seconds(self._segmenter.now if not self._open and self._queue.empty() else self._done)

    async def _listen(self, source: Source) -> Exception | None:
        """Feed the queue; returns the error that ended the source early, once everything before it is in the queue."""
        failure: Exception | None = None
        try:
            async for piece in source:
                for at in range(0, len(piece), BLOCK):
                    block = piece[at : at + BLOCK]
                    await self._push(self._segmenter.feed(*await self._score(block)))
        except Exception as error:  # noqa: BLE001 - kept and raised after the last final
            failure = error
        scored = self._detector.finish()
        await self._push(self._segmenter.feed(*(scored if isinstance(scored, tuple) else await scored)))
        await self._push(self._segmenter.finish())
        await self._queue.put(None)
        return failure

    async def _score(self, block: Samples) -> tuple[list[Samples], Probabilities]:
        if not isinstance(self._detector, SpeechDetector):
            return await self._detector.feed(block)
        if len(block) <= _INLINE:
            return self._detector.feed(block)
        return await asyncio.to_thread(self._detector.feed, block)

    async def _push(self, events: list[TurnEvent]) -> None:
        for event in events:
            await self._queue.put(self._submit(event) if isinstance(event, Window) else event)
            while self._most_unanswered is not None and self._unanswered > self._most_unanswered:
                self._answered.clear()
                await self._answered.wait()

    def _submit(self, window: Window) -> _Asked:
        draft = self._drafts.get((window.turn, window.index))
        utterance = Utterance(window.audio, self._language, final=window.cause != "interim", draft=draft)
        ticket = self._recognizer.submit(self, utterance)
        asked = _Asked(window, ticket)
        unanswered = len(window.audio) if utterance.final else 0

        def settled(ticket: Ticket) -> None:
            self._tickets.discard(ticket)
            self._unanswered -= unanswered
            self._answered.set()
            if not ticket.cancelled() and ticket.exception() is None and ticket.result() is None:
                asked.window = None

        self._unanswered += unanswered
        self._tickets.add(ticket)
        ticket.add_done_callback(settled)
        return asked

    async def _recognize(self, sink: Sink) -> None:
        start, transcript, latency = 0, Transcript(), None
        while (item := await self._queue.get()) is not None:
            match item:
                case TurnStarted() as event:
                    start, transcript, latency = event.start, Transcript(), None
                    self._open, self._done = True, event.start
                    await sink(event)
                case _Asked() as asked:
                    latency = await self._hear(asked, transcript, start, sink) or latency
                case TurnEnded(turn, began, end):
                    self._open, self._done = False, end
                    await sink(TurnCompleted(turn, began, end, transcript.text, transcript.passages, latency))
                    self._drafts.clear()
                    transcript = Transcript()  # the old one holds the last window's audio, and a silence may be long
                case (TurnPaused() | TurnResumed()) as event:
                    await sink(event)
                case _:
                    raise AssertionError(item)

    async def _hear(self, asked: _Asked, transcript: Transcript, start: int, sink: Sink) -> Latency | None:
        if (window := asked.window) is None:
            return None
        asked.window = None  # whoever still holds the request need not hold the audio
        try:
            recognition = await asked.ticket
        except EngineError as error:
            await sink(RecognitionFailed(window.turn, str(error)))
            return None
        if recognition is None:
            return None  # a newer request has taken its place
        self._drafts = {(window.turn, window.index): recognition.hypothesis}
        transcript.update(window, recognition.hypothesis.text)
        self._done = window.end
        await sink(
            TranscriptChanged(
                window.turn,
                start,
                window.end,
                transcript.text,
                transcript.committed_chars,
                transcript.stable_chars,
                window.cause,
                recognition.latency,
            )
        )
        return recognition.latency
