"""Probabilities in, turn events out. `#` is a frame of speech, `.` of silence, `-` in between the two thresholds."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from stt.audio import samples
from stt.errors import SettingsError
from stt.events import TurnPaused, TurnResumed, TurnStarted
from stt.settings import TurnSettings
from stt.turns import TurnEnded, TurnEvent, TurnSegmenter, Window
from stt.vad import FRAME

P = {"#": 0.9, ".": 0.1, "-": 0.4}
FRAME_S = 0.032
# pause after 3 silent frames, end of turn after 6, interim every 4 frames of speech, 2 frames of pre-roll
SETTINGS = TurnSettings(
    pause_s=3 * FRAME_S,
    end_of_turn_s=6 * FRAME_S,
    interim_s=4 * FRAME_S,
    pre_roll_s=2 * FRAME_S,
    min_speech_s=FRAME_S,
    window_s=160 * FRAME_S,
    overlap_s=40 * FRAME_S,
)


def numbered(count: int, first: int = 0) -> list[np.ndarray]:
    """Frames whose samples say which frame they are from."""
    return [np.full(FRAME, first + i, np.float32) for i in range(count)]


def told(event: TurnEvent) -> str:
    """Write an event with its times in frames."""
    match event:
        case TurnStarted(turn, start):
            return f"{turn} started {start // FRAME}"
        case TurnPaused(turn, end):
            return f"{turn} paused {end // FRAME}"
        case TurnResumed(turn, at):
            return f"{turn} resumed {at // FRAME}"
        case TurnEnded(turn, start, end):
            return f"{turn} ended {start // FRAME}-{end // FRAME}"
        case Window():
            assert len(event.audio) % FRAME == 0
            assert event.audio[0] == event.start // FRAME, "the audio does not begin where it says"
            assert event.audio[-1] == event.end // FRAME - 1, "the audio does not end where it says"
            return f"{event.turn}.{event.index} {event.cause} {event.start // FRAME}-{event.end // FRAME}"


def play(pattern: str, settings: TurnSettings = SETTINGS, *, finish: bool = True) -> list[str]:
    segmenter = TurnSegmenter(settings)
    events = segmenter.feed(numbered(len(pattern)), [P[c] for c in pattern])
    return [told(event) for event in events + (segmenter.finish() if finish else [])]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("", []),
        ("..........", []),
        ("---------", []),  # never speech: the upper threshold was not reached
        # the final that the pause asked for serves the end of the turn: no second request
        ("....##......", ["0 started 4", "0 paused 6", "0.0 pause 2-9", "0 ended 4-6"]),
        # pre-roll is bounded by what there is
        ("##......", ["0 started 0", "0 paused 2", "0.0 pause 0-5", "0 ended 0-2"]),
        # a dip between the thresholds is still speech
        ("..#--#......", ["0 started 2", "0.0 interim 0-6", "0 paused 6", "0.0 pause 0-9", "0 ended 2-6"]),
        # once silent, a value between the thresholds is not yet speech again
        ("..##.--...", ["0 started 2", "0 paused 4", "0.0 pause 0-7", "0 ended 2-4"]),
        # a short gap is no pause
        ("..##..##......", ["0 started 2", "0.0 interim 0-8", "0 paused 8", "0.0 pause 0-11", "0 ended 2-8"]),
        (
            "..##....##......",
            [
                "0 started 2",
                "0 paused 4",
                "0.0 pause 0-7",
                "0 resumed 8",
                "0 paused 10",
                "0.0 pause 0-13",
                "0 ended 2-10",
            ],
        ),
        # interims every four frames of speech
        (
            "#########......",
            ["0 started 0", "0.0 interim 0-4", "0.0 interim 0-8", "0 paused 9", "0.0 pause 0-12", "0 ended 0-9"],
        ),
        # two turns; the second's pre-roll begins after the first
        (
            "##......##......",
            [
                "0 started 0",
                "0 paused 2",
                "0.0 pause 0-5",
                "0 ended 0-2",
                "1 started 8",
                "1 paused 10",
                "1.0 pause 6-13",
                "1 ended 8-10",
            ],
        ),
        # finish while speaking, in a gap, while paused, after the end
        ("..##", ["0 started 2", "0.0 end 0-4", "0 ended 2-4"]),
        ("..##.", ["0 started 2", "0.0 end 0-5", "0 ended 2-4"]),
        ("..##....", ["0 started 2", "0 paused 4", "0.0 pause 0-7", "0 ended 2-4"]),
        # pause, resume, finish: what was said after the pause is asked for
        ("..##....##", ["0 started 2", "0 paused 4", "0.0 pause 0-7", "0 resumed 8", "0.0 end 0-10", "0 ended 2-10"]),
    ],
)
def test_patterns(pattern: str, expected: list[str]) -> None:
    assert play(pattern) == expected


def test_a_turn_too_short_for_words_ends_without_a_request() -> None:
    settings = TurnSettings(pause_s=0.096, end_of_turn_s=0.192, min_speech_s=0.1)
    assert play("..##......", settings) == ["0 started 2", "0 paused 4", "0 ended 2-4"]
    assert "0.0 pause 0-9" in play("..####......", settings)


def test_without_interims_and_speculation_the_same_audio_is_asked_for_once_at_the_end() -> None:
    early = play("..##....###......")
    late = play("..##....###......", TurnSettings(**{**_fields(SETTINGS), "interim_s": None, "speculative": False}))
    assert [e for e in late if "0.0" in e] == ["0.0 end 0-14"]
    assert [e for e in early if "0.0" in e][-1] == "0.0 pause 0-14"
    assert [e for e in early if "0.0" not in e] == [e for e in late if "0.0" not in e]


def test_chunking_changes_nothing() -> None:
    pattern = "..##....######..#.......##-#......#" * 9
    whole = play(pattern)
    segmenter, pieces = TurnSegmenter(SETTINGS), []
    for i, c in enumerate(pattern):
        pieces += segmenter.feed(numbered(1, i), [P[c]])
    assert [told(event) for event in pieces + segmenter.finish()] == whole


def test_a_full_window_is_cut_in_the_longest_pause_of_its_second_half() -> None:
    #          0-59      60-79      80-109     110-117   118-129      130-139    140-199
    pattern = "#" * 60 + "." * 20 + "#" * 30 + "." * 8 + "#" * 12 + "." * 10 + "#" * 60
    settings = TurnSettings(window_s=160 * FRAME_S, pause_s=0.3, interim_s=None, speculative=False, overlap_s=1)
    events = play(pattern, settings)
    # of the pauses whose middle is behind frame 80, the second is the longer; nothing is shared
    assert [e for e in events if "0." in e] == ["0.0 cut 0-135", "0.1 end 135-200"]


def test_without_a_pause_the_windows_overlap_at_quiet_spots() -> None:
    count = 360
    frames = [np.full(FRAME, 0.5, np.float32) for _ in range(count)]
    for quiet in (150, 122, 270, 240):
        frames[quiet] = np.full(FRAME, 0.01, np.float32)
    segmenter = TurnSegmenter(TurnSettings(**{**_fields(SETTINGS), "interim_s": None}))
    windows = [e for e in segmenter.feed(frames, [0.9] * count) + segmenter.finish() if isinstance(e, Window)]
    assert [(w.index, w.start // FRAME, w.end // FRAME, w.overlap // FRAME, w.cause) for w in windows] == [
        (0, 0, 150, 0, "cut"),
        (1, 122, 270, 28, "cut"),
        (2, 240, 360, 30, "end"),
    ]


def test_every_sample_of_a_long_turn_is_in_a_window() -> None:
    rng = np.random.default_rng(5)
    pattern = "".join("#" * rng.integers(1, 90) + "." * rng.integers(1, 12) for _ in range(60))
    settings = TurnSettings(window_s=160 * FRAME_S, end_of_turn_s=2, overlap_s=1.5, speculative=False, interim_s=None)
    segmenter = TurnSegmenter(settings)
    events = segmenter.feed(numbered(len(pattern)), [P[c] for c in pattern]) + segmenter.finish()
    windows = [e for e in events if isinstance(e, Window)]
    assert len(windows) > 10
    heard = np.zeros(len(pattern), bool)
    for window in windows:
        assert len(window.audio) <= samples(settings.window_s) + FRAME
        heard[window.start // FRAME : -(-window.end // FRAME)] = True
    assert all(heard[i] for i, c in enumerate(pattern) if c == "#")
    for before, after in itertools.pairwise(windows):
        assert before.end - after.start == after.overlap, "the overlap is what it says"


def test_a_long_silence_inside_a_turn_is_not_fed_to_the_engine() -> None:
    settings = TurnSettings(end_of_turn_s=10, pause_s=9 * FRAME_S, interim_s=None, pre_roll_s=2 * FRAME_S)
    events = play("#" * 20 + "." * 200 + "#" * 20 + "." * 330, settings)
    assert events == [
        "0 started 0",
        "0 paused 20",
        "0.0 pause 0-29",
        "0 resumed 220",
        "0 paused 240",
        "0.1 pause 218-249",
        "0 ended 0-240",
    ]


def test_memory_stays_bounded_in_silence() -> None:
    segmenter = TurnSegmenter(SETTINGS)
    segmenter.feed(numbered(10_000), [0.0] * 10_000)
    [started, window, ended] = segmenter.feed(numbered(1, 10_000), [0.9]) + segmenter.finish()
    assert told(started) == "0 started 10000"
    assert isinstance(window, Window)
    assert len(window.audio) == 3 * FRAME
    assert told(ended) == "0 ended 10000-10001"


def test_a_short_last_frame_counts_at_its_length() -> None:
    segmenter = TurnSegmenter(SETTINGS)
    segmenter.feed(numbered(4), [0.9] * 4)
    segmenter.feed([np.zeros(100, np.float32)], [0.9])
    *_, ended = segmenter.finish()
    assert ended == TurnEnded(0, 0, 4 * FRAME + 100, 4 * FRAME + 100, "stream ended")


@pytest.mark.parametrize(
    "wrong",
    [
        {"speech_threshold": 1.5},
        {"silence_threshold": 0.6},
        {"end_of_turn_s": 0.1},
        {"pause_s": 0},
        {"window_s": 40},
        {"overlap_s": 20},
        {"interim_s": 0},
        {"pre_roll_s": -1},
        {"min_speech_s": float("nan")},
    ],
)
def test_settings_that_cannot_work_say_what_was_expected(wrong: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match=r"expected .* got"):
        TurnSettings(**wrong)


def _fields(settings: TurnSettings) -> dict[str, float]:
    return {name: getattr(settings, name) for name in TurnSettings.__slots__}


@pytest.mark.parametrize(
    ("pattern", "silences"),
    [
        ("....##......", {"pause": [(2, 4), (6, 9)]}),  # before and after
        ("..##..##......", {"interim": [(0, 2), (4, 6)], "pause": [(0, 2), (4, 6), (8, 11)]}),
        # cut in the middle of a pause: each window has its half of it
        ("#" * 100 + "." * 8 + "#" * 54, {"cut": [(100, 104)], "end": [(104, 108)]}),
    ],
)
def test_a_window_says_where_nobody_speaks(pattern: str, silences: dict[str, list[tuple[int, int]]]) -> None:
    settings = replace(SETTINGS, pause_s=0.3 if len(pattern) > 99 else SETTINGS.pause_s, end_of_turn_s=1)
    segmenter = TurnSegmenter(settings)
    events = segmenter.feed(numbered(len(pattern)), [P[c] for c in pattern]) + segmenter.finish()
    found = {e.cause: [(a // FRAME, b // FRAME) for a, b in e.silences] for e in events if isinstance(e, Window)}
    assert {cause: found[cause] for cause in silences} == silences
