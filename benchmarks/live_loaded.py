"""Live recognition beside other people's programs: how late finals are, on a quiet machine and on one with busy cores.

Makes the load itself: so many busy processes for each core. Sessions run in this process, as the terminal program's
does, or on a server (`--server ws://...`). A final's lateness counts from the moment at which the silence was long
enough to end its turn, by the speaker's clock: detection, waiting and recognition that were not done by then.

Run: python benchmarks/live_loaded.py [--busy 2] [--sessions 1 4] [--seconds 40] [--threads 0]
To see what threads that spin between two pieces of work do: OMP_WAIT_POLICY=ACTIVE python benchmarks/live_loaded.py
"""

import argparse
import asyncio
import contextlib
import multiprocessing
import os
import time
from collections.abc import AsyncIterator, Iterator

import numpy as np

from _common import sentences, talk
from stt.audio import Samples, samples, seconds
from stt.client import RemoteSession
from stt.engines.whisper import Whisper
from stt.events import Event, TurnCompleted
from stt.machine import cores
from stt.recognition import LocalRecognizer
from stt.session import Session
from stt.settings import TurnSettings
from stt.vad import SileroVad

_PIECE = samples(0.02)
_TURNS = TurnSettings()


async def _live(audio: Samples, session: Session | RemoteSession) -> list[float]:
    """Speak `audio` to a session at the pace of speech; returns the seconds by which each final was late."""
    late: list[float] = []
    began = time.monotonic()

    async def source() -> AsyncIterator[Samples]:
        for at in range(0, len(audio), _PIECE):
            await asyncio.sleep(max(0.0, began + seconds(at + _PIECE) - time.monotonic()))
            yield audio[at : at + _PIECE]

    async def sink(event: Event) -> None:
        if isinstance(event, TurnCompleted):
            late.append(time.monotonic() - began - event.decided_s)

    await session.run(source(), sink)
    return late


async def _run(count: int, server: str | None, threads: int, duration_s: float) -> tuple[list[float], float]:
    """Lateness of the finals of `count` sessions, and this process's CPU seconds."""
    talks = [_speech(seed, duration_s) for seed in range(count)]
    with contextlib.ExitStack() as open_:
        sessions: list[Session | RemoteSession]
        if server is not None:
            sessions = [RemoteSession(server) for _ in talks]
        else:
            recognizer = open_.enter_context(LocalRecognizer(Whisper(device="cpu", threads=threads)))
            vad = SileroVad()
            sessions = [Session(recognizer, vad, settings=_TURNS) for _ in talks]
        began = time.process_time()
        found = await asyncio.gather(*(_live(*pair) for pair in zip(talks, sessions, strict=True)))
        return [late for finals in found for late in finals], time.process_time() - began


def _speech(seed: int, duration_s: float) -> Samples:
    """Make turns of one to three sentences, with the pauses people make."""
    rng = np.random.default_rng(seed)
    texts = sentences(round(duration_s / 4), seed)
    pauses = [float(rng.uniform(0.2, 0.7) if rng.random() < 0.5 else rng.uniform(1.8, 2.5)) for _ in texts]
    return talk(texts, [*pauses[:-1], 2.0], lead_s=0.5 + seed * 0.37, seed=seed)


def _spin() -> None:
    while True:
        pass


@contextlib.contextmanager
def _load(processes: int) -> Iterator[None]:
    context = multiprocessing.get_context("spawn")
    busy = [context.Process(target=_spin, daemon=True) for _ in range(processes)]
    for process in busy:
        process.start()
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--busy", type=int, default=2, help="busy processes for each core")
    parser.add_argument("--sessions", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--seconds", type=float, default=40, help="of speech in each session")
    parser.add_argument("--threads", type=int, default=0, help="of the engine; 0: its own choice")
    parser.add_argument("--server", help="ws://...: sessions on this server instead of in this process")
    args = parser.parse_args()
    for count in args.sessions:
        figures: list[tuple[float, float]] = []
        for busy in (0, args.busy * cores()):
            with _load(busy):
                late, cpu_s = asyncio.run(_run(count, args.server, args.threads, args.seconds))
            p50, p95, most = (float(np.percentile(late, q)) for q in (50, 95, 100))
            figures.append((p95, cpu_s))
            print(
                f"{count} live, {busy} busy processes on {cores()} cores (load {os.getloadavg()[0]:.1f}): {len(late)} "
                f"finals, late by p50 {p50:.2f} s, p95 {p95:.2f} s, at most {most:.2f} s; {cpu_s:.1f} CPU s",
                flush=True,
            )
        quiet, loaded = figures
        print(
            f"  loaded to quiet: p95 {loaded[0] - quiet[0]:+.2f} s, {loaded[1] / quiet[1]:.2f} times the CPU",
            flush=True,
        )


if __name__ == "__main__":
    main()
