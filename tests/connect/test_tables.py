"""Static tables: the relation is the file, version after version; nothing is lost when the file is not what it should be."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

import bourne
from bourne import rounds
from bourne.connect import tables
from bourne.engine import runner
from bourne.log.reader import LogReader
from bourne.ports import OsFiles, SystemClock
from bourne.testing import FaultyFiles
from bourne.views.catalog import Catalog

CSV = "code,이름,people\nKR,한국,51\nDE,독일,83\nDE,독일,83\n"
VIEW = "SELECT c.이름 AS name, count(*) AS n FROM sales s JOIN countries c ON s.code = c.code GROUP BY ALL"


def app_of(path: Any = "countries.csv", schema: dict[str, str] | None = None) -> bourne.App:
    app = bourne.App("a")
    app.table("countries", path, schema=schema)
    app.log("sales", schema={"id": "bigint", "code": "varchar"})
    app.view("sold", VIEW)
    return app


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write(CSV)
    return tmp_path


def write(text: str, name: str = "countries.csv") -> None:
    """Put a new version in place of the old one."""
    Path("new").write_text(text, encoding="utf-8")
    Path("new").replace(name)


def rows(instance: Any, sql: str = "SELECT * FROM countries ORDER BY ALL") -> list[tuple[Any, ...]]:
    return instance.query(sql).fetchall()


def end(instance: Any) -> int:
    return instance.log("countries").end_offsets()[0]


def test_a_view_over_a_table_follows_its_file() -> None:
    with bourne.open(app_of()) as it:
        assert rows(it) == [("DE", "독일", 83), ("DE", "독일", 83), ("KR", "한국", 51)]
        it.append("sales", [{"id": 1, "code": "KR"}, {"id": 2, "code": "DE"}])
        it.catch_up()
        assert rows(it, "SELECT * FROM sold ORDER BY ALL") == [("독일", 2), ("한국", 1)]
        write("code,이름,people\nDE,Deutschland,84\nKR,한국,51\n")
        it.catch_up()
        assert rows(it, "SELECT * FROM sold ORDER BY ALL") == [("Deutschland", 1), ("한국", 1)]
        assert it.tail("countries").to_pydict() == {
            "__weight": [1, 2, -2, 1], "code": ["KR", "DE", "DE", "DE"],
            "이름": ["한국", "독일", "독일", "Deutschland"], "people": [51, 83, 83, 84],
        }  # fmt: skip
        it.run(until_caught_up=True)
        assert end(it) == 4  # nothing has changed
        assert [log.name for log in it.status().logs] == ["countries", "sales"]
    write(CSV)
    with bourne.open(app_of()) as it:  # back to what it was
        it.catch_up()
        assert rows(it, "SELECT * FROM sold ORDER BY ALL") == [("독일", 2), ("한국", 1)]
        assert rows(it) == [("DE", "독일", 83), ("DE", "독일", 83), ("KR", "한국", 51)]
        assert end(it) == 6
    with bourne.open(data="data") as it:  # without the app, and without the file
        Path("countries.csv").unlink()
        assert len(rows(it)) == 3


@pytest.mark.parametrize("is_read_by_a_view", [False, True])
def test_a_version_is_in_one_commit(monkeypatch: pytest.MonkeyPatch, is_read_by_a_view: bool) -> None:
    monkeypatch.setattr(rounds, "EPOCH_ROWS_MIN", 3)
    monkeypatch.setattr(runner, "EPOCH_ROWS_MIN", 3)
    app = app_of()
    app.view("counted", "SELECT count(*) AS n FROM countries")
    if is_read_by_a_view:
        app.view("over", "SELECT max(n) AS n FROM counted")
    write("code,이름,people\n" + "KR,한국,51\n" * 50)
    with bourne.open(app, data="data") as it:
        it.catch_up()
        write("code,이름,people\n" + "".join(f"C{i},독일,{i}\n" for i in range(40)))
        it.catch_up()
        counts = said(it, "counted")
    assert [n for n in counts if n] == [50, 40]


def said(it: Any, view: str) -> list[Any]:
    """Return the last value of each of a view's commits."""
    info = it.reading.views()[view]
    reader = LogReader(info.folder, info.output)
    try:
        frames = [frame for found in iter(lambda: reader.read(rows_max=1), []) for frame in found]
        return [frame.batch.column(frame.batch.num_columns - 1)[-1].as_py() for frame in frames]
    finally:
        reader.close()


def test_a_file_that_is_the_same_is_not_appended(monkeypatch: pytest.MonkeyPatch) -> None:
    bourne.open(app_of()).close()
    os.utime("countries.csv", ns=(1, 1))  # the same bytes at another time
    with bourne.open(app_of()) as it:
        assert end(it) == 2
    os.utime("countries.csv", ns=(Path("countries.csv").stat().st_atime_ns, 5))
    bourne.open(app_of()).close()
    write(CSV + "\n\n")  # other bytes, the same rows
    with bourne.open(app_of()) as it:
        it.catch_up()
        assert end(it) == 2 and len(rows(it)) == 3
    monkeypatch.setattr(tables, "read_file", None)  # and then it is not even read
    bourne.open(app_of()).close()


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_any_history_of_a_file_is_the_file(kind: str) -> None:
    chance = random.Random(kind)
    path = f"t.{kind}"

    def change() -> Counter[tuple[Any, ...]]:
        found = [
            (
                chance.choice([None, "", "가"]) if kind != "csv" else chance.choice([None, "가"]),
                chance.randrange(3),
            )
            for _ in range(chance.choice([0, 1, 5, 30]))
        ]
        columns = {"a": [a for a, _ in found], "b": [b for _, b in found]}
        table = pa.table(columns, schema=pa.schema({"a": pa.string(), "b": pa.int64()}))
        if kind == "parquet":
            parquet.write_table(table, path)
        elif kind == "csv":
            write("a,b\n" + "".join(f"{a or ''},{b}\n" for a, b in found), path)
        else:
            write(
                "".join(
                    f'{{"a": {"null" if a is None else f"{chr(34)}{a}{chr(34)}"}, "b": {b}}}\n'
                    for a, b in found
                ),
                path,
            )
        return Counter(found)

    app = bourne.App("a")
    app.table("t", path, schema={"a": "varchar", "b": "bigint not null"})
    app.view("v", "SELECT b, count(*) AS n FROM t GROUP BY b")
    for _ in range(4):
        change()
        with bourne.open(app) as it:
            for _ in range(3):
                expected = change()
                it.catch_up()
                assert Counter(rows(it, "SELECT * FROM t")) == expected
                assert rows(it, "SELECT * FROM v ORDER BY b") == rows(
                    it, "SELECT b, count(*) FROM t GROUP BY b ORDER BY b"
                )


def test_columns_come_and_widen_when_the_app_is_opened() -> None:
    parquet.write_table(
        pa.table({"code": ["KR"], "이름": ["한국"], "people": pa.array([51], pa.int8())}), "t.parquet"
    )
    with bourne.open(app_of("t.parquet")) as it:
        assert rows(it) == [("KR", "한국", 51)]
    parquet.write_table(
        pa.table({"CODE": ["KR"], "area": [1.5], "이름": ["한국"], "people": pa.array([51_000], pa.int32())}),
        "t.parquet",
    )
    with bourne.open(app_of("t.parquet")) as it:
        assert rows(it) == [("KR", "한국", 51_000, 1.5)]
        assert it.query("SELECT * FROM countries").columns == ["code", "이름", "people", "area"]
        parquet.write_table(
            pa.table({"code": ["KR"], "이름": ["한국"], "people": [1], "area": [1.0], "new": [1]}),
            "t.parquet",
        )
        with pytest.raises(bourne.InputError, match="its file has new, too"):
            it.catch_up()
        assert rows(it) == [("KR", "한국", 51_000, 1.5)]
    with bourne.open(app_of("t.parquet")) as it:  # people still fits what it was
        assert rows(it) == [("KR", "한국", 1, 1.0, 1)]
        assert it.query("SELECT typeof(people), typeof(new) FROM countries").fetchall() == [
            ("INTEGER", "BIGINT")
        ]


def test_types_stay_where_the_values_fit() -> None:
    write("code,이름,people\nKR,한국,0.5\n")
    bourne.open(app_of()).close()
    write("code,이름,people\n7,한국,1\n")
    with bourne.open(app_of()) as it:
        assert rows(it) == [("7", "한국", 1.0)]
    write("code,이름,people\n")
    with bourne.open(app_of()) as it:
        assert rows(it) == []


def test_a_declared_schema() -> None:
    declared = {"people": "decimal(9,1)", "code": "varchar not null", "이름": "varchar"}
    with bourne.open(app_of(schema=declared)) as it:
        assert it.query("SELECT * FROM countries").columns == ["people", "code", "이름"]
    with bourne.open(app_of(schema={**declared, "people": "decimal(12,2)"})) as it:
        assert {str(row[0]) for row in rows(it)} == {"51.00", "83.00"}
        assert end(it) == 2
    with pytest.raises(bourne.DefinitionError, match="another schema"):
        bourne.open(app_of(schema={**declared, "people": "smallint"}))
    write("code,이름,people\n,x,1\n")
    with pytest.raises(bourne.InputError, match="NULL in column 'code'"):
        bourne.open(app_of(schema=declared))


BAD: list[tuple[str | None, str]] = [
    (None, "its file cannot be read"),
    ("", "the file is empty"),
    ("code,이름\nKR,한국\n", "its file lacks people"),
    ("code,이름,PEOPLE,Code\nKR,한국,1,2\n", "column 'Code' is there twice"),
    ("code,이름,people\nKR,한국\n", "a record has 2 fields"),
    ("code,이름,people\nKR,한국,many\n", "column 'people': a value does not fit BIGINT"),
    ("code,이름,people\nKR,한국,1.5\n", "column 'people': a value does not fit BIGINT"),
]


@pytest.mark.parametrize(("text", "message"), BAD, ids=[message for _, message in BAD])
def test_a_broken_file_is_named_and_nothing_is_lost(text: str | None, message: str) -> None:
    with bourne.open(app_of()) as it:
        it.append("sales", [{"id": 1, "code": "KR"}])
        it.catch_up()
        if text is None:
            Path("countries.csv").unlink()
        else:
            write(text)
        for attempt in (it.catch_up, lambda: it.run(until_caught_up=True), lambda: bourne.open(app_of())):
            with pytest.raises(bourne.BourneError, match=message) as raised:
                attempt()
            assert "countries.csv" in str(raised.value)
        assert len(rows(it)) == 3 and end(it) == 2
        it.append("sales", [{"id": 2, "code": "KR"}])
        with pytest.raises(bourne.BourneError, match=message):
            it.catch_up()
        assert rows(it, "SELECT n FROM sold") == [(2,)]  # nor does the table's file hold back the rest
        write("code,이름,people\nKR,Korea,51\n")
        it.catch_up()
        assert rows(it, "SELECT * FROM sold") == [("Korea", 2)]


def test_no_error_hides_another() -> None:
    app = app_of()
    app.table("others", "others.csv")
    app.view("halves", "SELECT 1 // (id - 7) AS half FROM sales")
    write("a\n1\n", "others.csv")
    with bourne.open(app) as it:
        Path("countries.csv").unlink()
        Path("others.csv").unlink()
        with pytest.raises(bourne.BourneError, match=r"countries\.csv") as raised:
            it.catch_up()
        assert "others.csv" in raised.value.__notes__[0]
        it.append("sales", [{"id": 7, "code": "KR"}])
        with pytest.raises(bourne.ViewFailed, match="halves") as failed:
            it.catch_up()
        for name, note in zip(("countries.csv", "others.csv"), failed.value.__notes__, strict=True):
            assert name in note


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        ("countries.txt", CSV, "cannot tell the format"),
        ("countries.csv", "code,이름,people\n", "no column types can be inferred from no rows"),
        ("countries.jsonl", "", "no column types can be inferred from no rows"),
        ("nowhere/countries.csv", None, "its file cannot be read"),
        (".", None, "its file cannot be read"),
    ],
)
def test_a_file_that_cannot_be_a_table_makes_nothing(path: str, text: str | None, message: str) -> None:
    if text is not None:
        write(text, path)
    with pytest.raises(bourne.BourneError, match=message):
        bourne.open(app_of(path))
    assert not Path("data").exists()


def test_a_table_that_is_declared_but_empty() -> None:
    write("code,이름,people\n")
    with bourne.open(app_of(schema={"code": "varchar", "이름": "varchar", "people": "bigint"})) as it:
        it.append("sales", [{"id": 1, "code": "KR"}])
        it.catch_up()
        assert rows(it) == [] and rows(it, "SELECT * FROM sold") == []
        write(CSV)
        it.catch_up()
        assert rows(it, "SELECT * FROM sold") == [("한국", 1)]


def test_too_large_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "TABLE_BYTES_MAX", 10)
    with pytest.raises(bourne.InputError, match="its file is too large"):
        bourne.open(app_of())


def test_a_file_that_changes_while_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    read, reads = tables.read_file, 0

    def read_and_change(*arguments: Any, **options: Any) -> Any:
        nonlocal reads
        reads += 1
        found = list(read(*arguments, **options))
        if reads <= limit:
            write(CSV + f"FR,France,{reads}\n")
        return found

    monkeypatch.setattr(tables, "read_file", read_and_change)
    limit = 2
    with bourne.open(app_of()) as it:
        assert reads == 3 and ("FR", "France", 2) in rows(it)
        reads, limit = 0, 9
        write(CSV)
        with pytest.raises(bourne.SourceFailed, match="changes while it is read"):
            it.catch_up()
        assert len(rows(it)) == 4


def test_what_users_cannot_do() -> None:
    app = app_of()
    for declare in (
        lambda: app.log("Countries", schema={"x": "bigint"}),
        lambda: app.view("COUNTRIES", "SELECT 1"),
    ):
        with pytest.raises(bourne.DefinitionError, match="is taken"):
            declare()
    with pytest.raises(bourne.DefinitionError, match="is taken"):
        app.source("stdin:", into="countries")
    with pytest.raises(bourne.DefinitionError, match="is not a type"):
        app.table("t", "t.csv", schema={"x": "strange"})
    with bourne.open(app) as it:
        for append in (it.append, lambda name, found: it.log(name).append(found)):
            with pytest.raises(bourne.InputError, match="'countries' is a table") as raised:
                append("countries", [{"code": "x"}])
            assert "countries.csv" in str(raised.value)
        with pytest.raises(bourne.QueryError, match="__weight"):
            it.query("SELECT __weight FROM countries")


def test_a_log_does_not_become_a_table_nor_a_table_a_log() -> None:
    log = bourne.App("a")
    log.log("countries", schema={"code": "varchar", "이름": "varchar", "people": "bigint"})
    log.log("sales", schema={"id": "bigint", "code": "varchar"})
    for number, (first, second) in enumerate([(log, app_of()), (app_of(), log)]):
        bourne.open(first, data=str(number)).close()
        with pytest.raises(bourne.DefinitionError, match="declared differently"):
            bourne.open(second, data=str(number))


@pytest.mark.parametrize("number", range(1, 12))
def test_a_crash_leaves_the_old_version_or_the_new_one(number: int) -> None:
    files = FaultyFiles()
    bourne.open(app_of(), files=files).close()
    write("code,이름,people\nKR,Korea,51\n")
    files.die_at(number)
    try:
        bourne.open(app_of(), files=files).close()
    except bourne.BourneError:
        pass
    files.crash(seed=number)
    with bourne.open(data="data", files=files) as it:
        assert {row[1] for row in rows(it)} in ({"한국", "독일"}, {"Korea"})
    with bourne.open(app_of(), files=files) as it:
        assert rows(it) == [("KR", "Korea", 51)]


def test_a_version_that_somebody_else_has_stored_meanwhile(here: Path) -> None:
    bourne.open(app_of()).close()
    write("code,이름,people\nKR,Korea,51\n")
    log = Catalog(here / "data").log("countries")
    folder = here / "data" / "logs" / "countries"
    assert log is not None
    read = [tables.read_table(app_of().tables["countries"], here, log, folder) for _ in range(2)]
    assert [tables.store_table(content, folder, OsFiles(), SystemClock()) for content in read] == [3, 0]
    with bourne.open(app_of()) as it:
        cursor = it.log("countries").cursor()
        assert len(cursor.read()) == 2  # frames: the two versions
        cursor.close()
        assert rows(it) == [("KR", "Korea", 51)]


def test_processes_that_store_the_same_version_at_once() -> None:
    """The difference is stored once, whoever comes first."""
    program = (
        "import bourne, sys\napp = bourne.App('a')\napp.table('t', 't.csv')\n"
        "with bourne.open(app) as it:\n"
        "    for _ in sys.stdin:\n        it.catch_up()\n        print(it.query('SELECT sum(x) FROM t').fetchall()[0][0], flush=True)\n"
    )
    write("x\n1\n", "t.csv")
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    try:
        for number in range(6):
            write("x\n" + "".join(f"{i}\n" for i in range(number, 5000)), "t.csv")
            for process in processes:
                assert process.stdin is not None
                process.stdin.write("\n")
                process.stdin.flush()
            for process in processes:
                assert process.stdout is not None
                assert process.stdout.readline() == f"{sum(range(number, 5000))}\n"
    finally:
        for process in processes:
            process.communicate()
    assert [process.returncode for process in processes] == [0, 0]
    with bourne.open(data="data") as it:
        assert rows(it, "SELECT count(*), sum(x) FROM t") == [(4995, sum(range(5, 5000)))]
