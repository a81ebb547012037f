"""The real Silero model."""

import hashlib
import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

from spoken import say, sentences, silence, talk
from stt.level import Level
from stt.vad import FRAME, WEIGHTS, SileroVad, SpeechDetector


@pytest.fixture(scope="module")
def vad() -> SileroVad:
    return SileroVad()


def probabilities(vad: SileroVad, audio: np.ndarray, size: int) -> np.ndarray:
    detector, scores = SpeechDetector(vad), []
    for at in range(0, len(audio), size):
        frames, found = detector.feed(audio[at : at + size])
        assert len(frames) == len(found)
        scores.append(found)
    scores.append(detector.finish()[1])
    return np.concatenate(scores)


def test_blocks_of_any_size_give_the_frame_by_frame_probabilities(vad: SileroVad) -> None:
    audio = talk(sentences(8), [0.7] * 8)
    one_by_one = probabilities(vad, audio, FRAME)
    assert len(one_by_one) == -(-len(audio) // FRAME)
    for size in (1, 100, 320, 4_000, 16_000, len(audio)):
        assert np.array_equal(probabilities(vad, audio[: 20_000 if size == 1 else None], size)[:39], one_by_one[:39])
        if size > 1:
            assert np.array_equal(probabilities(vad, audio, size), one_by_one)


def test_it_is_what_silero_vad_computes(vad: SileroVad, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package's own streaming wrapper of its stock model, frame by frame, without our amplification."""
    monkeypatch.setattr(Level, "gains", lambda _, frames: np.ones(len(frames), np.float32))
    torch = pytest.importorskip("torch")
    from silero_vad import load_silero_vad

    audio = talk(sentences(4, seed=3), [0.5] * 4)
    stock = load_silero_vad(onnx=True)
    whole = len(audio) // FRAME * FRAME
    expected = [float(stock(torch.from_numpy(frame), 16_000)) for frame in audio[:whole].reshape(-1, FRAME)]
    found = probabilities(vad, audio[:whole], whole)
    assert np.abs(found - np.array(expected, np.float32)).max() < 1e-3


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.onnx")}


def test_the_weights_are_those_the_readme_beside_them_names() -> None:
    named = re.findall(r"^\| `(\S+\.onnx)` \| `([0-9a-f]{64})` \|$", (WEIGHTS / "README.md").read_text(), re.MULTILINE)
    assert digests(WEIGHTS) == dict(named)
    assert len(named) == 2
    assert "MIT License" in (WEIGHTS / "LICENSE").read_text()


def test_the_weights_are_those_of_the_package() -> None:
    spec = importlib.util.find_spec("silero_vad")  # importing it would import torch
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("silero-vad is not installed")
    theirs = digests(Path(spec.submodule_search_locations[0], "data"))
    ours = digests(WEIGHTS)
    assert {name: theirs.get(name) for name in ours} == ours


def test_it_tells_speech_from_silence(vad: SileroVad) -> None:
    speech = say(sentences(1)[0])
    scores = probabilities(vad, np.concatenate([silence(1), speech, silence(2)]), 1_600)
    during = scores[36 : 31 + len(speech) // FRAME - 4]
    assert np.mean(during > 0.5) > 0.9
    assert scores[:28].max() < 0.35
    assert scores[-40:].max() < 0.35


def test_streams_do_not_hear_each_other(vad: SileroVad) -> None:
    audio = talk(sentences(2, seed=9), [0.5, 0.5])
    alone = probabilities(vad, audio, 4_096)
    one, other = SpeechDetector(vad), SpeechDetector(vad)
    scores = []
    for at in range(0, len(audio), 4_096):
        scores.append(one.feed(audio[at : at + 4_096])[1])
        other.feed(np.random.default_rng(at).standard_normal(3_000).astype(np.float32))
    scores.append(one.finish()[1])
    assert np.array_equal(np.concatenate(scores), alone)
