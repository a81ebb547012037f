"""The server: `create_app(...)` builds it, `stt serve` runs it."""

from stt.server.app import create_app
from stt.server.settings import ServerSettings

__all__ = ["ServerSettings", "create_app"]
