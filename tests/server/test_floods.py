"""Clients that send too much or read too little: they are slowed or ended, and others notice nothing."""

import asyncio
import contextlib
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed

from scripted import ScriptedModel, tone
from serving import counted, frames, masked, raw_websocket, rest, serving, turn
from spoken import silence

SPOKEN = np.concatenate([silence(0.3), tone(1), silence(0.2)])


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
        async with asyncio.timeout(60):
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
        async with asyncio.timeout(60):
            await asyncio.gather(*[await websocket.ping() for _ in range(100)])
        assert (await turn(websocket, SPOKEN))[-1]["isFinal"]


async def test_a_client_that_does_not_read_gets_the_newest_pong_once_it_does() -> None:
    """Nothing is added to what waits for it: a client that asks 100 times a second would fill our memory in a day."""
    long = ScriptedModel(lambda _: "word " * 2_000_000 + "end")  # more than the kernel takes
    async with serving(long, max_unsent_bytes=10**8, send_timeout_s=120) as running:
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
        async with asyncio.timeout(60):
            got = b""
            while b"ping 149" not in got:
                got = got[-1_000:] + await reader.read(1 << 16)
        assert b"ping 148" not in got
        writer.transport.abort()


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
        await running.until(lambda: counted(running, "stt_sessions_closed_total", reason="slow_reader") == 1)
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
            await running.until(lambda: counted(running, "stt_sessions_closed_total", reason="slow_reader") == 1)
            websocket.transport.resume_reading()
            turns = [m["turn"] for m in await rest(websocket) if m["isFinal"]]
        assert (websocket.close_code, websocket.close_reason) == (1008, "reads too slowly")
        assert turns == list(range(len(turns)))
