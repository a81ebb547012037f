"""Styles of a widget's parts, as they are seen.

Textual hands out a component's colours as they are written: `$primary 25%` comes as full `$primary`, on which the text
of a light theme cannot be read. Here colours that are seen through are mixed with what lies below them, and text that
would not stand out enough, in whichever theme, moves towards black or white.
"""

from functools import lru_cache
from typing import Final

from rich.style import Style
from textual.color import Color
from textual.widget import Widget

READABLE: Final = 4.5  # least contrast of text, WCAG 2.2, 1.4.3


def styled(widget: Widget, component: str, base: Style) -> Style:
    """Return `base` with a component's style over it; `base` has a colour and a background."""
    styles = widget.get_component_styles(component)
    background = styles.background if styles.has_rule("background") else None
    return _over(base, background, styles.color if styles.has_rule("color") else None, styles.text_style)


@lru_cache(512)  # drawing asks for the same few again and again
def _over(base: Style, background: Color | None, colour: Color | None, text_style: Style) -> Style:
    below, text = Color.from_rich_color(base.bgcolor), Color.from_rich_color(base.color)
    if background is not None:
        below += background
    if colour is not None:
        text = below + colour
    style = base + Style.from_color(text.rich_color, below.rich_color) + text_style
    while contrast(style) < READABLE:
        text = text.blend(below.get_contrast_text(1.0), 0.2)
        style += Style.from_color(text.rich_color)
    return style


def contrast(style: Style) -> float:
    """Return how well text can be told from its background, 1 to 21, as WCAG 2 defines it."""
    brightness = [
        sum(
            weight * (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4)
            for weight, part in zip((0.2126, 0.7152, 0.0722), Color.from_rich_color(colour).normalized, strict=True)
        )
        for colour in (style.color, style.bgcolor)
    ]
    return (max(brightness) + 0.05) / (min(brightness) + 0.05)
