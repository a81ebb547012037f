"""Microphones, through PortAudio."""

import asyncio
import os
import queue
import re
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np

from stt.audio import SAMPLE_RATE, Resampler, Samples
from stt.errors import DeviceError


@dataclass(frozen=True, slots=True)
class InputDevice:
    """A microphone as PortAudio lists it."""

    index: int
    name: str
    api: str
    """The system's sound interface it is reached by: ALSA, Core Audio ..."""
    channels: int
    rate: int
    is_default: bool


# PortAudio may be called from several threads, but not to open, close or list at the same time.
_PORTAUDIO: Final = threading.Lock()


def input_devices(*, rescan: bool = False) -> list[InputDevice]:
    """List the microphones.

    Args:
        rescan: look again. PortAudio looks once, when it is first used; what was plugged in later is found only after
            it has been shut down and started, which ends every open stream: close them before.

    Raises:
        DeviceError: PortAudio is not installed or does not start.

    """
    sounddevice = import_sounddevice()
    with _PORTAUDIO:
        try:
            if rescan:
                sounddevice._terminate()  # noqa: SLF001 - the documented way (sounddevice issue 16); there is no other
                sounddevice._initialize()  # noqa: SLF001
            devices: Any = [device for device in sounddevice.query_devices() if device["max_input_channels"] > 0]
            apis: Any = sounddevice.query_hostapis()
        except sounddevice.PortAudioError as error:
            msg = f"the sound system does not answer ({_portaudio(error)})"
            raise DeviceError(msg) from error
        try:
            default = sounddevice.query_devices(kind="input")["index"]
        except (ValueError, sounddevice.PortAudioError):  # there is none
            default = None
    return [
        InputDevice(
            index=device["index"],
            name=device["name"],
            api=apis[device["hostapi"]]["name"],
            channels=device["max_input_channels"],
            rate=round(device["default_samplerate"]),
            is_default=device["index"] == default,
        )
        for device in devices
    ]


def find_device(wanted: int | str | None, devices: list[InputDevice]) -> InputDevice:
    """Choose by index, by name or a part of it (case does not matter), or the system's default (`None`).

    Raises:
        DeviceError: no device fits, or a part of a name fits several.

    """
    if not devices:
        raise DeviceError("no microphone found" + _unreadable())
    listed = ", ".join(f"{device.index} {device.name}" for device in devices)
    if wanted is None:
        found = [device for device in devices if device.is_default] or devices[:1]
    elif isinstance(wanted, int) or wanted.isdecimal():
        found = [device for device in devices if device.index == int(wanted)]
    else:
        found = [device for device in devices if device.name == wanted] or [
            device for device in devices if wanted.casefold() in device.name.casefold()
        ]
    if not found:
        msg = f"no microphone {wanted!r}; there are: {listed}"
        raise DeviceError(msg)
    if len(found) > 1:
        msg = f"several microphones fit {wanted!r}: {', '.join(f'{d.index} {d.name}' for d in found)}; give the number"
        raise DeviceError(msg)
    return found[0]


class Microphone:
    """A live input device. Use as a context manager, iterate once; it goes on until it is closed or fails.

    `overruns` counts the blocks that were lost because nobody took them in time: with the bounded queue between the
    audio thread and the session, a slow engine costs a bounded delay and then counted gaps, never memory.

    Raises:
        DeviceError: PortAudio is missing, there is no such device, it is busy, or (while iterating) it is gone or no
            longer sends sound.

    """

    _QUEUE_S: Final = 30.0
    _BLOCK_S: Final = 0.02
    _STALLED_S: Final = 2.0  # a device that is suspended, or pulled out of a sound server, may just stop to send

    def __init__(self, device: int | str | None = None) -> None:
        found = find_device(device, input_devices())
        self.name = found.name
        self.channels = min(2, found.channels)
        self.overruns = 0
        self._blocks: queue.Queue[np.ndarray | None] = queue.Queue(round(self._QUEUE_S / self._BLOCK_S))
        self._closed = False
        sounddevice = import_sounddevice()
        # The device's own rate first; some name one that they then refuse.
        rates = list(dict.fromkeys((found.rate, 48_000, 44_100, SAMPLE_RATE)))
        for self.rate in rates:
            try:
                with _PORTAUDIO:
                    self._stream: Any = sounddevice.InputStream(
                        samplerate=self.rate,
                        device=found.index,
                        channels=self.channels,
                        dtype="float32",
                        blocksize=round(self._BLOCK_S * self.rate),
                        callback=self._heard,
                        finished_callback=self._ended,
                    )
                    self._stream.start()
                break
            except sounddevice.PortAudioError as error:
                if _code(error) == _INVALID_RATE and self.rate != rates[-1]:
                    continue
                busy = " (is another program using it?)" if _code(error) in _BUSY else ""
                msg = f"cannot open {self.name!r}: {_portaudio(error)}{busy}"
                raise DeviceError(msg) from error
        self._resampler = Resampler(self.rate, self.channels)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop recording; the iteration ends with what was heard until now. Any thread may call it, more than once."""
        with _PORTAUDIO:
            if self._closed:
                return  # PortAudio has freed the stream
            self._closed = True
            self._stream.close()
        self._ended()

    @property
    def backlog_s(self) -> float:
        """Sound that was recorded and not yet taken."""
        return self._blocks.qsize() * self._BLOCK_S

    async def __aiter__(self) -> AsyncIterator[Samples]:
        failure: DeviceError | None = None
        while True:
            try:
                block = await asyncio.to_thread(self._blocks.get, timeout=self._STALLED_S)
            except queue.Empty:
                failure = DeviceError(f"{self.name!r} sends no sound any more (suspended, or unplugged?)")
                break
            if block is None:
                if not self._closed:
                    failure = DeviceError(f"{self.name!r} is gone (unplugged?)")
                break
            yield self._resampler.feed(block)
        yield self._resampler.finish()
        if failure is not None:
            raise failure

    def _heard(self, data: np.ndarray, frames: int, when: Any, status: Any) -> None:  # noqa: ARG002 - PortAudio's
        """Runs on the audio thread: hand over and return."""
        if status:
            self.overruns += 1
        try:
            self._blocks.put_nowait(data.copy())
        except queue.Full:
            self.overruns += 1

    def _ended(self) -> None:
        while True:
            try:
                self._blocks.put_nowait(None)
                break
            except queue.Full:
                self._blocks.get_nowait()


class Level:
    """What a device hears just now, for choosing one: `peak`, the largest absolute sample of the latest block.

    Raises:
        DeviceError: it cannot be opened.

    """

    def __init__(self, device: InputDevice) -> None:
        sounddevice = import_sounddevice()
        self.peak = 0.0
        try:
            with _PORTAUDIO:
                self._stream: Any = sounddevice.InputStream(
                    samplerate=device.rate, device=device.index, channels=1, dtype="float32", callback=self._heard
                )
                self._stream.start()
        except sounddevice.PortAudioError as error:
            raise DeviceError(_portaudio(error)) from error

    def close(self) -> None:
        """Let go of the device."""
        with _PORTAUDIO:
            self._stream.close()

    def _heard(self, data: np.ndarray, frames: int, when: Any, status: Any) -> None:  # noqa: ARG002 - PortAudio's
        self.peak = float(np.abs(data).max())


# pa_error codes of portaudio.h
_INVALID_RATE: Final = -9997
_BUSY: Final = (-9985, -9999)  # device unavailable; unanticipated host error (ALSA's "device or resource busy")


def _code(error: Exception) -> int | None:
    return error.args[1] if len(error.args) > 1 and isinstance(error.args[1], int) else None


def _portaudio(error: Exception) -> str:
    """Say what PortAudio said, without its own prefix and numbers."""
    text = str(error.args[0]) if error.args else str(error)
    return re.sub(r"^Error (opening|starting) \w+: ", "", text).strip()


def _unreadable() -> str:
    """Tell whether Linux has sound devices that this user may not open."""
    nodes = list(Path("/dev/snd").glob("pcm*c"))
    if nodes and not any(os.access(node, os.R_OK | os.W_OK) for node in nodes):
        return " (there is one, but no permission to open /dev/snd; `sudo usermod -aG audio $USER`, then log in again)"
    return ""


def import_sounddevice() -> Any:
    """Import sounddevice, or say how to install the PortAudio library that it needs.

    Raises:
        DeviceError: PortAudio is not installed, or fails to start.

    """
    try:
        import sounddevice
    except OSError as error:
        msg = f"microphones need the PortAudio library ({error}); on Debian: apt-get install libportaudio2"
        raise DeviceError(msg) from error
    except Exception as error:  # sounddevice starts PortAudio as it is imported; its error class is then out of reach
        if type(error).__name__ != "PortAudioError":
            raise
        msg = f"the sound system does not start ({_portaudio(error)})"
        raise DeviceError(msg) from error
    return sounddevice
