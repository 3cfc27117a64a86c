"""Lines at the end of a file: each change once and whole, whatever the disk does."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest

from bourne.connect.file_sink import FileSink, LineFormat, StreamSink
from bourne.connect.files import read_file
from bourne.connect.json_text import to_json
from bourne.connect.sink import Shape, Sink
from bourne.errors import DefinitionError, SinkFailed, Unreachable
from bourne.schema import Column, Schema, arrow_type
from bourne.testing import SINK_CHECKS, FaultyFiles, check_sink
from bourne.testing.sink_model import make_change
from connect.killed_writes import check_whole, killed_writes
from connect.sink_reading import HUGE_ROWS, SEEDS, at, columns_of, shape, table_of_texts


def read(path: Path, kind: LineFormat, shape: Shape) -> pa.Table:
    columns = columns_of(shape)
    if kind == "csv":
        texts = Schema(tuple(Column(column.name, "VARCHAR") for column in columns))
        batches = [batch.table for batch in read_file(str(path), "csv", texts, log="test")]
        table = pa.concat_tables([texts.to_arrow().empty_table(), *batches])
        return table_of_texts(table.to_pydict(), shape)
    rows = [
        json.loads(line, parse_float=Decimal, parse_int=Decimal) for line in path.read_bytes().splitlines()
    ]
    for row in rows:
        assert list(row) == [column.name for column in columns]
        for column in columns:
            value = row[column.name]
            if (
                value is not None
                and (pa.types.is_nested(arrow_type(column.type)) or not isinstance(value, str))
            ) or (value is not None and column.type == "JSON"):
                row[column.name] = to_json(value)
    return table_of_texts({column.name: [row[column.name] for row in rows] for column in columns}, shape)


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
@pytest.mark.parametrize("check", SINK_CHECKS)
def test_it_is_a_sink(tmp_path, check, kind):
    deaths = 0

    @contextmanager
    def crash(shape: Shape, point: int) -> Iterator[Sink]:
        nonlocal deaths
        files = FaultyFiles()
        files.die_at(point)
        sink = FileSink(tmp_path / shape.name, kind, shape, files=files)
        yield sink
        deaths += 1
        with suppress(OSError):
            sink.close()
        files.crash(seed=point)

    check_sink(
        lambda shape: FileSink(tmp_path / shape.name, kind, shape),
        lambda shape: read(tmp_path / shape.name, kind, shape),
        kinds=["append", "weights"], only=[check], huge_rows=HUGE_ROWS, seeds=SEEDS, held_as={"JSON": {"'null'": "NULL"}} if kind == "jsonl" else {}, crash=crash,
    )  # fmt: skip
    assert check != "crashes" or deaths > 10


@pytest.mark.parametrize("check", [name for name in SINK_CHECKS if name != "schema_change"])
def test_standard_output_is_a_sink_that_forgets_where_it_was(tmp_path, check):
    """Each run begins anew, so it may have other columns; then the lines before and after have different ones."""
    with ExitStack() as streams:

        def make(shape: Shape) -> Sink:
            file = (tmp_path / shape.name).open("a", encoding="utf-8", newline="")
            return StreamSink(streams.enter_context(file), "jsonl", shape)

        check_sink(
            make, lambda shape: read(tmp_path / shape.name, "jsonl", shape),
            kinds=["append", "weights"], only=[check], huge_rows=HUGE_ROWS, seeds=SEEDS, held_as={"JSON": {"'null'": "NULL"}},
        )  # fmt: skip


def test_what_append_reads_back_is_what_was_written(tmp_path):
    rows = shape(k="VARCHAR", n="DECIMAL(38,10)", at="TIMESTAMP", data="JSON", items="BIGINT[]")
    row = {
        "k": "",
        "n": Decimal("12345678901234567890.0000000001"),
        "at": "2024-02-29 12:00:00.5",
        "data": '{"a":\n 1.50}',
    }
    table = pa.Table.from_pylist(
        [{**row, "at": None, "items": [1, None]}, {"k": None}], rows.schema.to_arrow()
    )
    change = make_change(rows)
    for kind in ("jsonl", "csv"):
        sink = FileSink(tmp_path / kind, kind, rows)
        sink.open()
        sink.write(type(change)(table), at(1), None)
        sink.close()
        (batch,) = read_file(str(tmp_path / kind), kind, rows.schema, log="test")
        found = batch.table.to_pylist()
        assert found[0] | {"data": None} == {**row, "at": None, "items": [1, None], "data": None}
        assert json.loads(found[0]["data"]) == {"a": 1.5}
        assert found[1]["k"] is None


@pytest.fixture
def sink(tmp_path) -> Iterator[FileSink]:
    opened = FileSink(tmp_path / "a.jsonl", "jsonl", shape())
    opened.open()
    opened.write(make_change(shape(), [{"k": "a"}]), at(1), None)
    yield opened
    opened.close()


def test_what_is_beyond_the_position_is_cut(tmp_path, sink):
    whole = (tmp_path / "a.jsonl").read_bytes()
    with (tmp_path / "a.jsonl").open("ab") as file:
        file.write(b'{"k": "torn')
    assert FileSink(tmp_path / "a.jsonl", "jsonl", shape()).open() == at(1)
    assert (tmp_path / "a.jsonl").read_bytes() == whole


def test_a_write_that_failed_leaves_nothing_in_the_way_of_the_next(tmp_path):
    files = FaultyFiles()
    sink = FileSink(tmp_path / "a.jsonl", "jsonl", shape(), files=files)
    sink.open()
    files.fail("write", bytes_written=60)
    with pytest.raises(Unreachable, match="No space"):
        sink.write(make_change(shape(), [{"k": "long" * 30}]), at(1), None)
    sink.write(make_change(shape(), [{"k": "a"}]), at(2), None)
    assert (tmp_path / "a.jsonl").read_text() == '{"k": "a", "n": null, "note": null}\n'


def test_a_file_that_is_not_ours_is_left_alone(tmp_path):
    (tmp_path / "a.csv").write_text("mine\n")
    with pytest.raises(SinkFailed, match="there already"):
        FileSink(tmp_path / "a.csv", "csv", shape()).open()
    assert (tmp_path / "a.csv").read_text() == "mine\n"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folder: (folder / "a.jsonl").write_text(""), "shorter"),
        (lambda folder: (folder / "a.jsonl").unlink(), "shorter"),
        (lambda folder: (folder / "a.jsonl.position").unlink(), "there already"),
        (lambda folder: (folder / "a.jsonl.position").write_text("{"), "cannot be read"),
        (lambda folder: (folder / "a.jsonl.position").write_text('{"format": 2}'), "no position"),
    ],
)
def test_files_that_somebody_changed_are_refused(tmp_path, sink, change, said):
    change(tmp_path)
    with pytest.raises(SinkFailed, match=said):
        FileSink(tmp_path / "a.jsonl", "jsonl", shape()).open()


def test_a_file_of_other_rows_is_refused(tmp_path, sink):
    for other in (shape(name="other"), shape(k="VARCHAR"), shape(has_weights=True)):
        with pytest.raises(SinkFailed, match="something else"):
            FileSink(tmp_path / "a.jsonl", "jsonl", other).open()


def test_a_file_that_was_replaced_is_not_written_to(tmp_path, sink):
    (tmp_path / "a.jsonl").rename(tmp_path / "old.jsonl")
    (tmp_path / "a.jsonl").write_text("")
    with pytest.raises(Unreachable, match="replaced"):
        sink.write(make_change(shape(), [{"k": "b"}]), at(2), at(1))


def test_two_at_the_same_time(tmp_path, sink):
    other = FileSink(tmp_path / "a.jsonl", "jsonl", shape())
    other.open()
    with sink._locked(), pytest.raises(Unreachable, match="another process"):
        other.write(make_change(shape(), [{"k": "b"}]), at(2), at(1))
    other.write(make_change(shape(), [{"k": "b"}]), at(2), at(1))
    other.close()


def test_what_lines_cannot_say_is_refused():
    with pytest.raises(DefinitionError, match="leave the key out"):
        FileSink(Path("a"), "jsonl", shape(key=("k",)))
    with pytest.raises(DefinitionError, match="one NULL in 'k'"):
        FileSink(Path("a"), "csv", shape(k="VARCHAR"))
    with pytest.raises(DefinitionError, match="jsonl:PATH"):
        FileSink.from_url("jsonl:a?table=t", shape())
    with pytest.raises(SinkFailed, match="folder"):
        FileSink.from_url("csv:/none/a.csv", shape()).open()


def test_standard_output():
    stream = io.StringIO()
    sink = StreamSink(stream, "csv", shape(has_weights=True))
    assert (sink.delivery, sink.open()) == ("at most once", None)
    change = make_change(
        shape(has_weights=True), [{"k": "가", "n": 1}, {"k": "", "n": None}], weights=[2, -1]
    )
    sink.write(change, at(1), None)
    sink.write(change, at(2), at(1))
    sink.close()
    sink.close()
    lines = '가,1,,2\n"",,,-1\n'
    assert stream.getvalue() == "k,n,note,__weight\n" + lines + lines
    stream.close()
    with pytest.raises(SinkFailed, match="closed"):
        sink.write(change, at(3), at(2))


def test_a_process_that_is_killed_leaves_rows_and_position_together(tmp_path):
    path = tmp_path / "a.jsonl"
    make = f"FileSink(Path({str(path)!r}), 'jsonl', shape())"
    for acknowledged in killed_writes("from bourne.connect.file_sink import FileSink", make):
        sink = FileSink(path, "jsonl", shape())
        check_whole(sink.open(), read(path, "jsonl", shape()), acknowledged)
        sink.close()
