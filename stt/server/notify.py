"""What systemd wants to hear from a service, as `sd_notify(3)` has it: ready, alive, stopping.

A few words in one datagram to the socket that `NOTIFY_SOCKET` names; nothing has to be installed for that. Whoever runs
the event loop calls `tick` as often as it likes. So a loop that stands still is silent, and systemd ends the service
once it has been silent for `WATCHDOG_USEC`.
"""

import logging
import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import Final, Self

from stt.errors import SettingsError
from stt.server.logs import log

LOADING_S: Final = 30.0
"""While the engine loads (or its weights come over the network), the start may take so long beyond each word of it."""
HELPLESS_S: Final = 300.0
"""An engine that could not be opened again for so long will not be: a GPU whose context is broken, say, comes back with
a new process only. From then on the service is silent, and the watchdog starts it anew."""
_LOADING_EVERY_S: Final = 5.0
_STATUS_EVERY_S: Final = 10.0


class Manager:
    """The service manager that started this process.

    Args:
        address: a socket's path, `@name` in the abstract namespace, or `None`: there is nobody to tell.
        watchdog_s: the longest silence it bears once the service is ready; `None`: any.
        clock: seconds, monotonic.

    """

    def __init__(
        self, address: str | None, watchdog_s: float | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._address = address and ("\0" + address[1:] if address.startswith("@") else address)
        self._every_s = min(_STATUS_EVERY_S, watchdog_s / 3 if watchdog_s else _STATUS_EVERY_S)
        self._clock = clock
        self._announced = self._complained = False
        self._due = self._well = clock()
        self.watched = watchdog_s is not None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], pid: int | None = None) -> Self:
        """Read `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`, which systemd sets.

        Raises:
            SettingsError: they do not say what systemd says.

        """
        address = environment.get("NOTIFY_SOCKET") or None
        if address is not None and (address[0] not in "/@" or len(address) < 2):
            msg = f"NOTIFY_SOCKET: expected a path or @name, got {address!r}"
            raise SettingsError(msg)
        usec, whose = environment.get("WATCHDOG_USEC"), environment.get("WATCHDOG_PID")
        if whose and whose != str(os.getpid() if pid is None else pid):
            usec = None  # it was meant for the process that started us
        if usec is not None and not (usec.isdecimal() and int(usec)):
            msg = f"WATCHDOG_USEC: expected microseconds above 0, got {usec!r}"
            raise SettingsError(msg)
        return cls(address, int(usec) / 1e6 if usec and address else None)

    def tick(self, state: str, status: str) -> None:
        """Say what is due.

        Args:
            state: `loading`, `ready`, or anything else for an engine that was ready and is not now.
            status: one line for `systemctl status`.

        """
        if self._address is None:
            return
        now = self._clock()
        if state in {"loading", "ready"}:
            self._well = now
        if state == "ready" and not self._announced:
            self._announced = self._send("READY=1", f"STATUS={status}", "WATCHDOG=1")
            self._due = now + self._every_s
        elif now >= self._due:
            if not self._announced:
                self._send(f"EXTEND_TIMEOUT_USEC={LOADING_S * 1e6:.0f}", f"STATUS={status}")
                self._due = now + _LOADING_EVERY_S
            else:
                alive = ("WATCHDOG=1",) if now - self._well < HELPLESS_S else ()
                self._send(f"STATUS={status}", *alive)
                self._due = now + self._every_s

    def stopping(self, within_s: float) -> None:
        """Say that the end has begun, and how long it may take."""
        self._send("STOPPING=1", "STATUS=draining", f"EXTEND_TIMEOUT_USEC={within_s * 1e6:.0f}")

    def _send(self, *lines: str) -> bool:
        """Send one message; `False`: it did not get there, and the next may."""
        if self._address is None:
            return True
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
                out.setblocking(False)  # a full queue must not stop the loop
                out.sendto("\n".join(line.replace("\n", " ") for line in lines).encode(), self._address)
        except OSError as error:
            if not self._complained:
                log(f"the service manager cannot be told: {error}", logging.WARNING, socket=self._address)
            self._complained = True
            return False
        self._complained = False
        return True
