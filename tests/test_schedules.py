"""Random schedules of everything that can happen to a session, with an engine that knows what was said.

Words are stretches of a level of their own, so that the engine reads them off the audio: a word is heard where more
than half of it is. Turns end by silence, by a meaning that is guessed, or by whatever a policy likes, and settings
change while they run. What must hold: no word lost, none doubled, order kept, what is committed stays.
"""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Hashable
from typing import Final

import numpy as np
import pytest

from judges import Guesses
from scripted import LoudnessVad
from stt.audio import Samples
from stt.control import Clear, Configure, Control, Flush
from stt.endofturn import EndOfTurn, Meaning, Pause, smart_turn
from stt.endofturn.meaning import Pace
from stt.errors import EngineError
from stt.events import (
    Acknowledged,
    Event,
    Latency,
    RecognitionFailed,
    TranscriptChanged,
    TurnCompleted,
    TurnPaused,
    TurnResumed,
    TurnStarted,
)
from stt.recognition import Hypothesis, Recognition, RecognitionOptions, Ticket, Utterance
from stt.session import Session
from stt.settings import EAGERNESSES, TurnSettings
from stt.words import Word

SCHEDULES: Final = 10_000
PARTS: Final = 20
WORD: Final = 4_801  # samples: odd, so that of two parts one is more than half
LEVEL: Final = 1 / 4096  # exact in float32


def name(number: int) -> str:
    """Words that are not alike, or a stitch would rightly take one for the other."""
    return "".join(random.Random(number).choices("bcdfghjklmnpqrtvwxz", k=7))


def hear(utterance: Utterance) -> Hypothesis:
    """Read the words off the audio."""
    levels = np.rint(utterance.audio / LEVEL).astype(int)
    edges = np.flatnonzero(np.diff(levels, prepend=0, append=0))
    words = []
    for a, b in itertools.pairwise(edges.tolist()):
        if levels[a] and 2 * (b - a) > WORD:
            text = name(int(levels[a]) - 1000)
            words.append(Word(f" {text}" if words else text, utterance.start + a, utterance.start + b, 0.9))
    text = "".join(word.text for word in words)
    return Hypothesis(text, words=tuple(words) if utterance.options.words else ())


class Service:
    """A `RecognitionService` that answers when it likes, in any order, and fails now and then."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._eager = rng.choice((0.02, 0.2, 0.9))
        self._fails = rng.choice((0.0, 0.0, 0.1))
        self.waiting: list[tuple[Utterance, Ticket]] = []

    def submit(self, utterance: Utterance) -> Ticket:
        for old, ticket in list(self.waiting):
            if old.kind == "interim" or (old.kind == "speculative" and old.key == utterance.key):
                self.waiting.remove((old, ticket))
                if not ticket.done():
                    ticket.set_result(None)
        ticket: Ticket = asyncio.get_running_loop().create_future()
        self.waiting.append((utterance, ticket))
        return ticket

    def forget(self, session: Hashable) -> None:
        self.waiting.clear()

    async def work(self) -> None:
        while True:
            await asyncio.sleep(0)
            if self.waiting and self._rng.random() < self._eager:
                utterance, ticket = self.waiting.pop(self._rng.randrange(len(self.waiting)))
                if ticket.done():
                    continue
                if self._rng.random() < self._fails:
                    ticket.set_result(None) if utterance.kind == "interim" else ticket.set_exception(EngineError("no"))
                    continue
                hypothesis = hear(utterance)
                if utterance.kind == "interim" and self._rng.random() < 0.3:
                    hypothesis = Hypothesis(hypothesis.text + self._rng.choice((" er", "s", ", well")))
                ticket.set_result(Recognition(hypothesis, Latency(0, 0, 1)))


class Moody:
    """An `EndOfTurn` that wants any silence to end a turn."""

    longest_s, audio_s = 2.0, 1.0

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    async def judge(self, pause: Pause) -> float | None:
        while True:
            await pause.lasts(self._rng.uniform(0.3, 2.5))
            assert len(pause.audio(1.0)) <= 16_000
            if self._rng.random() < 0.5:
                return self._rng.choice((None, self._rng.uniform(0.1, 2.0)))


def policy(rng: random.Random) -> EndOfTurn | None:
    """What ends the turns of a session: what the settings ask for, anything, or meaning by numbers of its own."""
    match rng.randrange(4):
        case 0 | 1:
            return None
        case 2:
            return Moody(rng)
        case _:
            return Meaning(Pace(0.5, 0.1, 4.0), Guesses(rng), silence_s=rng.choice((None, 1.2)), eager=True)


def settings_of(rng: random.Random) -> TurnSettings:
    """What a session asks for when it begins, or while it runs."""
    pause_s = rng.choice((0.1, 0.3, 1.6))
    return TurnSettings(
        window_s=5.0,
        overlap_s=rng.choice((0.0, 1.5)),
        interim_s=rng.choice((None, 0.3, 0.5)),
        pause_s=pause_s,
        end_of_turn=rng.choice(("silence", "auto", "meaning")),
        end_of_turn_s=rng.choice((None, max(pause_s, 0.6), 2.0)),
        eagerness=rng.choice(EAGERNESSES),
        eot_threshold=rng.choice((None, None, 0.3, 1.0)),
        eot_delay_s=rng.choice((None, None, 0.1, 1.6)),
        eot_timeout_s=rng.choice((None, None, 1.6, 5.0)),
        eager=rng.random() < 0.3,
        speculative=rng.random() < 0.8,
    )


class Talk:
    """What is said, and when."""

    def __init__(self, rng: random.Random) -> None:
        parts: list[Samples] = []
        self.words: list[tuple[str, int, int]] = []
        at = 0
        for number in range(rng.choice((3, 10, 30))):
            gap = round(16_000 * rng.choice((0.0, 0.05, 0.1, rng.uniform(0.1, 0.6), rng.uniform(0.2, 2.5))))
            parts += [np.zeros(gap, np.float32), np.full(WORD, (1000 + number) * LEVEL, np.float32)]
            self.words.append((name(number), at + gap, at + gap + WORD))
            at += gap + WORD
        parts.append(np.zeros(rng.choice((0, 4_000, 40_000)), np.float32))
        self.audio = np.concatenate(parts)


class Checked:
    """A sink that watches the order of what comes."""

    def __init__(self) -> None:
        self.finals: list[TurnCompleted] = []
        self.failed: set[int] = set()
        self.acknowledged: list[str] = []
        self._started = -1
        self._paused: set[int] = set()
        self._committed: dict[int, str] = {}
        self._at = 0

    async def __call__(self, event: Event) -> None:
        if not isinstance(event, Acknowledged):
            assert event.turn <= self._started + isinstance(event, TurnStarted)
        match event:
            case TurnStarted(turn):
                assert turn == self._started + 1
                self._started = turn
            case TurnPaused(turn, _, probability):
                assert (probability is not None) == (turn in self._paused), "told at once, and again with what is found"
                self._paused.add(turn)
            case TurnResumed(turn):
                self._paused.remove(turn)
            case TranscriptChanged(turn, text=text, committed_chars=committed):
                self._in_order(turn)
                assert event.cause != "pause" or turn in self._paused, "a pause's text after the speaker went on"
                assert committed <= event.stable_chars <= len(text)
                before = self._committed.get(turn, "")
                assert text[:committed].startswith(before), "what was committed has changed"
                self._committed[turn] = text[:committed]
            case RecognitionFailed(turn):
                self._in_order(turn)
                self.failed.add(turn)
            case TurnCompleted(turn, start, end):
                self._in_order(turn)
                assert turn == len(self.finals)
                assert self._at <= start <= end <= event.decided
                assert event.why == "cleared" or event.text.startswith(self._committed.get(turn, ""))
                assert all(start <= p.start <= p.end <= end for p in event.passages)
                assert " ".join(p.text for p in event.passages) == event.text
                if event.words:
                    assert "".join(word.text for word in event.words) == event.text
                    times = [at for word in event.words for at in (word.start, word.end)]
                    assert times == sorted(times)
                    assert start <= times[0] <= times[-1] <= end
                self._at = end
                self.finals.append(event)
            case Acknowledged(command):
                self.acknowledged.append(command)

    def _in_order(self, turn: int) -> None:
        assert turn == len(self.finals), "texts of another turn than the oldest without its final"


async def schedule(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(seed)
    monkeypatch.setattr(smart_turn, "shared", lambda: Guesses(rng))
    talk, service, checked = Talk(rng), Service(rng), Checked()
    options = RecognitionOptions(words=rng.random() < 0.5, live=rng.random() < 0.7)
    settings = settings_of(rng)
    commands = rng.random() < 0.3
    given: list[str] = []
    cuts: list[int] = []  # where a turn was ended by a command
    largest = rng.choice((400, 3_000, 30_000))

    async def source() -> AsyncIterator[Samples | Control]:
        at = 0
        while at < len(talk.audio):
            size = rng.randrange(1, largest)
            yield talk.audio[at : at + size]
            at += size
            if commands and rng.random() < 0.05:
                command = rng.choice((Flush(), Clear(), Configure(settings_of(rng), rng.choice((None, options)))))
                given.append(type(command).__name__.lower())
                cuts.append(at)
                yield command
            for _ in range(rng.randrange(4)):
                await asyncio.sleep(0)

    end_of_turn = policy(rng)
    session = Session(service, LoudnessVad(), settings=settings, options=options, end_of_turn=end_of_turn)  # type: ignore[arg-type]
    engine = asyncio.create_task(service.work())
    running = asyncio.create_task(session.run(source(), checked))
    if rng.random() < 0.1:
        for _ in range(rng.randrange(200)):
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait([running])
        assert not service.waiting
        if running.cancelled():
            engine.cancel()
            return
    await running
    engine.cancel()

    assert checked.acknowledged == given
    said: list[str] = []
    for final in checked.finals:
        words = final.text.split()
        if final.turn in checked.failed:  # it may keep what only an interim said
            words = [word.rstrip("s,") for word in words if word not in ("er", "well")]
        said += words
    may_miss = {
        word
        for word, start, end in talk.words
        for final in checked.finals
        if (final.why == "cleared" or final.turn in checked.failed)
        and start < final.decided
        and end > final.start - 512
    }
    may_miss |= {word for word, start, end in talk.words if sum(start < at < end for at in cuts) > 1}  # in three parts
    expected = [word for word, _, _ in talk.words]
    assert [word for word in expected if word not in may_miss] == [word for word in said if word not in may_miss]
    once = list(dict.fromkeys(said))  # what only a misheard interim said may meet its right form beside it
    assert once == [word for word in expected if word in set(said)]


@pytest.mark.parametrize("part", range(PARTS))
def test_no_word_is_lost_doubled_or_moved_whatever_the_schedule(part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    async def several() -> None:
        for seed in range(part, SCHEDULES, PARTS):
            try:
                await schedule(seed, monkeypatch)
            except BaseException as error:
                error.add_note(f"schedule {seed}")
                raise

    asyncio.run(several())
