"""A driver of a front without Ray: `python -m drivers STATE SOCKET`; the file STATE says how its cluster is.

up      one engine, of one replica
none    there is no cluster
ends    the process ends while it joins
lost    the head is lost: no engines are found, and no replica answers
mute    the head is there, and no replica answers
"""

import asyncio
import socket
import sys
from pathlib import Path

from replicas import Directory, Fleet, fleet
from scripted import ScriptedModel
from stt.cluster.link import answer, say
from stt.cluster.load import Load
from stt.cluster.recognizer import Replicas
from stt.cluster.wire import Message
from stt.errors import EngineError


class Cluster(Directory):
    def __init__(self, state: Path, default: Fleet) -> None:
        super().__init__(default=default)
        self._state = state

    async def names(self) -> list[str]:
        if self._state.read_text() == "lost":
            raise EngineError("the head does not answer")
        return list(await super().names())

    def replicas(self, name: str) -> Replicas:
        return Mute(self._state, super().replicas(name))


class Mute:
    """`Replicas` without an answer while there is none to be had."""

    def __init__(self, state: Path, replicas: Replicas) -> None:
        self._state, self._replicas = state, replicas

    async def recognize(self, message: Message, to: str | None, avoid: frozenset[str]) -> Message:
        await self._there("recognize")
        return await self._replicas.recognize(message, to, avoid)

    async def pulse(self, to: str | None, avoid: frozenset[str]) -> Load:
        await self._there("pulse")
        return await self._replicas.pulse(to, avoid)

    async def forget(self, session: str, to: str) -> None:
        self._state.with_suffix(".forgot").write_text(session)
        await self._replicas.forget(session, to)

    async def _there(self, method: str) -> None:
        if self._state.read_text() != "up":
            self._state.with_suffix("." + method).touch()
            try:
                await asyncio.Event().wait()
            finally:
                self._state.with_suffix(".taken-back").touch()


async def run(front: socket.socket, state: Path) -> None:
    await answer(front, Cluster(state, await fleet(ScriptedModel())))


if __name__ == "__main__":
    front, state = socket.socket(fileno=int(sys.argv[2])), Path(sys.argv[1])
    match state.read_text():
        case "ends":
            sys.exit(3)
        case "none":
            say(front, "no cluster here")
        case _:
            say(front, None)
            asyncio.run(run(front, state))
