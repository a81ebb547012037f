"""What can go wrong, told apart by who can mend it. Every message says what was expected and what came."""


class SttError(Exception):
    """Base of all errors raised on purpose by this package; its text is meant for a person."""


class AudioError(SttError, ValueError):
    """The audio cannot be read, or not all of it: missing, empty, truncated, not audio."""


class SettingsError(SttError, ValueError):
    """An option, an argument or an environment variable has a value that cannot work."""


class EngineError(SttError, RuntimeError):
    """The engine cannot be opened, or failed on a batch."""


class DownloadError(EngineError, OSError):
    """Weights could not be fetched."""


class OutputError(SttError, OSError):
    """A text cannot be written where it was to go."""


class DeviceError(SttError, OSError):
    """A microphone is missing, busy or gone."""


class RemoteError(SttError, ConnectionError):
    """A server cannot be reached, refuses the session, or speaks another language than expected."""
