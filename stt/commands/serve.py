"""`stt serve`: many live sessions over one engine."""

import os
from collections.abc import Sequence
from pathlib import Path

from stt.errors import SettingsError
from stt.server import ServerSettings, create_app
from stt.server.access import read_keys
from stt.server.families import FAMILIES
from stt.settings import EngineSettings, TurnSettings


def run(
    *,
    engine: EngineSettings,
    turns: TurnSettings,
    language: str | None,
    terms: tuple[str, ...],
    api_keys: list[str],
    api_key_file: Path | None,
    log_format: str,
    log_level: str,
    open_page: bool,
    dialects: Sequence[str],
    cluster: str | None = None,
    **settings: object,
) -> int:
    """Serve until SIGTERM, SIGINT or SIGHUP; returns the exit status.

    Raises:
        SettingsError: an option cannot work.
        EngineError: the engine cannot be opened.

    """
    if open_page and not settings.get("page", True):
        msg = "--open shows the page, and --no-page turns it off: give one of the two"
        raise SettingsError(msg)
    from stt.server.notify import Manager
    from stt.server.run import serve

    keys = (*api_keys, *(read_keys(api_key_file) if api_key_file is not None else ()))
    limits = ServerSettings(api_keys=keys, **settings)  # type: ignore[arg-type] - named by the command line
    spoken = [FAMILIES[name] for name in dialects or FAMILIES]
    elsewhere = None
    if cluster is not None:
        if engine != EngineSettings(language=engine.language):
            msg = "--cluster: its engines are chosen by `stt cluster up`; leave out the options that choose one here"
            raise SettingsError(msg)
        from stt.commands.cluster import engines_of

        elsewhere = engines_of(cluster)
    app = create_app(
        limits, engine=engine, turns=turns, language=language, terms=terms, dialects=spoken, elsewhere=elsewhere
    )
    manager = Manager.from_environment(os.environ)
    return serve(app, limits, log_format=log_format, log_level=log_level, manager=manager, open_page=open_page)
