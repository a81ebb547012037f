"""What all sessions share: one engine with its keeper, one detector, the figures, and the end of it all.

    loading -> ready <-> restarting        any -> draining
            -> failed (the first engine could not be opened, or none will work in this process any more)

The detector's thread is looked at once a second, as the engine's is by its keeper, and what it was at is tried again.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any, Final, Protocol, Self

from stt.audio import SAMPLE_RATE
from stt.endofturn import describe, prepare, warm_up
from stt.errors import SttError
from stt.recognition import Keeper, OpenModel, PairKeeper, ServedEngine, ServedRecognizer
from stt.server.logs import LOGGER, log
from stt.server.metrics import MeasuredModel, Metrics
from stt.server.settings import ServerSettings
from stt.settings import TurnSettings
from stt.threads import DaemonThreads
from stt.vad import FRAME
from stt.vad_pool import VadPool

_LOOK_S: Final = 1.0
_VAD_TIMEOUT_S: Final = 5.0  # a round takes milliseconds
_LAG_S: Final = 0.1
# From then on it is worth 32 ms of delay to wake each session half as often: a sixth of all the event loop does.
_MANY_SESSIONS: Final = 64
_LAST_BATCH_S: Final = 5.0  # what runs when the server ends


class Drainable(Protocol):
    """A session, as far as its service knows it."""

    def drain(self, *, now: bool) -> None:
        """End when the running turn does, or now; the turn that runs gets its final."""
        ...


OpenEngine = Callable[[Metrics, Callable[[], None]], ServedEngine]
"""Makes an engine that keeps itself; its figures go to the one, the other is to be called when its state changed."""


def local_engine(open_model: OpenModel, timeout_s: float, open_interims: OpenModel | None = None) -> OpenEngine:
    """Return what makes an engine in this process, with a model of its own for interims or without."""

    def make(metrics: Metrics, changed: Callable[[], None]) -> ServedEngine:
        def measured(opener: OpenModel) -> OpenModel:
            return lambda: MeasuredModel(opener(), metrics)

        if open_interims is None:
            return Keeper(measured(open_model), timeout_s, changed)
        return PairKeeper(measured(open_model), measured(open_interims), timeout_s, changed)

    return make


class Service:
    """Owner of engine, detector and sessions. Use as an async context manager, inside the loop that serves."""

    def __init__(
        self,
        settings: ServerSettings,
        open_engine: OpenEngine,
        open_vad: Callable[[], VadPool],
        turns: TurnSettings | None = None,
    ) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.failure: Exception | None = None
        """Why there is no engine, and will be none."""
        self.on_failure: Callable[[], None] | None = None
        self.vad: VadPool | None = None
        self.sessions: set[Drainable] = set()
        self._more = 0  # places that some of them hold beyond their first
        self.hearing_files = asyncio.Semaphore(settings.max_files)
        """Held while a file is heard; more of them wait."""
        self._engine = open_engine(self.metrics, self._engine_changed)
        self._open_vad = open_vad
        self.turns = turns or TurnSettings()
        """How sound becomes turns where a session does not say otherwise; once the service is ready, as this machine
        can do it."""
        self._threads = DaemonThreads()
        self._draining = False
        self._tasks: list[asyncio.Task[None]] = []
        self._empty = asyncio.Event()
        self._began = time.monotonic()
        self.metrics.queue.set_function(lambda: self.recognizer.waiting if self.recognizer else 0)
        self.metrics.engine_lag.set_function(lambda: self.engine_lag_s)
        self.metrics.ready.set_function(lambda: self.state == "ready")

    async def __aenter__(self) -> Self:
        self._tasks = [
            asyncio.create_task(self._open_and_keep(), name="keeper"),
            asyncio.create_task(self._keep_vad(), name="vad keeper"),
            asyncio.create_task(self._watch(), name="lag"),
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._engine.close(_LAST_BATCH_S)
        if self.vad is not None:
            await asyncio.to_thread(self.vad.__exit__, None, None, None)

    @property
    def hung(self) -> bool:
        """Whether a thread still opens or runs an engine that nobody waits for: native code, which cannot be ended."""
        return self._engine.hung or self._threads.busy or (self.vad is not None and self.vad.hung)

    @property
    def state(self) -> str:
        """`loading`, `ready`, `restarting`, `failed` or `draining`."""
        if self._draining:
            return "draining"
        return self._engine.state if self.failure is None else "failed"

    @property
    def recognizer(self) -> ServedRecognizer | None:
        """What sessions ask; there once the service was ready for the first time."""
        return self._engine.recognizer

    def refusal(self, places: int = 1) -> tuple[str, str] | None:
        """Why no session of so many places can begin now (code and text), or `None`."""
        match self.state:
            case "ready":
                if len(self.sessions) + self._more + places <= self.settings.max_sessions:
                    why = self._engine.refusal()
                    return None if why is None else ("overloaded", f"no room for one more: {why}; try again later")
                return "too_many_sessions", f"all {self.settings.max_sessions} sessions are in use; try again later"
            case "draining":
                return "draining", "the server is shutting down; connect again in a moment"
            case state:
                return "not_ready", f"the engine is {state}; try again when /ready says so"

    @property
    def engine_lag_s(self) -> float:
        """How long the oldest text that is due has waited for the engine; 0 while it keeps up."""
        return self.recognizer.lag_s if self.recognizer is not None else 0.0

    @property
    def piece_s(self) -> float:
        """How much audio a session is woken for: two frames of the detector instead of one where sessions are many."""
        frames = 2 if len(self.sessions) > _MANY_SESSIONS else 1
        return frames * FRAME / SAMPLE_RATE

    def enter(self, session: Drainable, places: int = 1) -> None:
        """Count a session in; it holds places, one for each channel that is heard by itself."""
        self.sessions.add(session)
        self._more += places - 1
        self.metrics.sessions.set(len(self.sessions))
        self.metrics.opened.inc()
        self._empty.clear()

    def leave(self, session: Drainable, places: int = 1) -> None:
        """Count a session out, with as many places."""
        self.sessions.discard(session)
        self._more -= places - 1
        self.metrics.sessions.set(len(self.sessions))
        if not self.sessions:
            self._empty.set()

    async def drain(self, cut_short: asyncio.Event | None = None) -> None:
        """Take no more sessions, and let those there are end with the finals of their running turns.

        For half of `drain_timeout_s` turns may end by themselves, then what was said until then is their final;
        after all of it, or when `cut_short` is set, the wait is over.
        """
        self._draining = True
        log("draining", sessions=len(self.sessions), timeout_s=self.settings.drain_timeout_s)
        half = self.settings.drain_timeout_s / 2
        for now in (False, True):
            for session in list(self.sessions):
                session.drain(now=now)
            if not self.sessions:
                break
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(half):
                    await self._first(self._empty, cut_short)
            if cut_short is not None and cut_short.is_set():
                break
        log("drained", left=len(self.sessions))

    @staticmethod
    async def _first(*events: asyncio.Event | None) -> None:
        waits = [asyncio.create_task(event.wait()) for event in events if event is not None]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    @property
    def summary(self) -> str:
        """One line for a service manager."""
        engine = f", {self.recognizer.model.name}" if self.recognizer is not None else ""
        return f"{self.state}: {len(self.sessions)} of {self.settings.max_sessions} sessions{engine}"

    def describe(self) -> dict[str, Any]:
        """What `/ready` says."""
        model = self.recognizer.model if self.recognizer is not None else None
        return {
            "status": self.state,
            "engine": model.name if model is not None else None,
            "languages": len(model.languages) if model is not None else None,
            "sessions": len(self.sessions),
            "max_sessions": self.settings.max_sessions,
            "max_upload_bytes": self.settings.max_upload_bytes,
            "engine_lag_s": round(self.engine_lag_s, 2),
            **({"error": str(self.failure)} if isinstance(self.failure, SttError) else {}),
        }

    async def _open_and_keep(self) -> None:
        try:
            self.vad = (await self._threads.call(self._open_vad)).__enter__()
            self.turns = await self._threads.call(lambda: prepare(self.turns))
            await warm_up(self.turns)
            await self._engine.run()
        except Exception as error:  # noqa: BLE001 - kept, logged, told: there is nobody to raise it to
            what = "the engine cannot be opened" if self.recognizer is None else "the engine is lost"
            self.failure = error
            if isinstance(error, SttError):
                log(f"{what}: {error}", logging.ERROR)
            else:
                LOGGER.exception(what)
            if self.on_failure is not None:
                self.on_failure()

    def _engine_changed(self) -> None:
        if self._engine.state != "ready":
            if self._engine.state == "restarting":
                self.metrics.restarts.inc()
            return
        model = self.recognizer.model if self.recognizer is not None else None
        log(
            "ready",
            engine=model.name if model else None,
            turns_end_by=describe(self.turns),
            after_s=round(time.monotonic() - self._began, 1),
        )

    async def _keep_vad(self) -> None:
        """Give up a thread of the detector that hangs or died; the sessions it was at lose nothing."""
        while True:
            await asyncio.sleep(_LOOK_S)
            if self.vad is None:
                continue
            hung_s = self.vad.running_s
            if hung_s > _VAD_TIMEOUT_S or not self.vad.alive:
                why = f"hung for {hung_s:.0f} s" if self.vad.alive else "died"
                log(f"the speech detector's thread {why}; another takes its place", logging.ERROR)
                self.metrics.detector_restarts.inc()
                self.vad.restart()

    async def _watch(self) -> None:
        """Measure how late the loop wakes: the first thing to go when there is too much to do."""
        clock = asyncio.get_running_loop().time
        while True:
            due = clock() + _LAG_S
            await asyncio.sleep(_LAG_S)
            self.metrics.lag.observe(max(0.0, clock() - due))
