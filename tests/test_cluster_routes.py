"""Which of several engines a session gets, and how a front serves with engines that are elsewhere."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import pytest

from replicas import PATIENCE, Fleet
from scripted import ScriptedModel, tone
from serving import counted, refused, serving, turn
from stt.cluster.load import Load
from stt.cluster.metrics import ClusterMetrics
from stt.cluster.recognizer import Replicas
from stt.cluster.routes import ClusterEngines
from stt.errors import EngineError
from stt.recognition import Recognition, RecognitionOptions, ServedEngine, Utterance, WindowKey
from stt.settings import TurnSettings


class Knows(ScriptedModel):
    def __init__(self, *languages: str) -> None:
        super().__init__(lambda _: f"by {'-'.join(languages)}")
        self.languages = frozenset(languages)


class Directory:
    """Fleets by the engines' names."""

    def __init__(self, **fleets: Fleet) -> None:
        self.fleets = fleets
        self.down = False

    async def names(self) -> Iterable[str]:
        if self.down:
            raise EngineError("the head does not answer")
        return list(self.fleets)

    def replicas(self, name: str) -> Replicas:
        return self.fleets[name]


async def fleet(*models: ScriptedModel) -> Fleet:
    made = Fleet()
    for model in models:
        await made.add(model)
    return made


@asynccontextmanager
async def routed(directory: Directory) -> AsyncIterator[ClusterEngines]:
    engines = ClusterEngines(directory, patience=PATIENCE, find_every_s=0.01)
    running = asyncio.create_task(engines.run())
    try:
        async with asyncio.timeout(10):
            while engines.state != "ready" or any(not e.model.languages for e in engines.engines.values()):
                await asyncio.sleep(0.001)
        yield engines
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await engines.close(1)
        for made in directory.fleets.values():
            await made.close()


async def asked(engines: ClusterEngines, session: str, **options: object) -> str:
    utterance = Utterance(tone(0.1), RecognitionOptions(**options), key=WindowKey(session))  # type: ignore[arg-type]
    recognition = await engines.submit(utterance)
    assert isinstance(recognition, Recognition)
    return recognition.hypothesis.text


async def test_a_session_gets_the_engine_it_names_or_the_first_that_knows_its_language():
    directory = Directory(default=await fleet(Knows("en")), german=await fleet(Knows("de", "en")))
    async with routed(directory) as engines:
        assert engines.model.languages == {"de", "en"}
        assert await asked(engines, "a", language="en") == "by en"
        assert await asked(engines, "b", language="de") == "by de-en"
        assert await asked(engines, "b", language="en") == "by de-en"  # and stays there
        assert await asked(engines, "c", language="en", engine="german") == "by de-en"
        assert await asked(engines, "d", language=None) == "by en"
        with pytest.raises(EngineError, match="default, german, got 'french'"):
            await asked(engines, "e", engine="french")


async def test_an_engine_that_is_deployed_later_is_found_and_one_that_is_gone_is_let_go():
    directory = Directory(default=await fleet(Knows("en")))
    async with routed(directory) as engines:
        directory.fleets["german"] = await fleet(Knows("de"))
        async with asyncio.timeout(10):
            while "de" not in engines.model.languages:
                await asyncio.sleep(0.001)
            assert await asked(engines, "b", language="de") == "by de"
            gone = directory.fleets.pop("german")
            while "german" in engines.engines:
                await asyncio.sleep(0.001)
        engines.forget("b")
        await gone.close()
        directory.down = True  # what is known goes on
        assert await asked(engines, "a") == "by en"


def elsewhere(directory: Directory, made: list[ClusterEngines]):
    def make(metrics, changed) -> ServedEngine:
        engines = ClusterEngines(directory, changed, PATIENCE, 0.01)
        metrics.registry.register(ClusterMetrics(engines))
        made.append(engines)
        return engines

    return make


async def test_a_front_serves_says_what_it_knows_and_refuses_when_the_engines_are_full():
    """`/ready`, `/metrics`, a session, and 503 with a reason; the trace of a session reaches the replica."""
    directory, made = Directory(default=await fleet(ScriptedModel())), []
    [one] = directory.fleets["default"].there.values()
    async with serving(elsewhere=elsewhere(directory, made), turns=TurnSettings(end_of_turn_s=0.3)) as running:
        async with running.connect() as websocket:
            messages = await turn(websocket, tone(1.0))
        assert [m["text"] for m in messages if m.get("isFinal")] == ["w16000"]
        assert running.service.describe()["engine"] == "scripted"
        assert {len(m["trace"]) for m in one.asked} == {8}
        assert counted(running, "stt_cluster_calls_total", engine="default") == len(one.asked)
        assert counted(running, "stt_replica_waiting", engine="default", replica="r0") == 0
        one.replica.load = lambda: Load("r0", used=0.95, languages=("en",))
        await running.until(lambda: running.service.refusal() is not None)
        status, said = await refused(running)
        assert (status, said["code"]) == (503, "overloaded")
        assert "95% of the engines is in use" in said["error"]
    await directory.fleets["default"].close()


async def test_a_front_that_loses_the_cluster_keeps_listening_and_goes_on():
    directory, made = Directory(default=await fleet(ScriptedModel())), []
    replicas = directory.fleets["default"]
    async with serving(elsewhere=elsewhere(directory, made), turns=TurnSettings(end_of_turn_s=0.3)) as running:
        async with running.connect() as websocket:
            await replicas.kill("r0")
            await running.until(lambda: running.service.state == "unreachable")
            talking = asyncio.create_task(turn(websocket, tone(1.0)))
            status, said = await refused(running)
            assert (status, said["code"]) == (503, "not_ready")
            assert not talking.done()
            await replicas.add()
            messages = await talking
        assert [m["text"] for m in messages if m.get("isFinal")] == ["w16000"]
        await running.until(lambda: running.service.state == "ready")
    await replicas.close()
    assert json.dumps(messages)
