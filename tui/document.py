"""What the screen shows, as a value: turns in order, folded from records. Pure: no clock, no screen, no files.

A *stretch* is one run of a session: from the moment the microphone opens until it is paused, lost, or changed. Turns
are counted from 0 in each, so a block is known by stretch and turn. `start` in `StretchBegan` puts the stretch on the
one timeline that all audio heard in this session makes.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, Literal

from stt.clock import seconds
from stt.events import (
    Acknowledged,
    Event,
    Passage,
    RecognitionFailed,
    TranscriptChanged,
    TurnCompleted,
    TurnPaused,
    TurnResumed,
    TurnStarted,
)

_UNSURE: Final = 0.5
"""Words less probable than this are marked."""


@dataclass(frozen=True, slots=True)
class StretchBegan:
    """Listening begins."""

    stretch: int
    start: int
    """Samples heard in the stretches before."""
    wall_s: float
    """Seconds since the epoch, when the stretch's first sample was heard."""


@dataclass(frozen=True, slots=True)
class Heard:
    """The session told of something."""

    stretch: int
    event: Event


@dataclass(frozen=True, slots=True)
class Edited:
    """The reader changed a turn's text."""

    stretch: int
    turn: int
    text: str


@dataclass(frozen=True, slots=True)
class Cleared:
    """The reader took all finished turns off the screen."""


@dataclass(frozen=True, slots=True)
class Undone:
    """The reader took back the last edit or clearing."""


@dataclass(frozen=True, slots=True)
class Unfinished:
    """The program was left before a turn had its final: the words it had then are all there will be."""

    stretch: int
    turn: int


Record = StretchBegan | Heard | Edited | Cleared | Undone | Unfinished
"""Everything that changes a document; a journal is a list of these."""


@dataclass(frozen=True, slots=True)
class Block:
    """A turn on the screen. Samples count from the beginning of the session."""

    stretch: int
    turn: int
    wall_s: float
    start: int
    end: int
    text: str = ""
    stable_chars: int = 0
    state: Literal["speaking", "paused", "final"] = "speaking"
    probability: float | None = None
    """While it is paused: that the speaker is done, where somebody tells."""
    passages: tuple[Passage, ...] = ()
    failure: str = ""
    """Why a part of the turn is missing."""
    edited: bool = False
    unsure: tuple[tuple[int, int], ...] = ()
    """Where in the text (start, end) words stand that the engine was not sure of."""
    unfinished: bool = False
    """It ended without a final: its last words may be wrong, or missing."""

    @property
    def key(self) -> tuple[int, int]:
        return self.stretch, self.turn

    @property
    def duration_s(self) -> float:
        return seconds(self.end - self.start)

    @property
    def completed(self) -> TurnCompleted:
        """The block as an event, on the session's timeline, for the writers in `stt.outputs`."""
        passages = self.passages or (Passage(self.start, self.end, self.text),)
        return TurnCompleted(self.turn, self.start, self.end, self.text, passages, None)


class Document:
    """Owns the blocks. A turn that ends without words leaves none.

    The last blocks may be running: the one being spoken, and those before it whose finals are still to come.
    """

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.stretch = StretchBegan(-1, 0, 0.0)
        """The latest one."""
        self.end = 0
        """The latest sample that an event told of, on the session's timeline."""
        self._undo: list[list[Block] | Block] = []  # what was cleared, or the block as it was before an edit

    def apply(self, record: Record) -> int | None:
        """Take a record; returns the index of the first block that is no longer as it was, `None` if all are."""
        match record:
            case StretchBegan():
                self.stretch = record
                return self._settle(self.open)
            case Heard(stretch, event):
                return self._hear(stretch, event)
            case Edited(stretch, turn, text):
                index = self.index(stretch, turn)
                if index is None:
                    return None
                before = self.blocks[index]
                text = printable(text)
                self._undo.append(before)
                edited = replace(before, text=text, stable_chars=len(text), passages=(), unsure=())
                self.blocks[index] = replace(edited, edited=True, unfinished=False)
                return index
            case Cleared():
                finished = [block for block in self.blocks if block.state == "final"]
                if not finished:
                    return None
                self._undo.append(finished)
                self.blocks[:] = self.open
                return 0
            case Undone():
                return self._take_back()
            case Unfinished(stretch, turn):
                return self._settle([block for block in self.open if block.key == (stretch, turn)])

    @property
    def can_undo(self) -> Literal["", "edit", "clearing"]:
        """What `Undone` would take back."""
        return "" if not self._undo else "edit" if isinstance(self._undo[-1], Block) else "clearing"

    @property
    def running(self) -> Block | None:
        """The turn that is being spoken."""
        return self.blocks[-1] if self.blocks and self.blocks[-1].state != "final" else None

    @property
    def open(self) -> list[Block]:
        """The turns that have no final yet."""
        return [block for block in self.blocks if block.state != "final"]

    @property
    def finals(self) -> list[Block]:
        """The finished turns that have words."""
        return [block for block in self.blocks if block.state == "final" and block.text]

    def index(self, stretch: int, turn: int) -> int | None:
        """Find a block; the newest are looked at first, they are what is asked for."""
        return next((i for i in range(len(self.blocks) - 1, -1, -1) if self.blocks[i].key == (stretch, turn)), None)

    def find(self, needle: str) -> list[tuple[int, int]]:
        """Every place where a text occurs, as (block, character); case does not matter."""
        pattern = matcher(needle)
        if pattern is None:
            return []
        return [(i, match.start()) for i, block in enumerate(self.blocks) for match in pattern.finditer(block.text)]

    def _hear(self, stretch: int, event: Event) -> int | None:
        began = self.stretch
        if stretch != began.stretch:
            return None  # of a stretch that is over: its turn has been settled
        if isinstance(event, Acknowledged):
            return None
        if isinstance(event, TurnStarted):
            at = began.start + event.start
            self.end = max(self.end, at)
            self.blocks.append(Block(stretch, event.turn, began.wall_s + event.start_s, at, at))
            return len(self.blocks) - 1
        index = self.index(stretch, event.turn)
        if index is None or self.blocks[index].state == "final":
            return None  # cleared away, or never begun (a journal that begins in the middle of a turn)
        running = self.blocks[index]
        match event:
            case TranscriptChanged():
                text = printable(event.text)
                running = replace(running, text=text, stable_chars=event.stable_chars, end=began.start + event.end)
            case TurnPaused():
                running = replace(running, state="paused", end=began.start + event.end, probability=event.probability)
            case TurnResumed():
                running = replace(running, state="speaking", probability=None)
            case RecognitionFailed():
                running = replace(running, failure=printable(event.message))
            case TurnCompleted():
                text = printable(event.text)
                running = replace(
                    running,
                    state="final",
                    text=text,
                    stable_chars=len(text),
                    unsure=tuple(_unsure(event)),
                    start=began.start + event.start,
                    end=began.start + event.end,
                    passages=tuple(
                        Passage(began.start + p.start, began.start + p.end, printable(p.text)) for p in event.passages
                    ),
                )
        self.end = max(self.end, running.end)
        self.blocks[index] = running
        if running.state == "final":
            self._drop_if_empty(index)
        return index

    def _settle(self, blocks: list[Block]) -> int | None:
        """End turns with the words they have: nothing more will come for them."""
        first = None
        for block in reversed(blocks):
            first = self.blocks.index(block)
            self.blocks[first] = replace(block, state="final", stable_chars=len(block.text), unfinished=True)
            self._drop_if_empty(first)
        return first

    def _drop_if_empty(self, index: int) -> None:
        if not self.blocks[index].text and not self.blocks[index].failure:
            del self.blocks[index]

    def _take_back(self) -> int | None:
        if not self._undo:
            return None
        before = self._undo.pop()
        if isinstance(before, list):
            self.blocks[:0] = before
            return 0
        index = self.index(*before.key)
        if index is not None:
            self.blocks[index] = before
        return index


def _unsure(turn: TurnCompleted) -> Iterator[tuple[int, int]]:
    """Find the words of a final that the engine was not sure of, white space aside."""
    at = 0
    if "".join(word.text for word in turn.words) != turn.text:
        return
    for word in turn.words:
        end = at + len(word.text)
        if word.confidence is not None and word.confidence < _UNSURE:
            yield at + len(word.text) - len(word.text.lstrip()), end
        at = end


def matcher(needle: str) -> re.Pattern[str] | None:
    """Return the pattern that finds a text as the reader means it; `None` where there is nothing to find."""
    return re.compile(re.escape(needle), re.IGNORECASE) if needle.strip() else None


def printable(text: str) -> str:
    """Replace what a terminal would obey rather than show, character by character: text may come from a server."""
    return text if text.isprintable() else "".join(char if char.isprintable() else " " for char in text)


def wrap(text: str, width: int) -> list[tuple[int, int]]:
    """Break text into lines of at most `width` cells; returns (start, end) of each. Words longer than a line break."""
    if not text.isascii():
        return list(_wrap_wide(text, width))
    lines: list[tuple[int, int]] = []
    at, length = 0, len(text)
    while length - at > width:
        space = text.rfind(" ", at, at + width + 1)
        end = space if space > at else at + width
        lines.append((at, end))
        at = end + (end == space)
    lines.append((at, length))
    return lines


def _wrap_wide(text: str, width: int) -> Iterator[tuple[int, int]]:
    from rich.cells import get_character_cell_size

    start, space, cells = 0, -1, 0
    cells_at_space = 0
    for i, char in enumerate(text):
        size = get_character_cell_size(char)
        if char == " " and cells + size <= width + 1:
            space, cells_at_space = i, cells + size
        elif cells + size > width:
            if space > start:
                yield start, space
                start, cells = space + 1, cells - cells_at_space
            elif i > start:
                yield start, i
                start, cells = i, 0
        cells += size
    yield start, len(text)
