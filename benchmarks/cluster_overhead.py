"""What a cluster costs beside an engine in the same process, and how its capacity grows; a real Ray on this machine.

    python benchmarks/cluster_overhead.py            # all three, about two minutes
    python benchmarks/cluster_overhead.py latency    # ms added to a final, bytes on the wire
    python benchmarks/cluster_overhead.py cores      # of a front, for 100 sessions
    python benchmarks/cluster_overhead.py capacity   # 1, 2 and 4 replicas, whose calls have a price

Both ways are measured in one run, in turns: figures are differences and ratios, as machines have bad days. The engine
costs nothing, so what is left is the way to it.
"""

import argparse
import asyncio
import contextlib
import os
import random
import time
import warnings
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np

from cluster_engines import CALL_S, ROWS, Instant
from stt.cluster.link import ray_link
from stt.cluster.recognizer import ClusterRecognizer
from stt.recognition import LocalRecognizer, RecognitionService, Utterance, WindowKey

INTERIM_S, TURN_S = 0.5, 6.0
BOUND_S = 0.3
SOUND = (np.random.default_rng(0).integers(-3000, 3000, 24 * 16_000) / 32768).astype(np.float32)


async def session(recognizer: RecognitionService, name: str, until: float, finals: list[float]) -> None:
    """Speak turn after turn as fast as people do: interims, and a final whose latency is kept."""
    r = random.Random(name)
    await asyncio.sleep(r.uniform(0, TURN_S))
    turn = at = 0
    while time.monotonic() < until:
        turn += 1
        for step in range(1, int(TURN_S / INTERIM_S)):
            await asyncio.sleep(INTERIM_S)
            audio = SOUND[: int(step * INTERIM_S * 16_000)]
            recognizer.submit(Utterance(audio, kind="interim", key=WindowKey(name, turn), start=at))
        await asyncio.sleep(INTERIM_S)
        began = time.monotonic()
        await recognizer.submit(Utterance(SOUND[: int(TURN_S * 16_000)], key=WindowKey(name, turn), start=at))
        finals.append(time.monotonic() - began)
        at += int(TURN_S * 16_000)
    recognizer.forget(name)


async def latency() -> None:
    """Compare finals of all lengths, and count what is sent of a conversation."""
    with LocalRecognizer(Instant()) as local:
        async with cluster("cluster_engines:Instant", 2) as (elsewhere, _):
            took: dict[str, list[float]] = {"local": [], "cluster": []}
            for turn in range(150):
                samples = random.Random(turn).randint(8_000, 24 * 16_000)
                for name, recognizer in (("local", local), ("cluster", elsewhere)):
                    key = WindowKey(name, turn)
                    await recognizer.submit(Utterance(SOUND[: samples // 2], kind="interim", key=key))
                    began = time.perf_counter()
                    await recognizer.submit(Utterance(SOUND[:samples], key=key))
                    took[name].append((time.perf_counter() - began) * 1e3)
            here, there = took["local"][10:], took["cluster"][10:]
            added = [float(np.percentile(there, p) - np.percentile(here, p)) for p in (50, 95)]
            print(f"added to a final: {added[0]:.1f} ms (p50, at most 10), {added[1]:.1f} ms (p95, at most 25)")
            before, finals = elsewhere.counts.bytes_sent, list[float]()
            began = time.monotonic()
            await asyncio.gather(*(session(elsewhere, f"b{n}", began + TURN_S, finals) for n in range(10)))
            spoken = len(finals) * TURN_S
            ratio = (elsewhere.counts.bytes_sent - before) / (spoken * 32_000)
            print(f"on the wire: {ratio:.2f} of the PCM16 that was said (at most 1.2)")


async def cores(sessions: int = 100, seconds: float = 12.0) -> None:
    """Compare the processor time of the process that has the sessions, and of its driver."""
    used: dict[str, list[float]] = {}
    with LocalRecognizer(Instant()) as local:
        async with cluster("cluster_engines:Instant", 2) as (elsewhere, driver):
            for name, recognizer in (("local", local), ("cluster", elsewhere)):
                finals: list[float] = []
                began, cpu = time.monotonic(), [time.process_time(), cpu_s(driver)]
                talks = [session(recognizer, f"{name}{n}", began + seconds, finals) for n in range(sessions)]
                await asyncio.gather(*talks)
                took = [now - before for before, now in zip(cpu, (time.process_time(), cpu_s(driver)), strict=True)]
                used[name] = [100 / sessions * each / (time.monotonic() - began) for each in took]
    extra = [there - here for there, here in zip(used["cluster"], used["local"], strict=True)]
    print(
        f"a front's extra work for 100 sessions: {sum(extra):.2f} core (at most 0.2), {extra[1]:.2f} of it the driver's"
    )


async def capacity(ramp_s: float = 15.0) -> None:
    """Let one session after the other begin, a final every second each, until finals are late."""
    most: list[float] = []
    for replicas in (1, 2, 4):
        async with cluster("cluster_engines:Priced", replicas) as (recognizer, _):
            full = replicas * ROWS / CALL_S  # finals a second
            most.append(await ramp(recognizer, int(full * 1.3), ramp_s))
            print(f"{replicas} replicas carry {most[-1]:.0f} sessions, of {full:.0f} that they could at the very most")
    print(f"2 carry {most[1] / most[0]:.2f} times, 4 {most[2] / most[0]:.2f} times what one does (at least 1.8, 3.6)")


async def ramp(recognizer: RecognitionService, sessions: int, ramp_s: float) -> float:
    """Return how many had begun when more than 5 of 100 finals were late for the first time, over some seconds."""
    looked_at = 2 * sessions  # as many seconds, however many replicas there are
    late = asyncio.Event()
    recent: list[bool] = []
    began = 0

    async def speak(name: str) -> None:
        for turn in range(10_000):
            due = time.monotonic() + 1.0
            asked = time.monotonic()
            await recognizer.submit(Utterance(SOUND[:16_000], key=WindowKey(name, turn), start=turn * 16_000))
            recent.append(time.monotonic() - asked <= BOUND_S)
            del recent[:-looked_at]
            if len(recent) == looked_at and sum(recent) < 0.95 * looked_at:
                late.set()
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    tasks = []
    for number in range(sessions):
        if late.is_set():
            break
        tasks.append(asyncio.create_task(speak(f"s{number}")))
        began += 1
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(late.wait(), ramp_s / sessions)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return began


def cpu_s(pid: int) -> float:
    """Return the processor time that another process has had."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.asynccontextmanager
async def cluster(opens: str, replicas: int) -> AsyncIterator[tuple[ClusterRecognizer, int]]:
    """Deploy an engine, and be a front of it; also returns the process of its driver."""
    import ray

    from stt.cluster import ray_serve
    from stt.cluster.spec import EngineSpec

    await asyncio.to_thread(ray_serve.up, EngineSpec(replicas=replicas, cpus=0.1, opens=opens))
    link = ray_link(ray.get_runtime_context().gcs_address)
    await asyncio.to_thread(link.join)
    await link.names()
    recognizer = ClusterRecognizer(link.replicas("default"))
    running = asyncio.create_task(recognizer.run())
    while len(recognizer.loads) < replicas:  # noqa: ASYNC110 - it hears of one each second
        await asyncio.sleep(0.05)
    try:
        yield recognizer, link.pid or 0
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await recognizer.close()
        await link.close()
        await asyncio.to_thread(ray_serve.down, "default")


def main() -> None:
    parts = {"latency": latency, "cores": cores, "capacity": capacity}
    parser = argparse.ArgumentParser(description="what a cluster costs, and how it grows")
    parser.add_argument("part", nargs="*", choices=[*parts, []], default=[])
    chosen = parser.parse_args().part or list(parts)
    warnings.simplefilter("ignore")
    here = Path(__file__).parent
    os.environ["PYTHONPATH"] = os.pathsep.join([str(here.parent), str(here)])  # of the replicas
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray
    from ray import serve

    ray.init(num_cpus=4, object_store_memory=100 << 20, include_dashboard=False, log_to_driver=False, namespace="serve")
    try:
        for part in chosen:
            asyncio.run(parts[part]())
    finally:
        serve.shutdown()
        ray.shutdown()


if __name__ == "__main__":
    main()
