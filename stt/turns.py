"""Turns out of frames and speech probabilities: pure, no clock, no asyncio.

                p >= speech                    silence >= pause            silence >= end of turn
    idle ---------------------> speaking -> gap ----------------> paused ------------------------> idle
            TurnStarted          ^  p < silence    TurnPaused       |          TurnEnded
                                 |______________|___________________|
                                   p >= speech        TurnResumed

While a turn runs, the segmenter asks for recognitions (`Window`) of the audio since the window began: interims every
so often, one at the pause (the turn's final text, should nobody speak again), and one that closes the window when

- it is as long as the engine can take: it is cut at the longest pause of its second half, where no word can be
  hurt, so the next window shares nothing with it; only where the speaker made no pause does the next window begin up
  to `overlap_s` earlier, at the quietest spot, for the words to be stitched; or
- the silence in a turn grows longer than `_LONGEST_SILENCE_S` (an end of turn set to many seconds): silence is no
  food for an engine, so the next window begins when speech does.

How long a silence has to be is a setting, and for the silence that runs an end-of-turn policy may say otherwise
(`set_gap`); `flush` and `clear` end a turn at once.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, Literal

import numpy as np

from stt.audio import Samples, samples, seconds
from stt.events import Ending, TurnPaused, TurnResumed, TurnStarted
from stt.settings import TurnSettings

_LONGEST_SILENCE_S: Final = 1.5
# Stop consonants close the mouth for up to ~0.15 s; a longer dip in the speech probability is between words.
_CLEAN_PAUSE_S: Final = 0.2
# Without a pause, a quiet spot is looked for in the window's last second, and in the overlap's first.
_QUIET_SEARCH_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Window:
    """A request: recognize this audio."""

    turn: int
    index: int
    """Of the window within its turn, from 0."""
    start: int
    """Sample index of `audio[0]`."""
    overlap: int
    """Samples at the head of `audio` that the window before has as well; 0 after a clean cut."""
    audio: Samples
    cause: Literal["interim", "pause", "cut", "end"]
    speech_s: float = 0.0
    """How much of the audio is speech."""
    silences: tuple[tuple[int, int], ...] = ()
    """Where in the audio nobody speaks: sample indices of the stream, in order."""

    @property
    def end(self) -> int:
        return self.start + len(self.audio)


@dataclass(frozen=True, slots=True)
class TurnEnded:
    """The turn is over; its final text is what the last window's last recognition gives."""

    turn: int
    start: int
    end: int
    decided: int = 0
    """The sample index up to which audio had been taken by then."""
    why: Ending = "silence"


@dataclass(frozen=True, slots=True)
class TextStands:
    """The speaker paused when the last window had been closed already: its text is that of the pause."""

    turn: int
    end: int


TurnEvent = TurnStarted | TurnPaused | TurnResumed | TurnEnded | TextStands | Window


class _State(Enum):
    IDLE = auto()
    SPEAKING = auto()
    GAP = auto()
    PAUSED = auto()


class TurnSegmenter:
    """Owns the audio of the running turn; `feed` frames with their probabilities, then `finish`."""

    def __init__(self, settings: TurnSettings | None = None) -> None:
        self.configure(settings or TurnSettings())

        self._state = _State.IDLE
        self._now = 0  # samples taken so far
        self._frames: list[Samples] = []  # the open window, or the pre-roll where none is open
        self._start = 0  # sample index of the first of them

        self._turn = -1
        self._turn_start = 0
        self._speech_end = 0  # where the last speech stopped; set on the way from speaking to gap
        self._speech_start = 0  # where speech began in the open window
        self._window: int | None = None  # index of the open window
        self._windows = 0  # opened in this turn
        self._shared = 0  # samples the open window shares with the one before
        self._speech = 0  # samples of speech in the open window
        self._fresh = 0  # samples of speech since the last request
        self._pauses: list[tuple[int, int]] = []  # silences between speech in the open window
        self._covered = False  # whether the pause's request has all that was said in the open window

    def configure(self, settings: TurnSettings) -> None:
        """Go on with other settings, from the next frame on; what a policy said by the old ones is forgotten."""
        self._settings = settings
        self._gap: int | None = None  # samples of the running silence that end the turn, where a policy said so
        self._pre_roll = samples(settings.pre_roll_s)
        self._min_speech = samples(settings.min_speech_s)
        self._interim = samples(settings.interim_s) if settings.interim_s is not None else None
        self._pause = samples(settings.pause_s)
        self._end_of_turn = samples(settings.end_of_turn_s) if settings.end_of_turn_s is not None else None
        self._longest = samples(settings.window_s)
        self._overlap = samples(settings.overlap_s)

    @property
    def now(self) -> int:
        """Samples taken so far."""
        return self._now

    def feed(self, frames: Sequence[Samples], probabilities: Iterable[float]) -> list[TurnEvent]:
        """Take frames (32 ms each, the last of a stream may be shorter) with their speech probabilities."""
        events: list[TurnEvent] = []
        for frame, probability in zip(frames, probabilities, strict=True):
            self._take(frame, float(probability), events)
        return events

    def set_gap(self, turn: int, pause_end: int, gap: int) -> None:
        """Let this silence, since `pause_end`, end the turn when it lasts `gap` samples; no-op once it is over."""
        if self._state is _State.PAUSED and (turn, pause_end) == (self._turn, self._speech_end):
            self._gap = gap

    def ask(self) -> list[TurnEvent]:
        """Ask for the text of a turn that is paused, where the pause itself did not."""
        events: list[TurnEvent] = []
        if self._state is _State.PAUSED and not self._covered:
            if self._window is None:
                events.append(TextStands(self._turn, self._speech_end))
            else:
                self._request("pause", events)
            self._covered = True
        return events

    def flush(self) -> list[TurnEvent]:
        """End the running turn here, because the client wants it so; nothing where none runs."""
        return self._stop("asked")

    def finish(self) -> list[TurnEvent]:
        """End the stream: the running turn is completed with all that was said."""
        return self._stop("stream ended")

    def clear(self) -> list[TurnEvent]:
        """End the running turn without asking for its text, and forget the audio before here."""
        events: list[TurnEvent] = []
        if self._state is not _State.IDLE:
            if self._state is _State.SPEAKING:
                self._speech_end = self._now
            self._end_turn("cleared", events)
        self._drop_before(self._now)
        return events

    def _stop(self, why: Ending) -> list[TurnEvent]:
        events: list[TurnEvent] = []
        if self._state is not _State.IDLE:
            if self._state is _State.SPEAKING:
                self._speech_end = self._now
            if not self._covered:
                self._request("end", events)
            self._end_turn(why, events)
        return events

    def _take(self, frame: Samples, p: float, events: list[TurnEvent]) -> None:
        self._frames.append(frame)
        at = self._now
        self._now += len(frame)
        if p >= self._settings.speech_threshold:
            self._speech_frame(at, events)
        elif self._state is _State.SPEAKING and p < self._settings.silence_threshold:
            self._state = _State.GAP
            self._speech_end = at
        elif self._state in (_State.GAP, _State.PAUSED):
            self._silent_frame(events)
        if self._state is _State.SPEAKING:
            self._speech += len(frame)
            self._fresh += len(frame)
            if self._interim is not None and self._fresh >= self._interim:
                self._request("interim", events)
        if self._window is None:
            self._drop_before(self._now - self._pre_roll)
        elif self._now - self._start >= self._longest:
            self._cut(events)

    def _speech_frame(self, at: int, events: list[TurnEvent]) -> None:
        if self._state is _State.IDLE:
            self._turn += 1
            self._turn_start = at
            self._windows = 0
            events.append(TurnStarted(self._turn, at))
        elif self._state is _State.PAUSED:
            events.append(TurnResumed(self._turn, at))
        if self._window is None:
            self._open_window(shared=0, speech_start=at)
        elif self._state is not _State.SPEAKING:
            self._pauses.append((self._speech_end, at))
        self._state = _State.SPEAKING
        self._covered = False
        self._gap = None

    def _silent_frame(self, events: list[TurnEvent]) -> None:
        silence = self._now - self._speech_end
        if self._state is _State.GAP and silence >= self._pause:
            self._state = _State.PAUSED
            events.append(TurnPaused(self._turn, self._speech_end))
            if self._settings.speculative:
                events += self.ask()
        enough = self._end_of_turn if self._gap is None else self._gap
        if self._state is _State.PAUSED and enough is not None and silence >= enough:
            if not self._covered:
                self._request("end", events)
            self._end_turn("silence" if self._gap is None else "meaning", events)
        elif silence >= samples(_LONGEST_SILENCE_S) and self._window is not None:
            self._close_in_silence(events)

    def _open_window(self, *, shared: int, speech_start: int) -> None:
        self._window = self._windows
        self._windows += 1
        self._shared = shared
        self._speech_start = speech_start
        self._speech = self._fresh = 0
        self._pauses = []
        self._covered = False

    def _request(self, cause: Literal["interim", "pause", "cut", "end"], events: list[TurnEvent]) -> None:
        """Ask for the open window up to where it says something: speech, and the pause after it."""
        self._fresh = 0
        if self._window is None or self._speech < self._min_speech:
            return
        end = self._now if self._state is _State.SPEAKING else min(self._now, self._speech_end + self._pause)
        audio = np.concatenate(self._frames)[: end - self._start]
        events.append(
            Window(
                self._turn,
                self._window,
                self._start,
                self._shared,
                audio,
                cause,
                seconds(self._speech),
                self._silences(end),
            ),
        )

    def _silences(self, end: int) -> tuple[tuple[int, int], ...]:
        """Return where nobody speaks in the open window, up to a sample index."""
        spans = [(self._start, self._speech_start), *self._pauses]
        if self._state is not _State.SPEAKING:
            spans.append((self._speech_end, self._now))
        return tuple((a, min(b, end)) for a, b in spans if a < min(b, end))

    def _end_turn(self, why: Ending, events: list[TurnEvent]) -> None:
        events.append(TurnEnded(self._turn, self._turn_start, self._speech_end, self._now, why))
        self._state = _State.IDLE
        self._window = self._gap = None
        # The next turn's pre-roll must not hear this one's last word again.
        self._drop_before(max(self._now - self._pre_roll, self._speech_end))

    def _close_in_silence(self, events: list[TurnEvent]) -> None:
        if not self._covered:
            self._request("cut", events)
        self._window = None
        self._drop_before(max(self._now - self._pre_roll, self._speech_end))

    def _cut(self, events: list[TurnEvent]) -> None:
        """Close a window that is full, at the best place."""
        clean = samples(_CLEAN_PAUSE_S)
        if self._state is not _State.SPEAKING and self._now - self._speech_end >= clean:
            self._close_in_silence(events)
            return
        half = self._start + (self._now - self._start) // 2
        pauses = [(b - a, (a + b) // 2) for a, b in self._pauses if b - a >= clean and (a + b) // 2 >= half]
        if pauses:
            end = start = max(pauses)[1]
        else:
            search = samples(_QUIET_SEARCH_S)
            end = self._quietest(self._now - search, self._now)
            start = self._quietest(end - self._overlap, end - self._overlap + search) if self._overlap else end
        audio = np.concatenate(self._frames)
        assert self._window is not None  # noqa: S101 - for the type checker: only open windows are cut
        events.append(
            Window(
                self._turn,
                self._window,
                self._start,
                self._shared,
                audio[: end - self._start],
                "cut",
                seconds(max(0, self._speech - (self._now - end))),
                self._silences(end),
            ),
        )
        later = [(a, b) for a, b in self._pauses if a >= start]
        speech_start = next((b for a, b in self._pauses if a < start <= b), start)
        self._drop_before(start)
        self._open_window(shared=end - start, speech_start=speech_start)
        self._pauses = later
        # Counted as speech: the cut falls into running speech, a pause of 0.2 s or more apart.
        self._speech = self._now - start

    def _quietest(self, low: int, high: int) -> int:
        """Return the start of the frame with the least energy between two sample indices."""
        best, best_energy, at = low, np.inf, self._start
        for frame in self._frames:
            if low <= at < high and (energy := float(np.dot(frame, frame))) < best_energy:
                best, best_energy = at, energy
            at += len(frame)
        return best

    def _drop_before(self, index: int) -> None:
        """Forget audio before a sample index (a frame that begins before it and ends after it is cut)."""
        keep = 0
        while keep < len(self._frames) and self._start + len(self._frames[keep]) <= index:
            self._start += len(self._frames[keep])
            keep += 1
        del self._frames[:keep]
        if self._frames and index > self._start:
            self._frames[0] = self._frames[0][index - self._start :]
            self._start = index
