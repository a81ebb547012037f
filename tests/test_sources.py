"""Files of every kind and condition, standard input, and pacing."""

import asyncio
import errno
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from spoken import say, sentences, silence
from stt.audio import Samples
from stt.errors import AudioError
from stt.sources import FileSource, RawPcm, paced


def read(path: str | Path, raw: RawPcm | None = None) -> tuple[Samples, FileSource]:
    async def collect() -> Samples:
        return np.concatenate([np.zeros(0, np.float32), *[piece async for piece in source]])

    with FileSource(path, raw) as source:
        return asyncio.run(collect()), source


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


def test_what_libsndfile_does_not_read_goes_through_pyav(tmp_path: Path, speech: Samples) -> None:
    import av

    path = tmp_path / "a.m4a"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("aac", rate=16_000)
        packets = []
        for at in range(0, len(speech), 1024):
            frame = av.AudioFrame.from_ndarray(speech[None, at : at + 1024], format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16_000, at
            packets += stream.encode(frame)
        for packet in [*packets, *stream.encode(None)]:
            out.mux(packet)
    audio, source = read(path)
    assert len(audio) == pytest.approx(len(speech), rel=0.02)

    def loudness(samples: Samples) -> Samples:  # in steps of 0.1 s: the codec may shift by some milliseconds
        return np.abs(samples[: len(speech) // 1_600 * 1_600 - 1_600]).reshape(-1, 1_600).mean(axis=1)

    assert np.corrcoef(loudness(audio), loudness(speech))[0, 1] > 0.9
    assert source.duration_s == pytest.approx(len(speech) / 16_000, rel=0.02)


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
    assert np.abs(audio - np.clip(whole, -1, 1)).max() < 1e-6
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
    path, heard = spoil(tmp_path, speech, name), []

    async def collect() -> None:
        async for piece in source:
            heard.append(piece)

    with FileSource(path) as source, pytest.raises(AudioError, match="truncated") as error:
        asyncio.run(collect())
    assert str(path) in str(error.value)
    # a damaged block is lost whole, and a block is 2 s
    assert sum(map(len, heard)) == pytest.approx(2 * len(speech), abs=2 * 16_000 + 1_000)


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

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(AudioError, match="no permission"):
        FileSource(tmp_path / "a.wav")


def test_a_header_without_audio_is_silence(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", silence(0), 16_000)
    assert len(read(tmp_path / "a.wav")[0]) == 0


_READ_STDIN = """
import asyncio, sys
from stt.sources import FileSource, RawPcm
raw = RawPcm(*map(int, sys.argv[1:])) if sys.argv[1:] else None
async def count():
    with FileSource("-", raw) as source:
        print(sum([len(piece) async for piece in source]))
try:
    asyncio.run(count())
except Exception as error:
    print(type(error).__name__, error)
"""


def piped(data: bytes, *args: str) -> str:
    run = subprocess.run([sys.executable, "-Pc", _READ_STDIN, *args], input=data, capture_output=True, check=True)
    return run.stdout.decode().strip()


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3", "AIFF"])
def test_standard_input_takes_pipes(speech: Samples, kind: str) -> None:
    data = io.BytesIO()
    soundfile.write(data, speech, 16_000, format=kind)
    assert abs(int(piped(data.getvalue())) - len(speech)) < 2_000


def test_standard_input_takes_a_file_raw_audio_and_says_what_is_wrong(tmp_path: Path, speech: Samples) -> None:
    soundfile.write(tmp_path / "a.flac", speech, 16_000)
    with (tmp_path / "a.flac").open("rb") as file:
        run = subprocess.run([sys.executable, "-Pc", _READ_STDIN], stdin=file, capture_output=True, check=True)
    assert int(run.stdout) == len(speech)
    assert piped(b"\0" * 64_000, "16000", "1") == "32000"
    assert piped(b"\0" * 64_000, "8000", "2") == "32000"
    assert piped(b"") == "AudioError standard input: empty, expected audio"
    assert "not audio in a format known here" in piped(b"hello world, this is no audio")


def test_a_pipe_is_heard_while_it_is_written(speech: Samples) -> None:
    """Live: the first samples come out before the writer has closed the pipe."""
    code = _READ_STDIN.replace(
        "print(sum([len(piece) async for piece in source]))",
        "first = await anext(aiter(source)); print(len(first), flush=True)",
    )
    data = io.BytesIO()
    soundfile.write(data, np.tile(speech, 4), 16_000, format="WAV")
    with subprocess.Popen([sys.executable, "-Pc", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as run:
        assert run.stdin is not None
        assert run.stdout is not None
        run.stdin.write(data.getvalue()[:200_000])
        run.stdin.flush()
        assert int(run.stdout.readline()) == 32_000
        run.stdin.close()


async def test_pacing_cuts_into_equal_pieces_and_keeps_every_sample() -> None:
    async def source() -> Any:
        yield np.arange(1000, dtype=np.float32)
        yield np.arange(1000, 1500, dtype=np.float32)

    pieces = [piece async for piece in paced(source(), piece_s=0.02)]
    assert [len(piece) for piece in pieces] == [320] * 4 + [220]
    assert np.concatenate(pieces).tolist() == list(range(1500))
