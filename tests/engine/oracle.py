"""What the engine is compared with: DuckDB's one answer to the same SQL over the same records.

Rows are compared as multisets, columns by name and type. Everything is exact but for sums and averages of floats,
which may differ by rounding (relative 1e-9).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from bourne.duck import connect
from bourne.engine.compile import compile_circuit
from bourne.engine.runner import ViewInput, ViewRunner
from bourne.log.catalog import LogInfo, write_log_info
from bourne.log.reader import LogReader
from bourne.log.writer import LogWriter
from bourne.ports import OsFiles
from bourne.schema import Column, Schema, cast_back, declare_schema
from bourne.sql.bind import bind
from bourne.testing.clock import SimulatedClock
from bourne.views.catalog import ViewInfo
from bourne.views.fold import Fold

Rows = list[tuple[Any, ...]]


@functools.cache
def _database() -> duckdb.DuckDBPyConnection:
    """Return one DuckDB for all: opening one takes a dozen milliseconds, a cursor nothing."""
    return connect()


def rows_of(table: pa.Table) -> Rows:
    """Return a table's rows in Python, each value in a form that can be compared and sorted."""
    columns = [[_plain(value) for value in column.to_pylist()] for column in _readable(table).columns]
    return list(zip(*columns, strict=True)) if columns else [()] * table.num_rows


def _readable(table: pa.Table) -> pa.Table:
    """Spell out what Python cannot hold: instants beyond its years, nanoseconds."""
    arrays = [
        column.cast(pa.int64()) if pa.types.is_timestamp(column.type) or pa.types.is_time64(column.type)
        else column.cast(pa.int32()) if pa.types.is_date32(column.type) else column
        for column in table.columns
    ]  # fmt: skip
    return pa.table(arrays, names=[f"c{i}" for i in range(len(arrays))])


def _plain(value: Any) -> Any:
    return repr(_signless(value)) if isinstance(value, list | dict | pa.MonthDayNano) else value


def _signless(value: Any) -> Any:
    """Make one of -0.0 and 0.0, which are equal."""
    if isinstance(value, list):
        return [_signless(each) for each in value]
    if isinstance(value, dict):
        return {key: _signless(each) for key, each in value.items()}
    return value + 0.0 if isinstance(value, float) else value


def is_close(first: Any, second: Any) -> bool:
    """Compare two values; floats up to rounding, NaN equals NaN."""
    if isinstance(first, float) and isinstance(second, float):
        if math.isnan(first) or math.isnan(second):
            return math.isnan(first) and math.isnan(second)
        return first == second or math.isclose(first, second, rel_tol=1e-9, abs_tol=1e-12)
    return type(first) is type(second) and bool(first == second)


def _order(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Sort by everything that is exact first, then by floats, so that rounding does not reorder rows."""
    exact = tuple((value is not None, str(value)) for value in row if not isinstance(value, float))
    floats = tuple(math.inf if math.isnan(value) else value for value in row if isinstance(value, float))
    places = tuple(isinstance(value, float) for value in row)
    return (exact, places, floats)


def difference(got: Rows, expected: Rows) -> str | None:
    """Return what distinguishes two multisets of rows, or None."""
    if len(got) != len(expected):
        return f"{len(got)} rows, expected {len(expected)}:\n got      {got[:20]}\n expected {expected[:20]}"
    for mine, right in zip(sorted(got, key=_order), sorted(expected, key=_order), strict=True):
        if not all(is_close(a, b) for a, b in zip(mine, right, strict=True)):
            return f"\n got      {mine}\n expected {right}"
    return None


def ask_duckdb(
    sql: str, relations: dict[str, tuple[Schema, pa.Table]], *, is_optimised: bool = True
) -> tuple[list[tuple[str, str]], pa.Table]:
    """Return DuckDB's columns (name, type) and rows for plain SQL over real tables of these records.

    Raises:
        duckdb.Error: it cannot be computed.
    """
    connection = _database().cursor()
    for name, (schema, table) in relations.items():
        columns = ", ".join(f'"{c.name}" {c.type}' for c in schema.columns)
        connection.execute(f'CREATE TEMP TABLE "{name}" ({columns})')
        connection.register("__records", table)
        casts = ", ".join(cast_back(column) for column in schema.columns)
        connection.execute(f'INSERT INTO "{name}" SELECT {casts} FROM __records')
        connection.unregister("__records")
    if not is_optimised:
        connection.execute("PRAGMA disable_optimizer")
    relation = connection.sql(sql)
    described = [(n, str(t)) for n, t in zip(relation.columns, relation.types, strict=True)]
    return described, relation.to_arrow_table()


class Bench:
    """One log and one view of it in `folder`, driven epoch by epoch; closes and reopens like a restart."""

    def __init__(
        self, folder: Path, schema: dict[str, str], sql: str, *, time: str | None = None,
        snapshot_rows: int = 1 << 40, log: str = "events",
    ) -> None:  # fmt: skip
        """Declare the log and the view.

        Raises:
            DefinitionError, SqlError, NotMaintainable: as `bourne.open`.
        """
        self.schema = declare_schema(schema, where=log)
        self.query = bind(sql, {log: self.schema})
        self.sql = sql
        self.database = _database()
        circuit = self.circuit()
        self.info = LogInfo(log, self.schema, None, time, 0)
        self.view = ViewInfo(
            "view", 1, sql, (self.info,), self.query.schema, circuit.changes, folder / "view"
        )
        self.input_folder = folder / "log"
        self.files, self.clock = OsFiles(), SimulatedClock(1_700_000_000_000_000)
        write_log_info(self.input_folder, self.info, self.files)
        write_log_info(self.view.folder, self.view.output, self.files)
        self.snapshot_rows = snapshot_rows
        self.writer = LogWriter(self.input_folder, self.info, files=self.files, clock=self.clock)
        self.records = self.schema.to_arrow().empty_table()
        self.runner = self._runner()

    def circuit(self) -> Any:
        """Return a new circuit of the view."""
        return compile_circuit(self.query, self.database, sql=self.sql)

    def _runner(self) -> ViewRunner:
        return ViewRunner(
            self.circuit, folder=self.view.folder, output=self.view.output,
            inputs=[ViewInput(self.info, self.input_folder)], files=self.files, clock=self.clock,
            snapshot_rows=self.snapshot_rows,
        )  # fmt: skip

    @property
    def position(self) -> int:
        """How many records the view reflects."""
        return self.runner.positions[self.info.name][0]

    def step(self, until: int) -> int:
        """Run one epoch up to an offset."""
        return self.runner.step(until={self.info.name: [until]})

    def append(self, table: pa.Table) -> None:
        """Append records."""
        self.writer.append(table)
        self.records = pa.concat_tables([self.records, table])

    def reopen(self, *, save: bool = False) -> None:
        """Close the view and open it again, with or without saving its state first."""
        if save:
            self.runner.snapshot()
        self.runner.close()
        self.runner = self._runner()

    def rows(self) -> pa.Table:
        """Return the view's rows as committed, read as a query would."""
        fold = Fold(self.view.folder, self.view.output)
        fold.refresh()
        table = fold.table()
        fold.close()
        return table

    def expected(self) -> pa.Table:
        """Return DuckDB's answer over the prefix that the view reflects."""
        prefix = self.records.slice(0, self.position)
        columns, table = ask_duckdb(self.query.sql, {self.info.name: (self.schema, prefix)})
        assert columns == [(c.name, c.type) for c in self.view.schema.columns]
        return table

    def check(self) -> None:
        """Compare."""
        mine = self.rows()
        casts = ", ".join(cast_back(Column(f"{c.name}", c.type)) for c in self.view.schema.columns)
        if mine.num_columns:
            connection = _database().cursor()
            connection.register("__rows", mine)
            mine = connection.sql(f"SELECT {casts} FROM __rows").to_arrow_table()
        found = difference(rows_of(mine), rows_of(self.expected()))
        assert found is None, f"{self.sql}\nat offset {self.position}: {found}"

    def close(self) -> None:
        """Close everything."""
        self.runner.close()
        self.writer.close()

    def frames(self) -> int:
        """Return how many epochs are committed."""
        reader = LogReader(self.view.folder, self.view.output)
        try:
            return sum(1 for _ in iter(lambda: reader.read(rows_max=1), []))
        finally:
            reader.close()


def table_of(schema: Schema, rows: Sequence[Sequence[Any]]) -> pa.Table:
    """Return Python rows as records."""
    target = schema.to_arrow()
    columns = [pa.array([row[i] for row in rows], field.type) for i, field in enumerate(target)]
    return pa.Table.from_arrays(columns, schema=target)
