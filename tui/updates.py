"""What the listening side tells the screen, as plain values. `tui.live` and `tui.replay` make them, `tui.app` shows
them; neither side knows the other, so each is tested alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from threading import Event
from typing import Literal, Protocol, runtime_checkable

from tui.document import Heard, Record, StretchBegan


@dataclass(frozen=True, slots=True)
class EngineLoading:
    """Weights are being read or downloaded."""

    text: str
    fraction: float | None = None
    """0 to 1, where it is known how much there is."""


@dataclass(frozen=True, slots=True)
class EngineReady:
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class EngineFailed:
    """Nothing can be recognized; listening again tries again."""

    message: str


@dataclass(frozen=True, slots=True)
class InputOpening:
    """The microphone, the file or the server is being opened."""


@dataclass(frozen=True, slots=True)
class InputOpen:
    name: str
    rate: int
    """In Hz, as it was recorded."""


@dataclass(frozen=True, slots=True)
class InputPaused:
    """The reader switched listening off; the device is closed."""


@dataclass(frozen=True, slots=True)
class InputLost:
    """Nothing is heard for now."""

    message: str
    what: str
    """`microphone`, `server`, or `file`."""
    ever_open: bool
    """It worked before, so that it is likely to come back."""
    again: bool = True
    """It is tried again by itself; a broken file, or a server that refuses, is not."""


@dataclass(frozen=True, slots=True)
class InputEnded:
    """The file is over."""


@dataclass(frozen=True, slots=True)
class ServerSays:
    """The connection is lost and tried again, or the server complains; empty: all is well again."""

    text: str


@dataclass(frozen=True, slots=True)
class Noticed:
    """Something about a file that its listener should know: which of several tracks is heard, say."""

    text: str


@dataclass(frozen=True, slots=True)
class Metered:
    """What was heard since the last of these, some 60 ms."""

    peak: float
    """Largest absolute sample, 0 to 1."""
    rms: float
    probabilities: tuple[float, ...]
    """Of speech, one for each 32 ms."""
    heard_s: float
    """Audio heard in this session."""
    overruns: int


@dataclass(frozen=True, slots=True)
class Lagged:
    """How long after it was spoken a text was there, seconds."""

    lag_s: float
    final: bool
    """Of a final, after the silence that ended the turn; of an interim, after its last sample."""


@dataclass(frozen=True, slots=True)
class Late:
    """A text that should be there is not, and is so late already; `None`: it has come, or is no longer due."""

    by: Lagged | None


@dataclass(frozen=True, slots=True)
class Played:
    """A record of a session that is played back: of what was heard, and of what the reader did."""

    record: Record


@dataclass(frozen=True, slots=True)
class Wound:
    """Playing back was wound to another place: what the screen shows is what these records lead to."""

    records: tuple[Record, ...]


@dataclass(frozen=True, slots=True)
class Position:
    """Where playing back is, seconds, its long waits left out."""

    at_s: float
    length_s: float
    speed: float


@dataclass(frozen=True, slots=True)
class Closed:
    """The backend has ended; nothing more will be told."""


@dataclass(frozen=True, slots=True)
class RecordingChanged:
    """The recording of audio began (`path`), ended (`None`), or failed."""

    path: str | None
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Answered:
    """What there is so far of the answer to a question."""

    number: int
    """As it was asked."""
    text: str
    """All of it, from its beginning."""
    state: Literal["growing", "whole", "cut off"] = "growing"


@dataclass(frozen=True, slots=True)
class NotAnswered:
    """A question cannot be answered, or not to its end."""

    number: int
    why: str


Update = (
    EngineLoading
    | EngineReady
    | EngineFailed
    | InputOpening
    | InputOpen
    | InputPaused
    | InputLost
    | InputEnded
    | ServerSays
    | Noticed
    | Metered
    | Lagged
    | Late
    | RecordingChanged
    | StretchBegan
    | Heard
    | Played
    | Wound
    | Position
    | Answered
    | NotAnswered
    | Closed
)


class Backend(Protocol):
    """What listens for the screen. Its methods return at once, from any thread; what comes of them is told."""

    def start(self, tell: Callable[[Update], None], first_stretch: int, heard: int) -> None:
        """Begin to listen; `heard`: samples of the session that is resumed."""
        ...

    def listen(self, *, on: bool) -> None:
        """Open or close the microphone; the running turn gets its final."""
        ...

    def use(self, device: int | str | None) -> None:
        """Listen to another microphone."""
        ...

    def record(self, path: str | None) -> None:
        """Write the audio to a file from now on (`None`: stop)."""
        ...

    def hold_devices(self, *, on: bool) -> None:
        """Do not look for new devices by itself while someone chooses from the list: it would end their levels."""
        ...

    def look_for_devices(self) -> Event:
        """Look again, which interrupts listening; the event is set when that is done."""
        ...

    def close(self) -> None:
        """Stop listening and let the running turn have its final; `Closed` is told when that is done."""
        ...


@runtime_checkable
class Answering(Protocol):
    """A backend with an engine that may be asked about what was said."""

    def unaskable(self) -> str:
        """Why it can answer no question now; empty: it can."""
        ...

    def ask(self, number: int, transcript: str, question: str) -> None:
        """Have a question about a transcript answered, in place of the one asked before; `Answered` is told."""
        ...

    def drop_question(self) -> None:
        """Give up answering."""
        ...


@runtime_checkable
class Player(Protocol):
    """A backend that plays back what was, and can be wound."""

    def wind(self, by_s: float) -> None:
        """Go on from another place, earlier (< 0) or later."""
        ...

    def change_speed(self, factor: float) -> None:
        """Play faster (> 1) or slower, within what can be followed."""
        ...
