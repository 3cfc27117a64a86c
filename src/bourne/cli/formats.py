"""Tables as text: for people, as CSV, as JSON. Values are written exactly, as DuckDB spells them.

Law: what CSV and JSON lines say, `bourne append` reads back as the same values.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Collection, Iterator

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
from rich.cells import cell_len

from bourne.connect.json_text import to_json
from bourne.duck import connect

_SHOWN_ROWS = 100
_CHUNK_ROWS = 1 << 16


def text_columns(table: pa.Table) -> list[pa.ChunkedArray]:
    """Return each column as texts: DuckDB's, JSON for lists, structs and maps; NULL stays NULL."""
    if not table.num_columns:
        return []
    plain = table.rename_columns([f"c{index}" for index in range(table.num_columns)])
    texts = _database().from_arrow(plain).select("COLUMNS(*)::VARCHAR").to_arrow_table()
    return [
        _json_texts(column) if pa.types.is_nested(column.type) else texts.column(index)
        for index, column in enumerate(table.columns)
    ]


@functools.cache
def _database() -> duckdb.DuckDBPyConnection:
    """Return one database for all pages: opening one takes longer than writing a page."""
    return connect()


def _json_texts(column: pa.ChunkedArray) -> pa.ChunkedArray:
    values = [None if value is None else to_json(value) for value in column.to_pylist()]
    return pa.chunked_array([pa.array(values, pa.string())])


# --- for people ----------------------------------------------------------------------------------------


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
        cells = [[_cell(value) for value in column.to_pylist()] for column in text_columns(table)]
        is_first = not self._widths
        widths = [max(map(cell_len, [name, *column])) for name, column in zip(names, cells, strict=True)]
        self._widths = [max(pair) for pair in zip(widths, self._widths or widths, strict=True)]
        is_right = [is_number(kind) for kind in table.schema.types]
        header = [names, ["─" * width for width in self._widths]] if is_first else []
        for row in (*header, *zip(*cells, strict=True)):
            yield "  ".join(map(_pad, row, self._widths, is_right)).rstrip() + "\n"


def is_number(kind: pa.DataType) -> bool:
    """Say whether a column holds numbers."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _cell(value: str | None) -> str:
    """Return a value as one line without control characters."""
    if value is None:
        return "NULL"
    if value.isprintable():
        return value
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in value)


def _pad(text: str, width: int, is_right: bool) -> str:
    gap = " " * (width - cell_len(text))
    return gap + text if is_right else text + gap


# --- CSV -----------------------------------------------------------------------------------------------


class CsvRows:
    """Pages of CSV under one header. NULL is an empty field, an empty text a quoted one."""

    def __init__(self) -> None:
        self._is_first = True

    def lines(self, table: pa.Table) -> Iterator[str]:
        """Yield the lines of one page."""
        if self._is_first:
            self._is_first = False
            yield ",".join(_quote(pa.chunked_array([table.column_names])).to_pylist()) + "\n"
        columns = [pc.fill_null(_quote(column), "") for column in text_columns(table)]
        if columns and table.num_rows:
            yield "\n".join(pc.binary_join_element_wise(*columns, ",").to_pylist()) + "\n"


def csv_text(table: pa.Table) -> Iterator[str]:
    """Yield a table as CSV."""
    rows = CsvRows()
    yield from rows.lines(table.slice(0, _CHUNK_ROWS))
    for start in range(_CHUNK_ROWS, table.num_rows, _CHUNK_ROWS):
        yield from rows.lines(table.slice(start, _CHUNK_ROWS))


def _quote(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    needs = pc.or_(pc.equal(texts, ""), pc.match_substring_regex(texts, '[",\r\n]'))
    quoted = pc.binary_join_element_wise('"', pc.replace_substring(texts, '"', '""'), '"', "")
    return pc.if_else(needs, quoted, texts)


# --- JSON ----------------------------------------------------------------------------------------------


def json_rows(table: pa.Table, *, json_columns: Collection[str] = ()) -> Iterator[str]:
    """Yield each row as a JSON object. Numbers keep all their digits; `json_columns` hold JSON already."""
    names = [json.dumps(name, ensure_ascii=False) for name in table.column_names]
    columns = [
        _json_column(column, texts, is_json=name in json_columns)
        for name, column, texts in zip(table.column_names, table.columns, text_columns(table), strict=True)
    ]
    for row in zip(*columns, strict=True):
        yield "{" + ", ".join(f"{name}: {value}" for name, value in zip(names, row, strict=True)) + "}"


def _json_column(column: pa.ChunkedArray, texts: pa.ChunkedArray, *, is_json: bool) -> list[str]:
    kind = column.type
    if is_json or pa.types.is_nested(kind):
        return ["null" if text is None else text for text in texts.to_pylist()]
    is_plain = is_number(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind)
    return list(map(to_json, (column if is_plain else texts).to_pylist()))


def json_array(table: pa.Table) -> Iterator[str]:
    """Yield a table as a JSON array of objects, one a line."""
    yield "["
    for number, row in enumerate(json_rows(table)):
        yield f"{',' if number else ''}\n{row}"
    yield "\n]\n"
