"""Files and pipes as sources."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import IO, Self

from stt.audio import Samples, seconds
from stt.errors import AudioError
from stt.sources.decoding import Audio, RawPcm, open_audio
from stt.sources.inputs import STDIN, Pipe, Stored, open_input, printable


class FileSource:
    """An audio file, or standard input (`-`), read as a stream: memory does not grow with its length.

    Whatever FFmpeg or libsndfile reads. From a pipe, WAV, OGG and raw PCM are heard as they arrive; other formats,
    which need to be searched back and forth, are first copied to a temporary file. Use as a context manager, iterate
    once.

    One thread owns the decoder from its opening to its closing, and what waits for a pipe is woken: closing or
    cancelling is safe and prompt at any time, from any thread.

    Args:
        path: of a file, a FIFO, a device; `-`: standard input. Or an open file that can be searched, which is closed
            with this source.
        raw: it has no header.
        track: of several audio tracks the one with this number (from 1) or language; `None`: the default one.
        channel: the one to hear, from 0; `None`: all, mixed.
        notice: is called with lines that a person should read: which of several tracks is heard, say.

    Raises:
        AudioError: on opening, the file is missing, empty, not audio ...; while iterating, after the last good piece,
            the file is truncated or damaged. A pipe is opened by iterating.

    """

    def __init__(
        self,
        path: str | os.PathLike[str] | IO[bytes],
        raw: RawPcm | None = None,
        *,
        track: int | str | None = None,
        channel: int | None = None,
        notice: Callable[[str], object] | None = None,
    ) -> None:
        opened = not isinstance(path, str | os.PathLike)
        self.name = "the file" if opened else "standard input" if path == STDIN else printable(path)
        self.position_s = 0.0
        """Audio handed out so far."""
        self.duration_s: float | None = None
        """`None` where the header does not say."""
        self._raw, self._track, self._channel, self._notice = raw, track, channel, notice
        self._audio: Audio | None = None
        self._closed = False
        self._input = Stored(path) if opened else open_input(path)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="audio")
        self._pieces = self._decoded()
        if not isinstance(self._input, Pipe):
            try:
                self._thread.submit(self._open).result()
                self._tell()
            except BaseException:
                self.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file; an iteration that is under way ends."""
        if self._closed:
            return
        self._closed = True
        self._input.interrupt()
        self._thread.submit(self._release)  # after the read that runs, in its thread
        self._thread.shutdown()

    async def __aiter__(self) -> AsyncIterator[Samples]:
        loop = asyncio.get_running_loop()
        while not self._closed:
            try:
                piece = await loop.run_in_executor(self._thread, next, self._pieces, None)
            except AudioError:
                if self._closed:  # and that is all that was wrong
                    break
                self._tell()
                raise
            self._tell()
            if piece is None or self._closed:
                break
            self.position_s += seconds(len(piece))
            yield piece

    @property
    def channels(self) -> int:
        """How many the audio has; of a pipe only once it is read."""
        return self._audio.channels if self._audio is not None else 1

    def _open(self) -> Audio:
        self._audio = open_audio(self._input, self.name, self._raw, self._track, self._channel)
        self.duration_s = self._audio.duration_s
        return self._audio

    def _decoded(self) -> Generator[Samples]:
        yield from self._audio or self._open()

    def _release(self) -> None:
        self._pieces.close()
        if self._audio is not None:
            self._audio.close()
        self._input.close()

    def _tell(self) -> None:
        """Pass notes on, in the thread that reads."""
        while self._audio is not None and self._audio.notes:
            line = self._audio.notes.pop(0)
            if self._notice is not None:
                self._notice(line)
