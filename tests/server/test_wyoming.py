"""Wyoming, against bytes on the wire."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

from scripted import ScriptedModel, tone
from serving import Running, counted, serving
from spoken import silence
from stt.audio import to_pcm16
from stt.recognition import Utterance
from stt.settings import EngineSettings, TurnSettings

ANY_PORT = ("127.0.0.1", 0)
AUDIO = {"rate": 16_000, "width": 2, "channels": 1}


def grows() -> ScriptedModel:
    """One word for each half second."""

    def hear(utterance: Utterance) -> str:
        return " ".join(f"w{i}" for i in range(round((utterance.speech_s or 0) * 2)))

    return ScriptedModel(hear)


class Client:
    """Writes events and reads them; no library between."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, kind: str, payload: bytes = b"", *, inline: bool = False, **data: Any) -> None:
        head: dict[str, Any] = {"type": kind}
        body = b""
        if inline:
            head["data"] = data
        elif data:
            body = json.dumps(data).encode()
            head["data_length"] = len(body)
        if payload:
            head["payload_length"] = len(payload)
        self.writer.write(json.dumps(head).encode() + b"\n" + body + payload)

    def speak(self, *parts: np.ndarray, size: int = 320, **audio: Any) -> None:
        pcm = to_pcm16(np.concatenate(parts))
        for at in range(0, len(pcm), size):
            self.send("audio-chunk", pcm[at : at + size], **AUDIO | audio)

    def utter(self, *parts: np.ndarray, **transcribe: Any) -> None:
        self.send("transcribe", **transcribe)
        self.send("audio-start", **AUDIO)
        self.speak(*parts)
        self.send("audio-stop")

    async def read(self) -> tuple[str, dict[str, Any]]:
        async with asyncio.timeout(60):
            head = json.loads(await self.reader.readuntil(b"\n"))
            data = head.get("data", {}) | json.loads(await self.reader.readexactly(head.get("data_length", 0)) or b"{}")
        return head["type"], data

    async def until(self, kind: str) -> list[tuple[str, dict[str, Any]]]:
        events = [await self.read()]
        while events[-1][0] != kind:
            events.append(await self.read())
        return events

    async def answer(self) -> tuple[str, list[str]]:
        """Return the text of an utterance, and the kinds of its events without repetitions."""
        events = await self.until("transcript-stop")
        (text,) = [data["text"] for kind, data in events if kind == "transcript"]
        chunks = [data["text"] for kind, data in events if kind == "transcript-chunk"]
        assert "".join(chunks) == text
        return text, [kind for i, (kind, _) in enumerate(events) if i == 0 or events[i - 1][0] != kind]

    async def end(self) -> bytes:
        """Wait until the server closes; return what came."""
        async with asyncio.timeout(60):
            return await self.reader.read(-1)


@asynccontextmanager
async def talking(running: Running) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", running.wyoming_port)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()


SPOKEN = ["transcript-start", "transcript-chunk", "transcript", "transcript-stop"]


async def test_it_says_what_it_is_also_while_the_engine_loads() -> None:
    loading = asyncio.Event()
    loop = asyncio.get_running_loop()

    def load() -> ScriptedModel:
        asyncio.run_coroutine_threadsafe(loading.wait(), loop).result(10)
        return grows()

    async with serving(load, ready=False, wyoming=ANY_PORT) as running, talking(running) as client:
        for ready in (False, True):
            client.send("describe")
            kind, info = await client.read()
            assert kind == "info"
            assert set(info) == {"asr", "tts", "handle", "intent", "wake", "mic", "snd"}
            (program,) = info["asr"]
            (model,) = program["models"]
            for thing in (program, model):
                assert {"name", "description", "version", "attribution"} <= set(thing)
                assert thing["installed"] is True
                assert set(thing["attribution"]) == {"name", "url"}
            assert model["languages"] == ["en"]
            assert program["supports_transcript_streaming"] is True
            assert program["requires_external_vad"] is True
            assert (model["name"] == "scripted") is ready
            loading.set()
            await running.until(lambda: running.service.state == "ready")


@pytest.mark.parametrize("engine", [EngineSettings(model="small"), EngineSettings(model="auto", language=None)])
async def test_the_languages_of_a_model_are_told_by_its_name_while_it_loads(engine: EngineSettings) -> None:
    """Home Assistant asks once, perhaps then."""
    loading = asyncio.Event()
    loop = asyncio.get_running_loop()

    def load() -> ScriptedModel:
        asyncio.run_coroutine_threadsafe(loading.wait(), loop).result(10)
        return grows()

    async with serving(load, ready=False, engine=engine, wyoming=ANY_PORT) as running, talking(running) as client:
        client.send("describe")
        _, info = await client.read()
        assert {"de", "en", "ht"} <= set(info["asr"][0]["models"][0]["languages"])
        loading.set()
        await running.until(lambda: running.service.state == "ready")


async def test_what_needs_no_audio_takes_no_session() -> None:
    async with serving(grows(), wyoming=ANY_PORT) as running, talking(running) as client:
        client.send("ping", text="a")
        client.send("ping")
        client.send("select-program", name="stt")
        client.send("transcribe", language="en")
        client.send("synthesize", b"payload", text="of no interest")
        client.send("describe", inline=True)
        assert await client.read() == ("pong", {"text": "a"})
        assert await client.read() == ("pong", {})
        assert (await client.read())[0] == "info"
        assert counted(running, "stt_sessions_opened_total") == 0


async def test_an_utterance_is_all_between_start_and_stop() -> None:
    async with serving(grows(), wyoming=ANY_PORT) as running, talking(running) as client:
        client.utter(tone(1), silence(5), tone(1.5), language="en")
        assert await client.answer() == ("w0 w1 w0 w1 w2", SPOKEN)
        client.utter(tone(0.5))
        assert await client.answer() == ("w0", SPOKEN)
        client.send("ping", text="still there")
        assert await client.read() == ("pong", {"text": "still there"})


async def test_silence_and_nothing_at_all_are_answered() -> None:
    async with serving(grows(), wyoming=ANY_PORT) as running, talking(running) as client:
        client.utter(silence(1))
        assert await client.answer() == ("", ["transcript", "transcript-stop"])
        client.send("audio-start", **AUDIO)
        client.send("audio-stop")
        assert await client.answer() == ("", ["transcript", "transcript-stop"])
        client.send("audio-stop")
        assert await client.answer() == ("", ["transcript", "transcript-stop"])


async def test_texts_come_while_audio_does_but_no_transcript() -> None:
    async with serving(grows(), wyoming=ANY_PORT) as running, talking(running) as client:
        client.send("audio-start", **AUDIO)
        for i in range(6):
            client.speak(tone(1))
            await running.until(lambda i=i: counted(running, "stt_interims_total") > i)
        assert {kind for kind, _ in await client.until("transcript-chunk")} == {"transcript-start", "transcript-chunk"}
        client.send("audio-stop")
        events = await client.until("transcript-stop")
        assert [kind for kind, _ in events][-2:] == ["transcript", "transcript-stop"]


async def test_data_may_stand_in_the_line_beside_it_or_in_both() -> None:
    model = grows()
    async with serving(model, wyoming=ANY_PORT) as running, talking(running) as client:
        body = json.dumps({"transcript_terms": ["Zaphod"]}).encode()
        line = {"type": "transcribe", "data": {"language": "en", "transcript_terms": []}, "data_length": len(body)}
        client.writer.write(json.dumps(line).encode() + b"\n" + body)
        client.send("audio-start", inline=True, **AUDIO)
        pcm = to_pcm16(tone(1))
        client.send("audio-chunk", pcm, inline=True, **AUDIO)
        client.send("audio-stop", inline=True, timestamp=1)
        assert (await client.answer())[0] == "w0 w1"
    assert model.batches[-1][0].options.terms == ("Zaphod",)


async def test_names_come_before_terms_and_both_hold_for_what_follows() -> None:
    model = grows()
    async with serving(model, wyoming=ANY_PORT) as running, talking(running) as client:
        client.utter(tone(1), transcript_names=["Kitchen Lamp"], transcript_terms=["dim", " "])
        await client.answer()
        assert model.batches[-1][0].options.terms == ("Kitchen Lamp", "dim")
        client.utter(tone(1))
        await client.answer()
        assert model.batches[-1][0].options.terms == ()


@pytest.mark.parametrize(
    ("rate", "channels", "width"), [(8_000, 1, 2), (22_050, 1, 2), (48_000, 2, 2), (44_100, 1, 4), (16_000, 2, 4)]
)
async def test_other_formats(rate: int, channels: int, width: int) -> None:
    async with serving(grows(), wyoming=ANY_PORT) as running, talking(running) as client:
        loud = np.full(rate * channels * 2, 0.5)
        data = (loud * 2 ** (8 * width - 1)).astype(f"<i{width}").tobytes()
        form = {"rate": rate, "channels": channels, "width": width}
        for _ in range(2):
            client.send("audio-start", **form)
            for at in range(0, len(data), 333):  # samples are parted
                client.send("audio-chunk", data[at : at + 333], **form)
            client.send("audio-chunk", b"\0", **form)  # of the next utterance it is no part
            client.send("audio-stop")
            assert (await client.answer())[0] == "w0 w1 w2 w3"


@pytest.mark.parametrize(
    "audio", [{"rate": 7}, {"rate": "x"}, {"width": 3}, {"width": 1}, {"channels": 0}, {"channels": 99}, {"rate": True}]
)
async def test_an_utterance_in_no_known_format_is_lost_alone(audio: dict[str, Any]) -> None:
    async with serving(grows(), wyoming=ANY_PORT) as running, talking(running) as client:
        client.send("audio-start", **AUDIO | audio)
        client.speak(tone(1), **audio)
        client.send("audio-stop")
        kind, data = await client.read()
        assert kind == "error"
        assert next(iter(audio)) in data["text"]
        client.utter(tone(1))
        assert (await client.answer())[0] == "w0 w1"


@pytest.mark.parametrize("asked", [{"language": "tlh"}, {"language": 5}, {"transcript_terms": "lamp"}])
async def test_what_cannot_be_asked_for_is_one_error(asked: dict[str, Any]) -> None:
    async with serving(grows(), wyoming=ANY_PORT) as running, talking(running) as client:
        client.utter(tone(1), **asked)
        assert (await client.read())[0] == "error"
        client.utter(tone(1), language="en-GB", vad_sensitivity="unheard of")
        assert (await client.answer())[0] == "w0 w1"


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"nonsense\n",
        b"\xff\xfe\n",
        b"[1]\n",
        b"{}\n",
        b'{"type": 5}\n',
        b'{"type": "ping", "data": [1]}\n',
        b'{"type": "ping", "data_length": -1}\n',
        b'{"type": "ping", "data_length": 1048577}\n',
        b'{"type": "ping", "payload_length": 1e9}\n',
        b'{"type": "ping", "payload_length": true}\n',
        b'{"type": "ping", "data_length": 3}\nabc',
        b'{"type": "ping", "data_length": 2}\n[]',
        b"x" * (3 << 20),
    ],
)
@pytest.mark.parametrize("speaking", [False, True])
async def test_a_broken_line_ends_its_connection_alone(line: bytes, speaking: bool) -> None:
    async with serving(grows(), wyoming=ANY_PORT) as running, talking(running) as other, talking(running) as client:
        other.send("audio-start", **AUDIO)
        other.speak(tone(1))
        if speaking:
            client.send("audio-start", **AUDIO)
        client.writer.write(line)
        kind, data = await client.read()
        assert (kind, data["code"]) == ("error", "bad_event")
        with pytest.raises(asyncio.IncompleteReadError):
            await client.read()
        other.send("audio-stop")
        assert (await other.answer())[0] == "w0 w1"


@pytest.mark.parametrize(
    "line", [b"{" + b" " * (2 << 20), b'{"type": "ping", "data": {"text": "' + b"x" * (2 << 20) + b'"}}\n']
)
async def test_a_line_that_is_too_long_is_told_so(line: bytes) -> None:
    async with serving(grows(), wyoming=ANY_PORT) as running, talking(running) as client:
        client.writer.write(line)
        kind, data = await client.read()
        assert (kind, data["code"]) == ("error", "bad_event")
        assert "1048576 bytes, got more" in data["text"]


@pytest.mark.parametrize(
    ("cut", "why"),
    [
        (b'{"type": "pi', 'expected a JSON object, got \'{"type": "pi\''),
        (b'{"type": "ping", "data_length": 9}', "expected 9 bytes of data and 0 of payload, got 0"),
        (b'{"type": "ping", "data_length": 9}\n{"te', "expected 9 bytes of data and 0 of payload, got 4"),
        (
            b'{"type": "audio-chunk", "payload_length": 640}\n\0\0\0',
            "expected 0 bytes of data and 640 of payload, got 3",
        ),
    ],
)
@pytest.mark.parametrize("speaking", [False, True])
async def test_a_stream_that_ends_inside_an_event_is_told_what_is_missing(cut: bytes, why: str, speaking: bool) -> None:
    async with serving(grows(), wyoming=ANY_PORT) as running, talking(running) as client:
        if speaking:
            client.send("audio-start", **AUDIO)
            client.speak(tone(1))
        client.writer.write(cut)
        client.writer.write_eof()
        (kind, data) = (await client.until("error"))[-1]
        assert (kind, data) == ("error", {"text": why, "code": "bad_event"})
        assert await client.end() == b""


async def test_the_last_line_may_lack_its_line_break() -> None:
    async with serving(grows(), wyoming=ANY_PORT) as running, talking(running) as client, talking(running) as speaker:
        client.writer.write(b'{"type": "ping"}')
        client.writer.write_eof()
        assert await client.read() == ("pong", {})
        assert await client.end() == b""
        speaker.send("audio-start", **AUDIO)
        speaker.speak(tone(1))
        speaker.writer.write(b'{"type": "audio-stop"}')
        speaker.writer.write_eof()
        assert await speaker.answer() == ("w0 w1", SPOKEN)
        assert await speaker.end() == b""


async def test_the_largest_parts_are_taken() -> None:
    async with serving(grows(), wyoming=ANY_PORT) as running, talking(running) as client:
        client.send("ping", bytes(1 << 20), text="x" * ((1 << 20) - 20))
        assert (await client.read())[0] == "pong"
        client.send("ping", inline=True, text="x" * ((1 << 20) - 100))
        assert (await client.read())[0] == "pong"


async def test_an_engine_that_fails_loses_an_utterance_alone() -> None:
    failing = True

    def hear(utterance: Utterance) -> str:
        if failing and utterance.speech_s:
            raise RuntimeError("secret words")
        return "Well."

    async with serving(ScriptedModel(hear), wyoming=ANY_PORT) as running, talking(running) as client:
        client.utter(tone(1))
        kind, data = await client.read()
        assert kind == "error"
        assert "secret" not in data["text"]
        failing = False
        client.utter(tone(1))
        assert (await client.answer())[0] == "Well."


async def test_no_room_is_an_error() -> None:
    async with (
        serving(grows(), wyoming=ANY_PORT, max_sessions=1) as running,
        talking(running) as client,
        talking(running) as late,
    ):
        client.send("audio-start", **AUDIO)
        await running.until(lambda: counted(running, "stt_sessions") == 1)
        late.send("describe")
        assert (await late.read())[0] == "info"
        late.utter(tone(1))
        kind, data = await late.read()
        assert (kind, data["code"]) == ("error", "too_many_sessions")
        assert counted(running, "stt_sessions_refused_total", code="too_many_sessions") == 1


async def test_who_hangs_up_after_the_end_of_its_sound_is_answered_and_who_does_before_is_not() -> None:
    async with serving(grows(), wyoming=ANY_PORT) as running, talking(running) as client, talking(running) as gone:
        client.utter(tone(1))
        client.writer.write_eof()
        assert (await client.answer())[0] == "w0 w1"
        assert await client.end() == b""
        gone.send("audio-start", **AUDIO)
        gone.speak(tone(1))
        gone.writer.write_eof()
        assert await gone.end() == b""
        assert counted(running, "stt_sessions_closed_total", reason="vanished") == 1


async def test_a_drain_gives_what_was_heard() -> None:
    async with serving(grows(), wyoming=ANY_PORT) as running, talking(running) as client, talking(running) as idle:
        idle.send("describe")
        await idle.read()
        client.send("audio-start", **AUDIO)
        client.speak(tone(2), silence(1))
        await running.until(lambda: counted(running, "stt_interims_total") > 0)
        running.server.stop()
        assert (await client.answer())[0] == "w0 w1 w2 w3"
        assert await client.end() == b""
        assert await idle.end() == b""


@pytest.mark.parametrize(("bound", "reason"), [("most", "too_many"), ("address", "too_many_of_address")])
async def test_connections_without_audio_are_bounded(bound: str, reason: str) -> None:
    limits = {"max_connections": 8} if bound == "most" else {"max_waiting_per_address": 8}
    async with serving(grows(), wyoming=ANY_PORT, **limits) as running:
        opened = [await asyncio.open_connection("127.0.0.1", running.wyoming_port) for _ in range(8)]
        if bound == "address":
            running.server._wyoming.door._waiting.clear()  # type: ignore[union-attr]
            for same in running.server._wyoming.door._of_address.values():  # type: ignore[union-attr]
                for one in same:
                    same[one] -= 10  # they came long ago
        opened.append(await asyncio.open_connection("127.0.0.1", running.wyoming_port))
        await running.until(lambda: counted(running, "stt_connections_dropped_total", reason=reason) == 1)
        newest = Client(*opened[-1])
        newest.send("describe")
        assert (await newest.read())[0] == "info"
        for _, writer in opened:
            writer.close()


async def test_an_event_has_to_be_whole_in_time() -> None:
    async with (
        serving(grows(), wyoming=ANY_PORT, handshake_timeout_s=0.05) as running,
        talking(running) as client,
        talking(running) as speaker,
    ):
        client.writer.write(b'{"type"')
        assert await client.end() == b""
        assert counted(running, "stt_connections_dropped_total", reason="slow_request") == 1
        speaker.send("audio-start", **AUDIO)
        speaker.writer.write(b'{"type"')
        await speaker.end()
        await running.until(lambda: counted(running, "stt_sessions") == 0)
        assert counted(running, "stt_sessions_closed_total", reason="slow_request") == 1


async def test_who_says_nothing_goes() -> None:
    async with serving(grows(), wyoming=ANY_PORT, idle_timeout_s=0.1) as running, talking(running) as client:
        assert await client.end() == b""
        assert counted(running, "stt_connections_dropped_total", reason="idle") == 1


async def test_turns_that_the_server_ends() -> None:
    """The transcript comes while audio does; the rest of it is dropped, and its end is not answered again."""
    turns = TurnSettings(end_of_turn_s=0.8)
    async with (
        serving(grows(), wyoming=ANY_PORT, wyoming_ends_turns=True, turns=turns) as running,
        talking(running) as client,
    ):
        client.send("describe")
        assert (await client.read())[1]["asr"][0]["requires_external_vad"] is False
        for explicit in (True, False):
            client.send("transcribe")
            client.send("audio-start", **AUDIO)
            client.speak(silence(0.5), tone(1), silence(2))
            assert await client.answer() == ("w0 w1", SPOKEN)
            client.speak(tone(2))
            if explicit:
                client.send("audio-stop")
        client.utter(tone(0.5))
        assert (await client.answer())[0] == "w0"
        client.send("ping", text="and nothing else")
        assert await client.read() == ("pong", {"text": "and nothing else"})


@pytest.mark.parametrize(("sensitivity", "ends"), [("relaxed", False), ("default", False), ("aggressive", True)])
async def test_how_soon_the_server_ends_them(sensitivity: str, ends: bool) -> None:
    turns = TurnSettings(end_of_turn_s=1.0)
    async with (
        serving(grows(), wyoming=ANY_PORT, wyoming_ends_turns=True, turns=turns) as running,
        talking(running) as client,
    ):
        client.send("transcribe", vad_sensitivity=sensitivity)
        client.send("audio-start", **AUDIO)
        client.speak(tone(1), silence(0.8), tone(1), silence(3))
        assert (await client.answer())[0] == ("w0 w1" if ends else "w0 w1 w2 w3")
