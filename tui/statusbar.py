"""The two lines that tell how listening goes: state, speech probability, level, lag, engine, device, overruns."""

import math
from collections import deque
from itertools import groupby
from typing import TYPE_CHECKING, ClassVar, Final

from rich.segment import Segment
from rich.style import Style
from textual.events import Click
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from tui import export
from tui.colours import styled

if TYPE_CHECKING:
    from tui.updates import Lagged

_FLOOR_DB: Final = -60.0
_CLIPPED: Final = 0.99  # full scale, less what resampling may take off
_CLIP_SHOWN: Final = 25  # updates, 1.6 s
_EIGHTHS: Final = " ▁▂▃▄▅▆▇█"
_LEFTS: Final = " ▏▎▍▌▋▊▉█"

STATES: Final = {
    "starting": "◌ starting",
    "opening": "◌ opening",
    "listening": "○ listening",
    "speaking": "● speaking",
    "pause": "‖ pause",
    "late": "◔ late",
    "muted": "■ mic off",
    "playing": "▶ playing",
    "held": "‖ held",
    "lost": "✗ no input",
    "ended": "■ ended",
}

_STATE_STYLES: Final = {"speaking": "speech", "playing": "speech", "pause": "pause", "muted": "pause", "held": "pause",
                        "late": "trouble", "lost": "trouble"}  # fmt: skip


def decibels(amplitude: float) -> float:
    """Full scale is 0 dB; digital silence is -inf."""
    return 20 * math.log10(amplitude) if amplitude > 0 else -math.inf


def level(amplitude: float) -> float:
    """How full a level meter is, 0 to 1: -60 dB is empty."""
    return max(0.0, 1 - decibels(amplitude) / _FLOOR_DB) if amplitude > 0 else 0.0


def spark(probability: float, threshold: float) -> tuple[str, str]:
    """Two cells, upper and lower: the upper one is empty below the threshold, so that the line between them is it."""
    if probability < threshold:
        return " ", _EIGHTHS[max(1, math.ceil(8 * probability / threshold))]
    return _EIGHTHS[max(1, math.ceil(8 * (probability - threshold) / (1 - threshold)))], "█"


def bar(fraction: float, width: int) -> str:
    """A bar in steps of an eighth of a cell."""
    eighths = round(max(0.0, min(1.0, fraction)) * 8 * width)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_LEFTS[rest] if rest else "")).ljust(width)


class StatusBar(Widget):
    """Shows what its attributes say; set them and `refresh()`."""

    DEFAULT_CSS = """
    StatusBar { height: 2; background: $surface; color: $foreground; }
    StatusBar > .status--muted { color: $foreground 75%; }
    StatusBar > .status--speech { color: $text-success; text-style: bold; }
    StatusBar > .status--pause { color: $text-warning; text-style: bold; }
    StatusBar > .status--trouble { color: $text-error; text-style: bold; }
    StatusBar > .status--clip { background: $error-muted; color: $text-error; text-style: bold; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "status--muted",
        "status--speech",
        "status--pause",
        "status--trouble",
        "status--clip",
    }

    class Pressed(Message):
        """The mouse pressed the state (`listen`) or the device (`devices`)."""

        def __init__(self, action: str) -> None:
            super().__init__()
            self.action = action

    def __init__(self, *, threshold: float) -> None:
        super().__init__(id="status")
        self.threshold = threshold
        self.state = "starting"
        self.engine = ""
        self.input = ""
        self.heard_s = 0.0
        self.overruns = 0
        self.interim_lag_s: float | None = None
        self.final_lag_s: float | None = None
        self.late: Lagged | None = None
        """A text that should be there, and is not."""
        self.played: tuple[float, float, float] | None = None
        """Of a replay: where it is, how long it is, seconds, and how fast it is played."""
        self.recording = False
        self._probabilities: deque[float] = deque(maxlen=120)
        self._rms = 0.0
        self._peak = 0.0
        self._clipped = 0

    def meter(self, peak: float, rms: float, probabilities: tuple[float, ...]) -> None:
        """Take what was heard in the last 60 ms or so."""
        self._rms = rms
        self._peak = max(peak, self._peak * 0.93)  # falls by 10 dB in 1 s
        self._clipped = _CLIP_SHOWN if peak >= _CLIPPED else max(0, self._clipped - 1)
        if probabilities:
            self._probabilities.append(max(probabilities))
        self.refresh()

    def silence(self) -> None:
        """Nothing is heard any more: empty the meters."""
        self._rms = self._peak = 0.0
        self._clipped = 0
        self._probabilities.clear()
        self.refresh()

    def on_click(self, event: Click) -> None:
        if event.x < 13:
            self.post_message(self.Pressed("listen"))
        elif event.y == 1:
            self.post_message(self.Pressed("devices"))

    def render_line(self, y: int) -> Strip:
        base = self.rich_style
        cells = self._upper(base) if y == 0 else self._lower(base)
        return Strip(cells).adjust_cell_length(self.size.width, base)

    @property
    def _spark_width(self) -> int:
        return 14 if self.size.width < 100 else 24 if self.size.width < 140 else 60

    @property
    def _level_width(self) -> int:
        return 10 if self.size.width < 100 else 16 if self.size.width < 140 else 24

    def _upper(self, base: Style) -> list[Segment]:
        muted = self._style("muted", base)
        shown = list(self._probabilities)[-self._spark_width :]
        sparks = "".join(spark(p, self.threshold)[0] for p in shown).rjust(self._spark_width)
        now = f"{self._probabilities[-1]:4.2f}" if self._probabilities else "    "
        segments = [
            Segment(f" {self._state():<11} ", self._state_style(base)),
            Segment(sparks, self._style("speech", base)),
            Segment(f" {now} ", base),
            *self._level(base),
        ]
        wide = self.size.width >= 100
        interim, final = _lag(self.interim_lag_s), _lag(self.final_lag_s)
        if self.late is not None:  # the true lag by now, not that of the last text that came
            late = f">{self.late.lag_s:.1f}s"
            interim, final = (interim, late) if self.late.final else (late, final)
        if (interim, final) != ("-", "-"):
            labels = ("lag: interim ", " final ") if self.size.width >= 120 else ("lag ", "/")
            segments += [Segment(f"  {labels[0]}", muted), Segment(interim, base)]
            segments += [Segment(labels[1], muted), Segment(final, base)]
        if self.overruns:
            lost = f"{self.overruns} overrun{'s' * (self.overruns != 1)}"
            segments += [Segment(f"  ⚠ {lost}" if wide else f" ⚠{self.overruns} lost", self._style("trouble", base))]
        elif self.size.width >= 120:
            segments += [Segment("  no overruns", muted)]
        return segments

    def _state(self) -> str:
        if self.state == "late" and self.late is not None:
            return f"◔ {export.duration(self.late.lag_s)} late"
        return STATES[self.state]

    def _clock(self) -> str:
        if self.played is None:
            return f" {export.duration(self.heard_s):>7} in  "
        at_s, length_s, speed = self.played
        return f" {export.clock(at_s)}/{export.clock(length_s)} x{speed:g} "

    def _lower(self, base: Style) -> list[Segment]:
        muted = self._style("muted", base)
        shown = list(self._probabilities)[-self._spark_width :]
        sparks = [(above, "".join(spark(p, self.threshold)[1] for p in run))
                  for above, run in groupby(shown, lambda p: p >= self.threshold)]  # fmt: skip
        segments = [
            Segment(f"{self._clock():<13}", muted),
            Segment(" " * (self._spark_width - len(shown)), base),
            *(Segment(cells, self._style("speech", base) if above else muted) for above, cells in sparks),
            Segment(f" ≥{self.threshold:.2f}".replace("0.", ".") + "  ", muted),
        ]
        if self.recording:
            segments.append(Segment("● REC ", self._style("trouble", base)))
        room = max(10, self.size.width - sum(segment.cell_length for segment in segments) - 1)
        parts = [part for part in (self.engine, self.input) if part]
        text = " · ".join(parts)
        if len(text) > room and len(parts) == 2:
            # Of both something, of the engine the beginning: `whisper tiny.en`
            keep = max(room // 2, room - 3 - len(parts[1]))
            engine = _cut(parts[0].split(" (")[0], keep)
            text = f"{engine} · {_cut(parts[1], room - 3 - len(engine))}"
        segments.append(Segment(_cut(text, room), base))
        return segments

    def _level(self, base: Style) -> list[Segment]:
        width = self._level_width
        level_db = decibels(self._rms)
        cells = bar(level(self._rms), width)
        peak = min(width, round(level(self._peak) * width))
        if peak and cells[peak - 1] == " ":
            cells = f"{cells[: peak - 1]}▏{cells[peak:]}"
        if self._clipped:
            figure = Segment(" CLIPPED", self._style("clip", base))
        else:
            figure = Segment(f" {f'{level_db:.0f}' if level_db > _FLOOR_DB else '-∞':>4} dB", base)
        muted = self._style("muted", base)
        return [Segment("▕", muted), Segment(cells, self._style("speech", base)), Segment("▏", muted), figure]

    def _state_style(self, base: Style) -> Style:
        return self._style(_STATE_STYLES.get(self.state, "muted"), base)

    def _style(self, name: str, base: Style) -> Style:
        return styled(self, f"status--{name}", base)


def _lag(lag_s: float | None) -> str:
    return "-" if lag_s is None else f"{lag_s:.2f}s"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: max(0, width - 1)]}…"
