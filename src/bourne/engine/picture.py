"""Graphs as text that other programs draw: Mermaid flowcharts, and DOT for Graphviz.

Law: a label may hold any text (quotes, brackets, emoji, what looks like markup): it is shown as it is and never ends its
box. Long lines are cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

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


def _mermaid_character(character: str) -> str:
    return f"#{ord(character)};" if character in _MARKUP else character


def _cut(line: str) -> str:
    plain = " ".join(line.split())
    return plain if len(plain) <= _LINE_CHARS_MAX else plain[: _LINE_CHARS_MAX - 1] + "…"
