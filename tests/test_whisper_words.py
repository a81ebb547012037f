"""Words of the embedded engine: when they are said, that they are the text, that asking for them changes nothing."""

import asyncio
import difflib
import random
from collections.abc import AsyncIterator, Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spoken import sentences, silence
from spoken_words import Said, talk_timed
from stt.audio import Samples, samples
from stt.engines.whisper import Whisper
from stt.engines.whisper_words import TimedToken, calibrated, characters, sound_in, timed_words
from stt.events import Event, TurnCompleted
from stt.recognition import LocalRecognizer, RecognitionOptions, Utterance
from stt.session import Session
from stt.settings import TurnSettings
from stt.vad import SileroVad
from stt.words import Word, may_break

FINALS_ONLY = TurnSettings(interim_s=None, speculative=False)


@pytest.fixture(scope="module")
def whisper() -> Whisper:
    return Whisper(device="cpu")


def turns(
    whisper: Whisper, audio: Samples, settings: TurnSettings = FINALS_ONLY, *, size: int = 0, words: bool = True
) -> list[TurnCompleted]:
    found: list[TurnCompleted] = []

    async def sink(event: Event) -> None:
        if isinstance(event, TurnCompleted):
            found.append(event)

    async def source() -> AsyncIterator[Samples]:
        for at in range(0, len(audio), size or len(audio)):
            yield audio[at : at + (size or len(audio))]

    async def run() -> None:
        with LocalRecognizer(whisper) as recognizer:
            options = RecognitionOptions(words=words)
            await Session(recognizer, SileroVad(), settings=settings, options=options).run(source(), sink)

    asyncio.run(run())
    return found


def said(text: str) -> str:
    return "".join(filter(str.isalnum, text.lower()))


def errors(reference: Sequence[Said], heard: Sequence[Word]) -> tuple[list[float], list[float]]:
    """Return |error| of starts, and of ends inside sentences, of the words that both have, in seconds."""
    matcher = difflib.SequenceMatcher(None, [said(w.word) for w in reference], [said(w.text) for w in heard], False)
    pairs = [
        (reference[block.a + i], heard[block.b + i])
        for block in matcher.get_matching_blocks()
        for i in range(block.size)
    ]
    return (
        [abs(word.start_s - true.start_s) for true, word in pairs],
        [abs(word.end_s - true.end_s) for true, word in pairs if not true.last],
    )


@pytest.mark.parametrize("noise_db", [None, 15], ids=["clean", "15 dB"])
@pytest.mark.parametrize("together", [1, 4], ids=["single sentences", "with pauses"])
def test_words_are_where_they_are_said(whisper: Whisper, together: int, noise_db: float | None) -> None:
    rng, noise = random.Random(together), np.random.default_rng(together)
    starts: list[float] = []
    ends: list[float] = []
    texts = sentences(12, seed=300 + together)
    for at in range(0, len(texts), together):
        some = texts[at : at + together]
        audio, reference = talk_timed(some, [rng.uniform(0.3, 1.2) for _ in some], seed=at)
        if noise_db is not None:
            power = float(np.mean(np.square(audio[np.abs(audio) > 0.01]))) / 10 ** (noise_db / 10)
            audio = (audio + np.sqrt(power) * noise.standard_normal(len(audio))).astype(np.float32)
        heard = [word for turn in turns(whisper, audio) for word in turn.words]
        found = errors(reference, heard)
        assert len(found[0]) >= 0.5 * len(reference), heard  # it writes numbers as digits
        starts, ends = starts + found[0], ends + found[1]
        # No word is in a pause between sentences, but for the decay of the last.
        for before, after in pairwise(reference):
            if before.last:
                pause = before.end_s, after.start_s
                for word in heard:
                    assert min(word.end_s, pause[1]) - max(word.start_s, pause[0]) <= 0.15, (word, pause)
    assert np.median(starts) <= 0.08
    assert np.median(ends) <= 0.08
    assert np.percentile(starts, 90) <= 0.22
    assert np.percentile(ends, 90) <= 0.22


@pytest.fixture(scope="module")
def long_talk() -> Samples:
    texts, rng = sentences(14, seed=31), random.Random(3)
    return talk_timed(texts, [0.1 if rng.random() < 0.8 else 2.0 for _ in texts])[0]


def test_words_are_the_text_in_order_and_inside_their_turn(whisper: Whisper, long_talk: Samples) -> None:
    found = turns(whisper, long_talk)
    assert max(len(turn.passages) for turn in found) >= 2
    for turn in found:
        assert "".join(word.text for word in turn.words) == turn.text
        assert len(turn.words) == len(turn.text.split())
        assert all(turn.start <= word.start < word.end <= turn.end for word in turn.words)
        assert all(before.end <= after.start for before, after in pairwise(turn.words))
        assert all(word.confidence is not None and 0 < word.confidence <= 1 for word in turn.words)


def test_words_of_a_stream_are_those_of_the_recording_and_change_no_text(whisper: Whisper, long_talk: Samples) -> None:
    offline = turns(whisper, long_talk)
    live = turns(whisper, long_talk, TurnSettings(), size=3_200)
    assert [turn.words for turn in live] == [turn.words for turn in offline]
    plain = turns(whisper, long_talk, words=False)
    assert [(turn.text, turn.start, turn.end) for turn in plain] == [(t.text, t.start, t.end) for t in offline]
    assert all(turn.words == () for turn in plain)


def test_asking_for_words_makes_the_engine_do_nothing_more(whisper: Whisper, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    for name in ("_generate", "_align"):

        def counted(*args: object, name: str = name, real: object = getattr(whisper, name)) -> object:
            calls.append(name)
            return real(*args)  # type: ignore[operator]

        monkeypatch.setattr(whisper, name, counted)
    audio = talk_timed(sentences(1, seed=2), [0.3])[0]
    plain = whisper.transcribe([Utterance(audio)])[0]
    timed = whisper.transcribe([Utterance(audio, RecognitionOptions(words=True), start=160)])[0]
    assert calls == ["_generate", "_align"] * 2
    assert (timed.text, timed.tokens, timed.confidence) == (plain.text, plain.tokens, plain.confidence)
    assert plain.words == ()
    assert timed.words[0].start >= 160
    # Interims are for reading.
    assert whisper.transcribe([Utterance(audio, RecognitionOptions(words=True), "interim")])[0].words == ()


# from here on without a model: tokens in, words out


def tone(duration_s: float) -> Samples:
    return 0.3 * np.sin(np.arange(samples(duration_s)) / 5).astype(np.float32)


def tokens(*spans: tuple[str, float, float]) -> list[TimedToken]:
    return [TimedToken(text, start_s, end_s, 0.5) for text, start_s, end_s in spans]


def shown(words: Sequence[Word]) -> list[tuple[str, float, float]]:
    """Times on a grid of 50 ms: the level is that of 25 ms."""

    def near(at_s: float) -> float:
        return round(round(at_s * 20) / 20, 2)

    return [(word.text, near(word.start_s), near(word.end_s)) for word in words]


def test_a_pause_belongs_to_no_word() -> None:
    audio = np.concatenate([tone(1), silence(1), tone(1)])
    heard = tokens((" one", 0, 0.5), (" two", 0.5, 1.2), (",", 1.2, 1.8), (" three", 1.8, 3.0))
    words = timed_words("one two, three", heard, sound_in(audio), 0)
    assert shown(words) == [("one", 0, 0.45), (" two,", 0.5, 1), (" three", 2, 3)]


def test_a_silence_that_the_voice_detector_heard_is_one_whatever_sounds_in_it() -> None:
    heard = tokens((" one", 0, 1.4), (" two", 1.4, 3.0))
    words = timed_words("one two", heard, sound_in(tone(3), [(32_000, 48_000)], 16_000), 16_000)
    assert shown(words) == [("one", 1, 2), (" two", 3, 4)]


def test_a_word_that_got_no_time_shares_that_of_its_neighbour() -> None:
    audio = np.concatenate([tone(0.9), silence(1), tone(0.5)])
    heard = tokens((" the", 0, 0.9), (" future", 0.9, 0.9), (" is", 1.9, 2.4))
    assert shown(timed_words("the future is", heard, sound_in(audio), 0)) == [
        ("the", 0, 0.25),
        (" future", 0.3, 0.9),
        (" is", 1.9, 2.4),
    ]


def test_punctuation_is_not_doubted() -> None:
    heard = [TimedToken(" yes", 0, 1, 0.9), TimedToken("?", 1, 1, 0.1), TimedToken('"', 1, 1, 0.1)]
    assert [(word.text, word.confidence) for word in timed_words('yes?"', heard, sound_in(tone(1)), 0)] == [
        ('yes?"', calibrated(0.9))
    ]


@pytest.mark.parametrize(
    ("pieces", "words"),
    [
        ([" $", "200", " -", " or", " so"], ["$200 -", " or", " so"]),
        (["今", "日は", "、", "良い"], ["今", "日は、", "良い"]),
        (["ส", "วัส", "ดี", " ครับ"], ["ส", "วัส", "ดี", " ครับ"]),
        (["ท", "ี่", "น", "ี่", "เ", "ก", "่", "า", "ๆ"], ["ที่", "นี่", "เก่าๆ"]),
        (["彼", "は", "「", "はい", "」", "と"], ["彼", "は", "「はい」", "と"]),
        (["ち", "ょ", "っ", "と", "コ", "ー", "ヒ", "ー"], ["ちょっ", "と", "コー", "ヒー"]),
        (["好", "「"], ["好「"]),
        ([" say", " (", "so", ")", " then"], ["say", " (so)", " then"]),
        ([' "', "Well", '",', " he"], ['"Well",', " he"]),
        (["—", "oh"], ["—oh"]),
        (["...", " ♪"], []),
    ],
)
def test_words_are_what_the_engine_writes(pieces: list[str], words: list[str]) -> None:
    heard = tokens(*((piece, i * 0.3, i * 0.3 + 0.3) for i, piece in enumerate(pieces)))
    assert [word.text for word in timed_words("".join(pieces).strip(), heard, sound_in(tone(2)), 0)] == words


def test_tokens_that_are_not_the_text_give_no_words() -> None:
    assert timed_words("something else", tokens((" one", 0, 1)), sound_in(tone(1)), 0) == ()
    # but a text that was cut off a loop has more of them than it needs
    assert shown(timed_words("one", tokens((" one", 0, 0.5), (" one", 0.5, 1)), sound_in(tone(1)), 0)) == [
        ("one", 0, 0.5)
    ]


@pytest.mark.parametrize(
    "text", ["今日は「良い」天気ですね。散歩しよう。", "我们明天去北京。好吗", "สวัสดีครับ ที่นี่ไกลมากๆ", "ကျွန်တော်"]
)
def test_bytes_of_scripts_without_spaces_become_words_of_whole_syllables(whisper: Whisper, text: str) -> None:
    """The tokens of the embedded model are parts of such characters."""
    encoded = whisper._model.hf_tokenizer.encode(text, add_special_tokens=False).ids
    assert len(encoded) > len(text)
    pieces = [piece for _, piece in characters(encoded, whisper._model.hf_tokenizer.decode)]
    heard = tokens(*((piece, i * 0.1, i * 0.1 + 0.1) for i, piece in enumerate(pieces)))
    found = timed_words(text, heard, sound_in(tone(6)), 0)
    assert "".join(word.text for word in found) == text
    assert all(may_break(word.text, after.text) for word, after in pairwise(found))
    assert len(found) >= len(text) / 4


times = st.floats(0, 8)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([" a", " word", "s", ",", "今", "は", " -", ".", " 12"]), times, times), max_size=30
    ),
    st.lists(st.tuples(st.integers(0, 80), st.booleans()), max_size=6),
    st.lists(st.tuples(st.integers(-999, 140_000), st.integers(-999, 140_000)), max_size=4),
)
def test_whatever_the_engine_says_words_are_the_text_in_order_and_apart(
    spans: list[tuple[str, float, float]], sound: list[tuple[int, bool]], silences: list[tuple[int, int]]
) -> None:
    audio = np.concatenate([*(tone(n / 10) if loud else silence(n / 10) for n, loud in sound), silence(0)])
    text = "".join(text for text, _, _ in spans).strip()
    words = timed_words(text, tokens(*spans), sound_in(audio, silences, 500), 500)
    assert "".join(word.text for word in words) == (text if any(map(str.isalnum, text)) else "")
    assert all(500 <= word.start <= word.end <= 500 + max(len(audio), 160) for word in words)
    assert all(before.end <= after.start for before, after in pairwise(words))


@settings(deadline=None)
@given(st.floats(0, 1), st.floats(0, 1))
def test_a_more_probable_word_is_never_less_sure(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert 0 < calibrated(low) <= calibrated(high) < 1
    assert abs(calibrated(one) - one) < 0.13  # a correction, not another measure
