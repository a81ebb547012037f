"""Live speech-to-text you run yourself: speech in, turns out.

    >>> import asyncio
    >>> from stt import transcribe_file
    >>> for turn in asyncio.run(transcribe_file("talk.flac")):  # doctest: +SKIP
    ...     print(f"{turn.start_s:.1f} {turn.text}")

For events as they happen, from a file, a microphone or any async iterator of 16 kHz audio, see `open_session`.
"""

import os
from typing import TYPE_CHECKING, Any

# onnxruntime reports to its makers how it is used, unless it is told not to before it is imported (its wheels for Linux
# since 1.32 too). Nothing leaves this machine that nobody asked for.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from stt.api import open_session, transcribe_file
    from stt.audio import SAMPLE_RATE
    from stt.engines import open_engine
    from stt.errors import AudioError, DeviceError, DownloadError, EngineError, IncompleteError, SettingsError, SttError
    from stt.events import (
        Event,
        RecognitionFailed,
        TranscriptChanged,
        TurnCompleted,
        TurnPaused,
        TurnResumed,
        TurnStarted,
    )
    from stt.recognition import Hypothesis, LocalRecognizer, RecognitionOptions, SpeechModel, Utterance
    from stt.session import Session
    from stt.settings import EngineSettings, TurnSettings
    from stt.sources import FileSource, Microphone
    from stt.vad import SileroVad

_HOME = {
    "api": ("open_session", "transcribe_file"),
    "audio": ("SAMPLE_RATE",),
    "engines": ("open_engine",),
    "errors": (
        "AudioError",
        "DeviceError",
        "DownloadError",
        "EngineError",
        "IncompleteError",
        "SettingsError",
        "SttError",
    ),
    "events": (
        "Event",
        "RecognitionFailed",
        "TranscriptChanged",
        "TurnCompleted",
        "TurnPaused",
        "TurnResumed",
        "TurnStarted",
    ),
    "recognition": ("Hypothesis", "LocalRecognizer", "RecognitionOptions", "SpeechModel", "Utterance"),
    "session": ("Session",),
    "settings": ("EngineSettings", "TurnSettings"),
    "sources": ("FileSource", "Microphone"),
    "vad": ("SileroVad",),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = [  # noqa: RUF022 - grouped by module, as above
    "open_session",
    "transcribe_file",
    "SAMPLE_RATE",
    "open_engine",
    "AudioError",
    "DeviceError",
    "DownloadError",
    "EngineError",
    "IncompleteError",
    "SettingsError",
    "SttError",
    "Event",
    "RecognitionFailed",
    "TranscriptChanged",
    "TurnCompleted",
    "TurnPaused",
    "TurnResumed",
    "TurnStarted",
    "Hypothesis",
    "LocalRecognizer",
    "RecognitionOptions",
    "SpeechModel",
    "Utterance",
    "Session",
    "EngineSettings",
    "TurnSettings",
    "FileSource",
    "Microphone",
    "SileroVad",
]


def __getattr__(name: str) -> Any:
    """Import on first use: `import stt` alone costs nothing, and `stt --help` needs nothing."""
    if name not in _MODULE_OF:
        msg = f"module 'stt' has no attribute {name!r}"
        raise AttributeError(msg)
    from importlib import import_module

    return getattr(import_module(f"stt.{_MODULE_OF[name]}"), name)
