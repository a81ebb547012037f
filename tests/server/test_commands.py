"""`stt serve`, `stt client` and `stt bench` as a user runs them."""

import asyncio
import json
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

from scripted import ScriptedModel, tone
from serving import serving
from spoken import silence
from stt.bench import Figures, encode, measure, open_session, percentiles, reference, script, speak, word_errors
from stt.client import session_url


async def stt(*arguments: str | Path, timeout_s: float = 60) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "stt.cli",
        *map(str, arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(timeout_s):
        out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Two turns."""
    path = tmp_path / "talk.wav"
    audio = np.concatenate([silence(0.3), tone(0.6), silence(0.9), tone(0.5), silence(0.2)])
    soundfile.write(path, audio, 16_000)
    return path


async def test_client_prints_finals_and_waits_for_the_last(clip: Path) -> None:
    async with serving(api_keys=("key",)) as running:
        url = f"ws://127.0.0.1:{running.port}"
        options = ("--url", url, "--api-key", "key", "--end-of-turn", "0.5")
        code, out, err = await stt("client", clip, "--fast", *options)
        assert (code, len(out.splitlines())) == (0, 2)
        assert "connected to ws://" in err
        code, out, _ = await stt("client", clip, "--json", *options)  # at the pace of speech
        messages = [json.loads(line) for line in out.splitlines()]
        assert code == 0
        assert [m["turn"] for m in messages if m.get("isFinal")] == [0, 1]
        code, out, err = await stt("client", clip, "--url", url)
        assert (code, out) == (1, "")
        assert "refused with HTTP 401: expected an API key" in err
        assert "--api-key or STT_API_KEY" in err


async def test_bench_finds_nothing_wrong_where_nothing_is(clip: Path) -> None:
    async with serving() as running:
        url = f"ws://127.0.0.1:{running.port}"
        code, out, err = await stt("bench", clip, "--url", url, "--sessions", "3", "--end-of-turn", "0.5", "--json")
        assert code == 0, err
        result = json.loads(out)
        assert (result["sessions"], result["turns"], result["expected_turns"]) == (3, 6, 6)
        assert (result["wrong_words"], result["words"], result["errors"]) == (0, 6, [])
        assert 0 < result["final"]["p50"] < 2  # after the decision
        assert result["server"]["rss_mb"] > 10
        code, out, _ = await stt("bench", clip, "--url", url, "--binary", "--end-of-turn", "0.5")
        assert code == 0
        assert "turns 2 of 2 expected" in out


@pytest.mark.parametrize("url", ["ws://127.0.0.1:99999", "http://127.0.0.1", "foo"])
async def test_bench_wants_the_url_of_a_websocket(clip: Path, url: str) -> None:
    code, out, err = await stt("bench", clip, "--url", url)
    assert (code, out) == (2, "")
    assert err == f"stt bench: expected a URL like ws://127.0.0.1:15751 or wss://host, got {url!r}\n"


async def test_options_in_the_url_of_bench(clip: Path) -> None:
    async with serving() as running:
        url = f"ws://127.0.0.1:{running.port}?end_of_turn_ms=700&pause_ms=200"
        code, out, err = await stt("bench", clip, "--url", url, "--json")
    assert code == 0, err
    result = json.loads(out)
    assert (result["turns"], result["gap_s"], result["errors"]) == (2, 0.7, [])


async def test_bench_keeps_its_figures_when_the_last_finals_do_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stt.bench._LAST_S", 0.3)
    model = ScriptedModel()
    async with serving(model) as running:
        said = script([tone(0.6)], 0, 20, binary=True)
        said.turns = await reference(said, running.ws, None)
        model.free.clear()
        session = await open_session(said, session_url(running.ws, {"events": "1"}))
        await speak([session])
        figures = measure([session], 0.0)
        session.vanish()
        model.free.set()
    assert figures.errors == ["no end within 0.3 s of the last audio"]
    assert (figures.turns, figures.expected_turns) == (0, 1)


async def test_bench_counts_what_is_lost() -> None:
    assert word_errors("one two, three", "One three four") == (2, 3)
    assert word_errors("", "x") == (1, 0)
    assert percentiles([], "every {} s") == "none"
    assert percentiles([1.0], "every {} s") == "every 1.00 / 1.00 / 1.00 s"
    rising = Figures(1, 3, 3, [], [], [1.0, 2.0, 3.0], [60.0, 120.0, 180.0], [], 0, 0, [])
    assert rising.slope == pytest.approx(1.0)


@pytest.mark.parametrize("size", [2, 200, 70_000])
def test_bench_writes_frames_that_a_server_reads(size: int) -> None:
    reader = StreamReader()
    reader.feed_data(encode(bytes(size), binary=True))
    with pytest.raises(StopIteration) as parsed:
        next(Frame.parse(reader.read_exact, mask=True))
    assert (parsed.value.value.opcode, len(parsed.value.value.data)) == (Opcode.BINARY, size)


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        (("--port", "70000"), 2, "--port: expected a port from 0 to 65535, got '70000'"),
        (("--host", "256.1.1.1"), 2, "cannot listen on 256.1.1.1"),
        (("--tls-cert", "x"), 2, "a certificate and its key together"),
        (
            ("--tls-cert", "/dev/null", "--tls-key", "/dev/null", "--port", "0"),
            2,
            "TLS: /dev/null and /dev/null cannot be used: expected both in PEM, got: ",
        ),
        (("--api-key-file", "/nowhere"), 2, "API key file /nowhere"),
        (("--port", "0", "--engine", "whisper", "--model", "gigantic"), 1, "no such directory"),
        (("--port", "0", "--language", "de"), 2, "language: whisper tiny.en"),
    ],
)
async def test_serve_says_what_is_wrong(options: tuple[str, ...], code: int, text: str) -> None:
    exit_code, out, err = await stt("serve", *options)
    assert text in err
    assert (exit_code, out) == (code, "")
    assert "Traceback" not in err


async def test_a_port_that_is_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, _, err = await stt("serve", "--port", str(port))
    assert code == 2
    assert f"cannot listen on 127.0.0.1 port {port}: Address already in use" in err
