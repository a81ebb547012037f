"""Commands that a source may hand out between pieces of audio; each takes effect where it stands (32 ms at most before,
for `Configure`).
"""

from dataclasses import dataclass

from stt.recognition.service import RecognitionOptions
from stt.settings import TurnSettings


@dataclass(frozen=True, slots=True)
class Flush:
    """All audio before this is final now: a turn that runs ends here."""


@dataclass(frozen=True, slots=True)
class Clear:
    """Forget what is not final yet: a turn that runs ends without a text."""


@dataclass(frozen=True, slots=True)
class Configure:
    """Go on with other settings; `None` keeps those there are."""

    settings: TurnSettings | None = None
    options: RecognitionOptions | None = None


Control = Flush | Clear | Configure
