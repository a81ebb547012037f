import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stt.audio import Resampler, from_pcm16, samples, seconds, to_pcm16
from stt.errors import AudioError


def noise(count: int) -> np.ndarray:
    return (np.random.default_rng(0).standard_normal(count) * 0.1).astype(np.float32)


def resampled(audio: np.ndarray, rate: int, sizes: list[int]) -> np.ndarray:
    resampler, out, at = Resampler(rate, 1 if audio.ndim == 1 else audio.shape[1]), [], 0
    for i in range(len(audio)):
        if at >= len(audio):
            break
        size = sizes[i % len(sizes)]
        out.append(resampler.feed(audio[at : at + size]))
        at += size
    return np.concatenate([*out, resampler.finish()])


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("sizes", [[1], [7, 1, 500], [441], [16_000]])
def test_resampling_does_not_depend_on_the_chunks(rate: int, sizes: list[int]) -> None:
    audio = noise(rate // 2)
    whole = resampled(audio, rate, [len(audio)])
    assert np.array_equal(resampled(audio, rate, sizes), whole)
    assert abs(len(whole) - 8_000) <= 1


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000])
def test_a_tone_keeps_its_pitch_and_loudness(rate: int) -> None:
    tone = (0.5 * np.sin(2 * np.pi * 1000 * np.arange(rate) / rate)).astype(np.float32)
    out = resampled(tone, rate, [rate])
    spectrum = np.abs(np.fft.rfft(out[:16_000]))
    assert spectrum.argmax() == 1000
    assert np.abs(out[4000:12_000]).max() == pytest.approx(0.5, abs=0.01)


def test_channels_are_averaged() -> None:
    left, right = noise(1000), noise(1000)[::-1]
    stereo = np.stack([left, right], axis=1)
    assert np.allclose(Resampler(16_000, 2).feed(stereo), (left + right) / 2)


def test_values_that_are_not_finite_or_too_large_do_no_harm() -> None:
    audio = np.array([0.1, np.nan, np.inf, -np.inf, 7.0, -7.0], np.float32)
    assert Resampler(16_000).feed(audio).tolist() == pytest.approx([0.1, 0, 0, 0, 1, -1])


@pytest.mark.parametrize(("rate", "channels"), [(0, 1), (7, 1), (10**9, 1), (16_000, 0), (16_000, 5000), (-1, 1)])
def test_impossible_formats_are_said(rate: int, channels: int) -> None:
    with pytest.raises(AudioError, match="must be"):
        Resampler(rate, channels)


@given(st.lists(st.integers(-32768, 32767)))
def test_pcm16_comes_back(values: list[int]) -> None:
    data = np.array(values, "<i2").tobytes()
    assert to_pcm16(from_pcm16(data)[:, 0]) == data


def test_pcm16_is_clipped_not_wrapped() -> None:
    assert to_pcm16(np.array([1.0, 2.0, -2.0], np.float32)) == np.array([32767, 32767, -32768], "<i2").tobytes()


def test_half_a_frame_is_an_error() -> None:
    with pytest.raises(AudioError, match="frames of 4 bytes, got 6"):
        from_pcm16(b"123456", channels=2)
    with pytest.raises(AudioError, match="frames of 2 bytes, got 1"):
        from_pcm16(b"1")


def test_seconds_and_samples() -> None:
    assert samples(0.3) == 4800
    assert seconds(4800) == 0.3
