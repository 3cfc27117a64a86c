"""Parquet: what a folder holds changes by one rename, and merged or not, it is the same rows."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bourne.connect.parquet_sink import ParquetSink
from bourne.connect.sink import Change, Shape, Sink
from bourne.errors import DefinitionError, Rejected, SinkFailed, Unreachable
from bourne.schema import Column, Schema, duckdb_type, quote
from bourne.testing import SINK_CHECKS, FaultyFiles, check_sink
from bourne.testing.sink_model import TargetModel, make_change
from bourne.testing.type_values import VALUES
from connect.killed_writes import check_whole, killed_writes
from connect.sink_reading import HUGE_ROWS, SEEDS, STRIDE, at, columns_of, quoted, shape

WEIGHTED = shape(has_weights=True)


def files_of(folder: Path) -> list[Path]:
    return sorted(folder.glob("**/*.parquet"))


READER = duckdb.connect()
READER.execute("SET GLOBAL TimeZone = 'UTC'")


def read(folder: Path, shape: Shape, by: tuple[str, ...] = ()) -> pa.Table:
    """Read it as anybody would."""
    names = [column.name for column in columns_of(shape)]
    if not files_of(folder):
        schema = Schema(tuple(columns_of(shape))).to_arrow()
        return schema.empty_table()
    with READER.cursor() as database:
        types = ", ".join(f"{quote(c.name)}: {c.type}" for c in shape.schema.columns if c.name in by)
        hive = (
            f", hive_partitioning = true, hive_types = {{{types}}}" if by else ", hive_partitioning = false"
        )
        path = str(folder / "**" / "*.parquet").replace("'", "''")
        return database.sql(f"SELECT {quoted(names)} FROM read_parquet('{path}'{hive})").to_arrow_table()


def by_of(shape: Shape, is_partitioned: bool) -> tuple[str, ...]:
    name = "m" if shape.name.startswith("crashes") else "n"  # few folders, where each file is a place to die
    column = shape.schema.column(name)
    return (name,) if is_partitioned and column and column.type == "BIGINT" else ()


@pytest.mark.parametrize("is_partitioned", [False, True])
@pytest.mark.parametrize("check", SINK_CHECKS)
def test_it_is_a_sink(tmp_path, check, is_partitioned):
    deaths = 0

    @contextmanager
    def crash(shape: Shape, point: int) -> Iterator[Sink]:
        nonlocal deaths
        deaths += 1
        files = FaultyFiles()
        files.die_at(STRIDE * point - 1)
        by = by_of(shape, is_partitioned)
        sink = ParquetSink(tmp_path / shape.name, shape, by=by, files=files, merge_files=3)
        yield sink
        sink.close()
        files.crash(seed=point)

    check_sink(
        lambda shape: ParquetSink(tmp_path / shape.name, shape, by=by_of(shape, is_partitioned), merge_files=4),
        lambda shape: read(tmp_path / shape.name, shape, by_of(shape, is_partitioned)),
        kinds=["append", "weights"], only=[check], crash=crash, refused_types=["INTERVAL"],
        seeds=SEEDS, huge_rows=HUGE_ROWS,
    )  # fmt: skip
    assert check != "crashes" or deaths > 10


@pytest.mark.parametrize("has_weights", [False, True])
def test_merged_files_hold_the_same_rows_of_any_type(tmp_path, has_weights):
    kinds = [kind for kind in VALUES if kind != "INTERVAL"]
    columns = tuple(Column(f"c{index}", duckdb_type(kind)) for index, kind in enumerate(kinds))
    rows = Shape("types", Schema(columns), has_weights=has_weights)
    texts = [f"CAST({VALUES[kind][0]} AS {kind}) AS c{index}" for index, kind in enumerate(kinds)]
    nulls = [f"CAST(NULL AS {kind}) AS c{index}" for index, kind in enumerate(kinds)]
    with duckdb.connect() as database:
        database.execute("SET TimeZone = 'UTC'")
        table = database.sql(
            f"SELECT {', '.join(texts)} UNION ALL SELECT {', '.join(nulls)}"
        ).to_arrow_table()
    table = table.cast(rows.schema.to_arrow())
    sink, model = ParquetSink(tmp_path / "a", rows, merge_files=3), TargetModel(rows)
    sink.open()
    for number in range(1, 8):
        change = Change(table, weights=pa.array([2, -1], pa.int64()) if has_weights else None)
        sink.write(change, at(number), at(number - 1) if number > 1 else None)
        model.apply(change)
        model.check(read(tmp_path / "a", rows), f"after {number} changes")
    assert len(files_of(tmp_path / "a")) <= 3


def test_rows_of_weight_zero_are_left_out_when_files_are_merged(tmp_path):
    sink = ParquetSink(tmp_path / "a", WEIGHTED, merge_files=4)
    sink.open()
    before = None
    for number, weight in enumerate((3, -1, -2, 0), 1):
        rows = [{"k": "a", "n": None}, {"k": f"kept {number}", "n": 1}]
        sink.write(make_change(WEIGHTED, rows, weights=[weight, 1]), at(number), before)
        before = at(number)
    (file,) = files_of(tmp_path / "a")
    assert sorted(row["k"] for row in pq.read_table(file).to_pylist()) == [
        f"kept {number}" for number in range(1, 5)
    ]
    for number in range(5, 9):
        rows = [{"k": f"kept {number - 4}", "n": 1}]
        sink.write(make_change(WEIGHTED, rows, weights=[-1]), at(number), at(number - 1))
    assert sum(row["__weight"] for row in read(tmp_path / "a", WEIGHTED).to_pylist()) == 0
    assert sink.open() == at(8)


def test_many_small_changes_make_few_files(tmp_path):
    sink = ParquetSink(tmp_path / "a", shape(), by=("k",))
    sink.open()
    for number in range(1, 101):
        rows = [{"k": k, "n": number} for k in ("a", "b")]
        sink.write(make_change(shape(), rows), at(number), at(number - 1) if number > 1 else None)
    assert len(files_of(tmp_path / "a")) <= 2 * 16
    assert read(tmp_path / "a", shape(), ("k",)).num_rows == 200


def test_folders_are_named_as_hive_and_duckdb_do(tmp_path):
    values = [
        "a/b",
        "서울",
        None,
        "",
        "__HIVE_DEFAULT_PARTITION__",
        "x=y %20",
        ".",
        "..",
        "007",
        "\x00\n",
        "A:b",
        "it's",
        "\\",
        "*",
        "[a]",
    ]
    rows = shape(k="VARCHAR", day="DATE", n="BIGINT")
    table = pa.Table.from_pylist(
        [{"k": k, "n": index} for index, k in enumerate(values)], rows.schema.to_arrow()
    )
    sink = ParquetSink(tmp_path / "a", rows, by=("k", "day"))
    sink.open()
    sink.write(Change(table), at(1), None)
    theirs = tmp_path / "theirs"
    with duckdb.connect() as database:
        database.register("t", table)
        database.execute(
            f"COPY (SELECT k, day, n FROM t) TO '{theirs}' (FORMAT parquet, PARTITION_BY (k, day))"
        )
    folders = {path.parent.relative_to(tmp_path / "a").as_posix() for path in files_of(tmp_path / "a")}
    assert folders == {path.parent.relative_to(theirs).as_posix() for path in files_of(theirs)}
    model = TargetModel(rows)
    model.apply(Change(table))
    model.check(read(tmp_path / "a", rows, ("k", "day")), "read by DuckDB")
    assert pq.read_schema(files_of(tmp_path / "a")[0]).names == ["n"]


def test_a_value_that_no_folder_can_be_called_is_rejected(tmp_path):
    sink = ParquetSink(tmp_path / "a", shape(), by=("k",))
    sink.open()
    change = make_change(shape(), [{"k": "a"}, {"k": "서" * 30}])
    assert not sink.accepts(change)
    with pytest.raises(Rejected, match="too long"):
        sink.write(change, at(1), None)
    assert sink.open() is None and files_of(tmp_path / "a") == []


def test_what_a_crash_left_is_completed_or_removed(tmp_path):
    """After the record: its files come. Before it: they go. A reader sees neither drafts nor the record."""
    for call, name, is_there in (("replace", "commit.json", False), ("sync_folder", "_bourne", True)):
        folder, files = tmp_path / call, FaultyFiles()
        sink = ParquetSink(folder, shape(), files=files)
        sink.open()
        sink.write(make_change(shape(), [{"k": "a"}]), at(1), None)
        files.fail(call, name=name, always=True)
        with pytest.raises(Unreachable):
            sink.write(make_change(shape(), [{"k": "b"}]), at(2), at(1))
        assert read(folder, shape()).num_rows == 1
        assert list((folder / "_bourne" / "drafts").iterdir())
        assert ParquetSink(folder, shape()).open() == at(2 if is_there else 1)
        assert read(folder, shape()).num_rows == (2 if is_there else 1)
        assert list((folder / "_bourne" / "drafts").iterdir()) == []


def test_a_file_system_without_links(tmp_path, monkeypatch):
    def refuse(source: Path, target: Path) -> None:
        raise PermissionError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    sink = ParquetSink(tmp_path / "a", shape(), merge_files=2)
    sink.open()
    for number in range(1, 4):
        sink.write(make_change(shape(), [{"k": "a"}]), at(number), at(number - 1) if number > 1 else None)
    assert read(tmp_path / "a", shape()).num_rows == 3


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda folder: (folder / "_bourne" / "commit.json").unlink(), "not their record"),
        (lambda folder: (folder / "_bourne" / "commit.json").write_text("{"), "cannot be read"),
        (lambda folder: files_of(folder)[0].unlink(), "is gone"),
    ],
)
def test_a_folder_that_somebody_changed_is_refused(tmp_path, harm, said):
    sink = ParquetSink(tmp_path / "a", shape())
    sink.open()
    sink.write(make_change(shape(), [{"k": "a"}]), at(1), None)
    harm(tmp_path / "a")
    with pytest.raises(SinkFailed, match=said):
        sink.open()


def test_a_folder_of_other_rows_is_refused(tmp_path):
    sink = ParquetSink(tmp_path / "a", shape())
    sink.open()
    sink.write(make_change(shape(), [{"k": "a"}]), at(1), None)
    for other in (
        ParquetSink(tmp_path / "a", shape(name="sums")),
        ParquetSink(tmp_path / "a", shape(k="VARCHAR")),
        ParquetSink(tmp_path / "a", shape(), by=("k",)),
        ParquetSink(tmp_path / "a", WEIGHTED),
    ):
        with pytest.raises(SinkFailed, match="other rows"):
            other.open()


def test_two_at_the_same_time(tmp_path):
    first, second = (ParquetSink(tmp_path / "a", shape()) for _ in range(2))
    first.open()
    second.open()
    with first._folder.locked(), pytest.raises(Unreachable, match="another process"):
        second.write(make_change(shape(), [{"k": "b"}]), at(1), None)
    second.write(make_change(shape(), [{"k": "b"}]), at(1), None)


@pytest.mark.parametrize(
    ("rows", "by", "said"),
    [
        (shape(key=("k",)), (), "leave the key out"),
        (shape(), ("x",), "names 'x'"),
        (shape(), ("k", "k"), "names 'k'"),
        (shape(k="DOUBLE", n="BIGINT"), ("k",), "cannot name folders"),
        (shape(k="VARCHAR"), ("k",), "none in the files"),
        (shape(k="STRUCT(a INTERVAL[])", n="BIGINT"), (), "INTERVAL"),
    ],
)
def test_what_a_folder_cannot_hold_is_refused(tmp_path, rows, by, said):
    with pytest.raises(DefinitionError, match=said):
        ParquetSink(tmp_path, rows, by=by)


def test_the_url(tmp_path):
    sink = ParquetSink.from_url(f"parquet:{tmp_path}/my%20%ED%95%9C/?by=k,n", shape())
    sink.open()
    sink.write(make_change(shape(), [{"k": "a", "n": 1, "note": "x"}]), at(1), None)
    assert (tmp_path / "my 한" / "k=a" / "n=1").is_dir()
    for url in ("parquet:", "parquet://a/", "parquet:a?partition=k"):
        with pytest.raises(DefinitionError, match="parquet:FOLDER"):
            ParquetSink.from_url(url, shape())
    with pytest.raises(SinkFailed, match="not there"):
        ParquetSink.from_url("parquet:/none/of/it", shape()).open()
    with pytest.raises(Unreachable, match="not open"):
        ParquetSink.from_url(f"parquet:{tmp_path}/b", shape()).write(make_change(shape()), at(1), None)


def test_a_process_that_is_killed_leaves_rows_and_position_together(tmp_path):
    path = tmp_path / "a"
    make = f"ParquetSink(Path({str(path)!r}), shape(), merge_files=3)"
    for acknowledged in killed_writes("from bourne.connect.parquet_sink import ParquetSink", make):
        sink = ParquetSink(path, shape())
        check_whole(sink.open(), read(path, shape()), acknowledged)
