"""The turns on the screen. Draws only the lines that are seen, so that 5,000 turns cost what 20 do."""

from bisect import bisect_right
from itertools import pairwise
from typing import ClassVar, Final

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import Reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui import export
from tui.colours import styled
from tui.document import Block, Document, matcher, wrap

_GUTTER: Final = 20  # marker, time of day, duration, bar
_NARROW: Final = 56  # below this width, time and duration stand above the text instead
_MEASURE: Final = 100  # longer lines are hard to read
_BAR: Final = {"speaking": "┃", "paused": "┇", "final": "│"}
_GLYPH: Final = {"speaking": "●", "paused": "‖", "final": " "}


class TurnView(ScrollView, can_focus=True):
    """A document's blocks; follows the end until the reader scrolls up."""

    DEFAULT_CSS = """
    TurnView {
        scrollbar-size-vertical: 1;
        background: $background;
        color: $foreground;
        overflow-x: hidden;
        overflow-y: scroll;
        scrollbar-background: $background;
        scrollbar-color: $surface-lighten-2;
    }
    TurnView > .turns--time { color: $foreground 75%; }
    TurnView > .turns--bar { color: $foreground 75%; }
    TurnView > .turns--bar-speaking { color: $text-success; text-style: bold; }
    TurnView > .turns--bar-paused { color: $text-warning; text-style: bold; }
    TurnView > .turns--tentative { color: $foreground 75%; text-style: italic; }
    TurnView > .turns--unsure { text-style: underline; }
    TurnView > .turns--failure { color: $text-error; text-style: italic; }
    TurnView > .turns--match { background: $warning 25%; text-style: underline; }
    TurnView > .turns--match-current { background: $foreground; color: $background; text-style: bold; }
    TurnView > .turns--selected { background: $primary 20%; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "turns--time",
        "turns--bar",
        "turns--bar-speaking",
        "turns--bar-paused",
        "turns--tentative",
        "turns--unsure",
        "turns--failure",
        "turns--match",
        "turns--match-current",
        "turns--selected",
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "select(-1)", "Select the turn above", show=False),
        Binding("down,j", "select(1)", "Select the turn below", show=False),
        Binding("pageup", "page_up", "Page up", show=False),
        Binding("pagedown", "page_down", "Page down", show=False),
        Binding("home,g", "scroll_home", "First turn", show=False),
        Binding("end,G", "follow", "Last turn, and follow", show=False),
    ]

    # A widget's default lays the whole screen out again when this changes, which would cost 20 ms a turn and more; here
    # only the scrollbar has to know.
    virtual_size = Reactive(Size(0, 0))

    class FollowChanged(Message):
        """The reader has scrolled up (`unseen` turns lie below) or is back at the end."""

        def __init__(self, *, following: bool, unseen: int) -> None:
            super().__init__()
            self.following = following
            self.unseen = unseen

    def __init__(self, document: Document) -> None:
        super().__init__(id="turns")
        self.document = document
        self.selected: int | None = None
        self._offsets: list[int] = [0]  # first line of each block, and the line after the last
        self._spans: dict[int, list[tuple[int, int]]] = {}  # line breaks of the blocks last drawn
        self._width = 0
        self._following = True
        self._seen = 0  # blocks there were when the reader left the end
        self._needle = ""
        self._match: tuple[int, int] | None = None

    # what the app calls

    def changed(self, first: int) -> None:
        """Blocks from index `first` on are no longer as they were."""
        if self.selected is not None and self.selected >= len(self.document.blocks):
            self.selected = None
        old_end = self._offsets[-1]
        self._lay_out(first)
        self._set_height()
        if self._following:
            self.scroll_end(animate=False, immediate=True)
        elif len(self.document.blocks) != self._seen:
            self._tell()
        top = self._offsets[min(first, len(self._offsets) - 1)] - self.scroll_offset.y
        lines = max(old_end, self._offsets[-1]) - self.scroll_offset.y - top
        self.refresh(Region(0, max(0, top), self.size.width, max(0, lines + min(0, top)) + 1))

    def show(self, document: Document) -> None:
        """Show another document."""
        self.document = document
        self._seen = min(self._seen, len(document.blocks))
        self.changed(0)

    def show_matches(self, needle: str, match: tuple[int, int] | None) -> None:
        """Mark every place of `needle`, and one of them (block, character) as the current one, which is shown."""
        self._needle, self._match = needle, match
        if match is not None:
            self._show_block(match[0], character=match[1])
        self.refresh()

    def select(self, index: int | None) -> None:
        """Mark a turn, for the keys that copy and edit."""
        self.selected = index
        if index is not None:
            self._show_block(index)
        self.refresh()

    def follow(self) -> None:
        """Go to the end and stay there."""
        self.selected = None
        self._set_following(True)
        self.scroll_end(animate=False, immediate=True)
        self.refresh()

    # layout

    def _lay_out(self, first: int) -> None:
        blocks = self.document.blocks
        first = min(first, len(self._offsets) - 1, len(blocks))
        del self._offsets[first + 1 :]
        self._spans.clear()
        at = self._offsets[-1]
        width, head = self._text_width, self._head_lines
        for i in range(first, len(blocks)):
            at += head + len(wrap(_shown(blocks[i]), width)) + 1
            self._offsets.append(at)

    def _set_height(self) -> None:
        height = self._offsets[-1]
        self.virtual_size = Size(self._width, height)
        self.vertical_scrollbar.window_virtual_size = height
        self.vertical_scrollbar.window_size = self.container_size.height
        if self.scroll_y > self.max_scroll_y:
            self.scroll_to(y=self.max_scroll_y, animate=False, immediate=True)

    @property
    def _narrow(self) -> bool:
        return self._width < _NARROW

    @property
    def _head_lines(self) -> int:
        return 1 if self._narrow else 0

    @property
    def _text_width(self) -> int:
        room = self._width - 2 if self._narrow else self._width - _GUTTER - 1
        return max(8, min(room, _MEASURE))

    def _show_block(self, index: int, character: int = 0) -> None:
        top, bottom = self._offsets[index], self._offsets[index + 1]
        if character:
            lines = wrap(_shown(self.document.blocks[index]), self._text_width)
            line = next((i for i, (_, end) in enumerate(lines) if character < end), 0)
            top, bottom = top + line, top + self._head_lines + line + 2
        height, y = self.size.height, self.scroll_offset.y
        if top < y:
            self.scroll_to(y=top, animate=False, immediate=True)
        elif bottom > y + height:
            self.scroll_to(y=min(top, bottom - height), animate=False, immediate=True)

    # following

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        self._set_following(round(new_value) >= self.max_scroll_y)

    def _set_following(self, following: bool) -> None:
        if following != self._following:
            self._following = following
            self._seen = len(self.document.blocks)
            self._tell()

    def _tell(self) -> None:
        unseen = max(0, len(self.document.blocks) - self._seen)
        self.post_message(self.FollowChanged(following=self._following, unseen=unseen))

    # keys and mouse

    def action_select(self, step: int) -> None:
        count = len(self.document.blocks)
        if not count:
            return
        index = count - 1 if self.selected is None else min(count - 1, max(0, self.selected + step))
        self.select(index)

    def action_follow(self) -> None:
        self.follow()

    def on_resize(self, event: events.Resize) -> None:
        width = self.scrollable_content_region.width or event.size.width
        if width == self._width:
            if self._following:
                self.scroll_end(animate=False, immediate=True)
            return
        # The turn at the top stays at the top, however its lines break now.
        following, top = self._following, self._block_at(self.scroll_offset.y)
        self._width = width
        self._lay_out(0)
        self._set_height()
        if following:
            self.scroll_end(animate=False, immediate=True)
            self._set_following(True)
        elif top is not None:
            self.scroll_to(y=self._offsets[top], animate=False, immediate=True)
        self.refresh()

    def on_click(self, event: events.Click) -> None:
        index = self._block_at(event.y + self.scroll_offset.y)
        if index is None:
            return
        self.select(index)
        if event.chain == 2:
            self.app.call_later(self.app.run_action, "edit")

    def _block_at(self, line: int) -> int | None:
        return None if not 0 <= line < self._offsets[-1] else bisect_right(self._offsets, line) - 1

    # drawing

    def render_line(self, y: int) -> Strip:
        width = self.scrollable_content_region.width
        base = self.rich_style
        line = y + self.scroll_offset.y
        index = self._block_at(line)
        if index is None or index >= len(self.document.blocks):
            return Strip.blank(width, base)
        block = self.document.blocks[index]
        within = line - self._offsets[index]
        if index not in self._spans:
            if len(self._spans) > 200:
                self._spans.clear()
            self._spans[index] = wrap(_shown(block), self._text_width)
        spans = self._spans[index]
        if within == self._head_lines + len(spans):
            return Strip.blank(width, base)  # between two turns
        marked = index == self.selected
        if marked:
            base = self._style("turns--selected", base)
        segments = self._gutter(block, within, marked, base)
        within -= self._head_lines
        if within >= 0:
            segments += self._text(index, block, *spans[within], base)
        return Strip(segments).adjust_cell_length(width, base)

    def _gutter(self, block: Block, within: int, marked: bool, base: Style) -> list[Segment]:
        marker = "▸" if marked and within == 0 else " "
        head = ""
        if within == 0:
            paused = block.state == "paused" and block.probability is not None
            told = f"{block.probability:.0%}" if paused else export.duration(block.duration_s)
            head = f"{export.wall(block.wall_s)} {_GLYPH[block.state]}{told:>6}"
            head += "✎" if block.edited else " "
        muted = self._style("turns--time", base)
        if self._narrow:
            return [Segment(f"{marker}{head}", muted)] if within == 0 else [Segment("  ", base)]
        bar = self._style({"final": "turns--bar"}.get(block.state, f"turns--bar-{block.state}"), base)
        return [Segment(f"{marker}{head:17}", muted), Segment(_BAR[block.state], bar), Segment(" ", base)]

    def _text(self, index: int, block: Block, start: int, end: int, base: Style) -> list[Segment]:
        text = _shown(block)
        styles: list[tuple[int, int, str]] = []  # later ones lie over earlier ones
        if block.state != "final":
            styles.append((block.stable_chars if block.text else 0, len(text), "turns--tentative"))
        styles += [(*span, "turns--unsure") for span in block.unsure]
        if len(text) > len(block.text) and block.text:
            styles.append((len(block.text), len(text), "turns--failure"))
        elif block.failure:
            styles.append((0, len(text), "turns--failure"))
        if pattern := matcher(self._needle):
            for match in pattern.finditer(block.text):
                current = self._match == (index, match.start())
                styles.append((*match.span(), "turns--match-current" if current else "turns--match"))
        cuts = sorted({start, end, *(min(max(cut, start), end) for a, b, _ in styles for cut in (a, b))})
        segments = []
        for a, b in pairwise(cuts):
            style = base
            for from_, to, name in styles:
                if from_ <= a < to:
                    style = self._style(name, style)
            segments.append(Segment(text[a:b], style))
        return segments

    def _style(self, name: str, base: Style) -> Style:
        return styled(self, name, base)


def _shown(block: Block) -> str:
    if block.failure:
        return f"{block.text} [not recognized: {block.failure}]".lstrip()
    if block.unfinished:
        return f"{block.text} [not finished]"
    return block.text or "…"
