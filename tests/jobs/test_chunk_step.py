"""A chunk step: whatever the size of its chunks, wherever it breaks and goes on, each row is written once, and counted once."""

from __future__ import annotations

import csv
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import bourne
from bourne.batch import chunk, retry, skip
from bourne.errors import DefinitionError, JobFailed, Unreachable
from jobs.running import Broken, app_of, breaking, counts, csv_rows, letters, run_once, run_until_done

ROWS = 60
SQL = "SELECT id, amount FROM input WHERE id % 3 > 0"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Sixty rows, a third of which the query filters out."""
    path = tmp_path / "주문.csv"
    path.write_text("id,amount\n" + "".join(f"{n},{n}.25\n" for n in range(ROWS)), encoding="utf-8")
    return path


KEPT = [(str(n), f"{n}.25") for n in range(ROWS) if n % 3]


def target_of(kind: str, folder: Path) -> str:
    return {
        "csv": str(folder / "out.csv"), "appended": f"csv:{folder / 'out.csv'}", "jsonl": str(folder / "out.jsonl"),
        "sqlite": f"sqlite:{folder / 'out.db'}?table=sold", "log": "log:sold",
    }[kind]  # fmt: skip


def rows_in(kind: str, folder: Path, data: Path) -> list[tuple[str, ...]]:
    """Return what came of a target, in order, as text."""
    if kind in ("csv", "appended"):
        return csv_rows(folder / "out.csv")[1:]
    if kind == "jsonl":
        table = json_rows(folder / "out.jsonl")
        return [(str(row["id"]), str(row["amount"])) for row in table]
    if kind == "sqlite":
        with closing(sqlite3.connect(folder / "out.db")) as database:
            return [
                (str(a), str(b))
                for a, b in database.execute("SELECT id, CAST(amount AS TEXT) FROM sold ORDER BY rowid")
            ]
    with bourne.open(data=data) as shop:
        return [(str(a), str(b)) for a, b in shop.query("SELECT id, amount FROM sold").fetchall()]


def json_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


KINDS = ["csv", "appended", "jsonl", "sqlite", "log"]
COLUMNS = {"id": "bigint", "amount": "decimal(10,2)"}


@pytest.mark.parametrize("size", [5, 7, ROWS, "100 bytes", "1 second", None])
def test_the_size_of_the_chunks_does_not_show(size, source, tmp_path):
    app = app_of(read=str(source), columns=COLUMNS, process=SQL, write=str(tmp_path / "out.csv"), size=size)
    run, (step,) = run_once(app, tmp_path / "data")
    assert (run.status, counts(step)) == ("COMPLETED", (ROWS, 20, 40, 0))
    assert csv_rows(tmp_path / "out.csv") == [("id", "amount"), *KEPT]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_broken_at_every_write_each_row_is_written_once(kind, when, source, tmp_path):
    mode = "append" if kind == "appended" else None
    step = {"read": str(source), "columns": COLUMNS, "process": SQL, "size": 17, "mode": mode}
    app = app_of(**step, write=target_of(kind, tmp_path))
    broken: set[int] = set()

    def break_at(number: int, moment: str) -> bool:
        """Break each write once, the first time it comes: every second one, so that runs make headway."""
        is_hit = moment == when and number % 2 == 1 and number not in broken
        broken.add(number) if is_hit else None
        return is_hit

    with breaking(break_at):
        done, failures = run_until_done(app, tmp_path / "data")
    assert failures >= (3 if when == "after" else 5)
    assert counts(done) == (ROWS, 20, 40, 0)
    assert rows_in(kind, tmp_path, tmp_path / "data") == KEPT


@pytest.mark.parametrize("nth", range(1, 7))
@pytest.mark.parametrize("when", ["before", "after"])
def test_broken_once_anywhere_a_replaced_file_is_there_in_the_end(nth, when, source, tmp_path):
    """Also between its last write and its renaming, where all is written and nothing is seen."""
    app = app_of(read=str(source), columns=COLUMNS, process=SQL, size=17, write=str(tmp_path / "out.csv"))
    with breaking(lambda number, moment: (number, moment) == (nth, when)):
        done, failures = run_until_done(app, tmp_path / "data")
    assert failures == 1 and counts(done) == (ROWS, 20, 40, 0)
    assert csv_rows(tmp_path / "out.csv") == [("id", "amount"), *KEPT]
    assert {path.name for path in tmp_path.iterdir()} == {"data", "out.csv", source.name}


def test_a_replaced_file_is_seen_only_when_it_is_complete(source, tmp_path):
    target = tmp_path / "out.csv"
    target.write_text("old\n")
    app = app_of(read=str(source), columns=COLUMNS, size=17, write=str(target))
    with breaking(lambda number, moment: number == 3), pytest.raises(JobFailed):
        run_once(app, tmp_path / "data")
    assert target.read_text() == "old\n"
    run_once(app, tmp_path / "data")
    assert len(csv_rows(target)) == ROWS + 1


# --- tried again ---------------------------------------------------------------------------------------------


def test_a_target_that_is_away_for_a_while_is_tried_again(source, tmp_path):
    app = app_of(
        read=str(source), columns=COLUMNS, size=17, write=str(tmp_path / "out.csv"), retry=retry(2, on=Broken, delay="0 seconds")
    )  # fmt: skip
    with (
        breaking(lambda number, moment: moment == "before" and number in (2, 3, 5)),
        bourne.open(app, data=tmp_path / "data") as shop,
    ):
        run = shop.jobs.start("load")
        chunks = sorted(shop.jobs.chunks(run.id), key=lambda each: (each.number, each.attempt))
    assert [(each.number, each.attempt, each.error is None) for each in chunks] == [
        (1, 1, True), (2, 1, False), (2, 2, False), (2, 3, True), (3, 1, False), (3, 2, True), (4, 1, True),
    ]  # fmt: skip
    assert len(csv_rows(tmp_path / "out.csv")) == ROWS + 1


def test_who_gives_up_has_told_what_was_committed(source, tmp_path):
    app = app_of(
        read=str(source), columns=COLUMNS, size=17, write=str(tmp_path / "out.csv"), retry=retry(1, on=Broken, delay="0 seconds")
    )  # fmt: skip
    with (
        breaking(lambda number, moment: moment == "before" and number >= 3),
        bourne.open(app, data=tmp_path / "data") as shop,
    ):
        with pytest.raises(JobFailed):
            shop.jobs.start("load")
        (step,) = shop.jobs.steps(1)
    assert (step.status, counts(step)) == ("FAILED", (34, 0, 34, 0))


def test_a_function_that_reads_may_be_away(tmp_path):
    calls = []

    def read(position: int | None) -> Any:
        calls.append(position)
        for start in range(position or 0, 40, 10):
            if start == 20 and len(calls) < 4:
                raise Unreachable("away")
            yield pa.table({"id": list(range(start, start + 10))}), start + 10

    app = app_of(
        read=read, columns={"id": "bigint"}, size=7, write=str(tmp_path / "out.jsonl"), retry=retry(9, delay="0 seconds")
    )  # fmt: skip
    _, (step,) = run_once(app, tmp_path / "data")
    assert counts(step) == (40, 0, 40, 0)
    assert [row["id"] for row in json_rows(tmp_path / "out.jsonl")] == list(range(40))


# --- rows left out -------------------------------------------------------------------------------------------


def wrong_at(*numbers: int) -> str:
    """Return sixty rows, of which some have no number as amount."""
    return "id,amount\n" + "".join(f"{n},{'?' if n in numbers else n}\n" for n in range(ROWS))


def check_bad(rows: pa.Table) -> pa.Table:
    if any(number % 20 == 7 for number in rows["id"].to_pylist()):
        raise ValueError("seven")
    return rows


PROCESSES = {
    "sql": "SELECT id, CAST(amount AS INTEGER) AS amount FROM input",
    "python": [check_bad, "SELECT id, CAST(amount AS INTEGER) AS amount FROM input"],
}


@pytest.mark.parametrize("size", [9, 1000])
def test_rows_that_cannot_be_read_processed_or_written_are_left_out_once(size, tmp_path):
    (tmp_path / "in.csv").write_text(wrong_at(11, 12, 50))
    (tmp_path / "in.csv").write_text((tmp_path / "in.csv").read_text().replace("\n30,30\n", "\nx,30\n"))
    with closing(sqlite3.connect(tmp_path / "out.db")) as database:
        database.execute("CREATE TABLE sold (id INTEGER NOT NULL CHECK (id <> 40), amount INTEGER)")
        database.commit()
    app = app_of(
        read=str(tmp_path / "in.csv"), columns={"id": "bigint", "amount": "varchar"}, process=PROCESSES["sql"], size=size,
        write=f"sqlite:{tmp_path / 'out.db'}?table=sold", skip=skip(5),
    )  # fmt: skip
    _, (step,) = run_once(app, tmp_path / "data")
    assert counts(step) == (ROWS, 0, ROWS - 5, 5)
    with closing(sqlite3.connect(tmp_path / "out.db")) as database:
        assert [n for (n,) in database.execute("SELECT id FROM sold ORDER BY id")] == [
            n for n in range(ROWS) if n not in (11, 12, 50, 30, 40)
        ]
    found = letters(tmp_path / "data")
    assert set(found.values()) == {1} and len(found) == 5
    assert any(place.endswith("in.csv, line 32") for place, _ in found)


@pytest.mark.parametrize("process", ["sql", "python"])
def test_a_chunk_that_comes_again_with_another_size_has_the_same_dead_letters(process, tmp_path):
    (tmp_path / "in.csv").write_text(
        wrong_at(27, 47, 59).replace("\n5,5\n", "\nx,5\n").replace("\n33,33\n", "\nx,33\n").replace(
            "?", "?" if process == "sql" else "1"
        )
    )  # fmt: skip
    with closing(sqlite3.connect(tmp_path / "out.db")) as database:
        database.execute("CREATE TABLE sold (id INTEGER NOT NULL CHECK (id % 10 <> 6), amount INTEGER)")
        database.commit()
    # Each run writes one chunk less of a kind before it breaks, with the letters of that chunk kept already.
    for size, break_at in ((10, 1), (25, 1), (60, 1), (4, 3), (9, 2), (1, 7), (60, 99)):
        app = app_of(
            read=str(tmp_path / "in.csv"), columns={"id": "bigint", "amount": "varchar"}, process=PROCESSES[process], size=size,
            write=f"sqlite:{tmp_path / 'out.db'}?table=sold", skip=skip(20),
        )  # fmt: skip
        tried = []
        with breaking(lambda number, _, at=break_at: number >= at):
            try:
                step = run_once(app, tmp_path / "data")[1][0]
            except JobFailed as error:
                tried.append(error)
    assert not tried
    found = letters(tmp_path / "data")
    wrong = 3 + 2 + 6  # processed, read, and written: no row is two of them
    assert sum(found.values()) == len({text for _, text in found}) == len(found) == wrong
    assert counts(step) == (ROWS, 0, ROWS - wrong, wrong)


def test_letters_of_rows_that_are_the_same_are_all_kept(tmp_path):
    (tmp_path / "in.csv").write_text("id\n" + "1\n7\n7\n" * 5)
    with closing(sqlite3.connect(tmp_path / "out.db")) as database:
        database.execute("CREATE TABLE sold (id INTEGER NOT NULL CHECK (id <> 7))")
        database.commit()
    app = app_of(
        read=str(tmp_path / "in.csv"), columns={"id": "bigint"}, size=1, write=f"sqlite:{tmp_path / 'out.db'}?table=sold", skip=skip(10)
    )  # fmt: skip
    _, (step,) = run_once(app, tmp_path / "data")
    assert counts(step) == (15, 0, 5, 10)
    assert sum(letters(tmp_path / "data").values()) == 10


@pytest.mark.parametrize("size", [9, 1000])
def test_one_more_than_may_be_left_out_fails_whatever_the_kinds_are(size, tmp_path):
    """Two are refused by the target, which is known only after the next chunk was processed."""
    (tmp_path / "in.csv").write_text(wrong_at(20, 40))
    with closing(sqlite3.connect(tmp_path / "out.db")) as database:
        database.execute("CREATE TABLE sold (id INTEGER NOT NULL CHECK (id NOT IN (3, 4)), amount INTEGER)")
        database.commit()
    app = app_of(
        read=str(tmp_path / "in.csv"), columns={"id": "bigint", "amount": "varchar"}, process=PROCESSES["sql"], size=size,
        write=f"sqlite:{tmp_path / 'out.db'}?table=sold", skip=skip(3),
    )  # fmt: skip
    with pytest.raises(JobFailed, match="too many rows cannot be processed"):
        run_once(app, tmp_path / "data")


@pytest.mark.parametrize("size", [9, 1000])
@pytest.mark.parametrize(
    ("bound", "is_enough"), [("5%", True), ("4.9%", False), ("100%", True), (3, True), (2, False)]
)
def test_a_bound_is_of_the_whole_input_whatever_the_size_of_chunks(size, bound, is_enough, tmp_path):
    (tmp_path / "in.csv").write_text(wrong_at(0, 1, 2))
    app = app_of(
        read=str(tmp_path / "in.csv"),
        columns=COLUMNS,
        write=str(tmp_path / "out.csv"),
        size=size,
        skip=skip(bound),
    )
    if is_enough:
        _, (step,) = run_once(app, tmp_path / "data")
        assert counts(step) == (ROWS, 0, ROWS - 3, 3)
    else:
        with pytest.raises(JobFailed, match="too many rows cannot be processed"):
            run_once(app, tmp_path / "data")
        assert not (tmp_path / "out.csv").exists()


def test_without_skip_the_first_wrong_row_says_where_it_is(tmp_path):
    (tmp_path / "in.csv").write_text(wrong_at(11))
    app = app_of(read=str(tmp_path / "in.csv"), columns=COLUMNS, write=str(tmp_path / "out.csv"))
    with pytest.raises(JobFailed, match=r"in\.csv, line 13"):
        run_once(app, tmp_path / "data")
    assert letters(tmp_path / "data") == {}


# --- time ----------------------------------------------------------------------------------------------------


def test_a_step_that_takes_too_long_ends_after_a_chunk_and_goes_on(source, tmp_path):
    step = {"read": str(source), "columns": COLUMNS, "size": 17, "write": str(tmp_path / "out.csv")}
    for done in (17, 34):
        with pytest.raises(JobFailed, match="takes longer than it may"):
            run_once(app_of(**step, timeout="1 microsecond"), tmp_path / "data")
        with bourne.open(data=tmp_path / "data") as shop:
            assert shop.jobs.steps(shop.jobs.runs()[0].id)[0].read == done
    _, (found,) = run_once(app_of(**step), tmp_path / "data")
    assert counts(found) == (ROWS, 0, ROWS, 0)


def test_a_stop_ends_it_at_a_chunk(source, tmp_path):
    def process(rows: pa.Table) -> pa.Table:
        if rows.num_rows and rows["id"][0].as_py() == 20:
            running[0].stop()
        return rows

    running: list[Any] = []
    app = app_of(read=str(source), columns=COLUMNS, process=process, size=10, write=str(tmp_path / "out.csv"))
    with bourne.open(app, data=tmp_path / "data") as shop:
        run = shop.jobs.start("load", on_begin=running.append)
        (step,) = shop.jobs.steps(run.id)
        assert (run.status, step.status) == ("STOPPED", "STOPPED")
        assert step.read % 10 == 0 and step.read <= 20
        assert shop.jobs.start("load").status == "COMPLETED"
    assert csv_rows(tmp_path / "out.csv")[1:] == [(str(n), f"{n}.25") for n in range(ROWS)]


def test_a_throttled_step_waits_after_each_chunk(source, tmp_path):
    app = app_of(
        read=str(source), columns=COLUMNS, size=20, throttle="1000 rows", write=str(tmp_path / "out.csv")
    )
    run, _ = run_once(app, tmp_path / "data")
    assert run.ended_us is not None and run.ended_us - run.started_us >= 59_000  # 60 rows


@pytest.mark.parametrize("throttle", ["8 MiB", "1 second", "0 rows", "fast", "-5 rows"])
def test_a_throttle_is_a_number_of_rows(throttle):
    with pytest.raises(DefinitionError, match="no number of rows a second"):
        chunk("load", read="a.csv", write="b.csv", throttle=throttle)


# --- inputs of all kinds -------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_a_header_alone_is_empty_and_leaves_a_header(ending, tmp_path):
    (tmp_path / "in.csv").write_bytes(f"id,amount{ending}".encode())
    app = app_of(read=str(tmp_path / "in.csv"), columns=COLUMNS, write=str(tmp_path / "out.csv"))
    run, (step,) = run_once(app, tmp_path / "data")
    assert (run.status, step.status, counts(step)) == ("COMPLETED", "EMPTY", (0, 0, 0, 0))
    assert csv_rows(tmp_path / "out.csv") in ([], [("id", "amount")])


def test_a_file_of_nothing_needs_columns(tmp_path):
    (tmp_path / "in.csv").write_bytes(b"")
    with pytest.raises(JobFailed, match="columns"):
        run_once(app_of(read=str(tmp_path / "in.csv"), write=str(tmp_path / "out.csv")), tmp_path / "data")


def test_no_file_is_an_error(tmp_path):
    with pytest.raises(JobFailed, match="there are no files"):
        run_once(app_of(read=str(tmp_path / "no-*.csv"), write=str(tmp_path / "out.csv")), tmp_path / "data")


def test_all_of_unicode_goes_through(tmp_path):
    names = ["김철수", "José", "🦆🚀", 'a "quoted", name', "줄\n바꿈"]
    with (tmp_path / "입력 🦆.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\r\n").writerows([["이름", "n"], *[[n, 1] for n in names]])
    app = app_of(
        read=str(tmp_path / "입력 🦆.csv"), process='SELECT "이름", n + 1 AS "더하기" FROM input', size=2,
        write=str(tmp_path / "결과 🦆.csv"),
    )  # fmt: skip
    run_once(app, tmp_path / "data")
    assert csv_rows(tmp_path / "결과 🦆.csv") == [("이름", "더하기"), *[(name, "2") for name in names]]


def test_one_column_and_one_row(tmp_path):
    (tmp_path / "in.jsonl").write_text('{"id": 1}')
    app = app_of(read=str(tmp_path / "in.jsonl"), write=str(tmp_path / "out.jsonl"))
    assert counts(run_once(app, tmp_path / "data")[1][0]) == (1, 0, 1, 0)
    assert (tmp_path / "out.jsonl").read_text() == '{"id": 1}\n'


def test_a_folder_that_is_not_there_is_made(source, tmp_path):
    app = app_of(
        read=str(source), columns=COLUMNS, write=str(tmp_path / "2026" / "01" / "out.csv"), retry=retry(0)
    )
    run_once(app, tmp_path / "data")
    assert len(csv_rows(tmp_path / "2026" / "01" / "out.csv")) > 1


def test_a_key_that_is_no_column_is_refused(source, tmp_path):
    app = app_of(
        read=str(source), columns=COLUMNS, key="nr", write=f"sqlite:{tmp_path / 'out.db'}?table=sold"
    )
    with pytest.raises(JobFailed, match="the key 'nr' is no column"):
        run_once(app, tmp_path / "data")
