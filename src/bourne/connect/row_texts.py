"""Rows as text: CSV and JSON lines. Values are written exactly, as DuckDB spells them.

Law: what CSV and JSON lines say, `bourne append` reads back as the same values.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from bourne.connect.json_text import to_json
from bourne.connect.nested_json import nested_json
from bourne.duck import cursor

_CHUNK_ROWS = 1 << 16


def text_columns(table: pa.Table) -> list[pa.ChunkedArray]:
    """Return each column as texts: DuckDB's, JSON for lists, structs and maps; NULL stays NULL."""
    if not table.num_columns:
        return []
    plain = table.rename_columns([f"c{index}" for index in range(table.num_columns)])
    texts = cursor().from_arrow(plain).select("COLUMNS(*)::VARCHAR").to_arrow_table()
    return [
        nested_json(column, _scalars) if pa.types.is_nested(column.type) else texts.column(index)
        for index, column in enumerate(table.columns)
    ]


def is_number(kind: pa.DataType) -> bool:
    """Say whether a column holds numbers."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


# --- CSV -----------------------------------------------------------------------------------------------


class CsvRows:
    """Pages of CSV under one header. NULL is an empty field, an empty text a quoted one."""

    def __init__(self, *, has_header: bool = True) -> None:
        self._is_first = has_header

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
    """Yield each row as a JSON object in one line. Numbers keep all their digits; `json_columns` hold JSON already."""
    for start in range(0, table.num_rows if table.num_columns else 0, _CHUNK_ROWS):
        page = table.slice(start, _CHUNK_ROWS)
        parts: list[Any] = []
        for name, column, texts in zip(page.column_names, page.columns, text_columns(page), strict=True):
            parts += [
                f"{', ' if parts else '{'}{json.dumps(name, ensure_ascii=False)}: ",
                _json_column(column, texts, is_json=name in json_columns),
            ]
        yield from pc.binary_join_element_wise(*parts, "}", "").to_pylist()


def _scalars(values: pa.Array) -> list[str]:
    """Return the values in a list, struct or map as JSON."""
    column = pa.chunked_array([values])
    texts = text_columns(pa.table([column], ["x"]))[0]
    return list(_json_column(column, texts, is_json=False).to_pylist())


def _json_column(column: pa.ChunkedArray, texts: pa.ChunkedArray, *, is_json: bool) -> pa.ChunkedArray:
    """Return each value as JSON."""
    kind = column.type
    if is_json or pa.types.is_nested(kind):
        # A line break that is not escaped is between values: a space says the same, and stays in the line.
        found = pc.replace_substring_regex(texts, r"[\r\n]", " ")
    elif pa.types.is_floating(kind):
        found = pa.chunked_array([pa.array(map(to_json, column.to_pylist()), pa.string())])
    else:
        found = texts if is_number(kind) or pa.types.is_boolean(kind) else _json_strings(texts)
    return pc.fill_null(found.cast(pa.string()), "null")


def _json_strings(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return texts in quotes; those that need more than that, which are few, one by one."""
    values = texts.combine_chunks()
    quoted = pc.binary_join_element_wise('"', values, '"', "")
    needs_more = pc.fill_null(pc.match_substring_regex(values, r'[\x00-\x1f"\\]'), False)
    if pc.any(needs_more, min_count=0).as_py():
        escaped = [json.dumps(value, ensure_ascii=False) for value in values.filter(needs_more).to_pylist()]
        quoted = pc.replace_with_mask(quoted, needs_more, pa.array(escaped, pa.string()))
    return pa.chunked_array([quoted])


def json_array(table: pa.Table) -> Iterator[str]:
    """Yield a table as a JSON array of objects, one a line."""
    yield "["
    for number, row in enumerate(json_rows(table)):
        yield f"{',' if number else ''}\n{row}"
    yield "\n]\n"
