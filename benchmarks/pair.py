"""Interims while finals take their time: the embedded weights for those, and an engine that takes seconds for the rest.

Speaks sentences with the pauses people make, at the pace of speech, twice: with the slow engine alone for everything,
and with the embedded weights for interims. Prints the seconds between two interims while somebody speaks, and how
often one changed what had been stable.

Run: python benchmarks/pair.py [--takes 2] [--seconds 40]
"""

import argparse
import asyncio
import time
from collections.abc import AsyncIterator, Sequence

import numpy as np

from _common import sentences, talk
from stt.audio import Samples
from stt.engines.whisper import Whisper
from stt.events import Event, TranscriptChanged, TurnPaused, TurnResumed
from stt.recognition import Hypothesis, SpeechModel, Utterance, recognizing
from stt.recognition.around import AroundModel
from stt.session import Session
from stt.sources import paced
from stt.vad import SileroVad


class _TakesItsTime(AroundModel):
    """An engine as right as another, and slower."""

    def __init__(self, model: SpeechModel, takes_s: float) -> None:
        super().__init__(model)
        self._takes_s = takes_s

    def transcribe(self, batch: Sequence[Utterance]) -> list[Hypothesis]:
        began = time.monotonic()
        result = super().transcribe(batch)
        time.sleep(max(0.0, self._takes_s - (time.monotonic() - began)))
        return result


async def _speak(audio: Samples, takes_s: float, *, pair: bool) -> tuple[list[float], int]:
    """Seconds between two texts while somebody speaks, and how often stable text was changed by an interim."""
    gaps: list[float] = []
    flickers, stable, last = 0, "", 0.0

    async def recording() -> AsyncIterator[Samples]:
        yield audio

    async def sink(event: Event) -> None:
        nonlocal flickers, stable, last
        match event:
            case TranscriptChanged(cause="interim"):
                now = time.monotonic()
                if last:
                    gaps.append(now - last)
                last = now
                flickers += not event.text.startswith(stable)
                stable = event.text[: event.stable_chars]
            case TranscriptChanged():
                stable = event.text[: event.stable_chars]
            case TurnPaused():
                last = 0.0
            case TurnResumed():
                last = 0.0
            case _:
                stable, last = "", 0.0

    slow = _TakesItsTime(Whisper(device="cpu"), takes_s)
    with recognizing(slow, Whisper(device="cpu") if pair else None) as recognizer:
        await Session(recognizer, SileroVad()).run(paced(recording()), sink)
    return gaps, flickers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--takes", type=float, default=2.0, help="seconds of one recognition")
    parser.add_argument("--seconds", type=float, default=40.0, help="of speech")
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    texts = sentences(round(args.seconds / 4))
    pauses = [float(rng.uniform(0.25, 0.7)) if rng.random() < 0.7 else 2.0 for _ in texts]
    audio = talk(texts, [*pauses[:-1], 2.0])
    for pair in (False, True):
        gaps, flickers = asyncio.run(_speak(audio, args.takes, pair=pair))
        p50, p95 = (float(np.percentile(gaps, q)) for q in (50, 95)) if gaps else (float("nan"), float("nan"))
        what = "two models" if pair else "one model"
        print(
            f"{what}, {args.takes:g} s a final: {len(gaps)} gaps between texts while somebody spoke, p50 {p50:.2f} s, "
            f"p95 {p95:.2f} s, at most {max(gaps, default=float('nan')):.2f} s; stable text changed by an interim "
            f"{flickers} times",
            flush=True,
        )


if __name__ == "__main__":
    main()
