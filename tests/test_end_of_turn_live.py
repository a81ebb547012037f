"""Turns that end by meaning in a session: the same live and from files, what is told, and settings that change."""

import asyncio
import itertools
import os
import sys
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from judges import SAID, TALK, ByLength, enough
from scripted import LoudnessVad, ScriptedModel, tone
from spoken import silence
from stt.audio import Samples
from stt.control import Configure, Control
from stt.endofturn import EndOfTurn, Meaning, choose, smart_turn
from stt.endofturn.meaning import PACES, pace
from stt.endofturn.texts import read
from stt.errors import EngineError
from stt.events import Event, TranscriptChanged, TurnCompleted, TurnPaused, TurnResumed
from stt.recognition import LocalRecognizer, RecognitionOptions
from stt.session import Session
from stt.settings import Eagerness, TurnSettings


async def events(
    *parts: Samples | Control,
    policy: EndOfTurn | None = None,
    settings: TurnSettings | None = None,
    live: bool = True,
    size: int = 320,
    hear: Any = None,
) -> list[Event]:
    """What a session tells of these parts; live, the engine is at once where it has something to do."""
    told: list[Event] = []

    async def sink(event: Event) -> None:
        told.append(event)

    async def source() -> AsyncIterator[Samples | Control]:
        for part in parts:
            if isinstance(part, Control):
                yield part
                continue
            for at in range(0, len(part), size):
                yield part[at : at + size]
                while live and (recognizer.waiting or recognizer.running_s):
                    await asyncio.sleep(0.0005)
                for _ in range(4):
                    await asyncio.sleep(0)

    with LocalRecognizer(ScriptedModel(hear)) as recognizer:
        options = RecognitionOptions(live=live)
        session = Session(
            recognizer,
            LoudnessVad(),  # type: ignore[arg-type]
            settings=settings,
            options=options,
            end_of_turn=policy,
        )
        await session.run(source(), sink)
    return told


def finals(told: list[Event]) -> list[tuple[Any, ...]]:
    return [(f.turn, f.start, f.end, f.text, f.decided, f.why) for f in told if isinstance(f, TurnCompleted)]


@pytest.mark.parametrize("eagerness", ["fast", "medium", "careful"])
@pytest.mark.parametrize("ending", [".", "?", " and"])
async def test_files_give_the_turns_that_live_speech_gives(eagerness: Eagerness, ending: str) -> None:
    """However they are cut, and although nobody waits for their texts live."""

    def hear(utterance: Any) -> str:
        return f"w{len(utterance.audio)}{ending}"

    def policy() -> Meaning:
        return Meaning(eagerness, ByLength())

    live = finals(await events(TALK, policy=policy(), hear=hear))
    settings = TurnSettings(interim_s=None, speculative=False)
    for size in (160, 5_000, len(TALK)):
        assert finals(await events(TALK, policy=policy(), settings=settings, live=False, size=size, hear=hear)) == live
    assert {why for *_, why in live} >= {"meaning"}


async def test_a_file_is_recognized_early_only_where_the_policy_asks_for_it() -> None:
    told = await events(
        np.concatenate([tone(1), silence(0.5), tone(1), silence(3)]),
        policy=Meaning("medium", ByLength()),
        settings=TurnSettings(interim_s=None, speculative=False),
        live=False,
    )
    assert [event.cause for event in told if isinstance(event, TranscriptChanged)] == ["pause", "pause"]
    short = np.concatenate([tone(1), silence(0.25), tone(1), silence(3)])
    settings = TurnSettings(interim_s=None, speculative=False)
    told = await events(short, policy=Meaning("medium", ByLength()), settings=settings, live=False)
    assert [event.cause for event in told if isinstance(event, TranscriptChanged)] == ["pause"], "at its end alone"


async def test_the_pause_is_told_at_once_and_again_with_each_probability() -> None:
    told = await events(TALK, policy=Meaning("careful", ByLength()))
    kinds = [
        (type(event).__name__, round(p, 2) if (p := getattr(event, "probability", None)) else None)
        for event in told
        if isinstance(event, TurnPaused | TurnResumed | TurnCompleted) and event.turn == 0
    ]
    assert kinds[0] == ("TurnPaused", None)
    assert kinds[-1] == ("TurnCompleted", None)
    for before, (kind, probability) in itertools.pairwise(kinds):
        if kind == "TurnPaused":
            assert (probability is None) == (before[0] == "TurnResumed"), "news of a pause that was told"
    assert sum(probability is not None for _, probability in kinds) >= 2


async def test_eager_asks_at_every_pause_and_ends_no_turn_sooner() -> None:
    audio = np.concatenate([tone(1.5), silence(0.26), tone(1.5), silence(4)])
    patient, eager = ByLength(), ByLength()
    expected = await events(audio, policy=Meaning("medium", patient))
    told = await events(audio, policy=Meaning("medium", eager, eager=True))
    assert finals(told) == finals(expected)
    assert (len(patient.asked), len(eager.asked)) == (1, 3)


async def test_a_pause_that_has_begun_goes_by_the_settings_that_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smart_turn, "shared", ByLength)
    silent, meant = TurnSettings(end_of_turn_s=2.5), TurnSettings(end_of_turn="auto")
    late = TurnSettings(end_of_turn="auto", eot_delay_s=1.5)
    whole = await events(tone(1.2), silence(0.35), Configure(late), silence(4), settings=meant, hear=lambda _: SAID)
    [first] = finals(whole)
    assert first[-1] == "meaning"
    assert 1.5 <= (first[-2] - first[2]) / 16_000 < 1.6
    first, second = finals(
        await events(tone(1.2), silence(1), Configure(meant), silence(4), tone(1.2), silence(4), settings=silent)
    )
    assert (first[-1], second[-1]) == ("silence", "meaning"), "nobody had kept what was said before"
    [first] = finals(await events(tone(0.5), silence(1), Configure(silent), silence(4), settings=meant))
    assert (first[-1], round((first[-2] - first[2]) / 16_000, 1)) == ("silence", 2.5)
    [first] = finals(await events(tone(1.2), silence(0.38), Configure(silent), silence(4), settings=meant))
    assert (first[-1], round((first[-2] - first[2]) / 16_000, 1)) == ("silence", 2.5), "what was said before is void"


async def test_silence_gives_exactly_the_turns_it_gave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smart_turn, "shared", ByLength)
    before = finals(await events(TALK, settings=TurnSettings()))
    eager = TurnSettings(eagerness="fast", eot_threshold=0.1, eot_delay_s=0.1, eot_timeout_s=0.5, eager=True)
    assert finals(await events(TALK, settings=eager)) == before
    assert {why for *_, why in before} == {"silence"}


async def test_auto_is_meaning_where_the_weights_are_in_languages_they_know(monkeypatch: pytest.MonkeyPatch) -> None:
    auto = TurnSettings(end_of_turn="auto")
    monkeypatch.setattr(smart_turn, "shared", lambda: None)
    assert finals(await events(TALK, settings=auto)) == finals(await events(TALK))
    monkeypatch.setattr(smart_turn, "shared", ByLength)
    kinds = [type(choose(auto, language)).__name__ for language in ("en", "de", None, "sv")]
    assert kinds == ["Meaning", "Meaning", "Meaning", "Silence"]


@pytest.mark.parametrize(
    ("settings", "silence_s"),
    [
        (TurnSettings(end_of_turn="auto", eagerness="fast", eot_delay_s=1.2), 1.2),
        (TurnSettings(end_of_turn="auto", eot_threshold=0.99, eot_timeout_s=1.0), 1.0),
        (TurnSettings(end_of_turn="auto", eagerness="careful", eot_threshold=0.1, eot_delay_s=0.4), 0.4),
    ],
)
async def test_the_numbers_replace_those_of_the_eagerness(
    settings: TurnSettings, silence_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smart_turn, "shared", ByLength)
    [(*_, end, _, decided, _)] = finals(await events(tone(1.5), silence(4), settings=settings, hear=lambda _: SAID))
    assert silence_s <= (decided - end) / 16_000 < silence_s + 0.1


def test_no_eagerness_waits_longer_than_the_settings_say() -> None:
    for eagerness in ("fast", "medium", "careful"):
        settings = TurnSettings(end_of_turn="meaning", eagerness=eagerness)
        assert settings.longest_silence_s is not None
        assert pace(settings).latest_s <= settings.longest_silence_s


async def test_who_has_no_time_leaves_live_turns_to_their_text_and_files_wait() -> None:
    async def gap_s(*, live: bool) -> float:
        policy = Meaning("medium", ByLength(busy=True), silence_s=1.5)
        [final] = [
            f for f in await events(tone(1.5), silence(4), policy=policy, live=live) if isinstance(f, TurnCompleted)
        ]
        return final.decided_s - final.end_s

    by_text = PACES["medium"].enough_s(None, read("w26400"))
    assert await gap_s(live=True) == pytest.approx(by_text + 0.05, abs=0.1)
    assert await gap_s(live=False) == pytest.approx(enough(PACES["medium"], "w26400") + 0.05, abs=0.1)


async def test_speech_waits_for_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes at its own pace is taken while an answer is awaited; what comes faster is held to that pace."""
    now_s, told = 0.0, list[Event]()
    monkeypatch.setattr("stt.endofturn.policy.monotonic", lambda: now_s)
    answered = asyncio.Event()

    class Slow:
        async def ask(self, audio: Samples, *, patient: bool = False) -> float:
            await answered.wait()
            return 0.99

    async def sink(event: Event) -> None:
        told.append(event)

    async def source() -> AsyncIterator[Samples]:
        nonlocal now_s
        yield np.concatenate([tone(1), silence(PACES["medium"].ask_s + 0.04)])
        for part in (*[silence(0.1)] * 5, tone(0.1)):
            await asyncio.sleep(0)
            now_s += 0.1
            yield part
        assert isinstance(told[-1], TurnResumed), "heard at once"
        yield silence(PACES["medium"].ask_s + 0.04)
        asyncio.get_running_loop().call_later(0.01, answered.set)
        yield silence(0.5)
        assert answered.is_set(), "no time passed for so much"
        yield silence(3)

    with LocalRecognizer(ScriptedModel()) as recognizer:
        policy = Meaning("medium", Slow())
        session = Session(recognizer, LoudnessVad(), settings=TurnSettings(interim_s=None), end_of_turn=policy)  # type: ignore[arg-type]
        async with asyncio.timeout(60):
            await session.run(source(), sink)
    assert [event.why for event in told if isinstance(event, TurnCompleted)] == ["meaning"]


async def test_an_answer_that_comes_late_is_none_and_is_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    hold, computed = threading.Event(), []

    def predict(audio: Samples) -> float:
        computed.append(len(audio))
        assert len(audio) == 1 or hold.wait(20)
        return 0.5

    model, before = smart_turn.SmartTurn(lambda: predict, threads=1), replace(smart_turn.FIGURES)
    assert await model.ask(np.zeros(1, np.float32)) == 0.5
    monkeypatch.setattr(smart_turn, "WITHIN_S", 0.01)
    waits = asyncio.ensure_future(model.ask(np.zeros(2, np.float32), patient=True))
    while len(computed) < 2:
        await asyncio.sleep(0)
    with pytest.raises(smart_turn.BusyError, match=r"within 0\.01 s"):
        await model.ask(np.zeros(3, np.float32))
    hold.set()
    assert await waits == 0.5
    assert await model.ask(np.zeros(1, np.float32), patient=True) == 0.5
    assert computed == [1, 2, 1]
    figures = smart_turn.FIGURES
    assert (figures.late - before.late, figures.answered - before.answered) == (1, 3)


@pytest.mark.skipif(sys.platform != "linux", reason="a niceness belongs to the process")
async def test_asks_give_way_to_all_else_in_the_process() -> None:
    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    model = smart_turn.SmartTurn(lambda: lambda _: float(niceness()))
    here = niceness()
    answers = [await model.ask(np.zeros(1, np.float32)) for _ in range(8)]
    assert answers[0] == here, "one now and then gives way to nobody"
    assert all(answer > here for answer in answers[1:4]), answers  # within half a second, however busy the machine
    assert niceness() == here


async def test_a_turn_is_not_over_before_its_text_and_whoever_goes_on_meanwhile_is_in_it() -> None:
    """Whatever the sound says: the text, once it is there, ends the turn at once, if it is one that ends."""

    async def told(*parts: Samples) -> list[Event]:
        told: list[Event] = []
        release = threading.Event()

        async def sink(event: Event) -> None:
            told.append(event)

        def hear(_: object) -> str:
            release.wait(30)
            return SAID

        async def source() -> AsyncIterator[Samples]:
            for part in parts:
                for at in range(0, len(part), 512):
                    yield part[at : at + 512]
                    for _ in range(4):
                        await asyncio.sleep(0)
            assert not any(isinstance(event, TurnCompleted) for event in told)
            release.set()
            while not any(isinstance(event, TranscriptChanged) for event in told):
                await asyncio.sleep(0)
            for _ in range(30):
                yield silence(0.032)
                await asyncio.sleep(0)

        with LocalRecognizer(ScriptedModel(hear)) as recognizer:
            session = Session(
                recognizer,
                LoudnessVad(),  # type: ignore[arg-type]
                settings=TurnSettings(interim_s=None),
                options=RecognitionOptions(live=True),
                end_of_turn=Meaning("fast", ByLength(), silence_s=1.5),
            )
            await session.run(source(), sink)
        return told

    [final] = [event for event in await told(tone(1.2), silence(1.1)) if isinstance(event, TurnCompleted)]
    assert (final.text, final.why) == (SAID, "meaning")
    assert 1.1 <= final.decided_s - final.end_s <= 1.25
    both = await told(tone(1.2), silence(1.1), tone(1.2), silence(0.9))
    [final] = [event for event in both if isinstance(event, TurnCompleted)]
    assert final.end_s == pytest.approx(3.5, abs=0.1)
    assert sum(isinstance(event, TurnResumed) for event in both) == 1


async def test_too_many_asks_are_refused_by_their_cost_and_those_of_files_come_last() -> None:
    held, order = asyncio.Event(), []

    def open_model() -> smart_turn.Predict:
        asyncio.run_coroutine_threadsafe(held.wait(), loop).result(10)

        def predict(audio: Samples) -> float:
            order.append(len(audio))
            return 0.5

        return predict

    loop = asyncio.get_running_loop()
    model, before = smart_turn.SmartTurn(open_model, threads=1), smart_turn.FIGURES.refused
    asks = [asyncio.ensure_future(model.ask(np.zeros(1, np.float32)))]
    await asyncio.sleep(0.05)  # the thread holds the first
    asks += [asyncio.ensure_future(model.ask(np.zeros(100 + n, np.float32), patient=True)) for n in range(30)]
    asks += [asyncio.ensure_future(model.ask(np.zeros(2 + n, np.float32))) for n in range(30)]
    await asyncio.sleep(0)
    asks[1].cancel()
    held.set()
    answers = await asyncio.gather(*asks, return_exceptions=True)
    refused = sum(isinstance(answer, smart_turn.BusyError) for answer in answers[31:])
    assert refused == smart_turn.FIGURES.refused - before > 0
    assert all(answer == 0.5 for answer in answers[2:31]), "files wait"
    assert order == sorted(order)
    assert 100 not in order, "who was cancelled costs nothing"
    with pytest.raises(EngineError, match="smart-turn: no"):
        await smart_turn.SmartTurn(lambda: (_ for _ in ()).throw(ValueError("no"))).ask(np.zeros(1, np.float32))
