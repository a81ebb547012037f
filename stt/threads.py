"""Threads for native code that may hang: it cannot be ended from outside, and must not hold the process."""

import asyncio
import contextlib
import functools
import threading
from collections.abc import Callable
from typing import TypeVar

from stt.errors import EngineError

_T = TypeVar("_T")


class DaemonThreads:
    """Calls, each in a daemon thread of its own."""

    def __init__(self) -> None:
        self._threads: list[threading.Thread] = []

    @property
    def busy(self) -> bool:
        """Whether a call still runs, awaited or not."""
        return any(thread.is_alive() for thread in self._threads)

    async def call(self, call: Callable[[], _T]) -> _T:
        """Await what a call returns or raises; cancelling leaves the thread to itself.

        Raises:
            EngineError: it raised what is no `Exception`.

        """
        loop = asyncio.get_running_loop()
        result: asyncio.Future[_T] = loop.create_future()

        def work() -> None:
            try:
                settle = functools.partial(result.set_result, call())
            except BaseException as error:  # noqa: BLE001 - handed over
                failure = error if isinstance(error, Exception) else EngineError(f"{type(error).__name__}: {error}")
                settle = functools.partial(result.set_exception, failure)
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to tell
                loop.call_soon_threadsafe(lambda: None if result.done() else settle())

        thread = threading.Thread(target=work, name="load", daemon=True)
        self._threads = [other for other in (*self._threads, thread) if other is thread or other.is_alive()]
        thread.start()
        return await result
