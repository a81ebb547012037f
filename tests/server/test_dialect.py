"""A dialect that nobody speaks, driven through a real server: what the seam promises to those that come.

It counts all its messages, sends only what is new, answers to what clients say, keeps time by the audio, refuses and
says goodbye in words of its own.
"""

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from scripted import ScriptedModel, tone
from serving import Running, frames, rest, said, serving
from spoken import silence
from stt.control import Flush
from stt.events import Event, Latency, TranscriptChanged, TurnCompleted, TurnStarted
from stt.recognition import RecognitionOptions
from stt.server.dialect import (
    MONO_16K,
    Answer,
    Audio,
    Command,
    Denial,
    End,
    Ending,
    Finish,
    Frame,
    Goodbye,
    Malformed,
    NotAdmittedError,
    Notice,
    Obeyed,
    Opened,
    Request,
    SessionOptions,
    Tick,
)
from stt.server.families import FAMILIES, Family
from stt.server.streams import Outbox
from stt.settings import TurnSettings

PATH = "/parrot"


class Parrot:
    """Text frames are words: `bye`, `fatal`, `ping X`; binary ones are audio. Messages are `N kind ...`."""

    path: ClassVar[str] = PATH
    message_bytes: ClassVar[int | None] = 4 << 20

    def __init__(self) -> None:
        self._count = 0
        self._said = ""

    def open(self, request: Request, turns: TurnSettings, language: str | None) -> SessionOptions:
        query = dict(request.query)
        if "impossible" in query:
            raise NotAdmittedError("bad_option", "squawk")
        tick_s = float(query["tick"]) if "tick" in query else None
        turns = replace(turns, end_of_turn_s=0.4)
        return SessionOptions(
            turns, RecognitionOptions(language), (("parrot-id", request.session), ("parrot-query", repr(query))), tick_s
        )

    def refuse(self, error: NotAdmittedError) -> Denial:
        return Denial(error.status, {"parrot": {"says": str(error)}}, {"x-parrot": error.code})

    def decode(self, frame: Frame) -> Iterable[Command]:
        match frame.split() if isinstance(frame, str) else frame:
            case bytes() as pcm:
                return [Audio(pcm, MONO_16K)]
            case ["ping", *words]:
                return [Answer(words)]
            case ["bye"]:
                return [Finish()]
            case ["twice"]:
                return [Answer(["one"]), Answer(["two"])]
            case ["silently", *_]:
                return []
            case _:
                return [Malformed("gibberish", "pardon", fatal=frame == "fatal", details=frame)]

    def encode(self, item: Event | Notice) -> Iterable[Frame]:
        match item:
            case Opened():
                yield self._message("hello")
            case Answer(content=words):
                yield self._message("pong", *words)
            case Malformed(message=message, details=details):
                yield self._message(message, str(details))
            case Ending(how=how):
                yield self._message("ending", how)
            case Tick(at_s=at):
                yield self._message("tick", f"{at:.2f}")
            case TurnStarted():
                self._said = ""
            case TranscriptChanged(text=text) if text.startswith(self._said) and text != self._said:
                new, self._said = text[len(self._said) :], text
                yield self._message("new", new)
            case TurnCompleted(text=text):
                yield self._message("all", text)
                yield self._message("turn", str(item.turn)).encode()
            case _:
                pass

    def ended(self, end: End) -> Goodbye:
        return Goodbye(4000, end.how, (self._message("heard", f"{end.audio_s:.2f}"),))

    def _message(self, *words: str) -> str:
        self._count += 1
        return " ".join((str(self._count - 1), *words))


PARROTS = Family("parrots", (Parrot,))


def talking(running: Running, query: str = "", **more: Any) -> connect:
    url = f"ws://127.0.0.1:{running.port}{PATH}{query}"
    return connect(url, compression=None, ping_interval=None, **more)


def parrots(**settings: Any) -> Any:
    return serving(dialects=(PARROTS,), **settings)


async def heard(websocket: ClientConnection) -> list[str]:
    """All messages to the end; binary ones as text."""
    messages = []
    try:
        while True:
            message = await websocket.recv()
            messages.append(message if isinstance(message, str) else message.decode())
    except ConnectionClosed:
        return messages


async def test_a_session_from_the_first_word_to_the_last() -> None:
    async with parrots() as running, talking(running, "?token=secret&x=1") as websocket:
        assert websocket.response is not None
        assert websocket.response.headers["parrot-query"] == "{'x': '1'}"  # it never sees a key
        (session,) = running.service.sessions
        assert websocket.response.headers["parrot-id"] == session.id  # type: ignore[attr-defined]
        for part in (tone(0.5), silence(0.6)) * 2:
            for frame in frames(part):
                await websocket.send(frame)
        for word in ("ping a b", "silently", "nonsense", "twice", "bye"):
            await websocket.send(word)
        messages = await heard(websocket)
        assert (websocket.close_code, websocket.close_reason) == (4000, "finished")
    numbers, words = zip(*(message.split(" ", 1) for message in messages), strict=True)
    assert [int(number) for number in numbers] == list(range(len(messages)))  # counted as they were sent
    assert words[0] == "hello"
    assert words[-1] == "heard 2.20"
    assert [word for word in words if word.startswith("turn")] == ["turn 0", "turn 1"]
    order = [word for word in words if word.split()[0] in ("pong", "pardon", "ending")]
    assert order == ["pong a b", "pardon nonsense", "pong one", "pong two", "ending finished"]


async def test_what_is_new_is_sent_even_where_interims_replace_each_other() -> None:
    """The client does not read; an interim that was replaced was never encoded, so that none is missed."""
    count = 0

    def grows(_: object) -> str:
        nonlocal count
        count += 1
        return " ".join(f"word{i}" for i in range(count))

    long = ScriptedModel(grows)
    async with parrots(model=long) as running, talking(running) as websocket:
        for frame in frames(np.concatenate([tone(6), silence(0.6)]), 16_000):
            await websocket.send(frame)
        await websocket.send("bye")
        words = [message.split(" ", 2) for message in await heard(websocket)]
    new = "".join(word[2] for word in words if word[1] == "new")
    (whole,) = [word[2] for word in words if word[1] == "all"]
    assert new == whole


async def test_ticks_come_by_the_clock_of_the_audio() -> None:
    async with parrots() as running, talking(running, "?tick=0.25") as websocket:
        for frame in frames(silence(1.1), 512):
            await websocket.send(frame)
        while (message := await websocket.recv()).split()[1] != "tick" or float(message.split()[2]) < 1:  # type: ignore[union-attr]
            pass
        await websocket.send("bye")
        assert (await heard(websocket))[-1].endswith("heard 1.10")


async def test_it_refuses_in_its_own_words_whoever_refuses() -> None:
    async with parrots(api_keys=("key",)) as running:
        for query, status, code in (("?token=key&impossible=1", 400, "bad_option"), ("", 401, "unauthorized")):
            with pytest.raises(InvalidStatus) as refused:
                await talking(running, query)
            response = refused.value.response
            assert (response.status_code, response.headers["x-parrot"]) == (status, code)
            assert list(json.loads(response.body)) == ["parrot"]


async def test_a_frame_that_is_fatal_ends_the_session_after_its_final() -> None:
    async with parrots() as running, talking(running) as websocket:
        for frame in frames(tone(0.5)):
            await websocket.send(frame)
        await websocket.send("fatal")
        words = [message.split(" ", 1)[1] for message in await heard(websocket)]
        assert websocket.close_reason == "bad_message"
        assert [word for word in words if not word.startswith("new")][:3] == [
            "hello",
            "pardon fatal",
            "ending bad_message",
        ]
        assert any(word.startswith("all ") for word in words)


async def test_each_dialect_has_its_own_longest_message() -> None:
    async with serving(dialects=(PARROTS, FAMILIES["native"]), max_buffer_s=100) as running:
        async with talking(running) as websocket:
            await websocket.send(bytes(3 << 20))
            await websocket.send("bye")
            assert (await heard(websocket))[-1].endswith(f"heard {(3 << 20) / 32_000:.2f}")
        async with running.connect() as websocket:
            await websocket.send(bytes(3 << 20))
            await rest(websocket)
            assert websocket.close_code == 1009


async def test_the_other_dialects_stay_as_they_are() -> None:
    async with serving(dialects=(PARROTS, FAMILIES["native"])) as running, running.connect("?events=1") as websocket:
        assert (await said(websocket))["type"] == "session_started"


LATENCY = Latency(0.0, 0.0, 1)


def interim(text: str) -> TranscriptChanged:
    return TranscriptChanged(0, 0, 0, text, 0, 0, "interim", LATENCY)


def final(text: str) -> TurnCompleted:
    return TurnCompleted(0, 0, 0, text, (), None)


async def test_interims_that_wait_are_replaced_in_order() -> None:
    outbox = Outbox(limit_bytes=10_000)
    items = [interim("a1"), interim("a2"), final("A"), Tick(1), interim("b1"), Answer("x"), interim("b2"), Tick(2)]
    assert all(map(outbox.put, items))
    assert outbox.coalesced == 3
    outbox.finish()
    assert [await outbox.take() for _ in range(5)] == [final("A"), Answer("x"), interim("b2"), Tick(2), None]


async def test_answers_count_with_what_they_hold() -> None:
    """They may repeat what a client sent, which can be much, and many may wait for one that does not read."""
    for content in (b"x" * 5_000, "x" * 5_000, {"type": "answer", "terms": ["x" * 5_000]}):
        outbox = Outbox(limit_bytes=10_000)
        assert [outbox.put(Answer(content)) for _ in range(4)] == [True, True, False, False]


async def test_a_message_of_any_size_is_taken_while_what_waits_is_within_the_bound() -> None:
    outbox = Outbox(limit_bytes=1_000)
    large = final("x" * 100_000)
    assert outbox.put(final("small"))
    assert outbox.put(large)
    assert not outbox.put(final("one more"))
    assert await outbox.take() == final("small")
    assert not outbox.put(final("one more"))
    assert await outbox.take() == large
    assert outbox.put(large)


async def test_that_it_ends_and_where_commands_were_obeyed_is_never_refused() -> None:
    outbox = Outbox(limit_bytes=1_000)
    last = [Obeyed(Flush()), Ending("idle", "nothing was sent")]
    assert all(map(outbox.put, [final("x" * 100_000), *last]))
    assert not outbox.put(final("one more"))
    assert [await outbox.take() for _ in range(3)][1:] == last
