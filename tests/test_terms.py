"""Terms: what is a list of them, and where they can be said."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stt.cli import COMMANDS, main
from stt.cli.parser import parse
from stt.cli.shared import said_terms
from stt.errors import SettingsError
from stt.terms import MOST_CHARS, MOST_TERMS, checked, in_prompt, usable

WITH_TERMS = ("file", "mic", "tui", "serve", "client")


def test_terms_keep_their_order_once_each_with_single_spaces() -> None:
    assert checked([" Zaphod \t Beeblebrox", "東京", "R2-D2", "東京"]) == ("Zaphod Beeblebrox", "東京", "R2-D2")


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (["ok", "--"], "term: expected a word or a phrase, got '--'"),
        (["half a \ud800"], "term: expected a word or a phrase, got 'half a \\ud800'"),
        (["x" * (MOST_CHARS + 1)], f"term: expected at most {MOST_CHARS} characters, got {MOST_CHARS + 1}: 'xxx"),
        (
            [f"term {i}" for i in range(MOST_TERMS + 1)],
            f"term: expected at most {MOST_TERMS} terms, got {MOST_TERMS + 1}",
        ),
    ],
)
def test_what_cannot_be_a_term_is_told(given: list[str], complaint: str) -> None:
    with pytest.raises(SettingsError) as wrong:
        checked(given)
    assert str(wrong.value).startswith(complaint)


@settings(deadline=None)
@given(st.lists(st.text(st.characters() | st.characters(categories=["Cs"]), max_size=120)))
def test_what_can_be_used_of_anything_is_a_list_of_terms(given: list[str]) -> None:
    terms = usable(given)
    assert checked(terms) == terms
    "".join(terms).encode()


@pytest.mark.parametrize(
    ("prompt", "terms"),
    [
        ("Zaphod, Trillian", ("Zaphod", "Trillian")),
        ("Names: Zaphod Beeblebrox; Trillian.", ("Names", "Zaphod Beeblebrox", "Trillian")),
        ("This is a talk about the best restaurants", ()),
        ("", ()),
    ],
)
def test_a_prompt_that_lists_terms_is_a_list_of_terms(prompt: str, terms: tuple[str, ...]) -> None:
    assert in_prompt(prompt) == terms


@pytest.mark.parametrize("command", WITH_TERMS)
def test_terms_are_options_and_a_file_with_one_on_each_line(command: str, tmp_path: Path) -> None:
    names = tmp_path / "names"
    names.write_text("\ufeffVelquist\n\n  Ysolde  Varn \n", "utf-8")
    more = ["talk.wav"] if command == "file" else []
    argv = [command, *more, "--term", "Marrowdeen,Brixlow", "--term", "Zaphrelon", "--terms", str(names)]
    args = parse(COMMANDS, "", argv, {})[1]
    assert said_terms(args) == ("Marrowdeen", "Brixlow", "Zaphrelon", "Velquist", "Ysolde Varn")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--term", "ok,?"], "--term: expected a word or a phrase, got '?'"),
        (["--terms", "missing"], "--terms: missing: No such file or directory"),
        (["--terms", "bytes"], "--terms: bytes: 'utf-8' codec can't decode"),
    ],
)
def test_the_command_line_says_which_option_is_wrong(
    options: list[str],
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bytes").write_bytes(b"\xff\xfe\x00")
    Path("config").write_text("")
    monkeypatch.setenv("STT_CONFIG", "config")
    with pytest.raises(SystemExit) as ended:
        raise SystemExit(main(["client", "talk.wav", *options]))
    assert ended.value.code == 2
    assert complaint in capsys.readouterr().err


def test_the_configuration_file_lists_them(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f"term = {json.dumps(['Velquist', 'Ysolde Varn'])}\n")
    args = parse(COMMANDS, "", ["file", "x"], {}, lambda: config)[1]
    assert said_terms(args) == ("Velquist", "Ysolde Varn")
