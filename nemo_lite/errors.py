"""What can go wrong, said so that the reader knows what to do next."""


class NemoLiteError(Exception):
    """Base of every error nemo_lite raises on purpose (misuse raises the builtin ValueError or TypeError)."""


class CheckpointError(NemoLiteError, ValueError):
    """A checkpoint on disk is damaged, incomplete, or of a kind that is not supported."""


class ModelNotFoundError(NemoLiteError, FileNotFoundError):
    """The model is neither where the caller pointed nor in the cache, nor offered by the hub."""


class DownloadError(NemoLiteError, OSError):
    """The hub could not be reached, refused, or sent something else than it announced; or the disk is full."""


class KernelsError(NemoLiteError, RuntimeError):
    """The kernels that were asked for cannot run on this machine, or compute something else than they should."""
