"""What `stt serve` keeps, live, of what its policy promises: the embedded engine, one speaker after the other.

The promise is that of `end_of_turn.py`, the policy on the audio's clock with the detector's delay, with what each text
takes on this machine instead of a fixed time, and with turns that go on anew where somebody was cut off. Live come the
queue's time, that of the ask and the network's; a final that was not there at the decision is counted. Nothing else
should run beside it: each turn takes its own length and a second, after which its pauses are recognized.

Run: python benchmarks/end_of_turn_live.py DIR [--some 32] [--eagerness medium]
"""

import argparse
import asyncio
import subprocess
from pathlib import Path

import numpy as np

import _turns
from serve_load import start_server
from stt.client import session_url
from stt.commands.bench import table
from stt.endofturn import Meaning
from stt.endofturn.meaning import PACES
from stt.turnbench import Score, Spoken, read, score, spread

_LATEST_S = 4.0


def live(directory: Path, some: int, eagerness: str) -> Score:
    """Have a server of its own hear them."""
    server, url = start_server(instant=False)
    assert server.stderr is not None
    logs = subprocess.Popen(["cat"], stdin=server.stderr, stdout=subprocess.DEVNULL)
    try:
        asked = session_url(url, {}, {"end_of_turn": "meaning", "eagerness": eagerness})
        return asyncio.run(score(spread(asyncio.run(read(directory)), some), asked))
    finally:
        server.terminate()
        server.wait(60)
        logs.wait()


def promised(directory: Path, turns: list[Spoken], eagerness: str) -> Score:
    """Say when the policy would end them; who is cut off speaks on in a turn of its own, as live."""
    wanted = {turn.id: turn for turn in turns}
    policy, listener, found = Meaning(PACES[eagerness], _turns.Remembering()), _turns.Listener(), Score(turns)
    for recording in _turns.read(directory):
        if (turn := wanted.get(recording.told["id"])) is not None:
            found.take(turn, asyncio.run(_turns.ends_s(policy, recording, listener)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, metavar="DIR")
    parser.add_argument("--some", type=int, default=32, help="so many of its turns, evenly spread")
    parser.add_argument("--eagerness", choices=PACES, default="medium")
    args = parser.parse_args()
    found = live(args.directory, args.some, args.eagerness)
    print("\n".join(table(args.directory.name, found.figures())))
    promise = promised(args.directory, found.turns, args.eagerness)
    came, meant = _latencies_s(found), _latencies_s(promise)
    print(
        f"promised       {1000 * meant.mean():.0f} ms on average, came after {1000 * came.mean():.0f}: "
        f"{1000 * (came - meant).mean():+.0f} ms; by turns p50 {1000 * np.median(came - meant):+.0f}, "
        f"p95 {1000 * np.percentile(came - meant, 95):+.0f}"
    )


def _latencies_s(found: Score) -> np.ndarray:
    """Return how long after the end of speech each turn was ended, shape [n], seconds."""
    fires = [fire for t in found.turns for p, fire in zip(t.pauses, found.fired[t.id], strict=True) if p.final]
    return np.array([_LATEST_S if fire is None else min(fire, _LATEST_S) for fire in fires])


if __name__ == "__main__":
    main()
