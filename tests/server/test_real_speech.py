"""Real speech through the real detector and engine: the server says what `stt file` says."""

import asyncio
from pathlib import Path

import soundfile

from serving import serving
from spoken import sentences, talk
from stt.api import transcribe_file
from stt.client import RemoteSession
from stt.engines import open_engine
from stt.events import Event, TurnCompleted
from stt.sources import FileSource
from stt.vad_pool import VadPool
from stt.words import Word


async def test_four_sessions_at_once_say_what_the_file_command_says(tmp_path: Path) -> None:
    clips = []
    for seed in (1, 2):
        path = tmp_path / f"{seed}.wav"
        soundfile.write(path, talk(sentences(3, seed), [1.9, 0.5, 0.2], seed=seed), 16_000)
        clips.append(path)
    expected = [
        [(t.turn, t.start, t.end, t.text, t.words) for t in await transcribe_file(path, words=True)] for path in clips
    ]
    assert all("".join(word.text for word in turn[4]) == turn[3] for turns in expected for turn in turns)
    assert [len(turns) for turns in expected] == [2, 2]

    async def remote(url: str, path: Path) -> list[tuple[int, int, int, str, tuple[Word, ...]]]:
        turns = []

        async def sink(event: Event) -> None:
            if isinstance(event, TurnCompleted):
                turns.append((event.turn, event.start, event.end, event.text, event.words))

        with FileSource(path) as source:
            await RemoteSession(url, words=True).run(source, sink)
        return turns

    model = open_engine().model
    async with serving(model, vad=VadPool) as running:
        heard = await asyncio.gather(*(remote(running.ws, path) for path in clips * 2))
    assert heard == expected * 2
