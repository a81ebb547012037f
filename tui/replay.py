"""A recorded session played back with its timing: a `Backend` on a journal, and a `Player`.

Its time is that of the journal, with waits where nothing happened cut short. Winding tells at once what the records up
to the new place lead to; at the end it waits to be wound back.
"""

import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate, pairwise
from typing import Final

from tui.document import Record
from tui.updates import Closed, EngineReady, InputEnded, InputOpen, InputPaused, Played, Position, Update, Wound

_LONGEST_S: Final = 5.0  # waits where nothing happened are cut to this
_TICK_S: Final = 0.25  # of the clock on the screen
_SPEEDS: Final = (0.25, 16.0)


class Replay:
    """Tells the records of a journal, when their time comes. `listen` holds it."""

    def __init__(
        self,
        name: str,
        records: Sequence[tuple[float, Record]],
        *,
        at_end: bool = False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`at_end`: begin where all has been said, to read it."""
        self._name = name
        self._records = [record for _, record in records]
        waits = [min(_LONGEST_S, max(0.0, b - a)) for (a, _), (b, _) in pairwise(records)]
        self._times = list(accumulate(waits, initial=0.0))[: len(records)]
        self._length_s = self._times[-1] if self._times else 0.0
        self._monotonic = monotonic
        self._changed = threading.Condition()
        self._changes = 0
        self._at_s = self._length_s if at_end else 0.0
        self._wound = at_end
        self._speed = 1.0
        self._on = True
        self._closing = False
        self._thread: threading.Thread | None = None

    def start(self, tell: Callable[[Update], None], first_stretch: int = 0, heard: int = 0) -> None:  # noqa: ARG002
        """Begin to play."""
        self._thread = threading.Thread(target=self._play, args=(tell,), name="replay", daemon=True)
        self._thread.start()

    def listen(self, *, on: bool) -> None:
        """Go on, or hold; at the end, begin anew."""
        with self._change():
            self._on = on
            if on and self._at_s >= self._length_s:
                self._at_s, self._wound = 0.0, True

    def wind(self, by_s: float) -> None:
        """Go on from another place, earlier (< 0) or later."""
        with self._change():
            self._at_s = max(0.0, min(self._length_s, self._at_s + by_s))
            self._on = self._wound = True

    def change_speed(self, factor: float) -> None:
        """Play faster (> 1) or slower."""
        low, high = _SPEEDS
        with self._change():
            self._speed = max(low, min(high, self._speed * factor))

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
        with self._change():
            self._closing = True

    def join(self, timeout_s: float) -> bool:
        """Wait for the end of the thread; returns whether it came."""
        if self._thread is not None:
            self._thread.join(timeout_s)
        return self._thread is None or not self._thread.is_alive()

    @contextmanager
    def _change(self) -> Iterator[None]:
        with self._changed:
            yield
            self._changes += 1
            self._changed.notify()

    def _play(self, tell: Callable[[Update], None]) -> None:
        tell(EngineReady("replay", ""))
        told, state = 0, ""  # records told; and what was said of playing last
        while True:
            with self._changed:
                if self._closing:
                    break
                wound, self._wound = self._wound, False
                at_s, on, speed, changes = self._at_s, self._on, self._speed, self._changes
                told_by = bisect_right(self._times, at_s)
                ended = told_by == len(self._times)
            if wound:
                tell(Wound(tuple(self._records[:told_by])))
            else:
                for record in self._records[told:told_by]:
                    tell(Played(record))
            told = told_by
            tell(Position(at_s, self._length_s, speed))
            before, state = state, "held" if not on else "ended" if ended else "playing"
            if state != before:
                tell(InputOpen(self._name, 16_000) if state == "playing" else InputPaused() if not on else InputEnded())
            left_s = (self._times[told_by] - at_s) / speed if state == "playing" else None
            with self._changed:
                began = self._monotonic()
                if self._changes == changes:
                    self._changed.wait(None if left_s is None else min(left_s, _TICK_S))
                if left_s is not None and not self._wound:
                    self._at_s = min(at_s + speed * (self._monotonic() - began), self._length_s)
        tell(Closed())
