"""Graphs as text that other programs draw: Mermaid flowcharts, DOT for Graphviz; and as SVG, drawn simply.

Law: a label may hold any text (quotes, brackets, emoji, what looks like markup): it is shown as it is and never ends its
box. Long lines are cut.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from html import escape

_LINE_CHARS_MAX = 80

# What means something to Mermaid or to the HTML that it makes, inside of quotes. It reads `#34;` as character 34.
_MARKUP = frozenset('"#&<>`\\')


class Shape(StrEnum):
    """What a box stands for."""

    SOURCE = "source"
    OPERATOR = "operator"
    STATE = "state"
    VIEW = "view"


@dataclass(frozen=True, slots=True)
class Box:
    """A node. `name` is a plain identifier; `lines` are any text."""

    name: str
    lines: tuple[str, ...]
    shape: Shape


@dataclass(frozen=True, slots=True)
class Edge:
    """An arrow between the boxes of these names."""

    source: str
    target: str


_MERMAID_BRACKETS = {
    Shape.SOURCE: ("[(", ")]"),
    Shape.OPERATOR: ("[", "]"),
    Shape.STATE: ("[[", "]]"),
    Shape.VIEW: ("([", "])"),
}

_DOT_STYLES = {
    Shape.SOURCE: "cylinder",
    Shape.OPERATOR: "box",
    Shape.STATE: "box3d",
    Shape.VIEW: "oval",
}


def draw_mermaid(boxes: Sequence[Box], edges: Sequence[Edge]) -> str:
    """Return a Mermaid flowchart."""
    lines = ["flowchart LR"]
    for box in boxes:
        opening, closing = _MERMAID_BRACKETS[box.shape]
        label = "<br>".join("".join(map(_mermaid_character, _cut(line))) for line in box.lines)
        lines.append(f'    {box.name}{opening}"{label}"{closing}')
    lines += [f"    {edge.source} --> {edge.target}" for edge in edges]
    return "\n".join(lines)


def draw_dot(boxes: Sequence[Box], edges: Sequence[Edge]) -> str:
    """Return a digraph in DOT."""
    lines = ["digraph {", "    rankdir=LR"]
    for box in boxes:
        label = "\\n".join(_cut(line).replace("\\", "\\\\").replace('"', '\\"') for line in box.lines)
        lines.append(f'    {box.name} [shape={_DOT_STYLES[box.shape]} label="{label}"]')
    lines += [f"    {edge.source} -> {edge.target}" for edge in edges]
    return "\n".join([*lines, "}"])


# --- SVG: rows of boxes from top to bottom, each as near to what reads it as can be ---

_LETTER_W, _LINE_H, _PAD, _GAP_X, _GAP_Y = 7, 16, 10, 24, 36
_SVG_CHARS_MAX = 60

_SVG_STYLES = {
    Shape.SOURCE: 'rx="2" stroke-dasharray="4 2"',
    Shape.OPERATOR: 'rx="2"',
    Shape.STATE: 'rx="2" stroke-width="2.5"',
    Shape.VIEW: 'rx="12"',
}


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a box is, in pixels, and what is in it."""

    box: Box
    lines: tuple[str, ...]
    x: float
    y: float
    width: float
    height: float


def draw_svg(boxes: Sequence[Box], edges: Sequence[Edge]) -> str:
    """Return an SVG in the colours of the page around it. An edge leads from an earlier box to a later one."""
    places = {place.box.name: place for place in _placed(boxes, edges)}
    width = max((place.x + place.width for place in places.values()), default=0) + 1
    height = max((place.y + place.height for place in places.values()), default=0) + 1
    arrows = "".join(_svg_edge(places[edge.source], places[edge.target]) for edge in edges)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-1 -1 {width + 1:g} {height + 1:g}" width="{width:g}" '
        f'style="display: block; max-width: 100%; height: auto" fill="none" stroke="currentColor" font-family="monospace" font-size="11">'
        f"{arrows}{''.join(map(_svg_box, places.values()))}</svg>"
    )


def _placed(boxes: Sequence[Box], edges: Sequence[Edge]) -> Iterator[_Place]:
    """Yield where each box goes: in the row before the first one of those that read it, rows being centred."""
    depths = {box.name: 0 for box in boxes}  # from the end
    for box in reversed(boxes):
        for edge in edges:
            if edge.target == box.name:
                depths[edge.source] = max(depths[edge.source], depths[box.name] + 1)
    rows: list[list[Box]] = [[] for _ in range(max(depths.values(), default=-1) + 1)]
    for box in boxes:
        rows[-1 - depths[box.name]].append(box)
    texts = {box.name: tuple(_cut(line, _SVG_CHARS_MAX) for line in box.lines) for box in boxes}
    sizes = {
        name: (max(map(_cells, lines), default=0) * _LETTER_W + 2 * _PAD, len(lines) * _LINE_H + _PAD)
        for name, lines in texts.items()
    }
    widths = [sum(sizes[box.name][0] for box in row) + _GAP_X * (len(row) - 1) for row in rows]
    y = 0.0
    for row, width in zip(rows, widths, strict=True):
        x = (max(widths) - width) / 2
        for box in row:
            yield _Place(box, texts[box.name], x, y, *sizes[box.name])
            x += sizes[box.name][0] + _GAP_X
        y += max(sizes[box.name][1] for box in row) + _GAP_Y


def _svg_box(place: _Place) -> str:
    middle = place.x + place.width / 2
    lines = "".join(
        f'<text x="{middle:g}" y="{place.y + _PAD / 2 + (number + 0.75) * _LINE_H:g}" text-anchor="middle" '
        f'fill="currentColor" stroke="none">{escape(_plain(line))}</text>'
        for number, line in enumerate(place.lines)
    )
    frame = f'x="{place.x:g}" y="{place.y:g}" width="{place.width:g}" height="{place.height:g}"'
    return f"<rect {frame} {_SVG_STYLES[place.box.shape]}/>{lines}"


def _svg_edge(source: _Place, target: _Place) -> str:
    x1, y1 = source.x + source.width / 2, source.y + source.height
    x2, y2 = target.x + target.width / 2, target.y
    bend = (y2 - y1) / 2
    head = f"M{x2 - 4:g} {y2 - 7:g}L{x2:g} {y2:g}L{x2 + 4:g} {y2 - 7:g}"
    return f'<path d="M{x1:g} {y1:g}C{x1:g} {y1 + bend:g} {x2:g} {y2 - bend:g} {x2:g} {y2:g}{head}"/>'


def _cells(line: str) -> int:
    """Return how many letters wide a line is: those of East Asia, and emoji, are two."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in line)


def _plain(line: str) -> str:
    """Return a line without control characters, which XML cannot hold."""
    return "".join(character if character.isprintable() else "�" for character in line)


# --- texts ---


def _mermaid_character(character: str) -> str:
    return f"#{ord(character)};" if character in _MARKUP else character


def _cut(line: str, chars_max: int = _LINE_CHARS_MAX) -> str:
    plain = " ".join(line.split())
    return plain if len(plain) <= chars_max else plain[: chars_max - 1] + "…"
