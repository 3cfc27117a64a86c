"""Circuits and runners step by step: what each operator gives out, and what a restart finds."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from bourne.engine.delta import KeyedDelta
from bourne.errors import NotMaintainable, ViewFailed
from bourne.log.relation import SignedRows
from bourne.log.writer import LogWriter
from bourne.schema import declare_schema
from engine.oracle import Bench, table_of

SCHEMA = {"k": "integer", "n": "decimal(9,2)", "s": "varchar", "b": "boolean", "d": "double", "at": "timestamp",
          "u": "ubigint", "l": "integer[]"}  # fmt: skip
DECLARED = declare_schema(SCHEMA, where="events")


def rows(*records: dict[str, Any]) -> pa.Table:
    """Return records; what is not given is NULL."""
    return table_of(DECLARED, [[record.get(name) for name in SCHEMA] for record in records])


def bench(folder: Path, sql: str, **options: Any) -> Bench:
    return Bench(folder, SCHEMA, sql, **options)


def changes(table: pa.Table) -> dict[str, SignedRows]:
    """Return new records of the log."""
    return {"events": SignedRows(table)}


def step(circuit: Any, table: pa.Table) -> list[tuple[int, dict[str, Any]]]:
    """Step and return (weight, row) of each change."""
    delta = circuit.step(changes(table))
    weights = [1] * delta.rows if delta.weights is None else delta.weights.tolist()
    return list(zip(weights, delta.table.to_pylist(), strict=True))


def test_global_aggregate_of_an_empty_log_is_one_row(tmp_path: Path) -> None:
    it = bench(
        tmp_path, "SELECT count(*) AS c, sum(k) AS s, avg(n) AS a, min(s) AS m, max(b) AS x FROM events"
    )
    assert it.rows().to_pylist() == [{"c": 0, "s": None, "a": None, "m": None, "x": None}]
    it.check()
    it.reopen()
    it.check()
    it.append(rows({"k": 3, "s": "x"}))
    it.runner.step()
    it.check()
    it.reopen(save=True)
    it.check()


def test_global_aggregate_whose_having_fails_has_no_row(tmp_path: Path) -> None:
    it = bench(tmp_path, "SELECT count(*) AS c FROM events HAVING count(*) % 2 = 1")
    counts = []
    for _ in range(4):
        counts.append(it.rows().num_rows)
        it.check()
        it.append(rows({"k": 1}))
        it.runner.step()
        it.reopen()
    assert counts == [0, 1, 0, 1]


@pytest.mark.parametrize("source", ["events", "(SELECT * FROM events WHERE k > 0)", "(SELECT k + 1 AS x FROM events)",
                                    "TUMBLE(events, at, INTERVAL '1 day')"])  # fmt: skip
def test_count_of_rows_needs_no_column(tmp_path: Path, source: str) -> None:
    it = bench(tmp_path, f"SELECT count(*) AS c FROM {source}")
    it.append(rows({"k": 1}, {"k": 2}, {}))
    it.runner.step()
    it.check()


def test_negative_averages(tmp_path: Path) -> None:
    it = bench(tmp_path, "SELECT avg(k) AS k, mean(n) AS n, avg(k::HUGEINT) AS h FROM events")
    it.append(rows({"k": -3, "n": -1}, {"k": -4, "n": None}))
    it.runner.step()
    it.check()
    assert it.rows().column("k").to_pylist() == [-3.5]


def test_having_lets_rows_come_and_go(tmp_path: Path) -> None:
    it = bench(tmp_path, "SELECT k, count(*) AS c FROM events GROUP BY k HAVING count(*) % 2 = 1")
    circuit = it.circuit()
    assert step(circuit, rows({"k": 1}, {"k": 2}, {"k": 2})) == [(1, {"c0": 1, "c1": 1})]
    assert step(circuit, rows({"k": 1})) == [(-1, {"c0": None, "c1": None})]
    assert step(circuit, rows({"k": 1}, {"k": 1})) == []  # it was gone, and still is
    assert step(circuit, rows({"k": 2}, {"k": 1})) == [(1, {"c0": 2, "c1": 3}), (1, {"c0": 1, "c1": 5})]
    parts = circuit.save()
    again = it.circuit()
    again.load(parts)
    for each in (circuit, again):
        assert step(each, rows({"k": 2})) == [(-1, {"c0": None, "c1": None})]


def test_each_key_is_in_a_delta_at_most_once(tmp_path: Path) -> None:
    circuit = bench(tmp_path, "SELECT k, sum(u) AS s FROM events GROUP BY k").circuit()
    delta = circuit.step(changes(rows(*[{"k": i % 5, "u": 2**64 - 1} for i in range(100)])))
    assert sorted(delta.keys.tolist()) == [0, 1, 2, 3, 4]
    assert delta.table.column(1).to_pylist() == [20 * (2**64 - 1)] * 5


VIEWS = [
    "SELECT * FROM events",
    "SELECT s, k + 1 AS x FROM events WHERE b",
    "SELECT k, s, b, u, n, count(*) AS c, count(s) AS cs, sum(n) AS n2, avg(d) AS a, min(s) AS mi, max(at) AS ma "
    "FROM events GROUP BY k, s, b, u, n",
    "SELECT sum(k) AS a, min(u) AS b, max(b) AS c, avg(n) AS d, max(s) AS e, min(d) AS f FROM events",
    "SELECT s, count(l) AS c FROM events GROUP BY s HAVING max(k) > 1",
]
RECORDS = rows(
    {"k": 1, "n": 1, "s": "a", "b": True, "d": 1.5, "u": 2**64 - 1, "l": [1]},
    {"s": ""}, {"k": 2, "s": "é", "b": False}, {}, {"k": 1, "n": -1, "s": "a", "d": -0.0, "u": 0, "l": []},
    {"k": -1, "s": "한국", "d": float("nan")}, {"k": 2}, {"s": "a", "b": True}, {"k": 1, "n": 1, "s": "a", "b": True},
)  # fmt: skip


def folded(circuit: Any, tables: list[pa.Table]) -> list[str]:
    """Return what the circuit's deltas add up to, as sorted text."""
    held: dict[Any, str] = {}
    initial = circuit.initial()
    for delta in [initial, *(circuit.step(changes(table)) for table in tables)]:
        keys = (
            range(len(held), len(held) + delta.rows)
            if not isinstance(delta, KeyedDelta)
            else delta.keys.tolist()
        )
        weights = [1] * delta.rows if delta.weights is None else delta.weights.tolist()
        for key, weight, row in zip(keys, weights, delta.table.to_pylist(), strict=True):
            held.pop(key, None)
            if weight > 0:
                held[key] = repr(row)
    return sorted(held.values())


@pytest.mark.parametrize("sql", VIEWS)
def test_slices_chunks_and_empty_deltas_do_not_show(tmp_path: Path, sql: str) -> None:
    it = bench(tmp_path, sql)
    whole = folded(it.circuit(), [RECORDS])
    padded = pa.concat_tables([RECORDS.slice(3), RECORDS, RECORDS]).combine_chunks()
    offset = padded.slice(RECORDS.num_rows - 3, RECORDS.num_rows)
    assert offset.column(2).chunk(0).offset > 0
    assert folded(it.circuit(), [offset]) == whole
    assert (
        folded(it.circuit(), [pa.concat_tables([RECORDS.slice(i, 1) for i in range(RECORDS.num_rows)])])
        == whole
    )
    nothing = RECORDS.slice(0, 0)
    empty = pa.Table.from_batches([], RECORDS.schema)
    tables = [RECORDS.slice(i, 1) for i in range(RECORDS.num_rows)]
    assert folded(it.circuit(), [nothing, *tables, nothing, empty]) == whole
    assert folded(it.circuit(), [RECORDS.slice(0, 5), nothing, RECORDS.slice(5)]) == whole


@pytest.mark.parametrize("sql", VIEWS)
@pytest.mark.parametrize("cut", [0, 1, 5, 9])
def test_a_saved_circuit_goes_on_the_same(tmp_path: Path, sql: str, cut: int) -> None:
    it = bench(tmp_path, sql)
    circuit = it.circuit()
    circuit.initial()
    circuit.step(changes(RECORDS.slice(0, cut)))
    again = it.circuit()
    again.load(circuit.save())
    for table in (RECORDS.slice(cut), RECORDS):
        assert repr(step(circuit, table)) == repr(step(again, table))  # NaN equals NaN in text


def test_a_saved_circuit_is_not_shared_with_the_running_one(tmp_path: Path) -> None:
    it = bench(tmp_path, VIEWS[2])
    circuit = it.circuit()
    circuit.step(changes(RECORDS))
    again = it.circuit()
    again.load(circuit.save())
    before = repr({name: table.to_pylist() for name, table in again.save().items()})
    circuit.step(changes(RECORDS))
    assert repr({name: table.to_pylist() for name, table in again.save().items()}) == before


def test_many_keys_come_back_from_a_snapshot(tmp_path: Path) -> None:
    it = bench(tmp_path, "SELECT s, k, count(*) AS c, max(s) AS m FROM events GROUP BY s, k")
    it.append(rows(*[{"s": f"text {i % 7000}", "k": i % 3 or None} for i in range(20_000)]))
    it.step(11_000)
    it.reopen(save=True)
    it.check()
    it.runner.step()
    it.check()
    it.reopen()
    it.check()


def test_sum_that_cannot_be_stored_is_an_error_not_a_number(tmp_path: Path) -> None:
    it = bench(tmp_path, "SELECT sum(k::HUGEINT * 99999999999999999999999999999999999999) AS s FROM events")
    it.append(rows({"k": 1}))
    it.runner.step()
    it.check()
    it.append(rows({"k": 1}))
    with pytest.raises(ViewFailed, match="38 digits"):
        it.runner.step()
    it.check()
    it.reopen()
    it.check()


def test_failing_record_is_named_by_its_offset_and_nothing_is_lost(tmp_path: Path) -> None:
    it = bench(tmp_path, "SELECT k, sum(s::INTEGER) AS s FROM events GROUP BY k")
    it.append(rows({"k": 1, "s": "1"}, {"k": 1, "s": "2"}))
    it.runner.step()
    it.append(rows({"k": 1, "s": "3"}, {"k": 2, "s": "x"}, {"k": 1, "s": "4"}))
    for _ in range(2):
        with pytest.raises(ViewFailed) as caught:
            it.runner.step()
        assert caught.value.where == "log 'events', offset 3"
        it.check()
        it.reopen()
    assert it.position == 2
    assert it.step(3) == 1  # up to the bad record it goes on
    it.check()


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT k FROM (SELECT k, sum(s::INTEGER) AS t, min(u) AS m FROM events GROUP BY k)",
        "SELECT k + 1 AS x, m FROM (SELECT min(u) AS m, sum(s::INTEGER) AS t, k FROM events GROUP BY k) WHERE m > 0",
        "SELECT c FROM (SELECT count(*) AS c, CASE WHEN count(*) > 2 THEN max(at) END AS m, sum(n) + 1 AS s FROM events)",
        "SELECT c FROM (SELECT *, c AS d FROM (SELECT max(s::INTEGER) AS t, count(s) AS c, max(n) AS a FROM events))",
    ],
)
def test_functions_that_nobody_asks_for_are_not_computed(tmp_path: Path, sql: str) -> None:
    it = bench(tmp_path, sql)
    it.append(rows({"k": 1, "s": "not a number", "u": 3}, {"k": 2, "u": 0}))
    it.runner.step()
    it.check()
    it.reopen(save=True)
    it.append(rows({"k": 1, "s": "7", "u": 1}))
    it.runner.step()
    it.check()


def test_epochs_are_counted_and_positions_move_with_them(tmp_path: Path) -> None:
    it = bench(tmp_path, "SELECT k, count(*) AS c FROM events GROUP BY k", snapshot_rows=2)
    it.append(RECORDS)
    for end in range(1, 10):
        assert it.step(end) == 1
        assert it.position == end
        assert it.runner.lag() == RECORDS.num_rows - end
    assert it.runner.step() == 0
    kept = sorted(path.name for path in (it.view.folder / "snapshots").iterdir())
    assert 1 <= len(kept) <= 2
    it.check()


def test_snapshot_after_the_last_frame_is_not_used(tmp_path: Path) -> None:
    """An output log brought back from an older copy: its newest frame counts, not a snapshot of what is gone."""
    it = bench(tmp_path, "SELECT k, count(*) AS c FROM events GROUP BY k")
    it.append(rows({"k": 1}, {"k": 2}, {"k": 1}))
    it.step(2)
    it.runner.snapshot()
    it.runner.close()
    shutil.copytree(it.view.folder / "0", tmp_path / "older")
    it.runner = it._runner()
    it.runner.step()
    it.runner.snapshot()
    it.runner.close()
    shutil.rmtree(it.view.folder / "0")
    (tmp_path / "older").rename(it.view.folder / "0")
    it.runner = it._runner()
    assert it.position == 2
    it.check()
    it.runner.step()
    it.check()


def test_log_shorter_than_what_the_view_reflects_is_refused(tmp_path: Path) -> None:
    it = bench(tmp_path, "SELECT k FROM events")
    it.append(rows({"k": 1}))
    it.writer.close()
    shutil.copytree(it.input_folder, tmp_path / "older")
    it.writer = LogWriter(it.input_folder, it.info, files=it.files, clock=it.clock)
    it.append(rows({"k": 2}))
    it.runner.step()
    it.close()
    shutil.rmtree(it.input_folder)
    (tmp_path / "older").rename(it.input_folder)
    with pytest.raises(ViewFailed, match="records that its log does not have"):
        it._runner()


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT sum(c) AS n FROM (SELECT k, count(*) AS c FROM events GROUP BY k)",
        "SELECT l, count(*) AS c FROM events GROUP BY l",
        "SELECT median(k) AS m, s FROM events GROUP BY s",
        "SELECT string_agg(s, ',' ORDER BY s) AS m FROM events",
        "SELECT min(l) AS m FROM events",
        "SELECT min(k, 2) AS m FROM events",
        "SELECT stddev(k) AS m FROM events",
        "SELECT avg(at) AS m FROM events",
    ],
)
def test_what_has_no_accumulator_is_computed_anew(tmp_path: Path, sql: str) -> None:
    it = bench(tmp_path, sql)
    it.check()
    for start in range(0, RECORDS.num_rows, 4):
        it.append(RECORDS.slice(start, 4))
        it.runner.step()
        it.check()
        it.reopen(save=start == 4)
        it.check()


def test_what_depends_on_the_order_of_rows_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(NotMaintainable) as caught:
        bench(tmp_path, "SELECT first(k) AS m FROM events")
    assert "first" in caught.value.construct
    assert caught.value.span is not None


def test_state_is_measured(tmp_path: Path) -> None:
    it = bench(tmp_path, "SELECT s, count(*) AS c FROM events GROUP BY s")
    circuit = it.circuit()
    circuit.step(changes(rows(*[{"s": str(i)} for i in range(100)])))
    (state,) = circuit.states()
    assert state.rows == 100
    assert state.bytes > 100 * 8
    assert np.all(circuit.step(changes(rows({"s": "0"}))).keys == 0)
