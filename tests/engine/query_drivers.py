"""Who maintains the query of a case: DuckDB itself (the model), a bare circuit of the engine, the whole of Bourne."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

import bourne
from bourne.duck import connect
from bourne.engine.circuit import Circuit
from bourne.engine.compile import compile_circuit
from bourne.engine.delta import Delta, KeyedDelta
from bourne.log.catalog import LogInfo
from bourne.log.relation import COUNT_COLUMN, SignedRows
from bourne.schema import Column, Schema, cast_back
from bourne.sql.bind import bind
from engine.oracle import Rows, difference, rows_of
from engine.query_cases import Case, Database, Signed
from engine.random_changes import Contents, Kind, Relation, Restart


class ModelDriver:
    """Answers by asking DuckDB over the rows that it was given: what checks this harness itself."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.database = Database(case.relations)
        self.contents = Contents(case.relations)

    def apply(self, step: Mapping[str, Signed]) -> None:
        """Take the changes of one step."""
        self.contents.apply(
            {
                name: [
                    (tuple(row.values()), int(weight))
                    for row, weight in zip(table.to_pylist(), weights, strict=True)
                ]
                for name, (table, weights) in step.items()
            }
        )

    def restart(self, how: Restart) -> None:
        """There is nothing to lose."""

    def rows(self) -> Rows:
        """Ask DuckDB."""
        self.database.fill({name: rows[::-1] for name, rows in self.contents.rows().items()})
        return rows_of(self.database.answer(self.case.sql, is_optimised=False))

    def close(self) -> None:
        """Close the database."""
        self.database.connection.close()


class CircuitDriver:
    """Feeds a circuit, and folds what comes out. A restart is from the state as saved, or from the first step.

    What a circuit returned must still be the same after its next step: by then it may not be written yet.
    """

    _stages: duckdb.DuckDBPyConnection | None = None

    def __init__(self, case: Case) -> None:
        if CircuitDriver._stages is None:
            CircuitDriver._stages = connect()
        self.case = case
        self.infos = {name: log_info(case, name) for name in case.relations}
        self.query = bind(case.sql, {name: case.schema(name) for name in case.relations})
        self.circuit = self._circuit()
        self.steps: list[Mapping[str, SignedRows]] = []
        self._start()

    def _circuit(self) -> Circuit:
        assert CircuitDriver._stages is not None
        return compile_circuit(self.query, CircuitDriver._stages, sql=self.case.sql, inputs=self.infos)

    def _start(self) -> None:
        self.fold = Folded(self.query.schema, self.circuit.changes)
        self._take(self.circuit.initial())

    def apply(self, step: Mapping[str, Signed]) -> None:
        """Run one step."""
        changes = {name: self._signed_rows(name, table, weights) for name, (table, weights) in step.items()}
        self.steps.append(changes)
        last, content = self.last
        delta = self.circuit.step(changes)
        assert content_of(last) == content, "a delta changed after it was returned"
        self._take(delta)

    def _take(self, delta: Delta | KeyedDelta) -> None:
        self.last = delta, content_of(delta)
        self.fold.take(delta)

    def _signed_rows(self, name: str, table: pa.Table, weights: Any) -> SignedRows:
        kind = self.case.relations[name].kind
        if kind == "append":
            return SignedRows(table)
        return SignedRows(table, weights, table.column(0).combine_chunks() if kind == "upsert" else None)

    def restart(self, how: Restart) -> None:
        """Make the circuit anew, and load its state, or run all steps again."""
        if how == "none":
            return
        parts = self.circuit.save()
        self.circuit = self._circuit()
        if how == "save":
            self.circuit.load(parts)
            return
        self._start()
        for changes in self.steps:
            self._take(self.circuit.step(changes))

    def rows(self) -> Rows:
        """Return what the output's changes sum up to."""
        return self.fold.rows()

    def close(self) -> None:
        """There is nothing to close."""


def content_of(delta: Delta | KeyedDelta) -> list[bytes]:
    """Return all bytes of a delta, copied."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, delta.table.schema) as writer:
        writer.write_table(delta.table)
    numbers = [delta.weights, delta.keys] if isinstance(delta, KeyedDelta) else [delta.weights]
    return [sink.getvalue().to_pybytes(), *(each.tobytes() for each in numbers if each is not None)]


class BourneDriver:
    """Appends to logs of an app whose view `v` is the query, and `w` reads `v`; asks both.

    A relation that changes exactly is a log of rows before and after. A restart closes the app; then the state comes
    from snapshots just made, or (`replay`) there are none.
    """

    def __init__(self, case: Case) -> None:
        self.case = case
        self.app = bourne.App("case")
        for name, relation in case.relations.items():
            self.app.log(name, durability="none", **_log_options(relation))
        self.app.view("v", case.sql, grows=True)
        self.app.view("w", "SELECT * FROM v", grows=True)
        self.folder = tempfile.TemporaryDirectory(prefix="bourne-")
        self.running: bourne.Instance | None = None
        try:
            self._open()
        except BaseException:
            self.folder.cleanup()
            raise

    def _open(self) -> None:
        self.running = bourne.open(self.app, data=self.folder.name)
        self.running.catch_up()

    def apply(self, step: Mapping[str, Signed]) -> None:
        """Append the changes as records, and let the views take them in."""
        assert self.running is not None
        for name, (table, weights) in step.items():
            self.running.append(name, list(_records(self.case.relations[name].kind, table, weights)))
        self.running.catch_up()

    def restart(self, how: Restart) -> None:
        """Close and open."""
        if how == "none" or self.running is None:
            return
        if how == "save":
            self.running.catch_up()
            for runner in self.running._runners.start()[0].values():
                runner.snapshot()
        self.running.close()
        if how == "replay":
            for snapshots in Path(self.folder.name).glob("views/*/**/snapshots"):
                shutil.rmtree(snapshots)
        self._open()

    def rows(self) -> Rows:
        """Ask both views."""
        assert self.running is not None
        rows = rows_of(self.running.query("SELECT * FROM v").to_arrow())
        unlike = difference(rows_of(self.running.query("SELECT * FROM w").to_arrow()), rows)
        assert unlike is None, f"the view of the view differs: {unlike}"
        return rows

    def close(self) -> None:
        """Close the app, delete its folder."""
        if self.running is not None:
            self.running.close()
        self.folder.cleanup()


def _log_options(relation: Relation) -> dict[str, Any]:
    schema = dict(relation.schema)
    match relation.kind:
        case "append":
            return {"schema": schema}
        case "exact":
            return {"schema": schema, "changes": "before_after"}
        case "weights":
            return {"schema": schema | {"times": "bigint not null"}, "changes": "weights", "weight": "times"}
        case "upsert":
            key = next(iter(schema))
            schema |= {key: f"{schema[key]} not null", "gone": "boolean"}
            return {"schema": schema, "key": key, "changes": "upsert", "tombstone": "gone"}


def _records(kind: Kind, table: pa.Table, weights: Any) -> Iterator[dict[str, Any]]:
    """Yield the records that say the same as these signed rows."""
    for row, weight in zip(table.to_pylist(), map(int, weights), strict=True):
        match kind:
            case "append":
                yield from [row] * weight
            case "exact":
                sides = {"before": row, "after": None} if weight < 0 else {"before": None, "after": row}
                yield from [sides] * abs(weight)
            case "weights":
                yield row | {"times": weight}
            case "upsert":
                yield row | {"gone": weight < 0}


def log_info(case: Case, name: str) -> LogInfo:
    """Return the log whose relation this is."""
    schema, kind = case.schema(name), case.relations[name].kind
    match kind:
        case "append":
            return LogInfo(name, schema)
        case "upsert":
            key = schema.columns[0].name
            return LogInfo(name, schema.with_not_null(key), key=key, changes="upsert")
        case _:
            weight = COUNT_COLUMN if kind == "exact" else Column("w", "BIGINT", nullable=False)
            return LogInfo(name, Schema((*schema.columns, weight)), changes="weights", weight=weight.name)


class Folded:
    """What a circuit's output sums up to."""

    def __init__(self, schema: Schema, changes: str) -> None:
        self.schema, self.changes = schema, changes
        self.counts: dict[Any, tuple[tuple[Any, ...], int]] = {}

    def take(self, change: Delta | KeyedDelta) -> None:
        """Add a change."""
        if not change.rows:
            return
        weights = [1] * change.rows if change.weights is None else [int(weight) for weight in change.weights]
        assert self.changes != "append" or change.weights is None, (
            "a view that only grows took something back"
        )
        rows = self._plain(change.table)
        if isinstance(change, KeyedDelta):
            keys = [int(key) for key in change.keys]
            assert len(set(keys)) == len(keys), "a key came twice in one step"
            for key, row, weight in zip(keys, rows, weights, strict=True):
                self.counts.pop(key, None)
                if weight > 0:
                    self.counts[key] = (row, 1)
            return
        for row, weight in zip(rows, weights, strict=True):
            count = self.counts.pop(repr(row), (row, 0))[1] + weight
            if count:
                self.counts[repr(row)] = (row, count)

    def _plain(self, table: pa.Table) -> Rows:
        names = [f"c{i}" for i in range(table.num_columns)]
        typed = [Column(name, column.type) for name, column in zip(names, self.schema.columns, strict=True)]
        assert CircuitDriver._stages is not None
        connection = CircuitDriver._stages.cursor()
        connection.register("__rows", table.rename_columns(names))
        return rows_of(
            connection.sql(f"SELECT {', '.join(map(cast_back, typed))} FROM __rows").to_arrow_table()
        )

    def rows(self) -> Rows:
        """Return the rows that are there."""
        fewer = [row for row, count in self.counts.values() if count < 0]
        assert not fewer, f"taken back more often than given: {fewer[:5]}"
        return [row for row, count in self.counts.values() for _ in range(count)]
