"""What opens over the turns: help, devices, saving, editing, asking. Each is left with Escape."""

import difflib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, TypeVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Label, OptionList, Static, TextArea
from textual.widgets.option_list import Option
from textual.widgets.text_area import Document, Selection

from tui import export
from tui.statusbar import bar, level
from tui.updates import Answered, NotAnswered

if TYPE_CHECKING:
    from tui.devices import Devices, Row

HELP: Final = """\
[b]Listening[/b]
  [b]space[/b]      microphone off and on; also tries again after an error
  [b]d[/b]          choose a microphone, seeing what each one hears
  [b]r[/b]          record the audio, with its events beside it

[b]Text[/b]
  [b]c[/b]          copy the selected turn, or the last one
  [b]C[/b]          copy all turns
  [b]s[/b]          save as txt, srt, vtt, json or md
  [b]e[/b]          edit the selected turn, or the last one
  [b]x[/b]          clear;  [b]u[/b] takes back a clearing or an edit
  [b]a[/b]          ask about what was said, where the engine can answer

[b]Moving[/b]
  [b]↑ ↓[/b] [b]k j[/b]    select a turn (or click it; twice to edit)
  [b]PgUp PgDn[/b]  scroll
  [b]Home[/b] [b]g[/b]     first turn;  [b]End[/b] [b]G[/b]  last turn, following it
  [b]/[/b]          search; [b]n[/b] and [b]N[/b] next and previous, [b]Esc[/b] ends it

[b]In a replay[/b]
  [b]space[/b]      hold, and go on;  [b]←[/b] [b]→[/b]  back and on by 10 s;  [b]-[/b] [b]+[/b]  slower and faster

[b]Program[/b]
  [b]t[/b]          light or dark
  [b]Ctrl+P[/b]     all commands
  [b]Ctrl+Z[/b]     suspend, as in any program;  fg  comes back
  [b]q[/b]          quit, once the running turn has its final; again: at once

[b]On the screen[/b]
  [b]┃ ●[/b] someone speaks   [b]┇ ‖[/b] a pause: the turn may go on   [b]│[/b] a finished turn
  words in [$text-muted i]dim italics[/] may still change; [b]✎[/b] was edited by you
  [b]speech[/b]     its probability over time; the upper of the two rows begins at
             the threshold (≥) from which sound counts as speech
  [b]level[/b]      in dB of full scale; CLIPPED: too loud
  [b]lag[/b]        of interim words, after they were spoken; of a turn's final
             text, after the silence that ended the turn;  [b]◔ late[/b]: a text that
             should be there by now, and for how long
  [b]overruns[/b]   pieces of sound that were lost because nobody took them in time

Everything is kept as it is said: [b]stt tui --resume[/b] goes on with it, and
[b]stt tui --sessions[/b] shows what there is."""


SCROLL: Final = ("up", "down", "home", "end")
_CSS: Final = """
    align: center middle;
    & > #box {
        width: auto; max-width: 96%; height: auto; max-height: 96%;
        padding: 1 2; background: $surface; border: round $primary;
        border-title-color: $text-primary; border-title-style: bold;
    }
    &.-low > #box { padding: 0 1; border: none; max-height: 100%; overflow-y: auto; scrollbar-size-vertical: 1; }
    &.-low .hint, &.-low Horizontal { margin-top: 0; }
    &.-low Input { border: none; height: 1; padding: 0; }
    .hint { color: $text-muted; margin-top: 1; width: 100%; }
    .error { color: $text-error; width: 100%; background: transparent; }
    #box Button.-primary { background: $primary-darken-2; color: $text; }
    OptionList > .option-list--option-highlighted, OptionList:focus > .option-list--option-highlighted {
        background: $primary-darken-2; color: $text;
    }
"""


Result = TypeVar("Result")


class Dialog(ModalScreen[Result]):
    """What opens over the turns; on a low screen it has no frame, and scrolls."""

    VERTICAL_BREAKPOINTS: list[tuple[int, str]] | None = [(0, "-low"), (16, "-high")]  # noqa: RUF012 - as Textual has it


class HelpScreen(Dialog[None]):
    """The keys, and what the signs mean."""

    DEFAULT_CSS = (
        f"HelpScreen {{ {_CSS} & > #box {{ width: 82; scrollbar-size-vertical: 1; }} #help {{ width: 100%; }} }}"
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,q,space,enter", "dismiss", "Close"),
        *(Binding(key, f"scroll('{how}')", show=False) for key, how in zip("kjgG", SCROLL, strict=True)),
    ]

    def action_scroll(self, how: str) -> None:
        """Scroll as vi does."""
        getattr(self.query_one("#box"), f"action_scroll_{how}")()

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="box") as box:
            box.border_title = "Keys"
            yield Static(HELP, id="help")


class AskScreen(Dialog[bool]):
    """A question with two answers."""

    DEFAULT_CSS = f"""
    AskScreen {{ {_CSS}
        & > #box {{ width: 64; }}
        Horizontal {{ height: auto; margin-top: 1; align-horizontal: right; }}
        Button {{ margin-left: 1; min-width: 8; }}
    }}
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "Yes"),
        Binding("n,escape", "answer(False)", "No"),
        Binding("left,right", "app.focus_next", show=False),
    ]

    def __init__(self, title: str, question: str, yes: str, no: str) -> None:
        super().__init__()
        self._title, self._question, self._yes, self._no = title, question, yes, no

    def compose(self) -> ComposeResult:
        with Vertical(id="box") as box:
            box.border_title = self._title
            yield Static(self._question, markup=False)
            with Horizontal():
                yield Button(f"{self._no} (n)", id="no", variant="primary", compact=True)
                yield Button(f"{self._yes} (y)", id="yes", compact=True)

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        self.dismiss(event.button.id == "yes")

    def action_answer(self, answer: bool) -> None:
        self.dismiss(answer)


class EditScreen(Dialog[str | None]):
    """A turn's text, to be changed; gives `None` if it is to stay.

    Tab goes from one word that the engine was not sure of to the next, Ctrl and arrows from any word to the next.
    """

    DEFAULT_CSS = f"""
    EditScreen {{ {_CSS}
        & > #box {{ width: 80; }}
        TextArea {{ height: 8; border: none; padding: 0 1; }}
        TextArea:focus {{ border: none; }}
    }}
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Leave as it is"),
        Binding("enter,ctrl+s", "save", "Save", priority=True),
        Binding("tab", "unsure(1)", "Next unsure word", priority=True),
        Binding("shift+tab", "unsure(-1)", "Unsure word before", priority=True),
    ]

    def __init__(self, title: str, text: str, unsure: Sequence[tuple[int, int]] = ()) -> None:
        super().__init__()
        self._title, self._text, self._unsure = title, text, unsure

    def compose(self) -> ComposeResult:
        with Vertical(id="box") as box:
            box.border_title = self._title
            yield TextArea(self._text, soft_wrap=True, show_line_numbers=False)
            words = "Tab: next unsure word · " if self._unsure else ""
            yield Label(f"{words}Ctrl+← →: by word · Enter saves · Esc leaves it as it was", classes="hint")

    def on_mount(self) -> None:
        area = self.query_one(TextArea)
        area.move_cursor(area.document.end)

    def action_unsure(self, step: int) -> None:
        """Select the next unsure word, or the one before; after the last comes the first."""
        area = self.query_one(TextArea)
        document = area.document
        there = list(kept(self._text, area.text, self._unsure))
        if not there or not isinstance(document, Document):
            return
        at = document.get_index_from_location(min(area.selection))
        later = [span for span in there if span[0] > at] or there
        before = [span for span in there if span[0] < at] or there
        start, end = later[0] if step > 0 else before[-1]
        place = document.get_location_from_index
        area.selection = Selection(place(start), place(end))

    def action_save(self) -> None:
        self.dismiss(" ".join(self.query_one(TextArea).text.split()))


def kept(before: str, after: str, spans: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Find where in a text that was changed the spans are that are as they were."""
    blocks = difflib.SequenceMatcher(None, before, after, autojunk=False).get_matching_blocks()
    for start, end in spans:
        for at, now, size in blocks:
            if at <= start and end <= at + size:
                yield start - at + now, end - at + now


class _Format(Button):
    """A format in the save dialog: a click, or space, chooses it; Enter saves as it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "screen.save_as", "Save", show=False),
        Binding("space", "press", "Choose", show=False),
    ]


class SaveScreen(Dialog[Path | None]):
    """Where to save, and as what: the suffix is the format."""

    DEFAULT_CSS = f"""
    SaveScreen {{ {_CSS}
        & > #box {{ width: 76; }}
        Input {{ border: tall $primary; }}
        #formats {{ height: auto; }}
        #formats Button {{ margin-right: 1; min-width: 5; }}
    }}
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Cancel"),
        *(Binding(f"ctrl+{key}", f"format('{kind}')", kind, priority=True, show=False)
          for key, kind in zip("trvjn", export.FORMATS, strict=True)),
    ]  # fmt: skip

    def __init__(self, proposal: Path, turns: int) -> None:
        super().__init__()
        self._proposal, self._turns = proposal, turns
        self._confirmed: Path | None = None

    def compose(self) -> ComposeResult:
        with Vertical(id="box") as box:
            box.border_title = f"Save {self._turns} turn{'s' * (self._turns != 1)}"
            yield Input(str(self._proposal), select_on_focus=False)
            with Horizontal(id="formats"):
                for kind in export.FORMATS:
                    yield _Format(kind, id=kind, compact=True)
            yield Label("", classes="error", id="problem")
            yield Label("Enter saves · Tab: other formats, or type the suffix · Esc cancels", classes="hint")

    def on_mount(self) -> None:
        self._mark()

    @on(Input.Changed)
    def _mark(self) -> None:
        self.query_one("#problem", Label).update("")
        suffix = Path(self.query_one(Input).value).suffix
        for button in self.query(Button):
            button.variant = "primary" if f".{button.id}" == suffix else "default"

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        self.action_format(event.button.id or "txt")

    def action_format(self, kind: str) -> None:
        field = self.query_one(Input)
        folder, slash, name = field.value.rpartition("/")
        with self.prevent(Input.Changed):  # which would come after what follows
            field.value = f"{folder}{slash}{Path(name).stem or 'transcript'}.{kind}"
        self._mark()
        field.focus()

    def action_save_as(self) -> None:
        if isinstance(self.focused, _Format):
            self.action_format(self.focused.id or "txt")
        self._save()

    @on(Input.Submitted)
    def _save(self) -> None:
        try:
            self._save_at(Path(self.query_one(Input).value.strip()).expanduser())
        except (OSError, RuntimeError) as error:  # too long, behind a closed folder; a home of nobody (`~nobody/x`)
            self._tell(getattr(error, "strerror", None) or str(error))

    def _save_at(self, path: Path) -> None:
        if path.suffix.removeprefix(".") not in export.FORMATS:
            problem = f"expected a name ending in {', '.join(f'.{kind}' for kind in export.FORMATS)}"
        elif path.is_dir():
            problem = f"{path} is a directory"
        elif not path.parent.is_dir():
            problem = f"there is no directory {path.parent}"
        elif path.exists() and self._confirmed != path:
            self._confirmed = path
            problem = f"{path.name} exists; Enter once more writes over it"
        else:
            self.dismiss(path)
            return
        self._tell(problem)

    def _tell(self, problem: str) -> None:
        self.query_one("#problem", Label).update(Content(problem))


class QuestionScreen(ModalScreen[None]):
    """A question about the turns, and its answer as it comes."""

    DEFAULT_CSS = f"""
    QuestionScreen {{ {_CSS}
        & > #box {{ width: 80; }}
        Input {{ border: tall $primary; }}
        #answered {{ height: auto; max-height: 14; margin: 0 1; }}
        #answer {{ width: 100%; }}
    }}
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Close"),
        *(Binding(key, f"scroll('{how}')", show=False) for key, how in zip(("up", "down"), SCROLL, strict=False)),
    ]

    def __init__(self, ask: Callable[[str], None]) -> None:
        """`ask` has a question answered: what comes of it is for `take`."""
        super().__init__()
        self._ask = ask

    def compose(self) -> ComposeResult:
        with Vertical(id="box") as box:
            box.border_title = "Ask about what was said"
            yield Input(placeholder="What was decided?")
            with VerticalScroll(id="answered", can_focus=False):
                yield Static("", id="answer", markup=False)
            yield Label("", classes="error", id="problem")
            yield Label("Enter asks · ↑ ↓ scroll · Esc closes", classes="hint", id="hint")

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        if question := event.value.strip():
            self.take(Answered(0, "…"))
            self._ask(question)

    def take(self, answer: Answered | NotAnswered) -> None:
        """Show what there is of the answer, or why there is none."""
        hint, problem = "Enter asks · ↑ ↓ scroll · Esc closes", ""
        match answer:
            case NotAnswered(why=why):
                problem = why
            case Answered(text=text, state=state):
                self.query_one("#answer", Static).update(text)
                self.query_one("#answered").scroll_end(animate=False)
                problem = "The answer was cut off: it may be no longer." if state == "cut off" else ""
                hint = "answering · Esc gives up" if state == "growing" else hint
        self.query_one("#problem", Label).update(Content(problem))
        self.query_one("#hint", Label).update(hint)

    def action_scroll(self, how: str) -> None:
        """Scroll the answer."""
        getattr(self.query_one("#answered"), f"action_scroll_{how}")()


DEFAULT_DEVICE: Final = "system default"


class DeviceScreen(Dialog[str | int | None]):
    """The microphones, each with what it hears just now. Gives an index, `DEFAULT_DEVICE`, or `None`: as it was."""

    DEFAULT_CSS = f"""
    DeviceScreen {{ {_CSS}
        & > #box {{ width: 78; }}
        OptionList {{ height: auto; max-height: 14; border: none; padding: 0; background: $surface; }}
        OptionList:focus {{ border: none; }}
    }}
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,d", "dismiss(None)", "Cancel"),
        Binding("r", "reload", "Look again"),
    ]

    def __init__(self, devices: "Devices", current: str) -> None:
        super().__init__()
        self._devices = devices
        self._current = current
        self._shown: list[str] = []

    def compose(self) -> ComposeResult:
        with Vertical(id="box") as box:
            box.border_title = "Microphone"
            yield OptionList(id="devices")
            yield Label("", classes="error", id="problem")
            yield Label("Enter chooses · r looks for new devices · Esc leaves it as it is", classes="hint")

    def on_mount(self) -> None:
        self._look(again=False)
        self.set_interval(1 / 10, self._redraw)

    def action_reload(self) -> None:
        self._look(again=True)

    def _look(self, *, again: bool) -> None:
        self._shown = []
        self.query_one(OptionList).clear_options()
        self.query_one("#problem", Label).update("looking for microphones …")
        self._devices.open(again=again)

    @on(OptionList.OptionSelected)
    def _chosen(self, event: OptionList.OptionSelected) -> None:
        chosen = event.option.id or ""
        self.dismiss(int(chosen) if chosen.isdecimal() else DEFAULT_DEVICE)

    def _redraw(self) -> None:
        devices = self._devices
        if devices.rows is None:
            return
        self.query_one("#problem", Label).update(Content(devices.problem))
        rows = {} if devices.problem else {DEFAULT_DEVICE: "   System default, as it is now"} | {
            str(row.index): _device_line(row, current=row.name == self._current) for row in devices.rows
        }  # fmt: skip
        options = self.query_one(OptionList)
        if list(rows) != self._shown:
            self._shown = list(rows)
            options.clear_options()
            options.add_options([Option(Content(text), id=key) for key, text in rows.items()])
            options.highlighted = next((i for i, text in enumerate(rows.values()) if text.startswith(" ✓")), 0)
            options.focus()
        else:
            for key, text in rows.items():
                options.replace_option_prompt(key, Content(text))


def _device_line(row: "Row", *, current: bool) -> str:
    mark = "✓" if current else " "
    name = f"{row.name[:33]}{' (default)' if row.is_default else ''}"
    if row.problem:
        return f" {mark} {name:<44} {row.problem[:24]}"
    return f" {mark} {name:<44} ▕{bar(level(row.peak), 14)}▏"
