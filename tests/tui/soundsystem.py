"""A sound system without sound, and what listening tells: for the tests of `tui.live`."""

import queue
import threading
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from scripted import ScriptedModel, tone
from stt.audio import Samples
from stt.engines import OpenedEngine
from stt.events import TurnCompleted
from tui import updates
from tui.document import Document, Heard, StretchBegan
from tui.live import Live, Plan

SILENCE = np.zeros(1600, np.float32)


class PortAudioError(Exception):
    pass


class SoundSystem(types.ModuleType):
    """For the module `sounddevice`: devices that come, go, refuse, and speak when told."""

    PortAudioError = PortAudioError

    def __init__(self) -> None:
        super().__init__("sounddevice")
        self.devices = [
            self.device("Speakers", inputs=0),
            self.device("Studio Mic"),
            self.device("Headset", rate=16_000),
        ]
        self.seen = list(self.devices)  # as PortAudio saw them when it was started
        self.default = "Studio Mic"
        self.refuse: dict[str, PortAudioError] = {}
        self.streams: list[Stream] = []
        self.opened: queue.Queue[Stream] = queue.Queue()
        self.starts = 0

    @staticmethod
    def device(name: str, *, rate: int = 48_000, inputs: int = 2) -> dict[str, Any]:
        return {"name": name, "hostapi": 0, "max_input_channels": inputs, "default_samplerate": float(rate)}

    def query_devices(self, kind: str | None = None) -> Any:
        found = [device | {"index": i} for i, device in enumerate(self.seen)]
        if kind is None:
            return found
        default = next((device for device in found if device["name"] == self.default), None)
        if default is None:
            raise PortAudioError("Error querying device -1")
        return default

    def query_hostapis(self) -> Any:
        return [{"name": "ALSA"}]

    def _terminate(self) -> None:
        assert not [stream for stream in self.streams if stream.is_open], "PortAudio shut down under an open stream"

    def _initialize(self) -> None:
        self.seen = list(self.devices)
        self.starts += 1

    def InputStream(self, **options: Any) -> "Stream":  # noqa: N802 - sounddevice's name
        return Stream(self, **options)


class Stream:
    def __init__(self, system: SoundSystem, **options: Any) -> None:
        self.name = system.seen[options["device"]]["name"]
        self.rate, self.channels = options["samplerate"], options["channels"]
        self._callback, self._finished = options["callback"], options.get("finished_callback")
        error = system.refuse.get(self.name)
        if error is not None and (len(error.args) < 3 or error.args[2] == self.rate):
            raise error
        self.is_open = True
        system.streams.append(self)
        self._system = system

    def start(self) -> None:
        self._system.opened.put(self)

    def speak(self, audio: Samples, *, status: object = None) -> None:
        """Call back as PortAudio does, with blocks of 20 ms of its own rate and channels."""
        import soxr

        audio = np.asarray(soxr.resample(audio, 16_000, self.rate), np.float32)
        size = self.rate // 50
        for at in range(0, len(audio) - size + 1, size):
            block = np.repeat(audio[at : at + size, None], self.channels, axis=1)
            self._callback(block, size, None, status)

    def vanish(self) -> None:
        self._finished()

    def close(self) -> None:
        assert self.is_open, "closed twice"
        self.is_open = False
        if self._finished:
            self._finished()


class Listener:
    """What `Live` told, to be waited for."""

    def __init__(self) -> None:
        self.told: list[updates.Update] = []
        self._news = threading.Condition()

    def __call__(self, update: updates.Update) -> None:
        with self._news:
            self.told.append(update)
            self._news.notify_all()

    def wait(self, kind: type, *, count: int = 1, fits: Callable[[Any], bool] = lambda _: True) -> Any:
        def found() -> Any:
            return [update for update in self.told if isinstance(update, kind) and fits(update)]

        with self._news:
            assert self._news.wait_for(lambda: len(found()) >= count, 10), f"no {kind.__name__} in {self.told}"
            return found()[count - 1]

    def final(self, text: str) -> Any:
        return self.wait(Heard, fits=lambda heard: isinstance(heard.event, TurnCompleted) and heard.event.text == text)

    @property
    def document(self) -> Document:
        document = Document()
        for update in self.told:
            if isinstance(update, Heard | StretchBegan):
                document.apply(update)
        return document


@contextmanager
def live(plan: Plan | None = None, model: Any = None, **more: Any) -> Iterator[tuple[Live, Listener]]:
    scripted = model or ScriptedModel(lambda utterance: "hello there")
    more.setdefault("open_engine", lambda _: OpenedEngine(scripted, "asked for"))
    listening, told = Live(plan or Plan(), **more), Listener()
    listening.start(told)
    try:
        yield listening, told
    finally:
        listening.close()
        assert listening.join(10)
        assert told.told[-1] == updates.Closed()


def say(stream: Stream) -> None:
    """One turn, with the silence that ends it."""
    stream.speak(np.concatenate((tone(1.0), np.zeros(40_000, np.float32))))
