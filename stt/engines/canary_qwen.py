"""The engine `canary-qwen`: NVIDIA's Canary-Qwen-2.5B by `nemo_lite`, at its best on CUDA. English."""

import gc
import logging
import math
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stt.audio import seconds
from stt.engines.canary_answers import CanaryAnswers
from stt.engines.canary_terms import wants_terms, with_terms
from stt.engines.canary_windows import CanaryWindows
from stt.engines.canary_words import Piece, timed_tokens, wants_words, with_confidence
from stt.engines.loops import Repetition, cut_loop
from stt.engines.openmp import let_threads_sleep
from stt.engines.whisper_words import sound_in, timed_words
from stt.errors import EngineError, EngineLostError
from stt.hub import our_errors
from stt.machine import install_canary
from stt.recognition import Hypothesis, Utterance
from stt.words import Word

if TYPE_CHECKING:
    from nemo_lite import Transcription
    from stt.engines.canary_rows import CanaryRows

LOGGER: Final = logging.getLogger(__name__)

MODEL: Final = "nvidia/canary-qwen-2.5b"

_WEIGHTS: Final = ("int8", "fp8")
_DTYPES: Final = ("auto", "float32", "bfloat16", "float16", *_WEIGHTS)
_MAX_BATCH: Final = {"cuda": 16, "cpu": 4}
# Rows that come and go; on a CPU they run one after the other, so there everyone had better go alone.
_ROWS: Final = {"cuda": 64, "cpu": 0}
# One number for all calls, because the GPU's graphs are made for it. Twice what anyone says in a window (about 3.5
# tokens a second for 28 s), so that a loop does not cost seconds.
_MAX_NEW_TOKENS: Final = 200
# What the GPU meets before anybody waits: batches of live sessions, windows and drafts of every length.
_WARM_BATCHES: Final = (1, 2, 4, 8)
_WARM_S: Final = 30.0
_WARM_DRAFT: Final = 100
_WARM_BUDGET_S: Final = 240.0
"""What is not warm by then runs without graphs, and slower."""
_WARM_AGAIN_S: Final = 60.0
"""At least, for a smaller batch after a larger one found no memory at the end of all that."""


class CanaryQwen:
    """`SpeechModel` over `nemo_lite.CanaryQwen`: greedy, with the session's last hypothesis as the draft."""

    languages = frozenset({"en"})

    def __init__(
        self,
        model: str | None = None,
        *,
        model_dir: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        threads: int = 0,
        kernels: str = "auto",
        rows: int | None = None,
        fast_interims: bool = False,
        warm: bool = True,
    ) -> None:
        """Load it.

        `rows`: how many may come and go side by side; 0: whole calls only; `None`: what the device wants.
        `fast_interims`: whether interims may use what was encoded for those before them. `warm`: whether to meet all
        that will come before anybody waits; without, it transcribes one utterance at a time.

        Raises:
            EngineError: it is not installed, has no weights, or cannot run on that device.

        """
        if dtype not in _DTYPES:
            raise EngineError.about("dtype", f"canary-qwen computes in {', '.join(_DTYPES[1:])}, got {dtype!r}")
        self.lost: EngineLostError | None = None
        """Why it will not work again in this process, once that has shown."""
        let_threads_sleep()
        try:
            import torch

            import nemo_lite
            from nemo_lite import CanaryQwen as Model
            from nemo_lite.calibration import calibration
            from nemo_lite.device import out_of_memory
        except (ImportError, OSError) as error:
            msg = f"the engine canary-qwen is not installed ({error}); for this machine: {install_canary()}"
            raise EngineError(msg) from error
        if device == "cuda" and not torch.cuda.is_available():
            wants = f"is for CUDA {torch.version.cuda}" if torch.version.cuda else "is built without CUDA"
            text = (
                f"expected cpu, because torch finds no CUDA device, got cuda; torch {torch.__version__} {wants},"
                " and `nvidia-smi` shows what there is"
            )
            raise EngineError.about("device", text)
        if threads:
            torch.set_num_threads(threads)
        self._device = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        if (why := without_code(self._device)) is not None:
            raise EngineError.about("device", f"expected cpu, because {why}")
        where = locate(model, model_dir) or download(model, model_dir)
        try:
            with our_errors():
                self._model = Model.from_pretrained(
                    where,
                    self._device,
                    None if dtype in ("auto", *_WEIGHTS) else getattr(torch, dtype),
                    weights=dtype if dtype in _WEIGHTS else None,  # what is computed is as with auto
                    kernels=kernels,  # pyright: ignore[reportArgumentType] - one of `Wish`
                )
            self._calibration = calibration(self._model)
            self._model.align_with(self._calibration and self._calibration.head)
            self._windows = CanaryWindows(self._model.growing, fast_interims=fast_interims)
            self._empty_cache = torch.cuda.empty_cache
            rows = _ROWS[self._device] if rows is None else rows
            self._max_batch, self._rows = self._warm_up(rows) if warm else (1, 0)
        except (nemo_lite.NemoLiteError, RuntimeError) as error:
            self._check_device(error)
            if not isinstance(error, nemo_lite.NemoLiteError) and not out_of_memory(error):
                raise
            msg = f"cannot load canary-qwen from {where} on {self._device}: {error}"
            raise EngineError(msg) from error
        self._name = model or model_dir or MODEL
        self._running: CanaryRows | None = None

    def _warm_up(self, rows: int) -> tuple[int, int]:
        """Let the GPU meet what will come; returns the largest batch and the most rows that it has memory for."""
        from nemo_lite.device import out_of_memory

        most = max(_MAX_BATCH[self._device], rows)
        by = time.monotonic() + _WARM_BUDGET_S
        while True:
            largest = min(most, _MAX_BATCH[self._device])
            batches = [batch for batch in _WARM_BATCHES if batch <= most] if self._device == "cuda" else [1]
            try:
                with _progress() as progress:
                    self._model.warm_up(
                        batches,
                        longest_s=_WARM_S,
                        max_new_tokens=_MAX_NEW_TOKENS,
                        draft=_WARM_DRAFT,
                        largest=largest,
                        rows=min(rows, most),
                        budget_s=max(_WARM_AGAIN_S, by - time.monotonic()),
                        progress=progress if self._device == "cuda" else None,
                    )
            except RuntimeError as error:
                if most == 1 or not out_of_memory(error):
                    raise
            else:
                return largest, min(rows, most)
            most //= 2
            self._model.forget_shapes()
            self._empty_cache()

    def running_batch(self) -> "CanaryRows | None":
        """Begin a batch whose rows come and go."""
        if not self._rows:
            return None
        from nemo_lite import ContinuousBatch
        from nemo_lite.device import out_of_memory
        from stt.engines.canary_rows import CanaryRows

        batch = ContinuousBatch(self._model, self._rows, longest_s=_WARM_S, max_new_tokens=_MAX_NEW_TOKENS)

        def failed(error: RuntimeError) -> None:
            if out_of_memory(error):
                self._empty_cache()
            else:
                self._check_device(error)

        def hear(found: "Transcription", utterance: Utterance) -> Hypothesis:
            return self._hypotheses([found], [utterance])[0]

        self._running = CanaryRows(batch, hear, failed, self._windows)
        return self._running

    @property
    def name(self) -> str:
        dtype = str(self._model.dtype).removeprefix("torch.") + (
            f", {self._model.weights} weights" if self._model.weights else ""
        )
        return f"canary-qwen {self._name} ({dtype}, {self._device})"

    @property
    def max_batch(self) -> int:
        return self._max_batch

    def close(self) -> None:
        """Let the model's memory go, before another is loaded; nothing can be transcribed any more."""
        if self._running is not None:
            self._running.close()
        self._windows.clear()
        del self._model  # not by a call: a thread that hangs in one holds the model's lock
        gc.collect()
        with suppress(RuntimeError):  # of a GPU that is lost
            self._empty_cache()

    def forget(self, session: Hashable) -> None:
        """Let go of what is kept of a session; from any thread."""
        self._windows.forget(session)

    def cost(self, seconds: Sequence[float]) -> float:
        """Estimate the time of one call: a GPU decodes its rows side by side."""
        return sum(seconds) if self._device == "cpu" else max(seconds)

    @property
    def language_model(self) -> CanaryAnswers:
        """What answers questions, over the same weights."""
        return CanaryAnswers(self._model, self._check_device)

    def verify(self) -> bool:
        """Transcribe the bundled clips in every way there is, print what came of it; whether all is as it should be."""
        from nemo_lite.verify import verify

        return verify(self._model, max_new_tokens=_MAX_NEW_TOKENS)

    def transcribe(self, batch: Sequence[Utterance]) -> list[Hypothesis]:
        """Recognize each utterance by itself; a batch that does not fit into the GPU's memory is halved.

        Raises:
            EngineError: a single utterance does not fit.
            EngineLostError: the GPU will not work again in this process.

        """
        from nemo_lite.device import out_of_memory

        try:
            found = self._model.transcribe(
                [utterance.audio for utterance in batch],
                max_new_tokens=_MAX_NEW_TOKENS,
                drafts=[utterance.draft.tokens if utterance.draft else None for utterance in batch],
                timed=[wants_words(utterance) for utterance in batch],
                remembered=[wants_terms(utterance) for utterance in batch],
                windows=self._windows.of(batch),
            )
        except RuntimeError as error:
            if not out_of_memory(error):
                self._check_device(error)
                raise
            if len(batch) == 1:
                msg = f"{self.name}: out of memory on {seconds(len(batch[0].audio)):.0f} s of audio"
                raise EngineError(msg) from error
        else:
            return self._hypotheses(found, batch)
        # Outside of the handler: the exception's frames hold on to the very tensors that have to go.
        self._empty_cache()
        half = len(batch) // 2
        return self.transcribe(batch[:half]) + self.transcribe(batch[half:])

    def _hypotheses(self, found: Sequence["Transcription"], batch: Sequence[Utterance]) -> list[Hypothesis]:
        return [self._hypothesis(*each) for each in zip(self._with_terms(found, batch), batch, strict=True)]

    def _with_terms(self, found: Sequence["Transcription"], batch: Sequence[Utterance]) -> list["Transcription"]:
        """Put each session's terms where they were said: a pass more for up to 16 places where one may be."""
        from nemo_lite.device import out_of_memory

        terms = [  # not where a loop was cut: the tokens are not those of the text
            utterance.options.terms if wants_terms(utterance) and _text(one, utterance) == one.text.strip() else ()
            for one, utterance in zip(found, batch, strict=True)
        ]
        try:
            return with_terms(self._model, found, terms)
        except RuntimeError as error:
            if not out_of_memory(error):
                self._check_device(error)
                raise
            LOGGER.warning(
                "%s: out of memory for the terms of %d texts, which stay as they were heard", self.name, len(batch)
            )
        self._empty_cache()
        return list(found)

    def _hypothesis(self, found: "Transcription", utterance: Utterance) -> Hypothesis:
        if found.stop == "overflow":  # it may be in the frames that are kept
            self._windows.end([utterance])
        confidence = math.exp(sum(found.logprobs) / len(found.logprobs)) if found.logprobs else None
        text = _text(found, utterance)
        words = self._words(text, found, utterance) if wants_words(utterance) else ()
        return Hypothesis(text, found.token_ids, confidence, words=words)

    def _words(self, text: str, found: "Transcription", utterance: Utterance) -> tuple[Word, ...]:
        from nemo_lite.alignment import align

        pieces = self._model.pieces(found)
        if found.attention is None or self._calibration is None or not pieces:
            return ()
        spans, surety = align(found.attention[: pieces[-1].last])
        timed = [Piece(p.text, spans[p.first][0], spans[p.last - 1][1], p.probability) for p in pieces]
        sound = sound_in(utterance.audio, utterance.silences, utterance.start)
        words = timed_words(text, timed_tokens(timed, sound), sound, utterance.start)
        logprob = sum(found.logprobs) / len(found.logprobs)
        return with_confidence(words, logprob - self._calibration.logprob, surety - self._calibration.surety)

    def _check_device(self, error: Exception) -> None:
        import torch

        from nemo_lite.device import lost

        if lost(torch.device(self._device)):
            msg = f"{self._device}: the GPU does not work any more in this process ({error}); it has to be started anew"
            self.lost = EngineLostError(msg)
            raise self.lost from error


def _text(found: "Transcription", utterance: Utterance) -> str:
    """What was said, without the loop it may end in."""

    def said(repetition: Repetition) -> int:
        """Believe a repetition that came to its end by itself."""
        return repetition.copies if len(found.token_ids) < _MAX_NEW_TOKENS else 1

    return cut_loop(found.text.strip(), seconds(len(utterance.audio)), said)


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """A bar where somebody watches; a line for every tenth of the way where a log is written."""
    from tqdm import tqdm

    with tqdm(desc="warming up", unit="shape", disable=None, leave=False) as bar:

        def tell(done: int, of: int) -> None:
            if bar.disable:
                if done * 10 // of > (done - 1) * 10 // of:
                    LOGGER.info("warming up: %d of %d shapes", done, of)
                return
            bar.total = of
            bar.update(done - bar.n)

        yield tell


def without_code(device: str) -> str | None:
    """Say why torch, which finds a GPU, cannot compute on it; `None`: it can."""
    import torch

    from nemo_lite.device import unsupported

    return unsupported(torch.device(device))


def locate(model: str | None, model_dir: str | None) -> Path | str | None:
    """Say where the weights are on this machine, without any network and without torch; `None`: nowhere yet.

    Raises:
        EngineError: `model` is a path at which there is no such model.

    """
    from nemo_lite import hub
    from nemo_lite.errors import ModelNotFoundError

    with our_errors():
        if model_dir is not None:
            try:
                return Path(model_dir).expanduser() if hub.locate(Path(model_dir)) else None
            except ModelNotFoundError:
                if model is None and Path(model_dir).is_dir() and any(Path(model_dir).iterdir()):
                    raise  # something else is there: do not download into it
                return None
        return (model or MODEL) if hub.locate(model or MODEL) else None


def download(model: str | None, model_dir: str | None) -> Path | str:
    """Fetch what is missing, with a bar for each file; returns what `from_pretrained` takes.

    Raises:
        DownloadError: it broke off; the message says what to do.
        EngineError: there is no such model.

    """
    from nemo_lite import hub

    with our_errors():
        hub.download(model or MODEL, folder=Path(model_dir).expanduser() if model_dir is not None else None)
    return Path(model_dir).expanduser() if model_dir is not None else model or MODEL
