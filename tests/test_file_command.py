"""`stt file` as a user runs it."""

import json
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from recordings import Track, encode
from spoken import normalized, sentences, silence, talk
from stt.cli import main

TEXTS = sentences(4, seed=21)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    soundfile.write(folder / "one.wav", talk(TEXTS[:2], [2.0, 1.0]), 16_000)
    stereo = np.repeat(talk(TEXTS[2:3], [0.5])[:, None], 2, axis=1)
    soundfile.write(folder / "two.flac", np.repeat(stereo, 3, axis=0), 48_000)
    soundfile.write(folder / "quiet.ogg", silence(2), 16_000)
    soundfile.write(folder / "blink.wav", silence(0.01), 16_000)
    return folder


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("STT_")]:
        monkeypatch.delenv(name)


def run(capfd: pytest.CaptureFixture[str], *args: object) -> tuple[int, str, str]:
    status = main(["file", *map(str, args)])
    out, err = capfd.readouterr()
    return status, out, err


def stt(*args: object, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-Pm", "stt.cli", "file", *map(str, args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def test_a_recording_in_one_piece(folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    soundfile.write(tmp_path / "long.wav", silence(30.1), 16_000)
    paths = [folder / "one.wav", folder / "quiet.ogg", folder / "blink.wav", tmp_path / "long.wav"]
    status, out, err = run(capfd, *paths, "--whole", "--format", "json", "--quiet")
    heard = [json.loads(line) for line in out.splitlines()]
    turn, *rest = heard[0]["turns"]
    assert (normalized(turn["text"]), rest) == (normalized(" ".join(TEXTS[:2])), [])
    assert (turn["start"], turn["end"]) == (0, heard[0]["duration"])
    assert [document["turns"] for document in heard[1:]] == [[], [], []]
    assert status == 1
    assert err.startswith(f"stt file: {paths[3]}: expected at most 30 s with --whole, got more; leave --whole out\n")


def test_text_goes_to_standard_output_and_the_rest_to_standard_error(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    status, out, err = run(capfd, folder / "one.wav")
    assert status == 0
    assert [normalized(line) for line in out.splitlines()] == [normalized(text) for text in TEXTS[:2]]
    assert err.startswith("engine: whisper tiny.en (int8, ")
    assert "auto: " in err


def test_several_files_globs_and_short_silent_ones(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capfd, folder / "t*.flac", folder / "quiet.ogg", folder / "blink.wav", "--quiet")
    assert (status, err) == (0, "")
    assert normalized(out) == normalized(TEXTS[2])


def test_json_has_times_and_one_document_per_file(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capfd, folder / "one.wav", folder / "quiet.ogg", "--format", "json")
    assert status == 0
    one, quiet = map(json.loads, out.splitlines())
    assert one["file"] == str(folder / "one.wav")
    assert one["engine"].startswith("whisper")
    assert one["duration"] == pytest.approx(soundfile.info(folder / "one.wav").duration, abs=0.01)
    assert [turn["turn"] for turn in one["turns"]] == [0, 1]
    assert one["turns"][0]["start"] == pytest.approx(0.5, abs=0.2)
    assert one["turns"][1]["start"] - one["turns"][0]["end"] == pytest.approx(2.0, abs=0.4)
    assert (quiet["duration"], quiet["turns"]) == (2.0, [])
    for turn in one["turns"]:
        assert "".join(word["text"] for word in turn["words"]) == turn["text"]
        assert turn["start"] <= turn["words"][0]["start"] < turn["words"][-1]["end"] <= turn["end"]
        assert all(0 < word["confidence"] <= 1 for word in turn["words"])
    assert "error" not in one


def test_subtitles_word_by_word(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capfd, folder / "two.flac", "--format", "srt", "--words", "--quiet")
    assert status == 0
    assert [normalized(line) for line in out.splitlines()[2::4]] == normalized(TEXTS[2]).split()
    status, out, err = run(capfd, folder / "two.flac", "--words")
    assert (status, out) == (2, "")
    assert "--words: expected --format srt, vtt or json, got txt" in err


@pytest.mark.parametrize("kind", ["txt", "srt", "vtt", "json"])
def test_output_into_a_directory(folder: Path, tmp_path: Path, kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(
        capfd, folder / "one.wav", folder / "two.flac", "--format", kind, "--output", f"{tmp_path}/new/"
    )
    assert (status, out) == (0, "")
    assert f"-> {tmp_path}/new/one.{kind}" in err
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [f"one.{kind}", f"two.{kind}"]
    assert "Nobody at the station" in (tmp_path / "new" / f"two.{kind}").read_text()


def test_files_of_one_name_do_not_overwrite_each_other(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    soundfile.write(tmp_path / "one.flac", silence(0.1), 16_000)
    status, _, _ = run(capfd, folder / "one.wav", tmp_path / "one.flac", "--output", f"{tmp_path}/out/")
    assert status == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["one.flac.txt", "one.wav.txt"]
    assert run(capfd, folder / "one.wav", folder / "one.wav", "--output", tmp_path)[0] == 2


def test_one_bad_file_does_not_stop_the_others(folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty.wav").touch()
    (tmp_path / "words.wav").write_text("no audio in here " * 100)
    whole = (folder / "one.wav").read_bytes()
    (tmp_path / "half.wav").write_bytes(whole[: len(whole) // 2 + 20_000])
    bad = [tmp_path / "missing.wav", tmp_path / "empty.wav", tmp_path / "words.wav", tmp_path, tmp_path / "half.wav"]
    status, out, err = run(capfd, *bad, folder / "two.flac", tmp_path / "*.nothing")
    assert status == 1
    lines = err.splitlines()
    for path, expected in zip(bad, ["no such file", "empty", "not audio", "is a directory", "truncated"], strict=True):
        assert any(str(path) in line and expected in line for line in lines), (path, err)
    assert "6 of 7 files failed" in lines[-1]
    # what the truncated one holds is there, and the good one as well
    first, *_, last = map(normalized, out.splitlines())
    assert (first, last) == (normalized(TEXTS[0]), normalized(TEXTS[2]))


def test_a_name_steers_no_terminal(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    status, _, err = run(capfd, tmp_path / "red\x1b[31m\nnext.wav")
    assert (status, err) == (1, f"stt file: {tmp_path}/red\ufffd[31m\ufffdnext.wav: no such file\n")


def test_what_the_system_says_of_a_path_is_one_line(
    folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_: object) -> None:
        raise PermissionError(13, "Permission denied", "/somewhere/model")

    monkeypatch.setattr("stt.engines.open_engine", refused)
    assert run(capfd, folder / "two.flac") == (1, "", "stt file: /somewhere/model: Permission denied\n")


def test_what_is_not_there_is_told_before_an_engine_is_opened(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    status, out, err = run(capfd, tmp_path / "missing.wav", folder / "two.flac")
    assert (status, normalized(out)) == (1, normalized(TEXTS[2]))
    first, engine, *_, last = err.splitlines()
    assert (first, last) == (f"stt file: {tmp_path}/missing.wav: no such file", "stt file: 1 of 2 files failed")
    assert engine.startswith("engine: ")

    def opened(_: object) -> None:
        pytest.fail("nothing can be heard with it")

    monkeypatch.setattr("stt.engines.open_engine", opened)
    status, out, err = run(capfd, tmp_path / "missing.wav")
    assert (status, out, err) == (1, "", f"stt file: {tmp_path}/missing.wav: no such file\n")
    status, _, err = run(capfd, tmp_path, tmp_path / "none")
    assert (status, err.splitlines()[-1]) == (1, "stt file: 2 of 2 files failed")


def test_a_truncated_file_says_so_in_its_json_as_well(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = (folder / "one.wav").read_bytes()
    (tmp_path / "half.wav").write_bytes(whole[: len(whole) // 2 + 20_000])
    status, out, _ = run(capfd, tmp_path / "half.wav", "--format", "json")
    assert status == 1
    assert "truncated" in json.loads(out)["error"]
    assert json.loads(out)["turns"]


def test_standard_input(folder: Path) -> None:
    with (folder / "two.flac").open("rb") as audio, stt("-", "-q", stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.buffer.write(audio.read())
        process.stdin.close()
        assert process.stdout is not None
        assert normalized(process.stdout.read()) == normalized(TEXTS[2])
        assert process.wait() == 0


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--format", "doc"], "--format: expected one of txt, srt, vtt, json, got 'doc'"),
        (["--engine", "vosk"], "--engine: expected one of auto, whisper, canary-qwen, got 'vosk'"),
        (["--language", "de"], "knows en, got 'de'"),
        (["--end-of-turn", "soon"], "expected auto, silence, meaning or seconds from 0.05 to 60, got 'soon'"),
        (["--end-of-turn", "-1"], "--end-of-turn: expected auto, silence, meaning or seconds from 0.05 to 60, got"),
        (["--speech-threshold", "2"], "--speech-threshold: expected a probability from 0.01 to 0.99, got '2'"),
        (["--raw", "0"], "--raw: expected 1000 to "),
        (["--raw", "16000x0"], "--raw: expected 1000 to "),
        (["--raw", "fast"], "--raw: expected a sample rate in Hz, or one with channels like 44100x2, got 'fast'"),
        (["--threads", "-2"], "--threads: expected a whole number from 0 to 256, got '-2'"),
        (["--threads", "100000"], "--threads: expected a whole number from 0 to 256, got '100000'"),
        (["--model", "enormous"], "no such directory"),
        (["--dtype", "fp8"], "--dtype: whisper computes in float32, int8 on this machine (cpu), got 'fp8'"),
        (["--nonsense"], "stt file: unrecognized arguments: --nonsense\nstt file --help tells more"),
    ],
)
def test_wrong_options_are_said(
    folder: Path, capfd: pytest.CaptureFixture[str], args: list[str], expected: str
) -> None:
    try:
        status = main(["file", str(folder / "one.wav"), *args])
    except SystemExit as exit_:
        status = exit_.code
    out, err = capfd.readouterr()
    assert status in (1, 2)
    assert out == ""
    assert expected in err
    assert "Traceback" not in err


def test_options_come_from_the_environment_and_are_checked(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STT_FORMAT", "vtt")
    monkeypatch.setenv("STT_DEVICE", "cpu")
    assert run(capfd, folder / "quiet.ogg")[1] == "WEBVTT\n\n"
    assert run(capfd, folder / "quiet.ogg", "--format", "txt")[1] == ""
    monkeypatch.setenv("STT_DEVICE", "tpu")
    with pytest.raises(SystemExit):
        main(["file", str(folder / "quiet.ogg")])
    assert "STT_DEVICE: expected one of auto, cuda, cpu, got 'tpu'" in capfd.readouterr().err


def test_device_cuda_without_one_is_said(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import ctranslate2

    if ctranslate2.get_cuda_device_count():
        pytest.skip("there is a CUDA device")
    status, _, err = run(capfd, folder / "one.wav", "--device", "cuda")
    assert status == 1
    assert "no CUDA device" in err


@pytest.mark.parametrize(
    ("number", "said"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "Terminated"), (signal.SIGHUP, "Hangup")]
)
def test_turns_are_written_as_they_complete_and_an_early_end_keeps_them(tmp_path: Path, number: int, said: str) -> None:
    texts = sentences(2, seed=5)
    audio = np.concatenate([talk(texts, [2.0, 2.0]), *[talk(texts, [2.0, 2.0])] * 60])
    soundfile.write(tmp_path / "long.wav", audio, 16_000)
    with stt(tmp_path / "long.wav", "--output", tmp_path / "long.txt") as process:
        deadline = time.monotonic() + 200
        while sum(part.read_text().count("\n") for part in tmp_path.glob("long.txt.*.part")) < 2:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert said in err
    assert "Traceback" not in err
    kept = (tmp_path / "long.txt").read_text().splitlines()
    assert 2 <= len(kept) < 122
    assert normalized(kept[0]) == normalized(texts[0])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["long.txt", "long.wav"]


def test_a_reader_that_has_enough_is_no_error(folder: Path) -> None:
    with stt(folder / "one.wav", folder / "one.wav", folder / "two.flac") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        err = process.stderr.read()
        assert process.wait() == 141
    assert "Traceback" not in err
    assert "BrokenPipe" not in err


def test_on_a_terminal_a_progress_bar_shows_speed_and_time_left(folder: Path) -> None:
    terminal, inside = pty.openpty()
    termios.tcsetwinsize(inside, (24, 100))
    command = [sys.executable, "-Pm", "stt.cli", "file", str(folder / "one.wav")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=inside) as process:
        os.close(inside)
        shown = b""
        while True:
            try:
                data = os.read(terminal, 4096)
            except OSError:  # how Linux says that the other end is closed
                break
            shown += data
        assert process.stdout is not None
        out = process.stdout.read().decode()
    os.close(terminal)
    assert "times real time" in shown.decode()
    assert "left" in shown.decode()
    assert "one.wav:" in shown.decode()
    assert len(out.splitlines()) == 2


def test_the_default_track_is_heard_another_on_request_and_a_line_says_which(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first, second = (Track([(0, talk([text], [0.5]))]) for text in TEXTS[:2])
    first.language, second.language, second.default = "deu", "eng", True
    path = encode(tmp_path / "film.mkv", first, second)
    for options, text, number in (((), TEXTS[1], 2), (("--track", "de"), TEXTS[0], 1), (("--track", 1), TEXTS[0], 1)):
        status, out, err = run(capfd, path, *options)
        assert (status, normalized(out)) == (0, normalized(text))
        assert f"{path}: audio track {number} of 2 is heard; there are: 1 deu, 2 eng" in err
    status, out, err = run(capfd, path, "--track", "fr")
    assert (status, out) == (1, "")
    assert "no audio track in 'fr'; there are: 1 deu, 2 eng" in err
