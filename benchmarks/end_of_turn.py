"""When turns are ended: false cut-offs in people's pauses against the latency of their ends, without a server.

A benchmark is a directory with `turns.jsonl` (id, pauses with start, dur, final, scored, in seconds) and a recording of
each turn, `ID.opus`; the end of each is followed by silence. Policies hear what a session hears, through the detector,
by the sound alone: texts depend on how fast an engine is. Metrics are those of livekit/eot-bench.

Run: python benchmarks/end_of_turn.py DIR [DIR ...] [--traces OUT]
"""

import argparse
import asyncio
import json
from collections.abc import AsyncIterator, Hashable
from pathlib import Path
from typing import Any, Final

import numpy as np

from stt.audio import Samples, samples
from stt.events import Event, Latency, TurnCompleted
from stt.recognition import Hypothesis, Recognition, RecognitionOptions, Ticket, Utterance
from stt.session import Session
from stt.settings import TurnSettings
from stt.sources import FileSource
from stt.vad import SileroVad

_AFTER_S: Final = 4.5
POLICIES: Final = {
    **{f"silence {gap:g} s": TurnSettings(pause_s=0.2, end_of_turn_s=gap) for gap in (0.5, 0.8, 1.5)},
    **{
        f"meaning, {pace}": TurnSettings(end_of_turn="meaning", eagerness=pace)
        for pace in ("fast", "medium", "careful")
    },
}


class _Nobody:
    """A `RecognitionService` that hears nothing, at once."""

    def submit(self, utterance: Utterance) -> Ticket:
        del utterance
        ticket: Ticket = asyncio.get_running_loop().create_future()
        ticket.set_result(Recognition(Hypothesis(""), Latency(0, 0, 1)))
        return ticket

    def forget(self, session: Hashable) -> None: ...


async def _ends(audio: Samples, settings: TurnSettings, vad: SileroVad) -> list[float]:
    """Return when turns were decided to be over, in seconds of the recording."""
    ends: list[float] = []

    async def source() -> AsyncIterator[Samples]:
        yield np.concatenate((audio, np.zeros(samples(_AFTER_S), np.float32)))

    async def sink(event: Event) -> None:
        if isinstance(event, TurnCompleted):
            ends.append(event.decided_s)

    options = RecognitionOptions(live=False)
    await Session(_Nobody(), vad, settings=settings, options=options).run(source(), sink)
    return ends


async def _read(path: Path) -> Samples:
    with FileSource(path) as source:
        return np.concatenate([piece async for piece in source])


async def _fired(turn: dict[str, Any], audio: Samples, settings: TurnSettings, vad: SileroVad) -> list[float | None]:
    """For each pause, when after its beginning a turn was ended in it; `None`: in none of its time."""
    ends = await _ends(audio, settings, vad)
    until = [p["start"] + (_AFTER_S if p["final"] else p["dur"]) for p in turn["pauses"]]
    return [
        next((end - p["start"] for end in ends if p["start"] < end <= last), None)
        for p, last in zip(turn["pauses"], until, strict=True)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directories", nargs="+", type=Path, metavar="DIR")
    parser.add_argument("--traces", type=Path, help="write what each policy did into this directory, a file each")
    args = parser.parse_args()
    vad = SileroVad()
    for directory in args.directories:
        turns = [json.loads(line) for line in (directory / "turns.jsonl").read_text().splitlines()]
        audio = [asyncio.run(_read(directory / f"{turn['id']}.opus")) for turn in turns]
        for name, settings in POLICIES.items():
            fired = [asyncio.run(_fired(turn, a, settings, vad)) for turn, a in zip(turns, audio, strict=True)]
            told = [
                {**turn, "pauses": [{**p, "fire": f} for p, f in zip(turn["pauses"], fires, strict=True)]}
                for turn, fires in zip(turns, fired, strict=True)
            ]
            pauses = [p for turn in told for p in turn["pauses"] if p.get("scored", True)]
            holds = [p["fire"] is not None for p in pauses if not p["final"] and 0.2 <= p["dur"] <= 5]
            latency = [min(4.0, p["fire"] or 4.0) for p in pauses if p["final"]]
            print(
                f"{directory.name}, {name}: {100 * np.mean(holds):.1f} % of {len(holds)} pauses cut off; ends after "
                f"{1000 * np.mean(latency):.0f} ms on average ({len(latency)} of them)",
                flush=True,
            )
            if args.traces:
                args.traces.mkdir(exist_ok=True)
                lines = "".join(json.dumps(turn) + "\n" for turn in told)
                (args.traces / f"{directory.name}-{name.replace(' ', '-').replace(',', '')}.jsonl").write_text(lines)


if __name__ == "__main__":
    main()
