"""Log lines for people (`text`) and for machines (`json`): a message, and its figures as fields."""

import json
import logging
import sys
from typing import Any, Final

LOGGER: Final = logging.getLogger("stt.server")


def log(message: str, level: int = logging.INFO, **fields: Any) -> None:
    """Write one line; fields that are `None` are left out."""
    LOGGER.log(level, message, extra={"fields": {k: v for k, v in fields.items() if v is not None}})


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return f"{self.formatTime(record)} {record.levelname.lower()} {super().format(record)}{_shown(record)}"


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + f".{int(record.msecs):03}",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def with_fields(record: logging.LogRecord) -> bool:
    """Put the figures of a line into its message: a filter, where others' handlers write it, who know of none."""
    record.msg, record.args = f"{record.getMessage()}{_shown(record)}", ()
    record.__dict__.pop("fields", None)
    return True


def _shown(record: logging.LogRecord) -> str:
    fields: dict[str, Any] = getattr(record, "fields", {})
    return "".join(f" {name}={_word(value)}" for name, value in fields.items())


def _word(value: Any) -> str:
    text = str(value)
    return json.dumps(text) if not text or any(c in text for c in ' "=\n') else text


def configure(kind: str, level: str = "info") -> None:
    """Send all log lines to standard error, in one format; what uvicorn says of every request is left out."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if kind == "json" else _Text("%(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("stt").setLevel(level.upper())
    logging.getLogger("uvicorn.error").addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    # uvicorn takes a handshake that was answered with a status other than 101 for one that was not answered, and shows
    # the traceback of text that is not UTF-8: what clients do wrong is told by the end of their session.
    message = record.getMessage()
    return "returned without completing handshake" not in message and "Invalid UTF-8" not in message
