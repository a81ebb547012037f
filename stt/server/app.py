"""The Starlette app: `create_app(...)`, its routes, and what is checked before a session is let in."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from stt.engines import check_language, open_engine
from stt.errors import SettingsError
from stt.recognition import SpeechModel
from stt.server.access import authorized, is_loopback, origin_allowed
from stt.server.connection import Connection
from stt.server.dialects.native import PATH, Options, ProtocolError, parse_options
from stt.server.service import OpenModel, Service
from stt.server.settings import ServerSettings
from stt.settings import EngineSettings, TurnSettings
from stt.vad_pool import VadPool

_STATUS: Final = {
    "unauthorized": 401,
    "forbidden_origin": 403,
    "bad_option": 400,
    "too_many_sessions": 503,
    "draining": 503,
    "not_ready": 503,
}


def create_app(
    settings: ServerSettings | None = None,
    *,
    engine: EngineSettings | None = None,
    turns: TurnSettings | None = None,
    language: str | None = "en",
    open_model: OpenModel | None = None,
    open_vad: Callable[[], VadPool] = VadPool,
) -> Starlette:
    """Build the app; the engine is opened when it starts, and `app.state.service` is its `Service`.

    `stt serve` runs it with limits on sockets that an app cannot set itself; `uvicorn --factory stt.server:create_app`
    runs it with all defaults.

    Args:
        settings: limits and rights.
        engine: which engine to open.
        turns: defaults for sessions, who may ask for other gaps.
        language: default for sessions; `None`: the engine finds out.
        open_model: opens the engine instead, for programs that bring their own.
        open_vad: opens the detector instead.

    """
    settings = settings or ServerSettings()

    def open_default() -> SpeechModel:
        model = open_engine(engine).model
        check_language(model, language)
        return model

    service = Service(settings, open_model or open_default, open_vad)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with service:
            yield

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def ready(_: Request) -> Response:
        return JSONResponse(service.describe(), 200 if service.state == "ready" else 503)

    async def metrics(request: Request) -> Response:
        if not authorized(request.headers.get("authorization"), settings.api_keys):
            return _denied("unauthorized", _KEY_WANTED)
        return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    async def upgrade(_: Request) -> Response:
        text = "this is a WebSocket; connect with ws:// or wss://"
        return JSONResponse({"error": text, "code": "upgrade_required"}, 426, {"upgrade": "websocket"})

    def admit(websocket: WebSocket) -> Options:
        headers, server = websocket.headers, websocket.scope.get("server")
        if not authorized(headers.get("authorization"), settings.api_keys):
            raise ProtocolError("unauthorized", _KEY_WANTED)
        local = bool(server) and is_loopback(server[0])
        if not origin_allowed(headers.get("origin"), headers.get("host"), settings.allowed_origins, local=local):
            origin = ascii(headers["origin"][:100])
            raise ProtocolError("forbidden_origin", f"pages of {origin} may not connect; see --allowed-origin")
        options = parse_options(websocket.query_params.multi_items(), turns or TurnSettings(), language)
        if why := service.refusal():
            raise ProtocolError(*why)
        assert service.recognizer is not None  # noqa: S101 - for the type checker: refused before it is there
        try:
            check_language(service.recognizer.model, options.language)
        except SettingsError:
            known = ", ".join(sorted(service.recognizer.model.languages)[:12])
            raise ProtocolError("bad_option", f"language: the engine knows {known}, got {options.language!r}") from None
        return options

    async def transcribe(websocket: WebSocket) -> None:
        try:
            options = admit(websocket)
        except ProtocolError as error:
            service.metrics.refused.labels(error.code).inc()
            await _refuse(websocket, error.code, str(error))
            return
        await Connection(websocket, service, options).run()

    async def nowhere(websocket: WebSocket) -> None:
        await _refuse(websocket, "not_found", f"no WebSocket here; the path is {PATH}")

    async def not_found(_: HTTPConnection, __: Exception) -> Response:
        paths = f"/health, /ready, /metrics and the WebSocket {PATH}"
        return JSONResponse({"error": f"no such path; there are {paths}", "code": "not_found"}, 404)

    async def not_allowed(_: HTTPConnection, error: Exception) -> Response:
        headers: Mapping[str, str] | None = getattr(error, "headers", None)
        return JSONResponse({"error": "expected GET", "code": "method_not_allowed"}, 405, headers)

    routes = [
        Route("/health", health),
        Route("/ready", ready),
        Route("/metrics", metrics),
        WebSocketRoute(PATH, transcribe),
        Route(PATH, upgrade),
        WebSocketRoute("/{path:path}", nowhere),
    ]
    handlers = {404: not_found, 405: not_allowed}
    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers=handlers)
    app.state.service = service
    return app


_KEY_WANTED: Final = "expected an API key: Authorization: Bearer KEY"


def _denied(code: str, text: str) -> JSONResponse:
    status = _STATUS.get(code, 404)
    headers = {"www-authenticate": "Bearer"} if status == 401 else {"retry-after": "5"} if status == 503 else None
    return JSONResponse({"error": text, "code": code}, status, headers)


async def _refuse(websocket: WebSocket, code: str, text: str) -> None:
    """Answer the handshake with an HTTP status and the reason; where the server cannot do that, by a close code."""
    if "websocket.http.response" in websocket.scope.get("extensions", {}):
        await websocket.send_denial_response(_denied(code, text))
        return
    status = _STATUS.get(code, 404)
    await websocket.close({503: 1013}.get(status, 1008), text[:120])
