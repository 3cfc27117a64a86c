"""The fold of a log that changes its mind is its relation: a dict of rows or a bag of them, kept by hand."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bourne.errors import QueryError
from bourne.log import retention
from bourne.log.catalog import LogInfo, Retention, write_log_info
from bourne.log.embedded import EmbeddedLog
from bourne.log.relation import COUNT_COLUMN, relation_schema, stored_schema
from bourne.log.writer import LogWriter
from bourne.ports import OsFiles
from bourne.schema import Column, Schema, declare_schema
from bourne.testing import SimulatedClock
from bourne.views import fold as fold_module
from bourne.views import keyed_rows
from bourne.views.fold import Fold

ROW = {"key": "bigint", "글": "varchar", "tags": "varchar[]", "x": "double"}
ROWS = declare_schema(ROW, where="test")

TEXTS = st.sampled_from([None, "", "가", "na", "xyz" * 40])
TAGS = st.sampled_from([None, [], ["a"], ["a", None]])
NUMBERS = st.sampled_from([None, 0.0, 1.5, float("inf")])

Row = tuple[Any, ...]


def rows(keys: st.SearchStrategy[Any]) -> st.SearchStrategy[Row]:
    return st.tuples(keys, TEXTS, TAGS, NUMBERS)


def as_dict(row: Row | None) -> dict[str, Any] | None:
    return None if row is None else dict(zip(ROW, row, strict=True))


def frozen(row: Row) -> Row:
    return tuple(tuple(value) if isinstance(value, list) else value for value in row)


def bag(table: pa.Table) -> Counter[Row]:
    return Counter(frozen(row) for row in zip(*table.to_pydict().values(), strict=True))


@contextmanager
def log_of(info: LogInfo) -> Iterator[tuple[EmbeddedLog, SimulatedClock]]:
    with tempfile.TemporaryDirectory() as folder:
        clock = SimulatedClock(1_700_000_000_000_000)
        info = write_log_info(Path(folder), replace(info, durability="none"), OsFiles())
        with EmbeddedLog(Path(folder), info, files=OsFiles(), clock=clock) as log:
            yield log, clock


def looked(fold: Fold) -> Counter[Row]:
    fold.refresh()
    return bag(fold.table())


def fresh(log: EmbeddedLog) -> Counter[Row]:
    fold = Fold(log.folder, log.info)
    try:
        return looked(fold)
    finally:
        fold.close()


@pytest.fixture(autouse=True, params=[1, 1 << 16], ids=lambda n: f"dead{n}")
def small(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reach every way of putting rows together, and forgetting those that are gone, with few rows."""
    monkeypatch.setattr(fold_module, "_DEAD_MAX", request.param)
    monkeypatch.setattr(keyed_rows, "_SMALL_KEYS", request.param)
    monkeypatch.setattr(keyed_rows, "_RECENT_ROWS_MAX", 20)


KEYS = st.one_of(st.integers(0, 3), st.integers(0, 40))
APPENDS = settings(max_examples=15, derandomize=True, deadline=None)


@APPENDS
@given(
    appends=st.lists(
        st.tuples(st.lists(st.tuples(rows(KEYS), st.sampled_from([None, False, False, True])), max_size=12),
                  st.booleans()), max_size=12),
    partitions=st.integers(1, 3),
    is_compacted=st.booleans(),
)  # fmt: skip
def test_upserts(appends: list[Any], partitions: int, is_compacted: bool) -> None:
    schema = declare_schema({**ROW, "gone": "boolean"}, where="test").with_not_null("key")
    info = LogInfo(
        "l", schema, key="KEY", changes="upsert", partitions=partitions, tombstone="Gone",
        retention=Retention(is_compacted=is_compacted),
    )  # fmt: skip
    assert relation_schema(info) == ROWS.with_not_null("key")
    model: dict[Any, Row] = {}
    saved, retention.COMPACT_BYTES_MIN = retention.COMPACT_BYTES_MIN, 1
    try:
        with log_of(info) as (log, clock):
            fold = Fold(log.folder, log.info)
            for records, is_seen in appends:
                log.append([{**(as_dict(row) or {}), "gone": gone} for row, gone in records])
                for row, gone in records:
                    model.pop(row[0], None)
                    if not gone:
                        model[row[0]] = row
                expected = Counter(map(frozen, model.values()))
                if is_seen:
                    assert looked(fold) == expected
                    clock.advance(30 * 3600 * 1_000_000)  # tombstones go after a day
                    log.maintain()
                    assert looked(fold) == fresh(log) == expected
            assert looked(fold) == fresh(log)
            fold.close()
    finally:
        retention.COMPACT_BYTES_MIN = saved


@APPENDS
@given(
    appends=st.lists(
        st.tuples(st.lists(st.tuples(KEYS, rows(KEYS), rows(KEYS), st.sampled_from("cud")), max_size=12),
                  st.booleans()), max_size=12),
    partitions=st.integers(1, 3),
)  # fmt: skip
def test_before_and_after_by_key(appends: list[Any], partitions: int) -> None:
    """What is said of the row before does not matter: it may be missing, wrong, or repeated."""
    info = LogInfo("l", stored_schema(ROWS), key="key", changes="before_after", partitions=partitions)
    model: dict[Any, Row] = {}
    with log_of(info) as (log, _):
        fold = Fold(log.folder, log.info)
        for records, is_seen in appends:
            changes = []
            for key, before, after, kind in records:
                before, after = (key, *before[1:]), (key, *after[1:])
                if kind == "d":
                    model.pop(key, None)
                else:
                    model[key] = after
                changes.append({
                    "before": None if kind == "c" else as_dict(before),
                    "after": None if kind == "d" else as_dict(after),
                })  # fmt: skip
            log.append(changes)
            if is_seen:
                assert looked(fold) == Counter(map(frozen, model.values()))
        assert looked(fold) == fresh(log) == Counter(map(frozen, model.values()))
        fold.close()


FEW = rows(st.sampled_from([None, 0, 1]))


@APPENDS
@given(
    appends=st.lists(
        st.tuples(st.lists(st.tuples(FEW, FEW, st.sampled_from("cud")), max_size=12), st.booleans()),
        max_size=12,
    )
)
def test_before_and_after_by_content(appends: list[Any]) -> None:
    info = LogInfo("l", stored_schema(ROWS), changes="before_after")
    model: Counter[Row] = Counter()
    with log_of(info) as (log, _):
        fold = Fold(log.folder, log.info)
        for records, is_seen in appends:
            for before, after, kind in records:
                if kind != "c":
                    model[frozen(before)] -= 1
                if kind != "d":
                    model[frozen(after)] += 1
            log.append([
                {"before": None if kind == "c" else as_dict(before), "after": None if kind == "d" else as_dict(after)}
                for before, after, kind in records
            ])  # fmt: skip
            if is_seen:
                assert looked(fold) == +model  # Counter's plus drops what is not above 0
        assert looked(fold) == fresh(log) == +model
        fold.close()


@APPENDS
@given(
    appends=st.lists(
        st.tuples(
            st.lists(st.tuples(FEW, st.sampled_from([-2, -1, -1, 0, 1, 1, 3])), max_size=12), st.booleans()
        ),
        max_size=12,
    ),
    partitions=st.integers(1, 3),
)
def test_weights(appends: list[Any], partitions: int) -> None:
    schema = declare_schema({"w": "integer not null", **ROW, "k": "integer not null"}, where="test")
    info = LogInfo("l", schema, key="k", changes="weights", partitions=partitions, weight="W")
    model: Counter[Row] = Counter()
    with log_of(info) as (log, _):
        fold = Fold(log.folder, log.info)
        for records, is_seen in appends:
            for row, weight in records:
                model[(*frozen(row), row[0] or 0)] += weight
            log.append([{**(as_dict(row) or {}), "w": weight, "k": row[0] or 0} for row, weight in records])
            if is_seen:
                assert looked(fold) == +model
        assert looked(fold) == fresh(log) == +model
        fold.close()


def test_a_views_output_by_content(tmp_path: Path) -> None:
    schema = Schema((COUNT_COLUMN, Column("text", "VARCHAR")))
    info = write_log_info(tmp_path, LogInfo("v", schema, changes="weights", weight="__weight"), OsFiles())
    writer = LogWriter(tmp_path, info, files=OsFiles(), clock=SimulatedClock(0))
    fold = Fold(tmp_path, info)
    fold.refresh()
    assert fold.table().column_names == ["text"] and fold.table().num_rows == 0
    for epoch, (weights, texts) in enumerate(
        [([2, 1], ["a", None]), ([], []), ([-1, 3], ["a", "b"]), ([-1], ["a"])]
    ):
        arrays = [pa.array(weights, pa.int64()), pa.array(texts, pa.string())]
        writer.append(pa.Table.from_arrays(arrays, schema=schema.to_arrow()), {"epoch": epoch})
    fold.refresh()
    assert bag(fold.table()) == {(None,): 1, ("b",): 3}
    fold.close()
    writer.close()


def test_equal_rows_are_those_that_are_the_same() -> None:
    schema = declare_schema({"x": "double", "w": "bigint not null"}, where="test")
    with log_of(LogInfo("l", schema, changes="weights", weight="w")) as (log, _):
        log.append([{"x": 0.0, "w": 1}, {"x": float("nan"), "w": 1}, {"x": None, "w": 1}])
        assert len(fresh(log)) == 3
        log.append([{"x": -0.0, "w": -1}, {"x": -float("nan"), "w": -1}, {"x": None, "w": -1}])
        assert [str(x) for (x,) in fresh(log)] == ["0.0"]  # 1/x tells it from -0.0, which is owed now
        log.append([{"x": 0.0, "w": -1}, {"x": -0.0, "w": 1}])
        assert not fresh(log)


def test_more_equal_rows_than_memory_holds_are_an_error() -> None:
    schema = declare_schema({"x": "double", "w": "bigint not null"}, where="test")
    with log_of(LogInfo("big", schema, changes="weights", weight="w")) as (log, _):
        for _ in range(3):
            log.append([{"x": 0.0, "w": (1 << 31) - 1}])
        with pytest.raises(QueryError, match="'big' make too many equal rows"):
            fresh(log)
        log.append([{"x": 0.0, "w": -((1 << 31) - 1)}] * 2)
        log.append([{"x": 0.0, "w": -((1 << 31) - 5)}])
        assert fresh(log) == {(0.0,): 4}


def test_what_is_remembered_of_rows_that_are_gone_does_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fold_module, "_DEAD_MAX", 10)
    schema = declare_schema({"x": "bigint", "w": "bigint not null"}, where="test")
    with log_of(LogInfo("l", schema, changes="weights", weight="w")) as (log, _):
        fold = Fold(log.folder, log.info)
        log.append([{"x": -1, "w": -2}])  # owed: must not be forgotten
        for number in range(60):
            log.append([{"x": number, "w": 1}, {"x": number - 2, "w": -1}])
            fold.refresh()
            assert len(fold._rows._index) <= 12  # type: ignore[union-attr]
        log.append([{"x": -1, "w": 3}])
        assert looked(fold) == {(58,): 1, (59,): 1} and fresh(log) == looked(fold)
        fold.close()
