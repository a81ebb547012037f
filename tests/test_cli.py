"""Options, and the variables that stand for them: what is read, when, and what is said of what cannot be used."""

import argparse
import subprocess
import sys

import pytest

from stt.cli import COMMANDS, main
from stt.cli.options import Command, Flag, Option, host, language
from stt.cli.parser import parse
from stt.cli.shared import engine_settings, turn_settings

BY_NAME = {command.name: command for command in COMMANDS}
OPTIONS = [
    pytest.param(command, option, id=f"{command.name} {option.name}")
    for command in COMMANDS
    for option in command.all_options
]
WITH_VARIABLE = [
    pytest.param(command, option, id=f"{command.name} {option.name}")
    for command in COMMANDS
    for option in command.all_options
    if isinstance(option, Option) and option.environment
]


def values(*argv: str, **environment: str) -> argparse.Namespace:
    return parse(COMMANDS, "", argv, environment)[1]


def complaint(capsys: pytest.CaptureFixture[str], *argv: str, **environment: str) -> str:
    with pytest.raises(SystemExit) as ended:
        values(*argv, **environment)
    assert ended.value.code == 2
    return capsys.readouterr().err.splitlines()[0]


def needed(command: Command) -> list[str]:
    """The words without which a command does not run."""
    return [(*a.choices, a.name)[0] for a in command.arguments if a.nargs in ("+", None)]


def test_the_option_wins_over_the_variable_and_that_over_the_default() -> None:
    assert values("file", "x").end_of_turn == "silence"
    assert values("file", "x", STT_END_OF_TURN="2").end_of_turn == 2.0
    assert values("file", "x", "--end-of-turn", "0.5", STT_END_OF_TURN="2").end_of_turn == 0.5
    assert values("serve", "--api-key", "a,b", "--api-key", "c", STT_API_KEY="d").api_key == ["a", "b", "c"]
    assert values("serve", STT_API_KEY="d, e").api_key == ["d", "e"]
    assert values("client", "--device", "2", STT_MIC="1").mic == "2"
    assert (values("tui").resume, values("tui", "--resume").resume, values("tui", "--resume", "x").resume) == (
        None,
        "",
        "x",
    )


@pytest.mark.parametrize(("command", "option"), WITH_VARIABLE)
def test_an_empty_variable_is_unset(command: Command, option: Option) -> None:
    assert option.environment is not None
    got = values(command.name, *needed(command), **{option.environment: ""})
    assert getattr(got, option.attribute) == option.default


@pytest.mark.parametrize(
    ("command", "option"),
    [param for param in OPTIONS if isinstance(param.values[1], Option) and param.values[1].name != "--resume"],
)
def test_an_empty_option_is_a_mistake(command: Command, option: Option, capsys: pytest.CaptureFixture[str]) -> None:
    said = complaint(capsys, command.name, *needed(command), option.name, "")
    assert said.startswith(f"stt {command.name}: {option.name}: expected ")


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_variables_of_other_commands_are_not_read(command: Command) -> None:
    own = {option.environment for option in command.all_options if isinstance(option, Option)}
    others = {option.environment for _, option in (param.values for param in WITH_VARIABLE)} - own
    assert others
    values(command.name, *needed(command), **dict.fromkeys(others, "\x00 nonsense"))


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (
            ("serve",),
            "stt serve: environment variable STT_ENGINE: expected one of auto, whisper, canary-qwen, got 'foo'",
        ),
        (("file", "x"), "stt file: environment variable STT_ENGINE: expected one of auto"),
        (("tui",), "stt tui: environment variable STT_ENGINE: expected one of auto"),
    ],
)
def test_the_command_that_runs_is_named(capsys: pytest.CaptureFixture[str], argv: tuple[str, ...], said: str) -> None:
    assert complaint(capsys, *argv, STT_ENGINE="foo").startswith(said)


@pytest.mark.parametrize(
    ("command", "option", "text", "said"),
    [
        ("file", "--end-of-turn", "-1", "expected auto, silence, meaning or seconds from 0.05 to 60, got '-1'"),
        ("file", "--end-of-turn", "nan", "expected auto, silence, meaning or seconds from 0.05 to 60, got 'nan'"),
        ("file", "--end-of-turn", "1,5", "expected auto, silence, meaning or seconds from 0.05 to 60, got '1,5'"),
        ("serve", "--speech-threshold", "2", "expected a probability from 0.01 to 0.99, got '2'"),
        ("serve", "--port", "70000", "expected a port from 0 to 65535, got '70000'"),
        ("serve", "--max-buffer", "0", "expected seconds from 1 to 600, got '0'"),
        ("serve", "--idle-timeout", "inf", "expected seconds from 0.001 to 604800, got 'inf'"),
        ("file", "--threads", "100000", "expected a whole number from 0 to 256, got '100000'"),
        ("file", "--threads", "²", "expected a whole number from 0 to 256, got '²'"),
        ("tui", "--language", "klingon", "expected a language code like en, de or pt-BR, or auto, got 'klingon'"),
    ],
)
def test_errors_speak_of_what_was_written(
    capsys: pytest.CaptureFixture[str], command: str, option: str, text: str, said: str
) -> None:
    words = [command, *needed(BY_NAME[command])]
    assert complaint(capsys, *words, option, text) == f"stt {command}: {option}: {said}"
    variable = "STT_" + option.removeprefix("--").replace("-", "_").upper()
    told = complaint(capsys, *words, **{variable: text})
    assert told == f"stt {command}: environment variable {variable}: {said}"


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "second", "d"])
def test_a_track_is_a_number_or_a_language(capsys: pytest.CaptureFixture[str], text: str) -> None:
    said = "expected the number of a track, from 1, or a language like de or deu"
    assert complaint(capsys, "file", "x", f"--track={text}") == f"stt file: --track: {said}, got {text!r}"
    assert [values("file", "x", "--track", fine).track for fine in ("2", "deu", "pt-BR")] == ["2", "deu", "pt-BR"]


@pytest.mark.parametrize("link", ["tcp://10.0.0.1:15751", "udp://10.0.0.1:53", "tcp://[fd00::1]:15751"])
def test_the_port_that_kubernetes_announces_is_no_option(link: str) -> None:
    """In a namespace with a service named stt, every container has STT_PORT=tcp://..."""
    assert values("serve", STT_PORT=link, STT_SERVICE_HOST="10.0.0.1", STT_PORT_15751_TCP=link).port == 15751
    assert values("serve", "--port", "1", STT_PORT=link).port == 1


def test_the_port_that_kubernetes_announces_is_nothing_to_type(capsys: pytest.CaptureFixture[str]) -> None:
    assert "expected a port" in complaint(capsys, "serve", "--port", "tcp://10.0.0.1:15751")


@pytest.mark.parametrize(
    ("limit", "ends"), [("--end-of-turn", ("0.05", "60")), ("--speech-threshold", ("0.01", "0.99"))]
)
def test_the_settings_bear_what_options_let_through(limit: str, ends: tuple[str, str]) -> None:
    for text in ends:
        turn_settings(values("file", "x", limit, text))


def test_limits_of_the_server_bear_what_options_let_through() -> None:
    from stt.server import ServerSettings

    for low in (True, False):
        args = values(
            "serve",
            *("--max-sessions", "1" if low else "1000000"),
            *("--max-buffer", "1" if low else "600"),
            *("--idle-timeout", "0.001" if low else "604800"),
            *("--drain-timeout", "0" if low else "604800"),
            *("--engine-timeout", "0.001" if low else "604800"),
            *("--port", "0" if low else "65535"),
            *("--wyoming", "0" if low else "[::1]:65535"),
            *("--max-upload", "1" if low else "1048576"),
            *("--max-files", "1" if low else "1000000"),
        )
        ServerSettings(
            port=args.port,
            max_sessions=args.max_sessions,
            max_buffer_s=args.max_buffer,
            idle_timeout_s=args.idle_timeout,
            drain_timeout_s=args.drain_timeout,
            engine_timeout_s=args.engine_timeout,
            wyoming=args.wyoming,
            max_upload_bytes=args.max_upload << 20,
            max_files=args.max_files,
        )


@pytest.mark.parametrize(
    ("written", "meant"),
    [("en", "en"), ("EN", "en"), ("en-US", "en"), ("zh_TW.UTF-8", "zh"), ("yue", "yue"), ("AUTO", "auto")],
)
def test_languages(written: str, meant: str) -> None:
    assert language(written) == meant


@pytest.mark.parametrize(
    ("written", "meant"),
    [("[::1]", "::1"), ("::1", "::1"), ("127.0.0.1", "127.0.0.1"), ("[::1", "[::1"), ("[name]", "[name]")],
)
def test_hosts(written: str, meant: str) -> None:
    assert host(written) == meant


@pytest.mark.parametrize(("command", "option"), OPTIONS)
def test_the_help_has_every_option_with_variable_and_default(
    command: Command, option: Option | Flag, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        values(command.name, "--help")
    shown = " ".join(capsys.readouterr().out.split())
    assert option.name in shown
    if isinstance(option, Option) and option.environment:
        assert f"[{option.environment}]" in shown
    assert option.help.split(":")[0].split("(")[0].split(";")[0].split(",")[0].strip() in shown


def test_the_choices_are_the_engines_own() -> None:
    """They stand in the options as well because the help must not import engines."""
    from stt import cli, engines
    from stt.outputs import FORMATS
    from stt.server.settings import DEFAULT_PORT
    from stt.settings import EAGERNESSES, POLICIES, EngineSettings, TurnSettings

    assert (cli.shared.ENGINES, cli.shared.DEVICES, cli.shared.DTYPES) == (
        engines.ENGINES,
        engines.DEVICES,
        engines.DTYPES,
    )
    [kinds] = [option.choices for option in BY_NAME["file"].all_options if option.name == "--format"]
    assert kinds == FORMATS
    assert values("serve").port == DEFAULT_PORT
    assert engine_settings(values("serve")) == EngineSettings()
    assert turn_settings(values("serve")) == TurnSettings(end_of_turn="auto")
    assert turn_settings(values("file", "x")) == TurnSettings()
    assert (cli.shared.POLICIES, cli.shared.EAGERNESSES) == (POLICIES, EAGERNESSES)


def test_reading_options_imports_nothing_heavy() -> None:
    program = "import sys; from stt.cli import COMMANDS; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert {"numpy", "torch", "onnxruntime", "asyncio", "soundfile"} & set(run.stdout.split()) == set()


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_command_can_say_less_or_more(command: Command) -> None:
    words = [command.name, *needed(command)]
    assert (values(*words).quiet, values(*words).verbose) == (False, False)
    assert (values(*words, "-q").quiet, values(*words, "-v").verbose) == (True, True)


def test_verbose_says_who_set_what_and_traces_errors(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STT_END_OF_TURN", "0.7")
    words = ["client", "missing.wav", "--api-key", "hush"]
    assert main(words) == 1
    plain = capsys.readouterr().err
    assert main([*words, "-v"]) == 1
    said = capsys.readouterr().err
    assert said.endswith(plain)
    assert "stt client: --end-of-turn 0.7 (environment variable STT_END_OF_TURN)\n" in said
    assert "stt client: --api-key not shown (--api-key)\n" in said
    assert "Traceback" in said
    assert "hush" not in said.partition("Traceback")[0]
    assert "Traceback" not in plain


def test_quiet_leaves_the_results(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    out, err = capsys.readouterr()
    assert err
    assert main(["models", "-q"]) == 0
    assert capsys.readouterr() == (out, "")


@pytest.mark.parametrize(
    ("words", "level"),
    [
        ((), "info"),
        (("-q",), "warning"),
        (("-v",), "debug"),
        (("-q", "--log-level", "error"), "error"),
        (("-v", "--log-level", "error"), "error"),
    ],
)
def test_the_server_s_log_follows(words: tuple[str, ...], level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, object] = {}
    monkeypatch.setattr("stt.commands.serve.run", lambda **settings: asked.update(settings) or 0)
    assert main(["serve", *words]) == 0
    assert asked["log_level"] == level


@pytest.mark.parametrize(
    ("arguments", "variables", "says"),
    [
        (["--language", "de"], {}, "--language: whisper tiny.en (int8, cpu) knows en, got 'de'"),
        (
            [],
            {"STT_LANGUAGE": "xx"},
            "environment variable STT_LANGUAGE: whisper tiny.en (int8, cpu) knows en, got 'xx'",
        ),
        (["--device", "cuda"], {}, "--device: expected cpu, because CTranslate2 finds no CUDA device, got cuda"),
        ([], {"STT_DEVICE": "cuda"}, "environment variable STT_DEVICE: expected cpu, because"),
    ],
)
def test_what_only_the_engine_finds_wrong_is_told_by_its_name_as_well(
    arguments: list[str],
    variables: dict[str, str],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert main(["file", "examples/news.flac", "--engine", "whisper", *arguments]) in (1, 2)
    assert f"stt file: {says}" in capfd.readouterr().err


def test_dialects_are_named_as_the_server_has_them() -> None:
    from stt.cli.serve import DIALECTS
    from stt.server.families import FAMILIES

    assert tuple(FAMILIES) == DIALECTS
    assert values("serve", "--dialects", "native,openai", "--dialects", "deepgram").dialects == list(DIALECTS)
