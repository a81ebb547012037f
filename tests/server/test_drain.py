"""The end of a server: running turns get their finals, nothing new begins, and the process exits with 0."""

import asyncio
import contextlib
import signal
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from scripted import ScriptedModel, tone
from serving import LoudnessBatch, Running, frames, rest, said, serving
from spoken import silence
from stt.vad_pool import VadPool

CODE = """
import sys
from pathlib import Path
sys.path[:0] = {path!r}
from scripted import ScriptedModel
from serving import LoudnessBatch
from stt.server import ServerSettings, create_app
from stt.server.run import serve
from stt.vad_pool import VadPool
settings = ServerSettings(port=0, drain_timeout_s=4)
app = create_app(settings, open_model=ScriptedModel, open_vad=lambda: VadPool(LoudnessBatch()))
sys.exit(serve(app, settings, log_format="json"))
"""


async def test_sigterm_during_speech_the_final_still_arrives() -> None:
    """A process of its own; the client goes on speaking after the signal, and then falls silent."""
    import json

    path = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CODE.format(path=path), stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    lines = []
    async with asyncio.timeout(60):
        while "ready" not in (line := json.loads(await process.stderr.readline()))["message"]:
            lines.append(line)
    (url,) = [line["url"] for line in lines if line["message"] == "listening"]
    audio = np.concatenate([silence(0.2), tone(1.5), silence(2)])
    sessions = [connect(f"{url}/ws/transcribe?events={events}", compression=None) for events in (1, 0)]
    async with sessions[0] as speaking, sessions[1] as silent:
        for i, frame in enumerate(frames(audio)):
            await speaking.send(frame)
            if i == 40:  # 0.8 s, in the middle of the word
                while (await said(speaking)).get("type") != "turn_started":
                    pass
                process.send_signal(signal.SIGTERM)
                assert await rest(silent) == []
                assert silent.close_code == 1001
                with pytest.raises(InvalidStatus) as refused:
                    await connect(f"{url}/ws/transcribe")
                assert refused.value.response.status_code == 503
                assert json.loads(refused.value.response.body)["code"] == "draining"
        messages = await rest(speaking)
    finals = [m for m in messages if m.get("isFinal")]
    assert [(m["turn"], m["end"]) for m in finals] == [(0, pytest.approx(1.7, abs=0.04))]  # the whole word
    assert (speaking.close_code, speaking.close_reason) == (1001, "going away")
    _, errors = await asyncio.wait_for(process.communicate(), 10)
    assert process.returncode == 0
    logged = [json.loads(line) for line in errors.splitlines()]
    assert [line["message"] for line in logged][-2:] == ["drained", "stopped"]
    ended = [line for line in logged if line["message"] == "session ended"]
    assert sorted((line["reason"], line["turns"], line["audio_s"]) for line in ended) == [
        ("going_away", 0, 0.0),
        ("going_away", 1, pytest.approx(3.2, abs=0.6)),
    ]


async def drained(running: Running) -> None:
    running.server.stop()
    await asyncio.wait_for(asyncio.shield(running.task), 10)


async def test_a_speaker_who_does_not_stop_gets_what_was_said_until_half_of_the_time() -> None:
    async with serving(drain_timeout_s=1) as running, running.connect("?events=1") as websocket:

        async def speak() -> None:
            for frame in frames(np.tile(tone(1), 30), 1_600):
                await websocket.send(frame)
                await asyncio.sleep(0.05)

        speaking = asyncio.create_task(speak())
        while (await said(websocket)).get("type") != "turn_started":
            pass
        draining = asyncio.create_task(drained(running))
        messages = await rest(websocket)
        assert messages[-1]["isFinal"]
        assert websocket.close_code == 1001
        await draining
        speaking.cancel()
        await asyncio.gather(speaking, return_exceptions=True)


async def test_a_client_that_is_silent_for_more_than_a_second_keeps_its_turn() -> None:
    """Behind a proxy, on a machine with much to do, audio comes late; no word is cut for that."""
    async with serving(drain_timeout_s=60) as running, running.connect("?events=1") as websocket:
        for frame in frames(tone(0.5)):
            await websocket.send(frame)
        while (await said(websocket)).get("type") != "turn_started":
            pass
        draining = asyncio.create_task(drained(running))
        await running.until(lambda: running.service.state == "draining")
        await asyncio.sleep(1.2)  # more than the second after which it was cut before
        for frame in frames(np.concatenate([tone(0.5), silence(2)])):
            await websocket.send(frame)
        finals = [m for m in await rest(websocket) if m.get("isFinal")]
        assert [m["end"] for m in finals] == [pytest.approx(1.0, abs=0.04)]
        await draining


def heard_s(running: Running) -> float:
    """What its sessions received."""
    return sum(session._inbox.received_s for session in running.service.sessions)  # type: ignore[attr-defined]


class Held(LoudnessBatch):
    """Scores nothing until it may."""

    def __init__(self) -> None:
        self.free = threading.Event()

    def run(self, frames: np.ndarray, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.free.wait(30)
        return super().run(frames, states)


async def test_a_turn_that_nobody_has_noticed_yet_is_not_cut() -> None:
    """What was received is listened to before it is said that nobody speaks."""
    held = Held()
    async with serving(drain_timeout_s=60, vad=lambda: VadPool(held)) as running, running.connect() as websocket:
        for frame in frames(tone(0.5)):
            await websocket.send(frame)
        await running.until(lambda: heard_s(running) >= 0.5)
        draining = asyncio.create_task(drained(running))
        await running.until(lambda: running.service.state == "draining")
        await asyncio.sleep(0.25)  # it has looked more than once
        held.free.set()
        for frame in frames(np.concatenate([tone(0.5), silence(2)])):
            await websocket.send(frame)
        finals = [m for m in await rest(websocket) if m.get("isFinal")]
        assert [m["end"] for m in finals] == [pytest.approx(1.0, abs=0.04)]
        await draining


async def test_a_speaker_who_sends_no_more_does_not_hold_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stt.server.host._DRAIN_IDLE_S", 0.2)
    async with serving(drain_timeout_s=60) as running, running.connect("?events=1") as websocket:
        for frame in frames(tone(0.5)):
            await websocket.send(frame)
        while (await said(websocket)).get("type") != "turn_started":
            pass
        await drained(running)
        assert (await rest(websocket))[-1]["isFinal"]
        assert websocket.close_code == 1001


async def test_an_engine_that_hangs_does_not_hold_the_server_beyond_the_time() -> None:
    model = ScriptedModel()
    async with serving(model, drain_timeout_s=0.4) as running, running.connect() as websocket:
        model.free.clear()
        for frame in frames(np.concatenate([tone(0.5), silence(2)])):
            await websocket.send(frame)
        await running.until(
            lambda: running.service.recognizer is not None and running.service.recognizer.running_s > 0.2
        )
        draining = asyncio.create_task(drained(running))
        await rest(websocket)
        assert websocket.close_code == 1012
        model.free.set()
        await draining
        name = "stt_sessions_closed_total"
        assert running.service.metrics.registry.get_sample_value(name, {"reason": "cut_off"}) == 1


async def test_an_engine_that_hung_just_now_does_not_hold_the_server_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stt.server.service._LAST_BATCH_S", 0.2)
    model = ScriptedModel()
    async with serving(model, drain_timeout_s=0.01) as running, running.connect() as websocket:
        model.free.clear()
        for frame in frames(np.concatenate([tone(0.5), silence(2)])):
            await websocket.send(frame)
        await running.until(lambda: running.service.recognizer is not None and running.service.recognizer.running_s > 0)
        await drained(running)
        assert running.service.hung
        model.free.set()
        await running.until(lambda: not running.service.hung)


STUCK = """
import atexit, sys, threading
sys.path[:0] = {path!r}
from scripted import ScriptedModel
from serving import LoudnessBatch
from stt.server import ServerSettings, create_app
from stt.server.run import serve
from stt.vad_pool import VadPool

class Stuck(ScriptedModel):
    def transcribe(self, batch):
        return self.hang() if batch[0].audio.any() else super().transcribe(batch)
    def hang(self):
        print("hangs", file=sys.stderr, flush=True)
        threading.Event().wait()

opens = dict(open_model=Stuck, open_vad=lambda: VadPool(LoudnessBatch()))
if {where!r} != "transcribe":
    opens[{where!r}] = Stuck().hang
atexit.register(print, "the interpreter was finalized around the thread", file=sys.stderr)
settings = ServerSettings(port=0, drain_timeout_s=60)
sys.exit(serve(create_app(settings, **opens), settings, log_format="json"))
"""


@pytest.mark.parametrize(("where", "signals"), [("open_model", 1), ("open_vad", 1), ("transcribe", 2)])
async def test_the_exit_status_is_0_whatever_the_engine_is_at(where: str, signals: int) -> None:
    """Native code that still runs when the interpreter ends would end the process by SIGABRT, now and then."""
    import json

    path = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", STUCK.format(path=path, where=where), stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    async with asyncio.timeout(60), contextlib.AsyncExitStack() as stack:
        websocket = None
        url = ""
        while b"hangs" not in (line := await process.stderr.readline()):
            url = json.loads(line).get("url", url)
            if b'"ready"' in line:
                websocket = await stack.enter_async_context(connect(f"{url}/ws/transcribe", compression=None))
                for frame in frames(np.concatenate([tone(0.5), silence(2)])):
                    await websocket.send(frame)
        process.send_signal(signal.SIGTERM)
        if signals == 2:
            while b'"draining"' not in await process.stderr.readline():
                pass
            process.send_signal(signal.SIGTERM)
        _, errors = await asyncio.wait_for(process.communicate(), 20)
        if websocket is not None:
            await rest(websocket)
            assert websocket.close_code == 1012
    assert process.returncode == 0
    assert b"finalized" not in errors
    logged = [json.loads(line) for line in errors.splitlines()]
    assert logged[-1]["message"] == "stopped"
    assert [line for line in logged if "exception" in line or line["level"] == "error"] == []
