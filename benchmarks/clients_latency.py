"""How soon voice agents that speak Deepgram's protocols have a final, with the embedded engine and turns of 5 s.

Figures, with `stt serve` on this machine and audio at the pace of speech:

- version 1: from a `Finalize`, 0.2 s after speech, to its one answer;
- Flux: from the moment at which the silence was long enough (by the audio that had been sent) to `EndOfTurn`;
- with `--pipecat` (the extra `clients`): pipecat's time to the final segment (TTFS), with its services for both: as
  pipecat's own metrics tell it, and from the end of the sound that was sent to the TranscriptionFrame that ends the
  user's turn. pipecat measures from where its detector heard the end; for Flux it does so only because that detector
  runs beside it here. Flux waits for 0.8 s of silence in it.

Run: python benchmarks/clients_latency.py [--turns 10] [--pipecat]
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
from websockets.asyncio.client import ClientConnection, connect

from _common import sentences, talk

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "clients"))
from served import stt_serve

_RATE = 16_000
_TURN_S, _PAUSE_S, _FRAME_S, _STOP_S = 5.0, 2.0, 0.02, 0.2
_OPTIONS = "encoding=linear16&sample_rate=16000"


def _turns(count: int) -> np.ndarray:
    """Speech of 5 s and 2 s of silence, again and again."""
    size = round(_TURN_S * _RATE)
    spoken = [talk(sentences(2, seed), [0.05, 2.0], lead_s=0.0, seed=seed)[:size] for seed in range(count)]
    return np.concatenate([np.concatenate([turn, np.zeros(round(_PAUSE_S * _RATE), np.float32)]) for turn in spoken])


async def _spoken(websocket: ClientConnection, audio: np.ndarray) -> AsyncIterator[float]:
    """Send audio at the pace of speech; yields how many seconds were sent."""
    size = round(_FRAME_S * _RATE)
    began = time.monotonic()
    for at in range(0, len(audio), size):
        await websocket.send((audio[at : at + size] * 32767).astype("<i2").tobytes())
        yield (at + size) / _RATE
        await asyncio.sleep(max(0.0, began + (at + size) / _RATE - time.monotonic()))


async def _finalize(host: str, audio: np.ndarray) -> list[float]:
    asked: list[float] = []
    late: list[float] = []

    async def listen(websocket: ClientConnection) -> None:
        async for frame in websocket:
            if json.loads(frame).get("from_finalize"):
                late.append(time.monotonic() - asked[len(late)])

    async with connect(f"ws://{host}/v1/listen?{_OPTIONS}&interim_results=true", compression=None) as websocket:
        listening = asyncio.create_task(listen(websocket))
        async for sent_s in _spoken(websocket, audio):
            if sent_s % (_TURN_S + _PAUSE_S) >= _TURN_S + _STOP_S and len(asked) <= sent_s // (_TURN_S + _PAUSE_S):
                asked.append(time.monotonic())
                await websocket.send('{"type":"Finalize"}')
        await websocket.send('{"type":"CloseStream"}')
        await listening
    return late


async def _flux(host: str, audio: np.ndarray) -> list[float]:
    sent: list[tuple[float, float]] = []
    late: list[float] = []

    async def listen(websocket: ClientConnection) -> None:
        async for frame in websocket:
            message = json.loads(frame)
            if message.get("trigger") == "model":
                decided = message["audio_window_end"]
                late.append(time.monotonic() - next(at for sent_s, at in sent if sent_s >= decided - 1e-6))

    async with connect(f"ws://{host}/v2/listen?{_OPTIONS}", compression=None) as websocket:
        listening = asyncio.create_task(listen(websocket))
        async for sent_s in _spoken(websocket, audio):
            sent.append((sent_s, time.monotonic()))
        await websocket.send('{"type":"CloseStream"}')
        await listening
    return late


async def _pipecat(host: str, audio: np.ndarray) -> dict[str, list[float]]:
    from loguru import logger
    from pipecat.audio.vad.silero import SileroVADAnalyzer
    from pipecat.frames.frames import TranscriptionFrame
    from pipecat.processors.audio.vad_processor import VADProcessor
    from pipecat.services.deepgram.flux.stt import DeepgramFluxSTTService
    from pipecat.services.deepgram.stt import DeepgramSTTService
    from pipecat_run import hear, ttfs

    logger.remove()
    services: dict[str, list[Any]] = {
        "version 1": [
            VADProcessor(vad_analyzer=SileroVADAnalyzer()),
            DeepgramSTTService(api_key="none", base_url=f"ws://{host}"),
        ],
        "Flux": [
            VADProcessor(vad_analyzer=SileroVADAnalyzer()),
            DeepgramFluxSTTService(api_key="none", url=f"ws://{host}/v2/listen"),
        ],
    }
    found: dict[str, list[float]] = {}
    for name, processors in services.items():
        arrived = await hear(processors, audio, lambda _: True)
        # Of each turn the last one counts: the speech of each ends 5 s after it began.
        last = {
            int(one.at_s // (_TURN_S + _PAUSE_S)): one.at_s % (_TURN_S + _PAUSE_S) - _TURN_S
            for one in arrived
            if isinstance(one.frame, TranscriptionFrame) and one.frame.finalized
        }
        found[f"pipecat's TTFS by its own metrics, {name}"] = ttfs(arrived)
        found[f"end of the sound to pipecat's final frame, {name}"] = list(last.values())
    return found


def _line(name: str, figures: list[float]) -> str:
    if not figures:
        return f"{name}: nothing was measured"
    p50, p95 = np.percentile(figures, [50, 95])
    return f"{name}: {len(figures)} turns, p50 {p50 * 1000:.0f} ms, p95 {p95 * 1000:.0f} ms"


async def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--pipecat", action="store_true")
    args = parser.parse_args()
    audio = _turns(args.turns)
    async with stt_serve() as host:
        print(_line("version 1, Finalize to its answer", await _finalize(host, audio)))
        print(_line("Flux, decision to EndOfTurn", await _flux(host, audio)))
        if args.pipecat:
            for name, figures in (await _pipecat(host, audio)).items():
                print(_line(name, figures))


if __name__ == "__main__":
    asyncio.run(_main())
