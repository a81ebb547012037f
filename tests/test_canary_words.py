"""Words of canary-qwen: when they are said, that they are the text, that asking for them changes nothing."""

import asyncio
import difflib
import json
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from spoken import silence
from spoken_words import Said
from stt.audio import Samples, samples
from stt.engines.canary_qwen import CanaryQwen
from stt.engines.canary_words import Piece, timed_tokens
from stt.engines.whisper_words import sound_in, timed_words
from stt.events import Event, TurnCompleted
from stt.recognition import Hypothesis, LocalRecognizer, RecognitionOptions, Utterance, WindowKey
from stt.session import Session
from stt.settings import TurnSettings
from stt.vad import SileroVad
from stt.words import Word

HELDOUT = Path(__file__).parent / "data" / "canary-toy" / "heldout"
TIMED = [json.loads(line) for line in (HELDOUT / "word-times.jsonl").read_text().splitlines()]
WORDS = RecognitionOptions(words=True)


@pytest.fixture(scope="module")
def canary() -> CanaryQwen:
    return CanaryQwen(model_dir=str(HELDOUT.parent), device="cpu", threads=1)


def spoken(row: dict) -> tuple[Samples, list[Said]]:
    audio = soundfile.read(HELDOUT / f"{row['id']}.flac", dtype="float32")[0]
    words = [Said(word, start_s, end_s) for word, start_s, end_s in row["words"]]
    return audio, [*words[:-1], Said(words[-1].word, words[-1].start_s, words[-1].end_s, last=True)]


def together(rows: Sequence[dict], rng: random.Random) -> tuple[Samples, list[Said]]:
    """Sentences with pauses of 0.3 to 1.2 s between them."""
    parts: list[Samples] = []
    said: list[Said] = []
    for row in rows:
        audio, words = spoken(row)
        begin = samples(max(0.0, words[0].start_s - 0.05)) if parts else 0
        shift_s = (sum(map(len, parts)) - begin) / 16_000
        said += [Said(w.word, w.start_s + shift_s, w.end_s + shift_s, w.last) for w in words]
        parts += [audio[begin : samples(words[-1].end_s + 0.05)], silence(rng.uniform(0.3, 1.2))]
    return np.concatenate([*parts[:-1], silence(0.3)]), said


def talks(most: int, noise_db: float | None) -> list[tuple[Samples, list[Said]]]:
    rng, noise, rows = random.Random(5), np.random.default_rng(5), TIMED.copy()
    rng.shuffle(rows)
    found = []
    while rows:
        count = rng.randint(2, most) if most > 1 else 1
        audio, said = together(rows[:count], rng)
        del rows[:count]
        if noise_db is not None:
            power = float(np.mean(np.square(audio[np.abs(audio) > 0.01]))) / 10 ** (noise_db / 10)
            audio = (audio + np.sqrt(power) * noise.standard_normal(len(audio))).astype(np.float32)
        found.append((audio, said))
    return found


def errors(reference: Sequence[Said], heard: Sequence[Word]) -> tuple[list[float], list[float]]:
    """Return |error| of starts, and of ends inside sentences, of the words that both have, in seconds."""
    written = ["".join(filter(str.isalnum, word.lower())) for word in (said.word for said in reference)]
    read = ["".join(filter(str.isalnum, word.text.lower())) for word in heard]
    blocks = difflib.SequenceMatcher(None, written, read, False).get_matching_blocks()
    pairs = [(reference[b.a + i], heard[b.b + i]) for b in blocks for i in range(b.size)]
    return (
        [abs(word.start_s - said.start_s) for said, word in pairs],
        [abs(word.end_s - said.end_s) for said, word in pairs if not said.last],
    )


@pytest.mark.parametrize("noise_db", [None, 15], ids=["clean", "15 dB"])
@pytest.mark.parametrize("most", [1, 4], ids=["single sentences", "with pauses"])
def test_words_are_where_they_are_said(canary: CanaryQwen, most: int, noise_db: float | None) -> None:
    starts: list[float] = []
    ends: list[float] = []
    spoken_words = 0
    for audio, said in talks(most, noise_db):
        [heard] = canary.transcribe([Utterance(audio, WORDS)])
        assert "".join(word.text for word in heard.words) == heard.text
        more = errors(said, heard.words)
        starts, ends = starts + more[0], ends + more[1]
        spoken_words += len(said)
    figures = [f"{np.median(e) * 1e3:.0f} / {np.percentile(e, 90) * 1e3:.0f} ms" for e in (starts, ends)]
    print(f"{len(starts)} of {spoken_words} words: starts {figures[0]}, ends {figures[1]}")
    assert len(starts) >= 0.7 * spoken_words, "the small model garbles some of what is longer"
    assert np.median(starts) <= 0.06
    assert np.median(ends) <= 0.06
    assert np.percentile(starts, 90) <= 0.16
    assert np.percentile(ends, 90) <= 0.19


def test_what_is_misheard_is_less_sure_than_what_is_right(canary: CanaryQwen) -> None:
    right: list[float] = []
    wrong: list[float] = []
    noise = np.random.default_rng(3)
    for row in TIMED[::2]:
        audio, said = spoken(row)
        power = float(np.mean(np.square(audio[np.abs(audio) > 0.01]))) / 10**0.6
        noisy = (audio + np.sqrt(power) * noise.standard_normal(len(audio))).astype(np.float32)
        for heard in canary.transcribe([Utterance(audio, WORDS), Utterance(noisy, WORDS)]):
            words = ["".join(filter(str.isalnum, word.text.lower())) for word in heard.words]
            known = ["".join(filter(str.isalnum, word.word.lower())) for word in said]
            places = {
                b.b + i
                for b in difflib.SequenceMatcher(None, known, words, False).get_matching_blocks()
                for i in range(b.size)
            }
            for i, word in enumerate(heard.words):
                assert word.confidence is not None
                (right if i in places else wrong).append(word.confidence)
    assert len(wrong) > 10
    above = np.mean(np.array(right)[:, None] > np.array(wrong)[None])  # the area under the ROC curve
    assert above > 0.85
    sure = np.array([*right, *wrong])
    assert abs(sure.mean() - len(right) / len(sure)) < 0.1
    assert sure.std() > 0.1


async def test_words_of_a_stream_are_those_of_the_recording_and_change_no_text(canary: CanaryQwen) -> None:
    rows = TIMED[2:4]
    audio, _ = together(rows, random.Random(1))

    async def turns(settings: TurnSettings, size: int, *, words: bool) -> list[TurnCompleted]:
        found: list[TurnCompleted] = []

        async def sink(event: Event) -> None:
            if isinstance(event, TurnCompleted):
                found.append(event)

        async def source() -> AsyncIterator[Samples]:
            for at in range(0, len(audio), size):
                yield audio[at : at + size]

        with LocalRecognizer(canary) as recognizer:
            options = RecognitionOptions(words=words)
            await Session(recognizer, SileroVad(), settings=settings, options=options).run(source(), sink)
        return found

    offline = await turns(TurnSettings(interim_s=None, speculative=False), len(audio), words=True)
    live = await turns(TurnSettings(), 3_200, words=True)
    plain = await turns(TurnSettings(), 3_200, words=False)
    assert [turn.words for turn in live] == [turn.words for turn in offline]
    assert [turn.text for turn in plain] == [turn.text for turn in offline]
    for turn in offline:
        assert "".join(word.text for word in turn.words) == turn.text
        assert all(turn.start <= word.start < word.end <= turn.end for word in turn.words)
        assert all(before.end <= after.start for before, after in pairwise(turn.words))
    assert all(turn.words == () for turn in plain)


async def test_words_are_the_same_with_drafts_in_batches_and_in_rows_that_come_and_go(canary: CanaryQwen) -> None:
    clips = [spoken(row)[0] for row in TIMED[:3]]
    alone = [canary.transcribe([Utterance(clip, WORDS, start=160)])[0] for clip in clips]
    plain = canary.transcribe([Utterance(clip) for clip in clips])
    assert [(h.text, h.tokens, h.words) for h in plain] == [(h.text, h.tokens, ()) for h in alone]
    assert canary.transcribe([Utterance(clips[0], WORDS, "interim")])[0].words == ()
    drafted = [Utterance(clip, WORDS, draft=h, start=160) for clip, h in zip(clips, alone, strict=True)]
    utterances = [*drafted, Utterance(clips[0], WORDS, draft=Hypothesis("", alone[1].tokens), start=160)]
    same(canary.transcribe(utterances), [*alone, alone[0]])
    assert all(word.start >= 160 for word in alone[0].words)

    rows = CanaryQwen(model_dir=str(HELDOUT.parent), device="cpu", threads=1, rows=4)
    with LocalRecognizer(rows) as recognizer:
        asked = [replace(utterance, key=WindowKey(i)) for i, utterance in enumerate(utterances)]
        found = await asyncio.gather(*map(recognizer.submit, asked))
    same([recognition.hypothesis for recognition in found if recognition], [*alone, alone[0]])


def same(found: Sequence[Hypothesis], expected: Sequence[Hypothesis]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert (one.text, one.tokens) == (other.text, other.tokens)
        assert [(w.text, w.start, w.end) for w in one.words] == [(w.text, w.start, w.end) for w in other.words]
        assert [w.confidence for w in one.words] == pytest.approx([w.confidence for w in other.words], abs=1e-3)


# from here on without a model: where the head looked in, words out


def test_pieces_share_a_stretch_of_sound_by_what_the_head_says_and_by_their_letters() -> None:
    sound = np.repeat([False, True, False], [30, 100, 30])
    steady = [Piece("four", 5, 6, 0.9), Piece(" four", 8, 9, 0.9), Piece(" four", 11, 12, 0.9)]
    edges = [(token.start_s, token.end_s) for token in timed_tokens(steady, sound)]
    assert edges[0][0] == pytest.approx(0.3, abs=0.03)
    assert edges[-1][1] == 1.3
    assert all(0.2 < end_s - start_s < 0.5 for start_s, end_s in edges)
    late = [steady[0], Piece(" a", 10.5, 11, 0.9), steady[2]]  # one letter, and the head looked late
    assert timed_tokens(late, sound)[1].start_s < 10.5 * 0.08 - 0.085


def test_no_piece_reaches_over_a_silence_and_punctuation_has_no_time() -> None:
    sound = np.repeat([True, False, True], [100, 60, 100])
    heard = [Piece("one", 1, 3, 0.9), Piece(",", 14, 15, 0.9), Piece(" two", 20.5, 21, 0.9)]
    one, comma, two = timed_tokens(heard, sound)
    assert (one.start_s, one.end_s) == (0.0, 1.0)
    assert comma.start_s == comma.end_s == 1.0
    assert (two.start_s, two.end_s) == (1.6, 2.6)


@given(
    st.lists(st.tuples(st.sampled_from(["a", " word", "s", ",", " 12"]), st.floats(0, 3)), max_size=20),
    st.lists(st.tuples(st.integers(0, 60), st.booleans()), max_size=6),
)
def test_whatever_the_head_says_words_are_the_text_in_order_and_apart(
    heard: list[tuple[str, float]], loud: list[tuple[int, bool]]
) -> None:
    audio = np.concatenate([*(np.full(n * 160, 0.3 * on, np.float32) for n, on in loud), silence(0)])
    begins = np.cumsum([step for _, step in heard])
    pieces = [Piece(text, begin, begin + 0.5, 0.5) for (text, _), begin in zip(heard, begins, strict=True)]
    text = "".join(text for text, _ in heard).strip()
    words = timed_words(text, timed_tokens(pieces, sound_in(audio)), sound_in(audio), 500)
    assert "".join(word.text for word in words) == (text if any(map(str.isalnum, text)) else "")
    assert all(500 <= word.start <= word.end <= 500 + max(len(audio), 160) for word in words)
    assert all(before.end <= after.start for before, after in pairwise(words))
