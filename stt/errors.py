"""What can go wrong, told apart by who can mend it. Every message says what was expected and what came."""

import errno
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stt.events import TurnCompleted


def reason(error: OSError) -> str:
    """Return in words what the system says about a file that cannot be written or read."""
    if error.errno == errno.EBADF:
        return "closed"
    return error.strerror or str(error)


class SttError(Exception):
    """Base of all errors raised on purpose by this package; its text is meant for a person."""

    setting: str | None = None
    """The field of the settings that the text begins with; a command line puts the name there that was written."""

    @classmethod
    def about(cls, setting: str, text: str) -> Self:
        """Make the error that a setting has a value which cannot work here."""
        error = cls(f"{setting}: {text}")
        error.setting = setting
        return error


class AudioError(SttError, ValueError):
    """The audio cannot be read, or not all of it: missing, empty, truncated, not audio."""


class SettingsError(SttError, ValueError):
    """An option, an argument or an environment variable has a value that cannot work."""


class EngineError(SttError, RuntimeError):
    """The engine cannot be opened, or failed on a batch."""


class EngineLostError(EngineError):
    """The engine's device is gone for this process: every call will fail, also those of a newly opened engine.

    Only a new process helps, so whoever serves with it ends, with an exit status that makes its manager start it anew.
    """


class IncompleteError(EngineError):
    """The engine failed on parts of a recording, or on all of it."""

    def __init__(self, message: str, turns: "Sequence[TurnCompleted]") -> None:
        super().__init__(message)
        self.turns = tuple(turns)
        """What it did recognize; a turn that lacks a part has the text of the others."""


class DownloadError(EngineError, OSError):
    """Weights could not be fetched."""


class OutputError(SttError, OSError):
    """A text cannot be written where it was to go."""


class DeviceError(SttError, OSError):
    """A microphone is missing, busy or gone."""


class RemoteError(SttError, ConnectionError):
    """A server cannot be reached, refuses the session, or speaks another language than expected."""


class RefusedError(RemoteError):
    """A server will not have this session, however often it is asked: a wrong key, option, address or certificate."""
