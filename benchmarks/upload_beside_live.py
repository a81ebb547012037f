"""Does a long upload hold up those who speak live? Finals of live sessions without it and beside it, and its text.

    python benchmarks/upload_beside_live.py [--minutes 30] [--sessions 2] [--seconds 60] [--deadline 900]

`stt serve` in a process of its own, with its embedded engine. The recording repeats spoken sentences, and its text
must have all their words. How late a final is: from the end of its turn, on the clock of the audio, to its arrival.
The upload is streamed, so that standard error can tell how far it is; two hours are `--minutes 120`. What is not there
by the deadline ends the run: with the figures there are, and status 1. What memory the server takes must not grow with
the length of the recording: it is told every 15 s, and the most of it at the end.
"""

import argparse
import asyncio
import contextlib
import io
import itertools
import json
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import numpy as np
import soundfile
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "clients"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from served import stt_serve

from spoken import sentences, silence, talk, word_errors
from stt.audio import SAMPLE_RATE, to_pcm16

GAP_S = 1.5  # the server's end of a turn
FRAME_S = 0.02
# A turn that has no final by then has failed: it is told, and counts with this much.
LOST_S = 30.0
PROGRESS_S = 15.0
TURNS = 6
"""Of each who speaks, again and again."""
TEXTS = sentences(6, 1)


def recording(minutes: float) -> tuple[bytes, str, float]:
    """Make a FLAC file of so many minutes, the text in it, and its length in seconds."""
    once = talk(TEXTS, [2.0] * len(TEXTS))
    times = max(1, round(minutes * 60 * SAMPLE_RATE / len(once)))
    pcm = (np.clip(once, -1, 1) * 32767).astype(np.int16)
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", SAMPLE_RATE, 1, format="FLAC", subtype="PCM_16") as file:
        for _ in range(times):
            file.write(pcm)
    return buffer.getvalue(), " ".join(TEXTS * times), times * len(once) / SAMPLE_RATE


class Speaker:
    """Speaks turn after turn, in real time, and notes how late each final is, in seconds."""

    def __init__(self, host: str, seed: int) -> None:
        self._url = f"ws://{host}/ws/transcribe?interim_results=1"
        # Spoken beforehand: the voice takes time of its own, which nobody here may be late for.
        texts = sentences(TURNS, seed)
        self._turns = [
            to_pcm16(np.concatenate([talk([text], [GAP_S + 0.1], seed=seed), silence(0.4)])) for text in texts
        ]
        self.late: list[float] = []
        self.lost = 0

    async def speak(self, until: asyncio.Event) -> None:
        """Go on until told to stop, at the end of a turn."""
        turns = itertools.cycle(self._turns)
        while not until.is_set():
            try:
                async with connect(self._url, compression=None, ping_interval=None) as websocket:
                    while not until.is_set():
                        await self._turn(websocket, next(turns))
            except (TimeoutError, OSError, WebSocketException) as error:  # the next turn has a connection of its own
                self.lost += 1
                self.late.append(LOST_S)
                print(f"a live turn was lost: {type(error).__name__} {error}", file=sys.stderr)
                await asyncio.sleep(1)

    async def _turn(self, websocket: ClientConnection, pcm: bytes) -> None:
        size = round(FRAME_S * SAMPLE_RATE) * 2
        began = time.monotonic()
        answer = asyncio.create_task(final(websocket))
        try:
            for i, at in enumerate(range(0, len(pcm), size)):
                await websocket.send(pcm[at : at + size])
                await asyncio.sleep(max(0.0, began + (i + 1) * FRAME_S - time.monotonic()))
            async with asyncio.timeout(LOST_S):
                came = await answer
        finally:
            answer.cancel()
        decided = began + len(pcm) / (2 * SAMPLE_RATE) - 0.5  # 0.1 s and the silence after it before the end
        self.late.append(came - decided)


async def final(websocket: ClientConnection) -> float:
    """Wait for a final; return when it came."""
    while not json.loads(await websocket.recv()).get("isFinal"):
        pass
    return time.monotonic()


class Upload:
    """A file that is sent whole, and its text as it comes."""

    def __init__(self) -> None:
        self.text = ""
        self.done = False
        self.problem = "it broke off"
        """Why it is not done."""
        self.took_s = 0.0

    async def run(self, host: str, file: bytes) -> None:
        """Send it, and take the text turn by turn (server-sent events)."""
        try:
            await self._run(host, file)
        except httpx.HTTPError as error:
            self.problem = f"{type(error).__name__} {error}"

    async def _run(self, host: str, file: bytes) -> None:
        began = time.monotonic()
        data = {"model": "whisper-1", "stream": "true"}
        patience = httpx.Timeout(60, read=300)
        async with (
            httpx.AsyncClient(timeout=patience) as client,
            client.stream(
                "POST", f"http://{host}/v1/audio/transcriptions", files={"file": ("talk.flac", file)}, data=data
            ) as answer,
        ):
            answer.raise_for_status()
            async for line in answer.aiter_lines():
                if line.startswith("data:"):
                    self._take(json.loads(line[5:]))
        self.took_s = time.monotonic() - began

    def _take(self, event: dict[str, str]) -> None:
        match event:
            case {"type": "transcript.text.delta", "delta": new}:
                self.text += new
            case {"type": "transcript.text.done", "text": whole}:
                self.done, self.text = True, whole
            case {"error": wrong}:
                self.problem = str(wrong)


@contextlib.asynccontextmanager
async def speaking(host: str, sessions: int) -> AsyncIterator[list[Speaker]]:
    """Let so many people speak, until the end of the block and of the turns they are in."""
    over = asyncio.Event()
    speakers = [await asyncio.to_thread(Speaker, host, 100 * i) for i in range(sessions)]
    async with asyncio.TaskGroup() as tasks:
        for speaker in speakers:
            tasks.create_task(speaker.speak(over))
        try:
            yield speakers
        finally:
            over.set()


async def memory_mb(host: str) -> int:
    """Ask the server what it takes."""
    async with httpx.AsyncClient(timeout=60) as client:
        told = (await client.get(f"http://{host}/metrics")).text
    (line,) = [line for line in told.splitlines() if line.startswith("process_resident_memory_bytes ")]
    return round(float(line.split()[1]) / 1e6)


async def watch(host: str, upload: Upload, words: int, speakers: list[Speaker], taken_mb: list[int]) -> None:
    """Tell every now and then how far it is."""
    began = time.monotonic()
    while True:
        await asyncio.sleep(PROGRESS_S)
        with contextlib.suppress(httpx.HTTPError):
            taken_mb.append(await memory_mb(host))
        finals, heard = sum(len(speaker.late) for speaker in speakers), len(upload.text.split())
        told = f"{time.monotonic() - began:.0f} s: {heard} of {words} words, {finals} live finals, {taken_mb[-1]} MB"
        print(told, file=sys.stderr, flush=True)


async def measure(host: str, options: argparse.Namespace) -> bool:
    """Print latencies without the upload and beside it, and whether its text is complete."""
    file, text, duration_s = recording(options.minutes)
    words, upload = len(text.split()), Upload()
    async with speaking(host, options.sessions) as alone:
        await asyncio.sleep(options.seconds)
    taken_mb = [await memory_mb(host)]
    async with speaking(host, options.sessions) as beside:
        watching = asyncio.create_task(watch(host, upload, words, beside, taken_mb))
        try:
            async with asyncio.timeout(options.deadline - options.seconds):
                await upload.run(host, file)
        except TimeoutError:
            upload.problem = f"the deadline of {options.deadline:g} s came"
        finally:
            watching.cancel()
    p95: list[float] = []
    for name, speakers in (("alone", alone), ("beside the upload", beside)):
        late = [one for speaker in speakers for one in speaker.late]
        p95.append(float(np.percentile(late, 95)))
        lost = sum(speaker.lost for speaker in speakers)
        told = f"p50 {np.median(late):.2f} s, p95 {p95[-1]:.2f} s{f', {lost} lost' if lost else ''}"
        print(f"{name}: {len(late)} finals late by {told}")
    print(f"p95 beside - alone: {p95[1] - p95[0]:+.2f} s (at most 0.50)")
    print(f"memory of the server: {taken_mb[0]} MB before the upload, at most {max(taken_mb)} MB beside it")
    if upload.done:
        errors, count = word_errors(text, upload.text)
        pace = duration_s / upload.took_s
        print(f"{duration_s / 60:.1f} minutes in {upload.took_s:.0f} s ({pace:.1f} x real time)", end="; ")
        print(f"{errors} of {count} words wrong")
    else:
        print(f"the upload is not done: {upload.problem}; {len(upload.text.split())} of {words} words")
    return upload.done


async def main() -> bool:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30, help="length of the recording")
    parser.add_argument("--sessions", type=int, default=2, help="that speak live")
    parser.add_argument("--seconds", type=float, default=60, help="of live speech without the upload")
    parser.add_argument("--deadline", type=float, default=900, help="seconds that all of it may take")
    options = parser.parse_args()
    async with stt_serve() as host:
        return await measure(host, options)


if __name__ == "__main__":
    sys.exit(0 if asyncio.run(main()) else 1)
