"""`stt tui` and `stt devices` from the command line, the former in a terminal of its own."""

import os
import pty
import select
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
    def __init__(self, home: Path, *arguments: str) -> None:
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
            os.execve(sys.executable, [sys.executable, "-m", "stt.cli", "tui", *arguments], env)
        self.output = b""

    def wait(self, text: str, timeout_s: float = 30.0) -> float:
        """Wait until the terminal was told a text; returns the seconds since the start."""
        while text.encode() not in self.output:
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
                if not os.read(self.fd, 65536):
                    break
            except OSError:  # the other side of the terminal is closed
                break
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@contextmanager
def terminal(home: Path, *arguments: str) -> Iterator[Terminal]:
    started = Terminal(home, *arguments)
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
        (("--source", "-"), "standard input is the keyboard"),
        (("--connect", "http://x"), "expected a URL like ws://127.0.0.1:15751 or wss://host, got 'http://x'"),
        (("--connect", "ws://x", "--api-key", "k\u00e9y"), "API key: expected printable ASCII characters"),
        (("--replay", "a", "--resume"), "--replay and --resume exclude each other"),
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
