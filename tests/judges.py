"""Stand-ins for smart-turn: one tells by how long somebody has spoken whether they are done, one guesses."""

import asyncio
import random

import numpy as np

from scripted import tone
from spoken import silence
from stt.audio import Samples
from stt.endofturn.meaning import Pace
from stt.endofturn.smart_turn import BusyError
from stt.endofturn.texts import read
from stt.errors import EngineError

SURE = 0.97
SAID = "That is all I wanted to say."
"""For engines: a text that is no reason to wait."""


def enough(pace: Pace, text: str | None = SAID) -> float:
    """The silence that ends a turn which sounds sure, with this text."""
    return pace.enough_s(SURE, None if text is None else read(text, "en"))


class ByLength:
    """Sure of sounds of a second and more, and that shorter ones are no ends; keeps what it was asked."""

    def __init__(self, *, busy: bool = False) -> None:
        self.busy = busy
        self.asked: list[tuple[int, bool]] = []

    async def ask(self, audio: Samples, *, patient: bool = False) -> float:
        self.asked.append((len(audio), patient))
        await asyncio.sleep(0)
        if self.busy and not patient:
            raise BusyError("busy")
        loud = np.flatnonzero(np.abs(audio) > 0.1)
        runs = np.split(loud, np.flatnonzero(np.diff(loud) > 1) + 1)
        return SURE if len(runs[-1]) >= 16_000 else 0.05


class Guesses:
    """For smart-turn: says anything, at any time, or nothing."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    async def ask(self, audio: Samples, *, patient: bool = False) -> float:
        assert len(audio) <= 128_000
        for _ in range(self._rng.randrange(5)):
            await asyncio.sleep(0)
        if self._rng.random() < 0.1 and not patient:
            raise BusyError
        if self._rng.random() < 0.02:
            raise EngineError("no")
        return self._rng.random()


TALK = np.concatenate([
    *(silence(0.3), tone(0.4), silence(0.9), tone(1.2), silence(1.6)),  # a pause to think; an end
    *(tone(1.1), silence(0.4), tone(0.5), silence(1.9), tone(0.3)),  # nobody waits for so long
    silence(4.0),
])  # fmt: skip
"""Turns that silence would divide otherwise."""
