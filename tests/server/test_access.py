"""Who may connect: keys wherever clients put them, origins of web pages, and what the log says of those refused."""

import asyncio
import logging
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import pytest
from websockets.asyncio.client import connect

from scripted import tone
from serving import counted, refused, serving, turn
from spoken import silence
from stt.errors import SettingsError
from stt.server import ServerSettings
from stt.server.access import authorized, is_loopback, offered, origin_allowed, read_keys
from stt.server.families import FAMILIES, Family

SPOKEN = np.concatenate([silence(0.3), tone(1), silence(0.2)])


async def test_keys() -> None:
    async with (
        serving(api_keys=("right-one", "right-two")) as running,
        httpx.AsyncClient(base_url=running.http) as http,
    ):
        wanted = {"error": "expected an API key: Authorization: Bearer KEY", "code": "unauthorized"}
        assert await refused(running) == (401, wanted)
        assert await refused(running, Authorization="Bearer wrong") == (401, wanted)
        assert await refused(running, Authorization="Basic right-one") == (401, wanted)
        for key in ("right-one", "right-two"):
            async with running.connect(additional_headers={"Authorization": f"Bearer {key}"}) as websocket:
                assert [m["isFinal"] for m in await turn(websocket, SPOKEN)][-1]
        response = await http.get("/metrics")
        assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
        assert (await http.get("/metrics", headers={"Authorization": "Bearer right-one"})).status_code == 200
        assert [(await http.get(path)).status_code for path in ("/health", "/ready")] == [200, 200]
        assert counted(running, "stt_sessions_refused_total", code="unauthorized") == 3


async def test_keys_are_never_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)  # below it, uvicorn writes all headers: `configure` does not let it
    async with serving(api_keys=("a-secret-key",)) as running:
        async with running.connect(additional_headers={"Authorization": "Bearer a-secret-key"}) as websocket:
            await turn(websocket, SPOKEN)
        await refused(running, Authorization="Bearer a-secret-key-but-longer")
    ours = [record for record in caplog.records if record.name.startswith(("stt", "uvicorn"))]
    assert ours
    assert "a-secret-key" not in "".join(f"{record.getMessage()}{record.__dict__.get('fields')}" for record in ours)
    assert "a-secret-key" not in repr(ServerSettings(api_keys=("a-secret-key",)))


@pytest.mark.parametrize("path", ["/ws/transcribe", "/v1/listen", "/v2/listen", "/v1/realtime", "/nowhere"])
async def test_a_refusal_is_an_answer_and_no_error_of_the_server(path: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with serving(api_keys=("key",)) as running:
        status, body = await refused(running, path=path)
        assert status in (401, 404)
        assert body
        # who hangs up without waiting for the answer is told nothing, and is no error either
        _, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(
            f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        writer.transport.abort()
        await running.until(lambda: not running.server.server_state.connections)
    assert [
        r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING and r.name.startswith("uvicorn")
    ] == []


async def test_origins() -> None:
    async with serving(allowed_origins=("https://good.example",)) as running:
        status, body = await refused(running, Origin="https://evil.example")
        assert (status, body["code"]) == (403, "forbidden_origin")
        for origin in ("https://good.example", running.http):
            async with running.connect(additional_headers={"Origin": origin}) as websocket:
                assert await turn(websocket, SPOKEN)


@pytest.mark.parametrize(
    ("origin", "host", "local", "allowed"),
    [
        (None, "127.0.0.1:15751", True, True),
        ("http://127.0.0.1:15751", "127.0.0.1:15751", True, True),
        ("http://localhost:15751", "localhost:15751", True, True),
        ("https://stt.example", "stt.example", False, True),
        ("https://STT.example", "stt.example", False, True),
        ("http://127.0.0.1:8000", "127.0.0.1:15751", True, False),  # another port is another origin
        ("https://stt.example", "stt.example:443", False, True),  # a port that goes without saying
        ("http://stt.example:80", "stt.example", False, True),
        ("https://stt.example:8443", "stt.example", False, False),
        ("http://evil.example:15751", "evil.example:15751", True, False),  # DNS rebinding
        ("https://evil.example", "stt.example", False, False),
        ("null", "stt.example", False, False),
        ("", "", False, False),
        ("file://", "", False, False),
        ("https://[::1", "[::1", False, False),
        ("https://good.example/", "stt.example", False, True),
    ],
)
def test_origin_rules(origin: str | None, host: str, *, local: bool, allowed: bool) -> None:
    assert origin_allowed(origin, host, ["https://good.example"], local=local) == allowed


def test_access_rules(tmp_path: Path) -> None:
    assert authorized([], [])
    assert authorized(["no", "key"], ["other", "key"])
    assert not authorized([""], ["key"])
    assert not authorized(["key2"], ["key"])
    assert [is_loopback(h) for h in ("127.0.0.1", "::1", "[::1]", "localhost", "a.localhost", "0.0.0.0", "x.org")] == (
        [True] * 5 + [False] * 2
    )
    keys = tmp_path / "keys"
    keys.write_text("# ours\n one \n\ntwo\n")
    assert read_keys(keys) == ("one", "two")
    keys.write_text("# none\n")
    for path, text in ((keys, "found none"), (tmp_path / "missing", "No such file")):
        with pytest.raises(SettingsError, match=text):
            read_keys(path)


KEY = "a-secret-key"
IN_NAME = f"openai-insecure-api-key.{KEY}"


@pytest.mark.parametrize(
    ("query", "subprotocols", "headers", "answered"),
    [
        ("", [], {"Authorization": f"Bearer {KEY}"}, None),
        ("", [], {"Authorization": f"token {KEY}"}, None),
        ("", ["token", KEY], {}, "token"),
        ("", ["bearer", KEY], {}, "bearer"),
        ("", ["realtime", IN_NAME, "openai-beta.realtime-v1"], {}, "realtime"),
        (f"?api_key={KEY}&events=0", [], {}, None),
        (f"?token={KEY}", [], {}, None),
    ],
)
async def test_a_key_is_found_wherever_clients_can_put_it_and_is_never_logged(
    query: str,
    subprotocols: list[Any],
    headers: dict[str, str],
    answered: str | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    async with serving(api_keys=("other", KEY)) as running:
        offer: Any = {"subprotocols": subprotocols} if subprotocols else {}
        async with running.connect(query, additional_headers=headers, **offer) as websocket:
            assert websocket.subprotocol == answered
            assert (await turn(websocket, SPOKEN))[-1]["isFinal"]
        for wrong in (f"?token=x{KEY}", f"?api_key=&token={KEY}x"):
            assert (await refused(running, wrong))[0] == 401
        status, _ = await refused(running, path=f"/elsewhere?token={KEY}")
        assert status == 404
        async with httpx.AsyncClient(base_url=running.http) as http:
            assert (await http.get(f"/metrics?token={KEY}")).status_code == 200
    ours = [record for record in caplog.records if record.name.startswith(("stt", "uvicorn"))]
    assert ours
    assert KEY not in "".join(f"{record.getMessage()}{record.__dict__.get('fields')}" for record in ours)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
async def test_a_server_without_keys_takes_any_and_never_names_it(family: Family) -> None:
    """Clients insist on sending one, and browsers on hearing what they offered."""
    async with serving() as running:
        for kind in family.websocket:
            url = f"ws://127.0.0.1:{running.port}{kind.path}"
            for offer in (["token", KEY], ["bearer", KEY], ["realtime", IN_NAME]):
                async with connect(url, subprotocols=offer, compression=None) as websocket:  # type: ignore[arg-type]
                    assert websocket.subprotocol == offer[0]
                    assert websocket.response is not None
                    assert KEY not in str(websocket.response.headers)
            async with connect(url, additional_headers={"Authorization": f"Token {KEY}"}, compression=None):
                pass


def test_what_is_left_of_a_request_once_its_keys_are_taken() -> None:
    given = offered({}, ["token", "one", "more"], [("events", "1"), ("token", "two"), ("api_key", "")])
    assert given.keys == ("one", "two", "")
    assert given.query == (("events", "1"),)
    assert given.subprotocol == "token"
    assert "one" not in repr(given)
    assert offered({"authorization": "Basic abc"}, ["token"], []).keys == ()
    assert offered({}, ["graphql-ws"], []).subprotocol is None


@pytest.mark.parametrize("key", ["a+b/c==", "a b", "50%", "%41", "(x)"])
@pytest.mark.parametrize("form", ["token {}", "realtime openai-insecure-api-key.{}"])
def test_a_key_that_no_subprotocol_can_hold_is_sent_percent_encoded(key: str, form: str) -> None:
    """Base64, say, as `openssl rand` writes it."""
    assert key in offered({}, form.format(quote(key, safe="")).split(), []).keys


def refusals(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [record.__dict__["fields"] for record in caplog.records if record.getMessage() == "refused"]


async def test_whoever_is_refused_leaves_a_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    key = {"Authorization": f"Bearer {KEY}"}
    async with serving(api_keys=(KEY,), max_sessions=1) as running, running.connect(additional_headers=key):
        for query, headers in (
            ("", {}),
            ("", {**key, "Origin": "https://evil.example"}),
            ("?nonsense=1", key),
            ("", {**key, "X-Forwarded-For": "203.0.113.9"}),
        ):
            await refused(running, query, **headers)
        async with httpx.AsyncClient(base_url=running.http) as http:
            await http.get("/metrics")
        await refused(running, path="/ws/other")
    seen = [(line["status"], line["code"], line["path"]) for line in refusals(caplog)]
    assert seen == [
        (401, "unauthorized", "/ws/transcribe"),
        (403, "forbidden_origin", "/ws/transcribe"),
        (400, "bad_option", "/ws/transcribe"),
        (503, "too_many_sessions", "/ws/transcribe"),
        (401, "unauthorized", "/metrics"),
        (404, "not_found", "/ws/other"),
    ]
    clients = [line["client"] for line in refusals(caplog)]
    assert clients[3] == "203.0.113.9"  # what the proxy on this machine says
    assert clients[0].startswith("127.0.0.1:")


async def test_a_proxy_that_is_not_listed_is_not_believed(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with serving(api_keys=(KEY,), forwarded_allow_ips="10.0.0.0/8") as running:
        await refused(running, **{"X-Forwarded-For": "203.0.113.9"})
    assert refusals(caplog)[0]["client"].startswith("127.0.0.1:")
