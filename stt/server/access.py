"""Who may connect: API keys and the origins of web pages. Pure."""

import hmac
import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from stt.errors import SettingsError

_IN_QUERY: Final = ("api_key", "token")
_IN_NAME: Final = "openai-insecure-api-key."


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


@dataclass(frozen=True, slots=True)
class Offered:
    """What a request brings to be let in, and what is left of it."""

    keys: tuple[str, ...] = field(repr=False)
    """Keys it sends, from all places where clients put them."""
    subprotocol: str | None
    """The WebSocket subprotocol to answer with; never a key. A browser drops a connection that does not name one."""
    query: tuple[tuple[str, str], ...]
    """Without the keys."""


def offered(headers: Mapping[str, str], subprotocols: Sequence[str], query: Sequence[tuple[str, str]]) -> Offered:
    """Find the keys of a request.

    | place                                                                | who sends it there              |
    |----------------------------------------------------------------------|---------------------------------|
    | `Authorization: Bearer KEY` or `Token KEY`                           | programs                        |
    | `Sec-WebSocket-Protocol: token, KEY` or `bearer, KEY`                | browsers: they set no headers   |
    | `Sec-WebSocket-Protocol: realtime, openai-insecure-api-key.KEY, ...` | browsers, OpenAI's clients      |
    | `?api_key=KEY` or `?token=KEY`                                       | browsers                        |

    A subprotocol's name holds no `/`, `=` or white space: there a key may be percent-encoded.
    """
    keys = []
    scheme, _, given = headers.get("authorization", "").partition(" ")
    if scheme.lower() in ("bearer", "token"):
        keys.append(given.strip())
    subprotocol = None
    match list(subprotocols):
        case [("token" | "bearer") as subprotocol, key, *_]:
            keys += _spelled(key)
        case ["realtime" as subprotocol, *others]:
            keys += [key for name in others if name.startswith(_IN_NAME) for key in _spelled(name[len(_IN_NAME) :])]
    keys += [value for name, value in query if name in _IN_QUERY]
    return Offered(tuple(keys), subprotocol, tuple(item for item in query if item[0] not in _IN_QUERY))


def _spelled(name: str) -> Iterable[str]:
    """Return the keys that a part of a subprotocol's name may stand for: itself, and what it is in percent-encoding."""
    return dict.fromkeys((name, unquote(name)))


def authorized(given: Sequence[str], keys: Sequence[str]) -> bool:
    """Tell whether one of the given keys is among ours; always, where there are none."""
    if not keys:
        return True
    # All are compared, each in constant time: how long it takes tells nothing about any of them.
    found = False
    for key in keys:
        for one in given:
            found |= hmac.compare_digest(one.encode("utf-8", "surrogateescape"), key.encode())
    return found


def origin_allowed(origin: str | None, host: str | None, allowed: Sequence[str], *, local: bool) -> bool:
    """Tell whether the page that opens a connection may: none (no browser), one of this server, or one on the list.

    A page of this server has the host *and port* that the request is for, as browsers tell origins apart: another port
    is another program. On a loopback address (`local`), the host must be a loopback name as well: a page of a foreign
    domain whose name was made to point to 127.0.0.1 (DNS rebinding) sends that domain as origin and as host.
    """
    if origin is None or "*" in allowed:
        return True
    if origin.lower().rstrip("/") in {item.lower().rstrip("/") for item in allowed}:
        return True
    try:
        page, ours = urlsplit(origin), urlsplit(f"//{host or ''}")
        usual = {"http": 80, "https": 443}.get(page.scheme)
        same = (
            usual is not None
            and bool(page.hostname)
            and (page.hostname, page.port or usual) == (ours.hostname, ours.port or usual)
        )
        return same and (not local or is_loopback(page.hostname or ""))
    except ValueError:
        return False


def is_loopback(host: str) -> bool:
    """Tell whether a name or address can only mean this machine."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost" or host.lower().endswith(".localhost")
