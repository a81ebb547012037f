"""Who ends turns in OpenAI's Realtime API, in any order of commands: the server, the client, now one and now the other.

A talk is a list of commands. `expected` says what becomes of it by the rules alone; what is on the wire must be that.
"""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from websockets.asyncio.client import ClientConnection

from realtime import TRANSCRIPTION, append, send, talking, until, update
from scripted import ScriptedModel
from serving import Running, serving
from stt.recognition import Utterance

# Whole frames of the detector, so that it is known to the sample what is heard before a command.
LOUD, QUIET = 16 * 512, 22 * 512
COMMANDS = ("loud", "loud", "loud", "quiet", "quiet", "commit", "commit", "clear", "off", "off", "on", "hold", "go")
WORDS = 40


def level(number: int) -> float:
    return 0.2 + number * 0.7 / WORDS


def hear(utterance: Utterance) -> str:
    """Each piece of sound says its number, by how loud it is."""
    levels = np.abs(utterance.audio.reshape(-1))
    numbers = [round((heard - 0.2) * WORDS / 0.7) for heard in levels[levels > 0.15][:: LOUD // 4]]
    return " ".join(dict.fromkeys(f"w{number}" for number in numbers))


@dataclass
class Item:
    """One that has to come."""

    words: list[str]
    detected: bool


def expected(commands: Iterable[str]) -> tuple[list[Item], int]:
    """Return the items in the order of the stream, and how many commits are errors."""
    items: list[Item] = []
    errors, spoken = 0, 0
    vad, running, buffered, quiet = True, None, 0, 0  # as they are where the stream has got to
    for command in commands:
        match command:
            case "loud":
                running = running or Item([], vad)
                running.words.append(f"w{spoken}")
                spoken += 1
                buffered, quiet = buffered + LOUD, 0
            case "quiet":
                buffered, quiet = buffered + QUIET, quiet + QUIET
                if vad and running is not None:
                    items.append(running)
                    running = None
            case "commit" if buffered == 0:
                errors += 1
            case "commit":
                items.append(running or Item([], detected=False))
                running, buffered = None, 0
            case "clear":
                if running is not None and running.detected:
                    items.append(Item([], detected=True))
                running, buffered = None, 0
            case "on":
                vad = True
                if running is not None:
                    running.detected = True
            case "off":
                vad = False
            case _:
                pass
    return items, errors


async def played(running: Running, model: ScriptedModel, commands: list[str]) -> list[dict[str, Any]]:
    """Return all that the server said, without the session's own beginning."""
    async with talking(running) as websocket:
        await update(websocket)
        spoken = 0
        for command in commands:
            match command:
                case "loud":
                    await append(websocket, np.full(LOUD, level(spoken), np.float32), size=2 * LOUD)
                    spoken += 1
                case "quiet":
                    await append(websocket, np.zeros(QUIET, np.float32), size=2 * QUIET)
                case "commit" | "clear":
                    await send(websocket, f"input_audio_buffer.{command}")
                case "on" | "off":
                    await switch(websocket, on=command == "on")
                case "hold":
                    model.free.clear()
                case "go":
                    model.free.set()
                case _:
                    pytest.fail(command)
        model.free.set()
        # The end: nothing runs after a clear, and what it answers comes after all texts before it.
        await send(websocket, "input_audio_buffer.clear")
        told: list[dict[str, Any]] = []
        for _ in range(commands.count("clear") + 1):
            told += await until(websocket, "input_audio_buffer.cleared")
        return told


async def switch(websocket: ClientConnection, *, on: bool) -> None:
    detection = {"type": "server_vad", "silence_duration_ms": 500} if on else None
    session = {"type": "transcription", "audio": {"input": {"turn_detection": detection}}}
    await send(websocket, "session.update", session=session)


def check(commands: list[str], told: list[dict[str, Any]]) -> None:
    items, errors = expected([*commands, "clear"])
    names = [event["type"].rpartition(".")[2] for event in told]
    committed = [event for event in told if event["type"] == "input_audio_buffer.committed"]
    completed = [event for event in told if event["type"] == f"{TRANSCRIPTION}.completed"]
    assert [event["transcript"] for event in completed] == [" ".join(item.words) for item in items]
    ids = [event["item_id"] for event in completed]
    assert [event["item_id"] for event in committed] == ids, "items complete in the order of their commits"
    assert [event["previous_item_id"] for event in committed] == [None, *ids][: len(ids)]
    assert len(set(ids)) == len(ids)
    assert names.count("error") == errors
    pairs = [(event["item_id"], name) for event, name in zip(told, names, strict=True) if "item_id" in event]
    for item, one in zip(items, ids, strict=True):
        own = [name for other, name in pairs if other == one]
        without = [name for name in own if name != "delta"]
        assert without == [*(["speech_started", "speech_stopped"] if item.detected else []), "committed", "completed"]
        assert own[-1] == "completed"
    # Of others there were words, which are taken back.
    others = {name for one, name in pairs if one not in ids}
    assert others <= {"delta"}


@pytest_asyncio.fixture
async def server() -> AsyncIterator[tuple[Running, ScriptedModel]]:
    model = ScriptedModel(hear)
    async with serving(model, max_sessions=100, max_errors=1_000) as running:
        yield running, model


@pytest.mark.parametrize(
    "commands",
    [
        # The server ended a turn whose text is late; the client commits the next.
        "hold loud quiet off loud commit loud commit go",
        "loud off loud commit loud commit",  # switched off while somebody spoke
        "hold loud off loud commit loud commit quiet commit go",
        "off loud on quiet loud commit",  # switched on while somebody spoke
        "off loud on off loud commit loud commit on loud quiet",
        "off loud clear loud commit clear quiet commit commit",
        "hold loud clear off commit loud clear loud commit go",
        "off hold loud commit quiet commit loud commit on loud quiet commit off commit go",
        "loud commit commit loud quiet commit commit quiet commit",
    ],
)
async def test_who_ends_a_turn_may_change(server: tuple[Running, ScriptedModel], commands: str) -> None:
    check(commands.split(), await played(*server, commands.split()))


@pytest.mark.timeout(120)
async def test_any_order_of_commands(server: tuple[Running, ScriptedModel]) -> None:
    """Also where the engine is slow: one that is held by any is held for all who talk at once."""
    chance = random.Random(12)
    for _ in range(20):
        talks = [chance.choices(COMMANDS, k=chance.randrange(3, 16)) for _ in range(8)]
        async with asyncio.TaskGroup() as tasks:
            playing = [tasks.create_task(played(*server, talk)) for talk in talks]
        for talk, each in zip(talks, playing, strict=True):
            try:
                check(talk, each.result())
            except AssertionError:
                print(" ".join(talk), *map(json.dumps, each.result()), sep="\n")
                raise
