"""Ends of turns are heard whatever speech comes through, when they are: real detector, several voices."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import soxr

from sounds import DISTORTIONS, level
from spoken import say, sentences, silence
from stt.audio import Samples, samples
from stt.settings import TurnSettings
from stt.turns import TurnEnded, TurnSegmenter
from stt.vad import SileroVad, SpeechDetector

VOICES = (0.8, 0.9, 1.0, 1.15, 1.3)
"""By how much they are higher and faster."""
LEAD_S, GAP_S = 0.6, 0.8


def spoken() -> Iterator[Samples]:
    for seed, text in enumerate(sentences(2 * len(VOICES))):
        yield level(soxr.resample(say(text, seed), VOICES[seed % len(VOICES)], 1).astype(np.float32), 0.08)


def late_s(through: Callable[[Samples], Samples]) -> list[float]:
    """How long after the end of each sentence its turn is found to be over, the gap aside; infinite: never."""
    found, vad = [], SileroVad()
    for speech in spoken():
        audio = through(np.concatenate([silence(LEAD_S), speech, silence(3)]))
        events = TurnSegmenter(TurnSettings(end_of_turn_s=GAP_S)).feed(*SpeechDetector(vad).feed(audio))
        ends = [event.decided for event in events if isinstance(event, TurnEnded)]
        end = samples(LEAD_S) + len(speech)
        found.append(next((decided - end for decided in ends if decided > end), np.inf) / 16_000 - GAP_S)
    return found


@pytest.mark.parametrize("name", DISTORTIONS)
def test_every_end_is_heard_in_time(name: str) -> None:
    late = late_s(DISTORTIONS[name])
    assert max(late) < 0.5
    assert np.mean(late) < np.mean(late_s(lambda audio: audio)) + 0.1


def test_what_is_25_db_quieter_has_the_same_ends() -> None:
    assert late_s(DISTORTIONS["quiet"]) == pytest.approx(late_s(lambda audio: audio), abs=0.065)
