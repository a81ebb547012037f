"""Recognition as a service to sessions: what is asked and answered (`service`), and the scheduler in this process."""

from stt.recognition.local import LocalRecognizer
from stt.recognition.service import (
    Hypothesis,
    Kind,
    Recognition,
    RecognitionOptions,
    RecognitionService,
    SpeechModel,
    Ticket,
    Utterance,
    WindowKey,
)

__all__ = [
    "Hypothesis",
    "Kind",
    "LocalRecognizer",
    "Recognition",
    "RecognitionOptions",
    "RecognitionService",
    "SpeechModel",
    "Ticket",
    "Utterance",
    "WindowKey",
]
