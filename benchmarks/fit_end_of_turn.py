"""Fit the weights of `stt/endofturn/fused.json` on labelled turns, and say how good they are on others.

Two logistic regressions over moments of pauses, before and after the text is there: of those that have lasted for so
long, which are ends? They start from what was measured elsewhere (`_START`), and few pauses move them a little, many a
lot. Each pause is a row at every moment that it reached. Cross-validated by groups (calls, speakers, texts): whoever is
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

from _turns import TEXT_S, Found, Remembering, Turn, hear_all, read
from stt.audio import samples
from stt.endofturn import fused, smart_turn, texts
from stt.settings import TurnSettings

_START: Final = {
    "heard": dict(zip(fused.HEARD, (0, 1, 0.4, 0.5), strict=True)),
    "read": dict(zip(fused.READ, (0, 1, 0.4, 1, -2, -3.2, 0.5, 0.5), strict=True)),
}
_TRUST: Final = {
    "heard": dict(zip(fused.HEARD, (0.01, 0.1, 10, 1), strict=True)),
    "read": dict(zip(fused.READ, (0.01, 0.1, 10, 10, 10, 40, 1, 3), strict=True)),
}
"""1 / variance of the weights around the start. Numbers stay at what keeps 2 s for who dictates one, however
final it sounds; questions and unfinished endings near it: for who stops behind "to", and for engines that do not
tell how sure a full stop is."""
_AT_S: Final = (0.3, 0.4, 0.5, 0.65, 0.8, 1.0, 1.25, 1.6, 2.0)
_ASK_S: Final = 0.26
_TEXT_AT_S: Final = TurnSettings().pause_s + TEXT_S
_ROW: Final = 1 / 3  # what a moment weighs: those of a pause are no news to each other
_BUDGETS_S: Final = (0.6, 1.0)
_DELAY_S, _LATEST_S, MOST_S = 0.32, 2.5, 4.0

Rows = npt.NDArray[np.float64]
Weights = dict[str, Rows]
"""By what is known, as `fused.weights`."""


@dataclass(frozen=True, slots=True)
class Example:
    """A pause that counts."""

    group: str
    final: bool
    lasts_s: float
    """By the detector."""
    late_s: float
    """How long after its true beginning the detector's began."""
    spoken_s: float
    sound: float
    text: texts.Reading

    def rows(self, known: str) -> list[list[float]]:
        """Return the features of each moment of it at which so much is known."""
        text = self.text if known == "read" else None
        first_s = _TEXT_AT_S if text is not None else 0.0
        moments = (at_s for at_s in _AT_S if first_s <= at_s < self.lasts_s)
        return [fused.features(at_s, self.sound, text, self.spoken_s) for at_s in moments]


async def examples(turns: Sequence[Turn], judge: Remembering) -> list[Example]:
    """Return the pauses that count; those that the detector missed last for no time."""
    found = []
    for turn in turns:
        group = turn.told.get("group", turn.told["id"])
        for told in turn.scored:
            if not turn.found(told):  # an end that nobody hears is no matter of weights, but its latency counts
                late_s = MOST_S if told["final"] else 0.0
                found.append(Example(group, told["final"], 0.0, late_s, 0.0, 0.5, texts.read("")))
            for pause in turn.found(told)[:1]:
                until = pause.resumed or len(turn.audio)
                if not told["final"]:  # as `fired` has it: what ends a turn later cuts nobody off in this pause
                    until = min(until, samples(told["start"] + told["dur"]))
                lasts_s = (until - pause.end) / 16_000
                sound = await judge.ask(_heard(turn, pause))
                text = texts.read(pause.text or "", ended=pause.ended)
                late_s = pause.end / 16_000 - told["start"]
                spoken_s = (pause.end - pause.turn_start) / 16_000
                found.append(Example(group, told["final"], lasts_s, late_s, spoken_s, sound, text))
    return found


def _heard(turn: Turn, pause: Found) -> npt.NDArray[np.float32]:
    end = pause.end + samples(_ASK_S)
    return turn.audio[max(0, pause.turn_start - samples(0.5), end - samples(smart_turn.SECONDS)) : end]


def fit(given: Sequence[Example]) -> Weights:
    """Return the weights, most probable from where they start (Newton's method)."""
    found = {}
    for known, names in (("heard", fused.HEARD), ("read", fused.READ)):
        rows = [(row, example.final) for example in given for row in example.rows(known)]
        x, y = (np.array(column, np.float64) for column in zip(*rows, strict=True))
        start, trust = (np.array([some[known][name] for name in names]) for some in (_START, _TRUST))
        weights = start.copy()
        for _ in range(30):
            p = 1 / (1 + np.exp(-x @ weights))
            slope = _ROW * x.T @ (y - p) - trust * (weights - start)
            curve = _ROW * (x * (p * (1 - p))[:, None]).T @ x + np.diag(trust)
            weights += np.linalg.solve(curve, slope)
        found[known] = weights
    return found


def crossvalidated(given: Sequence[Example], others: Sequence[Example]) -> list[Weights]:
    """Return for each example the weights that were fitted without its group."""
    groups = sorted({example.group for example in given})
    folds = [set(groups[at::20]) for at in range(min(20, len(groups)))]
    found = [fit([*(e for e in given if e.group not in fold), *others]) for fold in folds]
    return [next(weights for weights, fold in zip(found, folds, strict=True) if e.group in fold) for e in given]


def curve(given: Sequence[Example], weights: Sequence[Weights]) -> Rows:
    """Return (share cut off, mean latency in seconds) at each of many thresholds."""
    found = []
    for threshold in np.linspace(-3, 6, 91):
        cut, latency = [], []
        for e, known in zip(given, weights, strict=True):
            gap_s = _enough_s(e, known["heard"], threshold, None)
            if gap_s > _TEXT_AT_S:
                gap_s = max(_TEXT_AT_S, _enough_s(e, known["read"], threshold, e.text))
            gap_s = min(max(gap_s, _DELAY_S), _LATEST_S) + 0.016  # half a frame
            if e.final:
                latency.append(min(gap_s + e.late_s, MOST_S))
            else:
                cut.append(gap_s <= e.lasts_s)
        found.append((np.mean(cut), np.mean(latency)))
    return np.array(found)


def _enough_s(example: Example, weights: Rows, threshold: float, text: texts.Reading | None) -> float:
    known = np.dot(weights, fused.features(fused.AFTER_S, example.sound, text, example.spoken_s))
    return fused.AFTER_S * math.exp((threshold - known) / (1 + weights[1]))


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
    fitted = fit([e for these in given.values() for e in these])
    names = {"heard": fused.HEARD, "read": fused.READ}
    weights = {
        known: {name: round(float(weight), 2) for name, weight in zip(names[known], fitted[known], strict=True)}
        for known in names
    }
    print(json.dumps(weights))
    if args.write:
        told = {"fitted by": "benchmarks/fit_end_of_turn.py", "weights": weights}
        fused.WEIGHTS.write_text(json.dumps(told, indent=2) + "\n")


if __name__ == "__main__":
    main()
