"""Which of several engines a session gets, and how a front serves with engines that are elsewhere."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from replicas import PATIENCE, Directory, Fleet, Knows, elsewhere, fleet
from scripted import ScriptedModel, tone
from serving import counted, refused, serving, turn
from stt.cluster.load import Load
from stt.cluster.routes import ClusterEngines
from stt.errors import EngineError
from stt.recognition import Recognition, RecognitionOptions, Utterance, WindowKey
from stt.settings import TurnSettings


@asynccontextmanager
async def routed(directory: Directory) -> AsyncIterator[ClusterEngines]:
    engines = ClusterEngines(directory, patience=PATIENCE, find_every_s=0.01)
    running = asyncio.create_task(engines.run())
    try:
        async with asyncio.timeout(60):
            while engines.state != "ready" or any(not e.model.languages for e in engines.recognizers.values()):
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


async def test_an_engine_for_some_languages_comes_first_for_them_and_last_for_others():
    """As of one that knows all languages and is there for German alone, beside others that know less, or more."""
    all_of_them = Knows("de", "en", "fr"), Knows("de", "en")
    german = Fleet(serves=("de",))
    await german.add(all_of_them[0])
    directory = Directory(default=await fleet(Knows("en")), german=german, zoo=await fleet(all_of_them[1]))
    async with routed(directory) as engines:
        assert await asked(engines, "a", language="de") == "by de-en-fr"
        assert await asked(engines, "b", language="en") == "by en"
        assert await asked(engines, "c", language=None) == "by en"
        assert await asked(engines, "d", language="fr") == "by de-en-fr"  # nobody else knows it
        assert await asked(engines, "e", language="en", engine="german") == "by de-en-fr"
        assert await asked(engines, "a", language="en") == "by en"  # who changes the language may change the engine
        assert engines.engines.keys() == {"default", "german", "zoo"}


async def test_what_is_asked_of_an_engine_that_is_away_waits_for_it():
    """An update, or another head of the cluster, takes it away for a while."""
    directory = Directory(default=await fleet(Knows("en")), german=await fleet(Knows("de")))
    async with routed(directory) as engines:
        assert await asked(engines, "a", language="de") == "by de"
        assert await asked(engines, "b", language="de", engine="german") == "by de"
        away = directory.fleets.pop("german")
        await away.close()
        waiting = [
            asyncio.ensure_future(asked(engines, session, language="de", engine=name))
            for session, name in (("a", None), ("b", "german"))
        ]
        async with asyncio.timeout(60):
            while "german" in engines.engines:
                await asyncio.sleep(0.001)
        assert not any(call.done() for call in waiting)
        await away.add(Knows("de"))
        directory.fleets["german"] = away
        assert await asyncio.gather(*waiting) == ["by de", "by de"]


async def test_an_engine_that_is_deployed_later_is_found_and_one_that_is_gone_is_let_go():
    directory = Directory(default=await fleet(Knows("en")))
    async with routed(directory) as engines:
        directory.fleets["german"] = await fleet(Knows("de"))
        async with asyncio.timeout(60):
            while "de" not in engines.model.languages:
                await asyncio.sleep(0.001)
            assert await asked(engines, "b", language="de") == "by de"
            gone = directory.fleets.pop("german")
            engines.forget("b")
            while "german" in engines.recognizers:
                await asyncio.sleep(0.001)
        await gone.close()
        directory.down = True  # what is known goes on
        assert await asked(engines, "a") == "by en"


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
