"""Engines for cluster_overhead.py that cost nothing, or what they are told; opened by the replicas that it deploys."""

import time
from collections.abc import Sequence

from stt.recognition import Hypothesis, Utterance

CALL_S, ROWS = 0.1, 2
"""Of the one with a price: what a call costs, whatever is in it, and how much goes into it."""


class Instant:
    name = "instant"
    languages = frozenset({"en"})
    max_batch = 16

    def cost(self, seconds: Sequence[float]) -> float:
        return 1.0 if seconds else 0.0

    def transcribe(self, batch: Sequence[Utterance]) -> list[Hypothesis]:
        return [Hypothesis("nothing")] * len(batch)

    def close(self) -> None:
        pass


class Priced(Instant):
    name = "priced"
    max_batch = ROWS

    def transcribe(self, batch: Sequence[Utterance]) -> list[Hypothesis]:
        time.sleep(CALL_S)
        return super().transcribe(batch)
