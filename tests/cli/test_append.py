"""`bourne append`: all of a file or a named error, and always an account of what is stored."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys

import pyarrow as pa
import pytest
from pyarrow import parquet

import bourne
from bourne.connect import blocks
from waiting import until


@pytest.fixture(autouse=True)
def opened(shop, bourne_here):
    assert bourne_here("run", shop, "--until-caught-up").returncode == 0


def rows(tmp_path) -> list[tuple]:
    with bourne.open(data=tmp_path / "data") as data:
        return data.query("SELECT id, user, amount FROM orders").fetchall()


def test_files_of_every_format_are_appended_in_order(bourne_here, tmp_path):
    (tmp_path / "a.csv").write_text('id,user\n1,한\n2,"a,b"\n', encoding="utf-8")
    (tmp_path / "b.jsonl").write_text('{"id": 3, "user": null}\n')
    parquet.write_table(pa.table({"id": [4], "user": ["d"]}), tmp_path / "c.parquet")
    done = bourne_here("append", "ORDERS", "a.csv", "b.jsonl", "c.parquet")
    assert (done.returncode, done.stderr) == (0, "")
    said = done.stdout.splitlines()
    assert [line.rsplit(", ", 1)[0] for line in said] == [
        "a.csv: 2 records, offsets 0 to 1",
        "b.jsonl: 1 records, offsets 2 to 2",
        "c.parquet: 1 records, offsets 3 to 3",
    ]
    assert said[0].endswith(" rows/s")
    assert [row[:2] for row in rows(tmp_path)] == [(1, "한"), (2, "a,b"), (3, None), (4, "d")]


@pytest.mark.parametrize("content", ["", "id,user\n", "\ufeff"])
def test_an_empty_file_is_no_records_and_no_error(bourne_here, tmp_path, content):
    (tmp_path / "a.csv").write_text(content, encoding="utf-8")
    done = bourne_here("append", "orders", "a.csv")
    assert (done.returncode, done.stdout, done.stderr) == (0, "a.csv: no records\n", "")
    assert rows(tmp_path) == []


@pytest.mark.parametrize(
    ("file", "content", "code", "words"),
    [
        ("a.csv", "id,user\n1,a\n2\n", 4, "a.csv, line 3"),
        ("a.csv", "id,user\n1,a\nx,b\n", 4, "a.csv, line 3"),
        ("a.csv", "id,usr\n1,a\n", 4, "no column 'usr'"),
        ("a.csv", "id,amount\n1,0.005\n", 4, "'0.005'"),
        ("a.jsonl", '{"id": 1}\n{"id": }\n', 4, "a.jsonl, line 2, column 8"),
        ("a.parquet", "id", 4, "not a Parquet file"),
        ("a.txt", "id\n1\n", 4, "cannot tell the format"),
        (".", None, 4, "cannot tell the format"),
        ("none.csv", None, 10, "none.csv"),
    ],
)
def test_a_bad_file_is_named_and_nothing_of_it_is_stored(bourne_here, tmp_path, file, content, code, words):
    if content is not None:
        (tmp_path / file).write_text(content)
    done = bourne_here("append", "orders", file)
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr and "Traceback" not in done.stderr
    assert f"stored:   nothing from {file}" in done.stderr
    assert rows(tmp_path) == []


def test_what_was_stored_before_an_error_is_said(bourne_here, tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "FILE_BATCH_BYTES", 100)
    lines = [f"{number},x" for number in range(100)]
    (tmp_path / "good.csv").write_text("id,user\n0,first\n")
    (tmp_path / "a.csv").write_text("\n".join(["id,user", *lines, "x,x", *lines]))
    done = bourne_here("append", "orders", "good.csv", "a.csv")
    stored = len(rows(tmp_path))
    assert done.returncode == 4 and "a.csv, line 102" in done.stderr
    assert 50 < stored <= 101
    assert (
        f"stored:   {stored - 1:,} records, offsets 1 to {stored - 1}, from a.csv before line {stored + 1}"
        in done.stderr
    )
    assert done.stdout.startswith("good.csv: 1 records")


def test_standard_input_needs_a_format(bourne_here):
    assert bourne_here("append", "orders", "-").returncode == 2
    assert bourne_here("append", "orders", "-", "--format", "parquet").returncode == 4


def test_standard_input_may_end_early(run_bourne, bourne_here, tmp_path):
    assert run_bourne("append", "orders", "-", "--format", "csv", stdin="").returncode == 0
    assert bourne_here("append", "orders", "-", "--format", "csv", stdin="id,user\n1,a").returncode == 0
    assert run_bourne("append", "orders", "-", "--format", "csv", stdin='id\n"3').returncode == 4
    assert [row[0] for row in rows(tmp_path)] == [1]


def test_what_comes_over_a_pipe_is_stored_when_it_pauses_and_ctrl_c_says_what_is_stored(
    start_bourne, tmp_path
):
    process = start_bourne("append", "orders", "-", "--format", "csv")
    process.stdin.write("id,user\n1,a\n")
    process.stdin.flush()
    until(lambda: len(rows(tmp_path)) == 1)
    process.stdin.write("2,b\n3,")
    process.stdin.flush()
    until(lambda: len(rows(tmp_path)) == 2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in err, err
    assert "2 records, offsets 0 to 1, from standard input before line 4" in err


def test_two_appenders_take_turns(start_bourne, bourne_here, tmp_path):
    process = start_bourne("append", "orders", "-", "--format", "csv")
    process.stdin.write("id,user\n1,a\n")
    process.stdin.flush()
    until(lambda: len(rows(tmp_path)) == 1)
    (tmp_path / "b.csv").write_text("id\n2\n")
    done = bourne_here("append", "orders", "b.csv")
    assert done.returncode == 0 and "offsets 1 to 1" in done.stdout
    process.stdin.write("3,c\n")
    process.communicate("", timeout=60)
    assert process.returncode == 0
    assert len(rows(tmp_path)) == 3


def test_an_unknown_log_or_folder_is_named(bourne_here, tmp_path):
    (tmp_path / "a.csv").write_text("id\n2\n")
    done = bourne_here("append", "order", "a.csv")
    assert done.returncode == 4 and "orders" in done.stderr
    done = bourne_here("append", "orders", "a.csv", "--data", "elsewhere")
    assert done.returncode == 7 and "no data folder" in done.stderr


def test_a_disk_that_is_full_is_named(environment, tmp_path):
    (tmp_path / "a.csv").write_text("id,user\n" + "".join(f"{n},{'x' * 100}\n" for n in range(20_000)))
    done = subprocess.run(
        [sys.executable, "-c", "from bourne.cli import main; main()", "append", "orders", "a.csv"],
        env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20)),
    )  # fmt: skip
    assert done.returncode == 7, done.stderr
    assert "stored:   nothing" in done.stderr
    assert rows(tmp_path) == []
