"""`stt mic`, with a microphone that hears a recording."""

from collections.abc import AsyncIterator
from typing import Any, Self

import pytest

from judges import ByLength
from spoken import normalized, sentences, talk
from stt.audio import Samples
from stt.cli import main
from stt.commands import mic
from stt.commands.live import Screen
from stt.endofturn import smart_turn
from stt.errors import DeviceError
from stt.events import TurnCompleted
from stt.settings import EngineSettings, TurnSettings
from stt.words import Word

TEXTS = sentences(2, seed=4)


class Heard:
    """A microphone into which two sentences are said, faster than anybody speaks; then it fails if it is told to."""

    name = "test microphone"
    overruns = 0
    fails = False

    def __init__(self, device: int) -> None:
        assert device == 7

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    @staticmethod
    def begin() -> None: ...

    async def __aiter__(self) -> AsyncIterator[Samples]:
        self.begin()
        audio = talk(TEXTS, [2.0, 0.2])
        for at in range(0, len(audio), 1600):
            yield audio[at : at + 1600]
        if self.fails:
            raise DeviceError("the microphone is gone")


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> type[Heard]:
    def choose(device: str | None) -> int:
        assert device == "usb"
        return 7

    monkeypatch.setattr(mic, "choose", choose)
    monkeypatch.setattr(mic, "Microphone", Heard)
    monkeypatch.setattr(Heard, "fails", False)
    return Heard


MIC = ["mic", "--device", "usb", "--engine", "whisper", "--engine-device", "cpu"]
# By a count of samples: whoever thinks about a pause may be overtaken by speech that comes faster than it is spoken.
WORDS = [*MIC, "--end-of-turn", "silence"]


def test_a_line_for_each_turn(heard: Any, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(WORDS) == 0
    out, err = capfd.readouterr()
    assert [normalized(line) for line in out.splitlines()] == [normalized(text) for text in TEXTS]
    assert "listening to test microphone" in err
    assert main([*WORDS, "-q", "--interim"]) == 0
    assert capfd.readouterr() == (out, ""), "what may still change is for terminals alone"


def test_interims_and_their_model_are_for_terminals_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[bool, str | None, float | None]] = []

    def run(*, interim: bool, engine: EngineSettings, turns: TurnSettings, **_: object) -> int:
        asked.append((interim, engine.interim_model, turns.interim_s))
        return 0

    monkeypatch.setattr(mic, "run", run)
    for terminal in (False, True):
        monkeypatch.setattr("sys.stdout.isatty", lambda terminal=terminal: terminal, raising=False)
        for flags in ([], ["--interim"]):
            assert main(["mic", "--interim-model", "tiny.en", "--model", "small.en", *flags]) == 0
    assert asked == [*[(False, None, None)] * 3, (True, "tiny.en", 0.5)]


def test_a_microphone_that_goes_leaves_what_it_heard(heard: Any, capfd: pytest.CaptureFixture[str]) -> None:
    heard.fails = True
    assert main([*WORDS, "-q"]) == 1
    out, err = capfd.readouterr()
    assert [normalized(line) for line in out.splitlines()] == [normalized(text) for text in TEXTS]
    assert err == "stt mic: the microphone is gone\n"


def test_what_tells_the_end_of_a_turn_is_loaded_before_anybody_is_heard(
    heard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge, loaded = ByLength(), []
    monkeypatch.setattr(smart_turn, "shared", lambda: judge)
    monkeypatch.setattr(heard, "begin", staticmethod(lambda: loaded.append(len(judge.asked))))
    for words in (MIC, WORDS):
        assert main([*words, "-q"]) == 0
    assert loaded == [1, len(judge.asked)], "where silence alone ends turns nobody is asked"


async def test_words_are_lines_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    words = (Word("Hello", 16_000, 24_000, 0.912), Word(" there.", 24_000, 40_000))
    screen = Screen("client", live=False, words=True)
    for turn in (words, ()):
        await screen.event(TurnCompleted(0, 16_000, 40_000, "Hello there.", (), None, words=turn))
    assert capsys.readouterr().out == (
        "1.00\t1.50\t0.91\tHello\n1.50\t2.50\t-\tthere.\n"
        "1.00\t2.50\t-\tHello there.\n"  # of a server whose engine gives no words
    )
