"""A table of a real PostgreSQL server is followed: the log says what the table says, whatever happens in between."""

from __future__ import annotations

import contextlib
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import duckdb
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from bourne.connect import postgres as postgres_module
from bourne.connect import postgres_snapshot, postgres_stream
from bourne.connect.postgres import PostgresChanges
from bourne.connect.postgres_tables import describe
from bourne.errors import DefinitionError, SourceFailed, Unreachable, ValueMismatch
from connect.following import Followed, log
from waiting import until

LONG = bool(os.environ.get("BOURNE_LONG"))


@pytest.fixture
def sql(database: str) -> Iterator[Any]:
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection
    connection.close()


@pytest.fixture(autouse=True)
def no_slots_left(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "postgres" in request.fixturenames:
        server = request.getfixturevalue("postgres")

        def drop() -> bool:
            with psycopg.connect(server.url(), autocommit=True) as connection:
                slots = connection.execute(
                    "SELECT slot_name, active_pid FROM pg_replication_slots"
                ).fetchall()
                for name, pid in slots:
                    if pid is not None:
                        connection.execute("SELECT pg_terminate_backend(%s)", [pid])
                    else:
                        with contextlib.suppress(psycopg.Error):
                            connection.execute("SELECT pg_drop_replication_slot(%s)", [name])
                return not slots

        until(drop, what="dropped slots")


@pytest.fixture
def follow(database: str) -> Iterator[Callable[..., Followed]]:
    made: list[Followed] = []

    def make(
        info: Any = None, table: str = "t", *, name: str = "s", more: str = "", **keep: bool
    ) -> Followed:
        url = f"{database}?table={table}{more}"
        info = info or describe(url)

        def source(followed: Followed) -> PostgresChanges:
            current = followed.current if keep.get("current", True) else None
            live = followed.live_keys if keep.get("live_keys", True) else None
            return PostgresChanges(url, info, name=name, current=current, live_keys=live)

        made.append(Followed(info, source))
        return made[-1]

    yield make
    for followed in made:
        followed.crash()


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (postgres_module, postgres_snapshot, postgres_stream):
        monkeypatch.setattr(module, "POSTGRES_ROWS_MAX", 3)


def first(source: Any, position: Any = None) -> Any:
    """Return the first part that a source hands over."""
    with contextlib.closing(source.read(position, {})) as reading:
        return until(lambda: next(reading))


def table_rows(sql: Any, columns: str = "*", table: str = "t") -> list[tuple[Any, ...]]:
    return sorted(sql.execute(f"SELECT {columns} FROM {table}").fetchall(), key=repr)


def agree(followed: Followed, sql: Any, columns: str = "*", table: str = "t") -> None:
    """Wait until the log says what the table says."""
    followed.until(lambda: followed.rows() == table_rows(sql, columns, table), what="the same rows")


# --- kinds of changes ---


@pytest.mark.parametrize("changes", ["upsert", "before_after"])
@pytest.mark.parametrize("identity", ["DEFAULT", "FULL"])
def test_a_copy_and_then_each_kind_of_change(sql, follow, changes, identity):
    sql.execute(
        f"CREATE TABLE t (id bigint PRIMARY KEY, name text, n int); ALTER TABLE t REPLICA IDENTITY {identity}"
    )
    sql.execute("INSERT INTO t SELECT g, 'n' || g, g FROM generate_series(1, 10) g")
    followed = follow(log(changes, id="bigint not null", name="varchar", n="int"))
    agree(followed, sql)
    for statement in (
        "INSERT INTO t VALUES (11, '한국 🎉', NULL), (12, '', -1)",
        "UPDATE t SET name = name || '!', n = NULL WHERE id < 4",
        "UPDATE t SET id = id + 100 WHERE id > 8",
        "DELETE FROM t WHERE id IN (1, 110)",
        "INSERT INTO t VALUES (1, E'back\\nagain\\t\"\\\\', 5)",
        "TRUNCATE t",
        "INSERT INTO t VALUES (1, 'after', 1)",
        "BEGIN; INSERT INTO t VALUES (2, 'a', 1); TRUNCATE t; INSERT INTO t VALUES (2, 'b', 2); COMMIT",
        "BEGIN; INSERT INTO t VALUES (3, 'a', 1); SAVEPOINT s; UPDATE t SET n = 9; ROLLBACK TO s; DELETE FROM t WHERE id = 2; COMMIT",
    ):
        sql.execute(statement)
        agree(followed, sql)


def test_rows_without_a_key_are_followed_by_content(sql, follow):
    sql.execute("CREATE TABLE t (a int, b text); ALTER TABLE t REPLICA IDENTITY FULL")
    sql.execute("INSERT INTO t VALUES (1, 'x'), (1, 'x'), (NULL, NULL)")
    followed = follow(log("before_after", None, a="int", b="varchar"))
    agree(followed, sql)
    for statement in (
        "INSERT INTO t VALUES (1, 'x'), (2, '')",
        "UPDATE t SET a = 3 WHERE b = 'x'",
        "DELETE FROM t WHERE a IS NULL",
        "TRUNCATE t",
        "INSERT INTO t VALUES (5, 'y')",
    ):
        sql.execute(statement)
        agree(followed, sql)


@pytest.mark.usefixtures("small_parts")
def test_a_key_of_several_columns_is_copied_in_parts_across_crashes(sql, follow):
    sql.execute(
        'CREATE TABLE t (a text COLLATE "en-x-icu", b numeric, c int, PRIMARY KEY (a, b)); ALTER TABLE t REPLICA IDENTITY FULL'
    )
    sql.execute(
        "INSERT INTO t SELECT (ARRAY['a','B','c%s','Ä','한','\"q''x'])[1 + g % 6], g / 7.0, g FROM generate_series(1, 60) g"
    )
    followed = follow(log("before_after", None, a="varchar", b="varchar", c="int"))
    for number in range(100, 108):
        followed.until(lambda: len(followed.parts) and followed.position["phase"])
        followed.step()
        sql.execute("UPDATE t SET c = c + 1000 WHERE c %% 5 = %s", [number % 5])
        sql.execute("INSERT INTO t VALUES ('b', %s, %s)", [number, number])
        followed.crash()
    agree(followed, sql, "a, b::text, c")


def test_an_appended_log_takes_inserts_and_fails_on_others(sql, follow):
    sql.execute("CREATE TABLE t (id int PRIMARY KEY, name text)")
    sql.execute("INSERT INTO t VALUES (1, 'a')")
    followed = follow(log("append", id="int", name="varchar"))
    agree(followed, sql)
    sql.execute("INSERT INTO t VALUES (2, 'b')")
    agree(followed, sql)
    sql.execute("UPDATE t SET name = 'c' WHERE id = 1")
    with pytest.raises(SourceFailed, match="only appended to"):
        followed.until(lambda: False)


# --- values ---

VALUES = {
    "bool": ("boolean", ["true", "false"]),
    "smallint": ("smallint", ["-32768", "32767"]),
    "bigint": ("bigint", ["-9223372036854775808"]),
    "real": ("float", ["'NaN'", "'-Infinity'", "1.1", "-0.0"]),
    "double precision": ("double", ["0.1", "1e308", "5e-324", "'Infinity'"]),
    "numeric(10,2)": ("decimal(10,2)", ["-0.01", "12345678.90"]),
    "numeric": ("varchar", ["'NaN'", "1.500", "1e100"]),
    "text": ("varchar", ["''", "E'\\t\\n\\\\,\"'''", "'한국 🎉'", "repeat('x', 300000)"]),
    "bytea": ("blob", ["'\\x00ff5c27'", "''"]),
    "date": ("date", ["'2024-02-29'", "'0044-03-15 BC'", "'12024-01-01'", "'infinity'"]),
    "timestamp": ("timestamp", ["'2024-02-29 01:02:03.000004'", "'0044-03-15 01:02:03 BC'", "'-infinity'"]),
    "timestamptz": (
        "timestamptz",
        ["'2024-02-29 01:02:03.5+09:30'", "'infinity'", "'0001-01-01 00:00:00+00'"],
    ),
    "time": ("time", ["'23:59:59.999999'"]),
    "timetz": ("varchar", ["'10:00+09'"]),
    "interval": ("interval", ["'-1 year 2 mons -3 days 04:05:06.789'", "'0'"]),
    "uuid": ("varchar", ["'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'"]),
    "jsonb": ("varchar", ['\'{"a": [1.50, null], "한": "글"}\'']),
    "mood": ("varchar", ["'so so'"]),
    "positive": ("integer", ["7"]),
    "inet": ("varchar", ["'10.0.0.1'"]),
    "money": ("varchar", ["1.5"]),
    "char(5)": ("varchar", ["'ab'"]),
    "int[]": ("integer[]", ["'{1,NULL,3}'", "'{}'"]),
    "text[]": ("varchar[]", ["ARRAY['a,b', '\"', NULL, 'NULL', '', '{', E'\\\\']"]),
    "bytea[]": ("blob[]", ["ARRAY['\\xff'::bytea]"]),
    "timestamptz[]": ("timestamptz[]", ["ARRAY['2024-01-01 00:00+01'::timestamptz]"]),
}


def test_values_of_all_types_come_the_same_way_in_copy_and_stream_as_described(database, sql, follow):
    sql.execute("CREATE TYPE mood AS ENUM ('so so'); CREATE DOMAIN positive AS int CHECK (value > 0)")
    sql.execute("ALTER DATABASE " + database.rsplit("/", 1)[1] + " SET datestyle = 'German'")
    sql.execute("ALTER DATABASE " + database.rsplit("/", 1)[1] + " SET timezone = 'Asia/Seoul'")
    columns = {f"c{number}": (kind, *stored) for number, (kind, stored) in enumerate(VALUES.items())}
    sql.execute(
        f"CREATE TABLE t (id int PRIMARY KEY, {', '.join(f'{n} {k}' for n, (k, _, _) in columns.items())})"
    )

    def insert(first: int) -> None:
        for number in range(5):
            texts = [values[number] if number < len(values) else "NULL" for _, _, values in columns.values()]
            sql.execute(f"INSERT INTO t VALUES ({first + number}, {', '.join(texts)})")

    insert(0)
    info = describe(f"{database}?table=t")
    declared = log("before_after", id="int", **{name: stored for name, (_, stored, _) in columns.items()})
    assert info.schema == declared.schema
    assert (info.key, info.changes, info.name) == ("id", "before_after", "t")
    source = PostgresChanges(f"{database}?table=t", info, name="s")
    reading = source.read(None, {})
    copied = until(lambda: next(reading)).rows
    insert(10)
    parts: list[Any] = []
    until(lambda: (parts.append(next(reading)), sum(p.rows.num_rows for p in parts if p) == 5)[1])
    reading.close()
    streamed = [part.rows for part in parts if part]
    assert copied.num_rows == 5

    def values_of(tables: list[Any], name: str) -> list[Any]:
        after = pa.concat_tables(tables).column("after").combine_chunks()
        return [pc.struct_field(after, name)]

    for name, (kind, _, values) in columns.items():
        first, second = values_of([copied], name)[0], values_of(streamed, name)[0]
        assert str(first) == str(second), kind
        assert first.null_count == 5 - len(values), kind
    got = dict(
        zip(
            columns,
            duckdb.from_arrow(copied).select(", ".join(f"after.{n}::VARCHAR" for n in columns)).fetchall()[0],
            strict=True,
        )
    )
    by_kind = {kind: got[name] for name, (kind, _, _) in columns.items()}
    assert by_kind["timestamptz"] == "2024-02-28 15:32:03.5+00"
    assert by_kind["date"] == "2024-02-29"
    assert by_kind["bytea"] == "\\x00\\xFF\\x5C\\x27"
    assert by_kind["numeric(10,2)"] == "-0.01"
    assert by_kind["int[]"] == "[1, NULL, 3]"
    assert by_kind["char(5)"] == "ab   "
    assert by_kind["uuid"] == "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"


def test_values_of_types_that_only_rows_of_upserts_can_have(sql, follow):
    sql.execute("CREATE TABLE t (id uuid PRIMARY KEY, j jsonb, l jsonb, s json)")
    insert = 'INSERT INTO t VALUES (gen_random_uuid(), \'{"a": "한"}\', \'[1, 2]\', \'{"x": 1, "y": "z"}\')'
    sql.execute(insert)
    followed = follow(log(id="uuid", j="json", l="integer[]", s="struct(x integer, y varchar)"))
    followed.until(lambda: len(followed.state) == 1)
    sql.execute(insert)
    followed.until(lambda: len(followed.state) == 2)
    keys = {str(row[0]) for row in sql.execute("SELECT id FROM t")}
    assert set(followed.state) == keys
    for row in followed.state.values():
        assert (row["j"], row["l"], row["s"]) == ('{"a": "한"}', [1, 2], {"x": 1, "y": "z"})


@pytest.mark.parametrize(
    ("kind", "stored", "value"),
    [
        ("numeric(10,2)", "decimal(10,2)", "'NaN'"),
        ("text", "bigint", "''"),
        ("int[]", "integer[]", "'[0:1]={1,2}'"),
        ("int[]", "integer[]", "'{{1},{2}}'"),
        ("timestamp", "timestamp", "'294276-01-01'"),
        ("time", "time", "'24:00'"),
        ("text", "blob", "'abc'"),
        ("numeric", "double", "0.1234567890123456789012"),
    ],
)
def test_what_cannot_be_said_exactly_is_an_error(sql, follow, kind, stored, value):
    sql.execute(f"CREATE TABLE t (id int PRIMARY KEY, x {kind})")
    sql.execute("INSERT INTO t VALUES (1, NULL)")
    followed = follow(log(id="int", x=stored))
    agree(followed, sql, "id, x::text")
    sql.execute(f"INSERT INTO t VALUES (2, {value})")
    with pytest.raises(ValueMismatch, match="'x'"):
        followed.until(lambda: False)
    again = follow(log(id="int", x=stored), name="again")
    with pytest.raises(ValueMismatch, match="'x'"):
        again.until(lambda: False)


# --- large values that an update leaves alone ---


BIG = "(SELECT string_agg(md5(i::text || clock_timestamp()::text), '') FROM generate_series(1, 400) i)"


@pytest.mark.parametrize("identity", ["DEFAULT", "FULL"])
@pytest.mark.parametrize("changes", ["upsert", "before_after"])
def test_a_large_value_that_was_left_alone_stays(sql, follow, changes, identity):
    sql.execute(
        f"CREATE TABLE t (id int PRIMARY KEY, big text, n int); ALTER TABLE t REPLICA IDENTITY {identity}"
    )
    sql.execute(f"INSERT INTO t SELECT g, {BIG} || g, g FROM generate_series(1, 6) g")
    followed = follow(log(changes, id="int", big="varchar", n="int"))
    agree(followed, sql)
    sql.execute("BEGIN; UPDATE t SET n = n + 1; UPDATE t SET n = n + 1 WHERE id < 3; UPDATE t SET id = 10 WHERE id = 1; "
                "UPDATE t SET n = 5 WHERE id = 10; DELETE FROM t WHERE id = 2; COMMIT")  # fmt: skip
    sql.execute(f"BEGIN; INSERT INTO t VALUES (2, {BIG}, 1); UPDATE t SET n = 2 WHERE id = 2; UPDATE t SET big = NULL WHERE id = 3; "
                "UPDATE t SET n = 7; COMMIT")  # fmt: skip
    agree(followed, sql)


def test_a_large_value_that_is_nowhere_is_an_error(sql, follow):
    sql.execute("CREATE TABLE t (id int PRIMARY KEY, big text, n int)")
    sql.execute(f"INSERT INTO t SELECT 1, {BIG}, 1")
    for name, keep in (("none", {"current": False}), ("empty", {})):
        followed = follow(log(id="int", big="varchar", n="int"), name=name, **keep)
        agree(followed, sql)
        followed.state.clear()
        sql.execute("UPDATE t SET n = n + 1")
        with pytest.raises(SourceFailed, match=r"left alone|leaves alone"):
            followed.until(lambda: False)


# --- definitions that change ---


def test_the_table_changes_while_it_is_followed(sql, follow):
    sql.execute("CREATE TABLE t (id int PRIMARY KEY, a text, b int)")
    sql.execute("INSERT INTO t VALUES (1, 'x', 1)")
    followed = follow(log(id="int", a="varchar", b="bigint"))
    agree(followed, sql)
    sql.execute(
        "BEGIN; INSERT INTO t VALUES (2, 'y', 2); ALTER TABLE t ADD COLUMN c int DEFAULT 7; INSERT INTO t VALUES (3, 'z', 3, 4); COMMIT"
    )
    agree(followed, sql, "id, a, b")
    followed.until(lambda: "column c is not in the log" in (followed.source.lag().note or ""))
    sql.execute("ALTER TABLE t ALTER COLUMN b TYPE text; INSERT INTO t VALUES (4, '', '5')")
    agree(followed, sql, "id, a, b::bigint")
    sql.execute("ALTER TABLE t RENAME TO u; INSERT INTO u VALUES (5, 'renamed', '5')")
    agree(followed, sql, "id, a, b::bigint", "u")
    followed.crash()
    sql.execute("ALTER TABLE u DROP COLUMN a; INSERT INTO u VALUES (6, '5')")
    followed.until(lambda: 6 in followed.state)
    assert followed.state[6] == {"id": 6, "a": None, "b": 5}
    assert "column a is not in the table any more" in followed.source.lag().note
    sql.execute(
        "ALTER TABLE u ADD COLUMN a int; INSERT INTO u VALUES (7, '1', 1, 9); UPDATE u SET b = 'no number' WHERE id = 7"
    )
    with pytest.raises(ValueMismatch, match="'b'"):
        followed.until(lambda: False)


def test_a_dropped_column_that_may_not_be_null_and_a_renamed_key_are_errors(sql, follow):
    sql.execute("CREATE TABLE t (id int PRIMARY KEY, a int); ALTER TABLE t REPLICA IDENTITY FULL")
    followed = follow(log(id="int", a="int not null"))
    sql.execute("INSERT INTO t VALUES (1, 1)")
    agree(followed, sql)
    sql.execute("ALTER TABLE t RENAME COLUMN a TO b; INSERT INTO t VALUES (2, 2)")
    with pytest.raises(SourceFailed, match="no column 'a' any more"):
        followed.until(lambda: False)
    sql.execute("ALTER TABLE t RENAME COLUMN b TO a")
    other = follow(log(id="int", a="int"), name="other")
    agree(other, sql)
    sql.execute("ALTER TABLE t RENAME COLUMN id TO number; INSERT INTO t VALUES (3, 3)")
    with pytest.raises(SourceFailed, match="not told apart by the log's key"):
        other.until(lambda: False)


# --- what is refused, in words ---


@pytest.mark.parametrize(
    ("setup", "info", "words"),
    [
        ("CREATE TABLE u (id int)", log(id="int"), "no table 't'"),
        ("CREATE TABLE t (id int)", log(id="int"), "no primary key and no REPLICA IDENTITY FULL"),
        ("CREATE TABLE t (id int PRIMARY KEY); ALTER TABLE t REPLICA IDENTITY NOTHING", log(id="int"), "no primary key"),
        ("CREATE TABLE t (id int, n int PRIMARY KEY)", log(id="int"), "not the table's key"),
        ("CREATE TABLE t (id int, n int, PRIMARY KEY (id, n))", log(id="int"), "not the table's key"),
        ("CREATE TABLE t (id int PRIMARY KEY)", log("before_after", None, id="int"), "whole old rows"),
        ("CREATE TABLE t (id int PRIMARY KEY)", log(id="int", nn="int"), "no column 'nn'"),
        ("CREATE TABLE t (id int PRIMARY KEY, n int)", log(id="int", n="int not null"), "'n' may not be NULL"),
        ("CREATE TABLE t (id int PRIMARY KEY) PARTITION BY RANGE (id)", log(id="int"), "only plain tables"),
        ("CREATE VIEW t AS SELECT 1 AS id", log(id="int"), "only plain tables"),
    ],
)  # fmt: skip
def test_tables_that_cannot_be_followed(sql, follow, setup, info, words):
    sql.execute(setup)
    with pytest.raises(DefinitionError, match=words):
        follow(info).until(lambda: False)
    assert sql.execute("SELECT count(*) FROM pg_publication").fetchone() == (0,)


def test_logs_and_addresses_that_cannot_be(database):
    with pytest.raises(DefinitionError, match="changes='weights'"):
        PostgresChanges(f"{database}?table=t", log("weights", id="int"), name="s")
    for url in (database, "postgres://secret:hidden@host?table=t", "mysql://secret:hidden@host/db?table=t"):
        with pytest.raises(DefinitionError) as caught:
            PostgresChanges(url, log(id="int"), name="s")
        assert "hidden" not in str(caught.value)
    for url in ("me:hid/den@host/db?table=t", "me:hid?den@host/db?table=t"):
        with pytest.raises(DefinitionError, match="cannot be read") as caught:
            PostgresChanges(f"postgres://{url}", log(id="int"), name="s")
        assert not any(part in str(caught.value) for part in ("hid", "den@"))


def test_rights_that_are_missing_are_named(database, sql, follow):
    sql.execute("CREATE TABLE t (id int PRIMARY KEY); CREATE ROLE reader LOGIN; GRANT SELECT ON t TO reader")
    try:
        url = database.replace("postgres@", "reader:hidden@") + "?table=t"
        for words, grant in (
            ("no right to make one", "CREATE PUBLICATION p FOR TABLE t"),
            ("no right to replicate", "ALTER ROLE reader REPLICATION; REVOKE SELECT ON t FROM reader"),
            ("a right is missing", "GRANT SELECT ON t TO reader"),
        ):
            with pytest.raises(DefinitionError, match=words) as caught:
                first(PostgresChanges(url + "&publication=p", log(id="int"), name="s"))
            assert "hidden" not in str(caught.value)
            sql.execute(grant)
        source = PostgresChanges(url + "&publication=p", log(id="int"), name="s")
        assert first(source).position["phase"] == "stream"
    finally:
        sql.execute("REVOKE ALL ON t FROM reader; DROP ROLE reader")


def test_publications_that_leave_something_out_are_refused(sql, follow):
    sql.execute("CREATE TABLE t (id int PRIMARY KEY, n int); CREATE TABLE u (id int PRIMARY KEY)")
    for number, (made, words) in enumerate(
        [
            ("FOR TABLE u", "not about this table"),
            ("FOR TABLE t WITH (publish = 'insert')", "does not publish everything"),
            ("FOR TABLE t WHERE (id > 3)", "leaves out"),
            ("FOR TABLE t (id)", "leaves out"),
        ]
    ):
        sql.execute(f"CREATE PUBLICATION p{number} {made}")
        with pytest.raises(DefinitionError, match=words):
            follow(log(id="int", n="int"), more=f"&publication=p{number}").until(lambda: False)


def test_a_server_that_does_not_write_what_is_needed_is_refused(postgres, sql, follow):
    sql.execute("CREATE TABLE t (id int PRIMARY KEY)")
    try:
        postgres.restart(wal_level="replica")
        with pytest.raises(DefinitionError, match="wal_level"):
            follow(log(id="int")).until(lambda: False)
    finally:
        postgres.restart()


# --- slots ---


def test_a_slot_that_is_gone_lost_made_anew_or_in_use_is_told(postgres, database, sql, follow):
    sql.execute("CREATE TABLE t (id int PRIMARY KEY)")
    followed = follow(log(id="int"), more="&slot=mine&publication=mine")
    agree(followed, sql)
    followed.until(lambda: followed.position)
    sql.execute("INSERT INTO t VALUES (1)")
    agree(followed, sql)
    source = PostgresChanges(f"{database}?table=t&slot=mine&publication=mine", followed.info, name="s")
    with pytest.raises(Unreachable, match="in use"):
        first(source, followed.position)
    followed.crash()

    def drop() -> bool:
        with contextlib.suppress(psycopg.errors.ObjectInUse):
            sql.execute("SELECT pg_drop_replication_slot('mine')")
            return True
        return False

    until(drop)
    with pytest.raises(SourceFailed, match="slot is gone"):
        followed.until(lambda: False)
    followed.crash()
    sql.execute("INSERT INTO t VALUES (2)")
    sql.execute("SELECT pg_create_logical_replication_slot('mine', 'pgoutput')")
    with pytest.raises(SourceFailed, match="past what was taken"):
        followed.until(lambda: False)


def test_a_publication_that_is_gone_is_told(sql, follow):
    sql.execute("CREATE TABLE t (id int PRIMARY KEY)")
    followed = follow(log(id="int"), more="&publication=mine")
    followed.until(lambda: followed.position)
    sql.execute("DROP PUBLICATION mine; INSERT INTO t VALUES (1)")
    with pytest.raises(SourceFailed, match='"mine" does not exist'):
        followed.until(lambda: False)


def test_a_table_without_a_key_has_to_be_small(sql, follow, monkeypatch):
    monkeypatch.setattr(postgres_snapshot, "POSTGRES_WHOLE_BYTES_MAX", 100)
    sql.execute(
        "CREATE TABLE t (a text); ALTER TABLE t REPLICA IDENTITY FULL; INSERT INTO t VALUES (repeat('x', 90))"
    )
    followed = follow(log("before_after", None, a="varchar"))
    agree(followed, sql)
    sql.execute("INSERT INTO t VALUES ('more than that')")
    with pytest.raises(SourceFailed, match="too large to be copied"):
        follow(log("before_after", None, a="varchar"), name="other").until(lambda: False)


def test_a_slot_that_was_lost_is_told(postgres, sql, follow):
    sql.execute("CREATE TABLE t (id int PRIMARY KEY)")
    followed = follow(log(id="int"))
    sql.execute("INSERT INTO t VALUES (1)")
    agree(followed, sql)
    slot = followed.source.slot
    followed.crash()
    try:
        sql.execute("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'")
        sql.execute("SELECT pg_reload_conf()")

        def lost() -> bool:
            sql.execute(
                "CREATE TABLE IF NOT EXISTS junk (x text); INSERT INTO junk SELECT repeat('x', 1000) FROM generate_series(1, 20000)"
            )
            sql.execute("SELECT pg_switch_wal()")
            sql.execute("CHECKPOINT")
            return sql.execute(
                "SELECT wal_status FROM pg_replication_slots WHERE slot_name = %s", [slot]
            ).fetchone() == ("lost",)

        until(lost, what="a lost slot")
        with pytest.raises(SourceFailed, match=r"is lost[\s\S]*new copy"):
            followed.until(lambda: False)
    finally:
        sql.execute("ALTER SYSTEM RESET max_slot_wal_keep_size")
        sql.execute("SELECT pg_reload_conf()")


def test_the_server_keeps_its_log_until_it_is_confirmed_and_a_quiet_table_does_not_hold_it(
    sql, follow, monkeypatch
):
    monkeypatch.setattr(postgres_module, "POSTGRES_HEARTBEAT_S", 0.05)
    monkeypatch.setattr(postgres_module, "POSTGRES_STATUS_S", 0.02)
    monkeypatch.setattr(postgres_module, "POSTGRES_HEALTH_S", 0.05)
    sql.execute("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE busy (x int)")
    followed = follow(log(id="int"))
    sql.execute("INSERT INTO t VALUES (1)")
    agree(followed, sql)

    def confirmed() -> int:
        query = "SELECT (confirmed_flush_lsn - '0/0')::int8 FROM pg_replication_slots WHERE slot_name = %s"
        return sql.execute(query, [followed.source.slot]).fetchone()[0]

    confirm, followed.source.confirm = followed.source.confirm, lambda position: None
    before = confirmed()
    sql.execute("INSERT INTO t VALUES (2)")
    agree(followed, sql)
    for _ in range(5):
        followed.step()
    assert confirmed() == before
    followed.source.confirm = confirm
    sql.execute("INSERT INTO busy SELECT g FROM generate_series(1, 1000) g")
    end = sql.execute("SELECT (pg_current_wal_lsn() - '0/0')::int8").fetchone()[0]
    followed.until(lambda: confirmed() >= end, what="a heartbeat")
    assert followed.position["lsn"] >= end
    followed.until(lambda: followed.source.lag().bytes == 0, what="no lag")
    assert followed.source.lag().note is None


def test_stop_ends_reading_even_while_the_slot_waits_for_a_transaction(database, sql, follow):
    sql.execute("CREATE TABLE t (id int PRIMARY KEY)")
    with psycopg.connect(database) as other:
        other.execute("INSERT INTO t VALUES (1)")
        source = PostgresChanges(f"{database}?table=t", log(id="int"), name="s")
        reading = source.read(None, {})
        for _ in range(20):
            assert next(reading) is None
        source.stop()
        source.stop()
        assert list(reading) == []


def test_an_empty_table_and_no_server(database, sql, follow):
    sql.execute("CREATE TABLE t (id int PRIMARY KEY)")
    followed = follow(log(id="int"))
    followed.until(lambda: followed.position)
    assert followed.position["phase"] == "stream"
    nowhere = PostgresChanges("postgres://someone:hidden@127.0.0.1:1/db?table=t", log(id="int"), name="s")
    with pytest.raises(Unreachable) as caught:
        first(nowhere)
    assert "hidden" not in str(caught.value)


# --- between two runs of the copy ---


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize(
    ("between", "expected"),
    [
        ("UPDATE t SET id = '85', n = 1 WHERE id = '20'", {"gone": ["20"], "come": []}),
        ("UPDATE t SET id = '15', n = 1 WHERE id = '80'", {"gone": [], "come": ["15"]}),
        ("UPDATE t SET id = '25', n = 1 WHERE id = '20'", {"gone": ["20"], "come": ["25"]}),
        ("UPDATE t SET id = '75', n = 1 WHERE id = '80'", {"gone": [], "come": []}),
        ("UPDATE t SET n = 1", {"gone": [], "come": ["10", "20", "30"]}),
        (
            "TRUNCATE t; INSERT INTO t VALUES ('11', 1), ('81', 1)",
            {"gone": ["10", "20", "30"], "come": ["11"]},
        ),
        ("TRUNCATE t", {"gone": ["10", "20", "30"], "come": []}),
    ],
)
@pytest.mark.parametrize("changes", ["upsert", "before_after"])
def test_what_comes_between_two_runs_is_taken_for_the_keys_that_were_copied_before(
    sql, follow, changes, between, expected
):
    sql.execute("CREATE TABLE t (id text PRIMARY KEY, n int); ALTER TABLE t REPLICA IDENTITY FULL")
    sql.execute("INSERT INTO t SELECT g * 10, 0 FROM generate_series(1, 9) g")
    followed = follow(log(changes, id="varchar", n="int"))
    followed.until(lambda: followed.position)
    followed.crash()
    assert sorted(followed.state) == ["10", "20", "30"]
    sql.execute(between)
    followed.until(lambda: followed.position["phase"] == "stream")
    copied = len(followed.records)
    sql.execute("INSERT INTO t VALUES ('99', 9)")
    agree(followed, sql)
    keys = [(r.get("after") or r.get("before") or r)["id"] for r in followed.records[copied:]]
    assert sorted(keys) == sorted([*expected["gone"], *expected["come"], "99"])


# --- any load, any crash ---


class Load:
    """Random transactions on two connections at once; `marks` are the values that were committed."""

    def __init__(self, url: str, chance: random.Random) -> None:
        self._url, self._chance = url, chance
        self._mark = 0
        self._connections: list[Any] = [None, None]

    def step(self) -> None:
        number = self._chance.randrange(2)
        try:
            if self._connections[number] is None:
                connection = psycopg.connect(self._url)
                connection.execute("SET lock_timeout = '20ms'")
                connection.commit()
                self._connections[number] = connection
            self._act(self._connections[number])
        except psycopg.OperationalError:
            self._drop(number)
        except psycopg.Error:
            self._connections[number].rollback()

    def _drop(self, number: int) -> None:
        if self._connections[number] is not None:
            self._connections[number].close()
        self._connections[number] = None

    def _act(self, connection: Any) -> None:
        chance = self._chance
        self._mark += 1
        key = f"{chance.choice('aBcÄ한')}{chance.randrange(12)}"
        other = f"{chance.choice('aBcÄ한')}{chance.randrange(12)}"
        action = chance.choices(
            ["insert", "update", "delete", "move", "many", "commit", "rollback", "save", "back", "truncate"],
            [6, 6, 3, 2, 2, 8, 2, 1, 1, 0.2],
        )[0]
        if action == "insert":
            connection.execute(
                "INSERT INTO t VALUES (%s, %s, repeat(md5(%s), %s)) ON CONFLICT DO NOTHING",
                [key, self._mark, key + str(self._mark), chance.choice([1, 200])],
            )
        elif action == "update":
            connection.execute("UPDATE t SET mark = %s WHERE id = %s", [self._mark, key])
        elif action == "delete":
            connection.execute("DELETE FROM t WHERE id = %s", [key])
        elif action == "move":
            connection.execute("UPDATE t SET id = %s, mark = %s WHERE id = %s", [other, self._mark, key])
        elif action == "many":
            connection.execute("UPDATE t SET mark = mark + 100000 WHERE id > %s", [key])
        elif action == "truncate":
            connection.execute("TRUNCATE t")
        elif action == "save":
            connection.execute("SAVEPOINT s")
        elif action == "back":
            connection.execute("ROLLBACK TO s")
        else:
            connection.commit() if action == "commit" else connection.rollback()

    def end(self) -> None:
        for connection in self._connections:
            if connection is not None:
                with contextlib.suppress(psycopg.Error):
                    connection.commit()
                connection.close()


CASES = {
    "pairs": (log("before_after", id="varchar", mark="bigint", big="varchar"), "FULL"),
    "content": (log("before_after", None, id="varchar", mark="bigint", big="varchar"), "FULL"),
    "upsert": (log("upsert", id="varchar", mark="bigint", big="varchar"), "DEFAULT"),
}


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("seed", range(40 if LONG else 1))
def test_any_load_with_crashes_of_both_sides(postgres, database, follow, case, seed):
    chance = random.Random(f"{case} {seed}")
    info, identity = CASES[case]
    with psycopg.connect(database, autocommit=True) as sql:
        collation = chance.choice(["C", "en-x-icu"])
        sql.execute(f'CREATE TABLE t (id text COLLATE "{collation}" PRIMARY KEY, mark bigint, big text)')
        sql.execute(
            f"ALTER TABLE t REPLICA IDENTITY {identity}; ALTER TABLE t ALTER COLUMN big SET STORAGE EXTERNAL"
        )
        sql.execute(
            "INSERT INTO t SELECT chr(97 + g % 5) || g, -g, repeat(md5(g::text), 1 + 100 * (g % 2)) FROM generate_series(1, 40) g"
        )
    load, followed = Load(database, chance), follow(info)
    kills = 0
    for _ in range(400 if LONG else 200):
        what = chance.random()
        if what < 0.6:
            load.step()
        elif what < 0.94:
            followed.step()
        elif what < 0.99:
            followed.crash()
        elif kills < 2:
            kills += 1
            postgres.kill()
            followed.step()
            postgres.start()
    load.end()
    with psycopg.connect(database, autocommit=True) as sql:
        agree(followed, sql)
        sql.execute("INSERT INTO t VALUES ('the end', 1, '')")
        agree(followed, sql)
        assert table_rows(sql) == followed.rows()


@pytest.mark.usefixtures("small_parts")
def test_each_change_of_large_and_small_transactions_comes_once_across_crashes(sql, follow):
    sql.execute("CREATE TABLE t (id bigint PRIMARY KEY)")
    followed = follow(log("append", id="bigint"))
    followed.until(lambda: followed.position)
    chance, count = random.Random(5), 0
    for size in (1, 2, 50, 3, 1, 17, 4, 100):
        sql.execute(
            "INSERT INTO t SELECT g FROM generate_series(%s::int, %s::int) g", [count, count + size - 1]
        )
        count += size
    while len(followed.records) < count:
        followed.step()
        if chance.random() < 0.1:
            followed.crash()
    assert Counter(record["id"] for record in followed.records) == Counter(range(count))
    assert [record["id"] for record in followed.records] == list(range(count))
    assert max(part.rows.num_rows for part in followed.parts if part.rows) <= 3
