"""`stt models`: what is known, where it is, how big; and downloading."""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from nemo_lite import hub
from stt.endofturn import weights as smart_turn
from stt.engines import canary_qwen, choice, speed, whisper_weights
from stt.engines.choice import PUBLISHED_WER
from stt.engines.speed import Speed
from stt.errors import EngineError, SettingsError
from stt.hub import our_errors
from stt.settings import EngineSettings


@dataclass(frozen=True, slots=True)
class Model:
    """One known model."""

    name: str
    engine: str
    repo: str | None
    """Hub id; `None` for what installs with stt."""
    path: str | None
    """Where it is on this machine; `None`: not downloaded."""
    bytes: int | None
    """On disk, or what a download would fetch where that is known."""
    languages: str
    licence: str | None = None
    note: str | None = None
    """What to know before choosing it."""
    problem: str | None = None
    """Why what is on this machine cannot be used, and what to do."""
    wer: float | None = None
    """Per cent of words wrong, as published (`stt.engines.choice`)."""
    speed: Speed | None = None
    """On this machine, where it was measured."""


def known() -> Iterator[Model]:
    """All models that have a name here."""
    try:
        embedded = whisper_weights.embedded_path()
        yield Model(
            "(default)",
            "whisper",
            None,
            str(embedded),
            _size(embedded),
            "en",
            wer=PUBLISHED_WER["tiny.en"],
            speed=_speed(embedded),
        )
    except EngineError:
        yield Model("(default)", "whisper", None, None, None, "en")
    for name, model in hub.KNOWN.items():
        files = problem = None
        try:
            with our_errors():
                files = hub.locate(name)
        except EngineError as error:
            problem = str(error)
        yield Model(
            name,
            name,
            model.repo,
            str(files.checkpoint) if files else None,
            files.bytes if files else model.bytes,
            "en",
            model.licence,
            model.note,
            problem,
        )
    turns = smart_turn.find()
    yield Model(
        smart_turn.NAME,
        "turns",
        smart_turn.REPO,
        str(turns) if turns else None,
        smart_turn.BYTES,
        "many",
        smart_turn.LICENCE,
        f"tells when a speaker is done, in {len(smart_turn.LANGUAGES)} languages",
    )
    for name, repo in whisper_weights.sizes().items():
        path = whisper_weights.cached(repo)
        languages = "en" if name.endswith(".en") or "distil" in name else "many"
        yield Model(
            name,
            "whisper",
            repo,
            str(path) if path else None,
            _size(path) if path else whisper_weights.download_bytes(name),
            languages,
            wer=PUBLISHED_WER.get(name),
            speed=_speed(path) if path else None,
        )


def list_models(*, as_json: bool, quiet: bool = False) -> int:
    """Print the known models; returns 0."""
    if as_json:
        for model in known():
            print(json.dumps(asdict(model)))
        return 0
    models = list(known())
    print(f"{'NAME':17} {'ENGINE':11} {'LANGS':5} {'SIZE':>8} {'WER':>4} {'SPEED':>5}  WHERE")
    for model in models:
        size = f"{model.bytes / 1e6:,.0f} MB" if model.bytes else ""
        where = f"damaged; `stt models download {model.name}`" if model.problem else model.path or "-"
        wer = f"{model.wer:.1f}" if model.wer is not None else ""
        fast = f"{model.speed.factor:.0f} x" if model.speed is not None else ""
        print(f"{model.name:17} {model.engine:11} {model.languages:5} {size:>8} {wer:>4} {fast:>5}  {where}")
    if not quiet:
        print(_LEGEND, file=sys.stderr)
    for model in models:
        if model.note and not quiet:
            print(f"{model.name}: {model.licence}; {model.note}", file=sys.stderr)
        if model.problem:
            print(f"{model.name}: {model.problem}", file=sys.stderr)
    return 0


_LEGEND: Final = """\
-: not here; `stt models download NAME` gets it, and `--model NAME` does so at first use
WER: per cent of words wrong, mean of 14 sets of short English recordings, as published (OLMoASR report, 2025, table 4)
SPEED: seconds of speech heard per second on this machine; `stt models bench` measures it"""


def bench(names: Sequence[str], settings: EngineSettings, *, as_json: bool) -> int:
    """Time models on this machine, by default all Whisper models that are here; returns 0.

    "finals": it keeps up where another model has the interims (`--interim-model`).

    Raises:
        SettingsError: one that is named is not here.
        EngineError: one cannot be opened, or failed.

    """
    here = dict(choice.here("en")) | dict(choice.here(None))
    if missing := [name for name in names if name not in here]:
        msg = f"bench: {missing[0]} is not here (`stt models download {missing[0]}`); here are {', '.join(here)}"
        raise SettingsError(msg)
    if not as_json:
        print(f"{'NAME':20} {'LOADED IN':>9} {'FINAL OF 6 S':>12} {'SPEED':>7} {'WER':>7}  LIVE")
    for name in names or here:
        model, found = choice.timed(name, here[name], settings)
        model.close()
        wer = choice.PUBLISHED_WER.get(name)
        if as_json:
            row = {"name": name, "engine": model.name, **asdict(found), "live": found.live, "final": found.final}
            row["wer"] = wer
            print(json.dumps(row), flush=True)
            continue
        published = f"{wer:.1f} %" if wer is not None else ""
        print(
            f"{name:20} {found.load_s:7.1f} s {found.final_s:10.2f} s {found.factor:5.0f} x {published:>7}  "
            f"{'yes' if found.live else 'finals' if found.final else 'too slow'}",
            flush=True,
        )
    return 0


def download(names: Sequence[str], model_dir: str | None) -> int:
    """Download models; returns 0.

    Raises:
        SettingsError: no name, several for one directory, or smart-turn for any.
        DownloadError: it broke off; the message says what to do.
        EngineError: there is no such model.

    """
    if not names:
        msg = "download: expected the name of a model (`stt models` lists them)"
        raise SettingsError(msg)
    if model_dir is not None and len(names) > 1:
        msg = f"download: expected one model for --model-dir {model_dir}, got {', '.join(names)}"
        raise SettingsError(msg)
    if model_dir is not None and smart_turn.NAME in names:
        msg = f"download: {smart_turn.NAME} is looked for in the Hugging Face cache (HF_HOME), not in --model-dir"
        raise SettingsError(msg)
    for name in names:
        if name == smart_turn.NAME:
            print(f"{name}: {smart_turn.fetch()}")
            continue
        fetch = canary_qwen.download if name in (*hub.KNOWN, canary_qwen.MODEL) else whisper_weights.resolve
        print(f"{name}: {fetch(name, model_dir)}")
    return 0


def verify(names: Sequence[str], settings: EngineSettings) -> int:
    """Print what canary-qwen makes of the bundled clips on this machine; returns 0 if that is as it should be, or 1.

    Raises:
        SettingsError: another model is meant.
        EngineError: it is not here, or cannot be loaded.

    """
    if list(names) not in ([], ["canary-qwen"], [canary_qwen.MODEL]):
        msg = f"verify: expected canary-qwen, got {' '.join(names)}"
        raise SettingsError(msg)
    began = time.monotonic()
    engine = canary_qwen.CanaryQwen(
        model_dir=settings.model_dir,
        device=settings.device,
        dtype=settings.dtype,
        threads=settings.threads,
        kernels=settings.kernels,
    )
    print(f"{engine.name}: loaded and warm in {time.monotonic() - began:.0f} s, up to {engine.max_batch} at a time")
    return 0 if engine.verify() else 1


def _speed(path: Path) -> Speed | None:
    """What is known of a model, run as the engine does by default."""
    return speed.recall(path, EngineSettings())


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.iterdir() if file.is_file())
