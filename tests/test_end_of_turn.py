"""The seam of end-of-turn policies, with one that is not the product's."""

import asyncio
import hashlib
import json
import random
from collections.abc import AsyncIterator

import numpy as np
import pytest

from scripted import LoudnessVad, ScriptedModel, tone
from spoken import silence
from stt.audio import Samples
from stt.control import Configure
from stt.endofturn import EndOfTurn, Pause, Silence, choose
from stt.events import Event, TurnCompleted
from stt.recognition import LocalRecognizer, RecognitionOptions
from stt.session import Session
from stt.settings import TurnSettings
from stt.turns import TurnEnded, TurnSegmenter


class Follows:
    """A policy that looks at each pause at given silences, and ends the turn at the last of them."""

    audio_s = 1.0

    def __init__(self, *looks: float, longest_s: float | None = 3.0, text: str = "") -> None:
        self.longest_s = longest_s
        self._looks, self._text = looks, text
        self.seen: list[tuple[int, float, str, int]] = []

    async def judge(self, pause: Pause) -> float | None:
        for look in self._looks:
            try:
                await pause.lasts(look)
            except asyncio.CancelledError:
                self.seen.append((pause.turn, look, "over", 0))
                raise
            self.seen.append((pause.turn, look, pause.text, len(pause.audio(1))))
        return self._looks[-1] if self._text in pause.text else None


async def run(policy: EndOfTurn | None, audio: Samples, size: int = 320, *, live: bool = False) -> list[TurnCompleted]:
    finals: list[TurnCompleted] = []

    async def sink(event: Event) -> None:
        if isinstance(event, TurnCompleted):
            finals.append(event)

    async def source() -> AsyncIterator[Samples]:
        for at in range(0, len(audio), size):
            yield audio[at : at + size]
            while live and (recognizer.waiting or recognizer.running_s):
                await asyncio.sleep(0)
            await asyncio.sleep(0)

    with LocalRecognizer(ScriptedModel()) as recognizer:
        options = RecognitionOptions(live=live)
        session = Session(recognizer, LoudnessVad(), options=options, end_of_turn=policy)  # type: ignore[arg-type]
        await session.run(source(), sink)
    return finals


TWO = np.concatenate([tone(1), silence(0.9), tone(1), silence(4)])


async def test_a_policy_says_how_long_the_silence_has_to_be() -> None:
    policy = Follows(0.4, 0.8)
    finals = await run(policy, TWO)
    assert [(f.why, round(f.decided_s - f.end_s, 1)) for f in finals] == [("meaning", 0.8)] * 2
    assert [(turn, look, audio) for turn, look, _, audio in policy.seen] == [
        (0, 0.4, 16_000),
        (0, 0.8, 16_000),
        (1, 0.4, 16_000),
        (1, 0.8, 16_000),
    ]


async def test_a_pause_that_is_over_is_told_and_the_longest_silence_stands() -> None:
    policy = Follows(0.4, 2.0, longest_s=2.5, text="nobody says this")
    finals = await run(policy, TWO)
    assert [(f.turn, f.why, round(f.decided_s - f.end_s, 1)) for f in finals] == [(0, "silence", 2.5)]
    assert [look[1:3] for look in policy.seen if look[2] == "over"] == [(2.0, "over")]


async def test_the_text_so_far_is_at_hand() -> None:
    policy = Follows(0.8, text="w")
    await run(policy, TWO, live=True)
    assert all(text.startswith("w") for _, _, text, _ in policy.seen)


async def test_files_come_out_the_same_however_they_are_cut() -> None:
    runs = [await run(Follows(0.35, 0.7), TWO, size) for size in (160, 5_000, len(TWO))]
    assert [[(f.start, f.end, f.decided, f.text) for f in run] for run in runs] == [
        [(f.start, f.end, f.decided, f.text) for f in runs[0]]
    ] * 3


async def test_a_policy_that_fails_leaves_the_turn_to_its_longest_silence(caplog: pytest.LogCaptureFixture) -> None:
    class Fails(Follows):
        async def judge(self, pause: Pause) -> float | None:
            raise ZeroDivisionError

    finals = await run(Fails(longest_s=1.2), TWO)
    assert [(f.why, round(f.decided_s - f.end_s, 1)) for f in finals] == [("silence", 1.2)]
    assert "the end-of-turn policy failed" in caplog.text


async def test_without_a_policy_of_its_own_the_settings_choose() -> None:
    assert isinstance(choose(TurnSettings()), Silence)
    finals = await run(None, TWO)
    assert [(f.why, round(f.decided_s - f.end_s, 1)) for f in finals] == [("silence", 1.5)]


async def test_turns_that_only_the_client_ends() -> None:
    finals: list[TurnCompleted] = []

    async def sink(event: Event) -> None:
        if isinstance(event, TurnCompleted):
            finals.append(event)

    async def source() -> AsyncIterator[Samples | Configure]:
        yield tone(1)
        yield silence(20)
        yield Configure(TurnSettings(end_of_turn_s=0.5))
        yield silence(0.1)
        yield tone(1)
        yield silence(2)

    with LocalRecognizer(ScriptedModel()) as recognizer:
        session = Session(recognizer, LoudnessVad(), settings=TurnSettings(end_of_turn_s=None))  # type: ignore[arg-type]
        await session.run(source(), sink)
    assert [(round(f.start_s), f.why) for f in finals] == [(0, "silence"), (21, "silence")]


@pytest.mark.parametrize(
    ("silence_s", "count", "digest"), [(0.5, 252, "6c4665a9736f46da"), (1.5, 164, "64f208d906a67530")]
)
def test_silence_gives_the_turns_it_gave_before_there_were_policies(silence_s: float, count: int, digest: str) -> None:
    """Digests of starts, ends and decisions that the segmenter before the seam made of the same probabilities."""
    turns: list[list[tuple[int, int, int, str]]] = []
    for seed in range(20):
        rng, probabilities = random.Random(seed), list[float]()
        while len(probabilities) < 2000:
            probabilities += [rng.choice((0.6, 0.9, 1.0))] * rng.randrange(1, 60)
            probabilities += [rng.choice((0.0, 0.2, 0.4))] * rng.choice((1, 3, 10, 30, 50, 80))
        policy = choose(TurnSettings(end_of_turn_s=silence_s))
        segmenter = TurnSegmenter(TurnSettings(interim_s=None, end_of_turn_s=policy.longest_s))
        events = segmenter.feed([silence(0.032)] * len(probabilities), probabilities) + segmenter.finish()
        turns.append([(e.start, e.end, e.decided, e.why) for e in events if isinstance(e, TurnEnded)])
    assert sum(map(len, turns)) == count
    assert hashlib.sha256(json.dumps(turns).encode()).hexdigest().startswith(digest)
