"""Recognition as a service to sessions: what is asked and answered (`service`), the scheduler in
this process (`local`), and who watches over it (`keeper`).
"""

from stt.recognition.keeper import Keeper, OpenModel
from stt.recognition.local import LocalRecognizer
from stt.recognition.service import (
    GivenUpError,
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
    "GivenUpError",
    "Hypothesis",
    "Keeper",
    "Kind",
    "LocalRecognizer",
    "OpenModel",
    "Recognition",
    "RecognitionOptions",
    "RecognitionService",
    "SpeechModel",
    "Ticket",
    "Utterance",
    "WindowKey",
]
