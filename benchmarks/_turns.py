"""Benchmarks of turns and pauses, and what a policy of ends of turns does in them on the audio's clock."""

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from stt.audio import Samples, samples
from stt.endofturn import EndOfTurn, Pause, Said, smart_turn
from stt.engines.whisper import Whisper
from stt.events import TurnPaused, TurnResumed, TurnStarted
from stt.recognition import RecognitionOptions, Utterance, WindowKey
from stt.settings import TurnSettings
from stt.sources import FileSource
from stt.transcript import Transcript
from stt.turns import TextStands, TurnSegmenter, Window
from stt.vad import FRAME, SileroVad, SpeechDetector

AFTER_S: Final = 4.5
"""How long to wait for the end of a turn: recordings go on with silence."""
TEXT_S: Final = 0.3
"""What the decode of a pause takes: the embedded engine on a quiet machine of two cores."""
BEFORE_TURN_S: Final = 0.5
HELD_S: Final = (0.2, 5.0)
"""Which pauses inside a turn count."""


@dataclass(slots=True)
class Found:
    """A pause that the detector found; sample indices."""

    turn_start: int
    end: int
    """Where speech stopped."""
    told: int
    """When the detector was sure of it."""
    resumed: int | None = None
    text: str | None = None
    """All of the turn up to here, as the embedded engine hears it; `None`: it was not asked."""
    text_s: float = TEXT_S
    """What hearing that took."""
    ended: float | None = None
    """Whether a sentence ends there, by the engine (`Hypothesis.ended`)."""


@dataclass(slots=True)
class Turn:
    """One recording, and what was found in it."""

    told: dict[str, Any]
    """Its line of `turns.jsonl`."""
    audio: Samples
    pauses: list[Found] = field(default_factory=list)

    @property
    def scored(self) -> list[dict[str, Any]]:
        """The pauses that count."""
        low, high = HELD_S
        return [p for p in self.told["pauses"] if p.get("scored", True) and (p["final"] or low <= p["dur"] <= high)]

    def found(self, pause: dict[str, Any]) -> list[Found]:
        """Return what the detector found of a pause."""
        start, end = pause["start"], pause["start"] + (AFTER_S if pause["final"] else pause["dur"])
        return [f for f in self.pauses if f.end < samples(end) and (f.resumed or 1 << 60) > samples(start)]


class Listener:
    """Finds pauses and their texts as a session does, whose turns never end."""

    def __init__(self, *, texts: bool = True) -> None:
        self._vad = SileroVad()
        self._engine = Whisper() if texts else None

    def hear(self, turn: Turn) -> None:
        """Fill in the pauses of a turn."""
        detector, segmenter, transcript = SpeechDetector(self._vad), TurnSegmenter(_SETTINGS), Transcript()
        started, ended = 0, None
        for frame, probability in zip(*detector.feed(turn.audio), strict=True):
            for event in segmenter.feed((frame,), (float(probability),)):
                match event:
                    case TurnStarted(_, start):
                        started = start
                    case TurnPaused(_, end):
                        turn.pauses.append(Found(started, end, segmenter.now))
                    case TurnResumed(_, at):
                        turn.pauses[-1].resumed = at
                    case Window(cause="pause" | "cut") if self._engine is not None:
                        began = time.perf_counter()
                        hypothesis = self._engine.transcribe([_asked(event)])[0]
                        took_s = time.perf_counter() - began
                        transcript.update(event, hypothesis)
                        ended = hypothesis.ended
                        if event.cause == "pause":
                            turn.pauses[-1].text, turn.pauses[-1].ended = transcript.text, ended
                            turn.pauses[-1].text_s = took_s
                    case TextStands() if self._engine is not None:
                        turn.pauses[-1].text, turn.pauses[-1].ended = transcript.text, ended
                    case _:
                        pass


_SETTINGS: Final = TurnSettings(end_of_turn_s=None, interim_s=None)


def _asked(window: Window) -> Utterance:
    key = WindowKey(None, window.turn, window.index)
    return Utterance(
        window.audio, RecognitionOptions(), "speculative", None, key, window.start, window.speech_s, window.silences
    )


class Remembering:
    """smart-turn, asked once for each sound however many policies want to know; counts what one policy asks."""

    def __init__(self) -> None:
        model = smart_turn.shared()
        if model is None:
            raise SystemExit("the weights of smart-turn are not here: stt models download smart-turn")
        self._model = model
        self._known: dict[bytes, float] = {}
        self.asks = 0
        self.computed_s: list[float] = []

    async def ask(self, audio: Samples, *, patient: bool = False) -> float:
        del patient
        self.asks += 1
        key = audio[-8_000:].tobytes() + len(audio).to_bytes(4, "little")
        if key not in self._known:
            began = time.perf_counter()
            self._known[key] = await self._model.ask(audio, patient=True)
            self.computed_s.append(time.perf_counter() - began)
        return self._known[key]


async def ended_s(policy: EndOfTurn, turn: Turn, pause: Found, *, here: bool = False) -> float | None:
    """Return when a policy ends the turn in this pause, in seconds of the recording; `None`: it does not.

    `here`: texts take what they took on this machine, and are waited for.
    """
    now, text_s = pause.told, pause.text_s if here else TEXT_S

    def known() -> bool:
        return now >= pause.told + samples(text_s)

    def said() -> Said:
        there = pause.text is not None and known()
        return Said(pause.text or "", pause.end, "en", pause.ended) if there else Said(language="en")

    def audio(most: int) -> Samples:
        return turn.audio[max(0, pause.turn_start - samples(BEFORE_TURN_S), now - most) : now]

    seen = Pause(0, pause.turn_start, pause.end, now, said, audio, comes=lambda: here and not known())
    judging = asyncio.ensure_future(policy.judge(seen))
    judging.add_done_callback(lambda _: seen.finish())
    until = min(pause.resumed or len(turn.audio), len(turn.audio))
    try:
        while now < until:
            await seen.at_rest()
            gap_s = (judging.result() if judging.done() else None) or policy.longest_s
            if gap_s is not None and now >= pause.end + samples(gap_s):
                return now / 16_000
            now += FRAME
            seen.advance(now)
    finally:
        judging.cancel()
    return None


async def ends_s(policy: EndOfTurn, turn: Turn, listener: Listener) -> list[float]:
    """Return when a policy ends turns in this recording, in seconds; what is said after an end is a turn of its own.

    Texts take what they take on this machine, and are waited for.
    """
    ends: list[float] = []
    while True:
        since = samples(ends[-1]) if ends else 0
        rest = Turn(turn.told, np.concatenate((np.zeros(since, np.float32), turn.audio[since:])))
        listener.hear(rest)
        for pause in rest.pauses:
            if (end := await ended_s(policy, rest, pause, here=True)) is not None:
                ends.append(end)
                break
        else:
            return ends


async def fired(policy: EndOfTurn, turn: Turn) -> list[float | None]:
    """For each pause that counts, when after its beginning the turn would end in it; `None`: not in its time.

    Every pause is judged for itself: a turn that was cut off goes on as if it had not been.
    """
    times: list[float | None] = []
    for told in turn.scored:
        start = told["start"]
        until = start + (AFTER_S if told["final"] else told["dur"])
        ends = [await ended_s(policy, turn, found) for found in turn.found(told)]
        times.append(next((max(0.0, end - start) for end in ends if end is not None and start < end <= until), None))
    return times


def hear_all(turns: Sequence[Turn], *, texts: bool = True, kept: Path | None = None) -> None:
    """Fill in the pauses of all turns, or take them from a file where they were kept: hearing takes minutes."""
    if kept is not None and kept.exists():
        for turn, pauses in zip(turns, json.loads(kept.read_text()), strict=True):
            turn.pauses = [Found(**pause) for pause in pauses]
        return
    listener = Listener(texts=texts)
    for turn in turns:
        listener.hear(turn)
    if kept is not None:
        kept.write_text(json.dumps([[asdict(pause) for pause in turn.pauses] for turn in turns]))


def read(directory: Path, distort: Callable[[Samples], Samples] | None = None) -> list[Turn]:
    """Read a benchmark: `turns.jsonl` (id, group, pauses with start, dur, final, scored, in seconds) and `ID.opus`."""

    async def sound(path: Path) -> Samples:
        with FileSource(path) as source:
            return np.concatenate([piece async for piece in source])

    turns = []
    for line in (directory / "turns.jsonl").read_text().splitlines():
        told = json.loads(line)
        audio = asyncio.run(sound(directory / f"{told['id']}.opus"))
        audio = np.concatenate((audio, np.zeros(samples(AFTER_S), np.float32)))
        turns.append(Turn(told, audio if distort is None else distort(audio)))
    return turns
