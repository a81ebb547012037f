"""Interims by one model and what stands by another: neither waits for the other, and no word flickers back."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import numpy as np
import pytest

from scripted import LoudnessVad, ScriptedModel, tone
from spoken import silence
from stt.audio import Samples
from stt.errors import EngineError
from stt.events import Event, RecognitionFailed, TranscriptChanged, TurnCompleted
from stt.recognition import (
    Hypothesis,
    LocalRecognizer,
    PairRecognizer,
    RecognitionOptions,
    Ticket,
    Utterance,
    WindowKey,
    recognizing,
)
from stt.session import Session
from stt.settings import TurnSettings
from stt.transcript import Transcript
from stt.turns import Window

_WORD = 4_000  # samples that hold one


def spoken_in(utterance: Utterance, wrong: Callable[[int], bool] = lambda _: False) -> str:
    """What is in it: a word for each quarter of a second of the stream that is there whole and loud."""
    words = range(-(-utterance.start // _WORD), utterance.end // _WORD)
    loud = [at for at in words if utterance.audio[at * _WORD - utterance.start + _WORD // 2] > 0.1]
    return " ".join(f"{'m' if wrong(at) else 'w'}{at}" for at in loud)


def mishears(utterance: Utterance) -> str:
    return spoken_in(utterance, wrong=lambda at: at % 3 == 0)


class Pair:
    """Two scripted models and who asks them; `events` has what a session over them told."""

    def __init__(self, interims: ScriptedModel | None = None, finals: ScriptedModel | None = None) -> None:
        self.interims = interims or ScriptedModel(mishears)
        self.finals = finals or ScriptedModel(spoken_in, max_batch=1)
        recognizer = recognizing(self.finals, self.interims)
        assert isinstance(recognizer, PairRecognizer)
        self.recognizer = recognizer
        self.events: list[Event] = []

    @property
    def texts(self) -> list[TranscriptChanged]:
        return [event for event in self.events if isinstance(event, TranscriptChanged)]

    async def at_rest(self) -> None:
        """Wait until the model for interims has nothing to do, and the other one has begun what it can."""
        interims, finals = self.recognizer._interims, self.recognizer._finals
        while interims.waiting or interims.running_s or (finals.waiting and not finals.running_s):
            await asyncio.sleep(0)
        for _ in range(5):
            await asyncio.sleep(0)

    async def hear(
        self, audio: Samples, between: Callable[[float], object] = lambda _: None, settings: TurnSettings | None = None
    ) -> list[Event]:
        """Run a session; `between` is told the seconds after each piece, once interims have come."""

        async def source() -> AsyncIterator[Samples]:
            for at in range(0, len(audio), 800):
                yield audio[at : at + 800]
                await self.at_rest()
                between((at + 800) / 16_000)
            self.finals.free.set()

        async def sink(event: Event) -> None:
            self.events.append(event)

        with self.recognizer:
            await Session(self.recognizer, LoudnessVad(), settings=settings).run(source(), sink)
        return self.events


def ask(length: int, kind: str = "final", **more: object) -> Utterance:
    return replace(Utterance(np.ones(length, np.float32), kind=kind, key=WindowKey("a")), **more)  # type: ignore[arg-type]


def lengths(model: ScriptedModel) -> list[int]:
    return [len(utterance.audio) for batch in model.batches for utterance in batch]


# who is asked


async def test_each_model_is_asked_for_its_own() -> None:
    pair = Pair()
    with pair.recognizer as recognizer:
        assert recognizer.model.name == "scripted, interims by scripted"
        for length, kind in ((10, "interim"), (20, "speculative"), (30, "final")):
            recognition = await recognizer.submit(ask(length, kind))
            assert recognition is not None
            assert recognition.hypothesis.preview == (kind == "interim")
    assert (lengths(pair.interims), lengths(pair.finals)) == ([10], [20, 30])


async def test_drafts_stay_with_the_model_that_wrote_them() -> None:
    pair = Pair()
    own, others = Hypothesis("own", (1,)), Hypothesis("other", (2,), preview=True)
    with pair.recognizer as recognizer:
        for kind, draft in (("interim", own), ("interim", others), ("final", own), ("final", others)):
            await recognizer.submit(ask(10, kind, draft=draft))
    drafts = [[u.draft for batch in model.batches for u in batch] for model in (pair.interims, pair.finals)]
    assert drafts == [[None, others], [own, None]]


@pytest.mark.parametrize(
    ("language", "knows", "other_knows", "asked"),
    [
        ("en", {"en"}, {"en", "de"}, "interims"),
        ("de", {"en"}, {"en", "de"}, "finals"),
        (None, {"en"}, {"en", "de"}, "finals"),
        (None, {"en", "de"}, {"en", "de"}, "interims"),
        (None, {"en"}, {"en"}, "interims"),
    ],
)
async def test_interims_in_a_language_that_their_model_does_not_know_go_to_the_other(
    language: str | None, knows: set[str], other_knows: set[str], asked: str
) -> None:
    models = ScriptedModel(), ScriptedModel()
    models[0].languages, models[1].languages = frozenset(knows), frozenset(other_knows)
    pair = Pair(*models)
    with pair.recognizer as recognizer:
        assert recognizer.model.languages == other_knows
        recognition = await recognizer.submit(ask(10, "interim", options=RecognitionOptions(language)))
        assert recognition is not None
        assert recognition.hypothesis.preview == (asked == "interims")
    assert lengths(getattr(pair, asked)) == [10]


async def test_no_interim_waits_behind_a_final_and_no_final_behind_an_interim() -> None:
    for held, free in (("finals", "interims"), ("interims", "finals")):
        pair = Pair()
        kinds = {"finals": "final", "interims": "interim"}
        with pair.recognizer as recognizer:
            getattr(pair, held).free.clear()
            waits = recognizer.submit(ask(10, kinds[held], key=WindowKey("other")))
            assert await recognizer.submit(ask(20, kinds[free])) is not None
            assert lengths(getattr(pair, free)) == [20]
            getattr(pair, held).free.set()
            assert await waits is not None


async def test_a_text_that_stands_makes_the_interims_before_it_pointless_and_one_that_failed_does_not() -> None:
    def hear(utterance: Utterance) -> str:
        return "heard" if len(utterance.audio) == 30 else str(1 / 0)

    pair = Pair(finals=ScriptedModel(hear))
    with pair.recognizer as recognizer:
        pair.interims.free.clear()
        interim, other = (recognizer.submit(ask(10, "interim", key=WindowKey(name))) for name in "ab")
        with pytest.raises(EngineError):
            await recognizer.submit(ask(20))
        await asyncio.sleep(0)
        assert not interim.done()
        assert await recognizer.submit(ask(30)) is not None
        await asyncio.sleep(0)
        assert interim.cancelled()
        assert not other.done(), "that of another session"
        pair.interims.free.set()
        assert await other is not None


async def test_a_pause_that_still_waits_when_the_speaker_goes_on_is_not_heard() -> None:
    pair = Pair()
    with pair.recognizer as recognizer:
        pair.finals.free.clear()
        runs = recognizer.submit(ask(10, "speculative", key=WindowKey("other")))
        while not pair.finals.batches:
            await asyncio.sleep(0)
        waits, final = recognizer.submit(ask(20, "speculative")), recognizer.submit(ask(30, key=WindowKey("a", 0, 1)))
        assert recognizer.waiting == 2
        await recognizer.submit(ask(25, "interim"))
        assert await waits is None
        pair.finals.free.set()
        assert await runs is not None
        assert await final is not None


async def test_forgetting_and_closing_reach_both() -> None:
    pair = Pair()
    with pair.recognizer as recognizer:
        tickets: list[Ticket] = []
        for model, kind in ((pair.interims, "interim"), (pair.finals, "final")):
            model.free.clear()
            tickets.append(recognizer.submit(ask(1, kind, key=WindowKey(f"another with an {kind}"))))
            while not model.batches:
                await asyncio.sleep(0)
            tickets.append(recognizer.submit(ask(2, kind)))
        assert recognizer.lag_s > 0
        recognizer.forget("a")
        assert [await ticket for ticket in tickets[1::2]] == [None, None]
        for model in (pair.interims, pair.finals):
            model.free.set()
        await asyncio.gather(*tickets)
    for kind in ("interim", "final"):
        with pytest.raises(EngineError, match="closed"):
            recognizer.submit(ask(3, kind))


def test_without_a_second_model_there_is_no_pair() -> None:
    assert isinstance(recognizing(ScriptedModel()), LocalRecognizer)


# what a session makes of it


def said(events: list[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, TurnCompleted)]


async def test_interims_keep_their_cadence_while_what_stands_is_recognized() -> None:
    """The text of the pause at 1.2 s comes at 4 s only, and then mends what had been shown, without a word lost."""
    pair = Pair()
    late: list[int] = []

    def between(at_s: float) -> None:
        if at_s == 1.0:
            pair.finals.free.clear()
        if at_s == 4.0:
            late.append(len(pair.texts))
            pair.finals.free.set()

    await pair.hear(np.concatenate([tone(1), silence(0.6), tone(3.4), silence(2)]), between)
    while_held = [text.end_s for text in pair.texts[: late[0]] if text.end_s > 1.5]
    assert len(while_held) >= 4
    assert np.diff(while_held) == pytest.approx(0.5, abs=0.04)
    at, mended = next((at, text) for at, text in enumerate(pair.texts) if text.stable_chars and at >= late[0])
    assert mended.text[: mended.stable_chars] == "w0 w1 w2 w3"
    assert len(mended.text.split()) >= len(pair.texts[at - 1].text.split()) >= 12
    assert said(pair.events) == [spoken_in(pair.finals.batches[-1][0])]


async def test_interims_of_the_next_window_do_not_wait_for_the_last_word_on_the_one_before() -> None:
    pair = Pair()
    at: list[int] = []

    def between(at_s: float) -> None:
        if at_s == 4.5:
            pair.finals.free.clear()
        if at_s == 8.0:
            at.append(len(pair.texts))

    settings = TurnSettings(window_s=5, overlap_s=1)
    await pair.hear(tone(9), between, settings)
    held = [text for text in pair.texts[: at[0]] if text.end_s > 5.2]
    assert np.diff([text.end_s for text in held]) == pytest.approx(0.5, abs=0.04)
    assert {text.stable_chars for text in held} == {0}, "nothing of it was heard by the other model"
    assert said(pair.events) == [" ".join(f"w{i}" for i in range(36))]


@pytest.mark.parametrize("seed", range(12))
async def test_no_word_flickers_back_and_what_is_stable_stays(seed: int) -> None:
    """Whatever is said, however late the second model is, and whatever the first one makes of it."""
    r = random.Random(seed)
    audio = np.concatenate(
        [part for _ in range(6) for part in (tone(r.uniform(0.3, 4)), silence(r.choice([0.1, 0.3, 0.7, 2])))]
    )
    odd = {at: r.random() < 0.3 for at in range(200)}
    pair = Pair(ScriptedModel(lambda utterance: spoken_in(utterance, wrong=odd.__getitem__)))

    def between(_: float) -> None:
        if r.random() < 0.05:
            pair.finals.free.set() if r.random() < 0.5 else pair.finals.free.clear()

    settings = TurnSettings(window_s=r.choice([5.0, 24.0]), overlap_s=r.choice([0.0, 1.0]))
    await pair.hear(audio, between, settings)
    stable: dict[int, str] = {}
    for event in pair.events:
        if not isinstance(event, TranscriptChanged | TurnCompleted):
            continue
        kept = stable.get(event.turn, "")
        assert event.text.startswith(kept), f"{kept!r} was stable, and became {event.text!r}"
        if isinstance(event, TranscriptChanged):
            assert "m" not in event.text[: event.stable_chars], "only the model that is right makes words stable"
            stable[event.turn] = event.text[: event.stable_chars]
    assert "m" not in " ".join(said(pair.events))
    numbers = [int(word[1:]) for text in said(pair.events) for word in text.split()]
    assert numbers == sorted(set(numbers)), "no word is lost or said twice"


async def test_a_model_for_finals_that_fails_leaves_what_was_shown() -> None:
    def fails(utterance: Utterance) -> str:
        raise ZeroDivisionError

    pair = Pair(finals=ScriptedModel(fails))
    events = await pair.hear(np.concatenate([tone(1), silence(0.6), tone(2), silence(2)]))
    assert [type(event) for event in events[-2:]] == [RecognitionFailed, TurnCompleted]
    assert said(events) == [pair.texts[-1].text]
    assert len(said(events)[0].split()) >= 10


async def test_a_model_for_interims_that_fails_or_hangs_costs_interims_alone() -> None:
    def fails(utterance: Utterance) -> str:
        raise ZeroDivisionError

    audio = np.concatenate([tone(1), silence(0.6), tone(2), silence(2)])
    pair = Pair(interims=ScriptedModel(fails))
    events = await pair.hear(audio)
    assert {text.cause for text in pair.texts} == {"pause"}
    assert said(events) == [spoken_in(pair.finals.batches[-1][0])]
    hung = Pair()
    hung.interims.free.clear()
    hung.at_rest = lambda: asyncio.sleep(0)  # type: ignore[method-assign]
    assert said(await hung.hear(audio)) == said(events)
    hung.interims.free.set()


# what a transcript makes of it


def window(end_s: float, cause: str = "interim", index: int = 0, start_s: float = 0, overlap_s: float = 0) -> Window:
    audio = np.zeros(round((end_s - start_s) * 16_000), np.float32)
    return Window(0, index, round(start_s * 16_000), round(overlap_s * 16_000), audio, cause)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("held", "preview", "text"),
    [
        ("the dark suit", "the dog suit is new", "the dark suit is new"),
        ("the dark suit", "a dog soot is new", "the dark suit is new"),
        ("forty-two buses", "forty two buses run", "forty-two buses run"),
        ("I said no", "I said no no", "I said no no"),
        ("all that was said", "", "all that was said"),
        ("all that was said", "all that", "all that was said"),
        ("", "something new", "something new"),
        ("今日は", "今日が良い", "今日は良い"),
    ],
)
def test_a_preview_only_adds_to_what_the_other_model_heard(held: str, preview: str, text: str) -> None:
    transcript = Transcript()
    transcript.update(window(1), Hypothesis("what was there first", preview=True))
    assert transcript.stable_chars == 0
    transcript.update(window(2, "pause"), Hypothesis(held))
    for end_s in (3, 4):
        transcript.update(window(end_s), Hypothesis(preview, preview=True))
        assert (transcript.text, transcript.stable_chars) == (text, len(held))
    transcript.update(window(5, "pause"), Hypothesis("and what it hears in the end"))
    assert transcript.text == "and what it hears in the end"


def test_a_preview_of_less_than_was_heard_changes_nothing() -> None:
    transcript = Transcript()
    transcript.update(window(2, "pause"), Hypothesis("one two three"))
    transcript.update(window(1.5), Hypothesis("one two, tree and", preview=True))
    assert transcript.text == "one two three"


def test_a_preview_of_the_next_window_leaves_the_words_of_the_one_before() -> None:
    transcript = Transcript()
    transcript.update(window(5, "cut"), Hypothesis("it was a dark and stormy night"))
    for heard in ("dog and stormy knight the rain", "and stormy light the rain"):
        transcript.update(window(6, index=1, start_s=4, overlap_s=1), Hypothesis(heard, preview=True))
        assert transcript.text == "it was a dark and stormy night the rain"
