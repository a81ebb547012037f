"""Who may connect: API keys and the origins of web pages. Pure."""

import hmac
import ipaddress
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from stt.errors import SettingsError


def read_keys(path: Path) -> tuple[str, ...]:
    """Read API keys from a file, one a line; empty lines and lines that begin with # do not count.

    Raises:
        SettingsError: the file cannot be read, holds no key, or one that cannot be sent.

    """
    try:
        lines = [line.strip() for line in path.read_text("utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        msg = f"API key file {path}: {error}"
        raise SettingsError(msg) from error
    for number, line in enumerate(lines, 1):
        if line and not line.startswith("#") and not is_key(line):
            msg = f"API key file {path}, line {number}: expected a key of printable ASCII characters, got others"
            raise SettingsError(msg)
    keys = tuple(line for line in lines if line and not line.startswith("#"))
    if not keys:
        msg = f"API key file {path}: expected a key on a line of its own, found none"
        raise SettingsError(msg)
    return keys


def is_key(text: str) -> bool:
    """Tell whether a header can carry this key so that it arrives as it is: printable ASCII, no white space around it.

    Beyond ASCII, clients disagree about the encoding (curl sends UTF-8, browsers Latin-1), and servers hear Latin-1.
    """
    return bool(text) and text.isascii() and text.isprintable() and text == text.strip()


def authorized(header: str | None, keys: Sequence[str]) -> bool:
    """Tell whether an Authorization header carries one of the keys; always, where there are none."""
    if not keys:
        return True
    scheme, _, given = (header or "").partition(" ")
    if scheme.lower() != "bearer":
        return False
    # All keys are compared, each in constant time: how long it takes tells nothing about any of them.
    found = False
    for key in keys:
        found |= hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), key.encode())
    return found


def origin_allowed(origin: str | None, host: str | None, allowed: Sequence[str], *, local: bool) -> bool:
    """Tell whether the page that opens a connection may: none (no browser), one of this host, or one on the list.

    On a loopback address (`local`), "this host" must be a loopback name as well: a page of a foreign domain whose name
    was made to point to 127.0.0.1 (DNS rebinding) sends that domain as origin and as host.
    """
    if origin is None or "*" in allowed:
        return True
    if origin.lower().rstrip("/") in {item.lower().rstrip("/") for item in allowed}:
        return True
    try:
        parts = urlsplit(origin)
        same = bool(host) and parts.scheme in ("http", "https") and parts.netloc.lower() == (host or "").lower()
        return same and (not local or is_loopback(parts.hostname or ""))
    except ValueError:
        return False


def is_loopback(host: str) -> bool:
    """Tell whether a name or address can only mean this machine."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost" or host.lower().endswith(".localhost")
