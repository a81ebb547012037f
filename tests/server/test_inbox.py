"""What a session takes from its connection: all audio, in its order, with commands where they stood."""

import asyncio

import numpy as np
import pytest

from scripted import tone
from serving import frames, rest, serving
from stt.audio import Samples, to_pcm16
from stt.control import Clear, Configure, Flush
from stt.server.dialect import MONO_16K, Audio, Format
from stt.server.streams import Inbox


async def taken(inbox: Inbox) -> list[Samples | object]:
    inbox.finish()
    return [piece async for piece in inbox]


def audio(seconds: float, form: Format = MONO_16K) -> Audio:
    sound = np.resize(tone(1), round(seconds * form.rate))
    return Audio(to_pcm16(np.repeat(sound, form.channels)), form)


async def test_commands_stay_where_they_came_in_the_audio() -> None:
    inbox = Inbox(10)
    commands = Flush(), Configure(), Clear()
    for command in commands:
        inbox.put(audio(0.25))
        inbox.command(command)
    pieces = await taken(inbox)
    assert [piece for piece in pieces if not isinstance(piece, np.ndarray)] == list(commands)
    at, ends = 0, []
    for piece in pieces:
        if isinstance(piece, np.ndarray):
            at += len(piece)
        else:
            ends.append(at)
    assert ends == [4_000, 8_000, 12_000]


async def test_a_command_does_not_wait_for_more_audio() -> None:
    inbox = Inbox(10)
    inbox.command(Flush())
    async with asyncio.timeout(60):
        async for piece in inbox:
            assert piece == Flush()
            break


async def test_commands_that_nobody_takes_are_left_to_the_connection() -> None:
    inbox = Inbox(10)
    for _ in range(64):
        inbox.command(Flush())
    assert inbox.full
    assert len(await taken(inbox)) == 64
    assert not inbox.full


@pytest.mark.parametrize("rates", [(8_000, 16_000), (48_000, 8_000), (44_100, 22_050, 16_000)])
async def test_a_change_of_format_loses_nothing_and_shifts_no_time(rates: tuple[int, ...]) -> None:
    """What the filter of the old format still holds comes before the new one."""
    inbox = Inbox(100)
    for rate in rates * 2:
        inbox.put(audio(1, Format(rate, 1)))
    heard = sum(len(piece) for piece in await taken(inbox) if isinstance(piece, np.ndarray))
    assert heard == pytest.approx(2 * len(rates) * 16_000, abs=2 * len(rates))


async def test_before_a_flush_comes_all_the_audio_that_was_sent_before_it() -> None:
    inbox = Inbox(10)
    inbox.put(audio(1, Format(8_000, 1)))
    inbox.command(Flush())
    before = 0
    for piece in await taken(inbox):
        if isinstance(piece, Flush):
            break
        assert isinstance(piece, np.ndarray)
        before += len(piece)
    assert before == pytest.approx(16_000, abs=1)


def sine(rate: int, seconds: float) -> Samples:
    return (0.3 * np.sin(2 * np.pi * 440 * np.arange(round(rate * seconds)) / rate)).astype(np.float32)


async def heard(*parts: tuple[Format, Samples]) -> Samples:
    inbox = Inbox(60)
    for form, audio in parts:
        inbox.put(Audio(to_pcm16(audio), form))
    inbox.finish()
    return np.concatenate([piece async for piece in inbox])


async def test_a_change_of_format_loses_nothing_and_shifts_no_times() -> None:
    rates = (8_000, 48_000, 16_000, 44_100, 16_000, 8_000)
    audio = await heard(*((Format(rate, 1), sine(rate, 0.5)) for rate in rates))
    assert len(audio) == pytest.approx(8_000 * len(rates), abs=len(rates))
    for at in range(len(rates)):  # each part is at its place, whole
        part = audio[8_000 * at : 8_000 * (at + 1)]
        assert np.abs(part[200:-200] - sine(16_000, 0.5)[200:-200]).max() < 0.02


@pytest.mark.parametrize("rate", [16_000, 48_000])
async def test_a_client_with_opposed_channels_is_heard(rate: int) -> None:
    audio = sine(rate, 1)
    mixed = await heard((Format(rate, 2), np.stack([audio, -audio], axis=1).reshape(-1)))
    assert np.abs(mixed).mean() == pytest.approx(np.abs(audio).mean(), rel=0.05)


@pytest.mark.parametrize("sign", [1, -1])
async def test_opposed_channels_are_told_to_the_operator(caplog: pytest.LogCaptureFixture, sign: int) -> None:
    caplog.set_level("INFO", "stt")
    audio = tone(2.0)
    async with serving() as running:
        async with running.connect("?channels=2") as websocket:
            for frame in frames(np.stack([audio, sign * audio], axis=1).reshape(-1)):
                await websocket.send(frame)
            await websocket.send('{"type": "finish"}')
            await rest(websocket)
        await running.until(lambda: not running.service.sessions)
    [ended] = [record.__dict__["fields"] for record in caplog.records if record.message == "session ended"]
    assert ended.get("opposed_channels", False) == (sign == -1)
