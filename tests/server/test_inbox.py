"""What an Inbox makes of audio whose format changes, or whose channels oppose each other."""

import numpy as np
import pytest

from stt.audio import Samples, to_pcm16
from stt.server.dialect import Audio, Format
from stt.server.streams import Inbox


def tone(rate: int, seconds: float) -> Samples:
    return (0.3 * np.sin(2 * np.pi * 440 * np.arange(round(rate * seconds)) / rate)).astype(np.float32)


async def heard(*parts: tuple[Format, Samples]) -> Samples:
    inbox = Inbox(60)
    for form, audio in parts:
        inbox.put(Audio(to_pcm16(audio), form))
    inbox.finish()
    return np.concatenate([piece async for piece in inbox])


async def test_a_change_of_format_loses_nothing_and_shifts_no_times() -> None:
    rates = (8_000, 48_000, 16_000, 44_100, 16_000, 8_000)
    audio = await heard(*((Format(rate, 1), tone(rate, 0.5)) for rate in rates))
    assert len(audio) == pytest.approx(8_000 * len(rates), abs=len(rates))
    for at in range(len(rates)):  # each part is at its place, whole
        part = audio[8_000 * at : 8_000 * (at + 1)]
        assert np.abs(part[200:-200] - tone(16_000, 0.5)[200:-200]).max() < 0.02


@pytest.mark.parametrize("rate", [16_000, 48_000])
async def test_a_client_with_opposed_channels_is_heard(rate: int) -> None:
    audio = tone(rate, 1)
    mixed = await heard((Format(rate, 2), np.stack([audio, -audio], axis=1).reshape(-1)))
    assert np.abs(mixed).mean() == pytest.approx(np.abs(audio).mean(), rel=0.05)
