"""The configuration file: every option can stand in it, what cannot be used is named, and the rest has its rank."""

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from stt.cli import COMMANDS, main
from stt.cli.configfile import general_name, locate
from stt.cli.options import Command, Flag, Option, ValueProblem
from stt.cli.parser import parse

CONFIGURED = [command for command in COMMANDS if command.configured]
OPTIONS = [
    pytest.param(command, option, id=f"{command.name} {option.name}")
    for command in CONFIGURED
    for option in command.all_options
]
EXAMPLES = ("3", "0.25", "1000", "de", "44100x2", "~/x", "native", "two words")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


def words(command: Command) -> list[str]:
    """The words without which a command does not run."""
    return [command.name, *(argument.name for argument in command.arguments if argument.nargs in ("+", None))]


def values(file: Path | None, *argv: str, **environment: str) -> argparse.Namespace:
    return parse(COMMANDS, "", argv, environment, lambda: file)[1]


def complaint(capsys: pytest.CaptureFixture[str], file: Path, *argv: str, **environment: str) -> str:
    with pytest.raises(SystemExit) as ended:
        values(file, *argv, **environment)
    assert ended.value.code == 2
    return capsys.readouterr().err.splitlines()[0]


def example(option: Option) -> str:
    for text in (*option.choices[::-1], *EXAMPLES):
        try:
            if text != str(option.default) and option.value(text) != option.default:
                return text
        except ValueProblem:
            continue
    raise AssertionError(f"no example for {option.name}")


def in_toml(option: Option | Flag) -> tuple[Any, list[str]]:
    """An unusual value, as TOML has it and as words of a command line."""
    if isinstance(option, Flag):
        return True, [option.name]
    text = example(option)
    return json.loads(text) if text[0].isdecimal() and "x" not in text else text, [
        option.name,
        str(Path(text).expanduser()),
    ]


@pytest.mark.parametrize(("command", "option"), OPTIONS)
def test_every_option_says_in_its_table_what_it_says_on_the_command_line(
    command: Command, option: Option | Flag, file: Path
) -> None:
    value, argument = in_toml(option)
    file.write_text(f"[{command.name}]\n{option.name.removeprefix('--')} = {json.dumps(value)}\n")
    written = getattr(values(file, *words(command)), option.attribute)
    assert written == getattr(values(None, *words(command), *argument), option.attribute)
    assert written != getattr(values(None, *words(command)), option.attribute)


@pytest.mark.parametrize(("command", "option"), OPTIONS)
def test_what_has_a_variable_says_it_above_the_tables(command: Command, option: Option | Flag, file: Path) -> None:
    if (name := general_name(option)) is None:
        pytest.skip("has no variable")
    assert isinstance(option, Option)
    value, argument = in_toml(option)
    file.write_text(f"{name} = {json.dumps(value)}\n")
    written = getattr(values(file, *words(command)), option.attribute)
    assert written == getattr(values(None, *words(command), *argument), option.attribute)


@pytest.mark.parametrize("command", CONFIGURED, ids=lambda command: command.name)
def test_what_stt_config_prints_is_a_file_that_says_the_same(
    command: Command, file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = [option for option in command.all_options if not (isinstance(option, Option) and option.secret)]
    lines = [f"{option.name.removeprefix('--')} = {json.dumps(in_toml(option)[0])}" for option in shown]
    file.write_text("\n".join([f"[{command.name}]", *lines]))
    before = vars(values(file, *words(command)))
    monkeypatch.setenv("STT_CONFIG", str(file))
    for name in {option.environment for option in shown if isinstance(option, Option) and option.environment}:
        monkeypatch.delenv(name, raising=False)
    assert main(["config", *([command.name] if command.all_options else [])]) == 0
    file.write_text(capsys.readouterr().out)
    assert vars(values(file, *words(command))) == before


def test_ranks(file: Path) -> None:
    file.write_text("end-of-turn = 1.0\n[file]\nend-of-turn = 2.0\nquiet = true\n")
    assert values(file, "serve").end_of_turn == 1.0
    assert values(file, "file", "x").end_of_turn == 2.0, "its own table wins over what is above"
    assert values(file, "file", "x", STT_END_OF_TURN="3").end_of_turn == 3.0
    assert values(file, "file", "x", "--end-of-turn", "4", STT_END_OF_TURN="3").end_of_turn == 4.0
    assert values(file, "file", "x").quiet
    assert not values(file, "file", "x", "--no-quiet").quiet
    file.write_text('language = "de"\n[file]\nlanguage = ""\n')
    assert values(file, "file", "x").language == "en", "an empty text is what nobody said"


def test_one_name_with_two_meanings(file: Path) -> None:
    file.write_text('device = "cpu"\nmicrophone = "usb"\n')
    tui = values(file, "tui")
    assert (tui.engine_device, tui.device) == ("cpu", "usb")
    assert values(file, "serve").engine_device == "cpu"
    file.write_text('[tui]\ndevice = "usb"\nengine-device = "cpu"\nresume = true\n')
    tui = values(file, "tui")
    assert (tui.engine_device, tui.device, tui.resume) == ("cpu", "usb", "")


@pytest.mark.parametrize(
    ("text", "argv", "said"),
    [
        ("end_of_turn = 1", ("serve",), "unknown option: 'end_of_turn'; did you mean 'end-of-turn'?"),
        ("[serve]\nprot = 1", ("file", "x"), "unknown option in [serve]: 'prot'; did you mean 'port'?"),
        ("[sever]\nport = 1", ("serve",), "unknown table: 'sever'; did you mean 'serve'?"),
        ("[devices]\nx = 1", ("serve",), "unknown option in [devices]: 'x'; there are quiet, verbose"),
        ("output = 'x'", ("file", "x"), "unknown option: 'output'"),
        (
            "end-of-turn = 99",
            ("serve",),
            "end-of-turn: expected auto, silence, meaning or seconds from 0.05 to 60, got '99'",
        ),
        ("[serve]\nport = 'x'", ("serve",), "[serve] port: expected a port from 0 to 65535, got 'x'"),
        ("[serve]\nport = true", ("serve",), "[serve] port: expected a text or a number, got 'True'"),
        ("[serve]\nport = [1]", ("serve",), "[serve] port: expected a text or a number, got '[1]'"),
        ("[serve]\nport = 1979-05-27", ("serve",), "[serve] port: expected a text or a number, got '1979-05-27'"),
        ("[file]\nquiet = 'yes'", ("file", "x"), "[file] quiet: expected true or false, got 'yes'"),
        ("[serve", ("serve",), "Expected ']' at the end of a table declaration (at end of document)"),
        ("\ud8ff", ("serve",), "codec can't decode byte"),
    ],
)
def test_what_cannot_be_used_is_named_with_its_place(
    text: str, argv: tuple[str, ...], said: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(text, "utf-8", errors="surrogatepass")
    line = complaint(capsys, file, *argv)
    assert line.startswith(f"stt {argv[0]}: {file}: ")
    assert said in line


def test_values_of_other_commands_are_not_looked_at(file: Path) -> None:
    file.write_text("[serve]\nport = 'x'\n")
    values(file, "file", "x")


def test_a_file_that_cannot_be_read_is_said_and_one_that_is_not_there_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert complaint(capsys, tmp_path, "serve") == f"stt serve: {tmp_path}: Is a directory"
    values(tmp_path / "none", "serve")
    values(tmp_path / "none" / "deeper", "serve")


def test_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert locate({"STT_CONFIG": "/x/y.toml"}) == Path("/x/y.toml")
    assert locate({"STT_CONFIG": ""}) is None
    assert locate({"STT_CONFIG": "~/y.toml"}) == Path.home() / "y.toml"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr("sys.platform", "linux")
    found = locate({})
    assert found is not None
    assert found.name == "config.toml"
    assert found.parent.name == "stt"


def test_config_shows_origins_and_no_secrets(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text('end-of-turn = 1.0\n[serve]\nport = 8000\napi-key = "hush"\nallowed-origin = ["a", "b,c"]\n')
    monkeypatch.setenv("STT_CONFIG", str(file))
    monkeypatch.setenv("STT_ENGINE", "whisper")
    assert main(["config", "serve"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [f"# {file}", "", "[serve]"]
    assert "end-of-turn = 1.0  # " + f"{file}: end-of-turn" in lines
    assert f"port = 8000  # {file}: [serve] port" in lines
    assert f'allowed-origin = ["a", "b,c"]  # {file}: [serve] allowed-origin' in lines
    assert 'engine = "whisper"  # environment variable STT_ENGINE' in lines
    assert "max-sessions = 100  # default" in lines
    assert "hush" not in "\n".join(lines)


def test_config_tells_all_problems_and_commands_that_need_none_run(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text("end-of-turn = 99\n[serve]\nport = 'x'\n")
    monkeypatch.setenv("STT_CONFIG", str(file))
    assert main(["config"]) == 1
    err = capsys.readouterr().err.splitlines()
    assert [line for line in err if "end-of-turn" in line] == [
        f"stt config: {file}: end-of-turn: expected auto, silence, meaning or seconds from 0.05 to 60, got '99'"
    ]
    assert any("[serve] port" in line for line in err)
    file.write_text("nonsense")
    assert main(["config"]) == 2
    assert main(["config", "--path"]) == 0
    assert capsys.readouterr().out == f"{file}\n"
    assert main(["config", "nothing"]) == 2
    assert "expected one of file, serve" in capsys.readouterr().err
