"""A client names the engine that is to hear it, where there are several: in each dialect, as that one names models."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from websockets.asyncio.client import connect

from replicas import Directory, Knows, elsewhere, fleet
from scripted import tone
from serving import Running, frames, refused, rest, serving, turn
from stt.audio import to_pcm16
from stt.server.dialect import Codec, Request
from stt.server.dialects.deepgram_rest import wav_head
from stt.server.dialects.wyoming import Wyoming
from stt.settings import TurnSettings

SAID = tone(1.0)
QUIET = 0 * tone(0.5)
Ask = Callable[[Running, str, str | None], Awaitable[str]]
"""Ask a server to hear something by a model of some name, in some language; returns the text."""


@asynccontextmanager
async def two_engines(**more: Any) -> AsyncIterator[Running]:
    """One that knows English and German, called `both`, and one that knows French, called `french`."""
    made: list[Any] = []
    directory = Directory(both=await fleet(Knows("de", "en")), french=await fleet(Knows("fr")))
    turns = TurnSettings(end_of_turn_s=0.3)
    async with serving(elsewhere=elsewhere(directory, made), turns=turns, **more) as running:
        await running.until(lambda: len(made[0].engines) == 2)
        yield running
    for one in directory.fleets.values():
        await one.close()


def query(**options: str | None) -> str:
    return "?" + urlencode({name: value for name, value in options.items() if value is not None})


async def native(running: Running, model: str, language: str | None) -> str:
    async with running.connect(query(engine=model, language=language)) as websocket:
        return next(m["text"] for m in await turn(websocket, SAID) if m.get("isFinal"))


async def deepgram(running: Running, model: str, language: str | None) -> str:
    url = f"ws://127.0.0.1:{running.port}/v1/listen" + query(
        model=model, language=language, encoding="linear16", sample_rate="16000"
    )
    async with connect(url, compression=None) as websocket:
        for frame in frames(SAID):
            await websocket.send(frame)
        await websocket.send('{"type": "CloseStream"}')
        told = [m for m in await rest(websocket) if m["type"] == "Results"]
    return next(t for m in told if (t := m["channel"]["alternatives"][0]["transcript"]))


async def flux(running: Running, model: str, language: str | None) -> str:
    del language  # it is the server's
    url = f"ws://127.0.0.1:{running.port}/v2/listen" + query(
        model=model, encoding="linear16", sample_rate="16000", eot_timeout_ms="500"
    )
    async with connect(url, compression=None) as websocket:
        for frame in frames(SAID):
            await websocket.send(frame)
        await websocket.send('{"type": "CloseStream"}')
        told = await rest(websocket)
    return next(m["transcript"] for m in told if m.get("event") == "EndOfTurn")


async def realtime(running: Running, model: str, language: str | None) -> str:
    url = f"ws://127.0.0.1:{running.port}/v1/realtime?intent=transcription"
    heard = {"model": model} | ({"language": language} if language else {})
    sound = {"format": {"type": "audio/pcm", "rate": 16_000}, "transcription": heard, "turn_detection": None}
    events = [
        {"type": "session.update", "session": {"type": "transcription", "audio": {"input": sound}}},
        {"type": "input_audio_buffer.append", "audio": base64.b64encode(to_pcm16(SAID)).decode()},
        {"type": "input_audio_buffer.commit"},
    ]
    async with connect(url, compression=None) as websocket, asyncio.timeout(60):
        for event in events:
            await websocket.send(json.dumps(event))
        async for message in websocket:
            told = json.loads(message)
            assert told["type"] != "error", told
            if told["type"].endswith("transcription.completed"):
                return told["transcript"]
    raise AssertionError("no text came")


def _wav() -> bytes:
    return wav_head(Codec("linear16", 16_000, 1)) + to_pcm16(SAID)


async def openai_file(running: Running, model: str, language: str | None) -> str:
    async with httpx.AsyncClient(base_url=running.http) as client:
        data = {"model": model} | ({"language": language} if language else {})
        answer = await client.post("/v1/audio/transcriptions", files={"file": ("x.wav", _wav())}, data=data)
    return answer.raise_for_status().json()["text"]


async def deepgram_file(running: Running, model: str, language: str | None) -> str:
    async with httpx.AsyncClient(base_url=running.http) as client:
        answer = await client.post("/v1/listen" + query(model=model, language=language), content=_wav())
    channel = answer.raise_for_status().json()["results"]["channels"][0]
    return channel["alternatives"][0]["transcript"]


async def wyoming(running: Running, model: str, language: str | None) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", running.wyoming_port)
    audio = {"rate": 16_000, "width": 2, "channels": 1}
    pcm = to_pcm16(SAID)
    asked = {"name": model} | ({"language": language} if language else {})
    for event, payload in (
        ({"type": "transcribe", "data": asked}, b""),
        ({"type": "audio-start", "data": audio}, b""),
        ({"type": "audio-chunk", "data": audio, "payload_length": len(pcm)}, pcm),
        ({"type": "audio-stop"}, b""),
    ):
        writer.write(json.dumps(event).encode() + b"\n" + payload)
    try:
        async with asyncio.timeout(60):
            while True:
                head = json.loads(await reader.readuntil(b"\n"))
                data = head.get("data", {}) | json.loads(await reader.readexactly(head.get("data_length", 0)) or b"{}")
                assert head["type"] != "error", data
                if head["type"] == "transcript":
                    return data["text"]
    finally:
        writer.close()


MODELS = {
    "deepgram": deepgram,
    "flux": flux,
    "realtime": realtime,
    "openai file": openai_file,
    "deepgram file": deepgram_file,
    "wyoming": wyoming,
}


@pytest.mark.parametrize("dialect", MODELS)
async def test_a_model_that_is_called_as_an_engine_is_that_engine_and_any_other_is_whichever_serves(
    dialect: str,
) -> None:
    ask = MODELS[dialect]
    async with two_engines(wyoming=("127.0.0.1", 0)) as running:
        assert await ask(running, "both", "en") == "by de-en"
        assert await ask(running, "whisper-1", None) == "by de-en"
        if dialect != "flux":
            assert await ask(running, "french", "fr") == "by fr"
            assert await ask(running, "nova-3", "fr") == "by fr"  # by language


async def test_natively_an_engine_is_named_or_nothing_is() -> None:
    async with two_engines() as running:
        assert await native(running, "both", "de") == "by de-en"
        assert await native(running, "french", "fr") == "by fr"
        status, said = await refused(running, "?engine=klingon")
        assert (status, said["code"]) == (400, "bad_option")
        assert said["error"] == "engine must be one of both, french, got 'klingon'"
        status, said = await refused(running, "?engine=french&language=de")
        assert (status, said["error"]) == (400, "language: the engine knows fr, got 'de'")


async def test_a_running_session_may_have_another_engine() -> None:
    async with two_engines() as running, running.connect("?events=1") as websocket:
        for part in (SAID, QUIET):
            for frame in frames(part):
                await websocket.send(frame)
        await websocket.send('{"type": "configure", "engine": "french"}')  # which knows no English
        await websocket.send('{"type": "configure", "engine": "french", "language": "fr"}')
        await websocket.send('{"type": "configure", "engine": "klingon"}')
        messages = await turn(websocket, SAID)
    assert [m["text"] for m in messages if m.get("isFinal")] == ["by de-en", "by fr"]
    assert [m["error"] for m in messages if "error" in m] == [
        "language: the engine knows fr, got 'en'",
        "engine must be one of both, french, got 'klingon'",
    ]


async def test_engines_are_listed_where_models_are() -> None:
    async with two_engines(wyoming=("127.0.0.1", 0)) as running:
        async with httpx.AsyncClient(base_url=running.http) as client:
            listed = [one["id"] for one in (await client.get("/v1/models")).json()["data"]]
            assert listed[:2] == ["both", "french"]
            assert (await client.get("/v1/models/french")).status_code == 200
        reader, writer = await asyncio.open_connection("127.0.0.1", running.wyoming_port)
        writer.write(b'{"type": "describe"}\n')
        head = json.loads(await reader.readuntil(b"\n"))
        described = json.loads(await reader.readexactly(head["data_length"]))
        writer.close()
    (program,) = described["asr"]
    assert {m["name"]: m["languages"] for m in program["models"][1:]} == {"both": ["de", "en"], "french": ["fr"]}


async def test_where_there_is_one_engine_it_has_no_name() -> None:
    """Natively that is told; a client of another protocol has to name some model, and is heard."""
    async with serving(turns=TurnSettings(end_of_turn_s=0.3)) as running:
        status, said = await refused(running, "?engine=whisper")
        assert (status, said["code"]) == (400, "bad_option")
        assert said["error"] == "engine: there is but one here, and it has no name; got 'whisper'"
        assert await openai_file(running, "whisper", None) == await openai_file(running, "gpt-4o-transcribe", None)
        async with running.connect() as websocket:
            await websocket.send('{"type": "configure", "engine": "whisper"}')
            (wrong,) = await turn(websocket, QUIET)
        assert (wrong["code"], wrong["error"]) == ("bad_option", said["error"])


def test_a_name_of_a_model_that_is_none_is_no_engine() -> None:
    request = Request("s", engines={"both": frozenset({"en"})}, languages=frozenset({"en"}))
    assert [request.engine(name) for name in ("both", "BOTH", "", None, 5, ["both"])] == ["both", *[None] * 5]
    wyoming = Wyoming(dict)
    wyoming.open(request, TurnSettings(), "en")
    (configure,) = wyoming.decode(b'{"type": "transcribe", "data": {"name": ["both"]}}\n')
    assert configure.options.engine is None
