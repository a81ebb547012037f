"""Fit the weights of `stt/endofturn/fused.json` on labelled turns, and say how good they are on others.

One logistic regression over moments of pauses: of those that have lasted for so long, which are ends? It starts from
what was measured elsewhere (`_START`), and few pauses move it a little, many a lot. Each pause is a row at every moment
it reached, with and without what may be missing then. Cross-validated by groups (calls, speakers, texts): whoever is
judged was not fitted on. Directories are as of `end_of_turn.py`; all of them weigh by their number of pauses.

Run: python benchmarks/fit_end_of_turn.py DIR [DIR ...] [--heard PREFIX] [--write]
"""

import argparse
import asyncio
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from _turns import AFTER_S, TEXT_S, Found, Remembering, Turn, hear_all, read
from stt.audio import samples
from stt.endofturn import fused, smart_turn, texts
from stt.settings import TurnSettings

_START: Final = dict(zip(fused.NAMES, (0, 1.3, 0.4, 0, 0, 2, -2, -3.2, 0.5), strict=True))
_TRUST: Final = dict(zip(fused.NAMES, (0.01, 2, 2, 2, 2, 2, 2, 40, 3), strict=True))
"""1 / variance of the weights around the start. Numbers stay at what keeps 2 s for who dictates one, however
final it sounds."""
_AT_S: Final = (0.3, 0.4, 0.5, 0.65, 0.8, 1.0, 1.25, 1.6, 2.0)
_ASK_S: Final = 0.32
_TEXT_AT_S: Final = TurnSettings().pause_s + TEXT_S
_MISSING: Final = 0.2  # weight of rows in which something is missing that could be there
_BUDGETS_S: Final = (0.6, 1.0)

Rows = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Example:
    """A pause that counts."""

    group: str
    final: bool
    lasts_s: float
    """By the detector."""
    late_s: float
    """How long after its true beginning the detector's began."""
    sound: float
    text: texts.Reading

    def rows(self) -> list[tuple[list[float], float, float]]:
        """Return features, label and weight for each moment of it."""
        found = []
        for at_s in _AT_S:
            if at_s < self.lasts_s:
                read = [self.text, None] if at_s >= _TEXT_AT_S else [None]
                for sound in (self.sound, None):
                    for text in read:
                        whole = sound is not None and text is read[0]
                        weight = 1.0 if whole else _MISSING
                        found.append((fused.features(at_s, sound, text), float(self.final), weight / 4))
        return found


async def examples(turns: Sequence[Turn], judge: Remembering) -> list[Example]:
    """Return the pauses that count; those that the detector missed last for no time."""
    found = []
    for turn in turns:
        for told in turn.scored:
            if not told["final"] and not turn.found(told):
                missed = texts.read("")
                found.append(Example(turn.told.get("group", turn.told["id"]), False, 0.0, 0.0, 0.5, missed))
            for pause in turn.found(told)[:1]:
                until = (pause.resumed or len(turn.audio)) if told["final"] else pause.resumed
                lasts_s = AFTER_S if until is None else (until - pause.end) / 16_000
                sound = await judge.ask(_heard(turn, pause))
                text = texts.read(pause.text or "")
                late_s = pause.end / 16_000 - told["start"]
                found.append(
                    Example(turn.told.get("group", turn.told["id"]), told["final"], lasts_s, late_s, sound, text)
                )
    return found


def _heard(turn: Turn, pause: Found) -> npt.NDArray[np.float32]:
    end = pause.end + samples(_ASK_S)
    return turn.audio[max(0, pause.turn_start - samples(0.5), end - samples(smart_turn.SECONDS)) : end]


def fit(given: Sequence[Example]) -> npt.NDArray[np.float64]:
    """Return the weights, most probable from where they start (Newton's method)."""
    rows = [row for example in given for row in example.rows()]
    x, y, w = (np.array(column, np.float64) for column in zip(*rows, strict=True))
    start, trust = (np.array([some[name] for name in fused.NAMES]) for some in (_START, _TRUST))
    weights = start.copy()
    for _ in range(30):
        p = 1 / (1 + np.exp(-x @ weights))
        slope = x.T @ (w * (y - p)) - trust * (weights - start)
        curve = (x * (w * p * (1 - p))[:, None]).T @ x + np.diag(trust)
        weights += np.linalg.solve(curve, slope)
    return weights


def crossvalidated(given: Sequence[Example], others: Sequence[Example]) -> list[npt.NDArray[np.float64]]:
    """Return for each example the weights that were fitted without its group."""
    groups = sorted({example.group for example in given})
    folds = [set(groups[at::20]) for at in range(min(20, len(groups)))]
    found = [fit([*(e for e in given if e.group not in fold), *others]) for fold in folds]
    return [next(weights for weights, fold in zip(found, folds, strict=True) if e.group in fold) for e in given]


def curve(given: Sequence[Example], weights: Sequence[npt.NDArray[np.float64]]) -> Rows:
    """Return (share cut off, mean latency in seconds) at each of many thresholds."""
    found = []
    for threshold in np.linspace(-3, 6, 91):
        cut, latency = [], []
        for e, known in zip(given, weights, strict=True):
            early, late = (np.dot(known, fused.features(fused.AFTER_S, e.sound, t)) for t in (None, e.text))
            gap_s = _enough_s(threshold - early, known[1])
            if gap_s > _TEXT_AT_S:
                gap_s = max(_TEXT_AT_S, _enough_s(threshold - late, known[1]))
            gap_s = min(max(gap_s, _ASK_S), 2.5) + 0.016  # half a frame
            if e.final:
                latency.append(gap_s + e.late_s)
            else:
                cut.append(gap_s <= e.lasts_s)
        found.append((np.mean(cut), np.mean(latency)))
    return np.array(found)


def _enough_s(missing: float, grows: float) -> float:
    return fused.AFTER_S * math.exp(missing / (1 + grows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directories", nargs="+", type=Path, metavar="DIR")
    parser.add_argument("--heard", type=Path, metavar="PREFIX", help="as of end_of_turn.py")
    parser.add_argument("--write", action="store_true", help="write the weights")
    args = parser.parse_args()
    judge, given = Remembering(), {}
    for directory in args.directories:
        turns = read(directory)
        kept = args.heard and args.heard.with_name(f"{args.heard.name}-{directory.name}-clean.json")
        hear_all(turns, kept=kept)
        given[directory.name] = asyncio.run(examples(turns, judge))
    for name, these in given.items():
        others = [e for other, those in given.items() if other != name for e in those]
        found = curve(these, crossvalidated(these, others))
        told = [f"{100 * found[found[:, 1] <= s, 0].min():.1f} % at {1000 * s:.0f} ms" for s in _BUDGETS_S]
        print(f"{name}: {len(these)} pauses; cross-validated, {', '.join(told)}")
    weights = {
        name: round(float(weight), 2)
        for name, weight in zip(fused.NAMES, fit([e for these in given.values() for e in these]), strict=True)
    }
    print(json.dumps(weights))
    if args.write:
        told = {"fitted by": "benchmarks/fit_end_of_turn.py", "weights": weights}
        fused.WEIGHTS.write_text(json.dumps(told, indent=2) + "\n")


if __name__ == "__main__":
    main()
