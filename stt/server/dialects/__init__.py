"""What clients speak: a module for each dialect, and the table of those that are served."""

from typing import Final

from stt.server.dialect import Dialect
from stt.server.dialects.native import Native

WEBSOCKET: Final[tuple[type[Dialect], ...]] = (Native,)
"""Spoken over WebSockets, each at its path."""
