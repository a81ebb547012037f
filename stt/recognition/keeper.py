"""Who watches over the engine of a long-lived process, and opens another in its place.

    loading -> ready <-> restarting

Once a second the keeper looks at the recognizer's worker. It gives up on one whose call runs for longer than
`timeout_s`, whose thread is dead, or that failed on three calls in a row. The old model is let go before another is
opened: a GPU has no room for two. What waits goes on waiting meanwhile; where no engine can be opened, it fails, and
the keeper tries again. An engine whose device is lost is beyond that: only a new process helps.
"""

import asyncio
import gc
import logging
from collections.abc import Callable
from typing import Final, Literal

import numpy as np

from stt.audio import SAMPLE_RATE
from stt.errors import EngineError, EngineLostError
from stt.recognition.local import LocalRecognizer
from stt.recognition.service import SpeechModel, Utterance, device_lost
from stt.threads import DaemonThreads

OpenModel = Callable[[], SpeechModel]
"""Opens an engine; called in a thread, again whenever the engine before had to be given up."""

_LOGGER: Final = logging.getLogger(__name__)
_LOOK_S: Final = 1.0
_FIRST_BACKOFF_S: Final = 1.0
_MOST_BACKOFF_S: Final = 30.0
_LETTING_GO_S: Final = 10.0
_OPEN_TIMEOUTS: Final = 10  # an engine may take longer to load than to decode
_MOST_FAILED: Final = 3  # calls in a row: one utterance that an engine cannot bear is no reason to give it up


class Keeper:
    """Opens an engine, and keeps a `LocalRecognizer` working; `changed` is called whenever `state` is another."""

    def __init__(self, open_model: OpenModel, timeout_s: float, changed: Callable[[], None] = lambda: None) -> None:
        self.state: Literal["loading", "ready", "restarting"] = "loading"
        self.recognizer: LocalRecognizer | None = None
        """There once the first engine is; it stays the same one, whatever engines come and go."""
        self._open_model = open_model
        self._timeout_s = timeout_s
        self._changed = changed
        self._threads = DaemonThreads()

    @property
    def hung(self) -> bool:
        """Whether a thread still opens or runs an engine that nobody waits for."""
        return self._threads.busy or (self.recognizer is not None and self.recognizer.hung)

    def refusal(self) -> str | None:
        """Why it can bear no more sessions: nothing is known here but what the server's own limits say."""
        return None

    async def close(self, timeout_s: float) -> None:
        """Close the recognizer, once `run` has ended; the call that runs has this long."""
        if self.recognizer is not None:
            await asyncio.to_thread(self.recognizer.close, timeout_s)

    async def run(self) -> None:
        """Open the engine and watch over it, until cancelled.

        Raises:
            EngineLostError: no engine will work in this process any more.
            Exception: whatever opening the first engine raised.

        """
        recognizer = self.recognizer = LocalRecognizer(await self._open_warm(), kept=True).__enter__()
        self._become("ready")
        while True:
            await asyncio.sleep(_LOOK_S)
            if (lost := recognizer.lost or device_lost(recognizer.model)) is not None:
                raise lost
            if (why := self._wrong_with(recognizer)) is not None:
                await self._replace(recognizer, why)

    def _wrong_with(self, recognizer: LocalRecognizer) -> str | None:
        if (hung_s := recognizer.running_s) > self._timeout_s:
            return f"the engine hung for {hung_s:.0f} s"
        if not recognizer.alive:
            return "the engine's thread died"
        if (failed := recognizer.failed) >= _MOST_FAILED:
            return f"the engine failed on {failed} batches in a row"
        return None

    async def _replace(self, recognizer: LocalRecognizer, why: str) -> None:
        _LOGGER.error("%s; opening it anew", why)
        self._become("restarting")
        recognizer.abandon(EngineError(why))
        await self._let_go(recognizer.model)
        backoff_s = _FIRST_BACKOFF_S
        while True:
            try:
                async with asyncio.timeout(_OPEN_TIMEOUTS * self._timeout_s):
                    model = await self._open_warm()
                break
            except EngineLostError:
                raise
            except Exception as error:  # noqa: BLE001 - tried again until it works
                recognizer.fail_waiting(EngineError(why))
                _LOGGER.error("the engine cannot be opened: %s; tried again in %g s", error, backoff_s)  # noqa: TRY400
                await asyncio.sleep(backoff_s)
                backoff_s = min(2 * backoff_s, _MOST_BACKOFF_S)
        recognizer.restart(model)
        self._become("ready")

    async def _let_go(self, model: SpeechModel) -> None:
        gc.unfreeze()  # what was frozen is never looked through: a model in a circle of references would stay
        try:
            async with asyncio.timeout(_LETTING_GO_S):
                await self._threads.call(model.close)
        except Exception as error:  # noqa: BLE001 - another may fit in beside it
            _LOGGER.error("the engine before cannot be let go: %s", error or type(error).__name__)  # noqa: TRY400

    async def _open_warm(self) -> SpeechModel:
        """Open an engine and let it hear a second of silence: the first call pays for what is loaded on first use."""

        def load() -> SpeechModel:
            model = self._open_model()
            model.transcribe([Utterance(np.zeros(SAMPLE_RATE, np.float32))])
            return model

        return await self._threads.call(load)

    def _become(self, state: Literal["ready", "restarting"]) -> None:
        self.state = state
        if state == "ready":
            # What is loaded now stays: to look through all of it, again and again, would hold up the event loop.
            gc.collect()
            gc.freeze()
        self._changed()
