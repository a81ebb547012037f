"""Hours of churn in small: sessions that open, talk, finish, vanish in the middle of a word, stay silent, stop reading,
knock and never say anything, or are refused; then memory and open files must be where they were, and the server must
have counted what the clients did.

    python benchmarks/serve_soak.py --minutes 30

The engine answers at once, so that what is measured is the server. Exit status 1 if something does not agree.
"""

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import soundfile

from serve_load import INSTANT, clips
from stt.bench import LoadSession, Script, ServerStats, open_session, script
from stt.errors import RemoteError

SETTINGS = "max_sessions=1000, idle_timeout_s=8, send_timeout_s=8, handshake_timeout_s=5, max_unsent_bytes=60_000"
# What a client does, and how often. A slow reader gets long texts, so that its buffers fill within its visit.
BEHAVIOURS = {"finish": 10, "vanish": 6, "silent": 2, "knock": 2, "slow": 2, "refused": 1, "garbage": 2}


class Visits:
    """What the clients did, as they count it."""

    def __init__(self, url: str, scripts: list[Script]) -> None:
        self.url, self.scripts = url, scripts
        self.did: Counter[str] = Counter()
        self.accepted = self.refused = self.finals = self.lost = 0
        self.sent_s = self.finished_s = 0.0
        self.codes: Counter[str] = Counter()

    async def visit(self) -> None:
        what = random.choices([*BEHAVIOURS], weights=[*BEHAVIOURS.values()])[0]
        self.did[what] += 1
        if what == "knock":
            _, writer = await asyncio.open_connection("127.0.0.1", int(self.url.rpartition(":")[2]))
            writer.write(random.choice([b"", b"GET /ws/transcribe HTTP/1.1\r\nHost: x\r\n"]))
            await asyncio.sleep(random.uniform(1, 10))
            writer.close()
            return
        query = random.choice(["", "?events=1", "?interim_results=0", "?end_of_turn_ms=800"])
        try:
            session = await open_session(
                random.choice(self.scripts),
                f"{self.url}/ws/transcribe{'?channels=9' if what == 'refused' else query}",
            )
        except RemoteError:
            self.refused += 1
            return
        self.accepted += 1
        match what:
            case "silent":
                await session.closed
            case "garbage":
                for _ in range(30):
                    session._transport.write(b"\x81\x83" + bytes(4) + b"{]}")  # noqa: SLF001 - no client does this
                await session.closed
            case "slow":
                session.hang()
                await self.talk(session, random.uniform(40, 60))
                session.vanish()
                await session.closed
            case "vanish":
                await self.talk(session, random.uniform(0.1, 20))
                session.vanish()
                await session.closed
            case "finish":
                frames = await self.talk(session, random.uniform(3, 30))
                session.finish()
                async with asyncio.timeout(60):
                    code, _ = await session.closed
                self.lost += code != 1000
                self.finished_s += frames * 0.02
        self.finals += sum(bool(m.get("isFinal")) for _, m in session.messages)
        self.codes.update(m["code"] for _, m in session.messages if "code" in m)

    async def talk(self, session: LoadSession, duration_s: float) -> int:
        clock = asyncio.get_running_loop().time
        began, frames = clock(), min(len(session.script.frames), round(duration_s / 0.02))
        for i in range(frames):
            await asyncio.sleep(max(0.0, began + i * 0.02 - clock()))
            if session.closed.done():
                return i
            session.send(i)
            self.sent_s += 0.02
        return frames


def process(pid: int) -> dict[str, Any]:
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    rss_kb = next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
    return {"rss_mb": round(rss_kb / 1024, 1), "files": len(os.listdir(f"/proc/{pid}/fd"))}  # noqa: PTH208


async def quiet(stats: ServerStats, pid: int) -> dict[str, Any]:
    """Wait until the server has no sessions and no connections left, and look at it."""
    before = {}
    for _ in range(60):
        await asyncio.sleep(1)
        now = process(pid)
        if (await asyncio.to_thread(stats.read))["stt_sessions"] == 0 and now["files"] == before.get("files"):
            break
        before = now
    return process(pid)


async def churn(visits: Visits, minutes: float, speakers: int) -> None:
    deadline = time.monotonic() + 60 * minutes

    async def slot() -> None:
        while time.monotonic() < deadline:
            await asyncio.sleep(random.uniform(0, 2))
            await visits.visit()

    async with asyncio.TaskGroup() as tasks:
        for _ in range(speakers):
            tasks.create_task(slot())


async def soak(url: str, pid: int, paths: list[str], minutes: float, speakers: int) -> bool:
    scripts = [
        script([soundfile.read(path, dtype="float32")[0]], 60, 20, binary=i % 2 == 0) for i, path in enumerate(paths)
    ]
    stats = ServerStats(url, None)
    visits = Visits(url, scripts)
    print(f"start          {process(pid)}", flush=True)
    await churn(visits, min(1.0, minutes / 4), speakers)
    first = await quiet(stats, pid)
    print(f"after warm-up  {first}", flush=True)
    left = minutes - min(1.0, minutes / 4)
    while left > 0:
        await churn(visits, min(5.0, left), speakers)
        left -= 5.0
        print(f"under way      {process(pid)} {sum(visits.did.values())} visits", flush=True)
    last = await quiet(stats, pid)
    told = await asyncio.to_thread(stats.read)

    def total(name: str) -> float:
        return sum(value for key, value in told.items() if key.split("{")[0] == name)

    malformed = told.get('stt_errors_total{code="bad_json"}', 0)
    unheard = 4 * visits.did["vanish"] + 12 * visits.did["slow"]
    checks = {
        f"memory {first['rss_mb']} -> {last['rss_mb']} MB": last["rss_mb"] <= first["rss_mb"] * 1.1 + 5,
        f"open files {first['files']} -> {last['files']}": last["files"] <= first["files"],
        f"sessions opened {total('stt_sessions_opened_total'):g} = {visits.accepted}": (
            total("stt_sessions_opened_total") == total("stt_sessions_closed_total") == visits.accepted
        ),
        f"sessions refused {total('stt_sessions_refused_total'):g} = {visits.refused}": (
            total("stt_sessions_refused_total") == visits.refused
        ),
        f"audio {total('stt_audio_seconds_total'):.1f} s, between {visits.finished_s:.1f} (finished) and "
        f"{visits.sent_s:.1f} (sent)": (
            visits.finished_s - 0.1 <= total("stt_audio_seconds_total") <= visits.sent_s + 0.1
        ),
        f"finals {total('stt_turns_total'):g}; clients that stayed and those that did not read got {visits.finals}": (
            visits.finals <= total("stt_turns_total") <= visits.finals + unheard
        ),
        f"malformed {malformed:g} = {visits.codes['bad_json']}": malformed == visits.codes["bad_json"],
        f"finished sessions without their close code: {visits.lost}": visits.lost == 0,
    }
    print(f"visits         {dict(visits.did)}")
    print(
        "closed         "
        + str({k.split('"')[1]: v for k, v in told.items() if k.startswith("stt_sessions_closed_total")})
    )
    print(f"server         {told['process_cpu_seconds_total'] / (60 * minutes):.2f} cores on average")
    for text, holds in checks.items():
        print(f"{'ok  ' if holds else 'FAIL'}           {text}")
    return all(checks.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--speakers", type=int, default=24)
    args = parser.parse_args()
    code = INSTANT.replace("max_sessions=1000", SETTINGS).replace(
        'a turn")', 'a turn " + " ".join(str(i) * 200 for i in range(40)))'
    )
    env = {**os.environ, "PYTHONSAFEPATH": "1"}
    with tempfile.TemporaryDirectory() as directory, Path(directory, "log").open("w+") as log:
        server = subprocess.Popen([sys.executable, "-c", code], stderr=log, env=env)
        url = ""
        while not url or '"ready"' not in Path(log.name).read_text():
            assert server.poll() is None, Path(log.name).read_text()
            lines = Path(log.name).read_text().splitlines()
            url = next((json.loads(line)["url"] for line in lines if '"url"' in line), "")
            time.sleep(0.1)
        good = asyncio.run(soak(url, server.pid, clips(Path(directory), 3), args.minutes, args.speakers))
        server.terminate()
        exit_code = server.wait(60)
        trouble = [
            line for line in Path(log.name).read_text().splitlines() if not line.startswith("{") or '"error"' in line
        ]
        print(f"server exit    {exit_code}; lines that tell of trouble: {len(trouble)}", *trouble[:5], sep="\n")
    sys.exit(not (good and exit_code == 0))


if __name__ == "__main__":
    main()
