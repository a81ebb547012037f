"""Speech engines: thin adapters to `SpeechModel`, opened by `open_engine`."""

from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Final

from stt.engines.languages import language_code
from stt.engines.openmp import let_threads_sleep
from stt.errors import EngineError, SettingsError
from stt.machine import install_canary
from stt.recognition import Described, SpeechModel
from stt.recognition.pair import pair_name
from stt.settings import EngineSettings

ENGINES: Final = ("auto", "whisper", "canary-qwen")
DEVICES: Final = ("auto", "cuda", "cpu")
DTYPES: Final = ("auto", "float32", "bfloat16", "float16", "int8", "fp8")
KERNELS: Final = ("auto", "torch", "triton")
MOST_THREADS: Final = 256
"""More than any engine here gains from; OpenMP ends the process where it cannot start as many as asked for."""


@dataclass(frozen=True, slots=True)
class OpenedEngine:
    """An engine ready for work, and why it is this one."""

    model: SpeechModel
    reason: str
    interims: SpeechModel | None = None
    """What interims are to be asked of, where that is another one."""

    @property
    def name(self) -> str:
        return self.model.name if self.interims is None else pair_name(self.model.name, self.interims.name)


def settled(settings: EngineSettings | None = None) -> EngineSettings:
    """Return settings that name both models of a pair (`interim_model`), or one where they come down to the same.

    Settings without an `interim_model` come back as they are. What `auto` means may have to be measured, once.

    Raises:
        EngineError: a model that is to be measured cannot be opened.

    """
    settings = settings or EngineSettings()
    if settings.interim_model is None:
        return settings
    from stt.engines import choice, whisper_weights

    if settings.interim_model == "auto":
        settings = replace(settings, interim_model=choice.best_of_pair(settings, interims=True))
    if settings.model_dir is not None or (settings.engine == "auto" and _choose(settings)[0] != "whisper"):
        return settings
    if settings.engine in ("auto", "whisper") and settings.model == "auto":
        settings = replace(settings, model=choice.best_of_pair(settings, interims=False))
    same = settings.engine != "canary-qwen" and (settings.model or whisper_weights.EMBEDDED) == settings.interim_model
    return replace(settings, interim_model=None) if same else settings


def open_interims(settings: EngineSettings) -> SpeechModel:
    """Load the model for interims that settings name, by the engine that its weights are for.

    Raises:
        EngineError: it is not installed, has no weights, or cannot run on that device.

    """
    return open_engine(replace(settings, engine="auto", model=settings.interim_model, model_dir=None)).model


def open_engines(settings: EngineSettings | None = None, language: str | None = None) -> OpenedEngine:
    """Load the engine the settings ask for, and the model for interims before it, where they name one.

    Raises:
        SettingsError: as `open_engine`, or one of them does not know the language; `None`: no one in particular.
        EngineError: as `open_engine`.

    """
    settings = settled(settings)
    interims = None
    if settings.interim_model is not None:
        interims = open_interims(settings)
        check_language(interims, language)
    opened = replace(open_engine(settings), interims=interims)
    check_language(opened.model, language)
    return opened


def open_engine(settings: EngineSettings | None = None, *, warm: bool = True) -> OpenedEngine:
    """Load the engine the settings ask for: one model, `open_engines` has the other of a pair.

    Takes seconds, and with a hub id the time of a download. `warm`: canary-qwen on a GPU also meets all shapes that
    speech may come in, which takes minutes; who only asks its language model need not wait for that.

    Raises:
        SettingsError: there is no such engine or device, or that many threads are nonsense.
        EngineError: it is not installed, has no weights, or cannot run on that device.

    """
    settings = settings or EngineSettings()
    for what, value, known in (
        ("engine", settings.engine, ENGINES),
        ("device", settings.device, DEVICES),
        ("dtype", settings.dtype, DTYPES),
        ("kernels", settings.kernels, KERNELS),
    ):
        if value not in known:
            msg = f"{what}: expected one of {', '.join(known)}, got {value!r}"
            raise SettingsError(msg)
    if not 0 <= settings.threads <= MOST_THREADS:
        msg = f"threads: expected 1 to {MOST_THREADS}, or 0 for one per core, got {settings.threads}"
        raise SettingsError(msg)
    engine, reason = (settings.engine, "asked for") if settings.engine != "auto" else _choose(settings)
    where = {
        "model_dir": settings.model_dir,
        "device": settings.device,
        "dtype": settings.dtype,
        "threads": settings.threads,
    }
    if engine == "whisper":
        if settings.model == "auto" and settings.model_dir is None:
            from stt.engines.choice import open_best

            return OpenedEngine(*open_best(settings))
        from stt.engines.whisper import Whisper

        return OpenedEngine(Whisper(settings.model, **where), reason)
    from stt.engines.canary_qwen import CanaryQwen

    of_canary = {"kernels": settings.kernels, "fast_interims": settings.fast_interims, "warm": warm}
    model = CanaryQwen(settings.model if settings.model != "auto" else None, **where, **of_canary)
    slow = "" if model.name.endswith("cuda)") else "; the real model is much slower than speech on a CPU"
    return OpenedEngine(model, reason + slow)


def _choose(settings: EngineSettings) -> tuple[str, str]:
    """Take canary-qwen where a GPU that torch can use and its weights are there, or where its weights were named.

    torch takes seconds to import, so it is asked last.
    """
    from stt.engines import canary_qwen

    named = settings.model not in (None, "auto") or settings.model_dir is not None
    missing = "canary-qwen's weights are not here; `stt models download canary-qwen` gets them"
    try:
        located = canary_qwen.locate(settings.model if named else None, settings.model_dir)
    except EngineError as error:
        located, missing = None, str(error)
    if named:
        asked = settings.model in (canary_qwen.MODEL, "canary-qwen") or located is not None
        return ("canary-qwen", "auto: its weights were named") if asked else ("whisper", "auto: its weights were named")
    if settings.device == "cpu":
        return "whisper", "auto: canary-qwen wants a GPU, and the device is to be the CPU"
    let_threads_sleep()
    import ctranslate2

    if not ctranslate2.get_cuda_device_count():
        return "whisper", "auto: canary-qwen wants a GPU, and there is none"
    if find_spec("torch") is None:
        why = f"it is not installed; for this machine: {install_canary()}"
        return "whisper", f"auto: there is a GPU for canary-qwen, but {why}"
    if located is None:
        return "whisper", f"auto: {missing}"
    if (why := _torch_without_cuda()) is not None:
        return "whisper", f"auto: canary-qwen wants a GPU, and there is one, but {why}"
    return "canary-qwen", "auto: a GPU and its weights are there"


def _torch_without_cuda() -> str | None:
    """Say why torch cannot compute on the GPU that CTranslate2 sees; `None`: it can."""
    from stt.engines import canary_qwen

    try:
        import torch
    except (ImportError, OSError) as error:
        return f"torch cannot be imported ({error})"
    if torch.cuda.is_available():
        return canary_qwen.without_code("cuda")
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA"
    return (
        f"torch {torch.__version__} cannot use it: it needs a driver for CUDA {torch.version.cuda} (see `nvidia-smi`)"
    )


def check_language(model: Described, language: str | None) -> None:
    """Tell before the first word whether an engine knows a language; `None` and `auto` (find out) are always fine.

    Raises:
        SettingsError: it does not.

    """
    code = language_code(language)
    if code is not None and code not in model.languages:
        known = ", ".join(sorted(model.languages))
        text = f"{model.name} knows {known}, got {language!r}; for others try the model small"
        raise SettingsError.about("language", text)
