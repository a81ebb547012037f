"""What a server knows of the engine behind its sessions, wherever that runs: in this process, or on others."""

from collections.abc import Collection, Mapping
from typing import Protocol

from stt.recognition.service import RecognitionService


def unknown_engine(name: str | None, engines: Collection[str]) -> str | None:
    """Say why no engine can be asked for by this name; `None`: one can."""
    if name is None or name in engines:
        return None
    if not engines:
        return f"engine: there is but one here, and it has no name; got {name[:40]!r}"
    return f"engine must be one of {', '.join(sorted(engines)[:12])}, got {name[:40]!r}"


def named_engine(name: object, engines: Collection[str]) -> str | None:
    """Return the engine that a client named as its model; `None`: there is none of this name, any will do.

    Clients of other protocols have to name a model, and mostly name one of somebody else.
    """
    return name if isinstance(name, str) and name in engines else None


def known_languages(
    engine: str | None, engines: Mapping[str, frozenset[str]], languages: frozenset[str]
) -> frozenset[str]:
    """Return the languages of an engine by its name, of those of each; `None`: `languages`, of whichever serves."""
    return languages if engine is None else engines.get(engine, frozenset())


class Described(Protocol):
    """An engine, as far as people and clients are told."""

    @property
    def name(self) -> str: ...

    @property
    def languages(self) -> frozenset[str]: ...


class ServedRecognizer(RecognitionService, Protocol):
    """A recognition service that tells how it is doing."""

    @property
    def model(self) -> Described: ...

    @property
    def engines(self) -> Mapping[str, Described]:
        """Those that a session may ask for by name (`RecognitionOptions.engine`); none where there is but one."""
        ...

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        ...

    @property
    def lag_s(self) -> float:
        """For how long the oldest unanswered request that stands has been waiting; 0 where there is none."""
        ...


class ServedEngine(Protocol):
    """An engine with whoever keeps it working."""

    @property
    def state(self) -> str:
        """`loading`, `ready`, or why not (`restarting`, `unreachable`)."""
        ...

    @property
    def recognizer(self) -> ServedRecognizer | None:
        """What sessions ask; there once it was ready for the first time."""
        ...

    @property
    def hung(self) -> bool:
        """Whether native code still runs that nobody waits for."""
        ...

    def refusal(self) -> str | None:
        """Why it can bear no more sessions than there are; `None`: it can."""
        ...

    async def run(self) -> None:
        """Keep it working until cancelled; raises what cannot be mended."""
        ...

    async def close(self, timeout_s: float) -> None:
        """Let it go, once `run` has ended."""
        ...
