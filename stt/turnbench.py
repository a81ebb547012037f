"""When a server ends turns, live: false cut-offs in people's pauses against the latency of their ends.

A benchmark is a directory with `turns.jsonl` (a turn a line: id, group, pauses with start, dur, final, scored, in
seconds) and a recording of each turn, `ID.opus`. Its last pause is the end of what somebody had to say; the others are
to be waited through. Unit and metrics are those of livekit/eot-bench: pauses of 0.2 to 5 s count, and an end that did
not come within 4 s counts as 4 s. Each turn is a session of its own, spoken at the pace of speech, so that detector,
network and whatever the server waits for are in the figures. `WIRES` has what the server may speak.
"""

import asyncio
import base64
import contextlib
import json
import math
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import numpy as np
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from stt.audio import SAMPLE_RATE, Samples, samples, to_pcm16
from stt.client import authorization, session_url
from stt.errors import RemoteError, SettingsError
from stt.server.access import is_loopback
from stt.server.dialects.native import PATH
from stt.sources import FileSource

_AFTER_S: Final = 4.5  # of silence behind each turn, at most: nothing is said once it was taken for the end
_LATEST_S: Final = 4.0
_PIECE_S: Final = 0.02
_THERE_S: Final = 0.06  # two frames of the detector: a final that comes sooner had not to be made yet
_HOLDS_S: Final = (0.2, 5.0)
_RESAMPLES: Final = 1_000


@dataclass(frozen=True, slots=True)
class Wire:
    """How one kind of server is spoken to."""

    query: Mapping[str, str]
    over: Callable[[dict[str, Any]], bool]
    """Whether a message says that the turn is over."""
    opening: tuple[str, ...] = ()
    """What is sent first."""
    rate: int = SAMPLE_RATE
    audio: Callable[[bytes], str | bytes] = bytes
    """Makes a message of PCM16."""
    decided: Callable[[dict[str, Any]], float | None] = lambda _: None
    """When a turn that is over was found to be so, in seconds of audio; `None`: it is not told."""


def _append(pcm: bytes) -> str:
    return json.dumps({"type": "input_audio_buffer.append", "audio": base64.b64encode(pcm).decode()})


_RAW: Final = {"encoding": "linear16", "sample_rate": str(SAMPLE_RATE)}
_SEMANTIC: Final = {
    "type": "transcription",
    "audio": {
        "input": {
            "format": {"type": "audio/pcm", "rate": 24_000},
            "transcription": {"model": "gpt-4o-transcribe"},
            "turn_detection": {"type": "semantic_vad"},
        }
    },
}
WIRES: Final = {
    PATH: Wire(
        {"events": "1", "sample_rate": str(SAMPLE_RATE)},
        lambda m: bool(m.get("isEndOfTurn")),
        decided=lambda m: m.get("decided"),
    ),
    "/v2/listen": Wire({"model": "flux-general-en", **_RAW}, lambda m: m.get("event") == "EndOfTurn"),
    "/v1/listen": Wire({"interim_results": "true", **_RAW}, lambda m: bool(m.get("speech_final"))),
    "/v1/realtime": Wire(
        {"intent": "transcription"},
        lambda m: m.get("type") == "input_audio_buffer.committed",
        (json.dumps({"type": "session.update", "session": _SEMANTIC}),),
        24_000,
        _append,
    ),
}
"""By the path of the URL."""


@dataclass(frozen=True, slots=True)
class Pause:
    start_s: float
    duration_s: float
    final: bool
    scored: bool


@dataclass(frozen=True, slots=True)
class Spoken:
    """A turn of the benchmark."""

    id: str
    group: str
    """Who speaks; what belongs together in resampling."""
    pauses: tuple[Pause, ...]
    audio: Samples


@dataclass(slots=True)
class Score:
    """What a server made of them."""

    turns: list[Spoken]
    fired: dict[str, list[float | None]] = field(default_factory=dict)
    """For each pause of a turn, how long after its beginning the turn was ended in it; `None`: it was not."""
    behind_s: list[float] = field(default_factory=list)
    """How long after a decision its final came, where the server tells when that was."""

    def take(self, turn: Spoken, ends_s: Sequence[float]) -> None:
        """Add when a turn was said to be over, in seconds of its recording."""
        until = [p.start_s + (_AFTER_S if p.final else p.duration_s) for p in turn.pauses]
        self.fired[turn.id] = [
            next((end - p.start_s for end in ends_s if p.start_s < end <= last), None)
            for p, last in zip(turn.pauses, until, strict=True)
        ]

    def traces(self) -> str:
        """Write what was done in each pause, a turn a line, as the benchmark's own tool reads it."""
        lines = []
        for turn in self.turns:
            pauses = [
                {"start": p.start_s, "dur": p.duration_s, "final": p.final, "scored": p.scored, "fire": fire}
                for p, fire in zip(turn.pauses, self.fired[turn.id], strict=True)
            ]
            lines.append(json.dumps({"id": turn.id, "group": turn.group, "pauses": pauses}) + "\n")
        return "".join(lines)

    def figures(self) -> dict[str, Any]:
        """Return false cut-offs, turns with one, and latencies, with 95 % intervals from resampling groups."""
        rows = [
            (turn.group, turn.id, pause.final, fire)
            for turn in self.turns
            for pause, fire in zip(turn.pauses, self.fired[turn.id], strict=True)
            if pause.scored and (pause.final or _HOLDS_S[0] <= pause.duration_s <= _HOLDS_S[1])
        ]
        final = np.array([row[2] for row in rows], bool)
        cut = np.array([row[3] is not None for row in rows], float)
        latency = np.array([_LATEST_S if row[3] is None else min(row[3], _LATEST_S) for row in rows])
        names = list(dict.fromkeys(row[0] for row in rows))
        group = np.array([names.index(row[0]) for row in rows])

        def rates(weight: np.ndarray) -> tuple[float, float]:
            holds, ends = weight * ~final, weight * final
            return float(holds @ cut / max(holds.sum(), 1e-9)), float(ends @ latency / max(ends.sum(), 1e-9))

        rng = np.random.default_rng(1)
        drawn = [
            rates(np.bincount(rng.integers(0, len(names), len(names)), minlength=len(names))[group].astype(float))
            for _ in range(_RESAMPLES)
        ]
        low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
        cut_off, mean_s = rates(np.ones(len(rows)))
        hurt = {row[1] for row in rows if not row[2] and row[3] is not None}
        ends = latency[final]
        return {
            "turns": len(self.turns),
            "holds": int((~final).sum()),
            "cut_off": round(cut_off, 4),
            "cut_off_95": [round(float(low[0]), 4), round(float(high[0]), 4)],
            "turns_cut_off": round(len(hurt) / max(len(self.turns), 1), 4),
            "latency_s": round(mean_s, 4),
            "latency_s_95": [round(float(low[1]), 4), round(float(high[1]), 4)],
            **{f"latency_s_p{q}": round(float(np.percentile(ends, q)), 4) for q in (50, 90) if len(ends)},
            "not_ended": int((1 - cut[final]).sum()),
            **self._behind(),
        }

    def _behind(self) -> dict[str, Any]:
        if not self.behind_s:
            return {}
        found = {f"final_s_p{q}": round(float(np.percentile(self.behind_s, q)), 4) for q in (50, 95)}
        return {
            "finals": len(self.behind_s),
            "finals_there": round(float(np.mean(np.array(self.behind_s) <= _THERE_S)), 4),
        } | found


async def read(directory: Path) -> list[Spoken]:
    """Read a benchmark.

    Raises:
        SettingsError: it has no `turns.jsonl`, or that cannot be understood.
        AudioError: a recording cannot be read.

    """
    path, turns = directory / "turns.jsonl", []
    try:
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]
        for row in rows:
            pauses = tuple(
                Pause(float(p["start"]), float(p["dur"]), bool(p["final"]), bool(p.get("scored", True)))
                for p in row["pauses"]
            )
            with FileSource(str(directory / f"{row['id']}.opus")) as source:
                audio = np.concatenate([piece async for piece in source])
            turns.append(Spoken(row["id"], str(row.get("group", row["id"])), pauses, audio))
    except OSError as error:
        msg = f"--turns: expected a directory with turns.jsonl, got {directory} ({error.strerror or error})"
        raise SettingsError(msg) from None
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, SettingsError):
            raise
        msg = f"{path}: expected a turn a line, with id and pauses, got what lacks it: {type(error).__name__}: {error}"
        raise SettingsError(msg) from None
    if not turns:
        msg = f"{path}: expected turns, got none"
        raise SettingsError(msg)
    return turns


def wire_of(url: str) -> tuple[Wire, str]:
    """Return how to speak to a server, and its whole URL; what stands in the query of the URL wins.

    Raises:
        SettingsError: it is not the URL of a WebSocket.

    """
    parts = urlsplit(session_url(url, {}))
    wire = WIRES.get(parts.path, WIRES[PATH])
    query = {**wire.query, **dict(parse_qsl(parts.query, keep_blank_values=True))}
    return wire, urlunsplit((parts.scheme, parts.netloc, parts.path, urlencode(query), ""))


async def score(
    turns: Sequence[Spoken],
    url: str,
    *,
    sessions: int = 1,
    api_key: str | None = None,
    tls: ssl.SSLContext | None = None,
    speed: float = 1.0,
    say: Callable[[str], None] = lambda _: None,
) -> Score:
    """Speak all turns to a server, so many at a time, at the pace of speech.

    Raises:
        RemoteError: the server cannot be reached, refuses, or breaks off.
        SettingsError: the URL or the key cannot be used.

    """
    wire, url = wire_of(url)
    found, room = Score(list(turns)), asyncio.Semaphore(sessions)
    options: dict[str, Any] = {"additional_headers": authorization(api_key), "compression": None, "max_size": 16 << 20}
    if tls is not None and url.startswith("wss"):
        options["ssl"] = tls
    if is_loopback(urlsplit(url).hostname or ""):
        options["proxy"] = None

    async def one(turn: Spoken) -> None:
        async with room:
            ends_s, behind_s = await _speak(turn, url, wire, options, speed)
            found.take(turn, ends_s)
            found.behind_s += behind_s
        say(f"{len(found.fired)} of {len(turns)} turns")

    try:
        async with asyncio.TaskGroup() as tasks:
            for turn in turns:
                tasks.create_task(one(turn))
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None
    return found


def spread(turns: Sequence[Spoken], count: int | None) -> list[Spoken]:
    """Choose so many turns, evenly spread over all; `None`, or more than there are: all."""
    count = min(count or len(turns), len(turns))
    return [turns[at * len(turns) // count] for at in range(count)]


async def _speak(
    turn: Spoken, url: str, wire: Wire, options: Mapping[str, Any], speed: float
) -> tuple[list[float], list[float]]:
    """Return when the server said that a turn is over, in seconds of the recording, and how long after deciding so."""
    clock = asyncio.get_running_loop().time
    ends: list[float] = []
    behind: list[float] = []
    sent: list[float] = []
    last_s = max((p.start_s for p in turn.pauses if p.final), default=float("inf"))
    audio = np.concatenate((turn.audio, np.zeros(samples(_AFTER_S), np.float32)))
    if wire.rate != SAMPLE_RATE:
        size = len(audio) * wire.rate // SAMPLE_RATE
        audio = np.fft.irfft(np.fft.rfft(audio), size).astype(np.float32) * (size / len(audio))
    pcm, size = to_pcm16(audio), 2 * round(_PIECE_S * wire.rate)
    try:
        async with connect(url, **options) as websocket:
            for message in wire.opening:
                await websocket.send(message)
            began = clock()

            async def listen() -> None:
                async for text in websocket:
                    message = json.loads(text)
                    if isinstance(message, dict) and wire.over(message):
                        now = clock()
                        ends.append((now - began) * speed)
                        if (decided_s := wire.decided(message)) is not None:
                            piece = min(math.ceil(decided_s / _PIECE_S - 1e-6), len(sent)) - 1
                            behind.append((now - sent[piece]) * speed)

            listening = asyncio.create_task(listen())
            for at in range(0, len(pcm), size):
                if ends and ends[-1] > last_s:
                    break
                # A piece is there once its last sample was spoken.
                await asyncio.sleep(began + (at + size) / 2 / wire.rate / speed - clock())
                sent.append(clock())
                await websocket.send(wire.audio(pcm[at : at + size]))
            listening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await listening
    except InvalidStatus as refused:
        body = (refused.response.body or b"")[:300].decode(errors="replace")
        raise RemoteError(f"{url}: refused with HTTP {refused.response.status_code}: {body}") from None
    except ConnectionClosed as closed:
        raise RemoteError(f"{url}: the connection was lost: {closed}") from None
    except (OSError, WebSocketException, ValueError) as error:
        raise RemoteError(f"{url}: {error}") from error
    return ends, behind
