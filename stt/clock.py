"""Audio is the clock: times are sample indices at 16 kHz since a stream began. Nothing here needs numpy."""

from typing import Final

SAMPLE_RATE: Final = 16_000
"""Samples per second of all audio inside this package."""


def seconds(samples: int) -> float:
    """Convert a count of samples at 16 kHz into seconds."""
    return samples / SAMPLE_RATE


def samples(duration_s: float) -> int:
    """Convert seconds into the nearest count of samples at 16 kHz."""
    return round(duration_s * SAMPLE_RATE)
