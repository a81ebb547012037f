"""What releases are made with fits together: versions, workflows, make targets, scripts."""

import fnmatch
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
VERSION = tomllib.loads((ROOT / "strops-rs/Cargo.toml").read_text())["package"]["version"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def jobs(workflow: Path) -> dict[str, dict]:
    return yaml.safe_load(workflow.read_text())["jobs"]


def commands(workflow: Path) -> list[str]:
    steps = [step for job in jobs(workflow).values() for step in job["steps"]]
    return [line.strip() for step in steps for line in step.get("run", "").splitlines()]


def test_one_version_everywhere() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == VERSION
    dated = re.search(
        rf"^## \[{re.escape(VERSION)}\] - (\d{{4}}-\d\d-\d\d)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE
    )
    assert dated is not None
    assert dated[1] == str(citation["date-released"])


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_run_what_there_is(workflow: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for command in commands(workflow):
        first, *rest = command.split()
        if first == "make":
            assert rest[0] in targets
        if first.startswith(("packaging/", ".ci/")):
            assert os.access(ROOT / first, os.X_OK), command


def test_the_pythons_that_are_promised_are_tried() -> None:
    tried = jobs(ROOT / ".github/workflows/ci.yml")["test"]["strategy"]["matrix"]["python"]
    assert f">={tried[0]}" == PROJECT["requires-python"]
    assert tried == ["3.11", "3.12", "3.13", "3.14"]


def test_wheels_are_made_for_what_is_promised() -> None:
    made = jobs(ROOT / ".github/workflows/release.yml")["wheels"]["strategy"]["matrix"]["include"]
    assert {each["target"] for each in made} == {
        "aarch64-apple-darwin",
        "aarch64-unknown-linux-gnu",
        "x86_64-apple-darwin",
        "x86_64-unknown-linux-gnu",
    }


def test_what_others_wrote_is_pinned_to_a_commit() -> None:
    for workflow in WORKFLOWS:
        used = re.findall(r"uses: (.*)", workflow.read_text())
        assert used
        assert [use for use in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v[\d.]+", use)] == []


def test_every_dependency_is_locked_within_its_bounds() -> None:
    from packaging.requirements import Requirement

    lock = (ROOT / "packaging/constraints.txt").read_text()
    locked = [Requirement(line) for line in lock.splitlines() if line and not line.lstrip().startswith("#")]
    for declared in (
        *PROJECT["dependencies"],
        *(each for extra in PROJECT["optional-dependencies"].values() for each in extra),
    ):
        wanted = Requirement(declared)
        if wanted.name == PROJECT["name"]:
            continue
        versions = [str(next(iter(one.specifier)).version) for one in locked if one.name == wanted.name]
        assert versions, f"{declared} is not locked: see CONTRIBUTING.md"
        assert all(version in wanted.specifier for version in versions), declared


@pytest.mark.parametrize(("arguments", "status"), [([], 0), ([f"v{VERSION}"], 0), ([VERSION], 1), (["v9.9.9"], 1)])
def test_release_notes_are_of_this_version(arguments: list[str], status: int) -> None:
    run = subprocess.run([ROOT / "packaging/release-notes", *arguments], capture_output=True, text=True, check=False)
    assert run.returncode == status, run.stderr
    assert ("### Changed" in run.stdout) == (status == 0)
    assert "0.1.0" not in run.stdout
    assert (f"expected the tag v{VERSION}" in run.stderr) == bool(status)


def test_all_that_is_built_is_published() -> None:
    release = jobs(ROOT / ".github/workflows/release.yml")
    steps = {job: {step.get("uses", "").partition("@")[0]: step for step in release[job]["steps"]} for job in release}
    uploads = [job for job in release if "actions/upload-artifact" in steps[job]]
    pattern = steps["publish"]["actions/download-artifact"]["with"]["pattern"]
    for job in uploads:
        assert fnmatch.fnmatch(steps[job]["actions/upload-artifact"]["with"]["name"], pattern)
    assert {*uploads, "images"} == set(release["publish"]["needs"])


@pytest.mark.parametrize(
    ("there", "installs"),
    [
        (["chromium", "make", "nix-instantiate", "systemd-analyze"], ""),
        (["chromium-browser", "make", "nix-instantiate", "systemd-analyze"], ""),
        (["make", "nix-instantiate"], "chromium systemd"),
    ],
)
def test_ci_installs_what_is_not_there_by_any_name(there: list[str], installs: str, tmp_path: Path) -> None:
    for name in ("bash", "dirname", "mktemp", "rm"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    log = tmp_path / "log"
    bodies = dict.fromkeys(there, "") | {"make": "exit 3", "sudo": '"$@"', "apt-get": f'echo "$@" >>{log}'}
    bodies["python3"] = f'exec {sys.executable} "$@"'
    for name, body in bodies.items():
        (tmp_path / name).write_text(f"#!{shutil.which('bash')}\n{body}\n")
        (tmp_path / name).chmod(0o755)
    run = subprocess.run([ROOT / ".ci/run"], env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert run.returncode == 3, run.stderr
    said = log.read_text().splitlines() if log.exists() else []
    assert [line.partition("--no-install-recommends ")[2] for line in said if " install " in line] == (
        [installs] if installs else []
    )
