"""Queries of databases: every row once, in the order of the key, from any row on; what could lose one is refused."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import bourne
from bourne.batch import chunk, query
from bourne.batch.chunk_size import ChunkSize
from bourne.errors import BourneError, DefinitionError, JobFailed, SourceFailed
from bourne.jobs import query_reader
from bourne.jobs.inputs import open_query
from bourne.jobs.query_reader import QueryReader
from bourne.jobs.reader import pieces
from bourne.schema import declare_schema
from jobs.databases import KINDS, made


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_reader, "QUERY_PAGE_ROWS_FIRST", 3)
    monkeypatch.setattr(query_reader, "QUERY_PAGE_ROWS", 5)


def reader(
    url: str, sql: str, key: str | list[str], *, columns: dict[str, str] | None = None, **options: Any
) -> QueryReader:
    declared = None if columns is None else declare_schema(columns, where="test")
    return open_query(
        query(url, sql, key=key), declared, **{"since": None, "overlap": None, "where": "test", **options}
    )


def rows(read: QueryReader, position: Any = None) -> list[dict[str, Any]]:
    with closing(read):
        return [row for part in read.read(position) if part.rows is not None for row in part.rows.to_pylist()]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 4, 100])
def test_every_row_comes_once_from_any_chunk_on(
    kind: str, size: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url, execute = made(kind, tmp_path, request)
    values = ", ".join(f"({n % 7}, 'name {n:02}', {n})" for n in range(23))
    execute("CREATE TABLE t (a INTEGER, b VARCHAR(20), n BIGINT)", f"INSERT INTO t VALUES {values}")
    expected = [(n % 7, f"name {n:02}", n) for n in sorted(range(23), key=lambda n: (n % 7, n))]
    with closing(reader(url, "SELECT * FROM t; ", ["a", "b"])) as read:
        position: Any = None
        found: list[Any] = []
        while True:  # each chunk is read by itself, as after a crash
            piece = next(pieces(read, position, lambda: ChunkSize(size)), None)
            if piece is None:
                break
            position = json.loads(json.dumps(piece.position))
            assert position["skip"] == 0
            found += [tuple(row.values()) for row in piece.rows.to_pylist()]
        assert found == expected
        assert [tuple(row.values()) for part in read.read(None) for row in part.rows.to_pylist()] == expected


@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_come_and_go_move_no_others(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url, execute = made(kind, tmp_path, request)
    execute(
        "CREATE TABLE t (id BIGINT PRIMARY KEY)",
        f"INSERT INTO t VALUES {', '.join(f'({n})' for n in range(0, 40, 2))}",
    )
    with closing(reader(url, "SELECT * FROM t", "id")) as read:
        first = next(pieces(read, None, lambda: ChunkSize(7)))
        execute("DELETE FROM t WHERE id IN (0, 4)", "INSERT INTO t VALUES (1), (3), (13), (41)")
        found = [
            id_
            for piece in pieces(read, first.position, lambda: ChunkSize(7))
            for id_ in piece.rows.column(0).to_pylist()
        ]
        assert first.rows.column(0).to_pylist() == [0, 2, 4, 6, 8, 10, 12]
        assert found == [13, *range(14, 40, 2), 41]


PG_KEYS = {
    "bigint": ["-5", "0", "9007199254740993", "9223372036854775807"],
    "numeric": ["-1.50", "0", "0.1", "1", "123456789012345678901234567890.12345", "NaN"],
    "numeric(10,2)": ["-1.5", "0.1", "10"],
    "double precision": ["-Infinity", "-0.1", "0", "0.1", "0.30000000000000004", "1e300", "NaN"],
    "real": ["0.1", "0.2", "16777216"],
    "text": ["", "a", "A", "ä", "b''\"\\%s{}", "z\n\t", "한글"],
    'text COLLATE "C"': ["A", "a", "ä"],
    "varchar(5)": ["a", "b", "c  "],
    "char(3)": ["a", "b", "bc"],
    "date": ["4713-01-01 BC", "2024-02-29", "10000-01-01", "infinity"],
    "timestamp": ["-infinity", "2024-01-01 00:00:00.000001", "2024-01-01 00:00:00.1"],
    "timestamptz": ["2024-01-01 00:00:00+05", "2024-01-01 00:00:00.000001+05"],
    "time": ["00:00:00", "23:59:59.999999"],
    "uuid": ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "00000000-0000-0000-0000-000000000001"],
    "bytea": ["\\x", "\\x00", "\\xff"],
    "boolean": ["false", "true"],
}


@pytest.mark.parametrize("kind", PG_KEYS)
def test_keys_of_postgres_are_said_exactly(
    kind: str, database: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    _, execute = made("postgres", tmp_path, request)
    values = [value.replace("'", "''") for value in PG_KEYS[kind]]
    execute(
        f"CREATE TABLE t (k {kind}, n serial)", *[f"INSERT INTO t (k) VALUES ('{value}')" for value in values]
    )
    psycopg = pytest.importorskip("psycopg")
    with psycopg.connect(database) as connection:
        expected = [row[0] for row in connection.execute("SELECT n FROM t ORDER BY k")]
    # Some of them are in no log's type; the key goes on from each all the same.
    read = reader(database, "SELECT k, n FROM t", "k", columns=None if kind != "date" else {"k": "date"})
    with closing(read):
        found = [n for part in _each(read) for n in part.column("n").to_pylist()]
    assert found == expected


def _each(read: QueryReader) -> list[pa.Table]:
    found, position = [], None
    while (piece := next(pieces(read, position, lambda: ChunkSize(1)), None)) is not None:
        position = json.loads(json.dumps(piece.position))
        found.append(piece.rows)
    return found


FILE_KEYS = {
    ("sqlite", "INTEGER"): ["-9223372036854775808", "0", "9007199254740993"],
    ("sqlite", "REAL"): ["-1e308", "0.1", "0.30000000000000004"],
    ("sqlite", "TEXT COLLATE NOCASE"): ["'A'", "'a'", "'ab'", "'ä'"],
    ("sqlite", "BLOB"): ["x''", "x'00'", "x'ff'"],
    ("duckdb", "HUGEINT"): ["-170141183460469231731687303715884105727", "0", "9007199254740993"],
    ("duckdb", "DOUBLE"): ["-1e308", "0.1", "0.30000000000000004", "'nan'"],
    ("duckdb", "DECIMAL(38,3)"): ["-0.001", "0", "10000000000000000000.001"],
    ("duckdb", "VARCHAR COLLATE NOCASE"): ["'A'", "'a'", "'ab'", "'ä'", "'ʼ'''"],
    ("duckdb", "TIMESTAMPTZ"): ["'2024-01-01 00:00:00+00'", "'2024-01-01 00:00:00.000001+00'"],
    ("duckdb", "TIMESTAMP"): ["'2024-01-01 00:00:00'", "'2024-01-01 00:00:00.000001'"],
    ("duckdb", "UUID"): ["'00000000-0000-0000-0000-000000000001'", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"],
    ("duckdb", "BLOB"): ["'\\x00'", "'a'", "'\\xFF'"],
}


@pytest.mark.parametrize(("kind", "declared"), FILE_KEYS)
def test_keys_of_files_are_said_exactly(
    kind: str, declared: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url, execute = made(kind, tmp_path, request)
    values = FILE_KEYS[kind, declared]
    execute(f"CREATE TABLE t (k {declared}, n INTEGER)",
            *[f"INSERT INTO t VALUES ({value}, {n})" for n, value in reversed(list(enumerate(values)))])  # fmt: skip
    with closing(reader(url, "SELECT k, n FROM t", "k")) as read:
        assert [n for part in _each(read) for n in part.column("n").to_pylist()] == list(range(len(values)))


@pytest.mark.parametrize("kind", KINDS)
def test_what_could_lose_a_row_is_refused(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url, execute = made(kind, tmp_path, request)
    execute(
        "CREATE TABLE t (a INTEGER, b DOUBLE PRECISION)",
        "INSERT INTO t VALUES (1, 1), (2, 2), (3, 3), (4, 3), (5, NULL)",
    )
    with pytest.raises(SourceFailed, match="'b' is NULL in some row"):
        rows(reader(url, "SELECT * FROM t", ["b", "a"]))
    with pytest.raises(SourceFailed, match="'b' is NULL in some row"):
        rows(reader(url, "SELECT * FROM t", ["a", "b"]))
    for ordered in ("b", ["b"]):
        with pytest.raises(SourceFailed, match="two rows have the same"):
            rows(reader(url, "SELECT * FROM t WHERE b IS NOT NULL", ordered))
    with pytest.raises(DefinitionError, match="no column 'c'"):
        reader(url, "SELECT * FROM t", "c")
    with pytest.raises(DefinitionError, match=r"called|cannot be a column"):
        reader(url, "SELECT a, b AS A FROM t", "b")
    with pytest.raises(DefinitionError, match="does not take the query"):
        reader(url, "SELECT * FROM nothing", "b")
    with pytest.raises(DefinitionError, match="no column 'x'"):
        reader(url, "SELECT * FROM t", "a", columns={"x": "bigint"})
    with pytest.raises(SourceFailed, match="in another order"):
        rows(reader(url, "SELECT * FROM t", "a"), {"by": ["b"], "key": ["1"]})


def test_numbers_that_are_written_differently_are_the_same_key(
    database: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    _, execute = made("postgres", tmp_path, request)
    execute("CREATE TABLE t (k numeric)", "INSERT INTO t VALUES (1.50), (1.5)")
    with pytest.raises(SourceFailed, match="two rows have the same"):
        rows(reader(database, "SELECT * FROM t", "k"))
    execute("TRUNCATE t", "INSERT INTO t VALUES (10), (1)")
    assert len(rows(reader(database, "SELECT * FROM t", "k"))) == 2
    for kind in ("interval", "jsonb", "int[]"):
        with pytest.raises(DefinitionError, match="order of 'k'"):
            reader(database, f"SELECT NULL::{kind} AS k", "k")


def test_texts_that_a_collation_takes_for_the_same_are_no_key(
    database: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    psycopg = pytest.importorskip("psycopg")
    _, execute = made("postgres", tmp_path, request)
    try:
        execute("CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false)")
    except psycopg.errors.FeatureNotSupported as error:  # a server without ICU
        pytest.skip(str(error))
    execute("CREATE TABLE t (k text COLLATE loose)")
    with pytest.raises(DefinitionError, match="loose"):
        reader(database, "SELECT * FROM t", "k")
    assert rows(reader(database, 'SELECT k COLLATE "C" AS k FROM t', "k")) == []


@pytest.mark.parametrize("kind", KINDS)
def test_columns_have_the_types_that_are_declared(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url, execute = made(kind, tmp_path, request)
    execute(
        "CREATE TABLE t (id INTEGER, price TEXT, n BIGINT)",
        "INSERT INTO t VALUES (1, '1.50', 7), (2, NULL, NULL)",
    )
    read = reader(url, "SELECT * FROM t", "id", columns={"price": "decimal(10,2)"})
    assert [column.type for column in read.schema.columns][1] == "DECIMAL(10,2)"
    assert [str(row["price"]) for row in rows(read)] == ["1.50", "None"]
    execute("INSERT INTO t VALUES (3, 'dear', 0)")
    with pytest.raises(SourceFailed, match="does not fit DECIMAL"):
        rows(reader(url, "SELECT * FROM t", "id", columns={"price": "decimal(10,2)"}))


def test_sqlite_values_of_several_kinds(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url, execute = made("sqlite", tmp_path, request)
    execute(
        "CREATE TABLE t (id INTEGER, x NUMERIC, y INTEGER)", "INSERT INTO t VALUES (1, 1, 1), (2, 2.5, 2)"
    )
    read = reader(url, "SELECT *, id > 1 AS big FROM t", "id", columns={"big": "boolean"})
    assert [column.type for column in read.schema.columns] == ["BIGINT", "DOUBLE", "BIGINT", "BOOLEAN"]
    assert rows(read) == [{"id": 1, "x": 1.0, "y": 1, "big": False}, {"id": 2, "x": 2.5, "y": 2, "big": True}]
    execute("INSERT INTO t VALUES (3, 3, 'three')")
    with pytest.raises(SourceFailed, match="'y' does not fit BIGINT"):
        rows(reader(url, "SELECT * FROM t", "id"))
    with pytest.raises(DefinitionError, match="several kinds"):
        reader(url, "SELECT id, iif(id = 1, 'a', 2) AS z FROM t", "id")


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_written(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url, execute = made(kind, tmp_path, request)
    execute("CREATE TABLE t (id INTEGER)")
    for attack in ("DELETE FROM t RETURNING id", "SELECT 1) AS q; DROP TABLE t; --"):
        with pytest.raises(BourneError):
            rows(reader(url, attack, "id"))
    assert rows(reader(url, "SELECT id FROM t -- all of it", "id")) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_job_loads_a_query(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url, execute = made(kind, tmp_path, request)
    execute(
        "CREATE TABLE t (id INTEGER, name TEXT)",
        f"INSERT INTO t VALUES {', '.join(f'({n}, {n})' for n in range(50))}",
    )
    app = bourne.App("shop")

    @app.job
    def load() -> Any:
        return chunk(
            "copy",
            read=query(url, "SELECT * FROM t", key="id"),
            write=f"sqlite:{tmp_path}/out.db?table=t",
            size=7,
        )

    with bourne.open(app, data=tmp_path / "data") as shop:
        run = shop.jobs.start("load")
        step = shop.jobs.steps(run.id)[0]
        assert (run.status, step.written, step.share) == ("COMPLETED", 50, 1.0)
    with closing(sqlite3.connect(tmp_path / "out.db")) as database:
        assert database.execute("SELECT count(*), min(id), max(id) FROM t").fetchone() == (50, 0, 49)


def test_texts_of_postgres_come_as_they_are(
    database: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    psycopg = pytest.importorskip("psycopg")
    texts = [
        "",
        " ",
        "(",
        ")",
        "(0,",
        ",0)",
        "\\",
        "\\\\",
        '\\"',
        '"',
        '""',
        "a\nb",
        "\r\n",
        "\t",
        ",",
        "NULL",
        "%s",
        "{}",
        "한글",
        None,
    ]
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE t (id int PRIMARY KEY, a text, b text[], c bytea)")
        for number, text in enumerate(texts):
            data = None if text is None else text.encode()
            connection.execute("INSERT INTO t VALUES (%s, %s, %s, %s)", [number, text, [text, text], data])
    found = rows(reader(database, "SELECT a, b, c, id FROM t", "id"))
    assert [row["a"] for row in found] == texts
    assert [row["b"] for row in found] == [[text, text] for text in texts]
    assert [row["c"] for row in found] == [None if text is None else text.encode() for text in texts]


def test_a_server_that_dies_is_read_from_again(
    postgres: Any, database: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    _, execute = made("postgres", tmp_path, request)
    execute("CREATE TABLE t (id INTEGER)", f"INSERT INTO t VALUES {', '.join(f'({n})' for n in range(40))}")
    killed: list[int] = []
    app = bourne.App("shop")

    def kill(rows: pa.Table) -> pa.Table:
        if not killed and 9 in rows.column("id").to_pylist():
            killed.append(9)
            postgres.kill()
            postgres.start()
        return rows

    @app.job
    def load() -> Any:
        write = f"sqlite:{tmp_path}/out.db?table=t"
        return chunk(
            "copy", read=query(database, "SELECT * FROM t", key="id"), process=kill, write=write, size=4
        )

    with bourne.open(app, data=tmp_path / "data") as shop:
        assert shop.jobs.start("load").status == "COMPLETED"
    assert killed
    with closing(sqlite3.connect(tmp_path / "out.db")) as out:
        assert out.execute("SELECT id FROM t").fetchall() == [(n,) for n in range(40)]


def test_a_duckdb_file_is_not_read_and_written_at_once(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url, execute = made("duckdb", tmp_path, request)
    execute("CREATE TABLE t (id INTEGER)")
    app = bourne.App("shop")

    @app.job
    def load() -> Any:
        return chunk(
            "copy",
            read=query(url, "SELECT * FROM t", key="id"),
            write=f"{tmp_path}/../{tmp_path.name}/shop.duckdb?table=o",
        )

    with (
        bourne.open(app, data=tmp_path / "data") as shop,
        pytest.raises(JobFailed, match="read and written by the same step"),
    ):
        shop.jobs.start("load")
