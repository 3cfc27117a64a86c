"""SQLite: rows and position are one transaction, whatever the table refuses and whoever else is at it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pyarrow as pa
import pytest

from bourne.connect.sink import Shape
from bourne.connect.sqlite_sink import SqliteSink
from bourne.errors import DefinitionError, Rejected, SinkFailed, Unreachable
from bourne.schema import arrow_type, quote
from bourne.testing import SINK_CHECKS, check_sink
from bourne.testing.sink_conformance import FORBIDDEN
from bourne.testing.sink_model import make_change
from connect.killed_writes import check_whole, killed_writes
from connect.sink_reading import HUGE_ROWS, SEEDS, at, columns_of, quoted, shape, table_of_texts


def read(path: Path, table: str, shape: Shape) -> pa.Table:
    names = [column.name for column in columns_of(shape)]
    with closing(sqlite3.connect(path)) as database:
        rows = database.execute(f"SELECT {quoted(names)} FROM {quote(table)}").fetchall()
    values = dict(zip(names, zip(*rows, strict=True), strict=True)) if rows else {name: [] for name in names}
    for column in columns_of(shape):
        if pa.types.is_floating(arrow_type(column.type)):
            values[column.name] = [
                value if value is None else repr(float(value)) for value in values[column.name]
            ]
    return table_of_texts(values, shape)


@pytest.mark.parametrize("check", SINK_CHECKS)
def test_it_is_a_sink(tmp_path, check):
    path = tmp_path / "한글 dir.db"

    def forbid(shape: Shape) -> None:
        key = ", UNIQUE (k, m)" if shape.key else ""
        weight = ", __weight INTEGER" if shape.has_weights else ""
        with closing(sqlite3.connect(path)) as database:
            database.execute(
                f"CREATE TABLE {shape.name} (k TEXT, m INTEGER, n INTEGER CHECK (n <> {FORBIDDEN}), text TEXT, x REAL"
                f"{weight}{key})"
            )

    @contextmanager
    def outage() -> Iterator[None]:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield

    check_sink(
        lambda shape: SqliteSink(path, shape.name, shape, lock_wait_s=0.01),
        lambda shape: read(path, shape.name, shape),
        only=[check], huge_rows=HUGE_ROWS, seeds=SEEDS, forbid=forbid, outage=outage,
    )  # fmt: skip


def make(path: Path, declared: str, **options: object) -> SqliteSink:
    with closing(sqlite3.connect(path)) as database:
        database.executescript(declared)
    return SqliteSink(path, "orders", shape(**options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("declared", "key", "said"),
    [
        ("CREATE TABLE orders (k TEXT, n INTEGER)", (), "no column 'note'"),
        ("CREATE TABLE orders (k NUMERIC, n INTEGER, note TEXT)", (), "'k' would not keep VARCHAR"),
        ("CREATE TABLE orders (k INTEGER, n INTEGER, note TEXT)", (), "'k' would not keep VARCHAR"),
        ("CREATE TABLE orders (k TEXT, n REAL, note TEXT)", (), "'n' would not keep BIGINT"),
        ("CREATE TABLE orders (k TEXT, n TEXT, note TEXT)", (), "'n' would not keep BIGINT"),
        (
            "CREATE TABLE orders (k TEXT, n INTEGER, note TEXT, more TEXT NOT NULL)",
            (),
            "'more' has no default",
        ),
        ("CREATE TABLE orders (k TEXT, n INTEGER, note TEXT)", ("k",), "no such key"),
        ("CREATE TABLE orders (k TEXT, n INTEGER, note TEXT, UNIQUE (k, n))", ("k",), "no such key"),
        ("CREATE TABLE orders (k TEXT COLLATE NOCASE UNIQUE, n INTEGER, note TEXT)", ("k",), "no such key"),
        (
            "CREATE TABLE orders (k TEXT, n INTEGER, note TEXT); CREATE UNIQUE INDEX i ON orders (k) WHERE n > 0",
            ("k",),
            "no such key",
        ),
    ],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path, declared, key, said):
    with pytest.raises(SinkFailed, match=said):
        make(tmp_path / "a.db", declared, key=key).open()


@pytest.mark.parametrize(
    "declared",
    [
        "CREATE TABLE orders (note VARCHAR(3), N BIGINT, K CLOB PRIMARY KEY, more TEXT DEFAULT 'x' NOT NULL)",
        "CREATE TABLE orders (k TEXT, n, note, PRIMARY KEY (k)) WITHOUT ROWID",
        "CREATE TABLE orders (k TEXT, n INT, note TEXT) STRICT; CREATE UNIQUE INDEX i ON orders (k)",
    ],
)
def test_a_table_that_fits_is_taken(tmp_path, declared):
    path = tmp_path / "a.db"
    sink = make(path, declared, key=("k",))
    assert sink.open() is None
    change = make_change(
        shape(key=("k",)), [{"k": "07", "n": 1, "note": "3.50"}, {"k": "b", "n": None, "note": None}]
    )
    sink.write(change, at(1), None)
    sink.write(make_change(shape(key=("k",)), [{"k": "07", "n": 2, "note": "4.0"}]), at(2), at(1))
    sink.close()
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT k, n, note FROM orders ORDER BY k").fetchall() == [
            ("07", 2, "4.0"),
            ("b", None, None),
        ]


def test_columns_that_are_not_the_views_keep_their_values(tmp_path):
    path = tmp_path / "a.db"
    keyed = shape(key=("k",))
    sink = make(
        path,
        "CREATE TABLE orders (k TEXT PRIMARY KEY, n INTEGER, note TEXT, mine TEXT DEFAULT 'new')",
        key=("k",),
    )
    sink.open()
    sink.write(make_change(keyed, [{"k": "a", "n": 1}]), at(1), None)
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE orders SET mine = 'kept'")
        database.commit()
    sink.write(make_change(keyed, [{"k": "a", "n": 2}, {"k": "b", "n": 3}]), at(2), at(1))
    sink.close()
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT k, n, mine FROM orders ORDER BY k").fetchall() == [
            ("a", 2, "kept"),
            ("b", 3, "new"),
        ]


@pytest.mark.parametrize(
    ("declared", "row"),
    [
        ("CREATE TABLE orders (k TEXT NOT NULL, n INTEGER, note TEXT)", {"k": None}),
        ("CREATE TABLE orders (k TEXT, n INTEGER UNIQUE, note TEXT)", {"n": 1}),
        ("CREATE TABLE orders (k TEXT, n INTEGER, note TEXT CHECK (length(note) < 5))", {"note": "too long"}),
        (
            "CREATE TABLE orders (k TEXT, n INTEGER, note TEXT); CREATE TRIGGER no BEFORE INSERT ON orders "
            "WHEN new.k = 'no' BEGIN SELECT RAISE(ABORT, 'no'); END",
            {"k": "no"},
        ),
    ],
)
def test_what_the_table_refuses_is_rejected_and_leaves_nothing(tmp_path, declared, row):
    path = tmp_path / "a.db"
    sink = make(path, declared)
    sink.open()
    good = {"k": "a", "n": 1, "note": "ok"}
    sink.write(make_change(shape(), [good]), at(1), None)
    bad = make_change(shape(), [{**good, "n": 5}, {**good, "n": 6, **row}])
    assert not sink.accepts(bad)
    with pytest.raises(Rejected, match="orders"):
        sink.write(bad, at(2), at(1))
    assert sink.open() == at(1)
    assert read(path, "orders", shape()).num_rows == 1


def test_null_is_no_number_of_a_row(tmp_path):
    """A PRIMARY KEY of integers would give NULL a number of its own."""
    numbered = shape(k="BIGINT", n="BIGINT", key=("k",))
    with closing(sqlite3.connect(tmp_path / "a.db")) as database:
        database.execute("CREATE TABLE orders (k INTEGER PRIMARY KEY, n INTEGER)")
    sink = SqliteSink(tmp_path / "a.db", "orders", numbered)
    sink.open()
    sink.write(make_change(numbered, [{"k": 4, "n": 1}]), at(1), None)
    with pytest.raises(Rejected, match="NULL"):
        sink.write(make_change(numbered, [{"k": None, "n": 1}]), at(2), at(1))
    assert sink.open() == at(1)
    assert read(tmp_path / "a.db", "orders", numbered).to_pylist() == [{"k": 4, "n": 1}]


def test_two_views_share_a_database(tmp_path):
    path = tmp_path / "a.db"
    for number, name in enumerate(("orders", "sums")):
        sink = SqliteSink(path, name, shape(name=name))
        assert sink.open() is None
        sink.write(make_change(shape(), [{"k": name}]), at(number), None)
        sink.close()
    assert [SqliteSink(path, name, shape(name=name)).open() for name in ("orders", "sums")] == [at(0), at(1)]


def test_a_position_that_is_not_ours_is_told(tmp_path):
    sink = SqliteSink(tmp_path / "a.db", "orders", shape())
    sink.open()
    with closing(sqlite3.connect(tmp_path / "a.db")) as database:
        database.execute("INSERT INTO bourne_positions VALUES ('orders', 'yesterday')")
        database.commit()
    with pytest.raises(SinkFailed, match="yesterday"):
        sink.open()


def test_what_is_no_database_is_told(tmp_path):
    (tmp_path / "a.db").write_text("k,n,note\n" * 1000)
    with pytest.raises(SinkFailed, match="not a database"):
        SqliteSink(tmp_path / "a.db", "orders", shape()).open()
    with pytest.raises(SinkFailed, match="folder"):
        SqliteSink(tmp_path / "none" / "a.db", "orders", shape()).open()


def test_not_open_is_unreachable(tmp_path):
    sink = SqliteSink(tmp_path / "a.db", "orders", shape())
    with pytest.raises(Unreachable, match="not open"):
        sink.write(make_change(shape()), at(1), None)


@pytest.mark.parametrize(
    "url", ["sqlite:", "sqlite://a.db", "sqlite:a.db?tabel=t", "duckdb:a.db?table=t", "sqlite:a.db#t"]
)
def test_urls_that_name_no_table(url):
    with pytest.raises(DefinitionError, match=r"sqlite:PATH\?table=TABLE"):
        SqliteSink.from_url(url, shape())


def test_the_url(tmp_path):
    sink = SqliteSink.from_url(f"sqlite:{tmp_path}/my%20%ED%95%9C.db?table=a%20b", shape())
    sink.open()
    sink.write(make_change(shape(), [{"k": "a"}]), at(1), None)
    assert read(tmp_path / "my 한.db", "a b", shape()).num_rows == 1


def test_a_process_that_is_killed_leaves_rows_and_position_together(tmp_path):
    path = tmp_path / "a.db"
    make = f"SqliteSink(Path({str(path)!r}), 'orders', shape())"
    for acknowledged in killed_writes("from bourne.connect.sqlite_sink import SqliteSink", make):
        sink = SqliteSink(path, "orders", shape())
        check_whole(sink.open(), read(path, "orders", shape()), acknowledged)
        sink.close()
