"""One replica: an engine with the local scheduler and its keeper, behind calls that may come from many fronts.

Batching over the sessions of all fronts is done here, by the code that does it in one process (`LocalRecognizer`):
finals first, fair, newest interim only. Whatever carries the calls (Ray Serve, a test) brings messages and takes
answers.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Final

from stt.audio import seconds
from stt.cluster.load import Gauged, Load
from stt.cluster.wire import AudioCache, ForgottenError, Message, pack_hypothesis, plain, unpack
from stt.engines import check_language
from stt.errors import EngineError, EngineLostError
from stt.recognition import Keeper, OpenModel, Utterance

_LOGGER: Final = logging.getLogger(__name__)
_CLOSING_S: Final = 5.0


class Replica:
    """An engine that answers messages. `open` it before the first, `close` it after the last.

    Answers are dictionaries; `said` is one of
    `heard` (a hypothesis and what it took), `overtaken` (a newer request has taken its place, or an interim failed),
    `forgotten` (send all of the audio), `failed` (the engine did, on this one), `gone` (no engine will work here).
    """

    def __init__(
        self,
        name: str,
        open_model: OpenModel,
        timeout_s: float = 60.0,
        device_bytes: Callable[[], int] = lambda: 0,
        serves: tuple[str, ...] = (),
    ) -> None:
        """`serves`: languages whose sessions it is there for before other engines; none: for all."""
        self.name = name
        self._serves = serves
        self._keeper = Keeper(lambda: self._gauge(open_model), timeout_s, self._changed)
        self._device_bytes = device_bytes
        self._cache = AudioCache()
        self._gauged: Gauged | None = None
        self._ready = asyncio.Event()
        self._keeping: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Open the engine, and keep it working from now on.

        Raises:
            Exception: whatever opening the engine raised.

        """
        keeping = self._keeping = asyncio.create_task(self._keeper.run(), name="keeper")
        ready = asyncio.create_task(self._ready.wait())
        await asyncio.wait([keeping, ready], return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if keeping.done():
            keeping.result()

    async def close(self) -> None:
        """End; the call that runs has some seconds."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
        await self._keeper.close(_CLOSING_S)

    def check(self) -> None:
        """See whether this process is of any use.

        Raises:
            EngineError: another one should take its place.

        """
        if self._keeping is None or self._keeping.done():
            msg = "the engine is lost"
            raise EngineError(msg)

    def load(self) -> Load:
        """Say how busy it is."""
        recognizer, gauged = self._keeper.recognizer, self._gauged
        if recognizer is None or gauged is None:
            return Load(self.name)
        return gauged.load(
            self.name, recognizer.lag_s, recognizer.waiting, len(self._cache), self._device_bytes(), self._serves
        )

    def forget(self, session: str) -> None:
        """Let go of what is kept of a session, and of what it has waiting."""
        self._cache.forget(session)
        if self._keeper.recognizer is not None:
            self._keeper.recognizer.forget(session)

    async def recognize(self, message: Message) -> Message:
        """Answer a message of `wire.pack`; cancelling takes it back, unless it has begun."""
        began = time.monotonic()
        try:
            utterance = unpack(message, self._cache.whole(message))
        except ForgottenError:
            return self._answer("forgotten")
        try:
            assert self._keeper.recognizer is not None  # noqa: S101 - for the type checker: it was opened
            recognition = await self._keeper.recognizer.submit(utterance)
        except EngineLostError as error:
            return self._answer("gone", why=str(error))
        except EngineError as error:
            _log(utterance, "failed", began, error=str(error))
            return self._answer("failed", why=str(error))
        if recognition is None:
            return self._answer("overtaken")
        latency = recognition.latency
        _log(utterance, "recognized", began, decoded_s=round(latency.decoded_s, 3), batch=latency.batch_size)
        hypothesis = pack_hypothesis(recognition.hypothesis)
        return self._answer("heard", hypothesis=hypothesis, decoded_s=latency.decoded_s, batch_size=latency.batch_size)

    def _answer(self, said: str, **more: Any) -> Message:
        return {"said": said, "load": plain(self.load()), **more}

    def _gauge(self, open_model: OpenModel) -> Gauged:
        model = open_model()
        for language in self._serves:
            check_language(model, language)
        self._gauged = Gauged(model)
        return self._gauged

    def _changed(self) -> None:
        if self._keeper.state == "ready" and self._gauged is not None:
            self._gauged.reset()  # of the warm-up
            self._ready.set()


def _log(utterance: Utterance, what: str, began: float, **fields: Any) -> None:
    """Tell what was done of a session, never what was said."""
    audio_s, took_s = round(seconds(len(utterance.audio)), 2), round(time.monotonic() - began, 3)
    level = logging.DEBUG if utterance.kind == "interim" else logging.INFO
    shown = {"session": utterance.trace, "kind": utterance.kind, "audio_s": audio_s, "took_s": took_s, **fields}
    _LOGGER.log(level, "%s %s", what, " ".join(f"{k}={v}" for k, v in shown.items()))
