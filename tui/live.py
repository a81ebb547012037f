"""Listening, in a thread of its own with its own event loop: no model code, no device and no socket touches the
screen's thread. Everything that happens is told as an `Update`.

    while wanted:  open the input -> one stretch: Session.run(tapped input, sink) -> closed, lost, or ended

A microphone or a server that is lost is tried again; the engine loads beside, and what is said meanwhile waits for it.
"""

import asyncio
import threading
import time
import traceback
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import ExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from ssl import SSLContext
from typing import Any, Final

import numpy as np

from stt.audio import SAMPLE_RATE, Samples, samples, seconds
from stt.engines import open_engine, open_interims
from stt.errors import AudioError, DeviceError, EngineError, RefusedError, RemoteError, SttError
from stt.events import Event
from stt.recognition import RecognitionOptions
from stt.recognition.answers import LanguageModel
from stt.session import Session
from stt.settings import EngineSettings, TurnSettings
from stt.sources import FileSource, Microphone, input_devices, paced
from stt.vad import SileroVad, SpeechDetector
from tui.asking import Questions
from tui.document import Heard, StretchBegan
from tui.lag import Lag
from tui.loading import LoadingEngine, OpenEngine, OpenInterims
from tui.recorder import Recorder, open_recorder
from tui.updates import (
    Closed,
    EngineFailed,
    InputEnded,
    InputLost,
    InputOpen,
    InputOpening,
    InputPaused,
    Late,
    Metered,
    Noticed,
    RecordingChanged,
    ServerSays,
    Update,
)

_RETRY_S: Final = 2.0  # PortAudio does not tell of new devices, so a lost one is looked for
_MOST_RETRY_S: Final = 30.0
_PATIENCE_S: Final = 30.0  # with a server that was lost in the middle; what is said meanwhile is kept for it
_METER: Final = samples(0.064)
_PIECE: Final = samples(0.02)
_LOOK_S: Final = 0.25  # between two looks whether a text is late


@dataclass(frozen=True, slots=True)
class Plan:
    """What to listen to, and with what."""

    engine: EngineSettings = field(default_factory=EngineSettings)
    turns: TurnSettings = field(default_factory=TurnSettings)
    language: str | None = "en"
    file: str | None = None
    """Played in real time in place of a microphone."""
    device: int | str | None = None
    server: str | None = None
    """`ws://host:port`: it recognizes, in place of an engine here."""
    api_key: str | None = None
    tls: SSLContext | None = None
    """For `wss://`; `None`: the system's certificates are trusted."""
    terms: tuple[str, ...] = ()
    """Words and phrases that will be said."""


class Live:
    """A `Backend` on a microphone or a file, with an engine in this process or a server."""

    def __init__(
        self, plan: Plan, *, open_engine: OpenEngine = open_engine, open_interims: OpenInterims = open_interims
    ) -> None:
        self._plan = plan
        self._device = plan.device
        self._engine: LoadingEngine | None = None
        if plan.server is None:
            openers = open_engine, open_interims
            self._engine = LoadingEngine(plan.engine, plan.language, plan.turns, openers)
        self._on = True
        self._closing = False
        self._hold = False
        self._looks: list[threading.Event] = []
        self._interrupted = False
        self._lost = False
        self._retry_s = _RETRY_S
        self._ever_open = False
        self._input: Microphone | _File | None = None
        self._file: _File | None = None
        self._recorder: Recorder | None = None
        self._lag = Lag(plan.turns)
        self._loop = asyncio.new_event_loop()
        self._wake = asyncio.Event()
        self._thread: threading.Thread | None = None

    # called by the screen

    def start(self, tell: Callable[[Update], None], first_stretch: int = 0, heard: int = 0) -> None:
        """Begin to listen."""
        self._tell, self._stretch, self._heard = tell, first_stretch - 1, heard
        self._questions = Questions(tell)
        self._thread = threading.Thread(target=self._run, name="live", daemon=True)
        self._thread.start()

    def listen(self, *, on: bool) -> None:
        """Open or close the input; the running turn gets its final."""

        def change() -> None:
            self._on = on

        self._interrupt(change)

    def use(self, device: int | str | None) -> None:
        """Listen to another microphone."""

        def change() -> None:
            self._device, self._on = device, True

        self._interrupt(change)

    def record(self, path: str | None) -> None:
        """Write the audio to a file from now on."""
        self._call(self._change_recording, path)

    def hold_devices(self, *, on: bool) -> None:
        """Do not look for new devices while someone chooses from the list: it would end their levels."""
        self._hold = on

    def look_for_devices(self) -> threading.Event:
        """Look again, which interrupts listening; the event is set when that is done."""
        done = threading.Event()
        self._interrupt(lambda: self._looks.append(done))
        return done

    def unaskable(self) -> str:
        """Why no question can be answered now; empty: one can."""
        try:
            self._language_model()
        except EngineError as error:
            return str(error)
        return ""

    def ask(self, number: int, transcript: str, question: str) -> None:
        """Have a question answered, where there is nothing in the way of it."""
        self._questions.ask(self._language_model, number, transcript, question)

    def _language_model(self) -> LanguageModel:
        if self._engine is not None:
            return self._engine.language_model()
        from stt.remote_answers import RemoteAnswers

        return RemoteAnswers(self._plan.server or "", api_key=self._plan.api_key, tls=self._plan.tls)

    def drop_question(self) -> None:
        """Give up answering."""
        self._questions.drop()

    def close(self) -> None:
        """Stop; the running turn gets its final, then `Closed` is told."""
        self._questions.drop()
        if self._engine is not None:
            self._engine.give_up()

        def change() -> None:
            self._closing = True

        self._interrupt(change)

    def join(self, timeout_s: float) -> bool:
        """Wait for the end of the thread; returns whether it came."""
        if self._thread is not None:
            self._thread.join(timeout_s)
        return self._thread is None or not self._thread.is_alive()

    def _interrupt(self, change: Callable[[], None]) -> None:
        """Change what is wanted, and end what runs, as one step of the loop.

        In two steps the loop could begin what is wanted in between, only to be interrupted in it.
        """

        def interrupt() -> None:
            change()
            self._interrupted = True
            self._lost = False
            self._wake.set()
            if isinstance(self._input, Microphone):
                self._loop.run_in_executor(None, self._input.close)

        self._call(interrupt)

    def _call(self, function: Callable[..., Any], *arguments: Any) -> None:
        with suppress(RuntimeError):  # the loop is closed: it is all over
            self._loop.call_soon_threadsafe(function, *arguments)

    # in the thread

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._main())
        except Exception as error:  # noqa: BLE001 - a thread's last words would reach nobody
            traceback.print_exc()
            self._tell(EngineFailed(f"listening has stopped: {type(error).__name__}: {error}"))
        finally:
            self._tell(Closed())

    async def _main(self) -> None:
        with ExitStack() as stack:
            stack.callback(lambda: self._file and self._file.source.close())
            stack.callback(self._change_recording, None)
            self._vad = await asyncio.to_thread(SileroVad)
            if self._engine is not None:
                stack.enter_context(self._engine.recognizer)
                stack.callback(self._engine.give_up)
                self._engine.load(self._tell, self._stop_listening)
            while not self._closing:
                await self._next()

    def _stop_listening(self) -> None:
        self.listen(on=False)

    async def _next(self) -> None:
        """One stretch, or the wait for it."""
        self._interrupted = False
        self._wake.clear()
        if self._looks:
            await self._look()
        if not self._on:
            self._tell(InputPaused())
            await self._wake.wait()
            return
        if self._engine is not None:
            self._engine.load_again(self._tell, self._stop_listening)
        if not self._lost:
            self._tell(InputOpening())
        try:
            self._input = await asyncio.to_thread(self._open)
            if not self._interrupted:
                await self._stretch_of(self._input)
        except (AudioError, DeviceError, RemoteError) as error:
            self._report(error)
        finally:
            if self._input is not None:
                await asyncio.to_thread(self._input.close)
                self._input = None
        if self._lost and self._on:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._retry_s)
            if self._plan.server is not None:
                self._retry_s = min(2 * self._retry_s, _MOST_RETRY_S)  # a server is not to be hammered
            if self._plan.file is None and not self._hold and not self._closing:
                await self._look()

    async def _look(self) -> None:
        looks, self._looks = self._looks, []
        with suppress(DeviceError):  # opening says it again
            await asyncio.to_thread(input_devices, rescan=True)
        for done in looks:
            done.set()

    def _report(self, error: AudioError | DeviceError | RemoteError) -> None:
        match error:
            case AudioError():
                what, again = "file", False
            case DeviceError():
                what, again = "microphone", True
            case _:
                what, again = "server", not isinstance(error, RefusedError)
        self._lost, self._on = again, self._on and again
        self._tell(InputLost(str(error), what, self._ever_open, again))

    def _open(self) -> "Microphone | _File":
        if self._plan.file is None:
            return Microphone(self._device)
        self._file = self._file or _File(self._plan.file, self._tell)
        return self._file

    async def _stretch_of(self, source: "Microphone | _File") -> None:
        self._stretch += 1
        self._lag = Lag(self._plan.turns)
        self._began = self._heard
        async with self._watching_lag(), aclosing(self._tapped(source)) as tapped:
            if self._engine is not None:
                self._tell_open(source)
                options = RecognitionOptions(self._plan.language, self._plan.terms, words=True)
                session = Session(self._engine.recognizer, self._vad, settings=self._plan.turns, options=options)
                await session.run(tapped, self._sink)
            else:
                await self._remote(source, tapped)
        if isinstance(source, _File) and not self._interrupted:
            self._on = False
            self._tell(InputEnded())

    def _tell_open(self, source: "Microphone | _File") -> None:
        self._lost, self._ever_open, self._retry_s = False, True, _RETRY_S
        self._tell(StretchBegan(self._stretch, self._began, time.time()))
        self._tell(InputOpen(source.name, source.rate))

    async def _remote(self, source: "Microphone | _File", tapped: AsyncIterator[Samples]) -> None:
        from stt.client import RemoteSession

        connected = False

        def notify(text: str) -> None:
            nonlocal connected
            if not text.startswith("connected"):
                self._tell(ServerSays(text))
            elif connected:
                self._tell(ServerSays(""))
            else:
                connected = True
                self._tell_open(source)

        session = RemoteSession(
            self._plan.server or "",
            api_key=self._plan.api_key,
            tls=self._plan.tls,
            settings=self._plan.turns,
            language=self._plan.language or "auto",
            terms=self._plan.terms or None,
            words=True,
            patience_s=_PATIENCE_S,
            notify=notify,
        )
        await session.run(tapped, self._sink)

    async def _tapped(self, source: "Microphone | _File") -> AsyncGenerator[Samples]:
        """Pass on what is heard, showing its level, and writing it down where that is wanted."""
        detector = SpeechDetector(self._vad)
        pieces: list[Samples] = []
        probabilities: list[float] = []
        async for piece in source:
            self._heard += len(piece)
            self._lag.hear(self._heard - self._began, time.monotonic() - source.backlog_s)
            if self._recorder is not None:
                self._write(self._recorder, piece)
            pieces.append(piece)
            # The session scores the same frames; a second time costs 0.5 % of a core, and works for servers as well.
            probabilities += detector.feed(piece)[1].tolist()
            if sum(map(len, pieces)) >= _METER:
                audio = np.concatenate(pieces)
                peak, rms = float(np.abs(audio).max()), float(np.sqrt(np.mean(audio * audio)))
                self._tell(Metered(peak, rms, tuple(probabilities), seconds(self._heard), source.overruns))
                pieces, probabilities = [], []
            yield piece
            if self._interrupted and isinstance(source, _File):
                break  # a microphone has been closed, and ends after what it had heard until then

    async def _sink(self, event: Event) -> None:
        self._tell(Heard(self._stretch, event))
        if (lagged := self._lag.take(event, time.monotonic())) is not None:
            self._tell(lagged)

    @asynccontextmanager
    async def _watching_lag(self) -> AsyncIterator[None]:
        """Tell meanwhile how late a text is that does not come, and when it has come."""

        async def look() -> None:
            told = None
            while True:
                await asyncio.sleep(_LOOK_S)
                late = self._lag.waiting(time.monotonic())
                if late != told:
                    self._tell(Late(late))
                told = late

        task = asyncio.create_task(look())
        try:
            yield
        finally:
            task.cancel()

    def _change_recording(self, path: str | None) -> None:
        recorder, self._recorder = self._recorder, None
        try:
            if recorder is not None:
                recorder.close()
            if path is not None:
                self._recorder = open_recorder(Path(path))
        except (OSError, SttError) as error:
            self._tell(RecordingChanged(None, str(error)))
        else:
            if recorder is not None or path is not None:
                self._tell(RecordingChanged(path))

    def _write(self, recorder: Recorder, piece: Samples) -> None:
        try:
            recorder.write(piece)
        except OSError as error:
            self._recorder = None
            with suppress(OSError):
                recorder.close()
            self._tell(RecordingChanged(None, str(error)))


class _File:
    """A file played at the pace of speech, from where it was left."""

    overruns = 0
    backlog_s = 0.0
    rate = SAMPLE_RATE

    def __init__(self, path: str, tell: Callable[[Update], object]) -> None:
        self.source = FileSource(path, notice=lambda line: tell(Noticed(line)))
        self.name = Path(path).name
        self._pieces = self._small()

    def close(self) -> None:
        """Left open: it goes on after a pause."""

    async def _small(self) -> AsyncIterator[Samples]:
        async for block in self.source:
            for at in range(0, len(block), _PIECE):
                yield block[at : at + _PIECE]

    def __aiter__(self) -> AsyncIterator[Samples]:
        return paced(self._pieces, seconds(_PIECE))
