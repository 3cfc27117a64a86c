"""The answer to a query, in whatever form its reader likes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from bourne.duck import cursor
from bourne.errors import QueryError
from bourne.position import LogPosition, position_text

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

_SHOWN_ROWS = 40


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
