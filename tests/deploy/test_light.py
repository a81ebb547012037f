"""What everyone gets is light: nothing of it requires or imports torch and what goes with it."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

from stt.cli import COMMANDS

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
HEAVY = {"torch", "torchaudio", "transformers", "peft", "librosa", "safetensors", "silero-vad", "ray", "scipy", "numba"}
WITH_RAY = (".cluster.ray_serve", ".cluster.ray_fronts", ".cluster.ray_driver")
"""Modules that import it, and are imported where a cluster is used."""
IMPORTS = sorted(name.replace("-", "_") for name in HEAVY)


def names(requirements: list[str]) -> set[str]:
    return {canonical(re.match(r"[\w.-]+", requirement)[0]) for requirement in requirements}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def required(requirements: list[str]) -> set[str]:
    """All that installing these brings, as far as it is installed here; extras are nobody's requirement."""
    found: set[str] = set()
    ahead = list(names(requirements))
    while ahead:
        name = ahead.pop()
        if name in found:
            continue
        found.add(name)
        try:
            requires = distribution(name).requires or []
        except PackageNotFoundError:  # for another platform
            continue
        ahead += names([line for line in requires if "extra ==" not in line])
    return found


def test_the_light_install_requires_nothing_heavy() -> None:
    brought = required(PROJECT["dependencies"])
    assert len(brought) > 30, "the closure is followed"
    assert brought & HEAVY == set()


def test_the_tests_do_not_bring_it_either() -> None:
    assert required(PROJECT["optional-dependencies"]["test"]) & {"torch", "torchaudio", "silero-vad"} == set()


def test_the_extra_canary_has_all_that_the_flagship_and_its_oracles_need() -> None:
    assert names(PROJECT["optional-dependencies"]["canary"]) == {
        "huggingface-hub",
        "librosa",
        "peft",
        "safetensors",
        "silero-vad",
        "tokenizers",
        "torch",
        "torchaudio",
        "transformers",
    }


def test_a_name_has_one_bound_wherever_it_is_declared() -> None:
    declared: dict[str, set[str]] = {}
    for requirements in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()):
        for requirement in requirements:
            [name] = names([requirement])
            declared.setdefault(name, set()).add(requirement)
    assert [bounds for name, bounds in declared.items() if len(bounds) > 1 and name != PROJECT["name"]] == []


# Collects the tests where what only the extras bring is not to be had.
COLLECTED = f"""
import sys
sys.modules |= dict.fromkeys({sorted(set(IMPORTS) - {"transformers", "safetensors"})!r})
import pytest
sys.exit(pytest.main(["--collect-only", "-qq", "-p", "no:cacheprovider", *sys.argv[1:]]))
"""


def test_all_tests_but_the_models_own_are_collected_without_it() -> None:
    own = [f"--ignore=tests/{suite}" for suite in ("clients", "cluster", "page")]
    run = subprocess.run([sys.executable, "-c", COLLECTED, *own], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-3000:]
    collected = set(re.findall(r"^(tests/\S+\.py): \d+$", run.stdout, re.MULTILINE))
    assert {"tests/test_whisper.py", "tests/server/test_codecs.py"} <= collected
    assert not {file for file in collected if file.startswith(("tests/nemo_lite/", "tests/test_canary_"))}


# Imports every module of the light install where importing what is heavy is an error, and opens what everyone uses.
EVERYTHING = f"""
import sys

class Forbidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {IMPORTS!r}:
            raise AssertionError(name + " is imported")

sys.meta_path.insert(0, Forbidden())
import importlib, pkgutil
import nemo_lite.hub, stt, tui
from stt import EngineSettings, SileroVad, open_engine

for package in (stt, tui):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith((".__main__", *{WITH_RAY!r})):
            importlib.import_module(module.name)
open_engine(EngineSettings("auto", device="cpu"))
SileroVad()
assert not set({IMPORTS!r}) & set(sys.modules)
print("clean")
"""


def test_no_module_imports_anything_heavy() -> None:
    run = subprocess.run([sys.executable, "-Pc", EVERYTHING], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (0, "clean\n"), run.stderr


# `stt` started for words alone, many times in one process: what it has imported by then, but for Python's own.
WORDS = """
import sys
before = set(sys.modules)
from stt.cli import main
for words in {words!r}:
    try:
        main(words)
    except SystemExit as ended:
        assert not ended.code, words
brought = {{name.partition(".")[0] for name in set(sys.modules) - before}} - set(sys.stdlib_module_names)
sys.stderr.write(" ".join(sorted(brought | {{"asyncio"}} & set(sys.modules))))
"""


@pytest.mark.parametrize(
    ("words", "brought"),
    [
        ([["--version"]], "stt"),
        ([["--help"], *([command.name, "--help"] for command in COMMANDS)], "stt"),
        ([["config"], ["config", "--path"]], "stt"),
        ([["completion", "bash"], ["man"]], "shtab stt"),
    ],
    ids=["version", "help", "config", "completion"],
)
def test_what_only_prints_imports_nothing_that_takes_time(words: list[list[str]], brought: str) -> None:
    """What keeps it quick, whatever the machine is busy with: numpy alone takes longer than all the rest."""
    run = subprocess.run(
        [sys.executable, "-Pc", WORDS.format(words=words)], capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stderr) == (0, brought)
    assert run.stdout


# Imports every module where what is heavy in the light install, and what is not in it, must not be imported: each waits
# until it is used.
LATE = f"""
import importlib, pkgutil, sys
import stt, tui
for package in (stt, tui):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith((".__main__", *{WITH_RAY!r})):
            importlib.import_module(module.name)
print(*sorted({{*{IMPORTS!r}, "onnxruntime", "ctranslate2", "faster_whisper", "sounddevice"}} & set(sys.modules)))
"""


def test_engines_are_imported_where_they_are_opened() -> None:
    run = subprocess.run([sys.executable, "-Pc", LATE], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""
