"""`stt file`: recordings to text."""

import asyncio
import glob
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, Final

import numpy as np

from stt.audio import Samples, samples, seconds
from stt.commands.advice import once
from stt.commands.destinations import Destination, Output, destinations
from stt.endofturn import prepare
from stt.errors import AudioError, EngineError, OutputError, SettingsError
from stt.events import Event, RecognitionFailed, TurnCompleted
from stt.outputs import Writer
from stt.recognition import LocalRecognizer, RecognitionOptions, Utterance
from stt.session import AudioSource, Session, Sink
from stt.settings import EngineSettings, TurnSettings
from stt.sources import STDIN, FileSource, RawPcm, check_input, printable
from stt.transcript import Transcript
from stt.turns import Window
from stt.vad import FRAME, SileroVad, SpeechDetector

_WHOLE_S: Final = 30.0  # what Whisper sees; Canary-Qwen could take 40


def run(
    patterns: Sequence[str],
    *,
    engine: EngineSettings,
    turns: TurnSettings,
    language: str | None,
    terms: tuple[str, ...],
    kind: str,
    output: str,
    raw: tuple[int, int] | None,
    quiet: bool,
    track: str | None = None,
    whole: bool = False,
    words: bool = False,
) -> int:
    """Transcribe every file; returns 0 if all came out whole, else 1.

    `track`: number or language of the audio track; `whole`: in one piece each, without turns; `words`: subtitles word
    by word.

    Raises:
        SettingsError: the options contradict each other or the engine.
        EngineError: the engine cannot be opened.
        OutputError: standard output cannot be written.
        KeyboardInterrupt: Ctrl-C; what was recognized until then has been written.
        SystemExit: the same after SIGTERM or SIGHUP.

    """
    if words and kind == "txt":
        raise SettingsError("--words: expected --format srt, vtt or json, got txt, which has no times")
    paths = [path for pattern in patterns for path in _expand(pattern)]
    targets = destinations(paths, output, kind)
    there, failed = _there(paths), 0
    if not any(there):
        return _summed_up(len(paths), len(paths))
    from stt.engines import check_language, open_engine

    opened = open_engine(engine)
    check_language(opened.model, language)
    prepare(turns)
    if not quiet:
        print(f"engine: {opened.model.name} ({opened.reason})", file=sys.stderr)
        if advice := once(engine, opened.model.name, language):
            print(advice, file=sys.stderr)
    vad = SileroVad()
    with LocalRecognizer(opened.model) as recognizer:
        for path, target, found in zip(paths, targets, there, strict=True):
            if not found:
                failed += 1
                continue
            options = RecognitionOptions(language, terms, words=kind != "txt", live=False)
            if whole:
                session = _Whole(recognizer, vad, turns, options, path)
            else:
                session = Session(recognizer, vad, settings=turns, options=options)
            about = {"file": path, "engine": opened.model.name, "language": language or "auto"}
            job = _Job(path, session, target, kind, about, words=words, quiet=quiet)
            try:
                job.run(RawPcm(*raw) if raw else None, track)
            except (AudioError, EngineError, OutputError) as error:
                if isinstance(error, OutputError) and target.path is None:
                    raise  # the next file could not be written either
                failed += 1
                _complain(path, error)
            if target.path is not None and job.written and not quiet:
                print(f"{printable(path)} -> {target.name}", file=sys.stderr)
    return _summed_up(failed, len(paths))


def _there(paths: Sequence[str]) -> list[bool]:
    """Say which files can be opened, and at once why one cannot: an engine may take long to load."""
    there = []
    for path in paths:
        try:
            check_input(path)
            there.append(True)
        except AudioError as error:
            there.append(False)
            _complain(path, error)
    return there


def _complain(path: str, error: Exception) -> None:
    print(f"stt file: {_with_name(path, error)}", file=sys.stderr)


def _summed_up(failed: int, of: int) -> int:
    if failed and of > 1:
        print(f"stt file: {failed} of {of} files failed", file=sys.stderr)
    return 1 if failed else 0


def _with_name(path: str, error: Exception) -> str:
    """Return what went wrong, and with which file, which not every library says."""
    name = "standard input" if path == STDIN else printable(path)
    return str(error) if name in str(error) else f"{name}: {error}"


class _Whole:
    """In place of a `Session`: the recording is one turn, and the engine gets it as it is, if anyone speaks in it."""

    def __init__(
        self, recognizer: LocalRecognizer, vad: SileroVad, turns: TurnSettings, options: RecognitionOptions, path: str
    ) -> None:
        self._recognizer, self._vad, self._turns, self._options = recognizer, vad, turns, options
        self._path = path
        self.done_s = 0.0

    async def run(self, source: AudioSource, sink: Sink) -> None:
        """Send `TurnCompleted`, or `RecognitionFailed`.

        Raises:
            AudioError: it is too long for that, or whatever the source raises.

        """
        pieces: list[Samples] = []
        async for piece in source:
            pieces.append(piece)
            if sum(map(len, pieces)) > samples(_WHOLE_S):
                msg = f"{self._path}: expected at most {_WHOLE_S:g} s with --whole, got more; leave --whole out"
                raise AudioError(msg)
        audio = np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
        transcript, latency = Transcript(), None
        probabilities = SpeechDetector(self._vad).feed(audio)[1]
        speech = int((probabilities >= self._turns.speech_threshold).sum()) * FRAME
        if speech and speech >= samples(self._turns.min_speech_s):
            try:
                recognition = await self._recognizer.submit(Utterance(audio, self._options))
            except EngineError as error:
                await sink(RecognitionFailed(0, str(error)))
            else:
                assert recognition is not None  # noqa: S101 - for the type checker: finals are never dropped
                transcript.update(Window(0, 0, 0, 0, audio, "end"), recognition.hypothesis)
                latency = recognition.latency
        self.done_s = seconds(len(audio))
        await sink(
            TurnCompleted(0, 0, len(audio), transcript.text, transcript.passages, latency, words=transcript.words)
        )


class _Job:
    """One file on its way to one output."""

    def __init__(
        self,
        path: str,
        session: Session | _Whole,
        target: Destination,
        kind: str,
        about: dict[str, Any],
        *,
        words: bool,
        quiet: bool,
    ) -> None:
        self._path, self._session, self._target, self._quiet = path, session, target, quiet
        self._kind, self._about = kind, about
        self._failures: list[str] = []
        self._by_words = words
        self._spoken = False
        self._signal: int | None = None
        self.written = False

    def run(self, raw: RawPcm | None, track: str | None = None) -> None:
        """Transcribe the file; whatever ends it early, the turns completed before are written.

        Raises:
            AudioError: the file cannot be read, or not to its end.
            EngineError: the engine failed on a part of it.
            OutputError: the text cannot be written; what the output held before is still there.

        """
        with FileSource(self._path, raw, track=track, notice=self._notice) as source:
            error: BaseException | None = None
            with self._target.open() as out:
                writer = Writer(self._kind, self._about, out.encoding, words=self._by_words)
                out.write(writer.head())
                try:
                    asyncio.run(self._hear(source, writer, out))
                except (AudioError, EngineError, asyncio.CancelledError, KeyboardInterrupt) as raised:
                    error = raised
                done: dict[str, Any] = {"duration": round(source.position_s, 3)}
                if error is not None:
                    done["error"] = str(error) or "interrupted"
                out.write(writer.tail(**done))
            self.written = out.completed
        if self._signal is not None:
            print(f"stt file: {signal.strsignal(self._signal)}", file=sys.stderr)
            raise SystemExit(128 + self._signal)
        if error is not None:
            raise error
        if not self._spoken and not self._quiet:
            print(f"{source.name}: no speech found", file=sys.stderr)

    def _notice(self, line: str) -> None:
        if not self._quiet:
            print(line, file=sys.stderr)

    async def _hear(self, source: FileSource, writer: Writer, out: Output) -> None:
        bar = _bar(source, quiet=self._quiet)

        async def sink(event: Event) -> None:
            if isinstance(event, TurnCompleted) and event.text:
                self._spoken = True
                with _cleared(bar):
                    out.write(writer.turn(event))
            elif isinstance(event, RecognitionFailed):
                self._failures.append(event.message)
            bar.to(self._session.done_s)

        async def watched() -> AsyncIterator[Samples]:
            async for piece in source:
                yield piece
                bar.to(self._session.done_s)

        with self._ended_by_signals():
            try:
                await self._session.run(watched(), sink)
            finally:
                bar.close()
        if self._failures:
            missing = "a part is" if len(self._failures) == 1 else f"{len(self._failures)} parts are"
            msg = f"{self._path}: {missing} missing: {self._failures[0]}"
            raise EngineError(msg)

    @contextmanager
    def _ended_by_signals(self) -> Iterator[None]:
        """End like after Ctrl-C where the process is told to end, or its terminal is closed."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None  # noqa: S101 - for the type checker

        def stop(number: int) -> None:
            self._signal = number
            task.cancel()

        # What is ignored (by nohup, say) stays so. Windows has neither.
        ending = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is not signal.SIG_IGN]
        with suppress(NotImplementedError):
            for number in ending:
                loop.add_signal_handler(number, stop, number)
        try:
            yield
        finally:
            with suppress(NotImplementedError):
                for number in ending:
                    loop.remove_signal_handler(number)


def _expand(pattern: str) -> list[str]:
    if pattern == STDIN or os.path.lexists(pattern) or not glob.has_magic(pattern):
        return [pattern]
    found = sorted(path for path in glob.glob(pattern, recursive=True) if not os.path.isdir(path))  # noqa: PTH207, PTH112 - strings in, strings out
    return found or [pattern]  # which then is said to be no such file


class _Progress:
    """A progress bar in seconds of audio, on a terminal; else nothing."""

    def __init__(self, source: FileSource) -> None:
        from tqdm import tqdm

        class Bar(tqdm):
            @property
            def format_dict(self) -> dict[str, Any]:
                values = super().format_dict
                return {**values, "speed": f"{values['n'] / max(values['elapsed'], 0.001):.1f}"}

        known = "{percentage:3.0f}% |{bar}| {n:.0f}/{total:.0f} s, {speed} times real time, {remaining} left"
        unknown = "{n:.0f} s, {speed} times real time"
        self.tqdm: Any = Bar(
            total=source.duration_s,
            desc=Path(source.name).name,
            file=sys.stderr,
            leave=False,
            dynamic_ncols=True,
            bar_format="{desc}: " + (known if source.duration_s else unknown),
        )

    def to(self, position_s: float) -> None:
        self.tqdm.update(max(0.0, min(position_s, self.tqdm.total or position_s) - self.tqdm.n))

    def close(self) -> None:
        self.tqdm.close()


class _NoProgress:
    tqdm = None

    def to(self, position_s: float) -> None: ...

    def close(self) -> None: ...


def _bar(source: FileSource, *, quiet: bool) -> _Progress | _NoProgress:
    return _Progress(source) if sys.stderr.isatty() and not quiet else _NoProgress()


def _cleared(bar: _Progress | _NoProgress) -> Any:
    """Take the bar off the terminal while something is printed there."""
    return nullcontext() if bar.tqdm is None else bar.tqdm.external_write_mode(file=sys.stdout)
