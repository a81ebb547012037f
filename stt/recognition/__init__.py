"""Recognition as a service to sessions: what is asked and answered (`service`), the scheduler in
this process (`local`), two of them for two models (`pair`), who watches over it (`keeper`), and
what a server knows of all that (`engine`).
"""

from stt.recognition.engine import Described, ServedEngine, ServedRecognizer
from stt.recognition.keeper import Keeper, OpenModel
from stt.recognition.local import LocalRecognizer
from stt.recognition.pair import PairKeeper, PairRecognizer, Previewing, recognizing
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
    "Described",
    "GivenUpError",
    "Hypothesis",
    "Keeper",
    "Kind",
    "LocalRecognizer",
    "OpenModel",
    "PairKeeper",
    "PairRecognizer",
    "Previewing",
    "Recognition",
    "RecognitionOptions",
    "RecognitionService",
    "ServedEngine",
    "ServedRecognizer",
    "SpeechModel",
    "Ticket",
    "Utterance",
    "WindowKey",
    "recognizing",
]
