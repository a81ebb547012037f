"""What a session has asked for and not told yet, and the turn whose texts it tells: values of `session.py`."""

from dataclasses import dataclass, field
from typing import Final, Literal

from stt.events import Latency
from stt.recognition import Hypothesis, Kind, Recognition, Ticket
from stt.transcript import Transcript
from stt.turns import Window

Cause = Literal["interim", "pause", "cut", "end"]
KINDS: Final[dict[Cause, Kind]] = {"interim": "interim", "pause": "speculative", "cut": "final", "end": "final"}


@dataclass(slots=True, eq=False)
class Asked:
    """A request whose text is to come."""

    window: Window | None
    """`None` once a newer request has made this one pointless: its audio, up to 1.5 MB, need not be kept."""
    ticket: Ticket
    cause: Cause
    turn: int

    @property
    def stands(self) -> bool:
        """Whether it is what the turn's text will be, as far as was known when it was asked."""
        return self.cause != "interim"

    @property
    def preview(self) -> Recognition | None:
        """What came of an interim, where a model for those alone heard it: it need not wait for the other's text."""
        if self.stands or not self.ticket.done() or self.ticket.cancelled() or self.ticket.exception() is not None:
            return None
        recognition = self.ticket.result()
        return recognition if recognition is not None and recognition.hypothesis.preview else None


@dataclass(slots=True)
class RunningTurn:
    """The turn whose texts are being sent."""

    number: int = -1
    start: int = 0
    transcript: Transcript = field(default_factory=Transcript)
    latency: Latency | None = None
    failure: str | None = None
    """Why the last recognition that stands failed, while nothing has taken its place."""
    failed_window: int = 0
    preview: tuple[Window, Hypothesis] | None = None
    """The newest interim that was told while a text from before it was still to come; the transcript is without it."""
    ended: float | None = None
    """Whether a sentence ends with what was said so far (`Hypothesis.ended`)."""

    def update(self, window: Window, hypothesis: Hypothesis) -> None:
        """Take a hypothesis; a preview of what it has heard as well is over."""
        self.transcript.update(window, hypothesis)
        self.ended = hypothesis.ended
        if self.preview is not None and self.preview[0].end <= window.end:
            self.preview = None

    def keep_preview(self) -> None:
        """Take what was shown for what was said, where nothing better will come."""
        if self.preview is not None:
            self.update(*self.preview)

    def shown(self) -> tuple[Transcript, int, int]:
        """Return what a reader is to see, and how many of its characters are committed, and stable."""
        transcript = self.transcript
        if self.preview is None:
            return transcript, transcript.committed_chars, transcript.stable_chars
        shown = transcript.with_preview(*self.preview)
        return shown, *shown.agreed_chars(transcript)
