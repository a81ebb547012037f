"""The server over real sockets: sessions, access, limits, and exact answers to bad input."""

import asyncio
import contextlib
import ssl
from itertools import pairwise
from pathlib import Path

import httpx
import numpy as np
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from scripted import ScriptedModel, tone
from serving import as_json, counted, frames, refused, rest, said, serving, turn
from spoken import silence
from stt.errors import SettingsError
from stt.server import ServerSettings
from stt.server.dialects.native import PATH
from stt.server.dialects.openai import error
from stt.server.families import FAMILIES

SPOKEN = np.concatenate([silence(0.3), tone(1), silence(0.2)])
TWO_TURNS = np.concatenate([silence(0.3), tone(1), silence(2), tone(1), silence(2)])


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


async def test_a_session_can_be_steered_while_it_runs() -> None:
    async with serving() as running, running.connect("?events=1&end_of_turn_ms=5000") as websocket:
        for frame in frames(SPOKEN):
            await websocket.send(frame)
        await websocket.send('{"type": "flush"}')
        await websocket.send('{"type": "configure", "end_of_turn_ms": 400, "language": "xx"}')
        await websocket.send('{"type": "configure", "end_of_turn_ms": 400}')
        for frame in frames(np.concatenate([tone(1), silence(0.6)])):
            await websocket.send(frame)
        await websocket.send('{"type": "clear"}')
        await websocket.send('{"type": "finish"}')
        messages = await rest(websocket)
    finals = [message for message in messages if message.get("isFinal")]
    assert [final["why"] for final in finals] == ["asked", "silence"]
    assert finals[1]["decided"] - finals[1]["end"] == pytest.approx(0.4, abs=0.04)
    assert [m["command"] for m in messages if m.get("type") == "acknowledged"] == ["flush", "configure", "clear"]
    assert [m["error"] for m in messages if "error" in m] == ["language: the engine knows en, got 'xx'"]
    flushed = next(m for m in messages if m.get("command") == "flush")
    assert messages.index(finals[0]) < messages.index(flushed)


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


async def test_how_far_it_was_heard_is_told_with_how_sure_it_is_of_speech() -> None:
    async with serving() as running, running.connect("?heard=1") as websocket:
        messages = await turn(websocket, np.concatenate([silence(1), tone(1), silence(2)]))
    heard = [message for message in messages if message.get("type") == "heard"]
    assert 3 <= len(heard) <= 40  # to a client that reads slowly only the newest
    assert all(a["at"] < b["at"] for a, b in pairwise(heard))
    for message in heard:
        if not any(abs(message["at"] - edge) < 0.1 for edge in (1, 2)):
            assert message["speech"] == (1 < message["at"] < 2)


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
            "max_upload_bytes": 1 << 30,
            "engine_lag_s": 0.0,
        }
        async with running.connect() as websocket:
            await turn(websocket, SPOKEN)
        text = (await http.get("/metrics")).text
        assert 'stt_turns_total{text="words"} 1.0' in text
        assert "stt_final_latency_seconds_bucket" in text
        assert "process_resident_memory_bytes" in text


async def test_wrong_paths_and_methods() -> None:
    """Answered in the shape that is read there: of a text as `error` OpenAI's libraries show nothing."""
    async with serving() as running, httpx.AsyncClient(base_url=running.http) as http:
        response = await http.get("/nowhere")
        assert (response.status_code, response.json()["code"]) == (404, "not_found")
        response = await http.post("/health", content=b"x" * 1000)
        assert (response.status_code, response.json()["code"]) == (405, "method_not_allowed")
        response = await http.get("/ws/transcribe")
        assert (response.status_code, response.json()["code"]) == (426, "upgrade_required")
        assert (await http.post("/ws/transcribe")).status_code == 405
        response = await http.get("/v1/audio/transcriptions")
        assert response.status_code == 405
        assert response.json()["error"] == error("expected POST", "method_not_allowed")
        response = await http.post("/v1/audio/translations?api_key=secret", content=b"x" * 1000)
        told = response.json()["error"]
        assert (response.status_code, told) == (404, error(told["message"], "not_found"))
        assert told["message"].startswith(
            "nothing at '/v1/audio/translations'; there are WS /ws/transcribe, POST /v1/audio"
        )
        status, told = await refused(running, path="/ws/other")
        assert (status, told["code"]) == (404, "not_found")
    async with serving(dialects=(FAMILIES["native"],)) as running, httpx.AsyncClient(base_url=running.http) as http:
        response = await http.post("/v1/audio/transcriptions")
        assert (response.status_code, response.json()["code"]) == (404, "not_found")
        paths = [kind.path for family in FAMILIES.values() for kind in family.websocket]
        assert told["error"] == f"no WebSocket here; the path is {' or '.join(paths)}"
        response = await http.get("/health", headers={"X-Large": "x" * 300_000})
        assert response.status_code == 400


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


async def test_a_plain_get_is_told_what_the_websocket_would_be() -> None:
    """Browsers do not tell a page why its WebSocket was refused."""
    async with serving(max_sessions=1, api_keys=("right",)) as running:
        key = {"authorization": "Bearer right"}
        async with httpx.AsyncClient(base_url=running.http) as client:
            asked = [
                await client.get(PATH, headers={"authorization": "Bearer wrong"}),
                await client.get(PATH, headers=key, params={"language": "xx"}),
                await client.get(PATH, headers=key, params={"channels": "7"}),
                await client.get(PATH, headers=key | {"origin": "http://elsewhere.test"}),
                await client.get(PATH, headers=key),
            ]
            async with running.connect("?api_key=right"):
                asked.append(await client.get(PATH, headers=key))
        assert counted(running, "stt_sessions_refused_total", code="bad_option") == 0, "it is a question"
    assert [(answer.status_code, answer.json()["code"]) for answer in asked] == [
        (401, "unauthorized"),
        (400, "bad_option"),
        (400, "bad_option"),
        (403, "forbidden_origin"),
        (426, "upgrade_required"),
        (503, "too_many_sessions"),
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
        async with asyncio.timeout(60):
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
