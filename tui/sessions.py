"""The sessions that are kept: what each is about, in a line, as JSON, or as a list to print."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stt.clock import seconds
from tui import export, journal
from tui.document import StretchBegan
from tui.journal import JournalError


@dataclass(frozen=True, slots=True)
class Summary:
    """A session at a glance."""

    path: Path
    began_s: float
    """Seconds since the epoch."""
    duration_s: float
    """Of the audio that was heard."""
    turns: int
    words: int
    beginning: str
    """The first turn that has words."""

    def line(self) -> str:
        """Return it as a line of text."""
        day = time.strftime("%Y-%m-%d %H:%M", time.localtime(self.began_s))
        count = f"{self.words} word{'s' * (self.words != 1)}"
        return f"{day} {export.duration(self.duration_s):>6} {count:>12}  {self.beginning or '(nothing was said)'}"

    def document(self) -> str:
        """Return it as a JSON document."""
        fields = {
            "path": str(self.path),
            "began": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.began_s)),
            "duration": round(self.duration_s, 3),
            "turns": self.turns,
            "words": self.words,
            "beginning": self.beginning,
        }
        return json.dumps(fields, ensure_ascii=False)


def summaries(folder: Path) -> Iterator[Summary]:
    """Sum up every session in a folder, the newest first; what is no session is left out."""
    for path in sorted(folder.glob("*.jsonl"), key=lambda path: path.name, reverse=True):
        try:
            records, _ = journal.read(path)
        except JournalError:
            continue
        finals = (document := journal.replayed(records)).finals
        began_s = next((record.wall_s for _, record in records if isinstance(record, StretchBegan)), None)
        yield Summary(
            path,
            path.stat().st_mtime if began_s is None else began_s,
            seconds(document.end),
            len(finals),
            sum(len(block.text.split()) for block in finals),
            finals[0].text[:200] if finals else "",
        )


def show(folder: Path, *, as_json: bool) -> int:
    """Print the sessions, one a line; returns the exit status."""
    found = False
    for summary in summaries(folder):
        found = True
        print(summary.document() if as_json else f"{summary.line()[:110]}\n    {summary.path}")
    if not found and not as_json:
        print(f"no sessions in {folder}")
    return 0
