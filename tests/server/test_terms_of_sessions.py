"""Terms on their way from a client, or the server's own where it names none, to the engine."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import numpy as np
import pytest

from scripted import ScriptedModel, tone
from serving import Running, refused, serving, turn
from spoken import silence
from stt.audio import Samples
from stt.client import RemoteSession
from stt.errors import SettingsError
from stt.recognition import RecognitionOptions
from stt.server.dialect import Request
from stt.server.dialects.flux import Flux
from stt.server.dialects.openai_realtime import OpenAIRealtime
from stt.settings import TurnSettings
from stt.terms import MOST_TERMS

SOME = ("Velquist", "Ysolde Varn")
SPOKEN = np.concatenate([tone(0.6), silence(0.3)])


def asked(model: ScriptedModel) -> list[tuple[str, ...]]:
    """The terms of each request that was for a session: the warm-up has none of its own."""
    return [u.options.terms for batch in model.batches for u in batch if u.key.session is not None]


@pytest.mark.parametrize(
    ("query", "terms"), [("?term=Velquist&term=Ysolde+Varn", SOME), ("", ("Own",)), ("?term=%E6%9D%B1", ("東",))]
)
async def test_the_url_names_terms_else_the_server_does(query: str, terms: tuple[str, ...]) -> None:
    model = ScriptedModel()
    async with serving(model, terms=("Own",)) as running, running.connect(query) as websocket:
        await turn(websocket, SPOKEN)
    assert set(asked(model)) == {terms}


async def configured(running: Running, *messages: dict[str, Any]) -> list[dict[str, Any]]:
    async with running.connect() as websocket:
        for message in messages:
            await websocket.send(json.dumps({"type": "configure", **message}))
        return await turn(websocket, SPOKEN)


@pytest.mark.parametrize(
    ("messages", "terms"),
    [
        ([{"terms": list(SOME)}], SOME),
        ([{"terms": list(SOME)}, {"end_of_turn_ms": 900}], SOME),
        ([{"terms": list(SOME)}, {"terms": []}], ()),
        ([{"end_of_turn_ms": 900}], ("Own",)),
        ([{"terms": [f"term {i}" for i in range(MOST_TERMS)]}], tuple(f"term {i}" for i in range(MOST_TERMS))),
    ],
)
async def test_configure_sets_all_of_them_and_what_is_not_named_stays(
    messages: list[dict[str, Any]], terms: tuple[str, ...]
) -> None:
    model = ScriptedModel()
    async with serving(model, terms=("Own",)) as running:
        answers = await configured(running, *messages)
    assert [a.get("command") for a in answers[: len(messages)]] == ["configure"] * len(messages)
    assert set(asked(model)) == {terms}


@pytest.mark.parametrize(
    ("terms", "complaint"),
    [
        ("Velquist", "terms must be a list of strings, got 'Velquist'"),
        ([1], "terms must be a list of strings, got '[1]'"),
        (["?"], "term: expected a word or a phrase, got '?'"),
        (["x" * 101], "term: expected at most 100 characters, got 101"),
        ([f"x{i}" for i in range(501)], "term: expected at most 500 terms, got 501"),
    ],
)
async def test_terms_that_cannot_work_are_refused_and_change_nothing(terms: Any, complaint: str) -> None:
    model = ScriptedModel()
    async with serving(model, terms=("Own",)) as running:
        wrong, *_ = await configured(running, {"terms": terms})
    assert wrong["code"] == "bad_option"
    assert wrong["error"].startswith(complaint)
    assert set(asked(model)) == {("Own",)}


async def test_a_term_of_the_url_that_cannot_work_is_refused() -> None:
    async with serving() as running:
        status, message = await refused(running, "?term=Velquist&term=...")
    assert (status, message["code"]) == (400, "bad_option")
    assert message["error"] == "term: expected a word or a phrase, got '...'"


@pytest.mark.parametrize("terms", [SOME, (), tuple(f"{'long ' * 19}{i}" for i in range(MOST_TERMS)), None])
async def test_a_remote_session_carries_them_however_many(terms: tuple[str, ...] | None) -> None:
    async def source() -> AsyncIterator[Samples]:
        yield SPOKEN

    async def sink(_: object) -> None: ...

    model = ScriptedModel()
    async with serving(model, terms=("Own",)) as running:
        await RemoteSession(running.ws, terms=terms).run(source(), sink)
    assert set(asked(model)) == {("Own",) if terms is None else terms}


def test_a_remote_session_refuses_what_is_no_term() -> None:
    with pytest.raises(SettingsError, match="term: expected a word"):
        RemoteSession("ws://h", terms=["?"])


def test_other_dialects_take_the_servers_terms_where_the_client_names_none() -> None:
    def recognition(dialect: Any, *query: tuple[str, str]) -> RecognitionOptions:
        return dialect.open(Request("s", query, terms=("Own",)), TurnSettings(), "en").recognition

    assert recognition(Flux()).terms == ("Own",)
    assert recognition(Flux(), ("keyterm", "Velquist"), ("keyterm", "?")).terms == ("Velquist",)
    realtime = OpenAIRealtime()
    assert recognition(realtime).terms == ("Own",)
    update = {"type": "session.update", "session": {"type": "transcription", "audio": {"input": {}}}}
    transcription = {"model": "whisper-1", "prompt": "Velquist, Ysolde Varn"}
    update["session"]["audio"]["input"]["transcription"] = transcription  # type: ignore[index]
    configure, *_ = realtime.decode(json.dumps(update))
    assert configure.options.terms == SOME  # type: ignore[union-attr]


async def test_a_file_is_heard_with_the_servers_terms() -> None:
    import io

    import soundfile

    file = io.BytesIO()
    soundfile.write(file, SPOKEN, 16_000, format="WAV")
    model = ScriptedModel()
    async with serving(model, terms=("Own",)) as running, httpx.AsyncClient() as client:
        url = f"{running.http}/v1/audio/transcriptions"
        for form in ({"model": "m"}, {"model": "m", "prompt": "Velquist, Ysolde Varn"}):
            answer = await client.post(url, data=form, files={"file": ("a.wav", file.getvalue())})
            assert answer.status_code == 200
    assert asked(model) == [("Own",), SOME]
