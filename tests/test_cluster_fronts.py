"""Fronts inside Ray, without Ray: what may be asked for, and what bounds a client whom no socket holds back."""

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from replicas import Directory, elsewhere, fleet
from stt.cli import main
from stt.cluster.fronts import Bounded, FrontSpec, front_app, read_fronts
from stt.errors import SettingsError
from stt.server.settings import ServerSettings
from stt.settings import TurnSettings

Sent = dict[str, Any]


def test_fronts_are_read_from_a_configuration_file():
    args = {
        "fronts": 2,
        "language": "de",
        "terms": ["Ray"],
        "dialects": ["native"],
        "turns": {"end_of_turn_s": 0.8},
        "server": {"max_sessions": 50, "allowed_origins": ["https://example.com"]},
    }
    assert read_fronts(args) == FrontSpec(
        fronts=2,
        language="de",
        terms=("Ray",),
        dialects=("native",),
        turns=TurnSettings(end_of_turn="auto", end_of_turn_s=0.8),
        server=ServerSettings(max_sessions=50, allowed_origins=("https://example.com",)),
    )
    assert read_fronts({}) == FrontSpec()


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        ({"fronts": 0}, "1 front or more, got 0"),
        ({"dialects": ["esperanto"]}, "native, openai, deepgram, got esperanto"),
        ({"front": 1}, "got 'front'"),
        ({"server": {"max_sessions": "many"}}, "max_sessions: expected a number"),
        ({"server": {"port": 80}}, "all else is the proxy's.*got 'port'"),
        ({"server": {"api_keys": ["secret"]}}, "got 'api_keys'"),  # they would lie in what Ray keeps of a deployment
        ({"turns": {"pause": 1}}, "got 'pause'"),
    ],
)
def test_fronts_that_cannot_be_are_told(args: dict[str, Any], complaint: str):
    with pytest.raises(SettingsError, match=complaint) as told:
        read_fronts(args)
    assert "secret" not in str(told.value)


def test_the_command_deploys_what_a_file_would(monkeypatch: pytest.MonkeyPatch):
    """The defaults of both are the same, so that moving from one to the other changes nothing."""
    from stt.commands import cluster

    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(cluster, "up", lambda _, **given: asked.append(given) or 0)
    assert main(["cluster", "up", "--fronts", "2", "--max-sessions", "7", "--term", "Ray"]) == 0
    assert main(["cluster", "up"]) == 0
    assert FrontSpec(**asked[0]["fronts"]) == read_fronts(
        {"fronts": 2, "server": {"max_sessions": 7}, "terms": ["Ray"]}
    )
    assert asked[1]["fronts"] is None


class Proxy:
    """Ray's proxy, as a front sees it: a client's messages are there at once, whether anybody takes them or not."""

    def __init__(self, *messages: Sent) -> None:
        self.sent: list[Sent] = []
        self._messages = [{"type": "websocket.connect"}, *messages]
        self.taken = 0
        self.all_taken = asyncio.Event()

    async def receive(self) -> Sent:
        if self.taken == len(self._messages):
            self.all_taken.set()
            await asyncio.Event().wait()
        self.taken += 1
        return self._messages[self.taken - 1]

    async def send(self, message: Sent) -> None:
        self.sent.append(message)


def audio(length: int) -> Sent:
    return {"type": "websocket.receive", "bytes": bytes(length)}


async def talk(proxy: Proxy, app: Any, **bounds: int) -> None:
    async with asyncio.timeout(60):
        await Bounded(app, **bounds)({"type": "websocket", "path": "/x"}, proxy.receive, proxy.send)


async def test_all_that_a_client_sends_within_bounds_arrives_in_order():
    got: list[Any] = []

    async def app(_: Sent, receive: Any, send: Any) -> None:
        while (message := await receive())["type"] != "websocket.disconnect":
            got.append(message.get("bytes"))
        await send({"type": "websocket.close", "code": 1000})

    gone = {"type": "websocket.disconnect", "code": 1000}
    proxy = Proxy(audio(1), audio(2), audio(3), gone)
    await talk(proxy, app, most_bytes=10, unread_bytes=10_000)
    assert got == [None, bytes(1), bytes(2), bytes(3)]
    assert proxy.sent == [{"type": "websocket.close", "code": 1000}]


@pytest.mark.parametrize(
    ("messages", "code", "reason"),
    [
        ([audio(4), audio(11)], 1009, "messages of at most 10 bytes, got 11"),
        ([{"type": "websocket.receive", "text": "x" * 11}], 1009, "got 11"),
        ([audio(10)] * 5, 1008, "ahead of what is heard"),
        ([audio(0)] * 5, 1008, "ahead of what is heard"),  # each takes room, whatever it holds
    ],
)
async def test_a_client_beyond_bounds_is_closed_with_the_reason_and_its_session_hears_of_it(messages, code, reason):
    """The session takes nothing, as where its engine is late; nothing is sent to a client that was closed."""
    seen: list[Sent] = []
    asleep = asyncio.Event()

    async def app(_: Sent, receive: Any, send: Any) -> None:
        await asleep.wait()
        seen.append(await receive())
        seen.append(await receive())
        with pytest.raises(OSError, match="closed"):
            await send({"type": "websocket.send", "text": "late"})

    proxy = Proxy(*messages)
    talking = asyncio.create_task(talk(proxy, app, most_bytes=10, unread_bytes=1_100))
    while not proxy.sent:
        await asyncio.sleep(0)
    asleep.set()
    await talking
    [closed] = proxy.sent
    assert closed["code"] == code
    assert re.search(reason, closed["reason"])
    assert len(closed["reason"]) <= 123  # as much as a close frame carries
    assert [(m["type"], m["code"]) for m in seen] == [("websocket.disconnect", code)] * 2


async def test_what_was_taken_counts_no_more():
    async def app(_: Sent, receive: Any, __: Any) -> None:
        for _ in range(100):
            await receive()
            await asyncio.sleep(0)

    proxy = Proxy(*[audio(10)] * 99)
    await talk(proxy, app, most_bytes=10, unread_bytes=1_000_000)
    assert proxy.sent == []


async def test_paths_may_have_bounds_of_their_own():
    async def app(_: Sent, receive: Any, __: Any) -> None:
        assert (await receive())["type"] == "websocket.connect"
        assert (await receive())["bytes"] == bytes(20)

    proxy = Proxy(audio(20))
    await talk(proxy, app, most_bytes=10, of_path={"/x": 20})


async def test_a_proxy_that_dies_is_a_client_that_vanished():
    class Dying(Proxy):
        async def receive(self) -> Sent:
            raise RuntimeError("the actor died")

    seen: list[Sent] = []

    async def app(_: Sent, receive: Any, __: Any) -> None:
        seen.append(await receive())

    await talk(Dying(), app, most_bytes=10)
    assert seen == [{"type": "websocket.disconnect", "code": 1006}]


async def test_what_the_app_raises_is_raised():
    async def app(*_: Any) -> None:
        raise ValueError("a mistake")

    with pytest.raises(ValueError, match="a mistake"):
        await talk(Proxy(), app, most_bytes=10)


def test_a_front_has_the_keys_of_the_file_and_the_limits_of_its_spec(tmp_path: Path):
    keys = tmp_path / "keys"
    keys.write_text("secret\n")
    made: list[Any] = []
    directory = Directory(default=asyncio.run(fleet()))
    spec = FrontSpec(api_key_file=str(keys), server=ServerSettings(max_sessions=3, page=False))
    app = front_app(spec, elsewhere(directory, made))
    settings = app.state.service.settings
    assert (settings.max_sessions, settings.api_keys) == (3, ("secret",))
    client = TestClient(app)
    assert client.get("/metrics").status_code == 401
    assert client.get("/metrics?api_key=secret").status_code == 200
    assert client.get("/").json()["name"] == "stt"
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/ws/transcribe"):
        pass
    with pytest.raises(SettingsError, match="API key file"):
        front_app(FrontSpec(api_key_file=str(tmp_path / "none")), elsewhere(directory, made))


def test_a_proxy_has_no_unix_socket(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    from stt.commands import cluster

    monkeypatch.setattr(cluster, "_connected", lambda _: type("Ray", (), {"disconnect": lambda: None}))
    assert main(["cluster", "up", "--fronts", "1", "--host", "unix:/run/x"]) == 2
    assert "no Unix sockets" in capsys.readouterr().err
