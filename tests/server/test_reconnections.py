"""`RemoteSession` through connections that end at any moment: each word once, in order, in the turn it was said in."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

import stt.client
from fuzzing import Model
from judges import Guesses
from scripted import LoudnessVad
from stt.audio import Samples, from_pcm16
from stt.client import RemoteSession
from stt.endofturn import EndOfTurn, Meaning
from stt.events import (
    Acknowledged,
    Event,
    RecognitionFailed,
    TranscriptChanged,
    TurnCompleted,
    TurnPaused,
    TurnResumed,
    TurnStarted,
)
from stt.recognition import LocalRecognizer, Utterance
from stt.server.dialects.native import Encoder, Options
from stt.session import Session
from stt.settings import TurnSettings

_LEVEL = 1 / 256  # word n is a stretch of audio of the amplitude n levels above the least


def speech(word: int, duration_s: float) -> Samples:
    """Audio that says which word it is."""
    return np.full(round(duration_s * 16_000), 0.2 + (word % 150) * _LEVEL, np.float32)


def hear(utterance: Utterance) -> str:
    """Hear the words in speech as `speech` makes it; of less than half of one, a wrong one."""
    audio = utterance.audio
    edges = np.flatnonzero(np.abs(np.diff(audio)) > _LEVEL / 2) + 1
    words = []
    for part in np.split(audio, edges):
        if abs(part[0]) > 0.1 and len(part) >= 480:
            name = f"w{round((part[0] - 0.2) / _LEVEL)}"
            words.append(name if len(part) >= 2_400 else f"{name}x")
    return " ".join(words)


@dataclass
class Talk:
    """What is said, with the truth about it."""

    audio: Samples
    turns: list[list[str]]


def talk(rng: random.Random, turns: int, longest_s: float, end_of_turn_s: float) -> Talk:
    """Make turns of words of 0.3 to 0.5 s, with no pauses between them, short ones, or ones that are told."""
    parts: list[Samples] = [np.zeros(round(rng.uniform(0.1, 3) * 16_000), np.float32)]
    said: list[list[str]] = []
    word = rng.randrange(150)
    for _ in range(turns):
        said.append([])
        left_s, pauses = rng.uniform(0.3, longest_s), rng.choice((0.0, 0.1, 0.3))
        while left_s > 0 or not said[-1]:
            duration_s = rng.uniform(0.3, 0.5)
            parts.append(speech(word, duration_s))
            said[-1].append(f"w{word % 150}")
            word, left_s = word + 1, left_s - duration_s
            if left_s > 0 and rng.random() < pauses:
                parts.append(np.zeros(round(rng.choice((0.1, 0.25, 0.6, end_of_turn_s - 0.15)) * 16_000), np.float32))
        parts.append(np.zeros(round((end_of_turn_s + rng.uniform(0.15, 2)) * 16_000), np.float32))
    return Talk(np.concatenate(parts), said)


@dataclass
class Fate:
    """How a connection ends."""

    events: int
    """After so many events of the session, one that is not sent included."""
    samples: int
    """Or after so much audio."""
    how: str
    """`cut`, `cut unsent` (the last event is lost), `handover` (turns are completed, then 1001), `restart` (1012)."""


class CutError(Exception):
    pass


@dataclass
class Server:
    """Speaks the protocol with the real pipeline; ends its connections as it is told, then serves the rest."""

    recognizer: LocalRecognizer
    settings: TurnSettings
    fates: Iterator[Fate]
    policy: Callable[[], EndOfTurn] | None = None
    connections: int = 0
    failures: list[BaseException] = field(default_factory=list)

    async def __call__(self, websocket: ServerConnection) -> None:
        self.connections += 1
        fate = next(self.fates, None)
        brief = "repeat_committed=0" in (websocket.request.path if websocket.request else "")
        encoder = Encoder(Options(self.settings, "en", events=True, repeat_committed=not brief))
        events = heard = 0
        handed_over = cut = False

        async def source() -> AsyncIterator[Samples]:
            nonlocal heard, handed_over, cut
            async for message in websocket:
                if isinstance(message, str):
                    return
                heard += len(message) // 2
                yield from_pcm16(message).reshape(-1)
                if fate and heard >= fate.samples:
                    handed_over = fate.how == "handover"
                    cut = not handed_over
                    return

        async def sink(event: Event) -> None:
            nonlocal events
            if cut:
                raise CutError
            events += 1
            last = fate and events >= fate.events and fate.how != "handover"
            if not (last and fate.how == "cut unsent") and (message := encoder.encode(event)):
                await websocket.send(message)
            if last:
                raise CutError

        try:
            policy = self.policy() if self.policy else None
            session = Session(self.recognizer, LoudnessVad(), settings=self.settings, end_of_turn=policy)  # type: ignore[arg-type]
            await session.run(source(), sink)
            if cut:
                raise CutError  # noqa: TRY301 - like a cut while there was something to tell
            await websocket.close(*((1001, "going away") if handed_over else ()))
        except* CutError:
            if fate and fate.how == "restart":
                await websocket.close(1012)
            elif fate:
                await asyncio.sleep(0)
                websocket.transport.abort()
        except* ConnectionClosed:
            pass
        except* Exception as error:
            self.failures.append(error)
            raise


@dataclass
class Turn:
    started: TurnStarted
    paused: bool = False
    noticed: int = 0
    committed: str = ""


class Told:
    """A sink that holds what comes against what a session promises."""

    def __init__(self, *, guessed: bool = False) -> None:
        self.finals: list[TurnCompleted] = []
        self.turns: list[Turn] = []
        self._guessed = guessed  # what was told a pause may become the end of a turn

    async def __call__(self, event: Event) -> None:
        if isinstance(event, TurnStarted):
            assert event.turn == len(self.turns)
            for before in self.turns[-1:]:
                assert event.start >= (before.started.start if self._guessed else before.noticed)
            self.turns.append(Turn(event, noticed=event.start))
            return
        assert not isinstance(event, Acknowledged)
        turn = self.turns[event.turn]
        assert event.turn >= len(self.finals)
        match event:
            case TranscriptChanged():
                assert event.turn == len(self.finals), "texts of a turn before those of the turn before it"
                assert event.start == turn.started.start
                assert event.text.startswith(turn.committed), "committed text changed"
                assert len(turn.committed) <= event.committed_chars <= event.stable_chars <= len(event.text)
                turn.committed = event.text[: event.committed_chars]
            case TurnPaused(probability=float()):
                assert turn.paused, "told already"
            case TurnPaused():
                assert event.turn == len(self.turns) - 1
                assert not turn.paused
                assert event.end > turn.noticed
                turn.paused, turn.noticed = True, event.end
            case TurnResumed():
                assert event.turn == len(self.turns) - 1
                assert turn.paused
                assert event.at > turn.noticed
                turn.paused, turn.noticed = False, event.at
            case TurnCompleted():
                assert event.turn == len(self.finals)
                assert event.text.startswith(turn.committed), "committed text changed"
                assert event.start == turn.started.start
                assert event.decided >= event.end
                assert [word for passage in event.passages for word in passage.text.split()] == event.text.split()
                times = [event.start, *(t for p in event.passages for t in (p.start, p.end))]
                assert all(b >= a - 16_000 * 0.4 for a, b in pairwise(times)), times
                self.finals.append(event)
            case RecognitionFailed():
                raise AssertionError(event)


async def pieces(audio: Samples, rng: random.Random) -> AsyncIterator[Samples]:
    at = 0
    while at < len(audio):
        size = rng.choice((320, 1_600, 16_000))
        yield audio[at : at + size]
        at += size
        await asyncio.sleep(0)


async def hold(
    recognizer: LocalRecognizer,
    rng: random.Random,
    said: Talk,
    settings: TurnSettings,
    fates: list[Fate],
    policy: Callable[[], EndOfTurn] | None = None,
) -> Told:
    """Say it through connections of these fates; returns what the sink was told, checked."""
    server, told = Server(recognizer, settings, iter(fates), policy), Told(guessed=policy is not None)
    async with serve(server, "127.0.0.1", 0, compression=None, close_timeout=0.05) as listening, asyncio.timeout(60):
        url = f"ws://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        session = RemoteSession(url)
        done: list[float] = []

        async def sink(event: Event) -> None:
            await told(event)
            done.append(session.done_s)
            if isinstance(event, TranscriptChanged):
                kept = event.end - session._stream.resume_at
                assert kept <= 16_000 * (3 * settings.window_s + settings.end_of_turn_s + 5), (
                    "a turn's words need its audio"
                )

        await session.run(pieces(said.audio, rng), sink)
    assert not server.failures
    assert done == sorted(done)
    assert len(told.finals) == len(told.turns)
    return told


def fate(rng: random.Random, events: int, samples: int) -> Fate:
    how = rng.choice(("cut", "cut", "cut unsent", "restart", "handover"))
    if how != "handover" and rng.random() < 0.5:
        return Fate(rng.randrange(1, events), 1 << 40, how)
    return Fate(1 << 40, rng.randrange(samples), how)


@pytest.mark.parametrize("block", range(10))
async def test_each_word_comes_once_wherever_connections_end(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stt.client, "_FIRST_BACKOFF_S", 0.001)
    monkeypatch.setattr(stt.client, "_MOST_BACKOFF_S", 0.001)
    with LocalRecognizer(Model(hear)) as recognizer:
        for seed in range(block * 30, block * 30 + 30):
            rng = random.Random(seed)
            settings = TurnSettings(
                end_of_turn_s=rng.choice((0.8, 1.5, 3.0)), window_s=rng.choice((6.0, 12.0)), overlap_s=2.0
            )
            said = talk(rng, rng.randrange(1, 4), rng.choice((3, 10, 40)), settings.end_of_turn_s)
            fates = [fate(rng, 30, len(said.audio)) for _ in range(rng.randrange(1, 7))]
            try:
                told = await hold(recognizer, rng, said, settings, fates)
                assert [final.text.split() for final in told.finals] == said.turns
            except BaseException as error:
                error.add_note(f"seed {seed}: {fates}")
                raise


@pytest.mark.parametrize("block", range(3))
async def test_no_word_is_lost_where_turns_end_by_meaning_though_each_connection_guesses_anew(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a lost connection took for the end of a turn the next one may take for a pause, and the other way round."""
    monkeypatch.setattr(stt.client, "_FIRST_BACKOFF_S", 0.001)
    monkeypatch.setattr(stt.client, "_MOST_BACKOFF_S", 0.001)
    with LocalRecognizer(Model(hear)) as recognizer:
        for seed in range(block * 20, block * 20 + 20):
            rng = random.Random(seed)
            settings = TurnSettings(end_of_turn_s=3.0, window_s=rng.choice((6.0, 12.0)), overlap_s=2.0)
            said = talk(rng, rng.randrange(1, 4), rng.choice((3, 10, 40)), 1.2)
            fates = [fate(rng, 30, len(said.audio)) for _ in range(rng.randrange(1, 7))]
            guesses = Guesses(rng)
            try:
                told = await hold(
                    recognizer, rng, said, settings, fates, lambda guesses=guesses: Meaning("fast", guesses)
                )
                words = [word for final in told.finals for word in final.text.split()]
                assert words == [word for turn in said.turns for word in turn]
            except BaseException as error:
                error.add_note(f"seed {seed}: {fates}")
                raise


async def test_a_long_turn_without_a_pause_outlives_its_connection() -> None:
    """170 s of running speech, cut off at 150 s: more than the tape holds, and words committed long ago."""
    words = [speech(word, 0.4) for word in range(425)]
    said = Talk(np.concatenate([*words, np.zeros(32_000, np.float32)]), [[f"w{word % 150}" for word in range(425)]])
    with LocalRecognizer(Model(hear)) as recognizer:
        told = await hold(recognizer, random.Random(0), said, TurnSettings(), [Fate(1 << 40, 150 * 16_000, "cut")])
    (final,) = told.finals
    assert final.text.split() == said.turns[0]
    assert len(final.passages) >= 7
    assert final.passages[0].start == 0
