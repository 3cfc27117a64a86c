"""DuckDB: rows and position are one transaction, and between writes others may have the file."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from bourne.connect.duckdb_sink import DuckdbSink
from bourne.connect.sink import Shape
from bourne.errors import DefinitionError, Rejected, SinkFailed, Unreachable
from bourne.schema import quote
from bourne.testing import SINK_CHECKS, check_sink
from bourne.testing.sink_conformance import FORBIDDEN
from bourne.testing.sink_model import make_change
from connect.killed_writes import check_whole, killed_writes
from connect.sink_reading import HUGE_ROWS, SEEDS, at, columns_of, quoted, shape

READER = duckdb.connect()
READER.execute("SET GLOBAL TimeZone = 'UTC'")


def read(path: Path, table: str, shape: Shape) -> pa.Table:
    names = [column.name for column in columns_of(shape)]
    with READER.cursor() as database:
        database.execute(f"ATTACH '{path}' AS held (READ_ONLY)")
        try:
            return database.execute(f"SELECT {quoted(names)} FROM held.{quote(table)}").to_arrow_table()
        finally:
            database.execute("DETACH held")


@contextmanager
def held_by_another_process(path: Path) -> Iterator[None]:
    program = (
        "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None and child.stdin is not None
        assert child.stdout.readline() == b"held\n"
        yield
        child.stdin.close()


@pytest.mark.parametrize("check", SINK_CHECKS)
def test_it_is_a_sink(tmp_path, check):
    path = tmp_path / "한글 dir.duckdb"

    def forbid(shape: Shape) -> None:
        key = ", UNIQUE (k, m)" if shape.key else ""
        weight = ", __weight BIGINT" if shape.has_weights else ""
        with duckdb.connect(path) as database:
            database.execute(
                f"CREATE TABLE {shape.name} (k VARCHAR, m BIGINT, n BIGINT CHECK (n <> {FORBIDDEN}), text VARCHAR, "
                f"x DOUBLE{weight}{key})"
            )

    check_sink(
        lambda shape: DuckdbSink(path, shape.name, shape),
        lambda shape: read(path, shape.name, shape),
        only=[check], huge_rows=HUGE_ROWS, seeds=SEEDS, forbid=forbid, outage=lambda: held_by_another_process(path),
    )  # fmt: skip


def make(path: Path, declared: str, **options: object) -> DuckdbSink:
    with duckdb.connect(path) as database:
        database.execute(declared)
    return DuckdbSink(path, "orders", shape(**options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("declared", "key", "said"),
    [
        ("CREATE TABLE orders (k VARCHAR, n BIGINT)", (), "no column 'note'"),
        ("CREATE TABLE orders (k VARCHAR, n DOUBLE, note VARCHAR)", (), "'n' is of another type"),
        (
            "CREATE TABLE orders (k VARCHAR, n BIGINT, note VARCHAR, more DATE NOT NULL)",
            (),
            "'more' has no default",
        ),
        ("CREATE TABLE orders (k VARCHAR, n BIGINT, note VARCHAR)", ("k",), "no such key"),
        ("CREATE TABLE orders (k VARCHAR, n BIGINT, note VARCHAR, UNIQUE (k, n))", ("k",), "no such key"),
        ("CREATE VIEW orders AS SELECT 'a' AS k, 1::BIGINT AS n, 'b' AS note", ("k",), "no such key"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path, declared, key, said):
    with pytest.raises(SinkFailed, match=said):
        make(tmp_path / "a.duckdb", declared, key=key).open()


def test_a_table_that_fits_is_taken_and_the_users_columns_stay(tmp_path):
    path = tmp_path / "a.duckdb"
    keyed = shape(key=("k",))
    sink = make(
        path,
        "CREATE TABLE orders (note TEXT, N INT8, K TEXT PRIMARY KEY, mine TEXT DEFAULT 'new' NOT NULL)",
        key=("k",),
    )
    sink.open()
    sink.write(make_change(keyed, [{"k": "a", "n": 1}]), at(1), None)
    with duckdb.connect(path) as database:
        database.execute("UPDATE orders SET mine = 'kept'")
    sink.write(make_change(keyed, [{"k": "a", "n": 2}, {"k": "b", "n": 3}]), at(2), at(1))
    with duckdb.connect(path) as database:
        assert database.execute("SELECT k, n, mine FROM orders ORDER BY k").fetchall() == [
            ("a", 2, "kept"),
            ("b", 3, "new"),
        ]


def test_what_the_table_refuses_is_rejected_and_leaves_nothing(tmp_path):
    path = tmp_path / "a.duckdb"
    sink = make(
        path,
        "CREATE TABLE orders (k VARCHAR NOT NULL, n BIGINT UNIQUE, note VARCHAR CHECK (length(note) < 5))",
    )
    sink.open()
    good = {"k": "a", "n": 1, "note": "ok"}
    sink.write(make_change(shape(), [good]), at(1), None)
    for row in ({"k": None}, {"n": 1}, {"note": "too long"}):
        bad = make_change(shape(), [{**good, "n": 5}, {**good, "n": 6, **row}])
        assert not sink.accepts(bad)
        with pytest.raises(Rejected, match="orders"):
            sink.write(bad, at(2), at(1))
    assert sink.open() == at(1)
    assert read(path, "orders", shape()).num_rows == 1


def test_others_may_read_between_writes(tmp_path):
    path = tmp_path / "a.duckdb"
    sink = DuckdbSink(path, "orders", shape())
    sink.open()
    program = "import duckdb, sys; print(duckdb.connect(sys.argv[1], read_only=True).sql('SELECT k FROM orders').fetchall())"
    for number in range(1, 4):
        sink.write(make_change(shape(), [{"k": "a"}]), at(number), at(number - 1) if number > 1 else None)
        seen = subprocess.run(
            [sys.executable, "-c", program, str(path)], capture_output=True, check=True, text=True
        )
        assert seen.stdout.strip() == str([("a",)] * number)


def test_who_is_second_of_two_at_the_same_time_is_told(tmp_path):
    path = tmp_path / "a.duckdb"
    sink = DuckdbSink(path, "orders", shape())
    sink.open()
    with duckdb.connect(path) as other:
        other.begin()
        other.execute("INSERT INTO bourne_positions VALUES ('orders', '1')")
        other.commit()
        other.begin()
        other.execute("UPDATE bourne_positions SET position = '2' WHERE sink = 'orders'")
        with pytest.raises(Unreachable):
            sink.write(make_change(shape(), [{"k": "a"}]), 3, 1)
        other.commit()
    assert sink.open() == 2
    assert read(path, "orders", shape()).num_rows == 0


def test_two_views_share_a_database(tmp_path):
    path = tmp_path / "a.duckdb"
    for number, name in enumerate(("orders", "sums")):
        sink = DuckdbSink(path, name, shape(name=name))
        assert sink.open() is None
        sink.write(make_change(shape(), [{"k": name}]), at(number), None)
    assert [DuckdbSink(path, name, shape(name=name)).open() for name in ("orders", "sums")] == [at(0), at(1)]


def test_what_is_no_database_is_told(tmp_path):
    (tmp_path / "a.duckdb").write_text("k,n,note\n" * 1000)
    with pytest.raises(SinkFailed, match="not a valid DuckDB"):
        DuckdbSink(tmp_path / "a.duckdb", "orders", shape()).open()
    with pytest.raises(SinkFailed, match="folder"):
        DuckdbSink(tmp_path / "none" / "a.duckdb", "orders", shape()).open()


@pytest.mark.parametrize("url", ["duckdb:", "duckdb://a.db", "duckdb:a.db?tabel=t", "sqlite:a.db?table=t"])
def test_urls_that_name_no_table(url):
    with pytest.raises(DefinitionError, match=r"duckdb:PATH\?table=TABLE"):
        DuckdbSink.from_url(url, shape())


def test_the_url(tmp_path):
    sink = DuckdbSink.from_url(f"duckdb:{tmp_path}/my%20%ED%95%9C.duckdb?table=a%20b", shape())
    sink.open()
    sink.write(make_change(shape(), [{"k": "a"}]), at(1), None)
    assert read(tmp_path / "my 한.duckdb", "a b", shape()).num_rows == 1


def test_a_process_that_is_killed_leaves_rows_and_position_together(tmp_path):
    path = tmp_path / "a.duckdb"
    make = f"DuckdbSink(Path({str(path)!r}), 'orders', shape())"
    for acknowledged in killed_writes("from bourne.connect.duckdb_sink import DuckdbSink", make):
        sink = DuckdbSink(path, "orders", shape())
        check_whole(sink.open(), read(path, "orders", shape()), acknowledged)
