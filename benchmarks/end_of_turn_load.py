"""What turns that end by meaning cost a server: the same talk with silence and meaning, an engine that answers at once.

python benchmarks/end_of_turn_load.py --sessions 1
python benchmarks/end_of_turn_load.py --sessions 100
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


def late(sessions: list[LoadSession]) -> list[float]:
    """From the audio that decided the end of a turn being sent to its final coming back, in seconds."""
    found = []
    for session in sessions:
        for now, message in session.messages:
            if message.get("isFinal") and message["why"] != "stream ended":
                index = (samples(message["decided"]) - 1) // session.script.frame
                found.append(now - session.sent[min(index, len(session.sent) - 1)])
    return found


async def run(scripts: list[Script], url: str, count: int, policy: str, duration_s: float) -> None:
    stats = ServerStats(url, None)
    live = session_url(f"{url}/ws/transcribe?{policy}", {"events": "1"})
    sessions = [await open_session(scripts[i % len(scripts)], live) for i in range(count)]
    speaking = asyncio.create_task(speak(sessions))
    await asyncio.sleep(duration_s)  # all are at work by then, and none is done
    now, report = await asyncio.to_thread(stats.read), await asyncio.to_thread(stats.report, count)
    await speaking

    def grown(name: str) -> float:
        return now.get(name, 0.0) - stats.first.get(name, 0.0)

    asks = {o: grown(f'stt_turn_asks_total{{outcome="{o}"}}') for o in ("answered", "refused", "overtaken", "failed")}
    why = Counter(m["why"] for s in sessions for _, m in s.messages if m.get("isFinal"))
    finals = late(sessions)
    p50, p95 = np.percentile(finals, (50, 95)) if finals else (0.0, 0.0)
    minutes = count * duration_s / 60
    cpu_s, asking_s = grown("process_cpu_seconds_total"), grown("stt_turn_ask_compute_seconds_total")
    waited_s = grown("stt_turn_ask_seconds_sum") / max(asks["answered"], 1)
    outcomes = ", ".join(f"{value:.0f} {outcome}" for outcome, value in asks.items())
    print(f"{policy}: turns ended by {dict(why)}")
    print(f"  {report['cpu']:.2f} cores; CPU-s a minute of speech {cpu_s / minutes:.2f}, asks {asking_s / minutes:.2f}")
    print(f"  asks: {outcomes}; answered after {waited_s:.3f} s on average")
    print(
        f"  finals {p50:.3f} / {p95:.3f} s after the decision (p50 / p95); loop lag p99 {report['loop_lag_p99_s']:g} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=1)
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
        print(f"{args.sessions} sessions, {args.duration:g} s each")
        for policy in POLICIES[: 3 if args.sessions == 1 else 2]:
            asyncio.run(run(scripts, url, args.sessions, policy, args.duration))
    finally:
        server.terminate()
        server.wait(60)
        logs.wait()


if __name__ == "__main__":
    main()
