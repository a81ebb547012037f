"""`stt client`: a file or the microphone through a server, and what it writes back, live."""

import asyncio

from stt.client import RemoteSession, trusting
from stt.commands.live import Screen, choose, stream
from stt.settings import TurnSettings
from stt.sources import FileSource, Microphone, paced


def run(
    path: str | None,
    *,
    url: str,
    api_key: str | None,
    ca: str | None,
    device: str | None,
    language: str | None,
    terms: tuple[str, ...],
    turns: TurnSettings | None,
    fast: bool,
    raw: bool,
    words: bool = False,
    quiet: bool = False,
) -> int:
    """Stream until the file ends, or Ctrl-C; returns the exit status.

    Raises:
        AudioError: the file cannot be read.
        DeviceError: there is no such microphone, or it is gone.
        RemoteError: the server cannot be reached, or refuses the session.
        SettingsError: the URL, the key or the CA file cannot be used.

    """
    screen = Screen("client", live=not raw, raw=raw, words=words)
    session = RemoteSession(
        url,
        api_key=api_key,
        tls=trusting(ca),
        settings=turns,
        language=language,
        terms=terms or None,
        words=words,
        notify=screen.notice,
        on_message=screen.message,
    )
    if path is not None:
        with FileSource(path, notice=screen.notice) as source:
            asyncio.run(stream(session, source if fast else paced(aiter(source)), screen))
    else:
        with Microphone(choose(device)) as microphone:
            if not quiet:
                screen.notice(f"listening to {microphone.name}; Ctrl-C ends")
            asyncio.run(stream(session, microphone, screen))
    return 1 if screen.failed else 0
