"""`stt mic`, with a microphone that hears a recording."""

from collections.abc import AsyncIterator
from typing import Any, Self

import pytest

from spoken import normalized, sentences, talk
from stt.audio import Samples
from stt.cli import main
from stt.commands import mic
from stt.errors import DeviceError

TEXTS = sentences(2, seed=4)


class Heard:
    """A microphone into which two sentences are said, and which then fails if it is told to."""

    name = "test microphone"
    overruns = 0
    fails = False

    def __init__(self, device: int) -> None:
        assert device == 7

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    async def __aiter__(self) -> AsyncIterator[Samples]:
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


WORDS = ["mic", "--device", "usb", "--engine", "whisper", "--engine-device", "cpu"]


def test_a_line_for_each_turn(heard: Any, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(WORDS) == 0
    out, err = capfd.readouterr()
    assert [normalized(line) for line in out.splitlines()] == [normalized(text) for text in TEXTS]
    assert "listening to test microphone" in err
    assert main([*WORDS, "-q", "--interim"]) == 0
    assert capfd.readouterr() == (out, ""), "what may still change is for terminals alone"


def test_a_microphone_that_goes_leaves_what_it_heard(heard: Any, capfd: pytest.CaptureFixture[str]) -> None:
    heard.fails = True
    assert main([*WORDS, "-q"]) == 1
    out, err = capfd.readouterr()
    assert [normalized(line) for line in out.splitlines()] == [normalized(text) for text in TEXTS]
    assert err == "stt mic: the microphone is gone\n"
