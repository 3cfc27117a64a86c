"""PostgreSQL: rows and position are one transaction, whatever the table refuses and whoever else is at it."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from bourne.connect.postgres_sink import PostgresSink
from bourne.connect.sink import Change, Shape
from bourne.errors import DefinitionError, Rejected, SinkFailed, Unreachable
from bourne.schema import quote
from bourne.testing import SINK_CHECKS, check_sink
from bourne.testing.sink_conformance import FORBIDDEN
from bourne.testing.sink_model import make_change
from connect.sink_reading import HUGE_ROWS, SEEDS, at, columns_of, shape, table_of_texts
from servers.proxy import Proxy

if TYPE_CHECKING:
    from servers.postgres import PostgresServer

psycopg = pytest.importorskip("psycopg")

# Texts with a NUL, years before 4714 BC, days after 5874897.
NOT_THERE = {
    "VARCHAR": ["chr(0)"],
    "DATE": ["'5877642-06-25 (BC)'", "'5881580-07-10'"],
    "TIMESTAMP": ["'290308-12-22 (BC) 00:00:00'"],
    "TIMESTAMP WITH TIME ZONE": ["'290308-12-22 (BC) 00:00:00+00'"],
}


@pytest.fixture
def connection(database: str) -> Iterator[Any]:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("SET timezone = 'UTC'; SET intervalstyle = 'postgres'")
        yield connection


def read(connection: Any, shape: Shape) -> pa.Table:
    names = [column.name for column in columns_of(shape)]
    texts = ", ".join(f"{quote(name)}::text" for name in names)
    rows = connection.execute(f"SELECT {texts} FROM {quote(shape.name)}").fetchall()
    values = dict(zip(names, zip(*rows, strict=True), strict=True)) if rows else {name: [] for name in names}
    for column in columns_of(shape):
        values[column.name] = [_as_duckdb(value, column.type) for value in values[column.name]]
    return table_of_texts(values, shape)


def _as_duckdb(value: str | None, kind: str) -> Any:
    if value is None:
        return None
    if kind == "BLOB":
        return bytes.fromhex(value.removeprefix("\\x"))
    if kind == "INTERVAL":
        return value.replace("mons", "months").replace("mon ", "month ").replace(" +", " ")
    return value.replace(" BC", " (BC)") if kind.startswith(("DATE", "TIMESTAMP")) else value


@pytest.mark.parametrize("check", SINK_CHECKS)
def test_it_is_a_sink(postgres: PostgresServer, database: str, connection: Any, check: str) -> None:
    def forbid(shape: Shape) -> None:
        key = ", UNIQUE (k, m)" if shape.key else ""
        weight = ", __weight bigint" if shape.has_weights else ""
        connection.execute(
            f"CREATE TABLE {shape.name} (k text, m bigint, n bigint CHECK (n <> {FORBIDDEN}), text text, "
            f"x double precision{weight}{key})"
        )

    @contextmanager
    def outage() -> Iterator[None]:
        postgres.kill()
        yield
        postgres.start()

    with Proxy(postgres.port) as proxy:
        address = (
            database if check != "slow_peer" else database.replace(f":{postgres.port}", f":{proxy.port}")
        )
        check_sink(
            lambda shape: PostgresSink.from_url(f"{address}?table={shape.name}", shape),
            lambda shape: read_anew(database, shape),
            only=[check], huge_rows=HUGE_ROWS, seeds=SEEDS, forbid=forbid, outage=outage, slowness=proxy.slowness,
            refused_types=["TIMESTAMP_NS", "TIME_NS"], refused_values=NOT_THERE,
        )  # fmt: skip
        assert check != "slow_peer" or proxy.bytes_answered > 1000


def read_anew(database: str, shape: Shape) -> pa.Table:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("SET timezone = 'UTC'; SET intervalstyle = 'postgres'")
        return read(connection, shape)


def sink(database: str, **options: Any) -> PostgresSink:
    return PostgresSink.from_url(f"{database}?table=orders", shape(**options))


@pytest.mark.parametrize(
    ("declared", "key", "said"),
    [
        ("k text, n bigint", (), "no column 'note'"),
        ("k char(9), n bigint, note text", (), "'k' is character"),
        ("k text, n real, note text", (), "'n' is real"),
        ("k text, n text, note text", (), "'n' is text"),
        ("k text, n bigint, note text, more text NOT NULL", (), "'more' may not be NULL"),
        ("k text, n bigint GENERATED ALWAYS AS (1) STORED, note text", (), "'n' is generated"),
        ("k text, n bigint, note text", ("k",), "no primary key"),
        ("k text, n bigint, note text, UNIQUE (k, n)", ("k",), "no primary key"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(
    database: str, connection: Any, declared: str, key: tuple[str, ...], said: str
) -> None:
    connection.execute(f"CREATE TABLE orders ({declared})")
    with pytest.raises(SinkFailed, match=said):
        sink(database, key=key).open()


def test_columns_of_others_keep_their_values(database: str, connection: Any) -> None:
    connection.execute(
        'CREATE SCHEMA "가게"; CREATE TABLE "가게".orders (id serial, k varchar PRIMARY KEY, n numeric, note text, '
        "mine text DEFAULT 'new')"
    )
    keyed = shape(key=("k",))
    writing = PostgresSink.from_url(f"{database}?table=가게.orders", keyed)
    writing.open()
    writing.write(make_change(keyed, [{"k": "a", "n": 1}]), at(1), None)
    connection.execute("UPDATE \"가게\".orders SET mine = 'kept'")
    writing.write(make_change(keyed, [{"k": "a", "n": 2}, {"k": "b", "n": 3}]), at(2), at(1))
    writing.close()
    assert connection.execute('SELECT k, n, mine FROM "가게".orders ORDER BY k').fetchall() == [
        ("a", 2, "kept"), ("b", 3, "new"),
    ]  # fmt: skip


LETTERS = "".join(
    map(chr, random.Random(1).choices(range(0x4E00, 0x9FFF), k=9000))
)  # more than an index can hold

REFUSING = {
    "a limit of an index": ("k text PRIMARY KEY, n bigint, note text", LETTERS),
    "an error in a trigger": ("k text PRIMARY KEY, n bigint, note text", "39P01"),
    "an error of its own": ("k text PRIMARY KEY, n bigint, note text", "P0002"),
    "a check at the end": (
        "k text PRIMARY KEY, n bigint UNIQUE DEFERRABLE INITIALLY DEFERRED, note text",
        "twice",
    ),
}


@pytest.mark.parametrize("what", REFUSING)
def test_what_is_about_a_row_is_no_outage(database: str, connection: Any, what: str) -> None:
    declared, bad = REFUSING[what]
    connection.execute(f"""CREATE TABLE orders ({declared});
        CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF NEW.k LIKE '____1' OR NEW.k LIKE 'P0%' THEN RAISE 'no' USING ERRCODE = NEW.k; END IF; RETURN NEW;
        END $$;
        CREATE TRIGGER look BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION look()""")
    with closing(sink(database, key=("k",))) as it:
        assert it.open() is None
        rows = pa.table([["good", bad], pa.array([1, 1]), pa.nulls(2, pa.string())], ["k", "n", "note"])
        both, good = Change(rows), Change(rows.slice(0, 1))
        with pytest.raises(Rejected):
            it.write(both, at(1), None)
        assert not it.accepts(both)
        assert it.accepts(good)
        it.write(good, at(1), None)
    assert connection.execute("SELECT k FROM orders").fetchall() == [("good",)]


def test_a_write_that_is_still_under_way_elsewhere_comes_first(database: str, connection: Any) -> None:
    """A process was killed, but the server still has its transaction: the next one waits for its end, and sees it."""
    first, second = sink(database), sink(database)
    first.open()
    second.open()
    first._connection.execute("BEGIN; SAVEPOINT s")
    change = make_change(shape(), [{"k": "a", "n": 1}])
    with first._connection.cursor() as cursor:
        first._move(cursor, at(1), None)
        first._apply(cursor, change)
    failed: list[BaseException] = []

    def write() -> None:
        try:
            second.write(change, at(1), None)
        except Unreachable as error:
            failed.append(error)

    waiting = threading.Thread(target=write)
    waiting.start()
    first._connection.commit()
    waiting.join()
    assert failed
    assert second.open() == at(1)
    assert connection.execute("SELECT count(*) FROM orders").fetchall() == [(1,)]
    for each in (first, second):
        each.close()


def test_killed_servers_keep_rows_and_position_together(postgres: PostgresServer, database: str) -> None:
    numbers = itertools.count()
    writing = sink(database, key=("k",))
    held = writing.open()
    for _ in range(3):
        killing = threading.Thread(target=postgres.kill)
        with pytest.raises(Unreachable):
            while True:
                number = next(numbers)
                rows = [{"k": f"{each}", "n": number} for each in range(50)]
                if number % 20 == 10 and not killing.ident:
                    killing.start()
                writing.write(make_change(shape(key=("k",)), rows), at(number), held)
                held = at(number)
        killing.join()
        postgres.start()
        held = writing.open()
        with psycopg.connect(database) as connection:
            found = connection.execute("SELECT DISTINCT n FROM orders").fetchall()
        assert held is not None and found == [(held["orders"][0],)]
    writing.close()


def test_nobody_learns_the_password(database: str) -> None:
    address = database.replace("postgres@", "postgres:secret@").replace("shop_", "no_such_shop_")
    with pytest.raises((SinkFailed, Unreachable)) as caught:
        PostgresSink.from_url(address, shape()).open()
    assert "secret" not in str(caught.value) and "secret" not in repr(caught.value.__cause__)
    with pytest.raises(DefinitionError, match="no option"):
        PostgresSink.from_url(f"{database}?tabel=x", shape())
