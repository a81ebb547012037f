"""The page at `GET /`: plain files beside this module, served as they are.

`main.js` wires the others together, each of which is one concern. Nothing comes from elsewhere: the policy below allows
no other host, no inline script and no frame.
"""

import re
from collections.abc import Awaitable, Callable
from importlib.resources import files
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stt.server.access import is_loopback

_TYPES: Final = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "media-src blob:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


_HEADERS: Final = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "permissions-policy": "microphone=(self)",
    "cache-control": "no-cache",
}

# So that the page may share memory with its audio thread (microphone.js). Browsers complain of these where they give no
# microphone.
_ISOLATED: Final = {
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-embedder-policy": "require-corp",
}


def routes() -> list[Route]:
    """Make a route for each file; `/` is `index.html`."""
    found: list[Route] = []
    for item in files(__name__).iterdir():
        kind = _TYPES.get(item.name[item.name.rfind(".") :])
        if kind is not None:
            path = "/" if item.name == "index.html" else f"/page/{item.name}"
            found.append(Route(path, _answer(item.read_bytes(), kind)))
    return found


def _answer(content: bytes, kind: str) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        name = re.sub(r":\d*$", "", request.headers.get("host", ""))
        trusted = request.scope["scheme"] == "https" or is_loopback(name)
        return Response(content, media_type=kind, headers=_HEADERS | _ISOLATED if trusted else _HEADERS)

    return answer
