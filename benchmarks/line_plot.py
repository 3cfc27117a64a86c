"""Draws lines over a logarithmic axis as SVG text, readable in light and dark."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

# Of each panel in pixels: its plane, and the room around it.
_WIDTH, _HEIGHT = 360, 240
_LEFT, _TOP, _RIGHT, _BOTTOM = 56, 58, 24, 60
_LEGEND_ROW = 20

# Told apart also by who does not see all colours (Okabe and Ito), and by their marks.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#c261a0", "#8a6d00", "#56b4e9")
_DASHES = ("none", "7 3", "2 3", "9 3 2 3", "none", "7 3")

_STYLE = """
  .paper { fill: #ffffff } .text { fill: #1f2328; font: 12px system-ui, sans-serif } .title { font-weight: 600 }
  .grid { stroke: #d1d9e0; stroke-width: 1 } .line { fill: none; stroke-width: 2 }
  @media (prefers-color-scheme: dark) {
    .paper { fill: #0d1117 } .text { fill: #e6edf3 } .grid { stroke: #3d444d }
  }
"""


@dataclass(frozen=True, slots=True)
class Panel:
    """One plane: of each named line, its points (x, y)."""

    title: str
    lines: Mapping[str, Sequence[tuple[float, float]]]


def draw(panels: Sequence[Panel], *, title: str, x_label: str, y_label: str) -> str:
    """Return panels side by side, with the same axes: x is logarithmic, y begins at 0. The lines share a legend."""
    points = [point for panel in panels for line in panel.lines.values() for point in line]
    decades = range(
        math.floor(math.log10(min(x for x, _ in points))),
        math.ceil(math.log10(max(x for x, _ in points))) + 1,
    )
    step = _round_step(max(y for _, y in points))
    ticks = range(math.ceil(max(y for _, y in points) / step) + 1)
    names = list(dict.fromkeys(name for panel in panels for name in panel.lines))
    panel_width = _LEFT + _WIDTH + _RIGHT
    width = panel_width * len(panels)
    height = _TOP + _HEIGHT + _BOTTOM + _LEGEND_ROW * math.ceil(len(names) / 2)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" role="img" '
        f'aria-label="{escape(title)}">',
        f"<style>{_STYLE}</style>",
        f'<rect class="paper" width="{width}" height="{height}"/>',
        _text(width / 2, 20, title, "middle", "text title"),
    ]
    for number, panel in enumerate(panels):
        parts.append(f'<g transform="translate({number * panel_width + _LEFT} {_TOP})">')
        parts += _axes(decades, [tick * step for tick in ticks], panel.title, x_label, y_label)
        scale = (decades[0], decades[-1], ticks[-1] * step)
        for name, line in panel.lines.items():
            parts += _line([_place(x, y, scale) for x, y in line], names.index(name))
        parts.append("</g>")
    parts += _legend(names, width)
    return "\n".join([*parts, "</svg>", ""])


def _round_step(largest: float) -> float:
    """Return 1, 2 or 5 times a power of ten: at most six such steps are `largest`."""
    power = 10.0 ** math.floor(math.log10(largest / 6))
    return next(power * factor for factor in (1, 2, 5, 10) if 6 * power * factor >= largest)


def _place(x: float, y: float, scale: tuple[int, int, float]) -> tuple[float, float]:
    first, last, top = scale
    return _WIDTH * (math.log10(x) - first) / max(1, last - first), _HEIGHT * (1 - y / top)


def _axes(
    decades: Sequence[int], ticks: Sequence[float], title: str, x_label: str, y_label: str
) -> list[str]:
    scale = (decades[0], decades[-1], ticks[-1])
    parts = [_text(_WIDTH / 2, -12, title, "middle")]
    for tick in ticks:
        _, y = _place(10.0 ** decades[0], tick, scale)
        parts.append(f'<path class="grid" d="M0 {y:.1f}H{_WIDTH}"/>')
        parts.append(_text(-8, y + 4, f"{tick:g}", "end"))
    for decade in decades:
        x, _ = _place(10.0**decade, 0, scale)
        parts.append(f'<path class="grid" d="M{x:.1f} {_HEIGHT}v5"/>')
        parts.append(_text(x, _HEIGHT + 20, _count(10**decade), "middle"))
    parts.append(_text(_WIDTH / 2, _HEIGHT + 40, x_label, "middle"))
    parts.append(
        f'<text class="text" text-anchor="middle" transform="translate(-42 {_HEIGHT / 2}) rotate(-90)">'
        f"{escape(y_label)}</text>"
    )
    return parts


def _count(number: float) -> str:
    for size, suffix in ((10**6, " M"), (10**3, " k")):
        if number >= size:
            return f"{number / size:g}{suffix}"
    return f"{number:g}"


def _line(places: Sequence[tuple[float, float]], number: int) -> list[str]:
    colour, dash = _colour(number), _DASHES[number % len(_DASHES)]
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in places)
    return [
        f'<path class="line" stroke="{colour}" stroke-dasharray="{dash}" d="M{path}"/>',
        f'<g fill="{colour}">{dots}</g>',
    ]


def _legend(names: Sequence[str], width: float) -> list[str]:
    parts = []
    for number, name in enumerate(names):
        x = _LEFT + (number % 2) * (width - _LEFT) / 2
        y = _TOP + _HEIGHT + _BOTTOM + 6 + _LEGEND_ROW * (number // 2)
        parts += _line([(x, y), (x + 14, y), (x + 28, y)], number)
        parts.append(_text(x + 38, y + 4, name, "start"))
    return parts


def _colour(number: int) -> str:
    return _COLOURS[number % len(_COLOURS)]


def _text(x: float, y: float, text: str, anchor: str, kind: str = "text") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
