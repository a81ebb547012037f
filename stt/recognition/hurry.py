"""Whether live finals are hurried (`Utterance.hurried`). Nothing here reads a clock."""

from typing import Final

from stt.recognition.cadence import STARVED_CORES

# A final that took longer leaves too little of the 1.3 s that the end of a turn has for it.
_LONG_S: Final = 0.8
# Of the time that a final takes, what a hurried one does.
_SAVES: Final = 0.65


class Hurry:
    """Finals are hurried where other programs have the cores and the last one took long, until one is quick again."""

    def __init__(self) -> None:
        self.on = False

    def called(self, took_s: float, cores: float) -> None:
        """Take note of a call of what stands: its seconds, and the processor time of this process over them."""
        self.on = cores < STARVED_CORES and took_s > (_SAVES * _LONG_S if self.on else _LONG_S)
