"""Turns as text, SubRip, WebVTT and JSON: pure, turns in, text out."""

import json
from typing import Any, Final

from stt.events import TurnCompleted
from stt.subtitles import Cue, cues, each_word

FORMATS: Final = ("txt", "srt", "vtt", "json")


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
        words: subtitles word by word: in `srt` a cue for each, in `vtt` a moment for each within its cue.

    """

    def __init__(self, kind: str, about: dict[str, Any], encoding: str = "utf-8", *, words: bool = False) -> None:
        if kind not in FORMATS:
            msg = f"format: expected one of {', '.join(FORMATS)}, got {kind!r}"
            raise ValueError(msg)
        self._kind = kind
        self._about = about
        self._encoding = encoding
        self._words = words
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
            case "srt":
                return "".join(map(self._srt, each_word(turn) if self._words else cues([turn])))
            case _:
                return "".join(map(self._vtt, cues([turn])))

    def _srt(self, cue: Cue) -> str:
        self._cues += 1
        return f"{self._cues}\n{clock(cue.start_s, ',')} --> {clock(cue.end_s, ',')}\n{cue.text}\n\n"

    def _vtt(self, cue: Cue) -> str:
        text = _moments(cue) if self._words else _escaped(cue.text)
        return f"{clock(cue.start_s)} --> {clock(cue.end_s)}\n{text}\n\n"

    def tail(self, **more: Any) -> str:
        """What comes after the last turn; `more` joins what the JSON says about the file."""
        if self._kind != "json":
            return ""
        turns = [_document(turn) for turn in self._turns]
        document = {**self._about, **more, "turns": turns}
        text = json.dumps(document, ensure_ascii=False)
        try:
            text.encode(self._encoding)
        except UnicodeEncodeError:  # a locale that is not UTF-8, or a file name that is not
            text = json.dumps(document)
        return f"{text}\n"


def _escaped(text: str) -> str:
    """Write what begins a tag or an entity in WebVTT text."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _moments(cue: Cue) -> str:
    """Put each word into a WebVTT span that begins when it is said."""
    said, lines = clock(cue.start_s), []
    for line in cue.lines:
        spans = []
        for i, word in enumerate(line):
            text = word.text if i else word.text.lstrip()
            bare = text.lstrip()
            at = clock(word.start_s)
            # A moment has to be later than the one before it, and the first is the cue's.
            moment = f"<{at}>" if at > said else ""
            said = max(said, at)
            spans.append(f"{text[: len(text) - len(bare)]}{moment}<c>{_escaped(bare)}</c>")
        lines.append("".join(spans))
    return "\n".join(lines)


def _document(turn: TurnCompleted) -> dict[str, Any]:
    document: dict[str, Any] = {
        "turn": turn.turn,
        "start": round(turn.start_s, 3),
        "end": round(turn.end_s, 3),
        "text": turn.text,
    }
    if turn.language is not None:
        document["language"] = turn.language
    if turn.words:
        document["words"] = [
            {
                "text": word.text,
                "start": round(word.start_s, 3),
                "end": round(word.end_s, 3),
                "confidence": None if word.confidence is None else round(word.confidence, 3),
            }
            for word in turn.words
        ]
    return document
