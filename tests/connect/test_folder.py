"""Files as a source: each content once, whatever is done to the files, and wherever the source is stopped."""

from __future__ import annotations

import os
import random
import shutil
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import csv as arrow_csv
from pyarrow import feather, parquet

import bourne
from bourne.connect import blocks, folder
from bourne.connect.files_taken import FilesTaken
from bourne.connect.source import Taken
from bourne.connect.sources import Surroundings, open_source
from bourne.errors import BourneError, DefinitionError, SourceFailed
from bourne.log.catalog import LogInfo
from bourne.schema import declare_schema
from bourne.testing import SimulatedClock

LOG = LogInfo("rides", declare_schema({"id": "bigint not null", "text": "varchar"}, where="test"))
CLOCK = SimulatedClock(4_000_000_000_000_000)  # long after any file of this test was written


class House:
    """What a source would have around it in an app: the log of its files, and what it handed over."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.noted: list[pa.RecordBatch] = []
        self.position: Any = None
        self.ids: list[int] = []
        self.dead: list[str] = []

    def open(self) -> Any:
        taken = lambda name: FilesTaken(name, self.note, lambda: self.noted)  # noqa: E731
        return open_source(
            self.url,
            Surroundings(
                LOG,
                CLOCK,
                taken,
                LOG.schema.to_arrow().empty_table,
                lambda *_, **__: pytest.fail("not itself"),
            ),
        )

    def note(self, rows: pa.Table) -> None:
        self.noted += rows.to_batches()

    def keep(self, taken: Taken) -> None:
        """Commit a part, as the intake does."""
        self.position = taken.position
        if taken.rows is not None:
            self.ids += taken.rows.column("id").to_pylist()
        self.dead += [letter.origin for letter in taken.dead]

    def run(self, parts: int | None = None) -> Any:
        """Take in what is there (or so many parts), and stop."""
        source = self.open()
        for taken in source.read(self.position, {}):
            if taken is None:
                break
            self.keep(taken)
            parts = None if parts is None else parts - 1
            if parts == 0:
                break
        source.stop()
        return source


def write(path: Path, ids: range | list[int], text: str = "한") -> None:
    table = pa.table({"id": list(ids), "text": [text] * len(ids)})
    if path.suffix == ".csv":
        arrow_csv.write_csv(table, path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(f'{{"id": {each}, "text": "{text}"}}\n' for each in ids))
    elif path.suffix == ".parquet":
        parquet.write_table(table, path)
    elif path.suffix == ".arrows":
        with pa.ipc.new_stream(path, table.schema) as writer:
            writer.write_table(table)
    else:
        feather.write_feather(table, path, compression="uncompressed")


# --- which files ---


def test_all_kinds_of_files_in_a_folder(tmp_path):
    for number, name in enumerate(
        ["a.csv", "b.jsonl", "c.parquet", "d.arrow", "e.arrows", "bus 버스🚌.feather"]
    ):
        write(tmp_path / name, range(number * 10, number * 10 + 10))
    house = House(f"{tmp_path}/")
    house.run()
    assert sorted(house.ids) == list(range(60))
    house.run()
    assert len(house.ids) == 60


def test_each_content_is_taken_in_once_whatever_its_name(tmp_path):
    write(tmp_path / "a.csv", range(5))
    house = House(f"{tmp_path}/")
    house.run()
    shutil.copy(tmp_path / "a.csv", tmp_path / "copy.csv")
    os.utime(tmp_path / "a.csv", ns=(1, 1))
    (tmp_path / "a.csv").rename(tmp_path / "moved.csv")
    house.run()
    assert house.ids == list(range(5))
    write(tmp_path / "moved.csv", [7])
    house.run()
    assert house.ids == [*range(5), 7]
    (tmp_path / "moved.csv").unlink()
    house.run()
    assert house.ids == [*range(5), 7]


def test_copies_that_come_together_are_one(tmp_path):
    for name in ("a.csv", "b.csv", "c.csv"):
        write(tmp_path / name, range(5))
    house = House(f"{tmp_path}/")
    house.run()
    assert house.ids == list(range(5))


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_what_is_added_to_a_file_is_taken_in_alone(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    write(path, range(5))
    house = House(f"{tmp_path}/")
    house.run()
    for number in (5, 6, 7):
        with path.open("a") as file:
            file.write(f'{number},"x"\n' if suffix == ".csv" else f'{{"id": {number}}}\n')
        house.run()
        assert house.ids == list(range(number + 1))
    assert sum(batch.column("records")[0].as_py() for batch in house.noted[-1:]) == 8


def test_a_file_that_grew_in_the_middle_of_a_line_is_refused(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": 1}\n{"id": 2}')
    house = House(f"{tmp_path}/")
    house.run()
    with path.open("a") as file:
        file.write('\n{"id": 3}\n')
    with pytest.raises(SourceFailed, match="in the middle of a record"):
        house.run()
    assert house.ids == [1, 2]


def test_a_header_alone_and_rows_later(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("id,text\n")
    house = House(f"{tmp_path}/")
    house.run()
    with path.open("a") as file:
        file.write("1,a\n")
    house.run()
    assert house.ids == [1]


def test_half_written_files_are_left_alone(tmp_path):
    for name in (".a.csv", "_b.csv", "c.csv.tmp", "d.csv.part", "e.csv~"):
        (tmp_path / name).write_text("id\n1\n")
    (tmp_path / "sub").mkdir()
    write(tmp_path / "g.parquet", range(3))
    whole = (tmp_path / "g.parquet").read_bytes()
    (tmp_path / "g.parquet").write_bytes(whole[:-10])
    house = House(f"{tmp_path}/")
    source = house.run()
    assert house.ids == []
    assert "g.parquet is left alone" in source.lag().note
    (tmp_path / "g.parquet").write_bytes(whole)
    house.run()
    assert house.ids == [0, 1, 2]


def test_a_file_has_to_lie_still_first(tmp_path):
    write(tmp_path / "a.csv", range(3))
    clock_us = CLOCK.now_us()
    os.utime(tmp_path / "a.csv", ns=(clock_us * 1000 - 10**9, clock_us * 1000 - 10**9))
    house = House(f"{tmp_path}/")
    source = house.run()
    assert house.ids == [] and source.lag().bytes > 0  # so a run does not end yet
    House(f"{tmp_path}/?settle=1").run()
    house.url += "?settle=0.5"
    house.run()
    assert house.ids == [0, 1, 2]


def test_patterns(tmp_path):
    for name in ("a-1.csv", "a-2.csv", "b-3.csv", "deep/er/a-4.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write(tmp_path / name, [int(name[-5])])
    for url, ids in {
        "a-*.csv": [1, 2], "a-?.csv": [1, 2], "[ab]-[23].csv": [2, 3], "**/a-*.csv": [1, 2, 4], "a-?.csv?watch=false": [1, 2],
        "nothing*.csv": [], "a-1.csv": [1],
    }.items():  # fmt: skip
        house = House(f"{tmp_path}/{url}")
        house.run()
        assert sorted(house.ids) == ids, url


def test_what_cannot_be_is_said(tmp_path):
    with pytest.raises(DefinitionError, match="no such option"):
        House(f"{tmp_path}/?wach=true").open()
    with pytest.raises(DefinitionError, match="is no number"):
        House(f"{tmp_path}/?settle=-1").open()
    with pytest.raises(DefinitionError, match="no such format"):
        House(f"{tmp_path}/?format=xml").open()
    with pytest.raises(SourceFailed, match="there is no file"):
        House(f"{tmp_path}/no.csv").run()
    (tmp_path / "a.xyz").write_text("")
    with pytest.raises(BourneError, match="cannot tell the format"):
        House(f"{tmp_path}/").run()
    (tmp_path / "a.xyz").unlink()
    (tmp_path / "b.csv").write_text("id,nobody\n1,2\n")
    with pytest.raises(SourceFailed, match=r"b\.csv cannot be taken in"):
        House(f"{tmp_path}/").run()


# --- stopped anywhere ---


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(blocks, "FILE_BATCH_BYTES", 64)
    monkeypatch.setattr(folder, "FILE_BATCH_BYTES", 64)
    monkeypatch.setattr("bourne.connect.parquet_files._ROWS", 7)
    monkeypatch.setattr("bourne.connect.arrow_files._ROWS", 7)
    monkeypatch.setattr(folder, "FILES_PER_APPEND_MAX", 3)
    yield


@pytest.mark.parametrize("seed", range(10))
def test_stopped_after_any_part_every_record_comes_once(tmp_path, small_parts, seed):
    rng = random.Random(seed)
    count = 0
    for number in range(12):
        size = rng.choice([0, 1, 5, 40])
        suffix = rng.choice([".csv", ".jsonl", ".parquet", ".arrow", ".arrows"])
        write(
            tmp_path / f"{number:02}{suffix}",
            range(count, count + size),
            "한\n" if suffix == ".csv" else "한",
        )
        count += size
    (tmp_path / "zz.csv").write_text(f"id,text\nx,1\n{count},2\n,3\n")
    house = House(f"{tmp_path}/")
    for _ in range(400):
        before = len(house.ids), house.position
        house.run(parts=rng.randint(1, 3))
        if (len(house.ids), house.position) == before:
            break
    assert sorted(house.ids) == list(range(count + 1))
    assert len(set(house.dead)) == 2


def test_told_to_stop_in_the_middle_of_a_file(tmp_path, small_parts):
    """What it has in hand then is handed over, and where it stands is in the middle still."""
    write(tmp_path / "a.csv", range(100))
    house = House(f"{tmp_path}/")
    for _ in range(200):
        source = house.open()
        for taken in source.read(house.position, {}):
            if taken is None:
                source.stop()
                break
            house.keep(taken)
            source.stop()  # and read on, until it ends
        if house.position["at"] is None:
            break
    assert house.ids == list(range(100))
    house.run()
    assert house.ids == list(range(100))


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_file_that_grows_while_it_is_read(tmp_path, small_parts, suffix):
    path = tmp_path / f"a{suffix}"
    write(path, range(50))
    house = House(f"{tmp_path}/")
    for count in range(50, 60):
        house.run(parts=2)
        with path.open("a") as file:
            file.write(f'{count},"x"\n' if suffix == ".csv" else f'{{"id": {count}}}\n')
    for _ in range(100):
        house.run(parts=2)
    assert house.ids == list(range(60))


def test_a_file_that_changes_while_it_is_read(tmp_path, small_parts):
    write(tmp_path / "a.csv", range(100))
    house = House(f"{tmp_path}/")
    house.run(parts=1)
    write(tmp_path / "a.csv", range(100, 200))
    with pytest.raises(SourceFailed, match="gone, or has changed"):
        house.run()
    write(tmp_path / "a.csv", range(100))
    house.run()
    assert house.ids == list(range(100))


# --- in an app ---


def test_a_folder_feeds_a_view(tmp_path):
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / "a.csv", range(100))
    (tmp_path / "in" / "b.jsonl").write_text('{"id": 100}\n{"id": "nobody"}\nrubbish\n')
    app = bourne.App("rides")
    app.log("rides", schema={"id": "bigint not null", "text": "varchar"}, key="id", partitions=3)
    app.view("totals", "SELECT count(*) AS n, sum(id) AS s FROM rides")
    app.source(f"{tmp_path}/in/?settle=0", into="rides")
    for count in (101, 102):
        with bourne.open(app, data=tmp_path / "data") as instance:
            instance.run(until_caught_up=True)
            assert instance.query("SELECT n, s FROM totals").fetchall() == [(count, sum(range(count)))]
            letters = instance.query(
                "SELECT place, reason, data, format FROM dead_letters ORDER BY place"
            ).fetchall()
            assert [(data, kind) for _, _, data, kind in letters] == [
                (b'{"id": "nobody"}', "jsonl"), (b"rubbish", "jsonl"),
            ]  # fmt: skip
            files = instance.query("SELECT path, records FROM rides_files ORDER BY path").fetchall()
            assert [records for _, records in files][:2] == [100, 1]
        write(tmp_path / "in" / "c.parquet", [101])


def test_too_many_dead_letters_stop_the_source_before_they_are_eaten(tmp_path):
    (tmp_path / "a.csv").write_text("id\n" + "x\n" * 11 + "1\n" * 500)
    app = bourne.App("rides")
    app.log("rides", schema={"id": "bigint"})
    app.source(str(tmp_path / "a.csv"), into="rides")
    with bourne.open(app, data=tmp_path / "data") as instance:
        with pytest.raises(SourceFailed, match="too many records"):
            instance.run(until_caught_up=True)
        assert instance.query("SELECT count(*) FROM dead_letters").fetchall() == [(0,)]
        assert instance.log("rides").end_offsets() == (0,)
    app.sources.clear()
    app.source(str(tmp_path / "a.csv"), into="rides", dead_letters="2%")
    with bourne.open(app, data=tmp_path / "data") as instance:
        instance.run(until_caught_up=True)
        assert instance.query("SELECT count(*) FROM dead_letters").fetchall() == [(11,)]
        assert instance.log("rides").end_offsets() == (500,)


def test_names_that_sources_need(tmp_path):
    app = bourne.App("rides")
    app.log("rides", schema={"id": "bigint"})
    app.log("dead_letters", schema={"id": "bigint"})
    app.source(str(tmp_path / "a.csv"), into="rides")
    with pytest.raises(DefinitionError, match="'dead_letters' is taken"):
        bourne.open(app, data=tmp_path / "data")
    del app.logs["dead_letters"]
    app.source(str(tmp_path / "a.csv?watch=true"), into="rides")
    with pytest.raises(DefinitionError, match="two sources"):
        bourne.open(app, data=tmp_path / "data")
    app.sources[1:] = []
    app.source(str(tmp_path / "a.csv"), into="rides", name="again", dead_letters="many")
    with pytest.raises(DefinitionError, match="no share"):
        bourne.open(app, data=tmp_path / "data")


def test_dead_letters_are_taken_in_again_once(tmp_path):
    (tmp_path / "a.csv").write_text("id,text\nx,1\n2,two\n3\n")
    app = bourne.App("rides")
    app.log("rides", schema={"id": "bigint", "text": "varchar"})
    app.source(str(tmp_path / "a.csv"), into="rides")
    with bourne.open(app, data=tmp_path / "data") as instance:
        instance.run(until_caught_up=True)
        letters = instance.dead_letters
        assert [letter.data for letter in letters.all()] == [b"x,1\n", b"3\n"]
        assert [why is None for _, why in letters.retry(letters.chosen([]))] == [False, False]
        letters.discard(letters.chosen([letters.all()[1].id]))
        with pytest.raises(bourne.UnknownName, match="not open any more"):
            letters.chosen([letters.all()[1].id])
        with pytest.raises(bourne.UnknownName, match="no dead letter"):
            letters.chosen(["zzz"])
    app = bourne.App("rides")  # the column is what it should have been
    app.log("texts", schema={"id": "varchar", "text": "varchar"})
    app.source(str(tmp_path / "a.csv"), into="texts")
    with bourne.open(app, data=tmp_path / "more") as instance:
        instance.run(until_caught_up=True)
        (letter,) = instance.dead_letters.all()
        mended = type(letter)(letter.id, letter.at, "", "", "texts", "", letter.format, b"3,three\n", None)
        for _ in range(2):
            assert instance.dead_letters.retry([mended]) == [(mended, None)]
        assert instance.query("SELECT id, text FROM texts ORDER BY id").fetchall() == [
            ("2", "two"), ("3", "three"), ("x", "1"),
        ]  # fmt: skip
        assert instance.dead_letters.chosen([]) == []


def test_nobody_else_writes_what_sources_set_aside(tmp_path):
    app = bourne.App("rides")
    app.log("rides", schema={"id": "bigint"})
    app.source(f"{tmp_path}/in/", into="rides")
    with bourne.open(app, data=tmp_path / "data") as instance:
        for name in ("dead_letters", "dead_letters_done", "rides_files"):
            with pytest.raises(bourne.InputError, match="sources and sinks only"):
                instance.append(name, [{"id": "1"}])
        instance.append("rides", [{"id": 1}])


# --- in a bucket ---


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, str]]:
    """A bucket of a local S3 server: a client of it, and what comes behind `s3://bucket/…` in a URL."""
    server_module = pytest.importorskip("moto.server")
    store = pytest.importorskip("obstore.store")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ACCESS_KEY_ID": "us",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    endpoint = f"http://{host}:{port}"
    request = urllib.request.Request(f"{endpoint}/rides", method="PUT")
    urllib.request.urlopen(request).close()
    client = store.S3Store(
        "rides", config={"endpoint": endpoint, "region": "us-east-1"}, client_options={"allow_http": True}
    )
    yield client, f"endpoint={endpoint}&region=us-east-1"
    server.stop()


def test_objects_are_taken_in_once(bucket, tmp_path, small_parts):
    obstore = pytest.importorskip("obstore")
    client, options = bucket
    for number, suffix in enumerate([".csv", ".jsonl", ".parquet", ".arrow"]):
        write(tmp_path / f"x{suffix}", range(number * 50, number * 50 + 50))
        obstore.put(client, f"in/버스 {number}{suffix}", (tmp_path / f"x{suffix}").read_bytes())
    obstore.put(client, "in/deep/er.csv", b"id\n999\n")
    obstore.put(client, "in/_half.csv", b"id\n998\n")
    house = House(f"s3://rides/in/?{options}")
    for _ in range(60):
        house.run(parts=2)
    assert sorted(house.ids) == list(range(200))
    obstore.put(client, "in/copy.csv", (tmp_path / "x.csv").read_bytes())
    obstore.put(client, "in/new.jsonl", b'{"id": 200}\n')
    house.run()
    assert sorted(house.ids) == list(range(201))
    for url, ids in (("in/**/*.csv", [*range(50), 999]), ("in/new.jsonl", [200])):
        other = House(f"s3://rides/{url}?{options}")
        other.run()
        assert sorted(other.ids) == ids


def test_an_object_that_is_overwritten_while_it_is_read_is_not_mixed(bucket, small_parts):
    obstore = pytest.importorskip("obstore")
    client, options = bucket
    lines = [b'{"id": %d}\n' % number for number in range(300_000)]
    obstore.put(client, "changing/a.jsonl", b"".join(lines))
    house = House(f"s3://rides/changing/?{options}")
    house.run(parts=2)
    before = list(house.ids)
    assert before == list(range(len(before))) and len(before) < 300_000
    source = house.open()
    parts = source.read(house.position, {})
    kept = next(part.rows for part in parts if part is not None)
    obstore.put(client, "changing/a.jsonl", b"".join(reversed(lines)))
    assert kept.column("id")[0].as_py() == len(before)
    with pytest.raises(bourne.SourceFailed, match="overwritten"):
        for part in parts:
            ids = [] if part is None or part.rows is None else part.rows.column("id").to_pylist()
            assert ids == sorted(ids)
    source.stop()


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet", ".arrow"])
def test_a_log_is_made_of_what_the_first_object_has(bucket, tmp_path, suffix):
    obstore = pytest.importorskip("obstore")
    client, options = bucket
    app = bourne.App("rides")
    app.source(f"s3://rides/first{suffix}/?{options}&watch=false", into="taken")
    with pytest.raises(bourne.DefinitionError, match="no file yet"):
        bourne.open(app, data=tmp_path / "data")
    write(tmp_path / f"x{suffix}", range(50))
    obstore.put(client, f"first{suffix}/이름 🚲{suffix}", (tmp_path / f"x{suffix}").read_bytes())
    with bourne.open(app, data=tmp_path / "data") as instance:
        instance.run(until_caught_up=True)
        assert instance.query("SELECT id FROM taken ORDER BY id").fetchall() == [(i,) for i in range(50)]


def test_a_bucket_that_is_away_is_waited_for(bucket):
    _, options = bucket
    with pytest.raises(bourne.Unreachable, match="'nobody'"):
        House(f"s3://nobody/in/?{options}").run()
