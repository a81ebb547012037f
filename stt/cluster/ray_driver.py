"""The process that joins a Ray cluster for a front (`link.py`): `python -m stt.cluster.ray_driver ADDRESS SOCKET`."""

import asyncio
import os
import signal
import socket
import sys

from stt.cluster.link import answer, say
from stt.cluster.ray_serve import RayDirectory, connect
from stt.errors import EngineError


def main(address: str, descriptor: str) -> None:
    """Join, say so, and pass calls on until the front is gone."""
    front = socket.socket(fileno=int(descriptor))
    _leave_signals_to_the_front()
    try:
        connect(address)
    except EngineError as error:
        say(front, str(error))
        return
    _leave_signals_to_the_front()  # once more: Ray has its own
    say(front, None)
    asyncio.run(answer(front, RayDirectory()))
    os._exit(0)  # Ray takes its leave of a cluster at length, and for ever where its head is lost


def _leave_signals_to_the_front() -> None:
    """What ends a terminal's programs, or a service, reaches the front too, whose turns get their finals first."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


if __name__ == "__main__":
    main(*sys.argv[1:])
