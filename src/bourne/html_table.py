"""Tables as HTML for notebooks.

Law: a text may hold anything (markup, quotes, control characters): it is shown as it is, in one line, and never ends its
cell. Colours are those of the page, light or dark; nothing is loaded from anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

# What is shown of one text.
CELL_CHARS_MAX: Final = 200

_TABLE: Final = "border-collapse: collapse; border: none; font-variant-numeric: tabular-nums"
_CELL: Final = "padding: 0.2em 0.7em; border: none; white-space: pre; vertical-align: top"
_HEAD: Final = f"{_CELL}; border-bottom: 1px solid currentColor"
_FAINT: Final = "opacity: 0.6; font-weight: normal"


@dataclass(frozen=True, slots=True)
class HtmlColumn:
    """A column: its name, what is said below it (a type), and whether its values stand to the right."""

    name: str
    kind: str = ""
    is_right: bool = False


def html_table(
    columns: Sequence[HtmlColumn], rows: Sequence[Sequence[str | None]], *, title: str = "", note: str = ""
) -> str:
    """Return a table; None is NULL. `title` is a line above it, `note` one below it.

    >>> html_table([HtmlColumn("n", is_right=True)], [["1 < 2"]]).count("1 &lt; 2")
    1
    """
    parts = ['<div style="overflow-x: auto; margin: 0.5em 0">']
    if title:
        parts.append(f"<div><strong>{escape(one_line(title))}</strong></div>")
    if columns:
        head = "".join(map(_head, columns))
        body = "".join(f"<tr>{''.join(map(_cell, columns, row))}</tr>" for row in rows)
        parts.append(f'<table style="{_TABLE}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>')
    if note:
        parts.append(f'<div style="{_FAINT}">{escape(one_line(note))}</div>')
    return "".join([*parts, "</div>"])


def html_lines(title: str, lines: Sequence[str]) -> str:
    """Return lines below a title, each as it is."""
    text = "\n".join(escape(one_line(line)) for line in lines)
    return (
        f'<div><strong>{escape(one_line(title))}</strong></div><pre style="margin: 0.2em 0.7em">{text}</pre>'
    )


def one_line(text: str) -> str:
    """Return a text without line breaks and other control characters, as Python writes them.

    >>> print(one_line("a\\x1b\\n한"))
    a\\x1b\\n한
    """
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def _head(column: HtmlColumn) -> str:
    kind = f'<br><span style="{_FAINT}">{_shown(column.kind)}</span>' if column.kind else ""
    return f'<th style="{_HEAD}; {_side(column)}">{_shown(column.name)}{kind}</th>'


def _cell(column: HtmlColumn, value: str | None) -> str:
    text = f'<span style="{_FAINT}">NULL</span>' if value is None else _shown(value)
    return f'<td style="{_CELL}; {_side(column)}">{text}</td>'


def _side(column: HtmlColumn) -> str:
    return f"text-align: {'right' if column.is_right else 'left'}"


def _shown(text: str) -> str:
    cut = text if len(text) <= CELL_CHARS_MAX else text[: CELL_CHARS_MAX - 1] + "…"
    return escape(one_line(cut))
