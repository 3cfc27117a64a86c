"""Tables as aligned columns, for people."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pyarrow as pa
from rich.cells import cell_len

from bourne.connect.row_texts import is_number, text_columns
from bourne.html_table import one_line

_SHOWN_ROWS = 100


def print_table(table: pa.Table) -> None:
    """Print the first rows, and how many there are."""
    sys.stdout.writelines(AlignedRows().lines(table.slice(0, _SHOWN_ROWS)))
    rows = table.num_rows
    cut = f", the first {_SHOWN_ROWS} are shown" if rows > _SHOWN_ROWS else ""
    print(f"({rows:,} row{'' if rows == 1 else 's'}{cut})")


class AlignedRows:
    """Pages of rows under one header, numbers to the right; columns widen as longer values come."""

    def __init__(self) -> None:
        self._widths: list[int] = []

    def lines(self, table: pa.Table) -> Iterator[str]:
        """Yield the lines of one page."""
        names = [name.removeprefix("__") for name in table.column_names]
        cells = [[cell(value) for value in column.to_pylist()] for column in text_columns(table)]
        is_first = not self._widths
        widths = [max(map(cell_len, [name, *column])) for name, column in zip(names, cells, strict=True)]
        self._widths = [max(pair) for pair in zip(widths, self._widths or widths, strict=True)]
        is_right = [is_number(kind) for kind in table.schema.types]
        header = [names, ["─" * width for width in self._widths]] if is_first else []
        for row in (*header, *zip(*cells, strict=True)):
            yield "  ".join(map(_pad, row, self._widths, is_right)).rstrip() + "\n"


def cell(value: str | None) -> str:
    """Return a value as one line without control characters."""
    return "NULL" if value is None else one_line(value)


def _pad(text: str, width: int, is_right: bool) -> str:
    gap = " " * (width - cell_len(text))
    return gap + text if is_right else text + gap
