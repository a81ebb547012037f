"""What may keep stt from working on this machine, looked at one thing at a time, and how to mend it.

Each check takes what it judges as arguments, with the real thing as the default, and returns what it found. None
changes anything, downloads anything or imports torch.
"""

import codecs
import errno
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final, Literal

from stt import machine
from stt.machine import DISTRIBUTION, gpu, install_canary, reinstall

State = Literal["ok", "note", "bad"]

NEWEST_PYTHON: Final = (3, 14)
"""The newest that the tests run on."""
_CANARY_GB: Final = 5.2
_CANARY_GPU_GB: Final = 10
_LISTEN_S: Final = 0.5
_TRIAL_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found."""

    topic: str
    state: State
    """`note`: something cannot be done here that need not be; `bad`: something will fail."""
    text: str
    mend: str | None = None
    """What to do about it."""


def python(running: tuple[int, int] = sys.version_info[:2], installed: str | None = None) -> Finding:
    """The interpreter, and which stt it runs."""
    try:
        installed = installed or version(DISTRIBUTION)
    except PackageNotFoundError:
        text = f"{DISTRIBUTION} is not installed in {sys.prefix}: this is a source tree"
        return Finding("python", "note", text, "pip install . in the clone, else `stt --version` has no answer")
    text = f"Python {running[0]}.{running[1]} ({sys.executable}), stt {installed}"
    if running > NEWEST_PYTHON:
        newest = ".".join(map(str, NEWEST_PYTHON))
        return Finding("python", "note", f"{text}: newer than what was tried", f"if something fails, take {newest}")
    return Finding("python", "ok", text)


def processor(cores: int | None = None) -> Finding:
    """Whether the embedded engine keeps up beside other work."""
    usable = cores or machine.cores()
    text = f"{usable} core{'s' if usable > 1 else ''} ({platform.machine()})"
    if usable < 2:
        return Finding("processor", "note", text, "live text may lag behind; a second core helps most")
    return Finding("processor", "ok", text)


def _decode() -> str:
    """Write a sound and read it again, in memory; returns what did it."""
    import asyncio
    import io

    import av
    import numpy as np
    import soundfile

    from stt.audio import samples
    from stt.sources import FileSource

    async def read() -> int:
        with FileSource(file) as source:
            return sum([len(piece) async for piece in source])

    file = io.BytesIO()
    soundfile.write(file, np.zeros(samples(_TRIAL_S), np.float32), samples(1), format="FLAC")
    if (found := asyncio.run(read())) != samples(_TRIAL_S):
        msg = f"expected {samples(_TRIAL_S)} samples of a trial, got {found}"
        raise ValueError(msg)
    return f"PyAV {av.__version__} with FFmpeg's libraries, libsndfile {soundfile.__libsndfile_version__}"


def recordings(decode: Callable[[], str] = _decode) -> Finding:
    """The libraries that read recordings, tried on one: `decode` raises where they cannot."""
    try:
        return Finding("recordings", "ok", decode())
    except Exception as error:  # noqa: BLE001 - a library for another machine fails in ways of its own
        text = f"cannot be read: {type(error).__name__}: {error}"
        return Finding("recordings", "bad", text, reinstall("av", "soundfile"))


def _load() -> str:
    """Load the speech detector, and the library that the embedded engine runs on; returns their versions."""
    import ctranslate2
    import onnxruntime

    from stt.vad import SileroVad

    SileroVad()
    kinds = ", ".join(sorted(ctranslate2.get_supported_compute_types("cpu")))
    return f"onnxruntime {onnxruntime.__version__}, CTranslate2 {ctranslate2.__version__} ({kinds})"


def libraries(load: Callable[[], str] = _load) -> Finding:
    """What finds and recognizes speech, loaded: `load` raises where that fails."""
    try:
        return Finding("libraries", "ok", load())
    except Exception as error:  # noqa: BLE001 - as above
        text = f"speech cannot be recognized: {type(error).__name__}: {error}"
        return Finding("libraries", "bad", text, reinstall("onnxruntime", "ctranslate2"))


def _hear() -> tuple[str, float]:
    """Listen to the default microphone for a moment; returns its name and the loudest sample."""
    import asyncio

    from stt.audio import seconds
    from stt.sources import Microphone

    async def listen(microphone: Microphone) -> float:
        loudest, heard = 0.0, 0
        async for piece in microphone:
            loudest, heard = max(loudest, float(abs(piece).max(initial=0.0))), heard + len(piece)
            if seconds(heard) >= _LISTEN_S:
                break
        return loudest

    with Microphone() as microphone:
        return microphone.name, asyncio.run(listen(microphone))


def _choose() -> None:
    from stt.sources import find_device, input_devices

    find_device(None, input_devices())


def microphone(choose: Callable[[], object] = _choose, hear: Callable[[], tuple[str, float]] = _hear) -> Finding:
    """PortAudio, and whether the default microphone sends sound: `choose` and `hear` raise `DeviceError`."""
    from stt.errors import DeviceError

    other = "`stt devices` lists others, `stt tui --device NAME` takes one"
    try:
        choose()
    except DeviceError as error:
        mend = "wanted for live speech alone (`stt tui`, `stt mic`, `stt client`); files and the server work without"
        return Finding("microphone", "note", str(error), mend)
    try:
        name, loudest = hear()
    except DeviceError as error:
        return Finding("microphone", "bad", str(error), f"let go of it elsewhere; {other}")
    if loudest == 0:
        text = f"{name}: opened, but sends perfect silence"
        return Finding("microphone", "bad", text, f"is it muted, or switched off at its side? {other}")
    import math

    return Finding("microphone", "ok", f"{name}: hears, peak {20 * math.log10(loudest):.0f} dBFS")


def _nvidia_smi() -> list[tuple[str, str, float]]:
    """Ask the driver for its GPUs: name, version of the driver, memory in GB."""
    command = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader,nounits"]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout  # noqa: S603
    rows = [line.split(", ") for line in said.splitlines() if line.count(", ") >= 2]
    return [(", ".join(row[:-2]), row[-2], float(row[-1]) * 1.048576e-3) for row in rows]


def graphics(whose: str | None = None, ask: Callable[[], list[tuple[str, str, float]]] = _nvidia_smi) -> Finding:
    """The GPU and its driver; "none" for none, `None`: look."""
    whose = whose or gpu() or "none"
    if whose == "none":
        return Finding("gpu", "ok", "none: the engine is Whisper, on the processor")
    if whose == "amd":
        return Finding("gpu", "note", "an AMD GPU: stt was never tried on one", "--device cpu is sure to work")
    mend = "install NVIDIA's driver, until `nvidia-smi` lists the GPU; in a container: the NVIDIA Container Toolkit"
    try:
        found = ask()
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        said = (getattr(error, "stdout", None) or getattr(error, "stderr", None) or str(error)).strip().splitlines()
        return Finding("gpu", "bad", f"an NVIDIA GPU is there, but not its driver ({said[0] if said else error})", mend)
    if not found:
        return Finding("gpu", "bad", "an NVIDIA GPU is there, but its driver lists none", mend)
    text = "; ".join(f"{name}, {memory:.0f} GB, driver {driver}" for name, driver, memory in found)
    if max(memory for *_, memory in found) < _CANARY_GPU_GB:
        return Finding("gpu", "note", f"{text}: too small for canary-qwen", "--engine whisper runs on it")
    return Finding("gpu", "ok", text)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def torch(
    with_gpu: bool | None = None, versions: Callable[[str], str | None] = _version, platform_: str = sys.platform
) -> Finding:
    """What canary-qwen computes with: there, of one kind, and built for the GPU."""
    with_gpu = gpu() == "nvidia" if with_gpu is None else with_gpu
    ours, audio = versions("torch"), versions("torchaudio")
    again = f"{install_canary()} --force-reinstall"
    if ours is None:
        text = "not installed, so the engine canary-qwen is not there; nothing else needs it"
        return Finding("torch", "note" if with_gpu else "ok", text, install_canary())
    pair = [
        "torch and torchaudio",
        *(f"{name} {found or 'is missing'}" for name, found in (("torch", ours), ("torchaudio", audio))),
    ]
    if audio is None or ours.split("+")[0].split(".")[:2] != audio.split("+")[0].split(".")[:2]:
        text = f"{pair[0]} do not belong together ({pair[1]}, {pair[2]}): transformers and peft fail, too"
        return Finding("torch", "bad", text, again)
    if missing := [name for name in ("tokenizers", "safetensors") if versions(name) is None]:
        return Finding("torch", "bad", f"{' and '.join(missing)} missing: canary-qwen does not load", install_canary())
    if with_gpu and ours.endswith("+cpu"):
        return Finding("torch", "bad", f"torch {ours} cannot use the GPU: it is built without CUDA", again)
    if with_gpu and platform_ == "linux" and "+rocm" in ours:
        return Finding("torch", "bad", f"torch {ours} is built for AMD's GPUs", again)
    return Finding("torch", "ok", f"torch {ours}, torchaudio {audio}")


def compiler(
    with_gpu: bool | None = None,
    versions: Callable[[str], str | None] = _version,
    which: Callable[[str], str | None] = shutil.which,
    headers: Path | None = None,
) -> Iterator[Finding]:
    """What Triton builds the launchers of canary-qwen's fused kernels with, where these can run."""
    with_gpu = gpu() == "nvidia" if with_gpu is None else with_gpu
    if not with_gpu or versions("triton") is None:
        return
    cc = os.environ.get("CC") or which("gcc") or which("clang")
    missing = [] if cc else ["no C compiler"]
    if not (Path(sysconfig.get_path("include")) if headers is None else headers).joinpath("Python.h").is_file():
        missing.append("no headers of Python")
    if missing:
        text = f"{' and '.join(missing)}: canary-qwen runs without its fused kernels, and slower"
        yield Finding("torch", "note", text, "install them (Debian: apt-get install gcc libc6-dev python3-dev)")
    else:
        yield Finding("torch", "ok", f"Triton builds kernels with {cc}")


def weights() -> Iterator[Finding]:
    """The weights that are here, whole or damaged."""
    from stt.engines import canary_qwen, choice, whisper_weights
    from stt.errors import EngineError

    try:
        yield Finding("weights", "ok", f"whisper, embedded: {whisper_weights.embedded_path()}")
    except EngineError as error:
        yield Finding("weights", "bad", str(error))  # says what to do
    names = ", ".join(name for name, _ in choice.here("en") if name != whisper_weights.EMBEDDED)
    yield Finding("weights", "ok", f"whisper, downloaded: {names or 'none'}")
    try:
        located = canary_qwen.locate(None, None)
    except EngineError as error:
        yield Finding("weights", "bad", str(error), "stt models download canary-qwen")
    else:
        yield Finding("weights", "ok", f"canary-qwen: {'downloaded' if located else 'not downloaded'}")


def turn_ends(find: Callable[[], Path | None] | None = None) -> Finding:
    """The weights that tell when a speaker is done."""
    from stt.endofturn import weights as smart_turn
    from stt.errors import EngineError

    path, fetch = (find or smart_turn.find)(), f"stt models download {smart_turn.NAME}"
    if path is None:
        return Finding("weights", "note", f"{smart_turn.NAME}: not here, so turns end by silence alone", fetch)
    try:
        smart_turn.check(path)
    except (EngineError, OSError) as error:
        return Finding("weights", "bad", str(error), f"remove that file, then {fetch}")
    return Finding("weights", "ok", f"{smart_turn.NAME}: {path}")


def port(number: int) -> Finding:
    """Whether `stt serve` could listen at this port; 0: at any."""
    if number == 0:
        return Finding("port", "ok", "any that is free for `stt serve`")
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("127.0.0.1", number))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                return Finding("port", "bad", f"127.0.0.1:{number}: {error.strerror}", "stt serve --port N")
        else:
            return Finding("port", "ok", f"{number} is free for `stt serve`")
    if _is_ours(number):
        return Finding("port", "ok", f"{number}: `stt serve` is running")
    return Finding("port", "bad", f"{number} is in use by another program", "stt serve --port N, or STT_PORT")


def _is_ours(number: int) -> bool:
    from http.client import HTTPConnection, HTTPException

    connection = HTTPConnection("127.0.0.1", number, timeout=2)
    try:
        connection.request("GET", "/health")
        answer = json.loads(connection.getresponse().read(10_000))
    except (OSError, HTTPException, ValueError):
        return False
    finally:
        connection.close()
    return answer == {"status": "alive"}


def disk(folder: Path | None = None, free_gb: float | None = None) -> Finding:
    """Whether weights fit where they are downloaded to."""
    if folder is None:
        from huggingface_hub.constants import HF_HUB_CACHE

        folder = Path(HF_HUB_CACHE)
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free / 1e9 if free_gb is None else free_gb
    text = f"{free:.1f} GB free for weights in {folder}"
    mend = "HF_HOME names another place, --model-dir one for a single model"
    if not os.access(there, os.W_OK):
        return Finding("disk", "bad", f"{there} cannot be written to, and weights are downloaded to {folder}", mend)
    if free < 1:
        return Finding("disk", "bad", text, mend)
    if free < _CANARY_GB:
        return Finding("disk", "note", f"{text}: too little for canary-qwen ({_CANARY_GB} GB)", mend)
    return Finding("disk", "ok", text)


def encoding(names: Mapping[str, str] | None = None) -> Finding:
    """Whether texts of any language can be written; `names`: what is written to, and its encoding."""
    import locale

    names = names or {"the terminal": sys.stdout.encoding or "ascii", "files": locale.getpreferredencoding(False)}
    wrong = {what: name for what, name in names.items() if codecs.lookup(name).name != "utf-8"}
    if wrong:
        said = ", ".join(f"{what} {name}" for what, name in wrong.items())
        return Finding("locale", "bad", f"not UTF-8: {said}", "export LANG=C.UTF-8 (or any other locale with UTF-8)")
    return Finding("locale", "ok", "UTF-8")


def clipboard(
    environment: Mapping[str, str] = os.environ,
    which: Callable[[str], str | None] = shutil.which,
    platform_: str = sys.platform,
) -> Finding:
    """Whether `c` in the terminal program reaches the desktop's clipboard."""
    tools = {"WAYLAND_DISPLAY": ("wl-copy",), "DISPLAY": ("xclip", "xsel")}
    packages = {"wl-copy": "wl-clipboard", "xclip": "xclip"}
    if platform_ == "darwin":
        return Finding("clipboard", "ok", "pbcopy")
    desktops = [variable for variable in tools if environment.get(variable)]
    for variable in desktops:
        if found := next(filter(which, tools[variable]), None):
            return Finding("clipboard", "ok", found)
    if desktops:
        package = packages[tools[desktops[0]][0]]
        text = "no tool for the desktop's clipboard; many terminals do not pass a program's text on to it"
        return Finding("clipboard", "note", text, f"install {package} (Debian: apt-get install {package})")
    return Finding("clipboard", "ok", "no desktop here: the terminal is asked to copy (OSC 52)")


CHECKS: Final = (
    python,
    processor,
    libraries,
    recordings,
    microphone,
    graphics,
    torch,
    compiler,
    weights,
    turn_ends,
    disk,
    encoding,
    clipboard,
)
"""Those that need to know nothing; `port` wants the number that `stt serve` has here."""


def examine(checks: tuple[Callable[..., Finding | Iterator[Finding]], ...] = CHECKS) -> Iterator[Finding]:
    """Yield what each check finds; one that fails itself is told, and does not keep the others."""
    for check in checks:
        try:
            found = check()
            yield from (found,) if isinstance(found, Finding) else found
        except Exception as error:  # noqa: BLE001 - whatever is broken here is what is asked for
            yield Finding(check.__name__, "bad", f"could not be looked at: {type(error).__name__}: {error}")
