"""Files as what a chunk step reads: cut anywhere and gone on with, the rows are the same; a file that has changed is refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bourne.batch.chunk_size import ChunkSize
from bourne.connect.stores import LocalFiles
from bourne.errors import DefinitionError, JobFailed, SourceFailed
from bourne.jobs.file_reader import FileReader
from bourne.jobs.inputs import open_reader
from bourne.jobs.reader import pieces
from bourne.schema import Column, Schema
from jobs.running import app_of, breaking, counts, csv_rows, letters, run_once

SCHEMA = Schema((Column("id", "BIGINT"), Column("name", "VARCHAR")))
NAMES = ["김철수", "José", "🦆🚀", 'a "b", c', "", None, "줄\n바꿈"]


def table(first: int, count: int) -> pa.Table:
    ids = list(range(first, first + count))
    return pa.table({"id": ids, "name": [NAMES[n % 7] for n in ids]}, schema=SCHEMA.to_arrow())


def write(path: Path, rows: pa.Table) -> None:
    if path.suffix == ".parquet":
        pq.write_table(rows, path, row_group_size=5)
    elif path.suffix == ".arrow":
        with pa.ipc.new_file(str(path), rows.schema) as file:
            file.write_table(rows, max_chunksize=5)
    elif path.suffix == ".jsonl":
        import json  # noqa: PLC0415

        path.write_text(
            "".join(json.dumps(row, ensure_ascii=False) + "\r\n" for row in rows.to_pylist()),
            encoding="utf-8",
            newline="",
        )
    else:
        quoted = [
            '"' + name.replace('"', '""') + '"' if name is not None else ""
            for name in rows["name"].to_pylist()
        ]
        lines = [f"{n},{name}" for n, name in zip(rows["id"].to_pylist(), quoted, strict=True)]
        path.write_text("\r\n".join(["id,name", *lines]), encoding="utf-8", newline="")


def reader(folder: Path, pattern: str) -> FileReader:
    store = LocalFiles(str(folder / pattern))
    return FileReader(store, store.entries(), SCHEMA, kind=None, where="step 'load'")


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "arrow"])
@pytest.mark.parametrize("size", [1, 4, 100])
def test_gone_on_with_after_every_piece_the_rows_are_the_same(kind, size, tmp_path):
    for number in range(3):
        write(tmp_path / f"입력 {number}.{kind}", table(number * 9, 9))
    whole = [
        row
        for piece in pieces(reader(tmp_path, f"*.{kind}"), None, ChunkSize)
        for row in piece.rows.to_pylist()
    ]
    assert whole == table(0, 27).to_pylist()
    found: list[Any] = []
    position = None
    while (piece := next(pieces(reader(tmp_path, f"*.{kind}"), position, lambda: ChunkSize(size)), None)) is not None:  # fmt: skip
        found += piece.rows.to_pylist()
        position = piece.position
    assert found == whole


def test_the_share_grows_from_nothing_to_all(tmp_path):
    write(tmp_path / "a.csv", table(0, 20))
    write(tmp_path / "b.csv", table(20, 20))
    found = reader(tmp_path, "*.csv")
    shares = [found.share(None)] + [found.share(taken.position) for taken in found.read(None)]
    assert shares == sorted(shares) and (shares[0], shares[-1]) == (0.0, 1.0)


def broken_in_the_middle(tmp_path: Path) -> Any:
    """Break a step after its first chunk of five; return its app."""
    write(tmp_path / "in.csv", table(0, 20))
    app = app_of(
        read=str(tmp_path / "in.csv"),
        columns={"id": "bigint", "name": "varchar"},
        size=5,
        write=f"sqlite:{tmp_path / 't.db'}?table=t",
    )
    with breaking(lambda number, _: number == 2), pytest.raises(JobFailed):
        run_once(app, tmp_path / "data")
    return app


@pytest.mark.parametrize("change", ["another content", "longer", "shorter", "gone"])
def test_a_file_that_has_changed_since_a_part_of_it_was_read_is_refused(change, tmp_path):
    app, path = broken_in_the_middle(tmp_path), tmp_path / "in.csv"
    text = path.read_bytes()
    if change == "gone":
        path.rename(tmp_path / "kept")
    else:
        path.write_bytes(
            {
                "another content": text.replace(b"\r\n7,", b"\r\n8,"),
                "longer": text + b"\r\n99,x",
                "shorter": text[:-9],
            }[change]
        )
    with pytest.raises(
        JobFailed,
        match="there is no file" if change == "gone" else "has changed, since a part of it was read",
    ):
        run_once(app, tmp_path / "data")
    path.write_bytes(text)
    _, (step,) = run_once(app, tmp_path / "data")
    assert counts(step) == (20, 0, 20, 0)


def test_a_file_that_was_only_touched_is_the_same(tmp_path):
    app = broken_in_the_middle(tmp_path)
    os.utime(tmp_path / "in.csv", (0, 0))
    _, (step,) = run_once(app, tmp_path / "data")
    assert counts(step) == (20, 0, 20, 0)


def test_a_file_in_the_middle_that_is_gone_is_refused(tmp_path):
    for name in "abc":
        write(tmp_path / f"{name}.csv", table(0, 9))
    position = next(pieces(reader(tmp_path, "b.csv"), None, lambda: ChunkSize(4))).position
    again = list(
        reader(tmp_path, "?.csv").read({**next(iter(reader(tmp_path, "b.csv").read(None))).position})
    )
    assert again  # it goes on within b
    (tmp_path / "b.csv").unlink()
    inner = next(iter(reader(tmp_path, "a.csv").read(None))).position
    inner = {**inner, "path": inner["path"].replace("a.csv", "b.csv")}
    with pytest.raises(SourceFailed, match="gone"):
        list(reader(tmp_path, "?.csv").read(inner))
    assert position is not None


@pytest.mark.parametrize("size", [2, 100])
def test_rows_that_do_not_fit_are_dead_letters_with_their_lines(size, tmp_path):
    from bourne.batch import skip  # noqa: PLC0415

    (tmp_path / "in.csv").write_text("id,name\n1,a\nx,b\n3,c\n4\n5,e\n")
    app = app_of(
        read=str(tmp_path / "in.csv"), columns={"id": "bigint", "name": "varchar"}, size=size, skip=skip(2), write=str(tmp_path / "out.csv")
    )  # fmt: skip
    _, (step,) = run_once(app, tmp_path / "data")
    assert counts(step) == (5, 0, 3, 2)
    assert sorted(place.rsplit(", ")[-1] for place, _ in letters(tmp_path / "data")) == ["line 3", "line 5"]
    assert [row[0] for row in csv_rows(tmp_path / "out.csv")] == ["id", "1", "3", "5"]


@pytest.mark.parametrize("url", ["http://x/y.csv", "postgres://x/y", "", "in.csv?format=xml"])
def test_what_names_no_files_is_refused(url):
    with pytest.raises((DefinitionError, SourceFailed)):
        open_reader(url, None, host=None, where="step 'load'")  # type: ignore[arg-type]
