"""Files of every format and condition, and pacing."""

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from recordings import hear
from spoken import say, sentences, silence
from stt.audio import Samples
from stt.errors import AudioError
from stt.sources import FileSource, RawPcm, paced


def read(path: str | Path, raw: RawPcm | None = None) -> tuple[Samples, FileSource]:
    heard = hear(path, raw)
    return heard.whole(), heard.source


@pytest.fixture(scope="module")
def speech() -> Samples:
    return np.concatenate([say(text) for text in sentences(2)])


@pytest.mark.parametrize(
    ("name", "options", "tolerance"),
    [
        ("a.wav", {}, 1e-3),
        ("a.flac", {}, 1e-3),
        ("a.ogg", {}, 0.1),
        ("a.mp3", {}, 0.1),
        ("a.aiff", {}, 1e-3),
        ("a.au", {}, 1e-3),
        ("f.wav", {"subtype": "FLOAT"}, 1e-6),
        ("u.wav", {"subtype": "ULAW"}, 0.05),
    ],
)
def test_formats(tmp_path: Path, speech: Samples, name: str, options: dict[str, Any], tolerance: float) -> None:
    soundfile.write(tmp_path / name, speech, 16_000, **options)
    audio, source = read(tmp_path / name)
    assert abs(len(audio) - len(speech)) < 2_000
    n = min(len(audio), len(speech))
    assert np.abs(audio[:n] - speech[:n]).max() < tolerance
    assert source.position_s == pytest.approx(len(audio) / 16_000)
    assert source.duration_s == pytest.approx(len(speech) / 16_000, abs=0.2)


@pytest.mark.parametrize("kind", sorted(soundfile.available_formats()))
def test_every_format_that_libsndfile_writes_is_read(tmp_path: Path, speech: Samples, kind: str) -> None:
    if kind in {"RAW", "SD2"}:
        pytest.skip("no header; header in a file of its own")
    rate = {"WVE": 8_000, "XI": 44_100}.get(kind, 16_000)
    audio = np.tile(np.roll(speech, -int(np.abs(speech).argmax())), 2)[: 2 * rate]  # not the silence before it
    soundfile.write(tmp_path / f"a.{kind.lower()}", audio, rate, format=kind)
    heard, _ = read(tmp_path / f"a.{kind.lower()}")
    assert len(heard) == pytest.approx(32_000, abs=2_000)
    assert np.abs(heard).mean() == pytest.approx(np.abs(audio).mean(), rel=0.2)


@pytest.mark.parametrize("subtype", sorted(soundfile.available_subtypes("WAV").keys() - {"MPEG_LAYER_III"}))
@pytest.mark.parametrize("channels", [1, 2])
def test_every_encoding_of_wav_is_read(tmp_path: Path, speech: Samples, subtype: str, channels: int) -> None:
    if channels == 2 and subtype in {"G721_32", "NMS_ADPCM_16", "NMS_ADPCM_24", "NMS_ADPCM_32", "GSM610"}:
        pytest.skip("mono only")
    soundfile.write(tmp_path / "a.wav", np.tile(speech[:, None], channels), 16_000, subtype=subtype)
    heard, _ = read(tmp_path / "a.wav")
    assert len(heard) == pytest.approx(len(speech), abs=2_000)
    assert np.abs(heard).mean() == pytest.approx(np.abs(speech).mean(), rel=0.2)


@pytest.mark.parametrize(("rate", "channels"), [(8_000, 1), (48_000, 2), (44_100, 6)])
def test_any_rate_and_channel_count(tmp_path: Path, rate: int, channels: int) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)
    soundfile.write(tmp_path / "a.wav", np.tile(tone[:, None], channels), rate)
    audio, _ = read(tmp_path / "a.wav")
    assert abs(len(audio) - 16_000) <= 1
    assert np.abs(np.fft.rfft(audio[:16_000])).argmax() == 440


def test_an_mp3_is_decoded_without_seams(tmp_path: Path, speech: Samples, capfd: pytest.CaptureFixture[str]) -> None:
    soundfile.write(tmp_path / "a.mp3", np.tile(speech, 3), 16_000)
    whole = soundfile.read(tmp_path / "a.mp3", dtype="float32")[0]
    capfd.readouterr()
    audio, _ = read(tmp_path / "a.mp3")
    assert len(audio) == len(whole)
    assert np.abs(audio - np.clip(whole, -1, 1)).max() < 1e-3  # another decoder
    assert capfd.readouterr().err == ""


def spoil(tmp_path: Path, speech: Samples, name: str) -> Path:
    soundfile.write(tmp_path / name, np.tile(speech, 4), 16_000)
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) // 2])
    return tmp_path / name


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.aiff", "a.au"])
def test_a_truncated_file_is_heard_to_its_end_and_then_said_to_be_truncated(
    tmp_path: Path, speech: Samples, name: str
) -> None:
    path = spoil(tmp_path, speech, name)
    heard = hear(path)
    assert "truncated" in str(heard.error)
    assert str(path) in str(heard.error)
    assert len(heard.audio) == pytest.approx(2 * len(speech), abs=5_000)  # a block of FLAC


def test_a_header_that_does_not_know_the_length_is_no_truncation(tmp_path: Path, speech: Samples) -> None:
    soundfile.write(tmp_path / "a.wav", speech, 16_000)
    data = bytearray((tmp_path / "a.wav").read_bytes())
    at = data.index(b"data") + 4
    data[4:8] = data[at : at + 4] = b"\xff" * 4  # as ffmpeg writes it into a pipe
    (tmp_path / "a.wav").write_bytes(data)
    assert len(read(tmp_path / "a.wav")[0]) == len(speech)


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("this is not audio, whatever its name says\n" * 50)
    (tmp_path / "film.mp4").write_bytes(b"\0" * 3000)
    for name, expected in {
        "missing.wav": "no such file",
        "empty.wav": "empty (0 bytes)",
        "text.wav": "not audio",
        "film.mp4": "not audio",
        ".": "is a directory",
    }.items():
        with pytest.raises(AudioError) as error:
            FileSource(tmp_path / name)
        assert expected in str(error.value)
        assert str(tmp_path) in str(error.value)


def test_no_permission_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "a.wav", silence(1), 16_000)

    def refuse(*_: object) -> None:  # root, who runs some tests, may read everything
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(AudioError, match="no permission"):
        FileSource(tmp_path / "a.wav")


def test_a_header_without_audio_is_silence(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", silence(0), 16_000)
    assert len(read(tmp_path / "a.wav")[0]) == 0


async def test_pacing_cuts_into_equal_pieces_and_keeps_every_sample() -> None:
    async def source() -> Any:
        yield np.arange(1000, dtype=np.float32)
        yield np.arange(1000, 1500, dtype=np.float32)

    pieces = [piece async for piece in paced(source(), piece_s=0.02)]
    assert [len(piece) for piece in pieces] == [320] * 4 + [220]
    assert np.concatenate(pieces).tolist() == list(range(1500))


@pytest.mark.parametrize("raw", [RawPcm(0), RawPcm(-8_000), RawPcm(16_000, 0), RawPcm(16_000, 100_000)])
def test_a_form_that_cannot_be_is_said_before_anything_is_read(tmp_path: Path, raw: RawPcm) -> None:
    (tmp_path / "a.raw").write_bytes(bytes(64))
    with pytest.raises(AudioError, match="must be 1"):
        FileSource(tmp_path / "a.raw", raw)
