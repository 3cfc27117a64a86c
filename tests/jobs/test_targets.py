"""Where a chunk step writes to: a full disk, a folder that is read-only, another run at the same file, what a log refuses."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import bourne
from bourne.batch import retry, skip
from bourne.connect.sink import Change, Shape
from bourne.errors import BourneError, DefinitionError, JobFailed, Unreachable
from bourne.jobs.history import History
from bourne.jobs.progress import Progress, read_progress
from bourne.jobs.targets import FileReplaced, open_target
from bourne.schema import Column, Schema
from bourne.testing import FaultyFiles
from jobs.running import app_of, counts, csv_rows, letters, run_once

SCHEMA = Schema((Column("id", "BIGINT"), Column("b", "VARCHAR")))


class Host:
    """No more of an app than a file needs."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.files = folder, FaultyFiles()


def rows(*ids: int) -> Change:
    return Change(pa.table({"id": ids, "b": ["x"] * len(ids)}, schema=SCHEMA.to_arrow()))


def replaced(host: Host, name: str) -> FileReplaced:
    found = open_target(
        str(host.folder / "out.csv"), Shape(name, SCHEMA), mode=None, host=host, history=lambda: History(host.folder)
    )  # type: ignore[arg-type]  # fmt: skip
    assert isinstance(found, FileReplaced)
    return found


def write_all(target: FileReplaced, before: Any, *ids: int) -> dict[str, Any]:
    """Write rows and that they are all; return the position."""
    position = {"done": True, "ids": list(ids)}
    target.sink.write(rows(*ids), position, before)
    return position


def test_two_runs_at_one_file_never_put_half_of_one_into_its_place(tmp_path):
    """The second one begins between the first one's last write and its renaming."""
    host = Host(tmp_path)
    first, second = replaced(host, "load[1] load"), replaced(host, "load[2] load")
    write_all(first, first.open(), 1, 2, 3)
    assert second.open() is None
    with pytest.raises(Unreachable, match="another run writes to the same file"):
        first.finish()
    assert not (tmp_path / "out.csv").exists()
    write_all(second, None, 4)
    second.finish()
    second.forget()
    assert csv_rows(tmp_path / "out.csv")[1:] == [("4", "x")]
    assert first.open() is None  # and the first one begins anew
    first.close()
    second.close()


@pytest.mark.parametrize("end", ["kill", "crash"])
def test_whenever_it_dies_the_old_file_is_there_or_the_new_one(end, tmp_path):
    """Killed, when all that it wrote is there; or without power, when nothing is that was not synced."""
    host = Host(tmp_path)
    (tmp_path / "out.csv").write_text("old\n")
    new = "id,b\n1,x\n2,x\n"
    for death in range(1, 24):
        target = replaced(host, f"load[{death}] load")
        host.files.die_at(death)
        is_done = False
        try:
            write_all(target, target.open(), 1, 2)
            target.finish()
            target.forget()
            is_done = True
        except (BourneError, OSError):
            pass
        getattr(host.files, end)()
        target.close()
        found = (tmp_path / "out.csv").read_text()
        assert found in ("old\n", new) and (found == new or not is_done), death
        again = replaced(host, f"load[{death}] load")
        before = again.open()
        if before is None or not before["done"]:
            write_all(again, before, 1, 2)
        again.finish()
        again.forget()
        again.close()
        assert (tmp_path / "out.csv").read_text() == new
        assert {path.name for path in tmp_path.iterdir()} <= {"out.csv"}
        (tmp_path / "out.csv").write_text("old\n")
        host.files = FaultyFiles()


@pytest.mark.parametrize("call", ["write", "sync", "replace", "open"])
def test_a_full_disk_is_an_error_and_later_the_run_goes_on(call, tmp_path, monkeypatch):
    files = FaultyFiles()
    (tmp_path / "in.csv").write_text("id,b\n" + "".join(f"{n},x\n" for n in range(20)))
    app = app_of(
        read=str(tmp_path / "in.csv"),
        size=5,
        write=str(tmp_path / "out.csv"),
        retry=retry(1, delay="0 seconds"),
    )
    with bourne.open(app, data=tmp_path / "data") as shop:
        monkeypatch.setattr(shop, "files", files)
        files.fail(call, nth=2, error=errno.ENOSPC, always=True, name="*out.csv*")
        with pytest.raises(JobFailed, match=r"No space left|cannot"):
            shop.jobs.start("load")
        assert not (tmp_path / "out.csv").exists()
        files.heal()
        run = shop.jobs.start("load")
        assert counts(shop.jobs.steps(run.id)[0]) == (20, 0, 20, 0)
    assert len(csv_rows(tmp_path / "out.csv")) == 21


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_is_read_only_is_an_error(tmp_path):
    (tmp_path / "in.csv").write_text("id,b\n1,x\n")
    (tmp_path / "out").mkdir(mode=0o500)
    with pytest.raises(JobFailed, match="cannot be written"):
        run_once(
            app_of(read=str(tmp_path / "in.csv"), write=str(tmp_path / "out" / "a.csv"), retry=retry(0)),
            tmp_path / "data",
        )


@pytest.mark.parametrize("size", [3, 100])
def test_rows_that_a_log_refuses_are_left_out(size, tmp_path):
    (tmp_path / "in.csv").write_text("id,b\n1,x\n,y\n3,z\n")
    app = app_of(
        read=str(tmp_path / "in.csv"),
        columns={"id": "bigint", "b": "varchar"},
        write="log:strict",
        size=size,
        skip=skip(1),
    )
    app.log("strict", schema={"id": "bigint not null", "b": "varchar"})
    _, (step,) = run_once(app, tmp_path / "data")
    assert counts(step) == (3, 0, 2, 1)
    assert [text for _, text in letters(tmp_path / "data")] == ['{"id": null, "b": "y"}']
    with bourne.open(data=tmp_path / "data") as shop:
        assert shop.query("SELECT id FROM strict").fetchall() == [(1,), (3,)]


def test_without_skip_a_log_says_which_row_it_refuses(tmp_path):
    (tmp_path / "in.csv").write_text("id,b\n1,x\n,y\n")
    app = app_of(read=str(tmp_path / "in.csv"), columns={"id": "bigint", "b": "varchar"}, write="log:strict")
    app.log("strict", schema={"id": "bigint not null", "b": "varchar"})
    with pytest.raises(JobFailed, match="id"):
        run_once(app, tmp_path / "data")


def test_a_function_is_called_with_a_text_that_is_the_same_when_a_chunk_comes_again(tmp_path):
    calls: list[tuple[int, str]] = []

    def write(table: pa.Table, key: str) -> None:
        calls.append((table.num_rows, key))
        if len(calls) == 2:
            raise ConnectionError("lost")

    (tmp_path / "in.csv").write_text("id,b\n" + "".join(f"{n},x\n" for n in range(10)))
    app = app_of(read=str(tmp_path / "in.csv"), size=4, write=write, retry=retry(1, delay="0 seconds"))
    run_once(app, tmp_path / "data")
    assert [count for count, _ in calls] == [4, 4, 4, 2]
    assert calls[1] == calls[2] and len({key for _, key in calls}) == 3


@pytest.mark.parametrize(("write", "key", "mode", "message"), [
    ("log:sold", "id", None, "rows of a log are not replaced"), ("log:gone", (), None, "gone"), ("parquet:x/", (), "replace", "replaced"),
    ("nothing:at-all", (), None, "nothing"),
])  # fmt: skip
def test_what_is_no_target_is_refused(write, key, mode, message, tmp_path):
    (tmp_path / "in.csv").write_text("id,amount\n1,1.50\n")
    app = app_of(read=str(tmp_path / "in.csv"), write=write, key=key, mode=mode)
    with pytest.raises((JobFailed, DefinitionError), match=message):
        run_once(app, tmp_path / "data")


def test_progress_goes_through_json_and_refuses_what_is_not_its_own():
    progress = Progress(3, "a").after({"at": 1}, run=4, read=10, written=7, skipped=2, rows=9, made=8)
    assert (progress.filtered, progress.chunks, progress.rows, progress.made) == (1, 1, 9, 8)
    assert read_progress(progress.to_json(), of="a", run=9, goes_on=False) == progress
    later = read_progress(progress.to_json(), of="b", run=9, goes_on=True)
    assert (later.run, later.at, later.read, later.rows, later.made) == (9, {"at": 1}, 0, 9, 8)
    with pytest.raises(BourneError, match="not of a job"):
        read_progress({"lsn": 1}, of="a", run=1, goes_on=False)


@pytest.mark.parametrize("cuts", [[10], [1] * 10, [3, 3, 4]])
def test_counts_do_not_depend_on_the_cut_though_rows_are_made_more_and_less(cuts):
    progress = Progress(1, "a")
    made = [0, 3, 0, 0, 2, 0, 1, 0, 0, 1]
    for cut in cuts:
        start = progress.read
        progress = progress.after(
            None, run=1, read=cut, written=sum(made[start : start + cut]), skipped=0, rows=cut, made=0
        )
    assert (progress.read, progress.written, progress.filtered) == (10, 7, 3)
