"""Voice activity: the Silero model over 512-sample frames, one recurrent state per stream.

`silero-vad` ships an export of its 16 kHz model that takes any number of frames in one call and carries the LSTM
state in and out (`silero_vad_16k_sequence.onnx`). One frame at a time or a whole block, the probabilities are the
same bit for bit (tested), so live streams and files share this one path. It runs on onnxruntime: no torch. The package
itself requires torch, so its weights are carried here (`silero/README.md`).
"""

from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from stt.audio import Samples
from stt.bass import Bass
from stt.level import Level

FRAME: Final = 512
"""Samples per frame, 32 ms: the only size the 16 kHz model takes."""

_CONTEXT: Final = 64  # samples of the previous frame that the model sees again (silero_vad/sequence_vad.py)
_MOST_FRAMES: Final = 512
BLOCK: Final = _MOST_FRAMES * FRAME
"""Samples per model call at most, 16.4 s: bounds the memory of a call and how long it lasts (about 40 ms)."""

WEIGHTS: Final = Path(__file__).with_name("silero")
"""The directory of the models."""

Probabilities = npt.NDArray[np.float32]


class SileroVad:
    """The model: read-only, shared by all streams and threads."""

    def __init__(self) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        # One frame is too little work to share between threads, and streams are what runs side by side.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        path = WEIGHTS / "silero_vad_16k_sequence.onnx"
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(self, frames: npt.NDArray[np.float32], h: Any, c: Any) -> tuple[Probabilities, Any, Any]:
        """Score frames of shape [n, 64 + 512] from LSTM state h, c; returns probabilities [n] and the new state."""
        probabilities, h, c = self._session.run(["speech_probs", "hn", "cn"], {"input": frames, "h": h, "c": c})
        return np.asarray(probabilities).reshape(-1), h, c


class Framer:
    """Cuts one stream into frames, and puts before each the end of the frame before it, as the model takes them."""

    def __init__(self) -> None:
        self._context = np.zeros(_CONTEXT, np.float32)
        self._level = Level()
        self._bass = Bass()
        self._rest = np.zeros(0, np.float32)

    def feed(self, audio: Samples) -> tuple[list[Samples], npt.NDArray[np.float32]]:
        """Take samples of any length; return the n frames they complete, and the model's input of shape [n, 576].

        The input of a quiet recording is amplified (`Level`), and that of a telephone gets its bass back (`Bass`); the
        frames are as they were.
        """
        audio = np.concatenate((self._rest, audio)) if len(self._rest) else audio
        whole = len(audio) // FRAME * FRAME
        self._rest = audio[whole:].copy()
        frames = audio[:whole].reshape(-1, FRAME)
        return list(frames), self._inputs(frames)

    def finish(self) -> tuple[list[Samples], npt.NDArray[np.float32]]:
        """Return the last, shorter frame at its own length; the model's input goes on with silence."""
        rest, self._rest = self._rest, self._rest[:0]
        frames = np.pad(rest, (0, -len(rest) % FRAME)).reshape(-1, FRAME)
        return [rest] if len(rest) else [], self._inputs(frames)

    def _inputs(self, frames: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        gains, frames = self._level.gains(frames), self._bass.restore(frames)
        contexts = np.concatenate((self._context[None], frames[:, -_CONTEXT:]))
        self._context = contexts[-1]
        return np.concatenate((contexts[:-1], frames), axis=1) * gains[:, None]


class SpeechDetector:
    """Speech probabilities of one stream, computed in the calling thread."""

    def __init__(self, model: SileroVad) -> None:
        self._model = model
        self._framer = Framer()
        self._h = self._c = np.zeros((1, 1, 128), np.float32)

    def feed(self, audio: Samples) -> tuple[list[Samples], Probabilities]:
        """Take 16 kHz samples of any length; return the frames they complete and the probability of each."""
        frames, inputs = self._framer.feed(audio)
        return frames, self._score(inputs)

    def finish(self) -> tuple[list[Samples], Probabilities]:
        """Score the last, shorter frame as if silence followed; it is returned at its own length."""
        frames, inputs = self._framer.finish()
        return frames, self._score(inputs)

    def _score(self, inputs: npt.NDArray[np.float32]) -> Probabilities:
        scores = [np.zeros(0, np.float32)]
        for at in range(0, len(inputs), _MOST_FRAMES):
            found, self._h, self._c = self._model.run(inputs[at : at + _MOST_FRAMES], self._h, self._c)
            scores.append(found)
        return np.concatenate(scores)
