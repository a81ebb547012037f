"""What no client sends on purpose, in every dialect over WebSockets.

It is told so in its own words, or its connection ends; whoever speaks beside it notices nothing.
"""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from scripted import ScriptedModel, tone
from serving import Running, counted, frames, rest, serving, turn
from spoken import silence
from stt.audio import to_pcm16
from stt.recognition import Utterance

RAW = "encoding=linear16&sample_rate=16000"
SPOKEN = np.concatenate([silence(0.3), tone(1), silence(0.2)])


@dataclass(frozen=True)
class Spoken:
    """A dialect, as a client has it."""

    url: str
    audio: Callable[[bytes], str | bytes] = field(default=lambda pcm: pcm)
    end: str = '{"type": "CloseStream"}'
    last: Callable[[dict[str, Any]], bool] = field(default=lambda message: False)
    """Whether a message is the last one of interest, where the server closes nothing."""
    error: Callable[[dict[str, Any]], bool] = field(default=lambda message: message["type"] == "Error")
    text: Callable[[dict[str, Any]], str] = field(default=lambda message: "")
    survives: bool = True
    """A text message that is not understood."""


def _appended(pcm: bytes) -> str:
    return json.dumps({"type": "input_audio_buffer.append", "audio": base64.b64encode(pcm).decode()})


DIALECTS = {
    "native": Spoken(
        "/ws/transcribe?interim_results=0",
        end='{"type": "finish"}',
        error=lambda m: "error" in m,
        text=lambda m: m.get("text", "") if m.get("isFinal") else "",
    ),
    "deepgram": Spoken(
        f"/v1/listen?{RAW}",
        text=lambda m: m["channel"]["alternatives"][0]["transcript"] if m.get("is_final") else "",
    ),
    "flux": Spoken(
        f"/v2/listen?{RAW}",
        text=lambda m: m["transcript"] if m.get("event") == "EndOfTurn" else "",
        survives=False,
    ),
    "realtime": Spoken(
        "/v1/realtime",
        audio=_appended,
        end='{"type": "input_audio_buffer.commit"}',
        last=lambda m: m["type"].endswith(".completed"),
        error=lambda m: m["type"] == "error",
        text=lambda m: m["transcript"] if m["type"].endswith(".completed") else "",
    ),
}
SET_UP = json.dumps(
    {
        "type": "session.update",
        "session": {"audio": {"input": {"format": {"type": "audio/pcm", "rate": 16_000}, "turn_detection": None}}},
    }
)


def seconds_heard() -> ScriptedModel:
    def hear(utterance: Utterance) -> str:
        return " ".join(f"w{i}" for i in range(round(utterance.speech_s or 0)))

    return ScriptedModel(hear)


def talking(running: Running, spoken: Spoken, **more: Any) -> connect:
    url = f"ws://127.0.0.1:{running.port}{spoken.url}"
    return connect(url, compression=None, ping_interval=None, max_size=None, **more)


@asynccontextmanager
async def beside_somebody(**limits: Any) -> AsyncIterator[Running]:
    """Serve, with somebody who speaks all the while and is heard in the end."""
    async with serving(seconds_heard(), **limits) as running, running.connect("?interim_results=0") as other:
        for frame in frames(SPOKEN[: len(SPOKEN) // 2]):
            await other.send(frame)
        yield running
        messages = await turn(other, SPOKEN[len(SPOKEN) // 2 :])
        assert [message["text"] for message in messages if message["isFinal"]] == ["w0"]
        assert other.close_code == 1000
        await running.until(lambda: not running.service.sessions)


async def heard(websocket: ClientConnection, spoken: Spoken) -> list[dict[str, Any]]:
    """Receive to the end, which a client of some has to make itself."""
    messages: list[dict[str, Any]] = []
    if not spoken.last({"type": ".completed"}):
        return await rest(websocket)
    async with asyncio.timeout(60):
        while not messages or not spoken.last(messages[-1]):
            messages.append(json.loads(await websocket.recv()))
    return messages


@pytest.mark.parametrize("spoken", DIALECTS.values(), ids=DIALECTS)
@pytest.mark.parametrize(
    "odd",
    ["", "null", "7", '"CloseStream"', "[]", "{}", '{"type": 5}', '{"type": "NoSuchThing"}', "{" * 9_000],
)
async def test_a_text_that_says_nothing(spoken: Spoken, odd: str) -> None:
    async with beside_somebody() as running, talking(running, spoken) as websocket:
        if spoken is DIALECTS["realtime"]:
            await websocket.send(SET_UP)
        for frame in frames(tone(1)):
            await websocket.send(spoken.audio(frame))
        await websocket.send(odd)
        for frame in frames(tone(1)):
            await websocket.send(spoken.audio(frame))
        await websocket.send(spoken.end)
        messages = await heard(websocket, spoken)
    assert sum(map(spoken.error, messages)) == 1
    text = " ".join(filter(None, map(spoken.text, messages)))
    assert text == ("w0 w1" if spoken.survives else "w0"), "what was said before is not lost"


@pytest.mark.parametrize("spoken", DIALECTS.values(), ids=DIALECTS)
async def test_samples_cut_anywhere_and_nothing_between_them(spoken: Spoken) -> None:
    pcm = to_pcm16(np.concatenate([tone(2), silence(0.3)]))
    sizes = [1, 3, 1, 2, 7, 333, 1, 6_001]
    async with beside_somebody() as running, talking(running, spoken) as websocket:
        if spoken is DIALECTS["realtime"]:
            await websocket.send(SET_UP)
        at = i = 0
        while at < len(pcm):
            size = len(pcm) if spoken is DIALECTS["native"] else sizes[i % len(sizes)]  # it has whole samples
            await websocket.send(spoken.audio(pcm[at : at + size]))
            if spoken is not DIALECTS["deepgram"]:  # there an empty message is the end
                await websocket.send(spoken.audio(b""))
            at, i = at + size, i + 1
        await websocket.send(spoken.end)
        messages = await heard(websocket, spoken)
    assert not any(map(spoken.error, messages))
    assert " ".join(filter(None, map(spoken.text, messages))) == "w0 w1"


@pytest.mark.parametrize("spoken", DIALECTS.values(), ids=DIALECTS)
async def test_a_stream_without_any_audio(spoken: Spoken) -> None:
    async with beside_somebody() as running, talking(running, spoken) as websocket:
        await websocket.send(spoken.end)
        if spoken is DIALECTS["realtime"]:
            created, wrong = [json.loads(await websocket.recv()) for _ in range(2)]
            assert (created["type"], wrong["error"]["code"]) == ("session.created", "input_audio_buffer_commit_empty")
            return
        messages = await rest(websocket)
        assert websocket.close_code == 1000
    assert not any(map(spoken.error, messages))
    assert not any(map(spoken.text, messages))


@pytest.mark.parametrize("spoken", DIALECTS.values(), ids=DIALECTS)
@pytest.mark.parametrize(
    ("last", "breaks_off"),
    [
        (b"\x82", True),
        (b"\x82\xfe\x01", True),
        (b"\x82\xfe\x01\x00\0\0\0\0half", True),
        (b"\x02\x84\0\0\0\0part", True),
        (b"\x81\x84\0\0\0\0\xff\xfe\xff\xfe", False),
        (b"\x93\x80\0\0\0\0", False),
    ],
    ids=["a byte", "half a head", "half a frame", "half a message", "no UTF-8", "no such frame"],
)
async def test_a_connection_that_breaks_off_or_is_broken(spoken: Spoken, last: bytes, breaks_off: bool) -> None:
    async with beside_somebody() as running:
        websocket = await talking(running, spoken)
        if spoken is DIALECTS["realtime"]:
            await websocket.send(SET_UP)
        for frame in frames(tone(1)):
            await websocket.send(spoken.audio(frame))
        websocket.transport.write(last)
        if breaks_off:
            websocket.transport.abort()
        await running.until(lambda: len(running.service.sessions) == 1)
        websocket.transport.abort()
    assert counted(running, "stt_errors_total", kind="internal") == 0


@pytest.mark.parametrize("spoken", DIALECTS.values(), ids=DIALECTS)
async def test_options_given_twice_unknown_and_empty(spoken: Spoken) -> None:
    """Other systems' clients send all sorts of them; the native protocol is strict."""
    more = "&no_such_option=1&no_such_option=2&tag=&model=a&model=b"
    more += "&channels=&interim_results=&endpointing=&utterance_end_ms=&language=&eot_threshold=&eot_timeout_ms="
    url = spoken.url + ("" if "?" in spoken.url else "?") + more
    async with beside_somebody() as running:
        if spoken is DIALECTS["native"]:
            with pytest.raises(InvalidStatus) as refused:
                await connect(f"ws://127.0.0.1:{running.port}{url}", compression=None)
            assert refused.value.response.status_code == 400
            return
        async with connect(f"ws://127.0.0.1:{running.port}{url}", compression=None, ping_interval=None) as websocket:
            if spoken is DIALECTS["realtime"]:
                await websocket.send(SET_UP)
            for frame in frames(tone(1)):
                await websocket.send(spoken.audio(frame))
            await websocket.send(spoken.end)
            assert "w0" in map(spoken.text, await heard(websocket, spoken))


@pytest.mark.parametrize("spoken", [DIALECTS["deepgram"], DIALECTS["flux"]], ids=["deepgram", "flux"])
async def test_a_configure_while_somebody_speaks_loses_nothing(spoken: Spoken) -> None:
    good = {"type": "Configure", "keyterms": ["Strops"], "thresholds": {"eot_threshold": 0.6}}
    bad = {"type": "Configure", "keyterms": 7, "thresholds": {"eot_threshold": 0.9}}
    async with beside_somebody() as running, talking(running, spoken) as websocket:
        for frame in frames(tone(1.5)):
            await websocket.send(frame)
        for configure in (good, bad):
            await websocket.send(json.dumps(configure))
        for frame in frames(tone(1.5)):
            await websocket.send(frame)
        await websocket.send(spoken.end)
        messages = await rest(websocket)
    answers = [message for message in messages if message["type"].startswith("Configure")]
    assert [answer["type"] for answer in answers] == ["ConfigureSuccess", "ConfigureFailure"]
    assert answers[0]["keyterms"] == ["Strops"]
    assert " ".join(filter(None, map(spoken.text, messages))) == "w0 w1 w2"


@pytest.mark.parametrize("spoken", list(DIALECTS.values())[1:], ids=list(DIALECTS)[1:])
async def test_a_text_of_millions_of_values_is_not_read(spoken: Spoken) -> None:
    """It would keep everybody waiting for seconds."""
    async with beside_somebody() as running, talking(running, spoken) as websocket:
        await websocket.send('{"type": "Configure", "keyterms": [' + "[]," * 1_000_000 + "[]]}")
        async with asyncio.timeout(60):
            while not spoken.error(message := json.loads(await websocket.recv())):
                pass
        assert "values" in json.dumps(message)
