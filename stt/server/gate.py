"""Who is let in, over whatever they come: keys, origins, room, and languages that the engine knows."""

from collections.abc import Mapping

from starlette.requests import HTTPConnection

from stt.engines import check_language
from stt.engines.languages import language_code
from stt.errors import SettingsError
from stt.recognition.engine import known_languages, named_engine, unknown_engine
from stt.server.access import Offered, authorized, is_loopback, origin_allowed
from stt.server.dialect import NotAdmittedError
from stt.server.logs import log
from stt.server.service import Service
from stt.server.settings import ServerSettings
from stt.server.wire import address
from stt.settings import TurnSettings

KEY_WANTED = "expected an API key: Authorization: Bearer KEY"


class Gate:
    """The checks before a session or a file, and the defaults for those that pass."""

    def __init__(
        self,
        service: Service,
        settings: ServerSettings,
        language: str | None,
        terms: tuple[str, ...] = (),
        expected: frozenset[str] = frozenset(),
    ) -> None:
        self.service = service
        self.settings = settings
        self.language = language
        self.terms = terms
        self._expected = expected or frozenset({language or "en"})

    @property
    def turns(self) -> TurnSettings:
        """How sound becomes turns where a client does not say otherwise."""
        return self.service.turns

    @property
    def languages(self) -> frozenset[str]:
        """Those that the engine knows; none before it is there."""
        recognizer = self.service.recognizer
        return recognizer.model.languages if recognizer is not None else frozenset()

    @property
    def offered_languages(self) -> frozenset[str]:
        """Those for people to pick from; while the engine loads, those that its name promises, or else the server's."""
        return self.languages or self._expected

    @property
    def engines(self) -> Mapping[str, frozenset[str]]:
        """Those that a client may ask for by name, with the languages of each; none where there is but one."""
        recognizer = self.service.recognizer
        engines = recognizer.engines if recognizer is not None else {}
        return {name: engine.languages for name, engine in engines.items()}

    def engine(self, name: str) -> str | None:
        """Return the engine of this name, which a client gave as that of a model (`named_engine`)."""
        return named_engine(name, self.engines)

    def known(self, engine: str | None) -> frozenset[str]:
        """Languages of an engine by its name; `None`: of whichever serves."""
        return known_languages(engine, self.engines, self.languages)

    def check(self, connection: HTTPConnection) -> None:
        """Look at keys and origin.

        Raises:
            NotAdmittedError: it may not connect.

        """
        headers, server = connection.headers, connection.scope.get("server")
        given: Offered = connection.scope["offered"]
        if not authorized(given.keys, self.settings.api_keys):
            raise NotAdmittedError("unauthorized", KEY_WANTED)
        local = bool(server) and is_loopback(server[0])
        if not origin_allowed(headers.get("origin"), headers.get("host"), self.settings.allowed_origins, local=local):
            origin = ascii(headers["origin"][:100])
            raise NotAdmittedError("forbidden_origin", f"pages of {origin} may not connect; see --allowed-origin")

    def room(self, places: int = 1) -> None:
        """See whether one more can be served now, or one that holds several places.

        Raises:
            NotAdmittedError: none can.

        """
        if why := self.service.refusal(places):
            raise NotAdmittedError(*why)

    def speaks(self, language: str | None, engine: str | None = None) -> str | None:
        """Return the code of a language as the engine knows it, `None` where it is to find out.

        `engine`: which one, by name; `None`: whichever serves.

        Raises:
            NotAdmittedError: it does not know it, or there is none of this name.

        """
        recognizer = self.service.recognizer
        assert recognizer is not None  # noqa: S101 - for the type checker: refused before it is there
        if why := unknown_engine(engine, self.engines):
            raise NotAdmittedError("bad_option", why, option="engine")
        model = recognizer.model if engine is None else recognizer.engines[engine]
        try:
            check_language(model, language)
        except SettingsError:
            known = ", ".join(sorted(model.languages)[:12])
            text = f"language: the engine knows {known}, got {str(language)[:40]!r}"
            raise NotAdmittedError("bad_option", text, option="language") from None
        return language_code(language)

    def refused(self, connection: HTTPConnection, status: int, code: str) -> None:
        """Count and tell who was not let in, and why. The path alone: the query may hold a key."""
        self.service.metrics.refused.labels(code).inc()
        log_refusal(connection, status, code)


def log_refusal(connection: HTTPConnection, status: int, code: str) -> None:
    path = connection.url.path[:100].encode("ascii", "backslashreplace").decode()
    log("refused", client=address(connection.scope), path=path, status=status, code=code)
