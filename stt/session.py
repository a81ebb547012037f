"""The one pipeline: `Session.run(source, sink)`. All asynchronous wiring of listening and recognizing is here.

    source -> listen: resampled audio -> SpeechDetector -> TurnSegmenter --+-- what the detector found ------> sink
                                            ^ silence that ends the turn   |                                     ^
                                            +-- EndOfTurn <- pause --------+-- windows -> [texts to come]        |
                                                                                             |                   |
                           recognize: Event <- Transcript <- RecognitionService's ticket <---+-- texts in order -+

The terminal program, the server and the file command are this call with another source and sink.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterable, Awaitable, Callable
from dataclasses import replace
from typing import Final

from stt.asked import KINDS, Asked, Cause, RunningTurn
from stt.audio import Samples, as_samples, samples, seconds
from stt.control import Clear, Configure, Control, Flush
from stt.endofturn import EndOfTurn, Said, choose
from stt.endofturn.pauses import Pauses
from stt.engines.languages import language_code
from stt.errors import EngineError
from stt.events import (
    Acknowledged,
    Event,
    Latency,
    RecognitionFailed,
    TranscriptChanged,
    TurnCompleted,
    TurnPaused,
    TurnResumed,
    TurnStarted,
)
from stt.recognition import Hypothesis, RecognitionOptions, RecognitionService, Ticket, Utterance, WindowKey
from stt.settings import TurnSettings
from stt.transcript import Transcript
from stt.turns import TextStands, TurnEnded, TurnEvent, TurnSegmenter, Window
from stt.vad import BLOCK, Probabilities, SileroVad, SpeechDetector
from stt.vad_pool import VadPool

Source = AsyncIterable[Samples | Control]
"""Pieces of 16 kHz mono audio of any length, in order, and commands between them; it ends when the stream does.

A piece is float32 (or float64) in [-1, 1], or int16 (scaled), of shape [n] or [n, 1]; it is copied, so that whoever
made it may use its memory again.
"""

AudioSource = AsyncIterable[Samples]
"""A source that hands out nothing but audio."""

Sink = Callable[[Event], Awaitable[None]]
"""Called with one event at a time, in the order that `stt.events` promises; a slow sink slows the session, not other
sessions."""

# Pieces longer than this are scored off the event loop: a frame takes about 0.1 ms, and nothing may block it for long.
_INLINE: Final = samples(0.5)
# Windows ahead of the recognizer: for a file this is what lets windows share batches. All of them may be windows of
# 24 s, which is why live sessions of a server are given a bound in seconds as well.
_AHEAD: Final = 24
_TEXTS: Final = 1_000  # ends of turns and acknowledgements that wait behind them, too

_Text = Asked | TurnStarted | TurnEnded | TextStands | Acknowledged | asyncio.Event | None
"""What waits for its turn to be told; an event is set when it is reached; `None` at the end."""


class Session:
    """One stream of audio, from its first sample to its last turn.

    Args:
        recognizer: shared by all sessions.
        vad: a model of this thread, or the pool that scores many streams together.
        settings: how sound becomes turns.
        options: what is asked of the engine.
        end_of_turn: decides how long a silence has to be; `None`: what the settings ask for.
        ahead_s: speech in windows that wait for the engine or are with it, interims aside; what would exceed it is not
            taken from the source. One window may always be under way. `None`: a count of windows is bound enough.
        trace: what it is called in logs.

    """

    def __init__(
        self,
        recognizer: RecognitionService,
        vad: SileroVad | VadPool,
        *,
        settings: TurnSettings | None = None,
        options: RecognitionOptions | None = None,
        end_of_turn: EndOfTurn | None = None,
        ahead_s: float | None = None,
        trace: str = "",
    ) -> None:
        settings = settings or TurnSettings()
        self._recognizer = recognizer
        self._trace = trace
        self._options = options or RecognitionOptions()
        self._detector = vad.detector() if isinstance(vad, VadPool) else SpeechDetector(vad)
        self._settings = settings
        self._given_policy = end_of_turn  # by the caller, whatever the settings say
        policy = end_of_turn or choose(settings, self._options.language)
        self._segmenter = TurnSegmenter(replace(settings, end_of_turn_s=policy.longest_s))
        self._pauses = Pauses(policy, self._segmenter.set_gap)
        self._began = 0  # where the turn did that is heard now
        self._resumed: dict[int, int] = {}  # where the speaker last went on, by turns whose end is not yet sent
        self._sending = asyncio.Lock()

        self._texts: deque[_Text] = deque()
        self._more = asyncio.Event()  # texts to come
        self._room = asyncio.Event()
        self._drafts: dict[tuple[int, int], Hypothesis] = {}  # of the window last heard of
        self._asked: list[Asked] = []  # unanswered, oldest first
        self._awaited: Asked | TextStands | None = None  # the text of the last pause, until it is told
        self._unanswered = 0  # samples in windows whose recognition stands, once it is there
        # While more than this is unanswered, no audio is taken: a whole window might be too much.
        self._most_unanswered = None if ahead_s is None else max(0, samples(ahead_s - settings.window_s))
        self._turn = RunningTurn()
        self._found: tuple[int, str | None] = -1, None  # the language, and in which turn
        self._open = False  # a turn has begun and its end is not yet sent
        self._done = 0  # samples up to the last text sent
        self.speech = 0.0
        """How probable it is that somebody speaks in the last frame that was heard, 0 to 1."""

    async def run(self, source: Source, sink: Sink) -> None:
        """Send the events of `source` to `sink` until the source ends and the last turn has its final.

        Where the source fails (an `AudioError`, say), the turn that runs is completed with what was heard before the
        error is raised. What the sink raises ends the session at once. A session runs once.

        Raises:
            AudioError: a piece of the source has a type or shape that is no mono audio.

        """
        try:
            async with asyncio.TaskGroup() as tasks:
                listening = tasks.create_task(self._listen(source, sink, tasks))
                recognizing = tasks.create_task(self._recognize(sink))
                # In here, because a group that fails while it waits at its end leaves the task that made it counted as
                # cancelled (CPython 3.11), and no timeout works there before 3.11.3; Debian 12 has 3.11.2.
                await asyncio.wait((recognizing,))
        except BaseExceptionGroup as group:
            if len(group.exceptions) == 1:
                raise group.exceptions[0] from None  # one failure needs no group around it
            raise
        finally:
            self._recognizer.forget(self)
            for asked in self._asked:
                asked.ticket.cancel()
        if error := listening.result():
            raise error

    @property
    def done_s(self) -> float:
        """Seconds of the stream that are dealt with: recognized, or found silent."""
        return seconds(self._segmenter.now if not self._open and not self._texts else self._done)

    # listening

    async def _listen(self, source: Source, sink: Sink, tasks: asyncio.TaskGroup) -> Exception | None:
        """Take the source; returns the error that ended it early, once the texts of all before it are under way."""
        failure: Exception | None = None
        try:
            async for piece in source:
                if isinstance(piece, Control):
                    await self._obey(piece, sink, tasks)
                    continue
                audio = as_samples(piece)
                for at in range(0, len(audio), BLOCK):
                    await self._hear(*await self._score(audio[at : at + BLOCK]), sink, tasks)
        except Exception as error:  # noqa: BLE001 - kept and raised after the last final
            failure = error
        await self._take_rest(sink, tasks)
        await self._push(self._segmenter.finish(), sink)
        self._pauses.end()
        self._put(None)
        return failure

    async def _take_rest(self, sink: Sink, tasks: asyncio.TaskGroup) -> None:
        """Score what is left of a frame as if silence followed."""
        scored = self._detector.finish()
        await self._hear(*(scored if isinstance(scored, tuple) else await scored), sink, tasks)

    async def _hear(
        self, frames: list[Samples], probabilities: Probabilities, sink: Sink, tasks: asyncio.TaskGroup
    ) -> None:
        for frame, probability in zip(frames, probabilities, strict=True):
            self._pauses.hear(frame)
            self.speech = float(probability)
            if (news := self._pauses.news()) is not None:
                await self._send(sink, news)
            events = self._segmenter.feed((frame,), (probability,))
            if events:
                await self._push(events, sink)
            self._pauses.advance(self._segmenter.now)
            for event in events:
                if isinstance(event, TurnPaused):
                    self._begin_pause(event, sink, tasks)
            await self._pauses.at_rest()

    async def _score(self, block: Samples) -> tuple[list[Samples], Probabilities]:
        if not isinstance(self._detector, SpeechDetector):
            return await self._detector.feed(block)
        if len(block) <= _INLINE:
            return self._detector.feed(block)
        return await asyncio.to_thread(self._detector.feed, block)

    async def _obey(self, command: Control, sink: Sink, tasks: asyncio.TaskGroup) -> None:
        match command:
            case Flush():
                await self._take_rest(sink, tasks)  # all audio is all of it
                await self._push(self._segmenter.flush(), sink)
                self._put(Acknowledged("flush", self._segmenter.now))
            case Clear():
                await self._take_rest(sink, tasks)
                await self._push(self._segmenter.clear(), sink)
                self._put(Acknowledged("clear", self._segmenter.now))
            case Configure(settings, options):
                self._options = options or self._options
                self._settings = settings or self._settings
                await self._settle(sink, tasks)
                self._put(Acknowledged("configure", self._segmenter.now))

    async def _settle(self, sink: Sink, tasks: asyncio.TaskGroup) -> None:
        """Go on by the settings and options there now are, also in a pause that has begun."""
        before = self._pauses.policy
        policy = self._given_policy or choose(self._settings, self._options.language)
        self._segmenter.configure(replace(self._settings, end_of_turn_s=policy.longest_s))
        self._pauses.policy = policy
        pause = self._pauses.end()
        if pause is not None and policy.audio_s <= before.audio_s:  # who has not heard what was said cannot judge it
            self._begin_pause(pause, sink, tasks)
            await self._pauses.at_rest()

    async def _push(self, events: list[TurnEvent], sink: Sink) -> None:
        """Send what the detector found, ask for texts, and wait while too much is unanswered."""
        for event in events:
            match event:
                case TurnStarted():
                    self._began = event.start
                    await self._send(sink, event)
                    self._put(event)
                case TurnPaused():
                    await self._send(sink, event)
                case TurnResumed():
                    self._pauses.end()
                    self._resumed[event.turn] = event.at
                    await self._send(sink, event)
                case TurnEnded(turn, _, _, _, why):
                    self._pauses.end()
                    if why == "cleared":
                        self._take_back(turn)
                    self._put(event)
                case TextStands():
                    self._awaited = event
                    self._put(event)
                case Window():
                    asked = self._submit(event)
                    if event.cause == "pause":
                        self._awaited = asked
                    self._put(asked)
            while self._full():
                self._room.clear()
                await self._room.wait()

    def _full(self) -> bool:
        if self._most_unanswered is not None and self._unanswered > self._most_unanswered:
            return True
        return len(self._texts) > _TEXTS or sum(asked.stands for asked in self._asked) > _AHEAD

    def _put(self, text: _Text) -> None:
        self._texts.append(text)
        self._more.set()

    def _submit(self, window: Window) -> Asked:
        utterance = Utterance(
            window.audio,
            replace(self._options, language=self._language_of(window.turn)),
            KINDS[window.cause],
            self._drafts.get((window.turn, window.index)),
            WindowKey(self, window.turn, window.index),
            window.start,
            window.speech_s,
            window.silences,
            trace=self._trace,
        )
        ticket = self._recognizer.submit(utterance)
        asked = Asked(window, ticket, window.cause, window.turn)
        unanswered = len(window.audio) if asked.stands else 0

        def settled(ticket: Ticket) -> None:
            self._asked.remove(asked)
            self._unanswered -= unanswered
            if ticket.cancelled() or (ticket.exception() is None and ticket.result() is None):
                asked.window = None
                with contextlib.suppress(ValueError):  # its text is being waited for already
                    self._texts.remove(asked)
                if asked is self._awaited:
                    self._awaited = None
            self._room.set()
            self._more.set()

        self._asked.append(asked)
        self._unanswered += unanswered
        asked.ticket.add_done_callback(settled)
        return asked

    def _take_back(self, turn: int) -> None:
        for asked in list(self._asked):
            if asked.turn == turn:
                asked.window = None
                asked.ticket.cancel()

    # the end of a turn

    def _begin_pause(self, event: TurnPaused, sink: Sink, tasks: asyncio.TaskGroup) -> None:
        async def hear() -> None:
            await self._push(self._segmenter.ask(), sink)
            self._put(told := asyncio.Event())
            await told.wait()

        heard = None if self._options.live else hear
        said, now = self._said_in(event.turn), self._segmenter.now
        self._pauses.begin(event, now, self._began, said, heard, lambda: self._awaited is not None, tasks)

    def _said_in(self, turn: int) -> Callable[[], Said]:
        def said() -> Said:
            language = self._language_of(turn)
            if self._turn.number != turn:
                return Said(language=language)
            return Said(self._turn.transcript.text, self._done, language, self._turn.ended)

        return said

    def _language_of(self, turn: int) -> str | None:
        """Return what is spoken in a turn: what the session asked for, or what the engine found there so far."""
        found_in, found = self._found
        return language_code(self._options.language) or (found if found_in == turn else None)

    # texts

    async def _send(self, sink: Sink, event: Event) -> None:
        async with self._sending:
            await sink(event)

    async def _recognize(self, sink: Sink) -> None:
        while True:
            while not self._texts:
                self._more.clear()
                await self._more.wait()
            item = self._texts.popleft()
            self._room.set()
            match item:
                case None:
                    return
                case TurnStarted(turn, start):
                    self._turn = RunningTurn(turn, start)
                    self._open, self._done = True, start
                case Asked():
                    await self._tell(item, sink)
                case TextStands(_, end):
                    if self._turn.transcript.text and self._turn.latency is not None:
                        await self._send_text(sink, end, "pause", self._turn.latency)
                case TurnEnded():
                    await self._complete(item, sink)
                case Acknowledged():
                    await self._send(sink, item)
                case asyncio.Event():
                    item.set()
            if item is self._awaited:
                self._awaited = None
                self._pauses.advance(self._segmenter.now)

    async def _tell(self, asked: Asked, sink: Sink) -> None:
        """Wait for a text, and send it."""
        while not asked.ticket.done():
            self._more.clear()
            await self._tell_previews(asked, sink)
            if not asked.ticket.done():
                await self._more.wait()
        await asyncio.wait([asked.ticket])
        window, asked.window = asked.window, None  # whoever still holds the request need not hold the audio
        if window is None:
            return  # a newer request has taken its place
        turn = self._turn
        if turn.failure is not None and turn.failed_window != window.index:
            await self._fail(sink)
        if (error := asked.ticket.exception()) is not None:
            if not isinstance(error, EngineError):
                raise error
            turn.failure, turn.failed_window = str(error), window.index
            if not any(isinstance(text, Asked) and text.stands and text.turn == turn.number for text in self._texts):
                turn.keep_preview()
            if asked.cause != "pause":  # at a pause it is too early to say: the speaker may go on, and be heard anew
                await self._fail(sink)
            return
        recognition = asked.ticket.result()
        assert recognition is not None  # noqa: S101 - for the type checker: such have no window
        hypothesis = recognition.hypothesis
        self._drafts = {(window.turn, window.index): hypothesis}
        if hypothesis.language is not None and asked.cause != "interim":
            self._found = window.turn, hypothesis.language
        shown = bool(turn.transcript.text)
        turn.update(window, hypothesis)
        turn.failure, turn.latency = None, recognition.latency
        self._done = window.end
        if shown or turn.transcript.text or asked.stands:
            await self._send_text(sink, window.end, asked.cause, recognition.latency)

    async def _tell_previews(self, asked: Asked, sink: Sink) -> None:
        """Tell interims that another model has heard, while it takes its time with what was asked before them."""
        for text in list(self._texts) if asked.stands else ():
            if not isinstance(text, Asked) or text.turn != asked.turn:
                return
            if (window := text.window) is not None and (recognition := text.preview) is not None:
                self._texts.remove(text)
                self._turn.preview = window, recognition.hypothesis
                await self._send_text(sink, window.end, "interim", recognition.latency)

    async def _send_text(self, sink: Sink, end: int, cause: Cause, latency: Latency) -> None:
        turn = self._turn
        transcript, committed, stable = turn.shown()
        async with self._sending:
            if cause == "pause" and self._resumed.get(turn.number, 0) >= end:
                cause = "interim"  # it is over
            end = turn.preview[0].end if turn.preview is not None else end
            text, words = transcript.text, transcript.words if self._options.words else ()
            await sink(TranscriptChanged(turn.number, turn.start, end, text, committed, stable, cause, latency, words))

    async def _fail(self, sink: Sink) -> None:
        message, self._turn.failure = self._turn.failure, None
        if message is not None:
            await self._send(sink, RecognitionFailed(self._turn.number, message))

    async def _complete(self, ended: TurnEnded, sink: Sink) -> None:
        self._open, self._done = False, ended.end
        turn = self._turn
        transcript = Transcript() if ended.why == "cleared" else turn.transcript
        await self._fail(sink)
        start, end = ended.start, ended.end

        def within(at: int) -> int:
            return min(max(at, start), end)

        await self._send(
            sink,
            TurnCompleted(
                ended.turn,
                start,
                end,
                transcript.text,
                tuple(replace(p, start=within(p.start), end=within(p.end)) for p in transcript.passages),
                turn.latency,
                ended.decided,
                ended.why,
                tuple(replace(w, start=within(w.start), end=within(w.end)) for w in transcript.words)
                if self._options.words
                else (),
                self._found[1] if self._found[0] == ended.turn else None,
            ),
        )
        self._drafts.clear()
        self._resumed.pop(ended.turn, None)
        self._turn = RunningTurn()  # the old one holds the last window's audio, and a silence may be long
