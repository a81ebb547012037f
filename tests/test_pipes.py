"""Standard input, FIFOs, and letting go: of what is being read, and of what waits for a writer."""

import asyncio
import contextlib
import gc
import io
import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from recordings import CODECS, encode, hear, tones
from stt.audio import Samples
from stt.errors import AudioError
from stt.sources import FileSource, RawPcm
from stt.sources.inputs import Pipe

SOUND = tones(6)


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
def test_standard_input_takes_pipes(kind: str) -> None:
    data = io.BytesIO()
    soundfile.write(data, SOUND, 16_000, format=kind)
    assert abs(int(piped(data.getvalue())) - len(SOUND)) < 2_000


def test_standard_input_takes_a_file_raw_audio_and_says_what_is_wrong(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", SOUND, 16_000)
    with (tmp_path / "a.flac").open("rb") as file:
        run = subprocess.run([sys.executable, "-Pc", _READ_STDIN], stdin=file, capture_output=True, check=True)
    assert int(run.stdout) == len(SOUND)
    assert piped(b"\0" * 64_000, "16000", "1") == "32000"
    assert piped(b"\0" * 64_000, "8000", "2") == "32000"
    assert piped(b"") == "AudioError standard input: empty, expected audio"
    assert "not audio in a format known here" in piped(b"hello world, this is no audio")


_LIVE = """
import asyncio
from stt.sources import FileSource
async def go():
    with FileSource("-") as source:
        async for piece in source:
            print(len(piece), flush=True)
asyncio.run(go())
"""


@pytest.mark.parametrize("kind", ["WAV", "OGG"])
def test_a_pipe_is_heard_while_it_is_written(kind: str) -> None:
    """Live: the first samples come out before the writer has closed the pipe."""
    data = io.BytesIO()
    soundfile.write(data, np.tile(SOUND, 4), 16_000, format=kind)
    half = len(data.getvalue()) // 2
    with subprocess.Popen([sys.executable, "-Pc", _LIVE], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as run:
        assert run.stdin is not None
        assert run.stdout is not None
        run.stdin.write(data.getvalue()[:half])
        run.stdin.flush()
        heard = int(run.stdout.readline())
        assert heard > 0
        run.stdin.write(data.getvalue()[half:])
        run.stdin.close()
        assert heard + sum(map(int, run.stdout)) == pytest.approx(4 * len(SOUND), abs=10)


@pytest.mark.parametrize(
    ("rate", "channels", "subtype"),
    [
        (8_000, 1, "PCM_16"),
        (8_000, 1, "PCM_U8"),
        (8_000, 1, "ULAW"),
        (16_000, 1, "PCM_16"),
        (16_000, 1, "FLOAT"),
        (16_000, 2, "PCM_16"),
        (44_100, 2, "PCM_16"),  # may be S/PDIF: FFmpeg looks at 64 KiB
        (48_000, 1, "PCM_24"),
        (48_000, 6, "PCM_16"),
    ],
)
@pytest.mark.parametrize("form", ["WAV", "WAVEX"])
async def test_a_wav_is_heard_from_its_first_half_second(form: str, rate: int, channels: int, subtype: str) -> None:
    """Live, `arecord | stt file -`: nothing waits for a buffer to be full."""
    data = io.BytesIO()
    soundfile.write(data, np.zeros((rate * 3 // 5, channels)), rate, subtype, format=form)
    reader, writer = os.pipe()
    writing = asyncio.create_task(asyncio.to_thread(os.write, writer, data.getvalue()))
    heard = 0
    with FileSource(f"/dev/fd/{reader}") as source:
        async with asyncio.timeout(60):
            async for piece in source:
                if (heard := heard + len(piece)) >= 16_000 // 4:
                    break
    os.close(reader)
    with contextlib.suppress(BrokenPipeError):
        await writing
    os.close(writer)


def heard_through_a_pipe(data: bytes, step: int) -> Samples:
    """Hear what arrives `step` bytes at a time."""
    reader, writer = os.pipe()

    def write() -> None:
        for at in range(0, len(data), step):
            os.write(writer, data[at : at + step])
        os.close(writer)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        return hear(f"/dev/fd/{reader}").whole()
    finally:
        thread.join()
        os.close(reader)


@pytest.mark.parametrize(
    ("rate", "channels", "subtype"),
    [
        (16_000, 1, "PCM_16"),
        (22_050, 2, "PCM_16"),
        (8_000, 1, "IMA_ADPCM"),
        (16_000, 1, "PCM_32"),
        (48_000, 2, "PCM_16"),
    ],
)
@pytest.mark.parametrize("length", [0.05, 0.5, 2.0])
@pytest.mark.parametrize("step", [37, 65_536])
def test_a_wav_is_heard_alike_however_it_arrives(
    tmp_path: Path, rate: int, channels: int, subtype: str, length: float, step: int
) -> None:
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, (round(rate * length), channels))
    soundfile.write(tmp_path / "a.wav", sound, rate, subtype)
    arrived = heard_through_a_pipe((tmp_path / "a.wav").read_bytes(), step)
    np.testing.assert_array_equal(arrived, hear(tmp_path / "a.wav").whole())


@pytest.mark.parametrize("step", [37, 65_536])
def test_what_else_may_be_stored_as_pcm_is_found_in_a_pipe_too(tmp_path: Path, step: int) -> None:
    """AC-3 as a disc player sends it down its wire (S/PDIF), recorded as if it were samples."""
    import av

    with av.open(str(tmp_path / "a.bin"), "w", format="spdif") as out:
        stream: Any = out.add_stream("ac3", rate=48_000, layout="stereo")
        for at in range(0, 3 * 48_000, 1536):
            tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(at, at + 1536) / 48_000)
            frame = av.AudioFrame.from_ndarray(np.stack((tone, tone)).astype(np.float32), "fltp", "stereo")
            frame.sample_rate, frame.pts = 48_000, at
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    samples = np.frombuffer((tmp_path / "a.bin").read_bytes(), np.int16).reshape(-1, 2)
    soundfile.write(tmp_path / "a.wav", samples, 48_000)
    stored = hear(tmp_path / "a.wav").whole()
    assert np.abs(stored[8_000:40_000]).max() == pytest.approx(0.3, abs=0.05)
    arrived = heard_through_a_pipe((tmp_path / "a.wav").read_bytes(), step)
    np.testing.assert_array_equal(arrived, stored)


@pytest.mark.parametrize("raw", [(), ("16000",)])
def test_a_quiet_pipe_obeys_the_keyboard(raw: tuple[str, ...]) -> None:
    code = _READ_STDIN.replace("asyncio.run(count())", "print('ready', flush=True); asyncio.run(count())")
    with subprocess.Popen(
        [sys.executable, "-Pc", code, *raw], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == b"ready\n"
        run.send_signal(signal.SIGINT)
        _, error = run.communicate(timeout=30)
        assert b"KeyboardInterrupt" in error
        assert run.returncode == -signal.SIGINT


def written(path: Path, data: bytes) -> threading.Thread:
    """Write into a FIFO, as another program would."""

    def write() -> None:
        with contextlib.suppress(BrokenPipeError):
            path.write_bytes(data)

    os.mkfifo(path)
    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("kind", sorted(CODECS))
def test_fifos_are_read_in_every_format(tmp_path: Path, kind: str) -> None:
    data = encode(tmp_path / f"a.{kind}", SOUND).read_bytes()
    writer = written(tmp_path / "fifo", data)
    audio = hear(tmp_path / "fifo").whole()
    writer.join()
    assert len(audio) == pytest.approx(len(SOUND), rel=0.05)


def test_process_substitution_is_read(tmp_path: Path) -> None:
    encode(tmp_path / "a.m4a", SOUND)
    code = _READ_STDIN.replace('FileSource("-", raw)', "FileSource(sys.argv[1])").replace("raw = ", "raw = None and ")
    command = f"{sys.executable} -Pc '{code}' <(cat a.m4a)"
    run = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert int(run.stdout) == pytest.approx(len(SOUND), rel=0.05)


def test_what_is_spooled_is_private_and_goes_with_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    written(tmp_path / "fifo", encode(tmp_path / "a.m4a", SOUND).read_bytes())
    modes = []
    spool = Pipe.spool

    def spied(pipe: Pipe) -> Any:
        stored = spool(pipe)
        status = os.fstat(stored._file.fileno())
        modes.append((stat.S_IMODE(status.st_mode), status.st_nlink))
        return stored

    monkeypatch.setattr(Pipe, "spool", spied)
    hear(tmp_path / "fifo").whole()
    assert modes == [(0o600, 0)]
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.parametrize(
    ("data", "expected"),
    [(b"", "empty"), (b"no audio " * 500, "not audio"), (b"\0\0\0\x18ftypM4A " + bytes(4000), "truncated")],
)
def test_what_is_wrong_with_a_pipe_is_said_with_its_name(tmp_path: Path, data: bytes, expected: str) -> None:
    written(tmp_path / "fifo", data)
    heard = hear(tmp_path / "fifo")
    assert expected in str(heard.error)
    assert str(heard.error).startswith(f"{tmp_path / 'fifo'}: ")
    assert piped(data).startswith("AudioError standard input: ")


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3", "m4a"])
async def test_cancelling_a_read_harms_nobody(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind.lower()}"
    if kind == "m4a":
        encode(path, np.tile(SOUND, 10))
    else:
        soundfile.write(path, np.tile(SOUND, 10), 16_000, format=kind)
    for attempt in range(60):
        with FileSource(path) as source:
            try:
                async with asyncio.timeout(attempt * 0.0005):
                    async for _ in source:
                        pass
            except TimeoutError:
                pass
    gc.collect()


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3"])
async def test_closing_while_a_read_runs_ends_the_iteration(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind.lower()}"
    soundfile.write(path, np.tile(SOUND, 10), 16_000, format=kind)

    async def pieces(source: FileSource) -> int:
        return sum([len(piece) async for piece in source])

    for attempt in range(45):
        source = FileSource(path)
        reading = asyncio.create_task(pieces(source))
        for _ in range(attempt % 9):
            await asyncio.sleep(0)
        closers = [threading.Thread(target=source.close) for _ in range(2)]
        for closer in closers:
            closer.start()
        source.close()
        assert await reading <= 10 * len(SOUND)
        for closer in closers:
            closer.join()


@pytest.mark.parametrize("raw", [None, RawPcm(16_000)])
@pytest.mark.parametrize("written_before", [b"", b"RIFF", b"ID3"])
async def test_a_quiet_pipe_can_be_closed_and_cancelled(
    tmp_path: Path, raw: RawPcm | None, written_before: bytes
) -> None:
    os.mkfifo(tmp_path / "fifo")
    for how in ("cancel", "close"):
        source = FileSource(tmp_path / "fifo", raw)
        with (tmp_path / "fifo").open("wb", buffering=0) as writer:
            writer.write(written_before)

            async def heard(source: FileSource = source) -> int:
                return sum([len(piece) async for piece in source])

            reading = asyncio.create_task(heard())
            await asyncio.sleep(0.01)
            if how == "cancel":
                reading.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await reading
                source.close()
            else:
                source.close()
                assert await reading <= 2


async def test_a_fifo_whose_writer_never_comes_can_be_closed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with FileSource(tmp_path / "fifo") as source, pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await anext(aiter(source))


def test_a_live_pipe_is_heard_in_small_pieces() -> None:
    reader, writer = os.pipe()

    async def first() -> Samples:
        with FileSource(f"/dev/fd/{reader}", RawPcm(48_000, 2)) as source:
            os.write(writer, bytes(48_000 * 4 // 8 + 1))  # and a part of a frame
            return await anext(aiter(source))

    try:
        assert len(asyncio.run(first())) >= 1_500
    finally:
        os.close(reader)
        os.close(writer)


@pytest.mark.parametrize(
    "name", [b"caf\xe9.wav", b"\xff\xfe.flac", b"http:__x.wav", b"12:30 talk.wav", b"-.wav", b"%d.wav"]
)
def test_names_of_any_bytes_are_opened(tmp_path: Path, name: bytes) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/" + name)
    soundfile.write(tmp_path / "a.wav", SOUND, 16_000, format=name[-4:].strip(b".").decode().upper())
    (tmp_path / "a.wav").rename(path)
    heard = hear(path)
    assert len(heard.whole()) == len(SOUND)
    heard.source.name.encode()  # anything can print it
    Path(path).write_bytes(b"no audio")
    with pytest.raises(AudioError, match="not audio") as error:
        FileSource(path)
    str(error.value).encode()
