"""A turn ends when the silence has lasted for so long, whatever was said."""

from stt.endofturn.policy import Pause


class Silence:
    """The policy without an opinion.

    Args:
        gap_s: silence that ends a turn; `None`: none does.

    """

    def __init__(self, gap_s: float | None) -> None:
        self.longest_s = gap_s
        self.audio_s = 0.0

    async def judge(self, pause: Pause) -> float | None:
        """Leave it at that."""
        del pause
        return None
