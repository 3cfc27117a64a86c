"""One DuckDB query over one delta: the linear work of a circuit, with DuckDB's own semantics.

Linear means: the result for a union of deltas is the union of the results, so a delta can be treated alone.
Fixed cost per call: about a millisecond.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import duckdb
import pyarrow as pa

_INPUT = "__delta"


class Databases:
    """The DuckDBs that run stages: `linear` ones, which keep their rows in order, and those that group or order.

    The second has one thread: else floats would be added in an order that differs from run to run, and a replay would
    not come to what was committed. Each is made when it is first asked for.
    """

    def __init__(self, make: Callable[[int], duckdb.DuckDBPyConnection]) -> None:
        """`make` returns a DuckDB with so many threads."""
        self._make = make

    @cached_property
    def linear(self) -> duckdb.DuckDBPyConnection:
        return self._make(2)

    @cached_property
    def grouped(self) -> duckdb.DuckDBPyConnection:
        return self._make(1)

    def close(self) -> None:
        """Close those that were made."""
        for name in ("linear", "grouped"):
            if name in self.__dict__:
                getattr(self, name).close()


class Stage:
    """A query that reads `{input}` and keeps its order."""

    def __init__(self, database: duckdb.DuckDBPyConnection, query: str) -> None:
        self._connection = database.cursor()
        self._query = query.format(input=_INPUT)

    def run(self, table: pa.Table) -> pa.Table:
        """Return the query's result over `table`.

        Raises:
            duckdb.Error: a value cannot be computed (a failed cast, a division overflow, …).
        """
        self._connection.register(_INPUT, table)
        try:
            return self._connection.sql(self._query).to_arrow_table()
        finally:
            self._connection.unregister(_INPUT)
