"""Completions and manual page are made from the command line's description, and say all of it."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from stt.cli import COMMANDS, main
from stt.cli.completion import SHELLS, script
from stt.cli.man import page
from stt.cli.options import Argument, Command, Flag, Option

EVERY = [pytest.param(command, id=command.name) for command in COMMANDS]


@pytest.fixture(scope="module")
def scripts() -> dict[str, str]:
    return {shell: script(shell) for shell in SHELLS}


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("command", EVERY)
def test_scripts_know_every_option_and_choice(shell: str, command: Command, scripts: dict[str, str]) -> None:
    text = scripts[shell]
    assert re.search(rf"\b{command.name}\b", text)
    for option in command.all_options:
        name = option.name.removeprefix("--") if shell == "fish" else option.name
        assert re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text), option.name
        for choice in option.choices if isinstance(option, Option) and not option.metavar else ():
            assert choice in text
    assert "--no-quiet" not in text, "what takes a flag back is not offered"


@pytest.mark.parametrize("shell", SHELLS)
def test_the_shell_understands_its_script(shell: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    (tmp_path / "script").write_text(capfd.readouterr().out)
    run = subprocess.run([program, "-n", tmp_path / "script"], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["stt", "se"], {"serve"}),
        (["stt", "serve", "--max-s"], {"--max-sessions"}),
        (["stt", "completion", "f"], {"fish"}),
    ],
)
def test_bash_completes(words: list[str], offered: set[str], scripts: dict[str, str]) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("bash is not installed")
    words_and_cursor = f"COMP_WORDS=({' '.join(words)}) COMP_CWORD={len(words) - 1}"
    ask = f"\n{words_and_cursor}\n_shtab_stt\nprintf '%s\\n' \"${{COMPREPLY[@]}}\""
    code = f"compopt() {{ :; }}\n{scripts['bash']}{ask}"
    run = subprocess.run([bash, "--norc", "-c", code], capture_output=True, text=True, check=False)
    assert {word.strip() for word in run.stdout.split()} == offered, run.stderr


def plain(roff: str) -> str:
    """The words of a page, its macros and escapes taken away."""
    lines = [re.sub(r"^\.\w+ ?|\\f[BIR]|\\&", "", line) for line in roff.splitlines()]
    for escape, char in (("\\-", "-"), ("\\(ga", "`"), ("\\(ti", "~"), ("\\(ha", "^"), ("\\e", "\\")):
        lines = [line.replace(escape, char) for line in lines]
    return "\n".join(lines)


@pytest.mark.parametrize("command", EVERY)
def test_the_page_has_all_that_the_help_has(command: Command) -> None:
    text = plain(page(COMMANDS, "", "1.2.3"))
    assert f"stt {command.name}" in text
    for part in (command.description, command.epilog or ""):
        for line in part.splitlines():
            assert line.rstrip() in text
    for option in command.all_options:
        assert option.name in text
        assert option.help in text
        if isinstance(option, Option) and option.environment:
            assert f"[{option.environment}]" in text


def test_the_page_is_clean_troff(tmp_path: Path) -> None:
    hard = Command(
        name="x",
        help="",
        description=".SH starts a line\n'so does this\n\n  \\ back, ~ and `ticks`\nend",
        run=lambda _: 0,
        arguments=(Argument(name="a", nargs="*", help="what", choices=("b",)),),
        options=(Flag(name="--f", help=".dot"), Option(name="--o", bare="", help="'quote")),
    )
    text = page([hard, *COMMANDS], "", "1.2.3")
    assert not re.search(r"^(\.(?!TH|SH|SS|P\b|TP|B |I |EX|EE)|')", text, re.MULTILINE)
    assert ".SH starts a line\n'so does this" in plain(text)
    assert text.count(".EX") == text.count(".EE")
    if (man := shutil.which("man")) is None or shutil.which("groff") is None:
        return
    (tmp_path / "stt.1").write_text(text)
    run = subprocess.run(
        [man, "--warnings", "-l", tmp_path / "stt.1"],
        capture_output=True,
        text=True,
        check=False,
        env={"LC_ALL": "C.UTF-8", "MANWIDTH": "100", "PATH": "/usr/bin:/bin"},
    )
    assert (run.returncode, run.stderr) == (0, "")


def test_man_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["man"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(".TH STT 1 ")
    assert "STT_CONFIG" in out
