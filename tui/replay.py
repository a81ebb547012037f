"""A recorded session played back with its timing: a `Backend` on a journal."""

import threading
import time
from collections.abc import Callable, Sequence

from tui.document import Record
from tui.updates import EngineReady, InputEnded, InputOpen, InputPaused, Played, Update

_LONGEST_S = 5.0  # waits where nothing happened are cut to this


class Replay:
    """Tells the records of a journal, when their time comes. `listen` pauses it."""

    def __init__(self, name: str, records: Sequence[tuple[float, Record]]) -> None:
        self._name = name
        self._records = records
        self._changed = threading.Condition()
        self._on = True
        self._closing = False
        self._thread: threading.Thread | None = None

    def start(self, tell: Callable[[Update], None], first_stretch: int = 0, heard: int = 0) -> None:  # noqa: ARG002
        """Begin to play."""
        self._thread = threading.Thread(target=self._play, args=(tell,), name="replay", daemon=True)
        self._thread.start()

    def listen(self, *, on: bool) -> None:
        """Go on, or hold."""
        with self._changed:
            self._on = on
            self._changed.notify()

    def use(self, device: int | str | None) -> None:
        """There is no device."""

    def record(self, path: str | None) -> None:
        """There is no audio."""

    def hold_devices(self, *, on: bool) -> None:
        """There is no device."""

    def look_for_devices(self) -> threading.Event:
        """There is no device."""
        done = threading.Event()
        done.set()
        return done

    def close(self) -> None:
        """Stop playing."""
        with self._changed:
            self._closing = True
            self._changed.notify()

    @property
    def closed(self) -> bool:
        return self._thread is None or not self._thread.is_alive()

    def _play(self, tell: Callable[[Update], None]) -> None:
        tell(EngineReady("replay", ""))
        tell(InputOpen(self._name, 16_000))
        before_s = self._records[0][0] if self._records else 0.0
        for at_s, record in self._records:
            left_s = min(_LONGEST_S, at_s - before_s)
            before_s = at_s
            if not self._wait(left_s, tell):
                return
            tell(Played(record))
        tell(InputEnded())

    def _wait(self, left_s: float, tell: Callable[[Update], None]) -> bool:
        """Wait for a time that does not count while playing is held; returns whether to go on."""
        with self._changed:
            while not self._closing and (left_s > 0 or not self._on):
                if not self._on:
                    tell(InputPaused())
                    self._changed.wait_for(lambda: self._on or self._closing)
                    tell(InputOpen(self._name, 16_000))
                    continue
                began = time.monotonic()
                self._changed.wait(left_s)
                left_s -= time.monotonic() - began
            return not self._closing
