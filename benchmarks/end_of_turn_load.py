"""What turns that end by meaning cost a server: the same talk with silence and meaning, an engine that answers at once.

The engine is instant because it is the server's own work that is measured, as where the engine is on other machines.
`finals` is how long after the audio that decided it was sent a final came back; an ask that is refused, late or failed
leaves the pause to its text and to silence. A line takes the duration and a few seconds, all of
them 4 minutes; the load comes from the same machine.

python benchmarks/end_of_turn_load.py [--sessions 1 20 100] [--duration 30]
"""

import argparse
import asyncio
import subprocess
from collections import Counter

import numpy as np

from _common import sentences, talk
from serve_load import start_server
from stt.bench import LoadSession, Script, ServerStats, open_session, script, speak
from stt.client import session_url
from stt.clock import samples

POLICIES = ("end_of_turn=silence", "end_of_turn=meaning", "end_of_turn=meaning&eager=1")
OUTCOMES = ("answered", "refused", "late", "overtaken", "failed")
AT_END_S = 20.0
HEAD = """\
                             CPU s a minute  asks: answered, refused,  mean    finals, s     loop   turns ended by
sessions  policy      cores  in all   asks   late, overtaken, failed   wait s  p50    p95    p99 s  meaning, silence\
"""


def late(sessions: list[LoadSession]) -> list[float]:
    """From the audio that decided the end of a turn being sent to its final coming back, in seconds."""
    found = []
    for session in sessions:
        for now, message in session.messages:
            if message.get("isFinal") and message["why"] != "stream ended":
                index = (samples(message["decided"]) - 1) // session.script.frame
                found.append(now - session.sent[min(index, len(session.sent) - 1)])
    return found


async def run(scripts: list[Script], url: str, count: int, policy: str, duration_s: float) -> str:
    """Return the line of one run."""
    stats = ServerStats(url, None)
    live = session_url(f"{url}/ws/transcribe?{policy}", {"events": "1"})
    sessions = [await open_session(scripts[i % len(scripts)], live) for i in range(count)]
    speaking = asyncio.create_task(speak(sessions))
    await asyncio.sleep(duration_s)  # all are at work by then, and none is done
    now, report = await asyncio.to_thread(stats.read), await asyncio.to_thread(stats.report, count)
    await asyncio.wait([speaking], timeout=AT_END_S)
    if not speaking.done():
        speaking.cancel()

    def grown(name: str) -> float:
        return now.get(name, 0.0) - stats.first.get(name, 0.0)

    asks = [grown(f'stt_turn_asks_total{{outcome="{o}"}}') for o in OUTCOMES]
    why = Counter(m["why"] for s in sessions for _, m in s.messages if m.get("isFinal"))
    p50, p95 = np.percentile(late(sessions) or [np.nan], (50, 95))
    minutes = count * duration_s / 60
    cpu_s, asking_s = grown("process_cpu_seconds_total"), grown("stt_turn_ask_compute_seconds_total")
    waited_s = grown("stt_turn_ask_seconds_sum") / max(asks[0], 1)
    name = policy.removeprefix("end_of_turn=").replace("meaning&eager=1", "eager")
    return (
        f"{count:8}  {name:10}  {report['cpu']:5.2f}  {cpu_s / minutes:6.2f}  {asking_s / minutes:5.2f}   "
        f"{', '.join(f'{n:.0f}' for n in asks):24}  {waited_s:6.3f}  {p50:5.3f}  {p95:5.3f}  "
        f"{report['loop_lag_p99_s']:5g}  {why['meaning']}, {why['silence']}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, nargs="+", default=[1, 20, 100])
    parser.add_argument("--duration", type=float, default=30)
    args = parser.parse_args()
    # Pauses to think and ends, about 15 a minute, as people in conversations make them.
    clips = [talk(sentences(6, seed=i), [2.0, 0.8, 2.0, 0.5, 2.0, 0.2], seed=10 * i) for i in range(8)]
    scripts = [script(clips[i:] + clips[:i], args.duration, 20, binary=True) for i in range(len(clips))]
    for one in scripts:
        del one.frames[round(args.duration / 0.02) + 100 :]
    server, url = start_server(instant=True)
    assert server.stderr is not None
    logs = subprocess.Popen(["cat"], stdin=server.stderr, stdout=subprocess.DEVNULL)
    try:
        print(HEAD)
        for count in args.sessions:
            for policy in POLICIES[: 3 if count == 1 else 2]:
                print(asyncio.run(run(scripts, url, count, policy, args.duration)), flush=True)
    finally:
        server.terminate()
        server.wait(60)
        logs.wait()


if __name__ == "__main__":
    main()
