import itertools
import json
import re

import pytest

from stt.audio import samples
from stt.events import Passage, TurnCompleted
from stt.outputs import FORMATS, Writer, clock
from stt.subtitles import cues


def turn(number: int, start_s: float, end_s: float, text: str) -> TurnCompleted:
    start, end = samples(start_s), samples(end_s)
    return TurnCompleted(number, start, end, text, (Passage(start, end, text),), None)


TURNS = [turn(0, 0.5, 2, "Hello there."), turn(1, 3661, 3662.25, "Tom & <Jerry> -->")]


def written(kind: str, turns: list[TurnCompleted] = TURNS) -> str:
    writer = Writer(kind, {"file": "a.wav"})
    return writer.head() + "".join(map(writer.turn, turns)) + writer.tail(duration=9)


def test_txt() -> None:
    assert written("txt") == "Hello there.\nTom & <Jerry> -->\n"


def test_srt() -> None:
    assert written("srt") == (
        "1\n00:00:00,500 --> 00:00:02,000\nHello there.\n\n2\n01:01:01,000 --> 01:01:02,250\nTom & <Jerry> -->\n\n"
    )


def test_vtt() -> None:
    assert written("vtt") == (
        "WEBVTT\n\n00:00:00.500 --> 00:00:02.000\nHello there.\n\n"
        "01:01:01.000 --> 01:01:02.250\nTom &amp; &lt;Jerry&gt; --&gt;\n\n"
    )


def test_json() -> None:
    assert json.loads(written("json")) == {
        "file": "a.wav",
        "duration": 9,
        "turns": [
            {"turn": 0, "start": 0.5, "end": 2.0, "text": "Hello there."},
            {"turn": 1, "start": 3661.0, "end": 3662.25, "text": "Tom & <Jerry> -->"},
        ],
    }
    assert written("json").count("\n") == 1


@pytest.mark.parametrize("kind", FORMATS)
def test_no_turns(kind: str) -> None:
    assert {"txt": "", "srt": "", "vtt": "WEBVTT\n\n"}.get(kind, written(kind, [])) == written(kind, [])


def test_an_unknown_format_is_said() -> None:
    with pytest.raises(ValueError, match="expected one of txt, srt, vtt, json, got 'doc'"):
        Writer("doc", {})


def test_long_turns_become_readable_subtitles() -> None:
    text = " ".join(
        f"Dr. Miller said, in sentence number {i}, that it would be a rather long one. Then a short one."
        for i in range(20)
    )
    found = list(cues([turn(0, 10, 130, text)]))
    assert " ".join(cue.text.replace("\n", " ") for cue in found) == text
    assert found[0].start_s == 10
    assert found[-1].end_s == pytest.approx(130)
    for cue, after in itertools.pairwise(found):
        assert cue.end_s == pytest.approx(after.start_s)
    for cue in found:
        assert cue.end_s - cue.start_s <= 7.5
        assert all(len(line) <= 50 for line in cue.text.split("\n"))
        assert cue.text.count("\n") <= 1
        assert not re.search(r"Dr\.$", cue.text)


@pytest.mark.parametrize("kind", ["srt", "vtt"])
def test_a_cue_stays_inside_its_turn(kind: str) -> None:
    """A window has sound from before the first word and from after the last, so that they are whole."""
    windows = ((9.7, 20, "It began."), (20, 33.8, "It went on, and that took a while."), (33.8, 34, "Late."))
    passages = tuple(Passage(samples(start), samples(end), text) for start, end, text in windows)
    long = TurnCompleted(0, samples(10), samples(33.5), "It began. It went on. Late.", passages, None)
    found = list(cues([long]))
    assert (found[0].start_s, found[-1].end_s) == (10, 33.5)
    for cue in found:
        assert 10 <= cue.start_s <= cue.end_s <= 33.5
    for cue, after in itertools.pairwise(found):
        assert cue.end_s <= after.start_s
    assert "Late." in Writer(kind, {}).turn(long)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_json_escapes_what_its_file_cannot_hold(encoding: str) -> None:
    about = {"file": "caf\udce9 \N{MICROPHONE}.wav", "engine": "gr\u00fc\u00df"}
    text = Writer("json", about, encoding).tail()
    assert {name: json.loads(text.encode(encoding))[name] for name in about} == about


def test_json_is_readable_where_it_can_be() -> None:
    assert "gr\u00fc\u00df \u4f60" in Writer("json", {"file": "gr\u00fc\u00df \u4f60.wav"}).tail()


def test_words_longer_than_a_line_stay_whole() -> None:
    assert [cue.text for cue in cues([turn(0, 0, 1, "a" * 200)])] == ["a" * 200]


def test_clock() -> None:
    assert clock(0) == "00:00:00.000"
    assert clock(59.9996) == "00:01:00.000"
    assert clock(36_000.5, ",") == "10:00:00,500"
