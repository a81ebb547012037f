"""Terms in what canary-qwen hears, on canary-toy: what was said is written as it was given, and nothing else changes.

The toy's vocabulary is closed: what it mishears it takes for another of its words, never for a name spelled by ear. So
such mistakes are made on purpose (`misheard`), in what the model gives back; what judges them is the model, by its
audio.
"""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from misheard import NAMES, misheard, named
from nemo_lite import ContinuousBatch, Transcription
from stt.audio import Samples
from stt.engines.canary_qwen import CanaryQwen
from stt.engines.canary_terms import with_terms
from stt.recognition import Hypothesis, LocalRecognizer, RecognitionOptions, Utterance, WindowKey

TOY = Path(__file__).parent / "data" / "canary-toy"
CLIPS = [json.loads(line) for line in (TOY / "heldout" / "heldout.jsonl").read_text().splitlines()]
OTHERS = ("Corvanthe", "Bostwick", "Madrigal", "Lorna", "Maris", "Ysolde Varn", "Tuva", "Eppley", "Kitchener", "東京")
"""Nobody says them; some resemble what is said."""
NAMED = named(11, seed=1)


@pytest.fixture(scope="module")
def canary() -> CanaryQwen:
    return CanaryQwen(model_dir=str(TOY), device="cpu", threads=1)


def audio_of(clip: dict[str, Any], noise_db: float | None = None) -> Samples:
    audio = np.asarray(soundfile.read(TOY / "heldout" / clip["file"], dtype="float32")[0], np.float32)
    if noise_db is None:
        return audio
    power = float(np.mean(np.square(audio[np.abs(audio) > 0.01]))) / 10 ** (noise_db / 10)
    noise = np.random.default_rng(len(audio)).standard_normal(len(audio))
    return (audio + np.sqrt(power) * noise).astype(np.float32)


def others(name: str) -> tuple[str, ...]:
    return tuple(other for other in NAMES if other != name)


@pytest.mark.parametrize(("noise_db", "least"), [(None, 0.9), (10, 0.6)], ids=["clean", "10 dB"])
def test_what_was_said_is_written_and_what_was_not_is_not(
    canary: CanaryQwen, noise_db: float | None, least: float
) -> None:
    model = canary._model
    sentences = named(33, seed=2, noise_db=noise_db)
    heard = [model.transcribe([one.audio], remembered=[True])[0] for one in sentences]
    pairs = [(one, right) for one, right in zip(sentences, heard, strict=True) if one.name in right.text]
    assert len(pairs) >= 20
    wrong = [misheard(model, right, one.name, one.spelled) for one, right in pairs]
    # Each with the name that was said among the terms, and without it: then whatever is written is wrong.
    found = with_terms(model, wrong, [(*NAMES, *OTHERS)] * len(wrong))
    without = with_terms(model, wrong, [(*others(one.name), *OTHERS) for one, _ in pairs])
    mended = sum(one.text == right.text for one, (_, right) in zip(found, pairs, strict=True))
    print(f"{mended} of {len(pairs)} names written")
    assert mended >= least * len(pairs)
    for one, spelled, (_, right) in zip(found, wrong, pairs, strict=True):
        assert one.text in (right.text, spelled.text)
    assert [one.text for one in without] == [one.text for one in wrong]


def test_a_name_that_was_not_said_is_not_written_however_much_it_sounds_like_what_was_heard(canary: CanaryQwen) -> None:
    model = canary._model
    clip = next(clip for clip in CLIPS if "Boston" in clip["text"])
    [heard] = model.transcribe([audio_of(clip)], remembered=[True])
    wrong = misheard(model, heard, "Boston", "Bostwig")
    assert with_terms(model, [wrong], [("Bostwick",)])[0] is wrong
    assert with_terms(model, [wrong], [("Bostwick", "Boston")])[0].text == wrong.text
    assert with_terms(model, [wrong], [("Boston",)])[0].text == heard.text


@pytest.mark.parametrize("noise_db", [None, 10, 5], ids=["clean", "10 dB", "5 dB"])
def test_texts_in_which_no_term_is_said_stay_token_for_token(canary: CanaryQwen, noise_db: float | None) -> None:
    for clip in CLIPS[::4]:
        audio = audio_of(clip, noise_db)
        unsaid = tuple(name for name in NAMES if name not in clip["text"])
        [plain] = canary.transcribe([Utterance(audio)])
        [found] = canary.transcribe([Utterance(audio, RecognitionOptions(terms=(*unsaid, *OTHERS)))])
        assert (found.text, found.tokens, found.confidence) == (plain.text, plain.tokens, plain.confidence)


def test_interims_are_as_they_are_heard_and_cost_no_pass(canary: CanaryQwen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canary._model, "score", lambda *_: pytest.fail("an interim was scored"))
    audio = audio_of(CLIPS[1])
    options = RecognitionOptions(terms=("Bosten", "Madriz"))
    found = canary.transcribe([Utterance(audio, options, "interim"), Utterance(audio)])
    assert found[0].tokens == found[1].tokens


@pytest.fixture
def hard_of_hearing(canary: CanaryQwen, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make a model mishear the names of `NAMED`, alone, in batches, and in rows that come and go."""

    def deafen(engine: CanaryQwen = canary) -> None:
        def wrong(found: Transcription) -> Transcription:
            for one in NAMED:
                if found.text == one.text:
                    return misheard(engine._model, found, one.name, one.spelled)
            return found

        whole, step = engine._model.transcribe, ContinuousBatch.step
        monkeypatch.setattr(engine._model, "transcribe", lambda *a, **k: [wrong(one) for one in whole(*a, **k)])
        monkeypatch.setattr(
            ContinuousBatch, "step", lambda batch: {ticket: wrong(one) for ticket, one in step(batch).items()}
        )

    return deafen


def asked(terms: Sequence[str], *, words: bool = False) -> list[Utterance]:
    options = RecognitionOptions(terms=tuple(terms), words=words)
    return [Utterance(one.audio, options, key=WindowKey(i)) for i, one in enumerate(NAMED)]


async def test_sessions_get_their_terms_with_times_in_batches_and_in_rows_that_come_and_go(
    canary: CanaryQwen, hard_of_hearing: Callable[..., None]
) -> None:
    right = canary.transcribe(asked((), words=True))
    assert [heard.text for heard in right] == [one.text for one in NAMED]
    hard_of_hearing()
    alone = [canary.transcribe([utterance])[0] for utterance in asked((*NAMES, *OTHERS), words=True)]
    assert sum(heard.text == one.text for one, heard in zip(NAMED, alone, strict=True)) >= len(NAMED) - 1
    for one, heard, before in zip(NAMED, alone, right, strict=True):
        spelled = canary.transcribe([Utterance(one.audio)])[0].text
        assert one.spelled in spelled
        assert "".join(word.text for word in heard.words) == heard.text
        assert all(0 < (word.confidence or 0) < 1 for word in heard.words)
        if heard.text != one.text:
            assert heard.text == spelled
            continue
        assert [word.text for word in heard.words] == [word.text for word in before.words]
        moved = [abs(a.start_s - b.start_s) for a, b in zip(heard.words, before.words, strict=True)]
        assert max(moved) < 0.1, "the times are those of the word that was said"

    same(canary.transcribe(asked((*NAMES, *OTHERS), words=True)), alone)
    rows = CanaryQwen(model_dir=str(TOY), device="cpu", threads=1, rows=4)
    hard_of_hearing(rows)
    with LocalRecognizer(rows) as recognizer:
        utterances = [
            replace(utterance, draft=Hypothesis("", heard.tokens))
            for utterance, heard in zip(asked((*NAMES, *OTHERS), words=True), alone, strict=True)
        ]
        found = await asyncio.gather(*map(recognizer.submit, utterances))
    same([recognition.hypothesis for recognition in found if recognition is not None], alone)


def same(found: Sequence[Hypothesis], expected: Sequence[Hypothesis]) -> None:
    assert [(one.text, one.tokens) for one in found] == [(one.text, one.tokens) for one in expected]
    for one, other in zip(found, expected, strict=True):
        assert [(w.text, w.start, w.end) for w in one.words] == [(w.text, w.start, w.end) for w in other.words]


def test_sessions_with_other_terms_share_a_batch(canary: CanaryQwen, hard_of_hearing: Callable[..., None]) -> None:
    hard_of_hearing()
    batch = [
        replace(utterance, options=RecognitionOptions(terms=(one.name,) if i % 2 else ()))
        for i, (utterance, one) in enumerate(zip(asked(()), NAMED, strict=True))
    ]
    for i, (one, heard) in enumerate(zip(NAMED, canary.transcribe(batch), strict=True)):
        assert heard.text == (one.text if i % 2 else one.text.replace(one.name, one.spelled))


def test_where_memory_does_not_suffice_the_text_stays_as_it_was_heard(
    canary: CanaryQwen,
    hard_of_hearing: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    import torch

    def full(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    hard_of_hearing()
    monkeypatch.setattr(canary._model, "score", full)
    one = NAMED[0]
    [heard] = canary.transcribe([Utterance(one.audio, RecognitionOptions(terms=(one.name,)))])
    assert one.spelled in heard.text
    [record] = caplog.records
    assert "out of memory for the terms of 1 texts" in record.message
    assert one.name not in record.message
