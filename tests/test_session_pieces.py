"""What a session takes for sound: arrays of any type and shape that a program may hold."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from scripted import LoudnessVad, ScriptedModel, pieces, tone
from spoken import silence
from stt.audio import Samples
from stt.errors import AudioError
from stt.events import Event, TurnCompleted
from stt.recognition import Hypothesis, LocalRecognizer, Utterance
from stt.session import Session


async def test_a_caller_may_use_its_buffer_again() -> None:
    audio = np.concatenate([tone(1), silence(2)])

    async def reuses() -> AsyncIterator[Samples]:
        buffer = np.empty(1_600, np.float32)
        for at in range(0, len(audio), 1_600):
            buffer[:] = audio[at : at + 1_600]
            yield buffer
            buffer[:] = 9.0

    heard: list[Utterance] = []

    class Keeps(ScriptedModel):
        def transcribe(self, batch: Sequence[Utterance]) -> list[Hypothesis]:
            heard.extend(batch)
            return super().transcribe(batch)

    with LocalRecognizer(Keeps()) as recognizer:
        await Session(recognizer, LoudnessVad()).run(reuses(), ignore)  # type: ignore[arg-type]
    assert heard[-1].audio.max() == 0.5


async def ignore(event: Event) -> None: ...


@pytest.mark.parametrize(
    "convert",
    [
        lambda audio: audio.astype(np.float64),
        lambda audio: (audio * 32768).astype(np.int16),
        lambda audio: audio[:, None],
    ],
    ids=["float64", "int16", "one column"],
)
async def test_pieces_of_other_types_and_shapes_are_the_same_sound(convert: Callable[[Samples], Samples]) -> None:
    audio = np.concatenate([tone(1), silence(2)])
    runs: list[list[Event]] = [[], []]
    for events, source in zip(runs, (pieces(audio, 1_600), pieces(convert(audio), 1_600)), strict=True):

        async def sink(event: Event, events: list[Event] = events) -> None:
            if isinstance(event, TurnCompleted):
                events.append(replace(event, latency=None))

        with LocalRecognizer(ScriptedModel()) as recognizer:
            await Session(recognizer, LoudnessVad()).run(source, sink)  # type: ignore[arg-type]
    assert runs[0] == runs[1]
    assert len(runs[0]) == 1


@pytest.mark.parametrize("piece", [np.zeros((2, 2), np.float32), np.zeros(9, np.int32), np.array(["a"]), np.zeros(())])
async def test_pieces_that_are_no_mono_audio_are_refused(piece: np.ndarray) -> None:
    async def source() -> AsyncIterator[Samples]:
        yield tone(1)
        yield piece

    events: list[Event] = []

    async def sink(event: Event) -> None:
        events.append(event)

    with LocalRecognizer(ScriptedModel()) as recognizer, pytest.raises(AudioError, match=r"expected mono .* got"):
        await Session(recognizer, LoudnessVad()).run(source(), sink)  # type: ignore[arg-type]
    assert isinstance(events[-1], TurnCompleted), "what came before is not lost"
