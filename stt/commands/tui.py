"""`stt tui`: talk and watch it being written."""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from stt.errors import SettingsError
from stt.settings import EngineSettings, TurnSettings

if TYPE_CHECKING:
    from tui.condition import Options
    from tui.document import Document
    from tui.journal import Journal
    from tui.program import Program, Result
    from tui.updates import Backend


def run(
    *,
    engine: EngineSettings,
    turns: TurnSettings,
    language: str | None,
    terms: tuple[str, ...],
    source: str | None,
    device: str | None,
    connect: str | None,
    api_key: str | None,
    ca: str | None,
    resume: str | None,
    replay: str | None,
    sessions: bool,
    as_json: bool,
    autosave: bool,
    record_format: str,
) -> int:
    """Run the program until its reader leaves it; returns the exit status.

    Raises:
        SettingsError: the options contradict each other, or there is no terminal.
        SttError: the session to resume or to replay cannot be read.

    """
    if as_json and not sessions:
        msg = "--json goes with --sessions"
        raise SettingsError(msg)
    _check(device=device, source=source, replay=replay, resume=resume, connect=connect, api_key=api_key,
           ca=ca, sessions="" if sessions else None)  # fmt: skip
    from tui import journal, private
    from tui.condition import Options

    folder = journal.sessions_folder()
    private.tighten(folder.parent)
    if sessions and (as_json or not _has_terminal()):
        from tui.sessions import show

        return show(folder, as_json=as_json)
    if not _has_terminal():
        msg = "expected a terminal for keys and screen; for pipes use `stt file`"
        raise SettingsError(msg)
    if engine.interim_model is not None and connect is None and replay is None:
        from stt.engines import settled

        engine = settled(engine)  # which may print that it measures something
    options = Options(
        threshold=turns.speech_threshold,
        language=language or "auto",
        server=connect or "",
        recordings=folder.parent / "recordings",
        record_format=record_format,
        preferences=folder.parent / "tui.json",
    )

    def live() -> "Backend":
        from stt.client import trusting
        from tui.live import Live, Plan

        tls = trusting(ca) if connect is not None else None
        return Live(Plan(engine, turns, language, source, device, connect, api_key, tls, terms))

    if replay is not None:
        return _replay(Path(replay), options)
    if sessions:
        from tui.browser import SessionBrowser

        marked = None
        while (
            choice := _shown(browser := SessionBrowser(folder, options.preferences, at=marked), options)
        ) is not None:
            if choice.resume:
                return _resume(choice.path, live, options)
            marked = choice.path
            _replay(marked, options, at_end=True)
        return browser.return_code or 0
    if resume is not None:
        return _resume(Path(resume) if resume else journal.latest(folder), live, options)
    from tui.journal import Journal

    return _talk(live, options, journal=Journal(journal.new_path(folder, time.time()), new=True) if autosave else None)


def _resume(path: Path, live: "Callable[[], Backend]", options: "Options") -> int:
    from tui import journal

    records, bad = journal.read(path)
    if bad > 1:  # one is a line cut off, and its turn's words are in the lines before
        print(f"stt tui: {path}: {bad} lines cannot be read and are left out", file=sys.stderr)
    kept = journal.Journal(path, at_s=records[-1][0] if records else 0.0)
    return _talk(live, options, document=journal.replayed(records), journal=kept)


def _replay(path: Path, options: "Options", *, at_end: bool = False) -> int:
    """Play a session back; `at_end`: only show it."""
    from tui import journal
    from tui.replay import Replay

    records, _ = journal.read(path)
    return _talk(lambda: Replay(path.stem, records, at_end=at_end), replace(options, replay=True))


def _talk(
    backend: "Callable[[], Backend]",
    options: "Options",
    *,
    document: "Document | None" = None,
    journal: "Journal | None" = None,
) -> int:
    from tui.app import SttApp

    app = SttApp(backend, document=document, journal=journal, options=options)
    _shown(app, options)
    with suppress(OSError):  # the terminal may have been closed
        if app.broken_off:
            print("the last turn was not finished: its last words may be wrong or missing")
        if journal is not None and journal.path.exists():
            print(f"transcript kept in {journal.path}; `stt tui --resume` goes on with it")
        sys.stdout.flush()
    if not options.replay and threading.active_count() > 1:
        # An engine that still loads, a device that hangs: they cannot be stopped, and nothing is left that needs them.
        os._exit(app.return_code or 0)
    return app.return_code or 0


def _shown(app: "Program[Result]", options: "Options") -> "Result | None":
    """Give a program the terminal until it ends; returns what it gives back."""
    log = Path(os.devnull) if options.preferences is None else options.preferences.with_name("tui.log")
    with _own_terminal(log):
        return app.run()


def _has_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def _check(*, api_key: str | None, ca: str | None, **options: str | None) -> None:
    if options["device"] in ("cuda", "cpu"):
        msg = f"--device is the microphone here; for where the engine runs say --engine-device {options['device']}"
        raise SettingsError(msg)
    for one, other in (("source", "device"), ("replay", "source"), ("replay", "device"), ("replay", "resume"),
                       ("replay", "connect"), ("sessions", "replay"), ("sessions", "resume"),
                       ("sessions", "source")):  # fmt: skip
        if options[one] is not None and options[other] is not None:
            msg = f"--{one} and --{other} exclude each other"
            raise SettingsError(msg)
    if (source := options["source"]) is not None:
        if source == "-":
            msg = "--source -: standard input is the keyboard here; give a file, or use `stt file -`"
            raise SettingsError(msg)
        from stt.errors import AudioError
        from stt.sources import check_input

        try:
            check_input(source)
        except AudioError as error:
            msg = f"--source {error}"
            raise SettingsError(msg) from error
    if (connect := options["connect"]) is not None:
        from stt.client import authorization, session_url, trusting

        session_url(connect, {})
        authorization(api_key)
        trusting(ca)


@contextmanager
def _own_terminal(log: Path) -> Iterator[None]:
    """Keep the terminal for the screen alone.

    Sound systems and model libraries write to the process's standard error from C, which would land in the middle of
    the screen: that goes to a log file, while the screen keeps the terminal.
    """
    from tui import private

    screen = os.dup(1)  # Textual draws on standard error, which may be a file
    errors = os.dup(2)
    try:
        private.make_folder(log.parent)
        private.write_text(log, "")
    except OSError:
        log = Path(os.devnull)
    before = sys.__stderr__
    with private.open_file(log, "wb") as other, os.fdopen(screen, "w", encoding="utf-8") as terminal:
        os.dup2(other.fileno(), 2)
        sys.__stderr__ = terminal  # pyright: ignore[reportAttributeAccessIssue] - what Textual draws on
        try:
            yield
        finally:
            with suppress(OSError):  # of a terminal that was closed
                terminal.close()
            os.dup2(errors, 2)
            os.close(errors)
            sys.__stderr__ = before  # pyright: ignore[reportAttributeAccessIssue]
