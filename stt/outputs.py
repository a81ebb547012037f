"""Turns as text, SubRip, WebVTT and JSON: pure, turns in, text out."""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from stt.events import TurnCompleted

FORMATS: Final = ("txt", "srt", "vtt", "json")

# What subtitle makers keep to: two lines of 42 characters, up for 7 seconds at most.
_LINE: Final = 42
_CUE_CHARS: Final = 2 * _LINE
_CUE_S: Final = 7.0
_SENTENCE_END: Final = r"(?<!\b[A-Z])(?<!\b(?:Dr|Mr|Ms|St|vs))(?<!\b(?:Mrs|etc))[.!?][\"')\]]* "


@dataclass(frozen=True, slots=True)
class Cue:
    """One subtitle; `text` has a line break where it is longer than a line."""

    start_s: float
    end_s: float
    text: str


def cues(turns: Iterable[TurnCompleted]) -> Iterator[Cue]:
    """Cut turns into subtitles, at the ends of sentences and clauses where possible.

    Where a turn begins and ends, and where a long one was cut into windows, times are measured; inside those they are
    spread over the characters.
    """
    for turn in turns:
        for passage in turn.passages:
            # The engine heard a little more than the turn, so that its first and last words are whole.
            start_s = min(max(passage.start_s, turn.start_s), turn.end_s)
            end_s = max(min(passage.end_s, turn.end_s), start_s)
            yield from _passage_cues(passage.text, start_s, end_s)


def _passage_cues(text: str, start_s: float, end_s: float) -> Iterator[Cue]:
    duration_s = end_s - start_s
    # Slow speech: fewer characters fit into the longest time.
    chars = max(12, min(_CUE_CHARS, int(_CUE_S * len(text) / max(duration_s, 0.1))))
    at = 0
    for piece in _pieces(text, chars):
        began = at
        at = min(len(text), at + len(piece) + 1)
        yield Cue(start_s + duration_s * began / len(text), start_s + duration_s * at / len(text), _two_lines(piece))


def _pieces(text: str, chars: int) -> Iterator[str]:
    """Cut text into pieces of at most `chars` characters (a single longer word stays whole)."""
    while len(text) > chars:
        head = text[: chars + 1]
        # Best after a sentence, else after a clause, else between words; not right at the beginning.
        for pattern in (_SENTENCE_END, r"[,;:] ", r" "):
            ends = [match.end() for match in re.finditer(pattern, head) if match.end() > chars // 3]
            if ends:
                break
        else:
            space = text.find(" ")
            ends = [space + 1 if space >= 0 else len(text)]
        yield text[: ends[-1]].rstrip()
        text = text[ends[-1] :]
    if text:
        yield text


def _two_lines(text: str) -> str:
    if len(text) <= _LINE:
        return text
    spaces = [i for i, char in enumerate(text) if char == " "]
    if not spaces:
        return text
    middle = min(spaces, key=lambda i: abs(i - len(text) / 2))
    return f"{text[:middle]}\n{text[middle + 1 :]}"


def clock(time_s: float, decimal: str = ".") -> str:
    """Write seconds as 00:01:02.345."""
    ms = round(time_s * 1000)
    return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}{decimal}{ms % 1000:03}"


class Writer:
    """Text of one file, turn by turn: `head`, then `turn` for each turn with words, then `tail`; to be concatenated.

    Args:
        kind: one of `FORMATS`.
        about: what the JSON says about the file.
        encoding: of the file it goes to; JSON escapes what that cannot hold.

    """

    def __init__(self, kind: str, about: dict[str, Any], encoding: str = "utf-8") -> None:
        if kind not in FORMATS:
            msg = f"format: expected one of {', '.join(FORMATS)}, got {kind!r}"
            raise ValueError(msg)
        self._kind = kind
        self._about = about
        self._encoding = encoding
        self._turns: list[TurnCompleted] = []
        self._cues = 0

    def head(self) -> str:
        """What comes before the first turn."""
        return "WEBVTT\n\n" if self._kind == "vtt" else ""

    def turn(self, turn: TurnCompleted) -> str:
        """What a finished turn adds."""
        match self._kind:
            case "txt":
                return f"{turn.text}\n"
            case "json":  # one document, at the end
                self._turns.append(turn)
                return ""
            case _:
                return "".join(self._cue(cue) for cue in cues([turn]))

    def _cue(self, cue: Cue) -> str:
        self._cues += 1
        if self._kind == "srt":
            return f"{self._cues}\n{clock(cue.start_s, ',')} --> {clock(cue.end_s, ',')}\n{cue.text}\n\n"
        # In WebVTT text, these begin a tag or an entity.
        text = cue.text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        return f"{clock(cue.start_s)} --> {clock(cue.end_s)}\n{text}\n\n"

    def tail(self, **more: Any) -> str:
        """What comes after the last turn; `more` joins what the JSON says about the file."""
        if self._kind != "json":
            return ""
        turns = [
            {"turn": t.turn, "start": round(t.start_s, 3), "end": round(t.end_s, 3), "text": t.text}
            for t in self._turns
        ]
        document = {**self._about, **more, "turns": turns}
        text = json.dumps(document, ensure_ascii=False)
        try:
            text.encode(self._encoding)
        except UnicodeEncodeError:  # a locale that is not UTF-8, or a file name that is not
            text = json.dumps(document)
        return f"{text}\n"
