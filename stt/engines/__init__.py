"""Speech engines: thin adapters to `SpeechModel`, opened by `open_engine`."""

from dataclasses import dataclass
from typing import Final

from stt.errors import EngineError, SettingsError
from stt.recognizer import SpeechModel
from stt.settings import EngineSettings

ENGINES: Final = ("auto", "whisper", "canary-qwen")
DEVICES: Final = ("auto", "cuda", "cpu")


@dataclass(frozen=True, slots=True)
class OpenedEngine:
    """An engine ready for work, and why it is this one."""

    model: SpeechModel
    reason: str


def open_engine(settings: EngineSettings | None = None) -> OpenedEngine:
    """Load the engine the settings ask for. Takes seconds, and with a hub id the time of a download.

    Raises:
        SettingsError: there is no such engine or device.
        EngineError: it is not installed, has no weights, or cannot run on that device.

    """
    settings = settings or EngineSettings()
    for what, value, known in (("engine", settings.engine, ENGINES), ("device", settings.device, DEVICES)):
        if value not in known:
            msg = f"{what}: expected one of {', '.join(known)}, got {value!r}"
            raise SettingsError(msg)
    if settings.engine == "canary-qwen":
        msg = "the engine canary-qwen is not installed in this version; use --engine whisper"
        raise EngineError(msg)
    from stt.engines.whisper import Whisper

    model = Whisper(settings.model, device=settings.device, threads=settings.threads)
    asked = "asked for" if settings.engine == "whisper" else "auto: canary-qwen is not installed in this version"
    return OpenedEngine(model, asked)


def check_language(model: SpeechModel, language: str | None) -> None:
    """Tell before the first word whether an engine knows a language; `None` (let it find out) is always fine.

    Raises:
        SettingsError: it does not.

    """
    if language is not None and language not in model.languages:
        known = ", ".join(sorted(model.languages))
        msg = f"language: {model.name} knows {known}, got {language!r}; for others try --model small"
        raise SettingsError(msg)
