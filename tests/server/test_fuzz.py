"""Any sequences of messages, a dozen at once beside a healthy session: no hang, no crash, nothing that grows.

The sequences go through the whole app as ASGI messages, without sockets in between, so that thousands take seconds;
`STT_FUZZ` sets how many.
"""

import asyncio
import gc
import json
import os
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from scripted import ScriptedModel, tone
from serving import LoudnessBatch, as_json
from stt.audio import to_pcm16
from stt.server import ServerSettings, create_app
from stt.vad_pool import VadPool

SEQUENCES = int(os.environ.get("STT_FUZZ", "5000"))
AT_ONCE = 12

LOUD = to_pcm16(tone(0.4))
QUIET = bytes(2 * 16_000)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=8,
)
audio_like = st.fixed_dictionaries(
    {"samples": st.sampled_from(["", "AAAA", "AAA=", "%%", "AAAAAAAA"]) | st.text(max_size=30) | json_values},
    optional={
        "sampleRate": st.sampled_from([8_000, 16_000, 44_100, 48_000, 0, 7, -1, 1e9]) | json_values,
        "channels": st.sampled_from([1, 2, 0, 17]) | json_values,
        "type": st.sampled_from(["finish", "start"]) | json_values,
    },
)
message = st.one_of(
    st.sampled_from([LOUD, QUIET, LOUD, QUIET, b"", b"\x00", b"\xff\x7f\xc0\xff", bytes(400_000)]),
    st.binary(max_size=64),
    st.text(max_size=40),
    st.sampled_from([as_json(LOUD), as_json(LOUD, 48_000, 2), as_json(QUIET, 8_000), '{"type": "finish"}']),
    audio_like.map(json.dumps),
    json_values.map(json.dumps),
)
query = st.sampled_from(
    ["", "events=1", "interim_results=0", "end_of_turn_ms=300", "sample_rate=8000&channels=2", "pause_ms=0", "x=1"]
)
ending = st.sampled_from(["vanish", "finish", "idle"])


class Client:
    """The ASGI side of one connection."""

    def __init__(self, app: Any, query: str) -> None:
        self.incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.sent: list[dict[str, Any]] = []
        self.incoming.put_nowait({"type": "websocket.connect"})
        scope = {
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "ws",
            "path": "/ws/transcribe",
            "raw_path": b"/ws/transcribe",
            "query_string": query.encode(),
            "root_path": "",
            "headers": [],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2),
            "subprotocols": [],
            "extensions": {},
        }
        self.task = asyncio.create_task(app(scope, self.incoming.get, self.send))

    async def send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)

    def put(self, message: str | bytes) -> None:
        kind = "text" if isinstance(message, str) else "bytes"
        self.incoming.put_nowait({"type": "websocket.receive", kind: message})

    async def end(self) -> None:
        async with asyncio.timeout(20):
            await self.task


async def one(app: Any, query: str, messages: list[str | bytes], how: str) -> None:
    client = Client(app, query)
    for message in messages:
        client.put(message)
    if how == "finish":
        client.put('{"type": "finish"}')
    elif how == "vanish":
        client.incoming.put_nowait({"type": "websocket.disconnect", "code": 1006})
    await client.end()
    check(client.sent, how)


def check(sent: list[dict[str, Any]], how: str) -> None:
    kinds = [message["type"] for message in sent]
    if kinds[0] == "websocket.close":
        return  # an option was refused
    assert kinds[0] == "websocket.accept"
    assert kinds.count("websocket.close") == (how != "vanish" or kinds[-1] == "websocket.close")
    texts = [json.loads(message["text"]) for message in sent if message["type"] == "websocket.send"]
    turns = [text["turn"] for text in texts if "turn" in text]
    assert turns == sorted(turns)
    finals = [text["turn"] for text in texts if text.get("isFinal")]
    assert len(finals) == len(set(finals))
    assert all(text.get("code") != "internal" for text in texts)


async def healthy(app: Any) -> None:
    client = Client(app, "interim_results=0")
    client.put(to_pcm16(np.concatenate([tone(0.4), np.zeros(32_000, np.float32)])))
    client.put('{"type": "finish"}')
    await client.end()
    (final,) = [json.loads(m["text"]) for m in client.sent if m["type"] == "websocket.send"]
    assert final["isFinal"]
    assert client.sent[-1] == {"type": "websocket.close", "code": 1000, "reason": "finished"}


@pytest.mark.timeout(900)
def test_any_sequence_of_messages() -> None:
    loop = asyncio.new_event_loop()
    limits = ServerSettings(idle_timeout_s=0.01, max_errors=6, max_messages_per_s=100_000)
    app = create_app(limits, open_model=Model, open_vad=lambda: VadPool(LoudnessBatch()))
    service = app.state.service
    ran = 0

    async def start() -> None:
        await service.__aenter__()
        while service.state != "ready":
            await asyncio.sleep(0.001)

    @settings(
        max_examples=-(-SEQUENCES // AT_ONCE),
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(st.tuples(query, st.lists(message, max_size=12), ending), min_size=AT_ONCE, max_size=AT_ONCE))
    def fuzz(sessions: list[tuple[str, list[str | bytes], str]]) -> None:
        nonlocal ran
        ran += len(sessions)

        async def together() -> None:
            async with asyncio.TaskGroup() as tasks:
                for session in sessions:
                    tasks.create_task(one(app, *session))
                tasks.create_task(healthy(app))
            assert not service.sessions
            assert service.recognizer is not None
            assert service.recognizer.waiting == 0

        loop.run_until_complete(together())

    loop.run_until_complete(start())
    try:
        fuzz()
        assert ran >= SEQUENCES
        gc.collect()
        leftover = [task for task in asyncio.all_tasks(loop) if task.get_name() not in ("keeper", "vad keeper", "lag")]
        assert leftover == []
        assert service.state == "ready"
    finally:
        loop.run_until_complete(service.__aexit__())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


class Model(ScriptedModel):
    """Keeps nothing of what it was asked."""

    def transcribe(self, batch: Any) -> Any:
        result = super().transcribe(batch)
        self.batches.clear()
        return result
