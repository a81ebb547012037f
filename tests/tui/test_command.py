"""`stt tui` and `stt devices` from the command line, the former in a terminal of its own."""

import json
import os
import pty
import select
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from stage import NOON, spoken

from tui import journal
from tui.document import Heard, StretchBegan
from tui.journal import Journal


class Terminal:
    def __init__(self, home: Path, *arguments: str, shell: str = "") -> None:
        env = os.environ | {
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "XDG_DATA_HOME": str(home),
            "XDG_RUNTIME_DIR": str(home),  # no sound server there
            "TERM": "xterm-256color",
            "COLUMNS": "100",
            "LINES": "30",
        }
        self.began = time.monotonic()
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            command = [sys.executable, "-m", "stt.cli", "tui", *arguments]
            if shell:
                command = ["/bin/bash", "-c", shell.format(shlex.join(command))]
            os.execve(command[0], command, env)
        self.output = b""

    def wait(self, text: str, timeout_s: float = 30.0, *, times: int = 1) -> float:
        """Wait until the terminal was told a text; returns the seconds since the start."""
        while self.output.count(text.encode()) < times:
            assert time.monotonic() - self.began < timeout_s, f"no {text!r} in {self.output[-3000:]!r}"
            if select.select([self.fd], [], [], 0.1)[0]:
                try:
                    self.output += os.read(self.fd, 65536)
                except OSError as error:
                    raise AssertionError(self.output[-3000:]) from error
        return time.monotonic() - self.began

    def press(self, keys: str) -> None:
        os.write(self.fd, keys.encode())

    def status(self) -> int:
        """Wait for the end; returns the exit status."""
        while True:
            try:
                if not (told := os.read(self.fd, 65536)):
                    break
                self.output += told
            except OSError:  # the other side of the terminal is closed
                break
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@contextmanager
def terminal(home: Path, *arguments: str, shell: str = "") -> Iterator[Terminal]:
    started = Terminal(home, *arguments, shell=shell)
    try:
        yield started
    finally:
        os.close(started.fd)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-m", "stt.cli", *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, env=env, stdin=subprocess.DEVNULL)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "expected a terminal"),
        (("--device", "cuda"), "--device is the microphone here; for where the engine runs say --engine-device cuda"),
        (("--source", "gone.wav"), "--source gone.wav: no such file"),
        (("--source", "x" * 300), "x: File name too long"),
        (("--source", "/"), "--source /: is a directory"),
        (("--source", "-"), "standard input is the keyboard"),
        (("--connect", "http://x"), "expected a URL like ws://127.0.0.1:15751 or wss://host, got 'http://x'"),
        (("--connect", "wss://x", "--ca", "/nowhere"), "CA file /nowhere: expected certificates in PEM"),
        (("--connect", "ws://x", "--api-key", "k\u00e9y"), "API key: expected printable ASCII characters"),
        (("--replay", "a", "--resume"), "--replay and --resume exclude each other"),
        (("--sessions", "--resume"), "--sessions and --resume exclude each other"),
        (("--json",), "--json goes with --sessions"),
    ],
)
def test_wrong_options_say_what_is_right(arguments: tuple[str, ...], message: str):
    done = run("tui", *arguments)
    assert done.returncode == 2
    assert message in done.stderr


def test_a_session_that_is_not_there(tmp_path: Path):
    with terminal(tmp_path, "--resume") as screen:
        screen.wait("no saved session to resume in")
        assert screen.status() == 1


def test_without_sound_it_is_up_explains_itself_and_quits(tmp_path: Path):
    with terminal(tmp_path) as screen:
        screen.wait("starting")  # the time of this is measured in benchmarks/tui_start.py, on a quiet machine
        screen.wait("--source talk.flac")
        screen.wait("--connect ws://HOST:15751")
        screen.press("q")
        assert screen.status() == 0


def test_a_closed_terminal_and_a_kill_lose_nothing(tmp_path: Path):
    kept = tmp_path / "stt" / "sessions" / "a.jsonl"
    with Journal(kept) as session:
        session.write(StretchBegan(0, 0, NOON))
        for event in spoken(0, "Before the crash.", 1.0):
            session.write(Heard(0, event))
    with terminal(tmp_path, "--resume") as screen:
        screen.wait("Before the crash.")
        screen.press("x")
        screen.wait("Cleared 1 turn")
        os.kill(screen.pid, signal.SIGKILL)
        assert screen.status() == -signal.SIGKILL
    document = journal.replayed(journal.read(kept)[0])
    assert (document.blocks, document.can_undo) == ([], "clearing")


def test_replay_shows_the_session_again(tmp_path: Path):
    path = tmp_path / "a.jsonl"
    now = [0.0]
    with Journal(path, monotonic=lambda: now[0]) as session:
        session.write(StretchBegan(0, 0, NOON))
        for event in spoken(0, "Once more with feeling.", 1.0):
            now[0] += 0.1
            session.write(Heard(0, event))
    with terminal(tmp_path, "--replay", str(path)) as screen:
        screen.wait("Once more with feeling.")
        screen.wait("ended")
        screen.press("q")
        assert screen.status() == 0


ALTERNATE_SCREEN, MOUSE = b"\x1b[?1049", b"\x1b[?1000"


def restored(output: bytes) -> bool:
    """Whether what was switched on in the terminal is off again."""
    return all(0 <= output.rfind(mode + b"h") < output.rfind(mode + b"l") for mode in (ALTERNATE_SCREEN, MOUSE))


def a_running_turn(home: Path) -> Path:
    kept = home / "stt" / "sessions" / "a.jsonl"
    with Journal(kept) as session:
        session.write(StretchBegan(0, 0, NOON))
        for event in spoken(0, "The last words.", 1.0)[:2]:
            session.write(Heard(0, event))
    return kept


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_gives_the_terminal_back_and_keeps_the_running_turn(number: signal.Signals, tmp_path: Path):
    kept = a_running_turn(tmp_path)
    with terminal(tmp_path, "--resume") as screen:
        screen.wait("last words.")
        screen.wait("No microphone")  # listening was tried, and the signals are heeded
        os.kill(screen.pid, number)
        assert screen.status() == 128 + number
        assert restored(screen.output)
        assert "transcript kept in" in screen.output.decode()
    document = journal.replayed(journal.read(kept)[0])
    assert [(block.text, block.unfinished) for block in document.blocks] == [("The last words.", True)]


def test_a_terminal_that_is_closed_ends_the_program(tmp_path: Path):
    a_running_turn(tmp_path)
    screen = Terminal(tmp_path, "--resume")
    screen.wait("No microphone")
    os.close(screen.fd)
    assert os.waitstatus_to_exitcode(os.waitpid(screen.pid, 0)[1]) in (129, -signal.SIGHUP)


def test_the_list_of_sessions_gives_the_terminal_back_too(tmp_path: Path):
    a_running_turn(tmp_path)
    with terminal(tmp_path, "--sessions") as screen:
        screen.wait("1 session")
        os.kill(screen.pid, signal.SIGTERM)
        assert screen.status() == 143
        assert restored(screen.output)


def test_ctrl_z_suspends_and_fg_comes_back(tmp_path: Path):
    path = a_running_turn(tmp_path)
    with terminal(tmp_path, "--replay", str(path), shell="set -m; {}; echo stopped: $?; fg; echo left: $?") as screen:
        screen.wait("last words.")
        screen.press("\x1a")
        screen.wait(f"stopped: {128 + signal.SIGSTOP}")
        screen.wait("\x1b[?1049h", times=2)
        assert screen.output.count(b"\x1b[?1000l") == 1  # as long as the shell had it, the mouse was the terminal's
        screen.wait("replay", times=screen.output.count(b"replay") + 1)
        screen.press("q")
        screen.wait("left: 0")
        assert restored(screen.output)
        assert screen.status() == 0


def test_sessions_are_read_in_a_terminal_and_the_list_comes_back(tmp_path: Path):
    a_running_turn(tmp_path)
    with terminal(tmp_path, "--sessions") as screen:
        screen.wait("1 session")
        screen.press("\r")
        screen.wait("ended")
        assert "last words." in screen.output.decode()
        screen.output = b""
        screen.press("q")
        screen.wait("1 session")
        screen.press("q")
        assert screen.status() == 0


def test_sessions_are_printed_where_there_is_no_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = a_running_turn(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    done = run("tui", "--sessions")
    assert (done.returncode, done.stderr) == (0, "")
    assert str(path) in done.stdout
    assert json.loads(run("tui", "--sessions", "--json").stdout)["path"] == str(path)
