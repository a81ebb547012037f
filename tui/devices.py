"""The microphones and what each hears, kept off the screen's thread: opening a device may take a while."""

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from threading import Event

from stt.errors import DeviceError, SttError
from stt.sources import InputDevice, Level, input_devices


@dataclass(frozen=True, slots=True)
class Row:
    """A microphone as it is shown."""

    index: int
    name: str
    is_default: bool
    peak: float
    problem: str
    """Why it cannot be heard."""


class Devices:
    """Opens every microphone between `open` and `close`. `in_use` tells which one the session listens to, and its
    peak: many devices cannot be opened twice.
    """

    def __init__(self, look: Callable[[], Event], in_use: Callable[[], tuple[str, float]]) -> None:
        self._look = look
        self._in_use = in_use
        self._devices: list[InputDevice] | None = None
        self._levels: dict[int, Level | str] = {}
        self._generation = 0
        self._lock = threading.Lock()  # one thread at a time opens or closes
        self.problem = ""

    @property
    def rows(self) -> list[Row] | None:
        """`None` while it is being looked."""
        if self._devices is None:
            return None
        name, peak = self._in_use()
        return [self._row(device, name, peak) for device in self._devices]

    def open(self, *, again: bool = False) -> None:
        """List the devices and open them, in a thread. `again`: PortAudio is to look for new ones first."""
        self._generation += 1
        self._devices = None
        threading.Thread(target=self._open, args=(self._generation, again), name="levels", daemon=True).start()

    def close(self, then: Callable[[], None]) -> None:
        """Let go of all devices, in a thread, and `then` go on: the one chosen must be free."""
        self._generation += 1

        def close() -> None:
            self._let_go()
            then()

        threading.Thread(target=close, name="levels", daemon=True).start()

    def _open(self, generation: int, again: bool) -> None:
        self._let_go()
        if again:
            self._look().wait(10)
        with self._lock:
            try:
                devices = input_devices()
                self.problem = "" if devices else "no microphone found; plug one in and press r"
            except DeviceError as error:
                devices, self.problem = [], str(error)
            self._devices = devices
            name, _ = self._in_use()
            for device in devices:
                if device.name == name:
                    continue
                if generation != self._generation:
                    return
                try:
                    self._levels[device.index] = Level(device)
                except SttError as error:
                    self._levels[device.index] = str(error)

    def _let_go(self) -> None:
        with self._lock:
            for opened in self._levels.values():
                if isinstance(opened, Level):
                    with suppress(OSError):
                        opened.close()
            self._levels = {}

    def _row(self, device: InputDevice, name: str, peak: float) -> Row:
        opened = self._levels.get(device.index)
        problem = opened if isinstance(opened, str) else ""
        heard = peak if device.name == name else opened.peak if isinstance(opened, Level) else 0.0
        return Row(device.index, device.name, device.is_default, heard, problem)
