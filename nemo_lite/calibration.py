"""Which attention head tells the time, found once for each set of weights.

No labels are needed: the head whose paths through a few seconds of known speech are surest. What was found is kept
beside the weights, or in the user's cache where that is not writable.
"""

import hashlib
import io
import json
import logging
import os
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from nemo_lite.alignment import Head, align
from nemo_lite.llm import KVCache, look
from nemo_lite.state import TEXT
from nemo_lite.tokenizer import DEFAULT_PROMPT

if TYPE_CHECKING:
    from nemo_lite.model import CanaryQwen

LOGGER = logging.getLogger(__name__)
NAME = "alignment_head.json"
CLIPS = files("nemo_lite") / "clips"
EXAMPLES = 4
"""Bundled clips that are listened to: 10 s of speech."""
DIGESTED = 1 << 20


class Calibration(NamedTuple):
    """The aligning head, and how sure it and the model are of clear speech: what others are measured by."""

    head: Head
    surety: float
    """Mean of `Alignment.surety`."""
    logprob: float
    """Mean of the mean log-probability of a clip's tokens."""


def calibration(model: "CanaryQwen") -> Calibration | None:
    """What is known of a model's weights: found before, or found now and kept; `None`: it came from no file."""
    if (checkpoint := model.checkpoint) is None:
        return None
    weights = _digest(checkpoint / "model.safetensors")
    places = [checkpoint / NAME, _cache() / f"{weights}.json"]
    for place in places:
        if (found := _read(place, weights, model)) is not None:
            return found
    found = calibrate(model, [read_clip(name) for name in sorted(_names())[:EXAMPLES]])
    for place in places:
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            numbers = {"surety": round(found.surety, 4), "logprob": round(found.logprob, 6)}
            place.write_text(json.dumps({"weights": weights, **found.head._asdict(), **numbers}) + "\n")
        except OSError as error:
            LOGGER.debug("the aligning head cannot be kept at %s: %s", place, error)
        else:
            break
    return found


def calibrate(model: "CanaryQwen", clips: Sequence[Tensor]) -> Calibration:
    """Find the head whose paths through these clips are surest."""
    surety = np.zeros((model.config.llm.layers, model.config.llm.heads))
    transcriptions = model.transcribe(clips)
    for clip, transcription in zip(clips, transcriptions, strict=True):
        said = [token for token in transcription.token_ids if token != model.tokenizer.eos_id]
        if said:
            for layer, heads in enumerate(_attention(model, clip, said)):
                surety[layer] += [align(attention).surety for attention in heads]
    layer, head = np.unravel_index(np.argmax(surety), surety.shape)
    logprobs = [np.mean(transcription.logprobs) for transcription in transcriptions if transcription.logprobs]
    mean = float(np.mean(logprobs)) if logprobs else 0.0
    return Calibration(Head(int(layer), int(head)), float(surety[layer, head]) / len(clips), mean)


def read_clip(name: str) -> Tensor:
    """A bundled clip: [samples]."""
    import soundfile

    samples, _ = soundfile.read(io.BytesIO((CLIPS / name).read_bytes()), dtype="float32")
    return torch.from_numpy(samples)


def _names() -> list[str]:
    return [json.loads(line)["file"] for line in (CLIPS / "clips.jsonl").read_text().splitlines()]


@torch.inference_mode()
def _attention(model: "CanaryQwen", clip: Tensor, said: Sequence[int]) -> list[np.ndarray]:
    """For each layer [heads, tokens, frames]: where each head looks while `said` is predicted."""
    request = model.request([clip], DEFAULT_PROMPT, None)
    assert request is not None  # noqa: S101
    found: list[np.ndarray] = []
    with model.alone():
        [row], audio = model.rows(request)
        ids = torch.from_numpy(np.append(row.ids, said)).to(audio.device)[None]
        frames = torch.from_numpy(np.append(row.frames, [TEXT] * len(said))).to(audio.device)[None]
        tokens = F.embedding(ids, model.embed_tokens.weight)
        x = torch.where((frames == TEXT)[:, :, None], tokens, audio[frames.clamp(min=0)])
        count, prompt = ids.shape[1], len(row.ids)
        kv = KVCache(model.config.llm, 1, count + 1, audio).view(1, count + 1)
        heard = row.audio

        def tap(layer: int, queries: Tensor) -> None:
            asked = queries[0, prompt - 1 : prompt - 1 + len(said)].transpose(0, 1)
            keys = kv[layer, 0, 0, heard.start : heard.stop].transpose(0, 1)
            keys = keys.repeat_interleave(asked.shape[0] // keys.shape[0], dim=0)
            found.append(look(asked, keys).cpu().numpy())

        model.llm(x, torch.arange(count, device=audio.device)[None], kv, tap=tap)
    return found


def _read(place: Path, weights: str, model: "CanaryQwen") -> Calibration | None:
    try:
        kept = json.loads(place.read_text())
        head = Head(int(kept["layer"]), int(kept["head"]))
        found = Calibration(head, float(kept["surety"]), float(kept["logprob"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    known = 0 <= head.layer < model.config.llm.layers and 0 <= head.head < model.config.llm.heads
    return found if known and kept.get("weights") == weights else None


def _digest(path: Path) -> str:
    """What tells these weights from others, without reading gigabytes: both ends of the file, and its size."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        found = hashlib.sha256(str(size).encode())
        for start in (0, max(0, size - DIGESTED)):
            file.seek(start)
            found.update(file.read(DIGESTED))
    return found.hexdigest()


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "nemo_lite")
