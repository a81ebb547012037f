"""The server over real sockets: sessions, access, limits, and exact answers to bad input."""

import asyncio
import contextlib
import json
import logging
import ssl
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from scripted import ScriptedModel, tone
from serving import Running, as_json, frames, rest, said, serving, turn
from spoken import silence
from stt.errors import SettingsError
from stt.server import ServerSettings
from stt.server.access import authorized, is_loopback, origin_allowed, read_keys

SPOKEN = np.concatenate([silence(0.3), tone(1), silence(0.2)])
TWO_TURNS = np.concatenate([silence(0.3), tone(1), silence(2), tone(1), silence(2)])


async def refused(
    running: Running, query: str = "", path: str | None = None, **headers: str
) -> tuple[int, dict[str, Any]]:
    url = running.ws + query if path is None else f"ws://127.0.0.1:{running.port}{path}"
    with pytest.raises(InvalidStatus) as raised:
        async with connect(url, additional_headers=headers, compression=None):
            pass
    return raised.value.response.status_code, json.loads(raised.value.response.body)


def counted(running: Running, name: str, **labels: str) -> float:
    return running.service.metrics.registry.get_sample_value(name, labels) or 0.0


async def test_json_and_binary_frames_of_the_predecessor_and_ours() -> None:
    async with serving() as running:
        async with running.connect() as websocket:
            for frame in frames(TWO_TURNS):
                await websocket.send(as_json(frame))
            await websocket.send('{"type": "finish"}')
            by_json = await rest(websocket)
            assert (websocket.close_code, websocket.close_reason) == (1000, "finished")
        async with running.connect() as websocket:
            by_bytes = await turn(websocket, TWO_TURNS)
        finals = [m for m in by_json if m["isFinal"]]
        assert [(m["turn"], m["isEndOfTurn"]) for m in finals] == [(0, True), (1, True)]
        assert finals[0]["text"].startswith("w")
        assert [m for m in by_bytes if m["isFinal"]] == finals
        assert {m["isEndOfTurn"] for m in by_json if not m["isFinal"]} == {False}
        await running.until(lambda: counted(running, "stt_sessions_closed_total", reason="finished") == 2)
        assert counted(running, "stt_turns_total", text="words") == 4
        assert counted(running, "stt_audio_seconds_total") == pytest.approx(2 * len(TWO_TURNS) / 16_000)


@pytest.mark.parametrize(("rate", "channels"), [(8_000, 1), (44_100, 2), (48_000, 1)])
async def test_other_rates_and_channels(rate: int, channels: int) -> None:
    mono = np.concatenate([np.zeros(rate // 2), 0.5 * np.sin(np.arange(rate) * 0.1), np.zeros(2 * rate)])
    pcm = np.repeat((mono * 32767).astype("<i2")[:, None], channels, axis=1).tobytes()
    size = rate // 50 * 2 * channels
    async with serving() as running, running.connect(f"?sample_rate={rate}&channels={channels}&events=1") as websocket:
        for at in range(0, len(pcm), size):
            await websocket.send(pcm[at : at + size])
        await websocket.send('{"type": "finish"}')
        (final,) = [m for m in await rest(websocket) if m.get("isFinal")]
        assert final["start"] == pytest.approx(0.5, abs=0.04)
        assert final["end"] == pytest.approx(1.5, abs=0.04)


async def test_events_come_in_order_and_once() -> None:
    audio = np.concatenate([part for i in range(6) for part in (tone(0.7), silence(0.5 if i % 2 else 1.8))])
    async with serving() as running, running.connect("?events=1") as websocket:
        messages = (await turn(websocket, audio))[1:]
        turns = [m["turn"] for m in messages if "text" in m]
        assert turns == sorted(turns), "texts are in order; a turn may begin before the one before has its final"
        assert len(set(turns)) == 4
        for number in set(turns):
            kinds = [m["type"] for m in messages if m["turn"] == number]
            assert (kinds[0], kinds[-1]) == ("turn_started", "turn_completed")
            assert (kinds.count("turn_started"), kinds.count("turn_completed")) == (1, 1)


async def test_health_ready_and_metrics() -> None:
    model = ScriptedModel()
    model.free.clear()  # the warm-up decode is under way
    async with serving(model, ready=False) as running, httpx.AsyncClient(base_url=running.http) as http:
        assert (await http.get("/health")).json() == {"status": "alive"}
        response = await http.get("/ready")
        assert (response.status_code, response.json()["status"]) == (503, "loading")
        assert await refused(running) == (
            503,
            {"error": "the engine is loading; try again when /ready says so", "code": "not_ready"},
        )
        model.free.set()
        await running.until(lambda: running.service.state == "ready")
        response = await http.get("/ready")
        assert response.status_code == 200
        assert response.json() == {
            "status": "ready",
            "engine": "scripted",
            "languages": 1,
            "sessions": 0,
            "max_sessions": 100,
        }
        async with running.connect() as websocket:
            await turn(websocket, SPOKEN)
        text = (await http.get("/metrics")).text
        assert 'stt_turns_total{text="words"} 1.0' in text
        assert "stt_final_latency_seconds_bucket" in text
        assert "process_resident_memory_bytes" in text


async def test_wrong_paths_and_methods() -> None:
    async with serving() as running, httpx.AsyncClient(base_url=running.http) as http:
        response = await http.get("/nowhere")
        assert (response.status_code, response.json()["code"]) == (404, "not_found")
        response = await http.post("/health", content=b"x" * 1000)
        assert (response.status_code, response.json()["code"]) == (405, "method_not_allowed")
        response = await http.get("/ws/transcribe")
        assert (response.status_code, response.json()["code"]) == (426, "upgrade_required")
        assert (await http.post("/ws/transcribe")).status_code == 405
        assert await refused(running, path="/ws/other") == (
            404,
            {"error": "no WebSocket here; the path is /ws/transcribe", "code": "not_found"},
        )
        response = await http.get("/health", headers={"X-Large": "x" * 300_000})
        assert response.status_code == 400


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


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("?sample_rate=1", "sample_rate must be a whole number from 8000 to 48000, got '1'"),
        ("?nonsense=1", "unknown option 'nonsense'; known: sample_rate, channels, interim_results, "),
        ("?language=xx", "language: the engine knows en, got 'xx'"),
    ],
)
async def test_bad_options(query: str, text: str) -> None:
    async with serving() as running:
        status, body = await refused(running, query)
        assert (status, body["code"]) == (400, "bad_option")
        assert body["error"].startswith(text)


BAD_FRAMES: list[tuple[str | bytes, str]] = [
    ("not json", "bad_json"),
    ("[]", "bad_message"),
    ('{"text": "before audio"}', "bad_message"),
    ('{"type": "unknown"}', "unknown_type"),
    ('{"samples": "@@@@"}', "bad_base64"),
    ('{"samples": "AAAA"}', "bad_audio"),
    (b"\x00\x01\x02", "bad_audio"),
    ('{"samples": "", "sampleRate": 0}', "bad_format"),
    ('{"samples": "", "sampleRate": 7}', "bad_format"),
    ('{"samples": "", "sampleRate": 1e9}', "bad_format"),
    ('{"samples": "", "channels": 17}', "bad_format"),
]


async def test_bad_frames_are_answered_and_the_session_lives_on() -> None:
    async with serving() as running, running.connect() as websocket:
        for frame, code in BAD_FRAMES:
            await websocket.send(frame)
            assert (await said(websocket))["code"] == code
        for harmless in (b"", '{"samples": ""}', b"\xff\x7f\xc0\xff" * 8):  # nothing, nothing, what floats call NaN
            await websocket.send(harmless)
        assert [m["isFinal"] for m in await turn(websocket, SPOKEN)][-1]
        assert counted(running, "stt_errors_total", code="bad_format") == 4


async def test_too_many_bad_frames_end_the_session_after_its_final() -> None:
    async with serving(max_errors=3) as running, running.connect() as websocket:
        for frame in frames(SPOKEN):
            await websocket.send(frame)
        for _ in range(4):
            await websocket.send("nonsense")
        messages = await rest(websocket)
        assert [m["code"] for m in messages if "code" in m] == ["bad_json"] * 3 + ["too_many_errors"]
        assert messages[-1]["isFinal"]
        assert (websocket.close_code, websocket.close_reason) == (1008, "too many errors")


async def test_audio_after_finish_is_an_error() -> None:
    model = ScriptedModel()
    async with serving(model) as running, running.connect() as websocket:
        model.free.clear()
        for frame in frames(SPOKEN):
            await websocket.send(frame)
        await websocket.send('{"type": "finish"}')
        await websocket.send('{"type": "finish"}')
        await websocket.send(frames(SPOKEN)[0])
        assert (await said(websocket))["code"] == "finished"
        model.free.set()
        assert (await rest(websocket))[-1]["isFinal"]


async def test_a_message_of_100_mb_closes_its_connection_alone() -> None:
    async with serving() as running, running.connect() as other, running.connect() as websocket:
        with pytest.raises(ConnectionClosed) as closed:
            await websocket.send(bytes(100_000_000))
            await websocket.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009
        assert (await turn(other, SPOKEN))[-1]["isFinal"]
        assert counted(running, "stt_sessions_closed_total", reason="bad_message") == 1


async def test_text_that_is_not_utf8_closes_its_connection_alone() -> None:
    async with serving() as running, running.connect() as other, running.connect() as websocket:
        await websocket.send(b"\xff\xfe", text=True)
        assert await rest(websocket) == []
        assert websocket.close_code == 1007
        assert (await turn(other, SPOKEN))[-1]["isFinal"]
        assert counted(running, "stt_sessions_closed_total", reason="bad_message") == 1


async def raw_websocket(running: Running) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a session by hand, for a client that does what no library does."""
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port, limit=1024)
    writer.write(
        b"GET /ws/transcribe HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    assert b"101 Switching" in await reader.readuntil(b"\r\n\r\n")
    return reader, writer


def masked(frame: bytes) -> bytes:
    return b"\x82\xfe" + len(frame).to_bytes(2, "big") + bytes(4) + frame


async def test_a_flood_of_tiny_frames_is_slowed_and_others_are_not() -> None:
    tiny = b"\x82\x82" + bytes(4) + b"\x00\x00"
    async with serving(max_messages_per_s=1_000) as running, running.connect() as other:
        clock = asyncio.get_running_loop().time
        _, writer = await raw_websocket(running)
        writer.write(tiny * 1_000_000)
        began = clock()
        assert (await turn(other, SPOKEN))[-1]["isFinal"]
        await running.until(lambda: clock() - began > 0.5)
        received = counted(running, "stt_audio_seconds_total") * 16_000 - len(SPOKEN)
        assert 100 < received < 1_000 * (clock() - began) + 200
        writer.transport.abort()


def frame_of(opcode: int, payload: bytes = b"", *, fin: bool = True) -> bytes:
    assert len(payload) < 126
    return bytes([fin << 7 | opcode, 0x80 | len(payload)]) + bytes(4) + payload


CONT, TEXT, PING, PONG = 0, 1, 9, 10


@pytest.mark.parametrize(
    ("flood", "first"),
    [
        (frame_of(PING, b"x" * 125), b""),
        (frame_of(PING), b""),
        (frame_of(PONG), b""),
        (frame_of(CONT, fin=False), frame_of(TEXT, fin=False)),
        (frame_of(CONT, b"x", fin=False) + frame_of(PING), frame_of(TEXT, fin=False)),
    ],
    ids=["full pings", "empty pings", "pongs", "fragments", "both"],
)
async def test_a_flood_of_frames_that_are_no_messages_ends_its_connection(flood: bytes, first: bytes) -> None:
    """The client does not read: what is written to it stays in our buffer, as far as the kernel does not take it."""
    async with serving() as running, running.connect() as other:
        _, writer = await raw_websocket(running)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await running.until(lambda: len(running.server.server_state.connections) == 2)
        buffered = [c.transport.get_write_buffer_size for c in running.server.server_state.connections]
        writer.write(first + flood * 200_000)
        most = 0

        def ended() -> bool:
            nonlocal most
            most = max(most, *(size() for size in buffered))
            return counted(running, "stt_sessions_closed_total", reason="flood") == 1

        await running.until(ended)
        assert most < 100_000
        assert (await turn(other, SPOKEN))[-1]["isFinal"]
        writer.transport.abort()


async def test_a_client_that_floods_and_reads_is_told_why() -> None:
    async with serving() as running:
        reader, writer = await raw_websocket(running)
        writer.write(frame_of(PING) * 201)
        async with asyncio.timeout(10):
            got = await reader.read()
        assert got.endswith(b"too many control frames or fragments")
        assert b"\x03\xf0" in got  # 1008
        writer.close()


async def test_pings_and_fragments_of_a_usual_client_are_no_flood() -> None:
    """A megabyte in fragments of 2 KiB, messages in two fragments each, and more pings than anyone needs."""
    async with serving(max_buffer_s=100) as running, running.connect() as websocket:
        await websocket.send(bytes(2_048) for _ in range(500))
        for _ in range(300):
            await websocket.send([b"\0", b"\0"])
        async with asyncio.timeout(10):
            await asyncio.gather(*[await websocket.ping() for _ in range(100)])
        assert (await turn(websocket, SPOKEN))[-1]["isFinal"]


async def test_a_client_that_does_not_read_gets_the_newest_pong_once_it_does() -> None:
    """Nothing is added to what waits for it: a client that asks 100 times a second would fill our memory in a day."""
    long = ScriptedModel(lambda _: "word " * 2_000_000 + "end")  # more than the kernel takes
    async with serving(long, max_unsent_bytes=10**8) as running:
        reader, writer = await raw_websocket(running)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        (connection,) = running.server.server_state.connections
        transport: Any = connection.transport
        for frame in frames(np.concatenate([tone(0.5), silence(2)]), 16_000):
            writer.write(masked(frame))
        await running.until(lambda: transport.get_write_buffer_size() > 100_000)
        before = transport.get_write_buffer_size()
        for i in range(150):
            writer.write(frame_of(PING, b"ping %3d" % i * 15))
        await running.until(lambda: b"ping 149" in connection._pong)  # type: ignore[attr-defined]
        assert transport.get_write_buffer_size() <= before
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        async with asyncio.timeout(10):
            got = b""
            while b"ping 149" not in got:
                got = got[-1_000:] + await reader.read(1 << 16)
        assert b"ping 148" not in got
        writer.transport.abort()


async def test_audio_faster_than_real_time_is_held_back_and_nothing_is_lost() -> None:
    audio = np.concatenate([part for _ in range(20) for part in (tone(1), silence(2))])
    model = ScriptedModel()
    async with serving(model, max_buffer_s=2) as running, running.connect("?interim_results=0") as websocket:
        model.free.clear()
        sending = asyncio.create_task(turn(websocket, np.tile(audio, 4)))
        await running.until(lambda: running.service.recognizer is not None and running.service.recognizer.waiting > 2)
        heard = -1.0
        while heard != (heard := counted(running, "stt_audio_seconds_total")):  # until no more is read
            await asyncio.sleep(0.3)
        assert heard < 200  # of 240 s
        model.free.set()
        finals = await sending
        assert [m["turn"] for m in finals] == list(range(80))


async def test_a_full_server_refuses_and_a_vanished_client_frees_its_slot() -> None:
    async with serving(max_sessions=1) as running:
        websocket = await running.connect()
        assert await refused(running) == (
            503,
            {"error": "all 1 sessions are in use; try again later", "code": "too_many_sessions"},
        )
        websocket.transport.abort()
        await running.until(lambda: not running.service.sessions)
        assert counted(running, "stt_sessions_closed_total", reason="vanished") == 1
        async with running.connect() as websocket:
            assert (await turn(websocket, SPOKEN))[-1]["isFinal"]


async def test_a_client_that_says_nothing_is_closed_after_its_final() -> None:
    async with serving(idle_timeout_s=0.3) as running:
        async with running.connect() as websocket:
            for frame in frames(SPOKEN):
                await websocket.send(frame)
            messages = await rest(websocket)
            assert messages[-1]["isFinal"]
            assert {"error": "nothing was sent for 0.3 s", "code": "idle"} in messages
            assert (websocket.close_code, websocket.close_reason) == (1008, "idle")
        async with running.connect() as websocket:
            assert [m["code"] for m in await rest(websocket)] == ["idle"]


async def test_a_connection_that_sends_no_request_is_cut_off() -> None:
    async with serving(handshake_timeout_s=0.2) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(b"GET /health HTTP/1.1\r\nHost:")
        async with asyncio.timeout(10):
            with pytest.raises(ConnectionError):
                assert await reader.read() == b""
                raise ConnectionResetError
        writer.close()
        await running.until(lambda: not running.server.server_state.connections)


async def test_a_slow_reader_is_closed_and_others_notice_nothing() -> None:
    long = ScriptedModel(lambda utterance: "word " * 3_000 + str(len(utterance.audio)))
    audio = np.concatenate([part for _ in range(40) for part in (tone(0.5), silence(1.7))])
    async with serving(long, max_unsent_bytes=100_000, send_timeout_s=1) as running, running.connect() as other:
        _, writer = await raw_websocket(running)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        for frame in frames(np.tile(audio, 5), 16_000):
            writer.write(masked(frame))
        finals = [m for m in await turn(other, audio[: 16_000 * 9]) if m["isFinal"]]
        assert [m["turn"] for m in finals] == [0, 1, 2, 3, 4]
        await running.until(lambda: counted(running, "stt_sessions_closed_total", reason="slow_reader") == 1, 20)
        writer.transport.abort()


async def test_a_slow_reader_that_reads_on_learns_why_it_was_closed() -> None:
    long = ScriptedModel(lambda utterance: "word " * 3_000 + str(len(utterance.audio)))
    audio = np.concatenate([part for _ in range(40) for part in (tone(0.5), silence(1.7))])
    async with serving(long, max_unsent_bytes=100_000) as running, running.connect(max_queue=1) as websocket:
        websocket.transport.pause_reading()

        async def send() -> None:
            with contextlib.suppress(ConnectionClosed):
                for frame in frames(np.tile(audio, 5), 16_000):
                    await websocket.send(frame)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(send())
            await running.until(lambda: counted(running, "stt_sessions_closed_total", reason="slow_reader") == 1, 20)
            websocket.transport.resume_reading()
            turns = [m["turn"] for m in await rest(websocket) if m["isFinal"]]
        assert (websocket.close_code, websocket.close_reason) == (1008, "reads too slowly")
        assert turns == list(range(len(turns)))


async def test_a_mistake_of_ours_ends_one_session_without_details(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("internal details")

    async with serving() as running, running.connect() as other:
        with monkeypatch.context() as patch:
            patch.setattr("stt.server.host.Session.run", broken)
            async with running.connect() as websocket:
                assert await rest(websocket) == [
                    {"error": "the server failed; please reconnect", "code": "internal"},
                ]
                assert websocket.close_code == 1011
        assert counted(running, "stt_errors_total", code="internal") == 1
        assert "internal details" in caplog.text
        assert (await turn(other, SPOKEN))[-1]["isFinal"]


async def test_tls() -> None:
    cert, key = (Path(__file__).parents[1] / "data" / "tls" / name for name in ("cert.pem", "key.pem"))
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    async with serving(tls_cert=cert, tls_key=key) as running:
        url = running.ws.replace("ws://", "wss://")
        async with connect(url, ssl=trusting, compression=None) as websocket:
            assert (await turn(websocket, SPOKEN))[-1]["isFinal"]


async def test_a_tls_handshake_has_to_be_done_in_time() -> None:
    cert, key = (Path(__file__).parents[1] / "data" / "tls" / name for name in ("cert.pem", "key.pem"))
    async with serving(tls_cert=cert, tls_key=key, handshake_timeout_s=0.2) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
        writer.close()


def test_settings_that_cannot_work() -> None:
    for wrong, text in (
        ({"port": 70_000}, "a port of 0 to 65535, got 70000"),
        ({"max_sessions": 0}, "max_sessions of 1 or more, got 0"),
        ({"tls_cert": Path("x")}, "a certificate and its key together, got the certificate alone"),
        ({"api_keys": ("a", "")}, "API keys that are not empty, got an empty one"),
        ({"allowed_origins": ("example.com",)}, "origins like https://example.com"),
        ({"idle_timeout_s": 0}, "idle_timeout_s above 0, got 0"),
    ):
        with pytest.raises(SettingsError, match=text):
            ServerSettings(**wrong)  # type: ignore[arg-type]
