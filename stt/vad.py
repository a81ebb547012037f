"""Voice activity: the Silero model over 512-sample frames, one recurrent state per stream.

`silero-vad` ships an export of its 16 kHz model that takes any number of frames in one call and carries the LSTM
state in and out (`silero_vad_16k_sequence.onnx`). One frame at a time or a whole block, the probabilities are the
same bit for bit (tested), so live streams and files share this one path. It runs on onnxruntime: no torch.
"""

import importlib.util
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from stt.audio import Samples
from stt.errors import EngineError

FRAME: Final = 512
"""Samples per frame, 32 ms: the only size the 16 kHz model takes."""

_CONTEXT: Final = 64  # samples of the previous frame that the model sees again (silero_vad/sequence_vad.py)
BLOCK: Final = 512 * FRAME
"""Samples per model call at most, 16.4 s: bounds the memory of a call and how long it lasts (about 40 ms)."""

Probabilities = npt.NDArray[np.float32]


class SileroVad:
    """The model: read-only, shared by all streams and threads."""

    def __init__(self) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        # One frame is too little work to share between threads, and streams are what runs side by side.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        path = _weights()
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(self, frames: npt.NDArray[np.float32], h: Any, c: Any) -> tuple[Probabilities, Any, Any]:
        """Score frames of shape [n, 64 + 512] from LSTM state h, c; returns probabilities [n] and the new state."""
        probabilities, h, c = self._session.run(["speech_probs", "hn", "cn"], {"input": frames, "h": h, "c": c})
        return np.asarray(probabilities).reshape(-1), h, c


def _weights() -> Path:
    # find_spec does not execute the package, whose __init__ imports torch.
    spec = importlib.util.find_spec("silero_vad")
    if spec is None or not spec.submodule_search_locations:
        msg = "the package silero-vad is not installed; `pip install 'silero-vad>=6.2.2'`"
        raise EngineError(msg)
    path = Path(spec.submodule_search_locations[0], "data", "silero_vad_16k_sequence.onnx")
    if not path.is_file():
        msg = f"silero-vad is installed without {path.name}; `pip install --upgrade 'silero-vad>=6.2.2'`"
        raise EngineError(msg)
    return path


class SpeechDetector:
    """Speech probabilities of one stream."""

    def __init__(self, model: SileroVad) -> None:
        self._model = model
        self._h = self._c = np.zeros((1, 1, 128), np.float32)
        self._context = np.zeros(_CONTEXT, np.float32)
        self._rest = np.zeros(0, np.float32)

    def feed(self, audio: Samples) -> tuple[list[Samples], Probabilities]:
        """Take 16 kHz samples of any length; return the frames they complete and the probability of each."""
        audio = np.concatenate((self._rest, audio)) if len(self._rest) else audio
        whole = len(audio) // FRAME * FRAME
        self._rest = audio[whole:].copy()
        scores = [self._score(audio[at : min(at + BLOCK, whole)]) for at in range(0, whole, BLOCK)]
        frames = list(audio[:whole].reshape(-1, FRAME))
        return frames, np.concatenate(scores) if scores else np.zeros(0, np.float32)

    def finish(self) -> tuple[list[Samples], Probabilities]:
        """Score the last, shorter frame as if silence followed; it is returned at its own length."""
        rest, self._rest = self._rest, self._rest[:0]
        if not len(rest):
            return [], np.zeros(0, np.float32)
        return [rest], self._score(np.pad(rest, (0, FRAME - len(rest))))

    def _score(self, audio: Samples) -> Probabilities:
        frames = audio.reshape(-1, FRAME)
        contexts = np.concatenate((self._context[None], frames[:-1, -_CONTEXT:]))
        self._context = frames[-1, -_CONTEXT:].copy()
        scores, self._h, self._c = self._model.run(np.concatenate((contexts, frames), axis=1), self._h, self._c)
        return scores
