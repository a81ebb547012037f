"""What clients send as audio: every codec, cut anywhere, is the same sound; what is no audio is an error."""

import asyncio
import io
from typing import Any

import av
import numpy as np
import pytest

from recordings import encode, tones
from stt.audio import Resampler, from_pcm16, to_pcm16
from stt.errors import AudioError
from stt.server.codecs import Decoder
from stt.server.dialect import Audio, Codec, Encoded


async def decoded(codec: Codec, *pieces: bytes) -> list[Audio]:
    decoder, heard = Decoder(), []
    try:
        for piece in pieces:
            heard += [audio async for audio in decoder.decode(Encoded(piece, codec))]
        heard += [audio async for audio in decoder.finish()]
    finally:
        decoder.close()
    return heard


def sound(heard: list[Audio]) -> np.ndarray:
    """All of it, at 16 kHz."""
    parts: list[np.ndarray] = []
    for audio in heard:
        one = Resampler(audio.format.rate, audio.format.channels) if not parts else one  # noqa: F821
        parts.append(one.feed(from_pcm16(audio.pcm, audio.format.channels)))
    return np.concatenate([*parts, one.finish()])


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def ffmpeg(data: bytes, name: str) -> bytes:
    """What FFmpeg makes of headerless bytes of a codec."""
    context = av.CodecContext.create(name, "r")
    context.sample_rate, context.layout = 8000, "mono"  # type: ignore[attr-defined]
    return b"".join(f.to_ndarray().tobytes() for f in context.decode(av.Packet(data)))  # type: ignore[attr-defined]


@pytest.mark.parametrize(("encoding", "name"), [("mulaw", "pcm_mulaw"), ("alaw", "pcm_alaw")])
async def test_g711_is_what_the_standard_says(encoding: Any, name: str) -> None:
    values = bytes(range(256))
    (audio,) = await decoded(Codec(encoding, 8_000), values)
    assert audio.pcm == ffmpeg(values, name)
    assert audio.format.rate == 8_000


@pytest.mark.parametrize("size", [1, 3, 5, 1_000])
async def test_samples_may_be_cut_anywhere(size: int) -> None:
    pcm = to_pcm16(tones(0.1))
    heard = await decoded(Codec("linear16", 24_000, 2), *cut(pcm, size))
    assert b"".join(audio.pcm for audio in heard) == pcm
    wide = (np.frombuffer(pcm, "<i2").astype("<i4") << 16).tobytes()
    heard = await decoded(Codec("linear32", 24_000), *cut(wide, size))
    assert b"".join(audio.pcm for audio in heard) == pcm


async def test_another_codec_begins_with_a_whole_sample() -> None:
    decoder = Decoder()
    for codec, data in ((Codec("linear16"), b"\1\2\3"), (Codec("linear16", 8_000), b"\4\5")):
        (audio,) = [audio async for audio in decoder.decode(Encoded(data, codec))]
        assert audio.pcm == data[:2]


def opus_packets(audio: np.ndarray) -> list[bytes]:
    context: Any = av.CodecContext.create("libopus", "w")
    context.sample_rate, context.layout, context.format = 48_000, "mono", "flt"
    context.open()
    packets = []
    wide = np.repeat(audio, 3).astype(np.float32)
    for at in range(0, len(wide) - 959, 960):
        frame = av.AudioFrame.from_ndarray(wide[None, at : at + 960], format="flt", layout="mono")
        frame.sample_rate = 48_000
        packets += [bytes(packet) for packet in context.encode(frame)]
    return packets


async def test_raw_opus_packets() -> None:
    heard = sound(await decoded(Codec("opus", 48_000), *opus_packets(tones(1.0))))
    assert abs(len(heard) - 16_000) <= 640
    assert np.abs(heard[4_000:12_000]).max() == pytest.approx(0.3, abs=0.05)


async def test_a_broken_opus_packet_is_an_error_and_the_next_one_is_heard() -> None:
    decoder, codec, good = Decoder(), Codec("opus", 48_000), opus_packets(tones(0.2))[-1]
    with pytest.raises(AudioError, match="Opus packet of 3 bytes"):
        async for _ in decoder.decode(Encoded(b"\xff\xff\xff", codec)):
            pass
    assert [len(audio.pcm) async for audio in decoder.decode(Encoded(good, codec))] == [1920]


@pytest.mark.parametrize("kind", ["wav", "ogg", "webm", "flac", "mp3"])
@pytest.mark.parametrize("size", [100, 4_000, 10_000_000])
async def test_containers_may_arrive_in_pieces(kind: str, size: int, tmp_path: Any) -> None:
    data = encode(tmp_path / f"a.{kind}", tones(2.0)).read_bytes()
    heard = sound(await decoded(Codec("container"), *cut(data, size)))
    assert abs(len(heard) - 32_000) < 2_000
    assert np.abs(heard[8_000:24_000]).max() == pytest.approx(0.3, abs=0.06)


@pytest.mark.parametrize("kind", ["wav", "ogg", "webm"])
async def test_a_container_is_heard_before_it_is_whole(kind: str, tmp_path: Any) -> None:
    data = encode(tmp_path / f"a.{kind}", tones(10.0)).read_bytes()
    decoder, heard = Decoder(), 0
    for piece in cut(data[: len(data) * 9 // 10], 500):
        async for audio in decoder.decode(Encoded(piece, Codec("container"))):
            heard += len(audio.pcm) // 2
    decoder.close()
    assert heard > 5 * 16_000  # a WebM's cluster is 5 s long


async def test_what_is_no_container_is_an_error() -> None:
    for data in (b"\0" * 100_000, b"hello " * 1_000, b"OggS" + bytes(90_000), b"RIFF\0\0\0\0WAVEfmt "):
        with pytest.raises(AudioError, match="not audio"):
            await decoded(Codec("container"), *cut(data, 1_000))


async def test_raw_samples_that_nobody_announced_are_an_error_soon() -> None:
    """Not once FFmpeg has looked at 1 MiB of them, which are half a minute."""
    decoder, pcm = Decoder(), to_pcm16(np.random.default_rng(0).normal(0, 0.1, 48_000))
    with pytest.raises(AudioError, match=r"not audio.*or for raw samples their encoding"):
        for piece in cut(pcm, 3_200):
            async for _ in decoder.decode(Encoded(piece, Codec("container"))):
                pass
    decoder.close()


@pytest.mark.parametrize("picture", [300_000, 2_000_000])
async def test_a_picture_in_front_of_an_mp3_may_be_large(picture: int, tmp_path: Any) -> None:
    mp3 = encode(tmp_path / "a.mp3", tones(2.0)).read_bytes()
    begins = 10 + sum(byte << shift for byte, shift in zip(mp3[6:10], (21, 14, 7, 0), strict=True))
    size = bytes(picture >> shift & 127 for shift in (21, 14, 7, 0))
    data = b"ID3\4\0\0" + size + bytes(picture) + mp3[begins if mp3[:3] == b"ID3" else 0 :]
    assert abs(len(sound(await decoded(Codec("container"), *cut(data, 8_000)))) - 32_000) < 2_000


@pytest.mark.parametrize("kind", ["m4a", "mov"])
@pytest.mark.parametrize("part", [1, 2])
async def test_an_index_at_the_end_comes_too_late(kind: str, part: int, tmp_path: Any) -> None:
    """FFmpeg could only seek back; what is missing is told, and what to send instead."""
    data = encode(tmp_path / f"a.{kind}", tones(10.0)).read_bytes()
    with pytest.raises(AudioError, match=r"whose index comes after its sound, or is missing.*\+faststart.*or the file"):
        await decoded(Codec("container"), *cut(data[: len(data) // part], 4_000))


async def test_an_index_at_the_beginning_is_heard(tmp_path: Any) -> None:
    data = encode(tmp_path / "a.mp4", tones(2.0)).read_bytes()
    assert abs(len(sound(await decoded(Codec("container"), *cut(data, 1_000)))) - 32_000) < 2_000
    with pytest.raises(AudioError, match="truncated"):
        await decoded(Codec("container"), data[: data.index(b"mdat") + 4])


async def test_a_stream_that_breaks_off_was_heard(tmp_path: Any) -> None:
    data = encode(tmp_path / "a.webm", tones(2.0)).read_bytes()
    heard = sound(await decoded(Codec("container"), data[: len(data) // 2]))
    assert len(heard) > 8_000


async def test_a_decompression_bomb_is_an_error() -> None:
    """FLAC of digital silence with the longest blocks and no audio to speak of: hours in a few kB."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="flac") as out:
        stream: Any = out.add_stream("flac", rate=8_000, layout="mono")
        stream.codec_context.options = {"frame_size": "65535"}
        stream.codec_context.format = "s16"
        nothing = np.zeros((1, 65_535), np.int16)
        for i in range(1_000):
            frame = av.AudioFrame.from_ndarray(nothing, format="s16", layout="mono")
            frame.sample_rate, frame.pts = 8_000, i * 65_535
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    assert len(buffer.getvalue()) < 30_000
    with pytest.raises(AudioError, match="stand for more than"):
        await decoded(Codec("container"), buffer.getvalue())


async def test_nothing_waits_for_a_stream_that_is_given_up(tmp_path: Any) -> None:
    data = encode(tmp_path / "a.wav", tones(30.0)).read_bytes()
    for taken in (0, 1, 3):
        decoder = Decoder()
        pieces = decoder.decode(Encoded(data, Codec("container")))
        for _ in range(taken):
            await anext(pieces)
        await pieces.aclose()
        container = decoder._container
        decoder.close()
        if container is not None and container._thread is not None:
            await asyncio.to_thread(container._thread.join, 10)
            assert not container._thread.is_alive()
