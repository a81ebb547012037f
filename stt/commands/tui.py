"""`stt tui`: talk and watch it being written."""

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stt.errors import SettingsError
from stt.settings import EngineSettings, TurnSettings


def run(
    *,
    engine: EngineSettings,
    turns: TurnSettings,
    language: str | None,
    source: str | None,
    device: str | None,
    connect: str | None,
    api_key: str | None,
    resume: str | None,
    replay: str | None,
    autosave: bool,
    record_format: str,
) -> int:
    """Run the program until its reader leaves it; returns the exit status.

    Raises:
        SettingsError: the options contradict each other, or there is no terminal.
        SttError: the session to resume or to replay cannot be read.

    """
    _check(device=device, source=source, replay=replay, resume=resume, connect=connect, api_key=api_key)
    from tui import journal
    from tui.app import Options, SttApp
    from tui.document import Document
    from tui.updates import Backend

    folder = journal.sessions_folder()
    document, kept = Document(), None
    if resume is not None:
        path = Path(resume) if resume else journal.latest(folder)
        records, bad = journal.read(path)
        if bad > 1:  # one is a line cut off, and its turn's words are in the lines before
            print(f"stt tui: {path}: {bad} lines cannot be read and are left out", file=sys.stderr)
        document = journal.replayed(records)
        kept = journal.Journal(path, at_s=records[-1][0] if records else 0.0)
    elif replay is None and autosave:
        kept = journal.Journal(journal.new_path(folder, time.time()))
    recorded = journal.read(Path(replay))[0] if replay else []

    def backend() -> Backend:
        if replay is not None:
            from tui.replay import Replay

            return Replay(Path(replay).name, recorded)
        from tui.live import Live, Plan

        return Live(Plan(engine, turns, language, source, device, connect, api_key))

    options = Options(
        threshold=turns.speech_threshold,
        language=language or "auto",
        server=connect or "",
        recordings=folder.parent / "recordings",
        record_format=record_format,
        folder=Path(),
        replay=replay is not None,
    )
    app = SttApp(backend, document=document, journal=kept, options=options)
    with _own_terminal(folder.parent / "tui.log"):
        app.run()
    if kept is not None:
        kept.close()
        if kept.path.exists():
            print(f"transcript kept in {kept.path}; `stt tui --resume` goes on with it")
    if threading.active_count() > 1:
        # An engine that still loads, a device that hangs: they cannot be stopped, and nothing is left that needs them.
        sys.stdout.flush()
        os._exit(app.return_code or 0)
    return app.return_code or 0


def _check(*, api_key: str | None, **options: str | None) -> None:
    if options["device"] in ("cuda", "cpu"):
        msg = f"--device is the microphone here; for where the engine runs say --engine-device {options['device']}"
        raise SettingsError(msg)
    for one, other in (("source", "device"), ("replay", "source"), ("replay", "device"), ("replay", "resume"),
                       ("replay", "connect")):  # fmt: skip
        if options[one] is not None and options[other] is not None:
            msg = f"--{one} and --{other} exclude each other"
            raise SettingsError(msg)
    if (source := options["source"]) is not None:
        if source == "-":
            msg = "--source -: standard input is the keyboard here; give a file, or use `stt file -`"
            raise SettingsError(msg)
        if not Path(source).is_file():
            msg = f"--source {source}: no such file"
            raise SettingsError(msg)
    if (connect := options["connect"]) is not None:
        from stt.client import authorization, session_url

        session_url(connect, {})
        authorization(api_key)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        msg = "expected a terminal for keys and screen; for pipes use `stt file`"
        raise SettingsError(msg)


@contextmanager
def _own_terminal(log: Path) -> Iterator[None]:
    """Keep the terminal for the screen alone.

    Sound systems and model libraries write to the process's standard error from C, which would land in the middle of
    the screen: that goes to a log file, while the screen keeps the terminal.
    """
    screen = os.dup(1)  # Textual draws on standard error, which may be a file
    errors = os.dup(2)
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_bytes(b"")
    except OSError:
        log = Path(os.devnull)
    before = sys.__stderr__
    with log.open("wb") as other, os.fdopen(screen, "w", encoding="utf-8") as terminal:
        os.dup2(other.fileno(), 2)
        sys.__stderr__ = terminal  # pyright: ignore[reportAttributeAccessIssue] - what Textual draws on
        try:
            yield
        finally:
            terminal.flush()
            os.dup2(errors, 2)
            os.close(errors)
            sys.__stderr__ = before  # pyright: ignore[reportAttributeAccessIssue]
