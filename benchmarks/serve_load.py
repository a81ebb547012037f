"""Live sessions against `stt serve` in a process of its own: `stt bench` with speech made for it.

python benchmarks/serve_load.py --sessions 1              the embedded engine
python benchmarks/serve_load.py --sessions 4
python benchmarks/serve_load.py --sessions 200 --instant  an engine that answers at once: the server by itself
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import soundfile

from _common import sentences, talk

INSTANT = """
import sys
from stt.recognition import Hypothesis
from stt.server import ServerSettings, create_app
from stt.server.run import serve
from stt.settings import TurnSettings

class Instant:
    name, languages, max_batch = "instant", frozenset({"en"}), 64
    cost = staticmethod(max)
    def close(self):
        pass
    def transcribe(self, batch):
        return [Hypothesis(f"{len(u.audio)} samples from a turn") for u in batch]

settings = ServerSettings(port=0, max_sessions=1000)
turns = TurnSettings(end_of_turn="auto")
sys.exit(serve(create_app(settings, turns=turns, open_model=Instant), settings, log_format="json"))
"""


def clips(directory: Path, count: int) -> list[str]:
    """Make conversations of three turns, one of them with a pause inside."""
    paths = []
    for i in range(count):
        path = directory / f"talk-{i}.wav"
        soundfile.write(path, talk(sentences(4, seed=i), [2.0, 0.6, 2.0, 0.2], seed=10 * i), 16_000)
        paths.append(str(path))
    return paths


def start_server(*, instant: bool, threads: int = 0) -> tuple[subprocess.Popen[str], str]:
    """Start a server on a free port and wait until it is ready; returns its URL."""
    import json

    command = ["-c", INSTANT] if instant else ["-m", "stt.cli", "serve", "--port", "0", "--log-format", "json"]
    if threads:
        command += ["--threads", str(threads)]
    env = {**os.environ, "PYTHONSAFEPATH": "1"}
    server = subprocess.Popen([sys.executable, *command], stderr=subprocess.PIPE, text=True, env=env)
    assert server.stderr is not None
    url = ""
    for line in server.stderr:
        message = json.loads(line)
        url = message.get("url", url)
        if message["message"] == "ready":
            return server, url
    sys.exit("the server did not start")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=1)
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--duration", type=float, default=60)
    parser.add_argument("--instant", action="store_true")
    parser.add_argument("--binary", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        paths = clips(Path(directory), args.clips)
        server, url = start_server(instant=args.instant)
        assert server.stderr is not None
        logs = subprocess.Popen(["cat"], stdin=server.stderr, stdout=subprocess.DEVNULL)
        bench = [sys.executable, "-Pm", "stt.cli", "bench", *paths, "--url", url, "--sessions", str(args.sessions)]
        bench += ["--duration", str(args.duration), *(["--binary"] if args.binary else [])]
        print(f"{args.sessions} sessions, {'instant' if args.instant else 'embedded'} engine, {args.duration:g} s")
        code = subprocess.run(bench, check=False).returncode
        server.terminate()
        print(f"server exit    {server.wait(60)}; bench exit {code}")
        logs.wait()


if __name__ == "__main__":
    main()
