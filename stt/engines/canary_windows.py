"""Windows of which canary-qwen keeps what it has encoded, for their next interim (`--fast-interims`)."""

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

from stt.recognition import Utterance, WindowKey

if TYPE_CHECKING:
    from nemo_lite.growing import GrowingWindows


class CanaryWindows:
    """What the model is told of windows: those of interims, and nothing of what stands."""

    def __init__(self, growing: "GrowingWindows", *, fast_interims: bool) -> None:
        self._growing = growing
        self._on = fast_interims

    def of(self, batch: Sequence[Utterance]) -> list[Hashable | None] | None:
        """Name the window of each interim. A final ends its window: what was kept of it goes."""
        if not self._on:
            return None
        self.end([utterance for utterance in batch if utterance.kind == "final"])
        return [_name(utterance.key) if utterance.kind == "interim" else None for utterance in batch]

    def end(self, batch: Sequence[Utterance]) -> None:
        """Let go of what is kept of the windows of a batch."""
        if self._on and batch:
            self._growing.forget({_name(utterance.key) for utterance in batch}.__contains__)

    def forget(self, session: Hashable) -> None:
        """Let go of what is kept of a session; from any thread."""
        name, *_ = _name(WindowKey(session))
        self._growing.forget(lambda window: isinstance(window, tuple) and window[0] == name)

    def clear(self) -> None:
        """Let go of all that is kept."""
        self._growing.forget(lambda _: True)


def _name(key: WindowKey) -> tuple[int, int, int]:
    """Name a window without holding on to its session. Audio that is not the window's is told by its sound."""
    return hash(key.session), key.turn, key.window
