"""The Starlette app: `create_app(...)`, its routes, and what is checked before a session is let in."""

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final
from urllib.parse import parse_qsl, urlencode

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from stt.engines import check_language, open_engine, open_interims, settled
from stt.engines.languages import languages_by_name
from stt.recognition import OpenModel, SpeechModel
from stt.server import page
from stt.server.access import Offered, authorized, offered
from stt.server.dialect import Dialect, NotAdmittedError, SessionOptions
from stt.server.dialect import Request as DialectRequest
from stt.server.dialects.native import refusal
from stt.server.dialects.reading import shown
from stt.server.families import FAMILIES, Family
from stt.server.gate import KEY_WANTED, Gate, log_refusal
from stt.server.host import Host
from stt.server.service import OpenEngine, Service, local_engine
from stt.server.settings import ServerSettings
from stt.server.wire import WebSocketWire, response
from stt.settings import EngineSettings, TurnSettings
from stt.terms import checked
from stt.vad_pool import VadPool

_ALSO: Final = ("GET /health", "GET /ready", "GET /metrics")


def create_app(
    settings: ServerSettings | None = None,
    *,
    engine: EngineSettings | None = None,
    turns: TurnSettings | None = None,
    language: str | None = "en",
    terms: Sequence[str] = (),
    open_model: OpenModel | None = None,
    open_interims: OpenModel | None = None,
    elsewhere: OpenEngine | None = None,
    open_vad: Callable[[], VadPool] = VadPool,
    dialects: Sequence[Family] = tuple(FAMILIES.values()),
) -> Starlette:
    """Build the app; the engine is opened when it starts, and `app.state.service` is its `Service`.

    `stt serve` runs it with limits on sockets that an app cannot set itself; `uvicorn --factory stt.server:create_app`
    runs it with all defaults.

    Args:
        settings: limits and rights.
        engine: which engine to open.
        turns: defaults for sessions, who may ask for other gaps.
        language: default for sessions; `None`: the engine finds out.
        terms: those of sessions that name none.
        open_model: opens the engine instead, for programs that bring their own.
        open_interims: opens one for interims alone beside it.
        elsewhere: makes an engine that does not run in this process; then none is opened here.
        open_vad: opens the detector instead.
        dialects: what is spoken.

    """
    settings = settings or ServerSettings()
    kinds = [kind for family in dialects for kind in family.websocket]
    paths = " or ".join(kind.path for kind in kinds)

    expected = languages_by_name(engine) if engine is not None and elsewhere is None else frozenset[str]()
    if elsewhere is None:
        if open_model is None:
            open_model, open_interims = _openers(settled(engine), language)
        elsewhere = local_engine(open_model, settings.engine_timeout_s, open_interims)
    service = Service(settings, elsewhere, open_vad, turns)
    gate = Gate(service, settings, language, checked(terms), expected)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with service:
            yield

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def ready(_: Request) -> Response:
        return JSONResponse(service.describe(), 200 if service.state == "ready" else 503)

    async def about(_: Request) -> Response:
        spoken = {family.name: list(family.paths) for family in dialects}
        return JSONResponse({"name": "stt", "dialects": spoken, "also": _ALSO})

    async def metrics(request: Request) -> Response:
        if not authorized(request.scope["offered"].keys, settings.api_keys):
            log_refusal(request, 401, "unauthorized")
            return response(refusal(NotAdmittedError("unauthorized", KEY_WANTED)))
        return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    def admit(connection: HTTPConnection, name: str, dialect: Dialect) -> SessionOptions:
        gate.check(connection)
        given: Offered = connection.scope["offered"]
        request = DialectRequest(name, given.query, connection.headers, gate.languages, gate.engines, gate.terms)
        options = dialect.open(request, gate.turns, language)
        gate.room(options.channels)
        gate.speaks(options.recognition.language, options.recognition.engine)
        return options

    def upgrade(kind: type[Dialect]) -> Callable[[Request], Awaitable[Response]]:
        """Answer as the WebSocket would be: browsers do not tell a page why one was refused, but it can ask here."""

        async def answer(request: Request) -> Response:
            dialect = kind()
            try:
                admit(request, "", dialect)
            except NotAdmittedError as error:
                denial = dialect.refuse(error)
                log_refusal(request, denial.status, error.code)
                return response(denial)
            text = "this is a WebSocket; connect with ws:// or wss://"
            return JSONResponse({"error": text, "code": "upgrade_required"}, 426, {"upgrade": "websocket"})

        return answer

    def talk(kind: type[Dialect]) -> Callable[[WebSocket], Awaitable[None]]:
        async def serve(websocket: WebSocket) -> None:
            dialect, wire, name = (
                kind(),
                WebSocketWire(websocket, websocket.scope["offered"].subprotocol),
                secrets.token_hex(4),
            )
            try:
                options = admit(websocket, name, dialect)
            except NotAdmittedError as error:
                denial = dialect.refuse(error)
                gate.refused(websocket, denial.status, error.code)
                await wire.refuse(denial)
                return
            await Host(name, wire, dialect, options, service).run()

        return serve

    async def nowhere(websocket: WebSocket) -> None:
        log_refusal(websocket, 404, "not_found")
        text = f"no WebSocket here; the path is {paths}"
        await WebSocketWire(websocket).refuse(refusal(NotAdmittedError("not_found", text)))

    def lost(connection: HTTPConnection, error: NotAdmittedError, headers: Mapping[str, str]) -> Response:
        path = connection.url.path
        refuse = next((family.refuse for family in dialects if family.root and path.startswith(family.root)), refusal)
        return response(replace(refuse(error), headers=headers))

    async def not_found(connection: HTTPConnection, _: Exception) -> Response:
        there = [path for family in dialects for path in family.paths]
        text = f"nothing at {shown(connection.url.path)}; there are {', '.join([*there, *_ALSO])}"
        return lost(connection, NotAdmittedError("not_found", text), {})

    async def not_allowed(connection: HTTPConnection, error: Exception) -> Response:
        headers: Mapping[str, str] = getattr(error, "headers", None) or {}
        text = f"expected {headers.get('Allow', 'GET')}"
        return lost(connection, NotAdmittedError("method_not_allowed", text), headers)

    routes = [
        *(page.routes() if settings.page else (Route("/", about),)),
        Route("/health", health),
        Route("/ready", ready),
        Route("/metrics", metrics),
        *(WebSocketRoute(kind.path, talk(kind)) for kind in kinds),
        *(Route(kind.path, upgrade(kind)) for kind in kinds),
        *(route for family in dialects for make in family.http for route in make(gate)),
        WebSocketRoute("/{path:path}", nowhere),
    ]
    handlers = {404: not_found, 405: not_allowed}
    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers=handlers, middleware=[Middleware(_TakeKeys)])
    app.state.service = service
    app.state.gate = gate
    app.state.message_bytes = {kind.path: kind.message_bytes for kind in kinds if kind.message_bytes is not None}
    return app


def _openers(engine: EngineSettings, language: str | None) -> tuple[OpenModel, OpenModel | None]:
    """Return what opens the engine, and the model for interims where there is to be one."""

    def opening(load: Callable[[], SpeechModel]) -> OpenModel:
        def open_checked() -> SpeechModel:
            model = load()
            check_language(model, language)
            return model

        return open_checked

    finals = opening(lambda: open_engine(engine).model)
    return finals, None if engine.interim_model is None else opening(lambda: open_interims(engine))


class _TakeKeys:
    """Takes API keys out of the query before anybody, uvicorn included, can log it: `scope["offered"]` has them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
            given = scope["offered"] = offered(Headers(scope=scope), scope.get("subprotocols", ()), query)
            if len(given.query) < len(query):
                scope["query_string"] = urlencode(given.query).encode("latin-1")
        await self._app(scope, receive, send)
