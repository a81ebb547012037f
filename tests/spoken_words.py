"""Speech whose words have known times: hibari-tts' own prediction of how long each phoneme lasts, on a grid of 25 ms.

Punctuation is a pause and belongs to no word. A word that ends a sentence comes with its decay, about 0.25 s more than
one hears: ends can be judged inside sentences only.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import soxr
from hibari import Hibari

from spoken import silence
from stt.audio import SAMPLE_RATE, Samples

_HOP, _RATE = 600, 24_000


@dataclass(frozen=True)
class Said:
    """A word, when it is said, and whether a sentence ends with it."""

    word: str
    start_s: float
    end_s: float
    last: bool = False


@functools.cache
def _models() -> tuple[Any, Any]:
    voice = Hibari(threads=1)
    model = onnx.load(voice.model_path)
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info("/Clip_output_0"))  # frames of each phoneme
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    return voice, onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


@functools.cache
def say_timed(text: str, seed: int = 0) -> tuple[Samples, tuple[Said, ...]] | None:
    """Speak one sentence; `None` where the voice joins or splits words, as it does with numbers and abbreviations."""
    voice, durations = _models()
    (phonemes,) = voice.phonemize(text)
    ids = voice.ids(phonemes)
    audio = voice.from_ids(ids, 1.0, np.random.default_rng(seed))
    asked = {"ids": np.asarray([ids], np.int64), "speed": np.asarray([1.0], np.float32)}
    edges = np.concatenate([[0], np.cumsum(durations.run(["/Clip_output_0"], asked)[0].reshape(-1))]) * _HOP / _RATE
    spans: list[tuple[float, float]] = []
    start, end = None, 0.0
    for i, symbol in enumerate([*(c for c in phonemes if c in voice.vocab), " "]):
        if symbol == " ":
            if start is not None:
                spans.append((start, end))
            start = None
        elif symbol not in ",.?!;:—…":
            start = edges[i + 1] if start is None else start
            end = edges[i + 2]
    words = text.split()
    if len(words) != len(spans):
        return None
    said = [Said(word, float(a), float(b)) for word, (a, b) in zip(words, spans, strict=True)]
    said[-1] = replace(said[-1], last=True)
    return soxr.resample(audio, _RATE, SAMPLE_RATE).astype(np.float32), tuple(said)


def talk_timed(texts: Sequence[str], pauses_s: Sequence[float], seed: int = 0) -> tuple[Samples, list[Said]]:
    """Speak those of the sentences whose words have times, each followed by its pause."""
    parts: list[Samples] = []
    words: list[Said] = []
    at = 0.0
    for i, (text, pause_s) in enumerate(zip(texts, pauses_s, strict=True)):
        spoken = say_timed(text, seed + i)
        if spoken is None:
            continue
        words += [Said(w.word, w.start_s + at, w.end_s + at, w.last) for w in spoken[1]]
        parts += [spoken[0], silence(pause_s)]
        at = sum(map(len, parts)) / SAMPLE_RATE
    return np.concatenate(parts), words
