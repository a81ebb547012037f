"""Inference-only Canary-Qwen: exact to NVIDIA NeMo, fast, and without NeMo.

>>> model = CanaryQwen.from_pretrained("nvidia/canary-qwen-2.5b")  # doctest: +SKIP
>>> model.transcribe([waveform])[0].text  # doctest: +SKIP
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nemo_lite.continuous import ContinuousBatch
    from nemo_lite.errors import CheckpointError, DownloadError, ModelNotFoundError, NemoLiteError
    from nemo_lite.features import resample
    from nemo_lite.model import CanaryQwen
    from nemo_lite.transcription import Transcription

__all__ = [
    "CanaryQwen",
    "CheckpointError",
    "ContinuousBatch",
    "DownloadError",
    "ModelNotFoundError",
    "NemoLiteError",
    "Transcription",
    "resample",
]

_HOME = {
    "CanaryQwen": "model",
    "ContinuousBatch": "continuous",
    "Transcription": "transcription",
    "resample": "features",
}


def __getattr__(name: str) -> Any:
    """Import on first use: `nemo_lite.hub` lists and downloads models without waiting for torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOME.get(name, 'errors')}"), name)
