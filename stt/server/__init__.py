"""The server: `create_app(...)` builds it, `stt serve` runs it."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stt.server.app import create_app
    from stt.server.settings import ServerSettings

__all__ = ["ServerSettings", "create_app"]


def __getattr__(name: str) -> Any:
    """Import on first use: clients need the protocol alone."""
    from importlib import import_module

    if name not in __all__:
        msg = f"module 'stt.server' has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module("stt.server.app" if name == "create_app" else "stt.server.settings"), name)
