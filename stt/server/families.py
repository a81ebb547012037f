"""The table of what clients may speak: a family is switched on and off as one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from starlette.routing import BaseRoute

from stt.server.dialect import Denial, Dialect, NotAdmittedError
from stt.server.dialects import deepgram_rest, openai, openai_chat, openai_rest
from stt.server.dialects.deepgram_live import DeepgramLive
from stt.server.dialects.flux import Flux
from stt.server.dialects.native import Native, refusal
from stt.server.dialects.openai_realtime import OpenAIRealtime
from stt.server.gate import Gate


@dataclass(frozen=True, slots=True)
class Family:
    """Dialects that go together, as `--dialects` names them."""

    name: str
    websocket: tuple[type[Dialect], ...] = ()
    """Spoken over WebSockets, each at its path."""
    http: tuple[Callable[[Gate], Sequence[BaseRoute]], ...] = ()
    """What makes the routes of those spoken over HTTP."""
    paths: tuple[str, ...] = ()
    """All of it, for people."""
    root: str = ""
    """Below it `refuse` says that something is not there; empty: nowhere."""
    refuse: Callable[[NotAdmittedError], Denial] = refusal


FAMILIES: Final[dict[str, Family]] = {
    family.name: family
    for family in (
        Family("native", (Native,), paths=(f"WS {Native.path}",)),
        Family(
            "openai",
            (OpenAIRealtime,),
            http=(openai_rest.routes, openai_chat.routes),
            paths=(
                f"POST {openai_rest.PATH}",
                f"POST {openai_chat.PATH}",
                "GET /v1/models",
                f"WS {OpenAIRealtime.path}",
            ),
            root="/v1/",
            refuse=openai.refusal,
        ),
        Family(
            "deepgram",
            (DeepgramLive, Flux),
            http=(deepgram_rest.routes,),
            paths=(f"WS {DeepgramLive.path}", f"POST {deepgram_rest.PATH}", f"WS {Flux.path}"),
        ),
    )
}
