"""How soon `stt tui` is on screen and answers: from starting the process to its status line, and to the help it opens.

    python benchmarks/tui_start.py

In a terminal of its own (a pty). The first run, which may read the files from disk, is printed apart.
"""

import os
import pty
import select
import signal
import sys
import tempfile
import time

RUNS = 10


def start(home: str) -> tuple[float, float]:
    began = time.perf_counter()
    pid, fd = pty.fork()
    if pid == 0:
        env = os.environ | {"XDG_DATA_HOME": home, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"}
        env["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        os.execve(sys.executable, [sys.executable, "-m", "stt.cli", "tui", "--no-autosave"], env)
    output = b""

    def wait(text: str) -> float:
        nonlocal output
        while text.encode() not in output:
            if select.select([fd], [], [], 15)[0]:
                output += os.read(fd, 65536)
            else:
                raise SystemExit(f"no {text!r} within 15 s")
        return time.perf_counter() - began

    drawn = wait("starting")
    os.write(fd, b"?")
    answered = wait("microphone off and on")
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(fd)
    return drawn, answered


def main() -> None:
    with tempfile.TemporaryDirectory() as home:
        first = start(home)
        times = [start(home) for _ in range(RUNS)]
    print(f"first run        on screen {first[0]:.2f} s, ? answered {first[1]:.2f} s")
    for name, column in (("on screen", 0), ("? answered", 1)):
        values = sorted(run[column] for run in times)
        print(f"{name:<16} p50 {values[len(values) // 2]:.2f} s   max {values[-1]:.2f} s   ({RUNS} runs)")
    print(f"load average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
