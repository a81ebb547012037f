"""The embedded engine on real speech: words where there are some, none where there are none."""

import asyncio
import hashlib
import json
import math
import random
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr

from spoken import say, sentences, silence, talk, word_errors
from stt.audio import SAMPLE_RATE, Samples
from stt.engines import check_language, open_engine
from stt.engines.whisper import Whisper
from stt.engines.whisper_weights import EMBEDDED_SHA256
from stt.errors import EngineError, SettingsError
from stt.events import Event, TurnCompleted
from stt.recognition import GivenUpError, LocalRecognizer, RecognitionOptions, Utterance
from stt.session import Session
from stt.settings import EngineSettings, TurnSettings
from stt.vad import SileroVad

FINALS_ONLY = TurnSettings(interim_s=None, speculative=False)


@pytest.fixture(scope="module")
def whisper() -> Whisper:
    return Whisper(device="cpu")


def turns(whisper: Whisper, audio: Samples, settings: TurnSettings = FINALS_ONLY, size: int = 0) -> list[TurnCompleted]:
    found: list[TurnCompleted] = []

    async def sink(event: Event) -> None:
        if isinstance(event, TurnCompleted):
            found.append(event)

    async def source() -> AsyncIterator[Samples]:
        for at in range(0, len(audio), size or len(audio)):
            yield audio[at : at + (size or len(audio))]

    async def run() -> None:
        with LocalRecognizer(whisper) as recognizer:
            await Session(recognizer, SileroVad(), settings=settings).run(source(), sink)

    asyncio.run(run())
    return found


def alone(whisper: Whisper, texts: list[str], seed: int = 0) -> tuple[int, int]:
    """Word errors and words of each sentence given to the engine by itself."""
    errors = words = 0
    for i, text in enumerate(texts):
        audio = talk([text], [0.3], lead_s=0.3, seed=seed + i)
        wrong, of = word_errors(text, whisper.transcribe([Utterance(audio)])[0].text)
        errors, words = errors + wrong, words + of
    return errors, words


def test_turns_are_what_was_said(whisper: Whisper) -> None:
    texts = sentences(6, seed=4)
    found = turns(whisper, talk(texts, [2.0] * 6))
    assert len(found) == 6
    for turn, text in zip(found, texts, strict=True):
        wrong, of = word_errors(text, turn.text)
        assert wrong / of <= 0.25, (text, turn.text)
    at = 0.5
    for turn, text, i in zip(found, texts, range(6), strict=True):
        assert turn.start_s == pytest.approx(at, abs=0.25)
        at += len(talk([text], [0], lead_s=0, seed=i)) / SAMPLE_RATE
        assert turn.end_s == pytest.approx(at, abs=0.4)
        at += 2.0


@pytest.mark.parametrize(
    ("name", "count", "low_s", "high_s"),
    [("a monologue of two minutes with pauses", 28, 0.3, 1.2), ("over a minute without a pause", 22, 0.0, 0.0)],
)
def test_no_sentence_is_lost_or_doubled_at_a_window_cut(
    whisper: Whisper, name: str, count: int, low_s: float, high_s: float
) -> None:
    texts, rng = sentences(count, seed=count), random.Random(2)
    audio = talk(texts, [rng.uniform(low_s, high_s) for _ in texts])
    assert len(audio) > 60 * SAMPLE_RATE
    found = turns(whisper, audio)
    assert len(found) == 1, name
    assert len(found[0].passages) >= 3
    wrong, of = word_errors(" ".join(texts), found[0].text)
    wrong_alone, of_alone = alone(whisper, texts)
    assert of == of_alone
    # Around a word are other sounds than in the sentence alone: one or two words come out otherwise, never a sentence.
    assert wrong - wrong_alone < min(len(text.split()) for text in texts)


def test_pieces_of_any_size_and_interims_give_the_same_finals(whisper: Whisper) -> None:
    texts = sentences(5, seed=8)
    audio = talk(texts, [0.5, 2.0, 0.8, 0.1, 1.0])
    offline = [(t.start, t.end, t.text) for t in turns(whisper, audio)]
    assert len(offline) == 2
    live = TurnSettings()
    for size, settings in ((320, live), (16_000, live), (16_000, FINALS_ONLY), (0, live)):
        assert [(t.start, t.end, t.text) for t in turns(whisper, audio, settings, size)] == offline


def test_what_shares_a_batch_does_not_change_a_text(whisper: Whisper) -> None:
    batch = [Utterance(talk([text], [0.3], seed=i)) for i, text in enumerate(sentences(4, seed=5))]
    batch.append(Utterance(talk(sentences(3, seed=6), [0.3] * 3)))
    together = whisper.transcribe(batch)
    for utterance, hypothesis in zip(batch, together, strict=True):
        single = whisper.transcribe([utterance])[0]
        assert (single.text, single.tokens) == (hypothesis.text, hypothesis.tokens)
        assert single.confidence == pytest.approx(hypothesis.confidence, abs=1e-3)


def unspoken() -> dict[str, Samples]:
    rng, t = np.random.default_rng(0), np.arange(30 * SAMPLE_RATE) / SAMPLE_RATE
    note = np.arange(SAMPLE_RATE // 2) / SAMPLE_RATE
    chords = []
    for _ in range(60):
        root = 220 * 2 ** (rng.integers(0, 24) / 12)
        chord = sum(np.sin(2 * np.pi * root * k * x * note) / k for k in (1, 2, 3, 4) for x in (1, 1.25, 1.5))
        chords.append(0.1 * chord * np.exp(-3 * note))
    clicks = np.zeros(len(t))
    clicks[::8_000] = 0.9
    return {
        name: np.asarray(audio, np.float32)
        for name, audio in {
            "silence": np.zeros(len(t)),
            "white noise": 0.1 * rng.standard_normal(len(t)),
            "loud noise": np.clip(0.4 * rng.standard_normal(len(t)), -1, 1),
            "noise that comes and goes": 0.3 * rng.standard_normal(len(t)) * (np.sin(2 * np.pi * 0.8 * t) > 0.6),
            "mains hum": sum(0.2 * np.sin(2 * np.pi * 50 * k * t) / k for k in (1, 2, 3, 5)),
            "chords": np.concatenate(chords),
            "vibrato": 0.3 * np.sin(2 * np.pi * 300 * t + 8 * np.sin(2 * np.pi * 5 * t)),
            "sweep": 0.3 * np.sin(2 * np.pi * (100 * t + 60 * t * t)),
            "clicks": clicks,
        }.items()
    }


@pytest.mark.parametrize("name", unspoken())
def test_what_is_no_speech_gives_no_words(whisper: Whisper, name: str) -> None:
    assert "".join(turn.text for turn in turns(whisper, unspoken()[name], TurnSettings())) == ""


def test_nothing_is_invented_around_speech(whisper: Whisper) -> None:
    text, noise = sentences(1, seed=7)[0], unspoken()["white noise"][: 10 * SAMPLE_RATE] * 0.05
    spoken = talk([text], [0])
    audio = np.concatenate([noise, spoken + noise[: len(spoken)], noise])
    said = " ".join(turn.text for turn in turns(whisper, audio, TurnSettings()) if turn.text)
    wrong, of = word_errors(text, said)
    assert wrong / of <= 0.25, said


def test_a_guess_of_the_engine_is_no_text(whisper: Whisper) -> None:
    for name in ("white noise", "noise that comes and goes", "sweep"):
        hypothesis = whisper.transcribe([Utterance(unspoken()[name][: 20 * SAMPLE_RATE])])[0]
        assert hypothesis.text == "", name
        assert 0 <= (hypothesis.confidence or 0) < 0.4


def test_confidence_is_a_mean_probability(whisper: Whisper) -> None:
    confidence = whisper.transcribe([Utterance(talk(sentences(1), [0.3]))])[0].confidence
    assert confidence is not None
    assert 0.7 < confidence < 1
    assert math.isfinite(confidence)


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (
            "d_orig",
            (
                "the child almost hurt the small dog and mister john dashwood had then leisure to consider how much "
                "there might be prudently in his power to do for them"
            ),
        ),
        (
            "a_soft1",
            (
                "she had your dark suit in greasy wash water all year it was my reports from the north which chiefly "
                "induced people to buy"
            ),
        ),
        (
            "e_soft1",
            (
                "she had your dark suit in greasy wash water all year sunday is the best part of the week it was my "
                "reports from the north which chiefly induced people to buy"
            ),
        ),
    ],
)
def test_no_sentence_is_dropped_where_voices_or_levels_share_a_window(whisper: Whisper, file: str, said: str) -> None:
    path = Path(__file__).parent / "data" / "two_voices" / f"{file}.flac"
    audio, rate = soundfile.read(path, dtype="float32")
    hypothesis = whisper.transcribe([Utterance(soxr.resample(audio, rate, SAMPLE_RATE))])[0]
    wrong, _ = word_errors(said, hypothesis.text)
    assert wrong <= 2, hypothesis.text  # tiny.en hears "dog suit and greasy"
    assert 0.5 < (hypothesis.confidence or 0) < 1


def voices(*parts: tuple[str, float, float]) -> Samples:
    """Join sentences of other voices: text, pitch and amplitude of each, with a short pause after it."""
    spoken = [
        amplitude * soxr.resample(say(text, 1), SAMPLE_RATE, SAMPLE_RATE / pitch) for text, pitch, amplitude in parts
    ]
    return np.concatenate([silence(0.3), *(x for one in spoken for x in (one, silence(0.4)))]).astype(np.float32)


def test_joined_voices_lose_no_sentence(whisper: Whisper) -> None:
    lost = of = 0
    for seed in range(6):
        texts = sentences(3, seed=40 + seed)
        audio = voices(*zip(texts, (0.85, 1.2, 0.95), (0.1, 1.0, 0.3), strict=True))
        wrong, words = word_errors(" ".join(texts), whisper.transcribe([Utterance(audio)])[0].text)
        lost, of = lost + (wrong >= 5), of + words
    assert lost == 0


def test_interims_are_not_looked_at_again_and_clean_speech_is_decoded_once(
    whisper: Whisper, monkeypatch: pytest.MonkeyPatch
) -> None:
    audio, rate = soundfile.read(Path(__file__).parent / "data" / "two_voices" / "d_orig.flac", dtype="float32")
    calls: list[int] = []
    decode = whisper._generate

    def counted(encoded: Any, prompts: Any, batch: Any) -> Any:
        calls.append(len(batch))
        return decode(encoded, prompts, batch)

    monkeypatch.setattr(whisper, "_generate", counted)
    whisper.transcribe([Utterance(soxr.resample(audio, rate, SAMPLE_RATE), kind="interim")])
    whisper.transcribe([Utterance(talk(sentences(3, seed=6), [0.3] * 3))])
    assert len(calls) == 2
    # Sound that holds no words: the second look finds nothing, and costs no more than it may.
    noise = unspoken()["noise that comes and goes"]
    whisper.transcribe([Utterance(np.concatenate([say(sentences(1)[0]), noise[: 18 * SAMPLE_RATE]]))])
    assert len(calls) <= 2 + 2 + 2 * 2 + 4 * 2


@pytest.mark.parametrize("length", [0, 1, 399, 400, 16_000, 83_200, 239_600, 240_000, 460_321, 479_601, 480_000])
@pytest.mark.parametrize("loud", [0.3, 1e-6, 0.0])
def test_a_spectrum_is_that_of_the_audio_and_the_silence_after_it(whisper: Whisper, length: int, loud: float) -> None:
    audio = (loud * np.random.default_rng(0).standard_normal(length)).astype(np.float32)
    for frames in (1500, 3000):
        heard = audio[: frames * 160]
        whole = whisper._features(heard, padding=frames * 160 - len(heard))[:, :frames]
        np.testing.assert_allclose(whisper._mel(audio, frames), whole, atol=1e-5)


def test_what_is_only_in_the_way_is_left_off_before_the_next_step(
    whisper: Whisper, monkeypatch: pytest.MonkeyPatch
) -> None:
    audio = talk(sentences(1, seed=3), [0.3], seed=3)
    encoded: list[int] = []
    decoded: list[int] = []
    encode, generate = whisper._model.encode, whisper._generate
    monkeypatch.setattr(whisper, "_generate", lambda *args: decoded.append(1) or generate(*args))
    monkeypatch.setattr(whisper._model, "encode", lambda mels: encoded.append(len(mels)) or encode(mels))
    unwanted = Utterance(audio, kind="interim", unwanted=lambda: True)
    with pytest.raises(GivenUpError):
        whisper.transcribe([unwanted])
    assert not encoded
    with pytest.raises(GivenUpError):  # by the time it is encoded
        whisper.transcribe([Utterance(audio, kind="interim", unwanted=lambda: bool(encoded))])
    assert encoded.pop() == 1
    assert not decoded
    wanted = whisper.transcribe([unwanted, Utterance(audio, kind="interim")])
    assert encoded == [2]
    assert decoded
    assert wanted[0].text == wanted[1].text != ""


@pytest.mark.parametrize("noise", ["white noise", "chords", "mains hum", "sweep"])
def test_the_second_look_invents_nothing(whisper: Whisper, noise: str) -> None:
    text = sentences(1, seed=20)[0]
    audio = np.concatenate([silence(0.3), say(text, 20), unspoken()[noise][: 12 * SAMPLE_RATE]])
    heard = whisper.transcribe([Utterance(audio)])[0].text
    wrong, of = word_errors(text, heard)
    assert wrong / of <= 0.25, heard


@pytest.mark.parametrize(
    ("text", "times", "heard"),
    [
        ("We want more money now.", 5, "more money"),
        ("The train leaves at seven.", 5, "train leaves"),
        ("Hello, can you hear me?", 4, "can you"),
        ("Testing, one two three.", 4, "Testing"),
        ("Thank you.", 6, "Thank you"),
    ],
)
@pytest.mark.parametrize("pitch", [1.0, 1.25])
def test_what_somebody_says_several_times_is_no_loop(
    whisper: Whisper, text: str, times: int, heard: str, pitch: float
) -> None:
    audio = voices(*[(text, pitch, 1.0)] * times)
    found = whisper.transcribe([Utterance(audio)])[0].text.count(heard)
    assert abs(found - times) <= 1  # tiny.en counts no better


def test_left_and_right_of_a_march_stay(whisper: Whisper) -> None:
    audio = np.concatenate([silence(0.3), say("left right " * 6, 1), silence(0.3)])
    heard = whisper.transcribe([Utterance(audio)])[0].text.lower()
    assert heard.count("left") >= 5
    assert heard.count("right") >= 5


def test_a_stutter_of_the_engine_is_cut(whisper: Whisper) -> None:
    """With too little padding Whisper says a sentence twice or more: that is how it fails, not how people speak."""
    for seed in range(12):
        text = sentences(12, seed=3)[seed]
        utterance = Utterance(talk([text], [0.3], seed=seed), kind="interim")
        heard = whisper._decode([utterance], len(utterance.audio) // 320 * 2 + 60, 0)[0]
        assert len(heard.hypothesis.text) < 1.3 * len(text), heard.hypothesis.text


def test_the_language_of_a_batch_is_found_once_and_only_where_it_is_not_known(
    whisper: Whisper, monkeypatch: pytest.MonkeyPatch
) -> None:
    audio = talk(sentences(1), [0.3])
    batch = [Utterance(audio, RecognitionOptions(language)) for language in (None, "en", "auto", "EN", None)]
    found = whisper.transcribe(batch)
    assert len({hypothesis.text for hypothesis in found}) == 1
    assert [hypothesis.language for hypothesis in found] == ["en", None, "en", None, "en"]

    asked: list[int] = []

    def detect(encoded: Any) -> list[list[tuple[str, float]]]:
        asked.append(encoded.shape[0])
        return [[("<|en|>", 0.9)]] * encoded.shape[0]

    # These weights know English alone, so the one call that only others answer is scripted.
    real = whisper._model.model
    scripted = SimpleNamespace(
        detect_language=detect, encode=real.encode, generate=real.generate, align=real.align, device="cpu"
    )
    monkeypatch.setattr(whisper, "_multilingual", True)
    monkeypatch.setattr(whisper, "_new_tokenizer", lambda _: whisper._tokenizer("en"))
    monkeypatch.setattr(whisper._model, "model", scripted)
    assert [hypothesis.text for hypothesis in whisper.transcribe(batch)] == [hypothesis.text for hypothesis in found]
    whisper.transcribe([batch[1], batch[3]])
    assert asked == [3]


def test_languages_these_weights_do_not_know_are_refused(whisper: Whisper) -> None:
    check_language(whisper, "en")
    check_language(whisper, None)
    with pytest.raises(SettingsError, match="knows en, got 'de'"):
        check_language(whisper, "de")


def test_weights_that_are_not_those_we_know_are_not_loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.bin").write_bytes(b"something else")

    class Spec:
        submodule_search_locations = (str(tmp_path),)

    monkeypatch.setattr("importlib.util.find_spec", lambda _: Spec)
    with pytest.raises(EngineError) as error:
        Whisper(device="cpu")
    assert f"expected SHA-256 {EMBEDDED_SHA256}" in str(error.value)
    assert hashlib.sha256(b"something else").hexdigest() in str(error.value)
    (tmp_path / "model" / "model.bin").unlink()
    with pytest.raises(EngineError, match=r"cannot be read.*pip install"):
        Whisper(device="cpu")


def test_a_model_that_is_none_is_said(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"no config.json and no model.bin"):
        Whisper(str(tmp_path))
    with pytest.raises(EngineError, match=r"'huge': no such directory.*one of tiny.en, tiny"):
        Whisper("huge")
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.bin").write_bytes(b"not weights")
    with pytest.raises(EngineError, match=r"cannot load .* on cpu"):
        Whisper(str(tmp_path), device="cpu")


def test_what_cannot_be_opened_is_said() -> None:
    with pytest.raises(SettingsError, match="expected one of auto, whisper, canary-qwen, got 'vosk'"):
        open_engine(EngineSettings("vosk"))
    with pytest.raises(SettingsError, match="expected one of auto, cuda, cpu, got 'tpu'"):
        open_engine(EngineSettings(device="tpu"))


def test_neither_torch_nor_transformers_is_imported() -> None:
    code = """
import json, sys
import numpy as np
from stt import EngineSettings, Session, SileroVad, open_engine
engine = open_engine(EngineSettings("whisper", device="cpu"))
vad = SileroVad()
import stt.commands.file, stt.api
print(json.dumps(sorted({"torch", "torchaudio", "transformers", "peft", "librosa"} & set(sys.modules))))
"""
    run = subprocess.run([sys.executable, "-Pc", code], capture_output=True, check=True)
    assert json.loads(run.stdout) == []
