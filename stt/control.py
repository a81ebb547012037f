"""What a source may hand out between samples: commands to a running session, in order with the audio."""

from dataclasses import dataclass

from stt.settings import TurnSettings


@dataclass(frozen=True, slots=True)
class Flush:
    """All audio before this is to be final now."""


@dataclass(frozen=True, slots=True)
class Clear:
    """Forget what was heard and is not yet final."""


@dataclass(frozen=True, slots=True)
class Configure:
    """From here on, other settings; `None`: as they are."""

    settings: TurnSettings | None = None
