"""How listening goes, as a value folded from updates, and what the reader is told of it. Pure: no clock, no screen."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tui.document import Block
from tui.updates import (
    EngineFailed,
    EngineLoading,
    EngineReady,
    InputEnded,
    InputLost,
    InputOpen,
    InputOpening,
    InputPaused,
    Lagged,
    Late,
    Metered,
    Noticed,
    ServerSays,
    Update,
)

_DIGITAL_SILENCE: Final = 50  # updates, 3 s, of nothing but zeros: no microphone in a room is that quiet


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says to the screen."""

    threshold: float = 0.5
    """Speech probability at which speech begins, to be shown."""
    language: str = "en"
    server: str = ""
    recordings: Path = Path("recordings")
    record_format: str = "wav"
    folder: Path = Path()
    """Where saving proposes to save."""
    replay: bool = False
    preferences: Path | None = None
    """Where the theme is remembered."""


class Condition:
    """What is known of the input, the engine and the server."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self.wanted = True
        """The reader wants to be heard."""
        self.phase = "starting"
        """One of `starting`, `opening`, `open`, `off`, `ended`."""
        self.input: InputOpen | None = None
        """The latest."""
        self.trouble: InputLost | EngineFailed | None = None
        self.engine = ""
        self.engine_ready = bool(options.server) or options.replay
        self.loading = EngineLoading("")
        self.server_says = ""
        self.late: Lagged | None = None
        """A text that should be there, and is not."""
        self.peak = 0.0
        self.not_kept = ""
        """Why the journal cannot be written."""
        self.leaving_s: int | None = None
        """How long leaving waits still for the running turn's final."""
        self._zeros = 0

    def take(self, update: Update) -> str:
        """Fold an update in; returns what is worth a message that passes."""
        match update:
            case Metered(peak):
                self.peak = peak
                self._zeros = self._zeros + 1 if peak == 0.0 else 0
            case Late(by):
                self.late = by
            case EngineLoading():
                self.loading = update
            case EngineReady(name, reason):
                self.engine, self.engine_ready, self.loading = name, True, EngineLoading("")
                if isinstance(self.trouble, EngineFailed):
                    self.trouble = None
                return f"Engine: {name}: {reason}" if reason and reason != "asked for" else ""
            case EngineFailed():
                self.trouble, self.wanted = update, False
            case InputOpening():
                self.phase = "opening"
            case InputOpen():
                return self._opened(update)
            case InputPaused():
                self._stopped("ended" if self.phase == "ended" else "off")
            case InputEnded():
                self.wanted = False
                self._stopped("ended")
            case InputLost():
                self.trouble = update
                self.wanted = self.wanted and update.again
                self._stopped("off")
            case ServerSays(text):
                self.server_says = text
            case Noticed(text):
                return text
            case _:
                pass
        return ""

    def _opened(self, opened: InputOpen) -> str:
        before, trouble = self.input, self.trouble
        self.input, self.phase, self.server_says = opened, "open", ""
        self._zeros, self.late = 0, None
        self.wanted = self.wanted or self._options.replay  # which goes on when it is wound
        if isinstance(trouble, InputLost):
            self.trouble = None
            return f"Listening to {opened.name} again" if trouble.ever_open else ""
        return f"Listening to {opened.name}" if before is not None and before.name != opened.name else ""

    def _stopped(self, phase: str) -> None:
        self.phase, self.peak, self._zeros, self.late = phase, 0.0, 0, None

    def ask(self, *, on: bool) -> None:
        """The reader wants to be heard, or not."""
        self.wanted = on
        if on:
            self.trouble = None
        self._stopped("opening" if on else "off")

    @property
    def hearing(self) -> bool:
        return self.phase == "open" and self.trouble is None

    @property
    def silent(self) -> bool:
        """The device sends digital silence."""
        return self._zeros >= _DIGITAL_SILENCE

    def state(self, running: Block | None) -> str:
        """Return a key of `tui.statusbar.STATES`; `running`: the turn that is not over."""
        if self.trouble is not None:
            return "lost"
        if self.phase == "off":
            return "held" if self._options.replay else "muted"
        if self.phase != "open":
            return self.phase
        if self.late is not None:
            return "late"
        if running is None:
            return "playing" if self._options.replay else "listening"
        return "pause" if running.state == "paused" else "speaking"

    @property
    def source(self) -> str:
        """What is listened to, for the status line."""
        if isinstance(self.trouble, InputLost):
            return f"no {self.trouble.what}"
        if self._options.replay:
            return self.input.name if self.input else ""
        if self.phase == "off":
            return "microphone off"
        return f"{self.input.name}, {self.input.rate / 1000:g} kHz" if self.input else ""

    @property
    def recognizer(self) -> str:
        """What recognizes, for the status line."""
        if isinstance(self.trouble, EngineFailed):
            return "engine: none"
        if self._options.replay:
            return "replay"
        return self.engine or self._options.server or f"engine: {self.loading.text or 'loading'}"

    def notice(self) -> tuple[str, bool]:
        """What is wrong, with what to do, as markup; and whether nothing can be heard because of it."""
        if self.leaving_s is not None:
            return f"◌ Finishing the last turn · {self.leaving_s} s · [b]q[/b] leaves with its words so far", False
        if self.trouble is not None:
            return _trouble(self.trouble), True
        if self.server_says:
            return f"[b]⚠ {literal(self._options.server)}:[/b] {literal(self.server_says)}", False
        if not self.engine_ready and self.loading.text:
            return f"◌ {literal(self.loading.text)} {_progress(self.loading.fraction)}", False
        if self.not_kept:
            return f"[b]⚠ Saving by itself fails:[/b] {literal(self.not_kept)}\n[b]s[/b] saves to another place", False
        if self.silent and self.wanted:
            name = literal(self.input.name if self.input else "")
            text = f"[b]⚠ {name} sends digital silence:[/b] is it muted, or is the terminal not allowed to use it?"
            return f"{text}\n[b]d[/b] another device", False
        return "", False

    def welcome(self) -> str:
        """What the screen says, as markup, while there are no turns."""
        text, error = self.notice()
        if error:
            return text + _ways_out(self.trouble)
        match self.phase:
            case "off" if self._options.replay:
                return "[b]space[/b] plays"
            case "off":
                return "The microphone is off. [b]space[/b] switches it on."
            case "ended":
                return "Nothing was said."
            case "starting" | "opening":
                return "Starting …"
            case _ if self._options.replay:
                return "Playing …"
            case _:
                kept = "" if self.engine_ready else (
                    "\nThe engine is still loading: what you say until then is kept for it."
                )  # fmt: skip
                return f"[b]Say something.[/b]\n\nIt is written here as you speak; [b]?[/b] shows the keys.{kept}"


def _trouble(trouble: InputLost | EngineFailed) -> str:
    match trouble:
        case EngineFailed(message):
            return f"[b]✗ The engine cannot be used:[/b] {literal(message)}\n[b]space[/b] tries again"
        case InputLost(message, "server", again=False):
            how = "a key is given with --api-key or STT_API_KEY · [b]space[/b] tries again"
            return f"[b]✗ The server refuses:[/b] {literal(message)}\n{how}"
        case InputLost(message, "server"):
            again = "it is tried again by itself · [b]space[/b] tries at once"
            return f"[b]✗ The server cannot be reached:[/b] {literal(message)}\n{again}"
        case InputLost(message, "file"):
            return f"[b]✗ The file cannot be played:[/b] {literal(message)}"
        case InputLost(message, _, ever_open):
            again = "it goes on by itself when the device is back" if ever_open else "looking again every 2 s"
            return f"[b]✗ No microphone:[/b] {literal(message)}\n{again} · [b]d[/b] another device"


def _ways_out(trouble: InputLost | EngineFailed | None) -> str:
    """What else a person can do who has nothing on the screen but an error."""
    if isinstance(trouble, InputLost) and trouble.what == "microphone":
        return (
            "\n\nWithout a microphone:\n"
            "  [b]stt tui --source talk.flac[/b]         plays a recording as if spoken\n"
            "  [b]stt tui --connect ws://HOST:15751[/b]  a server recognizes (--source too)\n"
            "  [b]stt tui --sessions[/b]                 earlier sessions, to read and save\n\n"
            "[b]q[/b] quits · [b]?[/b] help · [b]stt devices[/b] lists what there is"
        )
    if isinstance(trouble, EngineFailed):
        return "\n\n[b]q[/b] quits · stt tui --help lists engines and models"
    return "\n\n[b]q[/b] quits · [b]?[/b] help"


def _progress(fraction: float | None) -> str:
    if fraction is None:
        return ""
    full = round(fraction * 30)
    return f"{'█' * full}{'░' * (30 - full)} {fraction:.0%}"


def literal(text: str) -> str:
    """Keep `[` in a message from being read as markup."""
    return text.replace("[", r"\[")
