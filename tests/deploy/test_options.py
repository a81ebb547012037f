"""What units, module, container and guide say of `stt serve` is what it understands; nothing here starts anything."""

import contextlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from stt import cli
from stt.server.settings import DEFAULT_PORT, ServerSettings

_ROOT = Path(__file__).parents[2]
_UNITS = sorted((_ROOT / "packaging/systemd").iterdir())


def read(path: str) -> str:
    return (_ROOT / path).read_text("utf-8")


@pytest.fixture(scope="module")
def known() -> dict[str, str]:
    """Option -> variable, as `stt serve --help` has them."""
    return dict(re.findall(r"^  (--[a-z-]+)(?:(?!^  -).)*?\[(STT_[A-Z_]+)\]", cli_help(), re.MULTILINE | re.DOTALL))


def cli_help() -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), pytest.raises(SystemExit):
        cli.main(["serve", "--help"])
    return out.getvalue()


def test_help_is_understood(known: dict[str, str]) -> None:
    assert len(known) >= 15
    assert known["--api-key-file"] == "STT_API_KEY_FILE"


def test_the_module_uses_options_there_are(known: dict[str, str]) -> None:
    module = read("nix/modules/stt.nix")
    used = set(re.findall(r'"(--[a-z-]+)[="]', module))
    used |= {f"--{name}" for name in re.findall(r'(?:\boption|\bgiven) "([a-z-]+)"', module)}
    assert {"--host", "--port", "--api-key-file", "--allowed-origin", "--tls-cert", "--drain-timeout"} <= used
    flags = set(re.findall(r"^  (--[a-z-]+)", cli_help(), re.MULTILINE))
    assert used - {"--language"} <= flags | set(known), "the example of extraArgs apart"
    assert "--language" in known


@pytest.mark.parametrize(
    "place", [*(f"packaging/systemd/{unit.name}" for unit in _UNITS), "Containerfile", "docs/deploy.md"]
)
def test_variables_are_those_there_are(known: dict[str, str], place: str) -> None:
    text = read(place)
    variables = set(re.findall(r"\bSTT_[A-Z_]+", text)) - {"STT_OPTION"}
    # what the code blocks of the guide give on a command line
    commands = [line for line in text.splitlines() if re.match(r"\s*(ExecStart=\S*|CMD.*)?\bstt serve\b", line)]
    options = {word.split("=")[0] for line in commands for word in shlex.split(line) if word.startswith("--")}
    assert variables <= set(known.values()), place
    assert options <= set(known), place


def test_port_and_times_agree() -> None:
    defaults = ServerSettings()
    assert f"default = {DEFAULT_PORT};" in read("nix/modules/stt.nix")
    assert f"EXPOSE {DEFAULT_PORT}" in read("Containerfile")
    stop = re.search(r"^TimeoutStopSec=(\d+)$", read("packaging/systemd/stt.service"), re.MULTILINE)
    assert stop is not None
    assert int(stop[1]) == defaults.drain_timeout_s + 15, "what the server says it needs: see run._STOPPING_S"
    assert "builtins.ceil cfg.drainTimeout + 15" in read("nix/modules/stt.nix")
    assert re.search(r"drainTimeout = mkOption \{.*?default = 20;", read("nix/modules/stt.nix"), re.DOTALL)
    assert defaults.drain_timeout_s == 20


def test_the_container_is_whole() -> None:
    """What it copies exists; both targets run as somebody else than root, say when they are ready, and keep weights."""
    lines = re.sub(r"\\\n\s*", "", read("Containerfile")).splitlines()
    stages = [match[1] for line in lines if (match := re.match(r"FROM \S+ AS (\S+)$", line))]
    assert {"cpu", "cuda"} <= set(stages)
    for line in lines:
        if match := re.match(r"COPY (?!--from)(?:--\S+ )*(.*)", line):
            *sources, _ = match[1].split()
            assert [source for source in sources if not (_ROOT / source).exists()] == []
    runtime = "\n".join(lines)["\n".join(lines).index(" AS runtime") :]
    for stage in re.split(r"^FROM ", runtime, flags=re.MULTILINE):
        if users := re.findall(r"^USER (\S+)", stage, re.MULTILINE):
            assert users[-1] not in ("0", "root"), stage
    assert re.search(r"^USER \S+", runtime, re.MULTILINE)
    assert re.search(r" AS cuda$.*\bgcc libc6-dev\b.* AS cpu$", runtime, re.MULTILINE | re.DOTALL), "for Triton"
    assert re.search(r"^HEALTHCHECK .*/ready", runtime, re.MULTILINE)
    assert re.search(r"^VOLUME .*/var/cache/stt", runtime, re.MULTILINE)
    assert "STOPSIGNAL SIGTERM" in runtime


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False)])
def test_the_health_check_tells_ready_from_not(status: int, healthy: bool) -> None:
    class Ready(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/ready" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    command = json.loads(re.search(r"^HEALTHCHECK .*\\\n    CMD (.*)$", read("Containerfile"), re.MULTILINE)[1])
    with HTTPServer(("127.0.0.1", 0), Ready) as server:
        thread = Thread(target=server.handle_request)
        thread.start()
        environment = os.environ | {"STT_PORT": str(server.server_port)}
        done = subprocess.run([sys.executable, *command[1:]], check=False, env=environment, stderr=subprocess.PIPE)
        thread.join()
    assert (done.returncode == 0) == healthy, done.stderr
