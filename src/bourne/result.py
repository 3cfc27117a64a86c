"""The answer to a query, in whatever form its reader likes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from bourne.duck import cursor
from bourne.errors import QueryError
from bourne.html_table import CELL_CHARS_MAX, HtmlColumn, html_table
from bourne.position import LogPosition, position_text

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

# What a notebook shows.
_SHOWN_ROWS: Final = 40
_SHOWN_COLUMNS: Final = 100

_NUMBERS: Final = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "FLOAT", "DOUBLE")  # fmt: skip


class Result:
    """Rows and columns. Takes part in the Arrow PyCapsule interface, so any dataframe library reads it.

    >>> result = Result(pa.table({"user": ["ann", "bo"], "total": [3, 4]}))
    >>> result.fetchall()
    [('ann', 3), ('bo', 4)]
    >>> len(result), result.columns
    (2, ['user', 'total'])
    """

    def __init__(
        self, table: pa.Table, types: Sequence[str] = (), position: LogPosition | None = None
    ) -> None:
        """`types` are the columns' SQL types, where known: Arrow has no HUGEINT, and calls it a decimal."""
        self._table = table
        self.types = list(types)
        self._position = position
        self._is_huge = [spelled == "HUGEINT" for spelled in types] or [False] * table.num_columns

    @property
    def columns(self) -> list[str]:
        """The columns' names."""
        return list(self._table.column_names)

    @property
    def position(self) -> str | None:
        """Which records it reflects, if all that it was made of was read at one position."""
        return None if self._position is None else position_text(self._position)

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __repr__(self) -> str:
        return text_table(self._table)

    def _repr_html_(self) -> str:
        """Return the first rows as a table for a notebook."""
        return _html(self._table, self.types)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._table.__arrow_c_stream__(requested_schema)

    def fetchall(self) -> list[tuple[Any, ...]]:
        """Return the rows as Python tuples. A sum of integers, a HUGEINT, is an int.

        Raises:
            QueryError: a value that Python's types cannot hold, such as a date in the year 10000.
        """
        try:
            columns = [
                [None if value is None else int(value) for value in column.to_pylist()]
                if is_huge
                else column.to_pylist()
                for column, is_huge in zip(self._table.columns, self._is_huge, strict=True)
            ]
            return list(zip(*columns, strict=True))
        except (OverflowError, ValueError) as error:
            raise QueryError(
                "a value is beyond what Python's own types can hold", found=str(error),
                hint="use to_arrow(), or CAST it to VARCHAR in the query",
            ) from error  # fmt: skip

    def to_arrow(self) -> pa.Table:
        """Return the Arrow table; nothing is copied."""
        return self._table

    def to_polars(self) -> pl.DataFrame:
        """Return a Polars dataframe (needs `polars`)."""
        import polars  # noqa: PLC0415  (optional)

        frame = polars.from_arrow(self._table)
        assert isinstance(frame, polars.DataFrame)
        return frame

    def to_pandas(self) -> pd.DataFrame:
        """Return a pandas dataframe (needs `pandas`)."""
        return self._table.to_pandas()


def text_table(table: pa.Table) -> str:
    """Return a table as text, as DuckDB draws it; long ones are cut in the middle."""
    if not table.num_columns:
        return "(no columns)"
    return str(cursor().from_arrow(table)).rstrip()


def _html(table: pa.Table, types: Sequence[str]) -> str:
    """Return the first rows and columns as HTML; `types` are DuckDB's, where known."""
    count = min(table.num_columns, _SHOWN_COLUMNS)
    page = table.select(range(count)).slice(0, _SHOWN_ROWS).rename_columns([f"c{i}" for i in range(count)])
    columns: list[HtmlColumn] = []
    texts: list[list[str | None]] = []
    if count:
        relation = cursor().from_arrow(page)
        for name, kind in zip(table.column_names, types or map(str, relation.types), strict=False):
            is_number = kind in _NUMBERS or kind.startswith("DECIMAL")
            columns.append(HtmlColumn(name, kind.strip('"'), is_number))
        cut = relation.select(f"left(COLUMNS(*)::VARCHAR, {CELL_CHARS_MAX + 1})").to_arrow_table()
        texts = [column.to_pylist() for column in cut.columns]
    return html_table(columns[:count], list(zip(*texts, strict=True)), note=_size(table, page))


def _size(table: pa.Table, page: pa.Table) -> str:
    """Say how much there is, and how much of it is shown."""
    rows = f"{table.num_rows:,} {'row' if table.num_rows == 1 else 'rows'}"
    if page.num_rows < table.num_rows:
        rows = f"the first {page.num_rows:,} of {rows}"
    if not table.num_columns:
        return "no columns"
    return (
        rows
        if page.num_columns == table.num_columns
        else f"{rows}, the first {page.num_columns} of {table.num_columns:,} columns"
    )
