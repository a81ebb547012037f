"""Curves of false cut-offs against latency as an SVG, without a drawing library."""

from collections.abc import Mapping, Sequence
from typing import Final

_WIDTH, _HEIGHT, _LEFT, _BELOW, _MARGIN = 640, 400, 62, 48, 16
_LATENCY_S: Final = (0.2, 1.8)
_CUT: Final = (0.0, 0.6)
_COLOURS: Final = {"silence": "#888", "meaning": "#0a6ebd", "eagerness": "#c2410c"}


def plot(curves: Mapping[str, Sequence[tuple[str, float, float]]]) -> str:
    """Draw (name, latency in seconds, share cut off) of each family: lines, and points with their names."""

    def x(latency: float) -> float:
        low, high = _LATENCY_S
        return _LEFT + (latency - low) / (high - low) * (_WIDTH - _LEFT - _MARGIN)

    def y(cut: float) -> float:
        return _HEIGHT - _BELOW - cut / _CUT[1] * (_HEIGHT - _BELOW - _MARGIN)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif">',
        "<style>text {font-size: 13px}</style>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
    ]
    for tenth in range(7):
        at = y(tenth / 10)
        parts += [
            f'<path d="M{_LEFT} {at:.1f}H{_WIDTH - _MARGIN}" stroke="#ddd"/>',
            f'<text x="{_LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{10 * tenth} %</text>',
        ]
    for fifth in range(1, 10):
        at = x(fifth / 5)
        parts += [
            f'<path d="M{at:.1f} {_MARGIN}V{_HEIGHT - _BELOW}" stroke="#eee"/>',
            f'<text x="{at:.1f}" y="{_HEIGHT - _BELOW + 18}" text-anchor="middle">{200 * fifth}</text>',
        ]
    middle = (_LEFT + _WIDTH) / 2
    parts.append(f'<text x="{middle}" y="{_HEIGHT - 8}" text-anchor="middle">mean latency of ends of turns, ms</text>')
    parts.append(f'<text x="{_LEFT + 8}" y="{_MARGIN + 14}">pauses in which the speaker was cut off</text>')
    for family, points in curves.items():
        colour = _COLOURS[family]
        inside = [(name, x(latency), y(cut)) for name, latency, cut in points if latency <= _LATENCY_S[1]]
        if family == "eagerness":
            parts += [
                f'<circle cx="{px:.1f}" cy="{py:.1f}" r="5" fill="{colour}"/>'
                f'<text x="{px + 8:.1f}" y="{py - 6:.1f}" fill="{colour}">{name}</text>'
                for name, px, py in inside
            ]
            continue
        inside = [(name, px, py) for name, px, py in inside if py >= y(_CUT[1])]
        line = " ".join(f"{px:.1f},{py:.1f}" for _, px, py in inside)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        _, px, py = inside[0]
        parts.append(f'<text x="{px + 8:.1f}" y="{py + 4:.1f}" fill="{colour}">{family}</text>')
    return "\n".join([*parts, "</svg>\n"])
