"""Does a long upload hold up those who speak live? Finals of live sessions without it and beside it, and its text.

    python benchmarks/upload_beside_live.py [--minutes 120] [--sessions 2] [--seconds 60]

`stt serve` in a process of its own, with its embedded engine. The recording repeats spoken sentences, and its text must
have all their words. How late a final is: from the end of its turn, on the clock of the audio, to its arrival.
"""

import argparse
import asyncio
import io
import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import soundfile
from websockets.asyncio.client import connect

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from spoken import sentences, silence, talk, word_errors
from stt.audio import SAMPLE_RATE, to_pcm16

GAP_S = 1.5  # the server's end of a turn
FRAME_S = 0.02
TEXTS = sentences(6, 1)


def recording(minutes: float) -> tuple[bytes, str]:
    """Make a FLAC file of so many minutes, and the text in it."""
    once = talk(TEXTS, [2.0] * len(TEXTS))
    times = max(1, round(minutes * 60 * SAMPLE_RATE / len(once)))
    pcm = (np.clip(once, -1, 1) * 32767).astype(np.int16)
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", SAMPLE_RATE, 1, format="FLAC", subtype="PCM_16") as file:
        for _ in range(times):
            file.write(pcm)
    return buffer.getvalue(), " ".join(TEXTS * times)


async def speak(port: int, seed: int, until: asyncio.Event) -> list[float]:
    """Speak turn after turn, in real time; return how late their finals were, in seconds."""
    late, turn = [], 0
    async with connect(f"ws://127.0.0.1:{port}/ws/transcribe?interim_results=1", compression=None) as websocket:
        while not until.is_set():
            audio = np.concatenate([talk(sentences(1, seed + turn), [GAP_S + 0.1], seed=seed), silence(0.4)])
            turn += 1
            pcm, size = to_pcm16(audio), round(FRAME_S * SAMPLE_RATE) * 2
            began = time.monotonic()
            answer = asyncio.create_task(final(websocket))
            for i, at in enumerate(range(0, len(pcm), size)):
                await websocket.send(pcm[at : at + size])
                await asyncio.sleep(max(0.0, began + (i + 1) * FRAME_S - time.monotonic()))
            decided = began + (len(audio) / SAMPLE_RATE - 0.5)  # 0.1 s and the silence after it before the end
            async with asyncio.timeout(60):
                late.append(await answer - decided)
    return late


async def final(websocket: object) -> float:
    """Wait for a final; return when it came."""
    while not json.loads(await websocket.recv()).get("isFinal"):
        pass
    return time.monotonic()


async def upload(port: int, file: bytes) -> tuple[str, float]:
    """Send a file; return its text, and how long that took."""
    began = time.monotonic()
    async with httpx.AsyncClient(timeout=None) as client:  # an hour of speech takes minutes
        url = f"http://127.0.0.1:{port}/v1/audio/transcriptions"
        answer = await client.post(url, files={"file": ("talk.flac", file)}, data={"model": "whisper-1"})
    answer.raise_for_status()
    return answer.json()["text"], time.monotonic() - began


async def live(port: int, sessions: int, until: asyncio.Event) -> list[float]:
    """Return the latencies of all who speak."""
    return [
        one for all_ in await asyncio.gather(*(speak(port, 100 * i, until) for i in range(sessions))) for one in all_
    ]


async def measure(port: int, options: argparse.Namespace) -> None:
    """Print latencies without the upload and beside it, and whether its text is complete."""
    file, text = recording(options.minutes)
    over = asyncio.Event()
    asyncio.get_running_loop().call_later(options.seconds, over.set)
    alone = await live(port, options.sessions, over)
    over = asyncio.Event()
    speaking = asyncio.create_task(live(port, options.sessions, over))
    heard, took_s = await upload(port, file)
    over.set()
    beside = await speaking
    p95 = [float(np.percentile(late, 95)) for late in (alone, beside)]
    errors, words = word_errors(text, heard)
    for name, late in (("alone", alone), ("beside the upload", beside)):
        print(f"{name}: {len(late)} finals late by p50 {np.median(late):.2f} s, p95 {np.percentile(late, 95):.2f} s")
    print(f"p95 beside - alone: {p95[1] - p95[0]:+.2f} s (at most 0.50)")
    print(f"{options.minutes:g} minutes in {took_s:.0f} s; {errors} of {words} words wrong")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--sessions", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=60, help="of live speech without the upload")
    options = parser.parse_args()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "stt.cli", "serve", "--port", str(port)], stderr=subprocess.DEVNULL
    )
    try:
        while True:
            try:
                if httpx.get(f"http://127.0.0.1:{port}/ready").status_code == 200:
                    break
            except httpx.TransportError:
                pass
            time.sleep(0.2)
        asyncio.run(measure(port, options))
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
