"""What the server says to systemd, read from a socket that the test opens itself."""

import itertools
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.request import urlopen

import pytest

from stt.errors import SettingsError
from stt.server.notify import HELPLESS_S, Manager

_names = itertools.count()


@pytest.fixture(params=["path", "abstract"])
def heard(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[socket.socket]:
    """Like systemd's end of `NOTIFY_SOCKET`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.bind(str(tmp_path / "notify") if request.param == "path" else f"\0stt-{tmp_path}-{next(_names)}")
        bound.setblocking(False)
        yield bound


def address(heard: socket.socket) -> str:
    name = heard.getsockname()
    return name if isinstance(name, str) else "@" + name[1:].decode()


def said(heard: socket.socket) -> list[str]:
    """Every message that has come, one string each."""
    messages = []
    while True:
        try:
            messages.append(heard.recv(4096).decode())
        except BlockingIOError:
            return messages


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_from_loading_to_stopping(heard: socket.socket) -> None:
    clock = Clock()
    manager = Manager(address(heard), watchdog_s=6.0, clock=clock)
    line = []
    for state, at in [("loading", 0), ("loading", 4.9), ("loading", 5), ("ready", 5.1), ("ready", 5.2), ("ready", 7.1)]:
        clock.now = 100.0 + at
        manager.tick(state, f"{state} {at}")
        line += said(heard)
    assert line == [
        "EXTEND_TIMEOUT_USEC=30000000\nSTATUS=loading 0",
        "EXTEND_TIMEOUT_USEC=30000000\nSTATUS=loading 5",
        "READY=1\nSTATUS=ready 5.1\nWATCHDOG=1",
        "STATUS=ready 7.1\nWATCHDOG=1",
    ]
    manager.stopping(35)
    assert said(heard) == ["STOPPING=1\nSTATUS=draining\nEXTEND_TIMEOUT_USEC=35000000"]


@pytest.mark.parametrize(("watchdog_s", "least"), [(30.0, 2), (6.0, 2), (0.9, 2)])
def test_alive_more_than_twice_in_each_watchdog_period(heard: socket.socket, watchdog_s: float, least: int) -> None:
    clock = Clock()
    manager = Manager(address(heard), watchdog_s=watchdog_s, clock=clock)
    times = []
    for tick in range(1200):  # as the server's loop does, every 0.1 s
        clock.now = 100.0 + tick / 10
        manager.tick("ready", "")
        times += [clock.now for message in said(heard) if "WATCHDOG=1" in message]
    assert times[0] == 100.0
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert max(gaps) * least <= watchdog_s
    assert len(times) <= 120 / (watchdog_s / 3) + 12, "and it does not chatter"


def test_an_engine_that_never_comes_back_is_left_to_the_watchdog(heard: socket.socket) -> None:
    clock = Clock()
    manager = Manager(address(heard), watchdog_s=30.0, clock=clock)
    manager.tick("ready", "")
    alive = []
    for second in range(1, round(HELPLESS_S) + 100):
        clock.now = 100.0 + second
        manager.tick("restarting", "the engine is restarting")
        alive += [second for message in said(heard) if "WATCHDOG=1" in message and "READY" not in message]
    assert HELPLESS_S - 11 <= alive[-1] < HELPLESS_S
    clock.now += 10
    manager.tick("ready", "")  # came back before systemd lost patience
    assert said(heard) == ["STATUS=\nWATCHDOG=1"]


def test_ready_is_said_again_until_it_is_heard(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    place = tmp_path / "late"
    manager = Manager(str(place))
    for _ in range(3):
        manager.tick("ready", "warm")
    assert [record.levelname for record in caplog.records] == ["WARNING"], "said once, not each time"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.bind(str(place))
        bound.setblocking(False)
        manager.tick("ready", "warm")
        manager.tick("ready", "warm")
        assert said(bound) == ["READY=1\nSTATUS=warm\nWATCHDOG=1"]


def test_a_full_socket_does_not_block_the_loop(heard: socket.socket) -> None:
    clock = Clock()
    manager = Manager(address(heard), watchdog_s=1.0, clock=clock)
    for _ in range(5_000):  # far more than the kernel queues for one socket
        clock.now += 1
        manager.tick("ready", "x" * 100)
    assert 0 < len(said(heard)) < 5_000


def test_a_status_is_one_line(heard: socket.socket) -> None:
    Manager(address(heard)).tick("ready", "a\nWATCHDOG=trigger")
    assert said(heard) == ["READY=1\nSTATUS=a WATCHDOG=trigger\nWATCHDOG=1"]


def test_without_a_manager_nothing_is_said() -> None:
    manager = Manager.from_environment({})
    manager.tick("ready", "")
    manager.stopping(1)
    assert not manager.watched


def test_the_environment(heard: socket.socket) -> None:
    base = {"NOTIFY_SOCKET": address(heard), "WATCHDOG_USEC": "30000000"}
    assert Manager.from_environment(base).watched
    assert Manager.from_environment(base | {"WATCHDOG_PID": "7"}, pid=7).watched
    assert not Manager.from_environment(base | {"WATCHDOG_PID": "7"}, pid=8).watched
    assert not Manager.from_environment({"WATCHDOG_USEC": "30000000"}).watched
    Manager.from_environment(base).tick("ready", "")
    assert said(heard) == ["READY=1\nSTATUS=\nWATCHDOG=1"]


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"NOTIFY_SOCKET": "vsock:2:1"}, "NOTIFY_SOCKET: expected a path or @name, got 'vsock:2:1'"),
        ({"NOTIFY_SOCKET": "@"}, "NOTIFY_SOCKET: expected a path or @name, got '@'"),
        ({"WATCHDOG_USEC": "30s"}, "WATCHDOG_USEC: expected microseconds above 0, got '30s'"),
        ({"WATCHDOG_USEC": "0"}, "WATCHDOG_USEC: expected microseconds above 0, got '0'"),
    ],
)
def test_a_wrong_environment(environment: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match="expected") as caught:
        Manager.from_environment(environment)
    assert str(caught.value) == message


def test_stt_serve_from_start_to_end(tmp_path: Path) -> None:
    """`stt serve` as systemd runs it: asks for time, is ready no later than /ready says so, stays alive, ends."""
    environment = os.environ | {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "900000"}
    command = [sys.executable, "-m", "stt.cli", "serve", "--port", "0", "--engine", "whisper", "--device", "cpu"]
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound,
        (tmp_path / "log").open("wb") as log,
        ExitStack() as stack,
    ):
        bound.bind(environment["NOTIFY_SOCKET"])
        bound.settimeout(60)
        server = subprocess.Popen([*command, "--drain-timeout", "7"], env=environment, stderr=log)
        stack.callback(server.wait)
        stack.callback(server.kill)

        def hear() -> list[str]:
            return bound.recv(4096).decode().split("\n")

        assert hear() == ["EXTEND_TIMEOUT_USEC=30000000", "STATUS=loading: 0 of 100 sessions"]
        while (message := hear())[0] != "READY=1":
            assert message[0].startswith("EXTEND_TIMEOUT_USEC="), "nothing but patience is asked for while it loads"
        port = re.search(rb"url=ws://127.0.0.1:(\d+)", (tmp_path / "log").read_bytes())
        assert port is not None
        with urlopen(f"http://127.0.0.1:{int(port[1])}/ready", timeout=10) as answer:
            assert answer.status == 200
            engine = json.load(answer)["engine"]
        assert message == ["READY=1", f"STATUS=ready: 0 of 100 sessions, {engine}", "WATCHDOG=1"]
        began = time.monotonic()
        assert [hear()[1] for _ in range(3)] == ["WATCHDOG=1"] * 3
        assert time.monotonic() - began < 3 * 0.9, "one in each period at least"
        server.terminate()
        while (message := hear())[0] != "STOPPING=1":
            assert message[1] == "WATCHDOG=1"
        assert message[1:] == ["STATUS=draining", "EXTEND_TIMEOUT_USEC=22000000"], "the drain and what comes after it"
        assert server.wait(30) == 0


def test_stt_serve_says_what_is_wrong_with_its_environment() -> None:
    environment = os.environ | {"NOTIFY_SOCKET": "nonsense"}
    done = subprocess.run(
        [sys.executable, "-m", "stt.cli", "serve"], env=environment, check=False, stderr=subprocess.PIPE
    )
    assert done.returncode == 2
    assert done.stderr == b"stt serve: NOTIFY_SOCKET: expected a path or @name, got 'nonsense'\n"
