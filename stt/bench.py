"""Load for a server: live sessions at the pace of speech, from one process that costs little itself.

Frames are encoded before the run and written as they are; only what comes back is parsed. A run is compared with one
session that sent the same audio as fast as it was taken, which is what `stt file` does.
"""

import asyncio
import base64
import json
import re
import socket
import ssl
import time
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import numpy as np
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.uri import parse_uri

from stt.audio import SAMPLE_RATE, Samples, to_pcm16
from stt.client import authorization, session_url
from stt.clock import samples, seconds
from stt.errors import RemoteError
from stt.outputs import clock
from stt.server.access import is_loopback

_PAUSE_S: Final = 2.0  # between the files of a session
_SLOTS: Final = 10  # in which sessions take turns within the time of a frame
_STAGGER: Final = 3  # frames between the beginnings of two sessions
_EVENTS: Final = {"events": "1", "sample_rate": "16000", "channels": "1"}  # whatever the URL says: the scripts are so
_SAY_EVERY_S: Final = 10.0
_LAST_S: Final = 300.0  # for the finals after the last audio: a server far behind is measured too


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn as the reference run heard it."""

    start: int
    end: int
    decided: int
    """When it was over: the audio up to here had to be heard for that."""
    text: str


@dataclass(slots=True)
class Script:
    """What a session says, ready to be sent."""

    audio: Samples
    frames: list[bytes]
    frame: int
    """Samples per frame."""
    turns: list[Turn] = field(default_factory=list)


def script(clips: Sequence[Samples], duration_s: float, frame_ms: int, *, binary: bool) -> Script:
    """Join clips, with pauses, over and over, until they last `duration_s` (or all were said once), and encode them."""
    pause = np.zeros(round(_PAUSE_S * SAMPLE_RATE), np.float32)
    parts: list[Samples] = []
    while not parts or sum(map(len, parts)) < duration_s * SAMPLE_RATE:
        for clip in clips:
            parts += [clip, pause]
    audio = np.concatenate(parts)
    size = SAMPLE_RATE * frame_ms // 1000
    pcm = to_pcm16(audio[: len(audio) // size * size])
    return Script(audio, [encode(pcm[at : at + 2 * size], binary=binary) for at in range(0, len(pcm), 2 * size)], size)


def encode(pcm: bytes, *, binary: bool) -> bytes:
    """Write one message of audio as a WebSocket frame of a client; its mask is zero, which costs nothing to apply."""
    if binary:
        return Frame(Opcode.BINARY, pcm).serialize(mask=False)[:1] + _length(len(pcm)) + bytes(4) + pcm
    text = json.dumps(
        {"samples": base64.b64encode(pcm).decode(), "sampleRate": SAMPLE_RATE, "channels": 1}, separators=(",", ":")
    ).encode()
    return Frame(Opcode.TEXT, text).serialize(mask=False)[:1] + _length(len(text)) + bytes(4) + text


def _length(size: int) -> bytes:
    if size < 126:
        return bytes((0x80 | size,))
    return bytes((0x80 | 126,)) + size.to_bytes(2, "big") if size < 65536 else b"\xff" + size.to_bytes(8, "big")


class LoadSession(asyncio.Protocol):
    """One connection: `send` what the script says, note when each message came back."""

    def __init__(self, script: Script, url: str, headers: dict[str, str]) -> None:
        self.script = script
        self.sent = np.zeros(len(script.frames))
        """When each frame was written, on the event loop's clock."""
        self.messages: list[tuple[float, dict[str, Any]]] = []
        self.closed: asyncio.Future[tuple[int | None, str]] = asyncio.get_running_loop().create_future()
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.writable = asyncio.Event()
        self.writable.set()
        self._clock = asyncio.get_running_loop().time
        self._protocol = ClientProtocol(parse_uri(url), max_size=4 << 20)
        self._headers = headers
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        request = self._protocol.connect()
        for name, value in self._headers.items():
            request.headers[name] = value
        self._protocol.send_request(request)
        self._flush()

    def data_received(self, data: bytes) -> None:
        self._protocol.receive_data(data)
        now = self._clock()
        for event in self._protocol.events_received():
            if isinstance(event, Response):
                if event.status_code != 101:
                    self._fail(f"refused with HTTP {event.status_code}: {(event.body or b'').decode(errors='replace')}")
                elif not self.opened.done():
                    self.opened.set_result(None)
            elif isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                self.messages.append((now, json.loads(bytes(event.data))))
        self._flush()
        if self._protocol.close_expected():
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.receive_eof()
        if self._protocol.handshake_exc is not None:
            self._fail(str(self._protocol.handshake_exc))
        self._fail("the connection was lost")
        self.writable.set()
        if not self.closed.done():
            self.closed.set_result((self._protocol.close_code, self._protocol.close_reason or str(exc or "")))

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def send(self, index: int) -> None:
        """Write one frame."""
        self.sent[index] = self._clock()
        self._transport.write(self.script.frames[index])

    def finish(self) -> None:
        """Say that all is said."""
        if not self.closed.done():
            self._protocol.send_text(b'{"type":"finish"}')
            self._flush()

    def vanish(self) -> None:
        """Break the connection off, without a word."""
        self._transport.abort()

    def hang(self) -> None:
        """Read no more, and let the system read little."""
        self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._transport.pause_reading()

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self._transport.write(data)

    def _fail(self, why: str) -> None:
        if not self.opened.done():
            self.opened.set_exception(RemoteError(why))


async def open_session(
    script: Script, url: str, api_key: str | None = None, tls: ssl.SSLContext | None = None
) -> LoadSession:
    """Connect.

    Raises:
        RemoteError: the server cannot be reached, or refuses.
        SettingsError: the key cannot be sent.

    """
    parts, headers = urlsplit(url), authorization(api_key)
    loop = asyncio.get_running_loop()
    try:
        _, session = await loop.create_connection(
            lambda: LoadSession(script, url, headers),
            parts.hostname or "",
            parts.port or (443 if parts.scheme == "wss" else 80),
            ssl=(tls or True) if parts.scheme == "wss" else None,
        )
    except OSError as error:
        hint = "; is `stt serve` running?" if is_loopback(parts.hostname or "") else ""
        raise RemoteError(f"cannot connect to {url.partition('?')[0]}: {error}{hint}") from error
    await session.opened
    return session


async def hurry(session: LoadSession) -> None:
    """Say the whole script as fast as the server takes it, and wait until it has sent the last final."""
    for i in range(len(session.script.frames)):
        await session.writable.wait()
        if session.closed.done():
            break
        session.send(i)
    session.finish()
    await session.closed


async def speak(sessions: Sequence[LoadSession], say: Callable[[str], None] = lambda _: None) -> None:
    """Let all sessions speak in real time, not in step, and wait, not for ever, until the last finals have come.

    `say` gets a line now and then about how far they are.

    One task for all: a timer for each frame of each session would cost more than what is measured.
    """
    time_of = asyncio.get_running_loop().time
    slots = [sessions[i::_SLOTS] for i in range(_SLOTS)]
    offset = {session: i * _STAGGER for i, session in enumerate(sessions)}
    last = max(offset[session] + len(session.script.frames) for session in sessions)
    step, begin = sessions[0].script.frame / SAMPLE_RATE, time_of()
    every = max(1, round(_SAY_EVERY_S / step))
    for tick in range(last + 1):
        if tick % every == 0:
            say(f"{clock(tick * step)[3:8]} of {clock(last * step)[3:8]}, {_finals(sessions)} finals")
        for i, slot in enumerate(slots):
            wait_s = begin + (tick + i / _SLOTS) * step - time_of()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            for session in slot:
                index = tick - offset[session]
                if index == len(session.script.frames):
                    session.finish()
                elif 0 <= index < len(session.script.frames) and not session.closed.done():
                    session.send(index)
    await asyncio.wait([session.closed for session in sessions], timeout=_LAST_S)


def _finals(sessions: Sequence[LoadSession]) -> int:
    return sum(bool(message.get("isFinal")) for session in sessions for _, message in session.messages)


@dataclass(slots=True)
class Figures:
    """What a run gave. Latencies in seconds, over all turns of all sessions."""

    sessions: int
    turns: int
    expected_turns: int
    first_interim: list[float]
    """From the first speech of a turn being sent to its first text coming back."""
    cadence: list[float]
    """Between two texts of a turn while someone speaks."""
    final: list[float]
    """From the audio that decided the end of a turn being sent to its final coming back."""
    ended_at: list[float]
    """When each of those finals came, since the run began."""
    late: list[float]
    """How late this tool sent its frames: what is measured beside it is not better than that."""
    wrong_words: int
    words: int
    errors: list[str]

    @property
    def slope(self) -> float:
        """Growth of the final latency, seconds per minute of run."""
        if len(self.final) < 3:
            return 0.0
        return float(np.polyfit(np.array(self.ended_at) / 60, self.final, 1)[0])


def measure(sessions: Sequence[LoadSession], began: float) -> Figures:
    """Compare what came back with what the scripts' reference turns promise."""
    figures = Figures(len(sessions), 0, 0, [], [], [], [], [], 0, 0, [])
    for session in sessions:
        turns = session.script.turns
        figures.expected_turns += len(turns)
        sent = session.sent[session.sent > 0]
        if len(sent) > 1:
            step = session.script.frame / SAMPLE_RATE
            due = sent[0] + np.arange(len(sent)) * step
            figures.late += list(sent - due - (sent - due).min())
        texts: dict[int, list[str]] = {}
        last_text: dict[int, float | None] = {}
        for now, message in session.messages:
            number = message.get("turn", -1)
            turn = turns[number] if 0 <= number < len(turns) else None
            if "error" in message:
                figures.errors.append(str(message.get("code")))
            elif message.get("type") == "turn_paused":
                last_text[number] = None
            elif message.get("isFinal"):
                figures.turns += 1
                texts.setdefault(number, []).append(message["text"])
                if turn is not None:
                    figures.final.append(now - _sent_at(session, turn.decided))
                    figures.ended_at.append(now - began)
            elif message.get("text") and message.get("cause") == "interim":
                if number not in last_text:
                    if turn is not None:
                        figures.first_interim.append(now - _sent_at(session, turn.start))
                elif (before := last_text[number]) is not None:
                    figures.cadence.append(now - before)
                last_text[number] = now
        if not session.closed.done():
            figures.errors.append(f"no end within {_LAST_S:g} s of the last audio")
        elif (closed := session.closed.result())[0] != 1000:
            figures.errors.append(f"closed {closed[0]} {closed[1]}".strip())
        for number, turn in enumerate(turns):
            wrong, words = word_errors(turn.text, " ".join(texts.get(number, [])))
            figures.wrong_words += wrong
            figures.words += words
        extra = [number for number in texts if number >= len(turns)]
        figures.wrong_words += sum(len(_words(" ".join(texts[number]))) for number in extra)
    return figures


def _sent_at(session: LoadSession, sample: int) -> float:
    """When the frame was written that holds this sample (or that ends there)."""
    index = min(max(0, sample - 1) // session.script.frame, len(session.sent) - 1)
    return float(session.sent[index])


def _words(text: str) -> list[str]:
    return re.findall(r"[\w']+", text.lower())


def word_errors(reference: str, heard: str) -> tuple[int, int]:
    """Count words substituted, left out and put in, and those of the reference; case and punctuation are ignored."""
    a, b = _words(reference), _words(heard)
    row = list(range(len(b) + 1))
    for i, word in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(b, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (word != other))
    return row[-1], len(a)


async def reference(script: Script, url: str, api_key: str | None, tls: ssl.SSLContext | None = None) -> list[Turn]:
    """Hear a script in one session, as fast as the server takes it."""
    session = await open_session(script, session_url(url, _EVENTS | {"interim_results": "0"}), api_key, tls)
    await hurry(session)
    code, reason = session.closed.result()
    if code != 1000:
        raise RemoteError(f"the reference run ended with {code} {reason}")
    return [
        Turn(samples(m["start"]), samples(m["end"]), samples(m["decided"]), m["text"])
        for _, m in session.messages
        if m.get("isFinal")
    ]


class ServerStats:
    """The server's own account, from `/metrics`: a difference between two readings."""

    def __init__(self, url: str, api_key: str | None, tls: ssl.SSLContext | None = None) -> None:
        parts = urlsplit(url)
        self._url = f"{'https' if parts.scheme == 'wss' else 'http'}://{parts.netloc}/metrics"
        self._headers = authorization(api_key)
        handlers: list[urllib.request.BaseHandler] = [urllib.request.HTTPSHandler(context=tls)] if tls else []
        if is_loopback(parts.hostname or ""):
            handlers.append(urllib.request.ProxyHandler({}))
        self._open = urllib.request.build_opener(*handlers).open
        self.first = self.read()
        self._began = time.monotonic()

    def read(self) -> dict[str, float]:
        """Read all samples by name and labels.

        Raises:
            RemoteError: there are none to read.

        """
        try:
            request = urllib.request.Request(self._url, headers=self._headers)  # noqa: S310 - a URL of the caller's
            with self._open(request, timeout=10) as response:
                lines = response.read().decode().splitlines()
        except OSError as error:
            raise RemoteError(f"{self._url}: {error}") from error
        return {key: float(value) for key, _, value in (line.rpartition(" ") for line in lines if line[:1] != "#")}

    def report(self, sessions: int) -> dict[str, float]:
        """Return CPU share, memory and loop lag since the first reading."""
        now, spent_s = self.read(), time.monotonic() - self._began
        rss, rss_before = (r.get("process_resident_memory_bytes", 0.0) for r in (now, self.first))
        return {
            "cpu": (now.get("process_cpu_seconds_total", 0) - self.first.get("process_cpu_seconds_total", 0)) / spent_s,
            "rss_mb": rss / 2**20,
            "rss_mb_per_session": (rss - rss_before) / 2**20 / max(1, sessions),
            "loop_lag_p99_s": self.quantile("stt_event_loop_lag_seconds", 0.99, now),
        }

    def quantile(self, name: str, q: float, now: dict[str, float]) -> float:
        """Read a quantile off a histogram's growth: the upper bound of its bucket."""
        pattern = re.compile(re.escape(name) + r'_bucket\{le="([^"]+)"\}$')
        buckets = sorted(
            (float(found[1].replace("+Inf", "inf")), value - self.first.get(key, 0))
            for key, value in now.items()
            if (found := pattern.match(key))
        )
        total = buckets[-1][1] if buckets else 0
        return next((bound for bound, count in buckets if total and count >= q * total), 0.0)


async def run(
    scripts: Sequence[Script],
    url: str,
    *,
    api_key: str | None = None,
    tls: ssl.SSLContext | None = None,
    sessions: int = 1,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[Figures, dict[str, float]]:
    """Hear each script once for reference, then let `sessions` sessions speak at once; scripts go round.

    Raises:
        RemoteError: the server cannot be reached, or refuses.
        SettingsError: the URL is not one of a WebSocket, or the key is none.

    """
    live = session_url(url, _EVENTS)
    for i, one in enumerate(scripts[:sessions]):
        one.turns = await reference(one, url, api_key, tls)
        said = seconds(len(one.audio))
        say(f"reference {i + 1}: {len(one.turns)} turns in {clock(said)[3:8]} of audio")
    stats = ServerStats(url, api_key, tls)
    # Not all at once: neither people nor pages do that, and the handshakes would be measured with the speech.
    opened = [await open_session(scripts[i % len(scripts)], live, api_key, tls) for i in range(sessions)]
    began = asyncio.get_running_loop().time()
    speaking = asyncio.create_task(speak(opened, say))
    # The server's own account is read while all are still at work.
    await asyncio.wait({speaking, *(session.closed for session in opened)}, return_when=asyncio.FIRST_COMPLETED)
    account = await asyncio.to_thread(stats.report, sessions)
    await speaking
    figures = measure(opened, began)
    for session in opened:
        if not session.closed.done():
            session.vanish()
    return figures, account


def percentiles(values: Sequence[float], sentence: str = "{}") -> str:
    """Write p50, p95 and p99 in the place of the sentence's `{}`; where there are no values, "none" is all."""
    if not values:
        return "none"
    return sentence.format(" / ".join(f"{np.percentile(values, q):.2f}" for q in (50, 95, 99)))
