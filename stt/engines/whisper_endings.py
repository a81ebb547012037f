"""Whether a sentence ends where a text does: by what Whisper would write after its last word.

Whisper was trained on whole recordings and puts a full stop behind almost any window. How much it would rather have
written a comma, dots or a dash tells of the melody that it heard, and costs nothing: those are probabilities that
greedy decoding computes anyway.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

_ENDS: Final = (".", "!", "?", '."', '!"', '?"', "。", "！", "？", "؟", "।")  # noqa: RUF001
_GOES_ON: Final = (",", "...", "…", "-", "–", "—", "--", ";", ":", "、", "，")  # noqa: RUF001
_FLOOR: Final = 1e-9


class Endings:
    """Which tokens of a vocabulary end a sentence, and which go on with it.

    Args:
        encode: tokens of a text.

    """

    def __init__(self, encode: Callable[[str], Sequence[int]]) -> None:
        def tokens(marks: tuple[str, ...]) -> list[int]:
            ids = [tuple(encode(before + mark)) for mark in marks for before in ("", " ")]
            return sorted({one for one, *more in ids if not more})

        self._ends, self._goes_on = tokens(_ENDS), tokens(_GOES_ON)
        self._marks = {*self._ends, *self._goes_on}

    def ended(self, tokens: Sequence[int], logits: Sequence[Any]) -> float | None:
        """Return the probability that a mark after the last word ends the sentence; `None`: nobody knows.

        Args:
            tokens: the text, with its final mark if it has one.
            logits: of each token, and of the text's end: CTranslate2's arrays, one number for each of the vocabulary.

        """
        if not tokens or len(logits) != len(tokens) + 1:
            return None
        step = _array(logits[-2] if tokens[-1] in self._marks else logits[-1])
        step = np.exp(step - max(step[self._ends].max(), step[self._goes_on].max()))
        ends, goes_on = step[self._ends].sum() + _FLOOR, step[self._goes_on].sum() + _FLOOR
        found = float(ends / (ends + goes_on))
        return found if math.isfinite(found) else None


def _array(view: Any) -> Any:
    import ctranslate2

    return np.asarray(view.to(ctranslate2.DataType.float32).to_device(ctranslate2.Device.cpu)).reshape(-1)
