"""`RemoteSession` gives the events that `Session` gives, through lost connections too."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

import stt.client
from scripted import LoudnessVad, ScriptedModel, tone
from serving import Running, serving
from spoken import silence
from stt.audio import Samples, from_pcm16, to_pcm16
from stt.client import RemoteSession, trusting
from stt.commands.live import Screen, stream
from stt.errors import AudioError, RefusedError, RemoteError, SettingsError
from stt.events import Event, Latency, RecognitionFailed, TurnCompleted, TurnPaused, TurnResumed, TurnStarted
from stt.recognition import LocalRecognizer
from stt.session import Session
from stt.settings import TurnSettings

TLS = Path(__file__).parents[1] / "data" / "tls"

# What PCM16 can carry exactly, so that nothing is lost on the way.
TALK = from_pcm16(
    to_pcm16(np.concatenate([p for i in range(6) for p in (tone(0.8), silence(0.6 if i % 2 else 1.9))]))
).reshape(-1)


async def pieces(audio: Samples, size: int = 1_600, pause_s: float = 0.0) -> AsyncIterator[Samples]:
    for at in range(0, len(audio), size):
        yield audio[at : at + size]
        await asyncio.sleep(pause_s)


class Heard:
    """A sink that keeps what comes."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    async def __call__(self, event: Event) -> None:
        self.events.append(event)

    @property
    def comparable(self) -> list[Event]:
        """What the detector found, then the finals: how they mix, and other texts, depend on the engine."""
        same = Latency(0, 0, 1)
        detected = [e for e in self.events if isinstance(e, TurnStarted | TurnPaused | TurnResumed)]
        return detected + [
            replace(e, latency=same, decided=0, why="silence") for e in self.events if isinstance(e, TurnCompleted)
        ]

    @property
    def finals(self) -> list[tuple[Any, ...]]:
        return [(e.turn, e.text) for e in self.events if isinstance(e, TurnCompleted)]


async def local(audio: Samples, settings: TurnSettings | None = None) -> Heard:
    heard = Heard()
    with LocalRecognizer(ScriptedModel()) as recognizer:
        await Session(recognizer, LoudnessVad(), settings=settings).run(pieces(audio), heard)  # type: ignore[arg-type]
    return heard


@pytest.mark.parametrize("settings", [None, TurnSettings(end_of_turn_s=0.5, pause_s=0.2)])
async def test_the_same_events_as_in_process(settings: TurnSettings | None) -> None:
    expected, heard = await local(TALK, settings), Heard()
    async with serving() as running:
        session = RemoteSession(running.ws, settings=settings)
        await session.run(pieces(TALK), heard)
    assert heard.comparable == expected.comparable
    assert len(heard.finals) == (4 if settings is None else 6)
    assert session.done_s > 5


async def test_a_source_that_fails_loses_nothing_said_before() -> None:
    async def breaks() -> AsyncIterator[Samples]:
        yield tone(1)
        raise AudioError("the disk is gone")

    heard = Heard()
    async with serving() as running:
        with pytest.raises(AudioError, match="the disk is gone"):
            await RemoteSession(running.ws).run(breaks(), heard)
    assert heard.finals == [(0, "w16000")]


async def test_a_sink_that_fails_ends_the_session() -> None:
    async def sink(event: Event) -> None:
        raise OSError(f"no room for {type(event).__name__}")

    async with serving() as running:
        with pytest.raises(OSError, match="no room for TurnStarted"):
            await RemoteSession(running.ws).run(pieces(TALK), sink)
        await running.until(lambda: not running.service.sessions)


class Relay:
    """A TCP relay that can be cut: what a network does."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.writers: set[asyncio.StreamWriter] = set()
        self.connections = 0
        self.carried = 0  # bytes, in both directions

    async def __aenter__(self) -> Self:
        self.server = await asyncio.start_server(self.accept, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.server.close()
        self.cut()

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    def cut(self) -> None:
        for writer in self.writers:
            writer.transport.abort()
        self.writers.clear()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            other_reader, other_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        self.writers |= {writer, other_writer}

        async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            try:
                while data := await source.read(65536):
                    self.carried += len(data)
                    target.write(data)
                    await target.drain()
                target.close()
            except ConnectionError:
                target.transport.abort()

        await asyncio.gather(pump(reader, other_writer), pump(other_reader, writer))


async def test_a_lost_connection_loses_no_word_and_repeats_no_final() -> None:
    """Cut at the start of a turn, within one, in a pause, and between two."""
    expected = await local(TALK)
    for cut_at in (1_000, 9_000, 20_000, 45_000, 80_000):
        notes: list[str] = []
        heard = Heard()
        async with serving() as running, Relay(running.port) as relay:

            async def source(
                cut_at: int = cut_at, relay: Relay = relay, running: Running = running
            ) -> AsyncIterator[Samples]:
                for at in range(0, len(TALK), 1_000):
                    if at == cut_at:
                        # As in `outage`: the client must know of its connection.
                        await running.until(lambda: any(each._inbox.received_s for each in running.service.sessions))
                        await asyncio.sleep(0.05)
                        relay.cut()
                    yield TALK[at : at + 1_000]
                    await asyncio.sleep(0.002)

            await RemoteSession(relay.url, notify=notes.append).run(source(), heard)
            assert relay.connections == 2
        assert [n for n, _ in heard.finals] == [0, 1, 2, 3]
        assert [e.turn for e in heard.events if isinstance(e, TurnStarted)] == [0, 1, 2, 3]
        completed = [[e for e in each.events if isinstance(e, TurnCompleted)] for each in (heard, expected)]
        for mine, theirs in zip(*completed, strict=True):
            assert abs(mine.start - theirs.start) <= 512
            assert abs(mine.end - theirs.end) <= 512
        assert any("trying again" in note for note in notes)


async def test_a_restarted_server_is_found_again() -> None:
    heard, notes = Heard(), []
    said = asyncio.Event()

    async def source() -> AsyncIterator[Samples]:
        yield np.concatenate([tone(1), silence(2)])
        await said.wait()
        yield np.concatenate([tone(1), silence(2)])

    async with Relay(0) as relay:
        async with serving() as first:
            relay.target = first.port
            running = asyncio.create_task(RemoteSession(relay.url, notify=notes.append).run(source(), heard))
            await first.until(lambda: len(heard.finals) == 1)
        relay.target = 1  # nobody listens there
        await first.until(lambda: sum("trying again" in note for note in notes) > 1)
        async with serving() as second:
            relay.target = second.port
            said.set()
            await running
    assert [turn for turn, _ in heard.finals] == [0, 1]


async def refused(running: Running, text: str, kind: type[RemoteError] = RefusedError, **options: Any) -> None:
    with pytest.raises(RemoteError, match=text) as raised:
        await RemoteSession(running.ws, **options).run(pieces(TALK), Heard())
    assert type(raised.value) is kind


async def test_refusals_are_told() -> None:
    async with serving(api_keys=("key",)) as running:
        await refused(running, "refused with HTTP 401: expected an API key")
        await refused(running, "refused with HTTP 400: language: the engine knows en", api_key="key", language="xx")
        heard = Heard()
        await RemoteSession(running.ws, api_key="key").run(pieces(TALK), heard)
        assert len(heard.finals) == 4
    async with serving(max_sessions=1) as running, running.connect():
        why = "gave up after 0.3 s: refused with HTTP 503: all 1 sessions are in use"
        await refused(running, why, RemoteError, patience_s=0.3)


async def test_a_server_that_is_not_there() -> None:
    async with serving() as running:
        port = running.port
    with pytest.raises(RemoteError, match=r"cannot connect to ws://127\.0\.0\.1.*is `stt serve` running\?"):
        await RemoteSession(f"ws://127.0.0.1:{port}").run(pieces(TALK), Heard())


async def test_something_that_is_no_stt_server() -> None:
    async def other(websocket: ServerConnection) -> None:
        await websocket.send("[hello]")
        await websocket.wait_closed()

    async with serve(other, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(RemoteError, match="is this an stt server"):
            await RemoteSession(f"ws://127.0.0.1:{port}").run(pieces(TALK), Heard())


@pytest.mark.parametrize(
    "nonsense",
    [
        "{",
        "[" * 100_000,
        '{"type": "turn_started", "turn": 7, "start": 0}',
        '{"type": "turn_started", "turn": 0, "start": NaN}',
        '{"type": "turn_started", "turn": 0, "start": 1e999}',
        '{"type": "turn_completed", "turn": 0, "start": 0, "end": 1, "text": " ", "passages": [7]}',
        '{"type": "transcript", "turn": 0, "start": 0, "end": 1, "text": "a", "committed": 2, "stable": 2}',
        '{"error": "no", "turn": "x"}',
    ],
)
async def test_nonsense_is_told_as_such(nonsense: str) -> None:
    async def other(websocket: ServerConnection) -> None:
        await websocket.send(nonsense)
        await websocket.wait_closed()

    async with serve(other, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(RemoteError, match="is this an stt server"):
            await RemoteSession(f"ws://127.0.0.1:{port}").run(pieces(TALK), Heard())


async def test_a_server_of_an_earlier_version_is_asked_for_less() -> None:
    asked = []

    def refuse(connection: ServerConnection, request: Request) -> Response | None:
        asked.append(request.path)
        body = '{"error": "unknown option \'repeat_committed\'; known: events", "code": "bad_option"}'
        return connection.respond(400, body) if "repeat_committed" in request.path else None

    async def other(websocket: ServerConnection) -> None:
        async for message in websocket:
            if isinstance(message, str):
                return

    async with serve(other, "127.0.0.1", 0, process_request=refuse) as server:
        port = server.sockets[0].getsockname()[1]
        await RemoteSession(f"ws://127.0.0.1:{port}").run(pieces(TALK), Heard())
    assert ["repeat_committed" in path for path in asked] == [True, False]


async def test_this_machine_is_reached_without_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    heard = Heard()
    async with serving() as running:
        await RemoteSession(running.ws).run(pieces(TALK), heard)
    assert len(heard.finals) == 4


async def test_a_certificate_is_trusted_with_its_ca_file_alone() -> None:
    files = {"tls_cert": str(TLS / "cert.pem"), "tls_key": str(TLS / "key.pem")}
    async with serving(**files) as running:
        url, heard = f"wss://localhost:{running.port}", Heard()
        with pytest.raises(RefusedError, match=r"cannot connect to wss://localhost.*certificate"):
            await RemoteSession(url).run(pieces(TALK), Heard())
        await RemoteSession(url, tls=trusting(TLS / "cert.pem")).run(pieces(TALK), heard)
    assert len(heard.finals) == 4
    for path in (TLS / "none.pem", __file__):
        with pytest.raises(SettingsError, match="expected certificates in PEM"):
            trusting(path)


async def test_a_url_with_or_without_tls_that_should_be_the_other_is_told() -> None:
    files = {"tls_cert": str(TLS / "cert.pem"), "tls_key": str(TLS / "key.pem")}
    async with serving() as running:
        with pytest.raises(RemoteError, match="without TLS is at ws://"):
            await RemoteSession(f"wss://localhost:{running.port}").run(pieces(TALK), Heard())
    async with serving(**files) as running:
        with pytest.raises(RemoteError, match="with TLS is at wss://"):
            await RemoteSession(f"ws://localhost:{running.port}").run(pieces(TALK), Heard())


async def test_audio_that_nobody_can_hear_again_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that hears speech and never says a word of it, for longer than the tape."""
    monkeypatch.setattr(stt.client, "_KEEP_S", 10.0)
    monkeypatch.setattr(stt.client, "_FIRST_BACKOFF_S", 0.01)
    connections = 0

    async def silent(websocket: ServerConnection) -> None:
        nonlocal connections
        connections += 1
        heard = 0
        await websocket.send('{"type": "turn_started", "turn": 0, "start": 0.0}')
        async for message in websocket:
            heard += len(message) // 2
            if connections == 1 and heard >= 20 * 16_000:
                websocket.transport.abort()
            if isinstance(message, str):
                return

    heard, notes = Heard(), []
    async with serve(silent, "127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await RemoteSession(url, notify=notes.append).run(pieces(tone(30)), heard)
    (told,) = [note for note in notes if "were lost" in note]
    assert 10 <= float(told.split()[0]) <= 16
    assert heard.finals[0] == (0, "")


async def test_a_server_that_accepts_and_fails_at_once_is_given_up() -> None:
    connections = 0

    async def failing(websocket: ServerConnection) -> None:
        nonlocal connections
        connections += 1
        await websocket.send('{"type": "turn_started", "turn": 0, "start": 0.0}')  # the same each time: no progress
        await websocket.close(1011, "out of memory")

    async with serve(failing, "127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with asyncio.timeout(60):
            with pytest.raises(RemoteError, match="gave up after 1 s: out of memory"):
                await RemoteSession(url, patience_s=1).run(pieces(tone(60), pause_s=0.1), Heard())
    assert 2 <= connections <= 4


async def test_a_server_that_gets_on_between_its_failures_is_not_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six connections, each good for one turn, with waits that would soon be longer than the patience."""
    monkeypatch.setattr(stt.client, "_FIRST_BACKOFF_S", 0.1)
    connections = 0

    async def failing(websocket: ServerConnection) -> None:
        nonlocal connections
        connections += 1
        if connections == 6:
            async for message in websocket:
                if isinstance(message, str):
                    return
        heard = 0
        while heard < 16_000:
            heard += len(await websocket.recv()) // 2
        await websocket.send(
            '{"type": "turn_completed", "text": "a", "turn": 0, "start": 0.0, "end": 0.5, "passages": []}'
        )
        await websocket.close(1011, "out of memory")

    heard = Heard()
    async with serve(failing, "127.0.0.1", 0, max_queue=None) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with asyncio.timeout(60):
            await RemoteSession(url, patience_s=0.4).run(pieces(tone(6)), heard)
    assert [turn for turn, _ in heard.finals] == [0, 1, 2, 3, 4]


class Live:
    """A source that cannot wait: it counts what it had to drop, as a microphone does."""

    def __init__(self, taken_s: float) -> None:
        self.overruns = 0
        self.taken_s = 0.0
        self.first, self.lost, self.back = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.most_s = taken_s

    async def __aiter__(self) -> AsyncIterator[Samples]:
        yield np.concatenate([tone(1), silence(2)])
        self.first.set()
        await self.lost.wait()
        while self.taken_s < self.most_s:
            self.taken_s += 1
            yield np.concatenate([tone(0.5), silence(0.5)])
            await asyncio.sleep(0)
        self.overruns = 7
        await self.back.wait()
        yield silence(2)


async def outage(source: Live, converse: Any, relay: Relay, taken_s: float) -> float:
    """Cut the line, let the source go on until so much is taken, and more if anyone takes more, mend the line."""
    async with serving() as running:
        relay.target = running.port
        task = asyncio.create_task(converse)
        # Audio, not the handshake alone: a client that does not know yet that it is connected gives up after the cut.
        await running.until(lambda: source.first.is_set() and relay.carried > 10_000)
        relay.target = 1  # nobody listens there
        relay.cut()
        await running.until(lambda: relay.connections > 1)  # the client has noticed
        source.lost.set()
        await running.until(lambda: source.taken_s >= taken_s)
        for _ in range(1_000):  # a second of audio takes a few
            await asyncio.sleep(0)
        taken = source.taken_s
        relay.target = running.port
        source.back.set()
        await task
    return taken


async def test_a_long_outage_loses_nothing_that_the_tape_can_hold() -> None:
    source, heard, notes = Live(100), Heard(), []
    async with Relay(0) as relay:
        session = RemoteSession(relay.url, notify=notes.append, settings=TurnSettings(end_of_turn_s=0.4))
        assert await outage(source, session.run(source, heard), relay, 100) == 100
    assert len(heard.finals) == 101
    assert all(text for _, text in heard.finals)
    assert [note for note in notes if "lost:" in note] == [
        "7 blocks of audio were lost: the server did not take them in time"
    ]


async def test_the_tape_is_bounded_in_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stt.client, "_KEEP_S", 30.0)
    source, heard = Live(60), Heard()
    async with Relay(0) as relay:
        session = RemoteSession(relay.url, settings=TurnSettings(end_of_turn_s=0.4))
        assert await outage(source, session.run(source, heard), relay, 26) <= 31
    assert len(heard.finals) == 61


async def test_the_command_tells_of_lost_audio(capsys: pytest.CaptureFixture[str]) -> None:
    source = Live(3)
    async with Relay(0) as relay:
        screen = Screen("client", live=True)
        session = RemoteSession(relay.url, notify=screen.notice)
        await outage(source, stream(session, source, screen), relay, 3)
    assert "stt client: 7 blocks of audio were lost" in capsys.readouterr().err


async def test_a_failed_recognition_is_an_event() -> None:
    class Fails(ScriptedModel):
        def transcribe(self, batch: Any) -> Any:
            if batch[0].audio.max() > 0.1:
                raise ValueError("no")
            return super().transcribe(batch)

    heard = Heard()
    async with serving(Fails()) as running:
        await RemoteSession(running.ws).run(pieces(tone(1)), heard)
    assert {e.turn for e in heard.events if isinstance(e, RecognitionFailed)} == {0}
    assert heard.finals == [(0, "")]


@pytest.mark.parametrize("url", ["http://x", "x:1", "ws://", "", "ws://host:port", "ws://host:99999", "ws://a..b"])
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(SettingsError, match="expected a URL like ws://"):
        RemoteSession(url)


def test_urls() -> None:
    assert RemoteSession("ws://h:1").url == "ws://h:1/ws/transcribe?events=1&sample_rate=16000&channels=1"
    assert RemoteSession("wss://h/a/b?pause_ms=200", language="de").url == (
        "wss://h/a/b?pause_ms=200&language=de&events=1&sample_rate=16000&channels=1"
    )
