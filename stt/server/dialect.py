"""The seam to what clients speak: `Dialect`, and the values that pass through it.

    frames   -> Dialect.decode -> commands        host: Inbox -> Session
    messages <- Dialect.encode <- events, notices host: Outbox <- Session

A dialect is pure: it reads no clock and moves no bytes. There is one object per connection, so it may remember what it
has said. The host (`host.py`) knows none of them by name; `dialects/` has a module for each and a table of all.

Everything that a client is told passes through `encode` in the order in which it is sent, at the moment it is sent: the
events of the session, and the host's notices between them. A dialect that counts its messages, or that sends only what
is new, can do so there: an interim that a newer one has replaced was never encoded.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar, Final, Literal, Protocol

from stt.control import Control
from stt.events import Event
from stt.recognition import RecognitionOptions
from stt.recognition.engine import known_languages, named_engine
from stt.settings import TurnSettings

Frame = str | bytes
"""A message of a client or for it: text or binary."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a connection asks for before it is let in. API keys are not in it: the host has dealt with them."""

    session: str
    """The name of the session, if it becomes one: unique, and what the log calls it."""
    query: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    """By lower-case name."""
    languages: frozenset[str] = frozenset()
    """ISO 639-1 codes of those that the engine knows; none while it loads."""
    engines: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Those that a client may ask for by name, with the languages of each; none where there is but one."""
    terms: tuple[str, ...] = ()
    """Those of the server, for who names none."""
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    """When it came."""

    def engine(self, name: object) -> str | None:
        """Return the engine of this name, which a client gave as that of a model (`named_engine`)."""
        return named_engine(name, self.engines)

    def known(self, engine: str | None) -> frozenset[str]:
        """Return the languages of an engine; `None`: of whichever serves."""
        return known_languages(engine, self.engines, self.languages)


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """What the request asked for, over the server's defaults."""

    turns: TurnSettings
    recognition: RecognitionOptions
    headers: tuple[tuple[str, str], ...] = ()
    """Of the answer that lets the client in."""
    tick_s: float | None = None
    """Seconds of audio between two `Tick`s; `None`: none."""
    channels: int = 1
    """More: each channel of the audio is a session of its own, and has what is `OfChannel`."""
    obeyed: bool = False
    """Whether to tell where in the stream a command took effect (`Obeyed`)."""


class NotAdmittedError(Exception):
    """The connection is not let in; the text is for the client to read.

    `code` is one of `unauthorized`, `forbidden_origin`, `bad_option`, `too_many_sessions`, `overloaded`, `not_ready`,
    `draining`, `not_found`, `method_not_allowed`; of files also `bad_audio`, `too_large`, `engine_failed`, `no_room`.
    `option` is the one that cannot work.
    """

    def __init__(self, code: str, message: str, *, option: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.option = option

    @property
    def status(self) -> int:
        """The HTTP status that says so."""
        return _STATUSES.get(self.code, 503)


_STATUSES: Final = {
    "unauthorized": 401,
    "forbidden_origin": 403,
    "bad_option": 400,
    "bad_audio": 400,
    "not_found": 404,
    "method_not_allowed": 405,
    "too_large": 413,
    "engine_failed": 500,
}


def failed() -> NotAdmittedError:
    """Return what a client hears of a mistake of ours: no details."""
    return NotAdmittedError("engine_failed", "the server failed; please try again")


@dataclass(frozen=True, slots=True)
class Format:
    """How PCM16LE bytes are to be read."""

    rate: int
    channels: int


MONO_16K: Final = Format(16_000, 1)


# Commands: what a frame means.


@dataclass(frozen=True, slots=True)
class Audio:
    """Interleaved PCM16LE; whole sample frames, perhaps none."""

    pcm: bytes
    format: Format


@dataclass(frozen=True, slots=True)
class Codec:
    """How encoded audio is to be read; `codecs.py` does so."""

    encoding: Literal["linear16", "linear32", "mulaw", "alaw", "opus", "container"]
    """PCM of signed little-endian integers, G.711, one raw Opus packet for each `Encoded`, or any container that
    FFmpeg knows, which says rate and channels itself and comes in pieces of any length."""
    rate: int = 16_000
    channels: int = 1


@dataclass(frozen=True, slots=True)
class Encoded:
    """Audio in a codec; samples need not be whole. The host decodes it, off the event loop where that takes long.

    What cannot be decoded comes back as `Malformed` of code `bad_audio`, fatal where nothing after it can be either.
    """

    data: bytes
    codec: Codec


@dataclass(frozen=True, slots=True)
class Finish:
    """No more audio: the running turn is to get its final, then the connection ends."""


@dataclass(frozen=True, slots=True)
class Malformed:
    """The frame is none of this dialect. The host counts it, and gives it back to `encode`, which tells the client.

    The session goes on, unless this is `fatal` or there were too many.
    """

    code: str
    message: str
    fatal: bool = False
    details: Any = None
    """For `encode` alone."""


@dataclass(frozen=True, slots=True)
class Answer:
    """To be said in its turn, whatever it is; only `encode` looks into it."""

    content: Any


@dataclass(frozen=True, slots=True)
class OfChannel:
    """What belongs to one of several channels, as a command or as what is to be told; a command alone is for all."""

    channel: int
    item: "Event | Tick | Obeyed | Control"


Command = Audio | Encoded | Control | Finish | Malformed | Answer | OfChannel


# Notices: what the host has to tell between the events of the session.

How = Literal["finished", "idle", "going_away", "too_many_errors", "bad_message", "slow_reader", "failed"]


@dataclass(frozen=True, slots=True)
class Opened:
    """The client was let in; before anything else."""


@dataclass(frozen=True, slots=True)
class Tick:
    """The session has listened to so much audio; the newest replaces those unsent."""

    at_s: float
    speech: float = 0.0
    """How probable it is that somebody speaks there."""


@dataclass(frozen=True, slots=True)
class Obeyed:
    """The session goes on by this command: what the detector found before it was told before this, and what it finds
    later is told after this. Texts of what was said before it may be to come; `Acknowledged` follows them.
    """

    control: Control


@dataclass(frozen=True, slots=True)
class Ending:
    """No more audio is taken; the final of what was said comes next."""

    how: How
    message: str


Notice = Opened | Tick | Obeyed | Ending | Malformed | Answer | OfChannel


@dataclass(frozen=True, slots=True)
class End:
    """The end: everything was sent, or (`slow_reader`, `failed`) nothing more can be."""

    how: How
    audio_s: float
    """Seconds of audio received."""

    @property
    def code(self) -> int:
        """The close code of a WebSocket that says so."""
        return _CLOSE_CODES.get(self.how, 1008)


_CLOSE_CODES: Final[dict[How, int]] = {"finished": 1000, "going_away": 1001, "failed": 1011}


@dataclass(frozen=True, slots=True)
class Denial:
    """An HTTP answer instead of a session."""

    status: int
    body: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Goodbye:
    """Last words, and the close frame after them."""

    code: int
    reason: str
    frames: tuple[Frame, ...] = ()


class Dialect(Protocol):
    """What one client speaks. Made for each connection, without arguments."""

    path: ClassVar[str]
    """Where it is spoken."""
    message_bytes: ClassVar[int | None]
    """The longest message; `None`: what the server's settings say."""

    def open(self, request: Request, turns: TurnSettings, language: str | None) -> SessionOptions:
        """Read what the client asks for, over the server's turns and language. Called first, and once.

        Raises:
            NotAdmittedError: an option cannot work.

        """
        ...

    def refuse(self, error: NotAdmittedError) -> Denial:
        """Say that the connection is not let in, by this dialect or by the host; perhaps before `open`."""
        ...

    def decode(self, frame: Frame) -> Iterable[Command]:
        """Read one frame, whatever it holds; raises nothing."""
        ...

    def encode(self, item: Event | Notice) -> Iterable[Frame]:
        """Write what this client is to hear of it, perhaps nothing."""
        ...

    def ended(self, end: End) -> Goodbye:
        """Say goodbye; nothing is encoded after this."""
        ...
