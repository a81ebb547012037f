"""`stt file`: recordings to text."""

import asyncio
import glob
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import IO, Any, Final

import numpy as np

from stt.audio import Samples, samples, seconds
from stt.errors import AudioError, EngineError, SettingsError
from stt.events import Event, RecognitionFailed, TurnCompleted
from stt.outputs import Writer
from stt.recognition import LocalRecognizer, RecognitionOptions, Utterance
from stt.session import AudioSource, Session, Sink
from stt.settings import EngineSettings, TurnSettings
from stt.sources import STDIN, FileSource, RawPcm
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
    kind: str,
    output: str,
    raw: tuple[int, int] | None,
    quiet: bool,
    whole: bool = False,
) -> int:
    """Transcribe every file; returns 0 if all came out whole, else 1. `whole`: in one piece each, without turns.

    Raises:
        SettingsError: the options contradict each other or the engine.
        EngineError: the engine cannot be opened.
        KeyboardInterrupt: Ctrl-C; what was recognized until then has been written.

    """
    paths = [path for pattern in patterns for path in _expand(pattern)]
    targets = _targets(paths, output, kind)
    from stt.engines import check_language, open_engine

    opened = open_engine(engine)
    check_language(opened.model, language)
    if not quiet:
        print(f"engine: {opened.model.name} ({opened.reason})", file=sys.stderr)
    vad = SileroVad()
    failed = 0
    with LocalRecognizer(opened.model) as recognizer:
        for path, target in zip(paths, targets, strict=True):
            job = _Job(path, target, kind, RawPcm(*raw) if raw else None, quiet=quiet)
            options = RecognitionOptions(language, live=False)
            if whole:
                session = _Whole(recognizer, vad, turns, options, path)
            else:
                session = Session(recognizer, vad, settings=turns, options=options)
            try:
                about = {"file": path, "engine": opened.model.name, "language": language or "auto"}
                asyncio.run(job.run(session, about))
            except (AudioError, EngineError, OSError) as error:
                if isinstance(error, BrokenPipeError):
                    raise
                failed += 1
                print(f"stt file: {error}", file=sys.stderr)
            if target is not None and job.written and not quiet:
                print(f"{path} -> {target}", file=sys.stderr)
    if failed and len(paths) > 1:
        print(f"stt file: {failed} of {len(paths)} files failed", file=sys.stderr)
    return 1 if failed else 0


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
        await sink(TurnCompleted(0, 0, len(audio), transcript.text, transcript.passages, latency))


class _Job:
    """One file on its way to one output."""

    def __init__(self, path: str, target: Path | None, kind: str, raw: RawPcm | None, *, quiet: bool) -> None:
        self._path, self._target, self._kind, self._raw = path, target, kind, raw
        self._quiet = quiet
        self._failures: list[str] = []
        self.written = False

    async def run(self, session: Session | _Whole, about: dict[str, Any]) -> None:
        """Transcribe the file; whatever ends it early, the turns completed before are written.

        Raises:
            AudioError: the file cannot be read, or not to its end.
            EngineError: the engine failed on a part of it.

        """
        with FileSource(self._path, self._raw) as source:
            out, temporary = self._open()
            writer = Writer(self._kind, about)
            bar = _bar(source, quiet=self._quiet)
            error: BaseException | None = None

            async def sink(event: Event) -> None:
                if isinstance(event, TurnCompleted) and event.text:
                    with _cleared(bar):
                        out.write(writer.turn(event))
                        out.flush()
                elif isinstance(event, RecognitionFailed):
                    self._failures.append(event.message)
                bar.to(session.done_s)

            async def watched() -> AsyncIterator[Samples]:
                async for piece in source:
                    yield piece
                    bar.to(session.done_s)

            try:
                out.write(writer.head())
                await session.run(watched(), sink)
                if self._failures:
                    error = EngineError(f"{self._path}: {len(self._failures)} parts are missing: {self._failures[0]}")
            except (AudioError, asyncio.CancelledError) as raised:
                error = raised
            finally:
                bar.close()
            done = {"duration": round(source.position_s, 3)} | ({"error": str(error) or "interrupted"} if error else {})
            out.write(writer.tail(**done))
            out.flush()
            if temporary is not None and self._target is not None:
                out.close()
                temporary.replace(self._target)
                self.written = True
            if error is not None:
                raise error

    def _open(self) -> tuple[IO[str], Path | None]:
        """Open the output; a file is written beside its name and moved there when done, so that none is ever half."""
        if self._target is None:
            return sys.stdout, None
        self._target.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._target.with_name(self._target.name + ".part")
        return temporary.open("w", encoding="utf-8"), temporary


def _expand(pattern: str) -> list[str]:
    if pattern == STDIN or os.path.lexists(pattern) or not glob.has_magic(pattern):
        return [pattern]
    found = sorted(path for path in glob.glob(pattern, recursive=True) if not os.path.isdir(path))  # noqa: PTH207, PTH112 - strings in, strings out
    return found or [pattern]  # which then is said to be no such file


def _targets(paths: Sequence[str], output: str, kind: str) -> list[Path | None]:
    """Where each input's text goes; `None` is standard output."""
    if output == STDIN:
        return [None] * len(paths)
    directory = Path(output)
    if not (output.endswith(("/", os.sep)) or directory.is_dir()):
        if len(paths) > 1:
            msg = f"--output {output}: expected a directory for {len(paths)} inputs (end its name with / to make it)"
            raise SettingsError(msg)
        return [directory]
    names = ["stdin" if path == STDIN else Path(path).name for path in paths]
    stems = Counter(Path(name).stem for name in names)
    # talk.wav and talk.mp3 in one run: keep both apart as talk.wav.txt and talk.mp3.txt
    targets = [directory / f"{name if stems[Path(name).stem] > 1 else Path(name).stem}.{kind}" for name in names]
    twice = [str(target) for target, count in Counter(targets).items() if count > 1]
    if twice:
        msg = f"--output {output}: several inputs would be written to {twice[0]}"
        raise SettingsError(msg)
    return list(targets)


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
