"""Where a hypothesis leaves speech out: spans of words in, gaps out."""

import numpy as np
import pytest

from stt.audio import SAMPLE_RATE, Samples, seconds
from stt.engines.gaps import Span, quiet_spot, unheard


def sound(*parts: tuple[float, float], hiss: float = 0.0) -> Samples:
    """Make noise that swells like syllables: for so many seconds, of such an amplitude, part by part."""
    rng = np.random.default_rng(0)
    lengths = [round(duration_s * SAMPLE_RATE) for duration_s, _ in parts]
    swell = np.abs(np.sin(2 * np.pi * 2 * np.arange(sum(lengths)) / SAMPLE_RATE))
    level = np.repeat([level for _, level in parts], lengths) * swell + hiss
    return (level * rng.standard_normal(len(level))).astype(np.float32)


EVEN = tuple((at / 2, at / 2 + 0.5) for at in range(6))  # six words in three seconds


@pytest.mark.parametrize(
    ("words", "audio", "expected"),
    [
        (EVEN, sound((3, 0.1)), []),
        (EVEN, sound((3, 0.1), (3, 0.1)), [(3.0, 6.0)]),  # after the last word
        (((0, 3.5), (3.5, 4), (4, 4.5)), sound((4.5, 0.1)), [(0, 3.5)]),  # before the first
        (((0, 0.5), (0.5, 4), (4, 4.5)), sound((4.5, 0.1)), [(0.5, 4)]),  # in the midst
        ((), sound((4, 0.1)), [(0.0, 4.0)]),  # no words at all
        (EVEN, sound((3, 0.1), (3, 0)), []),  # nobody speaks after them
        (EVEN, sound((3, 0.1), (3, 0), hiss=0.002), []),  # hiss is no speech
        (EVEN, sound((3, 0.3), (3, 0.003)), [(3.0, 6.0)]),  # 40 dB softer, and still somebody
        (EVEN, sound((3, 0.1), (0.6, 0.1), (2.4, 0)), []),  # one drawn-out word, then a pause
        (EVEN, sound((3, 0.1), (1.6, 0.1)), []),
        ((), np.zeros(0, np.float32), []),
        ((), np.ones(100, np.float32), []),
    ],
)
def test_sound_that_no_word_stands_for_is_found(words: tuple[Span, ...], audio: Samples, expected: list[Span]) -> None:
    assert unheard(words, audio) == expected


def test_a_window_is_split_in_its_longest_pause_near_the_gap() -> None:
    audio = sound((0.5, 0), (2, 0.1), (0.2, 0), (2, 0.1), (0.5, 0), (2, 0.1), (0.8, 0))
    at = quiet_spot((2.5, 7.2), audio)
    assert at is not None
    assert seconds(at) == pytest.approx(4.95, abs=0.05)
    at = quiet_spot((2.4, 4.0), audio)
    assert at is not None
    assert seconds(at) == pytest.approx(2.6, abs=0.05)


@pytest.mark.parametrize("audio", [sound((4, 0.1)), sound((1, 0), (3, 0.1)), sound((3, 0.1), (1, 0)), sound((4, 0))])
def test_what_has_no_pause_between_two_sounds_is_not_split(audio: Samples) -> None:
    assert quiet_spot((0, 4), audio) is None
