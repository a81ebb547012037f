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


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 32_000, 44_099, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("sizes", [[1], [7, 1, 500], [441], [16_000]])
def test_resampling_does_not_depend_on_the_chunks(rate: int, sizes: list[int]) -> None:
    audio = noise(rate // 8)
    whole = resampled(audio, rate, [len(audio)])
    assert np.array_equal(resampled(audio, rate, sizes), whole)
    assert abs(len(whole) - 2_000) <= 1


@pytest.mark.parametrize("rate", [1_000, 7_999, 8_000, 11_025, 22_050, 44_099, 44_100, 48_000, 192_000, 768_000])
@pytest.mark.parametrize("piece_s", [0.001, 0.02, 0.2])
def test_at_most_ten_milliseconds_are_held_back(rate: int, piece_s: float) -> None:
    audio, resampler, got = noise(rate // 2), Resampler(rate), 0
    size = round(rate * piece_s)
    for at in range(0, len(audio), size):
        got += len(resampler.feed(audio[at : at + size]))
        assert min(at + size, len(audio)) / rate - got / 16_000 <= 0.010
    assert abs(got + len(resampler.finish()) - len(audio) * 16_000 / rate) <= 1


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000])
def test_a_tone_keeps_its_pitch_and_loudness(rate: int) -> None:
    tone = (0.5 * np.sin(2 * np.pi * 1000 * np.arange(rate) / rate)).astype(np.float32)
    out = resampled(tone, rate, [rate])
    spectrum = np.abs(np.fft.rfft(out[:16_000]))
    assert spectrum.argmax() == 1000
    assert np.abs(out[4000:12_000]).max() == pytest.approx(0.5, abs=0.01)


def test_channels_are_averaged() -> None:
    left, right = noise(5000), noise(5000)[::-1]
    for stereo in (np.stack([left, right], axis=1), np.stack([left, left, left], axis=1)):
        resampler = Resampler(16_000, stereo.shape[1])
        assert np.array_equal(resampler.feed(stereo), stereo.mean(axis=1))
        assert not resampler.opposed


def voice(seed: int, seconds_: float = 2.0, rate: int = 16_000) -> np.ndarray:
    """Half a second of sound like a vowel, half a second of nothing, again and again."""
    rng, t = np.random.default_rng(seed), np.arange(round(seconds_ * rate)) / rate
    pitch = 90 + 60 * rng.random()
    tone = sum(np.sin(2 * np.pi * pitch * k * t + rng.random() * 6) / k for k in range(1, 12))
    return (0.1 * tone * (t % 1 < 0.5)).astype(np.float32)


def loudness_db(audio: np.ndarray) -> float:
    return 10 * np.log10(np.mean(np.square(audio, dtype=np.float64)) + 1e-20)


@pytest.mark.parametrize("rate", [8_000, 16_000, 48_000])
@pytest.mark.parametrize(
    "gains",
    [
        [1, -1],
        [-1, 1],
        [1, -0.8],
        [0.3, -0.3],
        [0.001, -0.001],  # very quiet
        [1, -1, 0, 0, 0, 0],  # surround with one pair in use
        [1, -1, 1, -1],
        [1, -1, -1, 1, -1, 1, 1, -1],
        [1, 0],
        [0, 1, 0],
    ],
)
def test_what_is_said_in_any_channel_is_heard(rate: int, gains: list[float]) -> None:
    said = voice(1, rate=rate)
    channels = said[:, None] * np.array(gains, np.float32)
    mixed = resampled(channels, rate, [rate // 50])
    # as loud as the mean of what the channels have, all turned the same way
    expected = loudness_db(said) + 20 * np.log10(np.abs(gains).mean())
    assert loudness_db(mixed) == pytest.approx(expected, abs=1)


def test_channels_that_oppose_each_other_only_now_and_then_are_heard_all_the_time() -> None:
    one, other = voice(1, 4), voice(2, 4)
    hum = 0.001 * np.sin(2 * np.pi * 50 * np.arange(len(one)) / 16_000).astype(np.float32)
    right = np.concatenate((one, -other, one, -other))
    left = np.concatenate((one, other, one, other))
    mixed = Resampler(16_000, 2).feed(np.stack([left, right], axis=1) + np.tile(hum, 4)[:, None])
    for part, said in zip(mixed.reshape(4, -1), (one, other, one, other), strict=True):
        assert loudness_db(part) == pytest.approx(loudness_db(said), abs=1)


def test_two_people_on_two_channels_are_both_heard() -> None:
    one, other = voice(1), voice(2)
    mixed = Resampler(16_000, 2).feed(np.stack([one, other], axis=1))
    assert loudness_db(mixed) == pytest.approx(loudness_db((one + other) / 2), abs=1)


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
@pytest.mark.parametrize("sizes", [[1], [7, 1, 500], [441], [16_000]])
def test_the_mix_does_not_depend_on_the_chunks(rate: int, sizes: list[int]) -> None:
    one, other = voice(1, 0.25, rate), voice(2, 0.25, rate)
    channels = np.stack([np.concatenate((one, other)), np.concatenate((one, -other))], axis=1)
    assert np.array_equal(resampled(channels, rate, sizes), resampled(channels, rate, [len(channels)]))


def test_channels_that_cancel_are_noticed() -> None:
    said = voice(1)
    for gains, expected in (([1, -1], True), ([1, 1], False), ([1, 0], False), ([0, 0], False)):
        resampler = Resampler(16_000, 2)
        resampler.feed(said[:, None] * np.array(gains, np.float32))
        assert resampler.opposed == expected


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
