"""Listening, with a scripted sound system and a scripted engine, in its real thread."""

import http.server
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from soundsystem import SILENCE, Listener, PortAudioError, SoundSystem, live, say

import tui.lag
import tui.live
from scripted import LoudnessVad, ScriptedModel, tone
from stt.audio import Samples
from stt.engines import OpenedEngine
from stt.errors import DeviceError, EngineError
from stt.events import TranscriptChanged, TurnCompleted
from stt.settings import EngineSettings, TurnSettings
from stt.sources import Level, Microphone, find_device, input_devices
from tui import updates
from tui.devices import Devices
from tui.document import Heard, StretchBegan
from tui.live import Live, Plan


@pytest.fixture
def sound(monkeypatch: pytest.MonkeyPatch) -> SoundSystem:
    system = SoundSystem()
    monkeypatch.setitem(sys.modules, "sounddevice", system)
    monkeypatch.setattr(tui.live, "SileroVad", LoudnessVad)
    monkeypatch.setattr(tui.live, "_RETRY_S", 0.05)
    return system


# devices


def test_devices_are_listed_and_found(sound: SoundSystem):
    devices = input_devices()
    assert [(d.index, d.name, d.rate, d.is_default) for d in devices] == [
        (1, "Studio Mic", 48_000, True),
        (2, "Headset", 16_000, False),
    ]
    for wanted, index in ((None, 1), ("head", 2), ("2", 2), (1, 1), ("Studio Mic", 1)):
        assert find_device(wanted, devices).index == index
    with pytest.raises(DeviceError, match="no microphone 'usb'; there are: 1 Studio Mic, 2 Headset"):
        find_device("usb", devices)
    with pytest.raises(DeviceError, match="several microphones fit 'd': 1 Studio Mic, 2 Headset; give the number"):
        find_device("d", devices)
    sound.default = "gone"
    assert find_device(None, input_devices()).name == "Studio Mic"
    sound.seen = []
    with pytest.raises(DeviceError, match="no microphone found"):
        find_device(None, input_devices())


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError("PortAudio library not found"), "on Debian: apt-get install libportaudio2"),
        (type("PortAudioError", (Exception,), {})("Error initializing PortAudio: x"), "does not start"),
    ],
)
def test_no_portaudio(error: Exception, message: str, monkeypatch: pytest.MonkeyPatch):
    class Finder:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "sounddevice":
                raise error

    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    with pytest.raises(DeviceError, match=message):
        input_devices()


def test_a_busy_device_says_so(sound: SoundSystem):
    sound.refuse["Studio Mic"] = PortAudioError("Error opening InputStream: Device unavailable", -9985)
    with pytest.raises(
        DeviceError, match=r"cannot open 'Studio Mic': Device unavailable \(is another program using it"
    ):
        Microphone()


def test_a_device_that_refuses_its_own_rate_is_asked_for_another(sound: SoundSystem):
    sound.refuse["Studio Mic"] = PortAudioError("Invalid sample rate", -9997, 48_000)
    with Microphone() as microphone:
        assert microphone.rate == 44_100


async def test_any_rate_and_channel_count_come_out_as_16_khz_mono(sound: SoundSystem):
    with Microphone() as microphone:
        stream = sound.opened.get(timeout=5)
        assert (stream.rate, stream.channels) == (48_000, 2)
        stream.speak(tone(1.0))
        microphone.close()
        heard = np.concatenate([piece async for piece in microphone])
    assert len(heard) == pytest.approx(16_000, abs=20)
    assert np.abs(heard[1000:-1000] - 0.5).max() < 0.01


async def test_overruns_are_counted_and_memory_is_bounded(sound: SoundSystem, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Microphone, "_QUEUE_S", 1.0)
    with Microphone() as microphone:
        stream = sound.opened.get(timeout=5)
        stream.speak(tone(1.5))  # nobody takes it
        assert microphone.overruns == 25
        assert microphone.backlog_s == pytest.approx(1.0)
        stream.speak(SILENCE[:320], status="input overflow")
        assert microphone.overruns == 27  # what PortAudio lost, and what found no place


async def test_a_device_that_is_gone_or_falls_silent_is_told_after_what_it_heard(
    sound: SoundSystem, monkeypatch: pytest.MonkeyPatch
):
    async def heard(microphone: Microphone) -> AsyncIterator[int]:
        async for piece in microphone:
            yield len(piece)

    with Microphone() as microphone:
        stream = sound.opened.get(timeout=5)
        stream.speak(tone(0.5))
        stream.vanish()
        sizes = []
        with pytest.raises(DeviceError, match=r"'Studio Mic' is gone \(unplugged\?\)"):
            async for size in heard(microphone):
                sizes.append(size)
        assert sum(sizes) == pytest.approx(8000, abs=20)
    monkeypatch.setattr(Microphone, "_STALLED_S", 0.05)
    with Microphone() as microphone:
        sound.opened.get(timeout=5).speak(SILENCE)
        with pytest.raises(DeviceError, match="sends no sound any more"):
            async for _ in heard(microphone):
                pass


def test_levels_of_all_devices_but_the_one_in_use(sound: SoundSystem):
    sound.devices.append(sound.device("Webcam"))
    sound.refuse["Webcam"] = PortAudioError("Device unavailable", -9985)
    looked = threading.Event()
    looked.set()
    devices = Devices(lambda: looked, lambda: ("Studio Mic", 0.25))
    input_devices(rescan=True)
    devices.open()
    headset = sound.opened.get(timeout=5)
    assert headset.name == "Headset"
    headset.speak(tone(0.1))
    for _ in range(1000):
        rows = devices.rows or []
        if rows and rows[-1].problem:
            break
        threading.Event().wait(0.01)
    assert [(row.name, round(row.peak, 2), row.problem) for row in rows] == [
        ("Studio Mic", 0.25, ""),
        ("Headset", 0.5, ""),
        ("Webcam", 0.0, "Device unavailable"),
    ]
    closed = threading.Event()
    devices.close(closed.set)
    assert closed.wait(5)
    assert not headset.is_open


def test_level_of_a_device_that_refuses(sound: SoundSystem):
    sound.refuse["Headset"] = PortAudioError("Device unavailable", -9985)
    with pytest.raises(DeviceError, match="Device unavailable"):
        Level(input_devices()[1])


# listening


def test_speech_becomes_turns(sound: SoundSystem):
    with live() as (_, told):
        stream = sound.opened.get(timeout=5)
        say(stream)
        told.final("hello there")
        say(stream)
        told.wait(Heard, count=2, fits=lambda heard: isinstance(heard.event, TurnCompleted))
        assert told.wait(updates.InputOpen) == updates.InputOpen("Studio Mic", 48_000)
        assert told.wait(updates.Metered, fits=lambda m: m.peak > 0.4).probabilities[0] == 1.0
        assert told.wait(updates.Lagged, fits=lambda lagged: lagged.final).lag_s >= 0
    assert not stream.is_open
    assert [block.text for block in told.document.finals] == ["hello there"] * 2


def test_what_is_said_while_the_engine_loads_is_not_lost(sound: SoundSystem):
    loaded = threading.Event()
    model = ScriptedModel(lambda utterance: "early words")

    def open_slowly(_: Any) -> OpenedEngine:
        assert loaded.wait(10)
        return OpenedEngine(model, "asked for")

    with live(open_engine=open_slowly) as (_, told):
        say(sound.opened.get(timeout=5))
        told.wait(updates.EngineLoading)
        told.wait(Heard)  # the turn has begun on the screen
        assert not any(isinstance(update, updates.EngineReady) for update in told.told)
        loaded.set()
        told.final("early words")


def test_interims_come_while_the_model_for_what_stands_still_loads(sound: SoundSystem):
    loaded = threading.Event()

    def open_slowly(_: Any) -> OpenedEngine:
        assert loaded.wait(10)
        return OpenedEngine(ScriptedModel(lambda utterance: "the last word"), "asked for")

    plan = Plan(EngineSettings(model="slow", interim_model="quick"))
    quick = ScriptedModel(lambda utterance: "first words")
    with live(plan, open_engine=open_slowly, open_interims=lambda _: quick) as (_, told):
        say(sound.opened.get(timeout=5))

        def is_shown(heard: Heard) -> bool:
            return isinstance(heard.event, TranscriptChanged) and heard.event.text == "first words"

        told.wait(Heard, fits=is_shown)
        assert not any(isinstance(update, updates.EngineReady) for update in told.told)
        loaded.set()
        told.final("the last word")
        assert told.wait(updates.EngineReady).name == "scripted, interims by scripted"


def is_mended(listening: Live, told: Listener, sound: SoundSystem, failure: str) -> None:
    """The first engine failed and said why; who asks again is heard by the second, which says "at last"."""
    assert told.wait(updates.EngineFailed).message == failure
    told.wait(updates.InputPaused)
    while not sound.opened.empty():
        sound.opened.get()
    listening.listen(on=True)
    told.wait(updates.EngineReady)
    say(sound.opened.get(timeout=5))
    told.final("at last")


@pytest.mark.parametrize("broken", ["finals", "interims"])
def test_a_pair_of_which_one_cannot_be_opened_is_tried_again(sound: SoundSystem, broken: str):
    failed: list[str] = []

    def opens(which: str) -> ScriptedModel:
        if which == broken and not failed:
            failed.append(which)
            raise EngineError(f"no weights for {which}")
        return ScriptedModel(lambda utterance: "at last")

    plan = Plan(EngineSettings(model="slow", interim_model="quick"))
    openers = {
        "open_engine": lambda _: OpenedEngine(opens("finals"), "asked for"),
        "open_interims": lambda _: opens("interims"),
    }
    with live(plan, **openers) as (listening, told):
        is_mended(listening, told, sound, f"no weights for {broken}")


def test_quitting_does_not_wait_for_an_engine_that_loads(sound: SoundSystem):
    forever = threading.Event()

    def never(_: Any) -> OpenedEngine:
        forever.wait(30)
        raise EngineError("too late")

    with live(open_engine=never) as (_, told):
        sound.opened.get(timeout=5).speak(tone(1.0))
        told.wait(Heard)
    forever.set()


def test_pausing_ends_the_turn_closes_the_device_and_resuming_opens_it(sound: SoundSystem):
    with live() as (listening, told):
        stream = sound.opened.get(timeout=5)
        stream.speak(tone(1.0))
        told.wait(Heard)
        listening.listen(on=False)
        told.final("hello there")
        told.wait(updates.InputPaused)
        assert not stream.is_open
        listening.listen(on=True)
        say(sound.opened.get(timeout=5))
        told.wait(StretchBegan, count=2)
        told.wait(Heard, count=2, fits=lambda heard: isinstance(heard.event, TurnCompleted))
    blocks = told.document.finals
    assert [block.key for block in blocks] == [(0, 0), (1, 0)]
    assert blocks[0].end <= blocks[1].start


def test_the_lost_device_keeps_the_text_and_is_taken_again_when_it_is_back(sound: SoundSystem):
    with live() as (_, told):
        stream = sound.opened.get(timeout=5)
        stream.speak(tone(1.0))
        told.wait(Heard)
        unplugged = sound.devices.pop(1), sound.devices.pop(1)
        stream.vanish()
        told.final("hello there")
        lost = told.wait(updates.InputLost)
        assert "'Studio Mic' is gone" in lost.message
        assert lost.ever_open
        told.wait(updates.InputLost, fits=lambda lost: "no microphone found" in lost.message)
        sound.devices += unplugged
        say(sound.opened.get(timeout=5))
        told.wait(updates.InputOpen, count=2)
        told.wait(Heard, count=2, fits=lambda heard: isinstance(heard.event, TurnCompleted))


def test_a_device_plugged_in_after_the_start_is_found(sound: SoundSystem):
    sound.devices, sound.seen = [], []
    with live() as (_, told):
        assert not told.wait(updates.InputLost).ever_open
        sound.devices.append(sound.device("Headset"))
        sound.default = "Headset"
        say(sound.opened.get(timeout=5))
        told.final("hello there")


def test_another_device_is_used_when_chosen(sound: SoundSystem):
    with live() as (listening, told):
        first = sound.opened.get(timeout=5)
        listening.use(2)
        second = sound.opened.get(timeout=5)
        assert (second.name, first.is_open) == ("Headset", False)
        say(second)
        told.final("hello there")


def test_looking_for_devices_interrupts_listening_and_goes_on(sound: SoundSystem):
    with live() as (listening, _):
        sound.opened.get(timeout=5)
        assert listening.look_for_devices().wait(5)
        assert sound.starts == 1
        assert sound.opened.get(timeout=5).name == "Studio Mic"


def test_an_engine_that_cannot_be_opened_is_tried_again(sound: SoundSystem):
    model, tries = ScriptedModel(lambda utterance: "at last"), []

    def open_late(_: Any) -> OpenedEngine:
        tries.append(1)
        if len(tries) == 1:
            raise EngineError("no weights; do this")
        return OpenedEngine(model, "asked for")

    with live(open_engine=open_late) as (listening, told):
        is_mended(listening, told, sound, "no weights; do this")


def test_a_language_the_engine_does_not_know(sound: SoundSystem):
    with live(Plan(language="de")) as (_, told):
        assert "knows en, got 'de'" in told.wait(updates.EngineFailed).message


def test_recording_holds_what_was_heard_meanwhile(sound: SoundSystem, tmp_path: Path):
    with live(Plan(device="Headset")) as (listening, told):
        stream = sound.opened.get(timeout=5)
        stream.speak(tone(0.5))
        told.wait(updates.Metered)
        listening.record(str(tmp_path / "a.wav"))
        told.wait(updates.RecordingChanged)
        say(stream)
        told.final("hello there")
        listening.record(None)
        told.wait(updates.RecordingChanged, count=2)
        listening.record(str(tmp_path / "a.wav"))
        assert "File exists" in told.wait(updates.RecordingChanged, count=3).failure
    audio, _ = soundfile.read(tmp_path / "a.wav")
    assert 2.4 * 16_000 <= len(audio) <= 4.1 * 16_000  # the turn, and the silence that ended it


@pytest.fixture
def unpaced(monkeypatch: pytest.MonkeyPatch) -> None:
    async def at_once(pieces: AsyncIterator[Samples], piece_s: float) -> AsyncIterator[Samples]:
        async for piece in pieces:
            assert len(piece) <= round(piece_s * 16_000)
            yield piece

    monkeypatch.setattr(tui.live, "paced", at_once)


@pytest.mark.usefixtures("unpaced")
def test_a_file_plays_as_the_microphone_and_ends(sound: SoundSystem, tmp_path: Path):
    turn = np.concatenate((tone(1.0), np.zeros(40_000, np.float32)))
    soundfile.write(tmp_path / "talk.wav", np.concatenate((turn, turn, tone(0.5))), 16_000)
    with live(Plan(file=str(tmp_path / "talk.wav"))) as (_, told):
        told.wait(updates.InputEnded)
        assert [block.text for block in told.document.finals] == ["hello there"] * 3
        assert told.wait(updates.InputOpen).name == "talk.wav"
    assert sound.streams == []


@pytest.mark.usefixtures("unpaced", "sound")
def test_what_a_listener_should_know_of_a_file_is_told(tmp_path: Path):
    turn = np.concatenate((tone(1.0), np.zeros(40_000, np.float32)))
    soundfile.write(tmp_path / "talk.wav", np.stack((turn, -turn), axis=1), 16_000)
    with live(Plan(file=str(tmp_path / "talk.wav"))) as (_, told):
        told.wait(updates.InputEnded)
        assert "channels cancel each other" in told.wait(updates.Noticed).text


@pytest.mark.usefixtures("unpaced", "sound")
def test_a_file_goes_on_where_it_was_paused(tmp_path: Path):
    model = ScriptedModel(lambda utterance: f"{len(utterance.audio)}")
    soundfile.write(tmp_path / "talk.wav", np.concatenate([tone(1.0), np.zeros(40_000, np.float32)] * 20), 16_000)
    with live(Plan(file=str(tmp_path / "talk.wav"), turns=TurnSettings(interim_s=None)), model) as (listening, told):
        told.wait(Heard, fits=lambda heard: isinstance(heard.event, TurnCompleted))
        listening.listen(on=False)
        told.wait(updates.InputPaused)
        listening.listen(on=True)
        told.wait(updates.InputEnded)
    assert told.document.end == pytest.approx(16_000 * 69.5 - 24_000 + 8_000, abs=25_000)
    assert 20 <= len(told.document.finals) <= 21  # one may be cut in two by the pause


@pytest.mark.usefixtures("unpaced", "sound")
def test_a_file_that_cannot_be_read(tmp_path: Path):
    (tmp_path / "talk.wav").write_text("not audio")
    with live(Plan(file=str(tmp_path / "talk.wav"))) as (_, told):
        lost = told.wait(updates.InputLost)
        assert lost.what == "file"
        assert "not audio in a format known here" in lost.message


def test_no_server_is_told_and_tried_again(sound: SoundSystem, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tui.live, "_MOST_RETRY_S", 0.05)
    with live(Plan(server="ws://127.0.0.1:9")) as (_, told):
        lost = told.wait(updates.InputLost, count=2)
        assert lost.what == "server"
        assert "cannot connect to ws://127.0.0.1:9" in lost.message
        assert not any(isinstance(update, StretchBegan) for update in told.told)
    assert not [stream for stream in sound.streams if stream.is_open]


@pytest.fixture
def strict_server() -> Iterator[tuple[str, list[str]]]:
    """A server that knows no key; its address, and the keys it was shown."""
    shown: list[str] = []

    class Refusing(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            shown.append(self.headers["Authorization"])
            body = b'{"error": "unknown key"}'
            self.send_response(401)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *_: Any) -> None: ...  # noqa: A002 - its name there

    with http.server.HTTPServer(("127.0.0.1", 0), Refusing) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.01,))
        serving.start()
        yield f"ws://127.0.0.1:{server.server_port}", shown
        server.shutdown()
        serving.join()


def test_a_wrong_key_is_told_and_tried_again_only_when_asked(
    sound: SoundSystem, strict_server: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tui.live, "_MOST_RETRY_S", 0.01)
    url, shown = strict_server
    with live(Plan(server=url, api_key="wrong")) as (listening, told):
        lost = told.wait(updates.InputLost)
        assert (lost.what, lost.again) == ("server", False)
        assert "unknown key" in lost.message
        told.wait(updates.InputPaused)  # it rests
        assert shown == ["Bearer wrong"]
        listening.listen(on=True)
        told.wait(updates.InputLost, count=2)
    assert shown == ["Bearer wrong"] * 2
    assert not [stream for stream in sound.streams if stream.is_open]


def test_an_engine_that_is_behind_is_told_as_it_falls_back(sound: SoundSystem, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tui.live, "_LOOK_S", 0.01)
    monkeypatch.setattr(tui.lag, "_GRACE_S", 0.01)
    go_on = threading.Event()

    def slow(_: Any) -> str:
        assert go_on.wait(10)
        return "at last"

    with live(model=ScriptedModel(slow)) as (_, told):
        say(sound.opened.get(timeout=5))
        first = told.wait(updates.Late).by
        told.wait(updates.Late, fits=lambda late: late.by is not None and late.by.lag_s > first.lag_s)
        go_on.set()
        told.final("at last")
        told.wait(updates.Late, fits=lambda late: late.by is None)
