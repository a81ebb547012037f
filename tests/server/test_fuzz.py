"""Any sequences of the native protocol's messages, a dozen at once beside a healthy session.

The sequences go through the whole app as ASGI messages, without sockets in between, so that thousands take seconds.
"""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from fuzzing import Client, fuzz, json_values
from scripted import tone
from serving import as_json
from stt.audio import to_pcm16
from stt.server.dialects.native import PATH

LOUD = to_pcm16(tone(0.4))
QUIET = bytes(2 * 16_000)

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


async def one(app: Any, sequence: tuple[str, list[str | bytes], str]) -> None:
    query, messages, how = sequence
    client = Client(app, PATH, query)
    for message in messages:
        client.put(message)
    if how == "finish":
        client.put('{"type": "finish"}')
    elif how == "vanish":
        client.vanish()
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
    client = Client(app, PATH, "interim_results=0")
    client.put(to_pcm16(np.concatenate([tone(0.4), np.zeros(32_000, np.float32)])))
    client.put('{"type": "finish"}')
    await client.end()
    (final,) = [json.loads(m["text"]) for m in client.sent if m["type"] == "websocket.send"]
    assert final["isFinal"]
    assert client.sent[-1] == {"type": "websocket.close", "code": 1000, "reason": "finished"}


@pytest.mark.timeout(900)
def test_any_sequence_of_messages() -> None:
    fuzz(st.tuples(query, st.lists(message, max_size=12), ending), one, healthy)
