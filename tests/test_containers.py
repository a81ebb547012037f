"""Lengths, times, tracks and truncation: a container says much that is not so, and some that must be believed."""

import contextlib
import re
import struct
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile

from recordings import CODECS, Track, encode, hear, sounding, tones
from stt.errors import AudioError
from stt.sources import FileSource
from stt.sources.timeline import Timeline
from stt.sources.tracks import choose_track

CONTAINERS = sorted(CODECS)
SOUND = tones(6)


@pytest.mark.parametrize("kind", CONTAINERS)
def test_a_whole_file_is_heard_whole_and_without_complaint(tmp_path: Path, kind: str) -> None:
    audio = hear(encode(tmp_path / f"a.{kind}", SOUND)).whole()
    assert sum(end - begin for begin, end in sounding(audio)) == pytest.approx(6, abs=0.15)


@pytest.mark.parametrize("kind", [kind for kind in CONTAINERS if kind not in {"m4a", "mov"}])
@pytest.mark.parametrize("part", [0.3, 0.5, 0.77])
def test_half_a_file_is_heard_as_far_as_it_goes_and_said_to_be_half(tmp_path: Path, kind: str, part: float) -> None:
    path = encode(tmp_path / f"a.{kind}", SOUND)
    data = path.read_bytes()
    path.write_bytes(data[: round(len(data) * part) + 1])
    heard = hear(path)
    assert len(heard.audio) / 16_000 == pytest.approx(6 * part, abs=1.2)
    if kind == "mp3":  # counts its frames, and there are less
        assert heard.error is not None
    assert "truncated" in str(heard.error)
    assert str(path) in str(heard.error)


@pytest.mark.parametrize("kind", ["m4a", "mov"])
def test_half_a_file_whose_contents_come_last_is_said_to_be_half(tmp_path: Path, kind: str) -> None:
    path = encode(tmp_path / f"a.{kind}", SOUND)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(AudioError, match="truncated"):
        FileSource(path)


@pytest.mark.parametrize("kind", ["aac", "flac", "mka", "mkv", "mp3", "ogg", "ts", "webm"])
def test_files_joined_end_to_end_are_heard_to_the_end(tmp_path: Path, kind: str) -> None:
    short = encode(tmp_path / f"short.{kind}", tones(2)).read_bytes()
    long = encode(tmp_path / f"long.{kind}", tones(4)).read_bytes()
    orders = [[short, long], [long, short], [short, short, short]]
    for order in orders[:2] if kind in {"mka", "mkv", "webm"} else orders:  # FFmpeg reads two segments of Matroska
        (tmp_path / f"joined.{kind}").write_bytes(b"".join(order))
        expected = sum(2 if part is short else 4 for part in order)
        audio = hear(tmp_path / f"joined.{kind}").whole()
        assert sum(end - begin for begin, end in sounding(audio)) == pytest.approx(expected, abs=0.35)


def mp3(path: Path, audio: np.ndarray, **options: str) -> bytes:
    return encode(path, audio, **options).read_bytes()


@pytest.mark.parametrize("bit_rate", ["cbr", "vbr"])
def test_an_mp3_that_does_not_count_its_frames_is_heard_whole(tmp_path: Path, bit_rate: str) -> None:
    # silence and noise: what the first frames cost says nothing about the rest
    rng = np.random.default_rng(0)
    loud = (0.3 * rng.standard_normal(16_000 * 8)).clip(-1, 1).astype(np.float32)
    for order in ([np.zeros(64_000, np.float32), loud], [loud, np.zeros(64_000, np.float32)]):
        path = tmp_path / "a.mp3"
        if bit_rate == "cbr":
            mp3(path, np.concatenate(order), write_xing="0")
        else:
            soundfile.write(path, np.concatenate(order), 16_000, bitrate_mode="VARIABLE", compression_level=0.5)
            data = path.read_bytes()
            at = max(data.find(b"Xing"), data.find(b"Info"))
            assert at > 0
            path.write_bytes(data[:at] + bytes(4) + data[at + 4 :])
        assert len(hear(path).whole()) / 16_000 == pytest.approx(12, abs=0.2)


def test_an_mp3_finds_its_way_through_garbage(tmp_path: Path) -> None:
    data = mp3(tmp_path / "a.mp3", SOUND)
    rng, half = np.random.default_rng(0), len(data) // 2
    for garbage in (bytes(5_000), rng.bytes(20_000), b"ID3\x04\0\0\0\0\x1f\x76" + bytes(4_086), b"\xff\xfb" * 3_000):
        (tmp_path / "b.mp3").write_bytes(garbage + data[:half] + garbage + data[half:] + garbage)
        audio = hear(tmp_path / "b.mp3").whole()
        assert len(audio) / 16_000 == pytest.approx(6, abs=0.8)
        assert sum(end - begin for begin, end in sounding(audio)) == pytest.approx(6, abs=0.4)


def test_mp3_inside_wav_is_whole(tmp_path: Path) -> None:
    data = mp3(tmp_path / "a.mp3", SOUND, write_xing="0", id3v2_version="0")
    form = struct.pack("<HHIIHHHHIHHH", 0x55, 1, 16_000, 3_000, 1, 0, 12, 1, 2, 108, 1, 1393)
    fact = struct.pack("<I", len(SOUND) + 4_000)  # encoders count their padding
    chunks = [(b"fmt ", form), (b"fact", fact), (b"data", data)]
    body = b"WAVE" + b"".join(
        name + struct.pack("<I", len(part)) + part + b"\0" * (len(part) % 2) for name, part in chunks
    )
    (tmp_path / "a.wav").write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    assert len(hear(tmp_path / "a.wav").whole()) / 16_000 == pytest.approx(6, abs=0.2)


WRITERS = {
    "wav": [0, 0x7F00_0000, 0x7FFF_F000, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF],
    "aiff": [0x7F00_0000, 0x7FFF_F000, 0x7FFF_FFFF, 0xFFFF_FFFF],
    "au": [0x7F00_0000, 0x7FFF_FFFF, 0xFFFF_FFFF],
}


@pytest.mark.parametrize(("kind", "size"), [(kind, size) for kind in WRITERS for size in WRITERS[kind]])
def test_sizes_that_a_writer_left_open_are_no_promise(tmp_path: Path, kind: str, size: int) -> None:
    path = tmp_path / f"a.{kind}"
    soundfile.write(path, SOUND, 16_000)
    data = bytearray(path.read_bytes())
    order = "<" if kind == "wav" else ">"
    match kind:
        case "wav":
            at = data.index(b"data") + 4
            data[4:8] = struct.pack(order + "I", size)
        case "aiff":
            at = data.index(b"SSND") + 4
            frames = data.index(b"COMM") + 10
            data[frames : frames + 4] = struct.pack(order + "I", size // 2)
        case _:
            at = 8
    data[at : at + 4] = struct.pack(order + "I", size)
    path.write_bytes(data)
    heard = hear(path)
    assert len(heard.whole()) == pytest.approx(len(SOUND), abs=16)
    assert heard.source.duration_s is None or heard.source.duration_s < 7


@pytest.mark.parametrize("kind", ["mkv", "mka", "webm", "mp4", "m4a", "ts"])
def test_times_are_those_of_the_container(tmp_path: Path, kind: str) -> None:
    """Sound that begins late, and a hole of ten seconds."""
    track = Track([(5.0, tones(2)), (17.0, tones(2))])
    video = Track([(0.0, np.zeros(16_000 * 19, np.float32))])  # something that begins at zero
    audio = hear(encode(tmp_path / f"a.{kind}", track, video), track=1).whole()
    (first, _), *_, (_, last) = sounding(audio)
    holes = [b[0] - a[1] for a, b in zip(sounding(audio), sounding(audio)[1:], strict=False)]
    assert first == pytest.approx(5, abs=0.1)
    assert max(holes) == pytest.approx(10, abs=0.15)
    assert last == pytest.approx(19, abs=0.15)


def test_a_recording_that_was_joined_while_it_ran_begins_at_once(tmp_path: Path) -> None:
    audio = hear(encode(tmp_path / "a.ts", Track([(30_000.0, tones(2))]))).whole()
    assert len(audio) / 16_000 == pytest.approx(2, abs=0.2)


def test_a_rate_that_changes_in_mid_stream_is_followed(tmp_path: Path) -> None:
    slow = encode(tmp_path / "slow.aac", tones(3)).read_bytes()
    faster = {**CODECS, "aac": ("aac", "fltp", 44_100, {})}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("recordings.CODECS", faster)
        fast = encode(tmp_path / "fast.aac", tones(3)).read_bytes()
    for order in ((slow, fast), (fast, slow), (slow, fast, slow)):
        (tmp_path / "joined.aac").write_bytes(b"".join(order))
        audio = hear(tmp_path / "joined.aac").whole()
        assert len(audio) / 16_000 == pytest.approx(3 * len(order), abs=0.1 * len(order))
        for part in range(len(order)):
            middle = audio[(3 * part + 1) * 16_000 : (3 * part + 2) * 16_000]
            assert np.abs(np.fft.rfft(middle)).argmax() == 440


@pytest.mark.parametrize(
    ("timeline", "frames", "expected"),  # frames of one second at these times; the silence before each
    [
        (Timeline(), [0, 1, 2], [0, 0, 0]),
        (Timeline(duration_s=20), [5, 6, 16], [5, 0, 9]),
        (Timeline(), [0.02, 1.05, 2.09], [0.02, 0, 0]),  # jitter
        (Timeline(), [0, 1.06, 2.12], [0, 0, 0.12]),  # a clock that is slower than the sound's
        (Timeline(), [0, 0.9, 1.8], [0, 0, 0]),  # or faster
        (Timeline(), [0, 1, 0, 1, 5], [0, 0, 0, 0, 3]),  # two files, joined
        (Timeline(start_s=7200), [7200, 7201], [0, 0]),  # joined while it ran
        (Timeline(start_s=1.4, restarts=True), [1.4, 2.4, 5.4], [0, 0, 2]),
        (Timeline(start_s=1.4, restarts=True), [6.4, 7.4, 95_000], [5, 0, 0]),  # its clock was set anew
        (Timeline(duration_s=10), [0, 1, 50_000], [0, 0, 0]),  # damaged
        (Timeline(duration_s=500_000), [0, 1, 400_000], [0, 0, 0]),  # and its header, too
        (Timeline(duration_s=500_000), [50_000, 90_000, 120_000], [50_000, 0, 29_999]),  # a day of silence in all
        (Timeline(), [None, None], [0, 0]),
    ],
)
def test_holes_become_silence(timeline: Timeline, frames: list[float | None], expected: list[float]) -> None:
    position, holes = 0.0, []
    for time in frames:
        holes.append(timeline.hole_s(time, position))
        position += holes[-1] + 1
    assert holes == pytest.approx(expected)


TWO = (Track([(0, tones(1, 300))], "deu"), Track([(0, tones(1, 1000))], "eng", default=True))


@pytest.mark.parametrize(
    ("wanted", "hz"), [(None, 1000), (1, 300), ("2", 1000), ("de", 300), ("ger", 300), ("EN", 1000), ("en-US", 1000)]
)
def test_one_of_several_tracks_is_heard_and_said_to_be(tmp_path: Path, wanted: int | str | None, hz: int) -> None:
    heard = hear(encode(tmp_path / "a.mkv", *TWO), track=wanted)
    assert np.abs(np.fft.rfft(heard.whole()[:16_000])).argmax() == pytest.approx(hz, abs=2)
    assert len(heard.notices) == 1
    assert "of 2" in heard.notices[0]
    assert "1 deu, 2 eng" in heard.notices[0]


def test_tags_in_another_encoding_do_not_keep_a_recording_from_being_heard(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mkv", *TWO)
    path.write_bytes(path.read_bytes().replace(b"deu", b"d\xe9u"))
    heard = hear(path)
    assert len(heard.whole()) > 15_000
    assert "1 d\ufffdu, 2 eng" in heard.notices[0], "and any terminal can print it"


@pytest.mark.parametrize("wanted", [0, 3, "fr", "-1"])
def test_a_track_that_is_not_there_is_said(tmp_path: Path, wanted: int | str) -> None:
    path = encode(tmp_path / "a.mkv", *TWO)
    with pytest.raises(AudioError, match=r"no audio track .*there are: 1 deu, 2 eng"):
        FileSource(path, track=wanted)


def test_languages_are_known_by_all_their_codes() -> None:
    for tag, wanted in [("fre", "fr"), ("fra", "fre"), ("chi", "zh"), ("zho", "zh-TW"), ("spa", "es"), ("ita", "it")]:
        assert choose_track([("eng", True), (tag, False)], wanted, "a.mkv")[0] == 1
    assert choose_track([("eng", False), ("eng", True)], "en", "a.mkv")[0] == 1
    assert choose_track([(None, False)], None, "a.mkv") == (0, None)


def test_no_video_is_taken_for_audio(tmp_path: Path) -> None:
    import av

    with av.open(str(tmp_path / "film.mkv"), "w") as out:
        stream = out.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 64
        for packet in [*stream.encode(av.VideoFrame(64, 64, "yuv420p")), *stream.encode(None)]:
            out.mux(packet)
    with pytest.raises(AudioError, match="no audio track, only video"):
        FileSource(tmp_path / "film.mkv")


def test_channels_that_cancel_are_heard_and_told(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.stack([SOUND, -SOUND], axis=1), 16_000)
    heard = hear(tmp_path / "a.wav")
    assert np.abs(heard.whole()).mean() == pytest.approx(np.abs(SOUND).mean(), rel=0.02)
    assert len(heard.notices) == 1
    assert "cancel each other" in heard.notices[0]


def test_pages_that_are_damaged_are_missed(tmp_path: Path) -> None:
    """FFmpeg passes over them without a word."""
    data = bytearray(encode(tmp_path / "a.ogg", SOUND).read_bytes())
    pages = [at for at in range(len(data)) if data[at : at + 4] == b"OggS"]
    for at in pages[len(pages) // 2 : -1]:
        data[at + 100] ^= 1
    (tmp_path / "a.ogg").write_bytes(data)
    assert "truncated: 6.0 s expected" in str(hear(tmp_path / "a.ogg").error)


def test_a_page_that_is_damaged_is_told(tmp_path: Path) -> None:
    """What comes after it stays where it was."""
    data = bytearray(encode(tmp_path / "a.ogg", SOUND).read_bytes())
    pages = [at for at in range(len(data)) if data[at : at + 4] == b"OggS"]
    data[pages[len(pages) // 2] + 100] ^= 1
    (tmp_path / "a.ogg").write_bytes(data)
    heard = hear(tmp_path / "a.ogg")
    assert len(heard.whole()) / 16_000 == pytest.approx(6.0, abs=0.1)
    (notice,) = heard.notices
    assert re.search(r"a\.ogg: \d\.\d s are missing at \d\.\d s: heard as silence", notice)


def test_more_channels_than_eight_are_heard(tmp_path: Path) -> None:
    """The list of their planes has no end mark: whoever looks for one reads what lies behind it."""
    with av.open(str(tmp_path / "a.ogg"), "w") as out:
        stream: Any = out.add_stream("libopus", rate=48_000, layout="12c", options={"mapping_family": "255"})
        for at in range(0, 48_000, 960):
            sound = np.tile(0.3 * np.sin(2 * np.pi * 440 * np.arange(at, at + 960) / 48_000), (12, 1)).astype(
                np.float32
            )
            frame = av.AudioFrame.from_ndarray(sound.T.reshape(1, -1), "flt", "12c")
            frame.sample_rate, frame.pts = 48_000, at
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    heard = hear(tmp_path / "a.ogg").whole()
    assert np.abs(heard[2_000:14_000]).max() == pytest.approx(0.3, abs=0.02)


def test_a_header_that_cannot_be_true_is_no_audio(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tones(1), 16_000)
    data = bytearray((tmp_path / "a.wav").read_bytes())
    struct.pack_into("<H", data, 22, 65_535)  # channels
    (tmp_path / "a.wav").write_bytes(data)
    with pytest.raises(AudioError, match="not audio"):
        FileSource(tmp_path / "a.wav")


def test_a_tag_that_is_no_time_is_no_promise(tmp_path: Path) -> None:
    data = encode(tmp_path / "a.mka", tones(1)).read_bytes()
    assert b"00:00:01." in data
    (tmp_path / "a.mka").write_bytes(data.replace(b"00:00:01.", b"00:00:0x."))
    assert sounding(hear(tmp_path / "a.mka").whole())


@pytest.mark.parametrize("kind", CONTAINERS)
def test_damage_of_any_kind_is_sound_or_an_error_that_says_so(tmp_path: Path, kind: str) -> None:
    """Nothing else comes out of it, whatever a decoder makes of it."""
    whole, rng = encode(tmp_path / f"a.{kind}", tones(1)).read_bytes(), np.random.default_rng(7)
    for attempt in range(30):
        data = bytearray(whole[: rng.integers(1, len(whole))] if attempt % 3 == 0 else whole)
        for place in rng.integers(0, min(len(data), rng.choice([60, 400, len(data)])), 6):
            data[place] = rng.choice([0, 127, 128, 255, rng.integers(256)])
        (tmp_path / f"b.{kind}").write_bytes(data)
        with contextlib.suppress(AudioError):
            heard = hear(tmp_path / f"b.{kind}").audio
            assert np.abs(heard).max(initial=0.0) <= 2.0  # a filter may overshoot; NaN is not less
