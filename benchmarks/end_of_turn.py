"""When turns are ended: false cut-offs in people's pauses against the latency of their ends, without a server.

A benchmark is a directory with `turns.jsonl` (id, group, pauses with start, dur, final, scored, in seconds) and a
recording of each turn, `ID.opus`; the end of each is followed by silence. Policies get what they get in a session:
pauses from the detector, the sound, and the embedded engine's text when it would have it. Metrics are those of
livekit/eot-bench; intervals are 95 %, by groups (calls, speakers, texts).

Run: python benchmarks/end_of_turn.py DIR [DIR ...] [--traces OUT] [--plot docs/turn-taking.svg] [--heard PREFIX]
     [--without-texts] [--as telephone|noise15|noise5|quiet]
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import numpy as np
import numpy.typing as npt

from _plot import plot
from _turns import AFTER_S, Remembering, Turn, fired, hear_all, read
from sounds import DISTORTIONS
from stt.endofturn import EndOfTurn, Meaning, Silence
from stt.endofturn.meaning import PACES, Pace

Fires = list[list[float | None]]
_MOST_S: Final = 4.0
_SILENCES: Final = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0, 1.25, 1.5, 2.0)
_THRESHOLDS: Final = (0.3, 0.45, 0.55, 0.62, 0.68, 0.74, 0.8, 0.85, 0.89, 0.92, 0.95, 0.98)


def policies(judge: Remembering) -> dict[str, dict[str, EndOfTurn]]:
    """Return the policies: curves of them, and the points that have a name."""
    return {
        "silence": {f"{gap:g} s": Silence(gap) for gap in _SILENCES},
        "meaning": {f"{p:g}": Meaning(Pace(p, 0.32, 2.5), judge) for p in _THRESHOLDS},
        "eagerness": {name: Meaning(pace, judge) for name, pace in PACES.items()},
    }


def measure(turns: Sequence[Turn], fires: Fires, weights: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Return the share of pauses cut off, and the mean latency of the ends in seconds, turns weighted."""
    pauses = [
        (w, p["final"], f)
        for w, t, fs in zip(weights, turns, fires, strict=True)
        for p, f in zip(t.scored, fs, strict=True)
    ]
    holds = [(w, f is not None) for w, final, f in pauses if not final]
    ends = [(w, _MOST_S if f is None else min(f, _MOST_S)) for w, final, f in pauses if final]
    cut, latency = (np.average([x for _, x in some], weights=[w + 1e-9 for w, _ in some]) for some in (holds, ends))
    return float(cut), float(latency)


def resampled(turns: Sequence[Turn], times: int = 1000) -> list[npt.NDArray[np.float64]]:
    """Draw weights of turns, by groups."""
    rng, names = np.random.default_rng(1), [t.told.get("group", t.told["id"]) for t in turns]
    groups = {name: at for at, name in enumerate(dict.fromkeys(names))}
    draws = rng.integers(0, len(groups), (times, len(groups)))
    return [np.bincount(draw, minlength=len(groups))[[groups[n] for n in names]].astype(float) for draw in draws]


def row(name: str, turns: Sequence[Turn], fires: Fires) -> tuple[float, float]:
    """Print a policy's figures, and return them."""
    cut, latency = measure(turns, fires, np.ones(len(turns)))
    low, high = np.percentile([measure(turns, fires, w) for w in resampled(turns)], [2.5, 97.5], axis=0)
    print(
        f"{name:22s} cut off {100 * cut:5.1f} % [{100 * low[0]:3.0f}, {100 * high[0]:3.0f}]   latency "
        f"{1000 * latency:5.0f} ms [{1000 * low[1]:4.0f}, {1000 * high[1]:4.0f}]",
        flush=True,
    )
    return cut, latency


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directories", nargs="+", type=Path, metavar="DIR")
    parser.add_argument("--traces", type=Path, help="write what each policy did into this directory, a file each")
    parser.add_argument("--plot", type=Path, help="draw the curves of the first directory, as SVG")
    parser.add_argument("--without-texts", action="store_true", help="by the sound alone")
    parser.add_argument("--as", dest="distorted", choices=DISTORTIONS, help="hear it through this")
    parser.add_argument(
        "--heard", type=Path, metavar="PREFIX", help="keep what was heard in files named so, for next time"
    )
    args = parser.parse_args()
    judge = Remembering()
    drawn: dict[str, list[tuple[str, float, float]]] = {}
    for directory in args.directories:
        turns = read(directory, DISTORTIONS.get(args.distorted))
        kept = args.heard and args.heard.with_name(
            f"{args.heard.name}-{directory.name}-{args.distorted or 'clean'}.json"
        )
        hear_all(turns, texts=not args.without_texts, kept=kept)
        holds, ends = (sum(p["final"] is final for t in turns for p in t.scored) for final in (False, True))
        minutes = sum(len(t.audio) / 16_000 - AFTER_S for t in turns) / 60
        print(f"{directory.name}: {len(turns)} turns of {minutes:.1f} minutes, {holds} pauses, {ends} ends")
        for family, members in policies(judge).items():
            for name, policy in members.items():
                judge.asks = 0
                fires = [asyncio.run(fired(policy, turn)) for turn in turns]
                cut, latency = row(f"{family} {name}", turns, fires)
                if directory == args.directories[0]:
                    drawn.setdefault(family, []).append((name, latency, cut))
                if family == "eagerness":
                    took = float(np.median(judge.computed_s))
                    print(f"{'':22s} {judge.asks / minutes:.1f} asks a minute, {1000 * took:.0f} ms each")
                if args.traces:
                    _write(args.traces / f"{directory.name}-{family}-{name.replace(' ', '')}.jsonl", turns, fires)
    if args.plot:
        args.plot.write_text(plot(drawn))


def _write(path: Path, turns: Sequence[Turn], fires: Fires) -> None:
    path.parent.mkdir(exist_ok=True)
    told = [
        {**t.told, "pauses": [{**p, "fire": f} for p, f in zip(t.scored, fs, strict=True)]}
        for t, fs in zip(turns, fires, strict=True)
    ]
    path.write_text("".join(json.dumps(turn) + "\n" for turn in told))


if __name__ == "__main__":
    main()
