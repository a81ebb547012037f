"""The pauses of one session and the policy that follows them, one at a time."""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

import numpy as np

from stt.audio import Samples, samples, seconds
from stt.endofturn.policy import EndOfTurn, Pause, Said
from stt.events import TurnPaused

# What audio that comes faster than it was spoken may be ahead of a policy that thinks; how long it is held.
_AHEAD_S: Final = 0.2
_PATIENCE_S: Final = 1.0
_BEFORE_TURN_S: Final = 0.5  # heard by policies: a turn begins with a breath, not with the one before

_LOGGER: Final = logging.getLogger(__name__)


class Pauses:
    """Keeps the sound that the policy may want, and asks it at each pause.

    Args:
        policy: says what silence ends a turn.
        decide: called with a turn, where its speech stopped, and the samples of silence that end it.

    """

    def __init__(self, policy: EndOfTurn, decide: Callable[[int, int, int], None]) -> None:
        self.policy = policy
        self._decide = decide
        self._recent: deque[Samples] = deque()
        self._kept = 0  # samples in them
        self._pause: Pause | None = None
        self._judging: asyncio.Task[None] | None = None

    def hear(self, frame: Samples) -> None:
        """Take a frame."""
        most = samples(self.policy.audio_s)
        if most:
            self._recent.append(frame)
            self._kept += len(frame)
        while self._recent and self._kept - len(self._recent[0]) >= most:
            self._kept -= len(self._recent.popleft())

    def begin(
        self,
        event: TurnPaused,
        now: int,
        turn_start: int,
        said: Callable[[], Said],
        hear: Callable[[], Awaitable[None]] | None,
        comes: Callable[[], bool],
        tasks: asyncio.TaskGroup,
    ) -> None:
        """Have the policy follow a pause; `said`, `hear` and `comes` are those of `Pause`."""

        def audio(most: int) -> Samples:
            most = min(most, pause.now - turn_start + samples(_BEFORE_TURN_S))
            return np.concatenate([*self._recent, np.zeros(0, np.float32)])[-most:]

        self._pause = pause = Pause(event.turn, turn_start, event.end, now, said, audio, hear, comes)
        self._judging = tasks.create_task(self._judge(pause))

    def end(self) -> TurnPaused | None:
        """Give up the pause that runs, if any: it is over, or another policy is to follow it; returns which."""
        pause = self._pause
        if self._judging is not None:
            self._judging.cancel()
        self._pause = self._judging = None
        return None if pause is None else TurnPaused(pause.turn, pause.end)

    def advance(self, now: int) -> None:
        """Tell up to where audio was taken, or that a text came."""
        if self._pause is not None:
            self._pause.advance(now)

    def news(self) -> TurnPaused | None:
        """Return the pause that runs with its probability, once for each that the policy finds."""
        if self._pause is None or (probability := self._pause.news()) is None:
            return None
        return TurnPaused(self._pause.turn, self._pause.end, probability)

    async def at_rest(self) -> None:
        """Wait while the policy has too much audio to catch up with, before more is taken.

        Where nobody waits for single results it may have none, so that files come out the same however fast they are
        read. Live, audio that comes faster than it was spoken is held to the pace of speech, for a while; what comes at
        that pace waits for no policy.
        """
        if (pause := self._pause) is None:
            return
        if pause.patient:
            await pause.at_rest()
        elif (wait_s := min(seconds(pause.ahead) - _AHEAD_S, _PATIENCE_S) - pause.busy_s) > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await pause.at_rest()

    async def _judge(self, pause: Pause) -> None:
        try:
            gap_s = await self.policy.judge(pause)
            if gap_s is not None:
                self._decide(pause.turn, pause.end, samples(gap_s))
        except Exception:  # a policy that fails leaves the turn to its longest silence
            _LOGGER.exception("the end-of-turn policy failed")
        finally:
            pause.finish()
