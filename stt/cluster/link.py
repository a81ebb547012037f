"""A front's way to the cluster: another process, its driver, that Ray may end whenever it pleases.

Ray ends what cannot reach the head of its cluster for a minute, and what lost one cluster joins no other. A front has
sessions, and must outlive both. So it knows nothing of Ray; its driver (`ray_driver.py`) joins the cluster, and passes
calls on. Where that process ends, or has no answer any more, its calls are lost as those to a replica that died, and
another one is started, again and again until there is a cluster.

    front: Link, a `Directory`  -- socket pair -->  driver: `answer`, over the `Directory` that speaks to Ray

On the socket are pickles, each after its length: (number, method, arguments) one way, (number, what, value) the other;
first of all the driver says `None`, or why it could not join. Nobody else has that socket.
"""

import asyncio
import contextlib
import itertools
import logging
import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from stt.cluster.load import Load
from stt.cluster.recognizer import ReplicaGoneError, Replicas
from stt.cluster.routes import Directory
from stt.cluster.wire import Message, from_plain, plain
from stt.errors import EngineError
from stt.threads import DaemonThreads

_LOGGER: Final = logging.getLogger(__name__)
_LENGTH_BYTES: Final = 4
_JOIN_S: Final = 60.0  # for a driver that starts: it imports Ray, on a machine that is busy
_NAMES_S: Final = 15.0  # longer than the driver waits for the cluster: without an answer then, it hangs itself
_UNHEARD_S: Final = 5.0  # without an answer of any replica, while the head has none either
_STALE_S: Final = 60.0  # the same, while the head says that there are engines


def ray_link(address: str) -> "Link":
    """Return the way to a Ray cluster; `auto`: the one of this machine."""
    # A driver does nothing but calls: there Serve's router needs no thread of its own, and calls go without it.
    env = {"RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0"}
    return Link([sys.executable, "-Pm", "stt.cluster.ray_driver", address], env)


class Link:
    """A `Directory` by way of a driver; of one event loop, which is that of the first question."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        """`command` starts a driver, given the number of its socket as well; `env`: beside the variables there are."""
        self._command, self._env = command, env or {}
        self._threads = DaemonThreads()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._numbers = itertools.count()
        self._heard = 0.0

    @property
    def pid(self) -> int | None:
        """The driver's, while there is one."""
        return None if self._process is None else self._process.pid

    def join(self) -> None:
        """Start a driver, and wait until it has joined the cluster.

        Raises:
            EngineError: it cannot.

        """
        ours, its = socket.socketpair()
        command = [*self._command, str(its.fileno())]
        env = {**os.environ, **self._env}
        # What it prints is none of the front's output.
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=2, pass_fds=[its.fileno()], env=env)  # noqa: S603 - ours
        its.close()
        try:
            ours.settimeout(_JOIN_S)
            why = _first_word(ours)
        except TimeoutError:
            why = f"no cluster was joined in {_JOIN_S:.0f} s"
        except (EOFError, OSError):
            why = "the process that joins the cluster ended"
        if why is not None:
            ours.close()
            process.kill()
            process.wait()
            raise EngineError(why)
        self._process, self._socket = process, ours

    # a directory

    async def names(self) -> list[str]:
        """Return the engines that are deployed; joins the cluster where that is to be done (anew)."""
        if self._process is None:
            await self._threads.call(self.join)
        if self._writer is None:
            await self._connect()
        try:
            async with asyncio.timeout(_NAMES_S):
                names = list(await self.ask("names"))
        except TimeoutError:
            await self._leave()
            msg = f"no answer in {_NAMES_S:.0f} s"
            raise EngineError(msg) from None
        except ReplicaGoneError as gone:
            raise EngineError(str(gone)) from gone
        except EngineError:
            # The head is needed to find engines, not for calls. Once no replica answers either, the cluster is lost.
            if self._unheard_s > _UNHEARD_S:
                await self._leave()
            raise
        if names and self._unheard_s > _STALE_S:  # it may be the driver's fault: of a head that came back, say
            await self._leave()
        return names

    def replicas(self, name: str) -> Replicas:
        """Return the replicas of one of them."""
        return _LinkedReplicas(self, name)

    async def close(self) -> None:
        """Leave the cluster."""
        await self._leave()

    async def ask(self, method: str, *args: Any) -> Any:
        """Have the driver call a method; cancelling takes it back.

        Raises:
            ReplicaGoneError: the call is lost.
            EngineError: it failed.

        """
        if self._writer is None:
            msg = "there is no cluster"
            raise ReplicaGoneError(msg)
        number = next(self._numbers)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        # No waiting for room: each of those who ask waits for an answer, so what is on the way is bounded by them.
        self._writer.write(_packed((number, method, args)))
        try:
            return await answer
        except asyncio.CancelledError:
            if self._writer is not None:
                self._writer.write(_packed((number, "cancel", ())))
            raise
        finally:
            self._asked.pop(number, None)

    def hear(self) -> None:
        """Note that a replica has answered."""
        self._heard = asyncio.get_running_loop().time()

    @property
    def _unheard_s(self) -> float:
        return asyncio.get_running_loop().time() - self._heard

    async def _connect(self) -> None:
        reader, self._writer = await asyncio.open_unix_connection(sock=self._socket)
        self.hear()
        self._reading = asyncio.create_task(self._read(reader), name="cluster")

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                number, what, value = await _received(reader)
                if (answer := self._asked.get(number)) is None or answer.done():
                    continue
                match what:
                    case "answer":
                        answer.set_result(value)
                    case "gone":
                        answer.set_exception(ReplicaGoneError(value))
                    case _:
                        answer.set_exception(EngineError(value))
        except (EOFError, OSError):
            _LOGGER.error("the cluster is lost; sessions wait until there is one")  # noqa: TRY400 - it says all
            self._reading = None
            await self._leave()

    async def _leave(self) -> None:
        """End the driver, whatever it does; calls that wait are lost."""
        process, self._process = self._process, None
        writer, self._writer = self._writer, None
        reading, self._reading = self._reading, None
        if self._socket is not None:
            self._socket, ours = None, self._socket
            ours.close() if writer is None else writer.close()
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(ReplicaGoneError("the cluster is lost"))
        if reading is not None:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        if process is not None:
            process.kill()
            await self._threads.call(process.wait)


class _LinkedReplicas:
    """`Replicas` of an engine, by way of the driver."""

    def __init__(self, link: Link, name: str) -> None:
        self._link, self._name = link, name

    async def recognize(self, message: Message, to: str | None, avoid: frozenset[str]) -> Message:
        """Have a replica answer a message; cancelling takes it back."""
        answer = await self._link.ask("recognize", self._name, message, to, avoid)
        self._link.hear()
        return answer

    async def pulse(self, to: str | None, avoid: frozenset[str]) -> Load:
        """Have a replica say how busy it is."""
        load = await self._link.ask("pulse", self._name, to, avoid)
        self._link.hear()
        return from_plain(Load, load)

    async def forget(self, session: str, to: str) -> None:
        """Tell a replica that a session is gone."""
        await self._link.ask("forget", self._name, session, to)


# in the driver


def say(connection: socket.socket, why: str | None) -> None:
    """Tell the front that the cluster was joined (`None`), or why it was not."""
    connection.sendall(_packed(why))


async def answer(connection: socket.socket, directory: Directory) -> None:
    """Do for a front what it asks, until it is gone."""
    reader, writer = await asyncio.open_unix_connection(sock=connection)
    engines: dict[str, Replicas] = {}
    running: dict[int, asyncio.Task[None]] = {}

    async def done(method: str, args: tuple[Any, ...]) -> Any:
        if method == "names":
            return list(await directory.names())
        name, *rest = args
        if name not in engines:
            engines[name] = directory.replicas(name)
        found = await getattr(engines[name], method)(*rest)
        return plain(found) if method == "pulse" else found

    async def see_to(number: int, method: str, args: tuple[Any, ...]) -> None:
        try:
            said = "answer", await done(method, args)
        except ReplicaGoneError as gone:
            said = "gone", str(gone)
        except EngineError as error:
            said = "failed", str(error)
        except Exception as error:
            _LOGGER.exception("a call failed")
            said = "failed", f"the cluster failed: {type(error).__name__}: {error}"
        writer.write(_packed((number, *said)))

    with contextlib.suppress(EOFError, OSError):
        while True:
            number, method, args = await _received(reader)
            if method == "cancel":
                if (task := running.get(number)) is not None:
                    task.cancel()
                continue
            task = running[number] = asyncio.create_task(see_to(number, method, args))
            task.add_done_callback(lambda _, number=number: running.pop(number))
    writer.close()


def _packed(message: Any) -> bytes:
    data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return len(data).to_bytes(_LENGTH_BYTES, "big") + data


async def _received(reader: asyncio.StreamReader) -> Any:
    length = int.from_bytes(await reader.readexactly(_LENGTH_BYTES), "big")
    return pickle.loads(await reader.readexactly(length))  # noqa: S301 - of this program


def _first_word(connection: socket.socket) -> str | None:
    with connection.makefile("rb") as file:
        length = file.read(_LENGTH_BYTES)
        if len(length) < _LENGTH_BYTES:
            raise EOFError
        return pickle.loads(file.read(int.from_bytes(length, "big")))  # noqa: S301 - of this program
