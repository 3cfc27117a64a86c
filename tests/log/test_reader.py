"""Reading: a prefix of what was acknowledged, in order, from any process, without copying."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bourne.errors import Closed, CorruptFrame, DiskFull, InputError, StorageError
from bourne.log import lock, recovery, segment
from bourne.log.reader import LogReader
from bourne.testing import ScratchLog

# Calls of one, several and no records; the fourth offset is the middle of a frame.
CALLS: list[tuple[list[tuple[int, str]], dict[str, Any] | None]] = [
    ([], {"epoch": 0}),
    ([(0, "a"), (1, "나"), (2, "🌊")], None),
    ([], {"epoch": 1}),
    ([], {"epoch": 2}),
    ([(3, "d")], {"epoch": 3}),
    ([(4, "e"), (5, "f")], None),
    ([], {"epoch": 4}),
]
ROWS = [row for rows, _ in CALLS for row in rows]


@pytest.fixture(params=[1, 1100, 1 << 20])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> ScratchLog:
    """A closed log, in one segment or several."""
    log = ScratchLog(tmp_path)
    with log.writer(segment_bytes=request.param) as writer:
        for rows, meta in CALLS:
            log.append(writer, rows, meta)
    return log


@pytest.fixture(params=[64, 200, 1 << 20])
def window_bytes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Windows smaller than a frame, and larger."""
    monkeypatch.setattr(segment, "_WINDOW_BYTES", request.param)
    return int(request.param)


def test_frames_come_as_they_were_appended(log: ScratchLog, window_bytes: int) -> None:
    assert [(rows, meta) for _, rows, meta in log.frames()] == [(rows, meta or {}) for rows, meta in CALLS]


def test_seek_read_until_and_bounds_at_every_offset(log: ScratchLog, window_bytes: int) -> None:
    cursor = log.reader()
    assert (cursor.first_offset, cursor.end_offset()) == (0, len(ROWS))
    for start in range(len(ROWS) + 1):
        for until in [None, *range(start, len(ROWS) + 2)]:
            for rows_max in (0, 1, 2, 1 << 62):
                cursor.seek(start)
                frames = cursor.read(until=until, rows_max=rows_max)
                rows = [row["number"] for frame in frames for row in frame.batch.to_pylist()]
                stop = min(len(ROWS) if until is None else until, len(ROWS), start + rows_max)
                assert rows == list(range(start, stop)), (start, until, rows_max)
                assert cursor.offset == stop
                rest = [row["number"] for frame in cursor.read() for row in frame.batch.to_pylist()]
                assert rest == list(range(stop, len(ROWS)))
    for wrong in (-1, len(ROWS) + 1):
        with pytest.raises(InputError, match="no offset"):
            cursor.seek(wrong)
    cursor.close()


def test_bytes_max_bounds_a_read_and_one_frame_always_comes(log: ScratchLog) -> None:
    cursor = log.reader()
    served = 0
    while frames := cursor.read(bytes_max=1):
        assert len(frames) == 1
        served += frames[0].batch.num_rows
    assert served == len(ROWS)


def test_seek_never_passes_over_a_frame_without_records_at_that_offset(log: ScratchLog) -> None:
    cursor = log.reader()
    for offset, epochs in ((0, [0, 1, 2, 3, 4]), (3, [1, 2, 3, 4]), (4, [4]), (6, [4])):
        cursor.seek(offset)
        assert [frame.meta["epoch"] for frame in cursor.read() if frame.meta] == epochs


def test_the_last_frame_is_the_newest_and_the_cursor_is_behind_it(tmp_path: Path) -> None:
    for segment_bytes in (1, 1100, 1 << 20):
        log = ScratchLog(tmp_path / str(segment_bytes))
        assert log.reader().last_frame() is None
        with log.writer(segment_bytes=segment_bytes) as writer:
            follower = log.reader()
            assert follower.last_frame() is None
            for rows, meta in CALLS:
                log.append(writer, rows, meta)
                for cursor in (follower, log.reader()):
                    last = cursor.last_frame()
                    assert last is not None
                    assert log.frames_of([last])[0][1:] == (rows, meta or {})
                    assert cursor.read() == []
                    assert cursor.offset == writer.next_offset


def test_the_last_frame_before_a_segment_that_has_just_begun(tmp_path: Path) -> None:
    log = ScratchLog(tmp_path)
    with log.writer(segment_bytes=1) as writer:
        log.append(writer, [(1, "a")], {"epoch": 1})
        log.files.fail("write", name="*0001.seg", nth=2)  # its schema is written, its first record not
        with pytest.raises(DiskFull):
            log.append(writer, [(2, "lost")])
    assert len(log.segments()) == 2
    cursor = log.reader()
    last = cursor.last_frame()
    assert last is not None
    assert last.meta == {"epoch": 1}
    assert cursor.read() == []


def test_a_damaged_frame_is_never_passed_over_for_an_older_last_one(tmp_path: Path) -> None:
    log = ScratchLog(tmp_path)
    with log.writer() as writer:
        ends = []
        for number in range(3):
            ends.append(writer.head.end)
            log.append(writer, [(number, "x")])
    cursor = log.reader()
    with log.segments()[0].open("r+b") as file:
        file.seek(ends[2])
        file.write(b"damage")
    with pytest.raises(CorruptFrame):
        cursor.last_frame()


def test_part_of_a_frame_has_its_own_offsets(log: ScratchLog) -> None:
    cursor = log.reader()
    cursor.seek(1)
    (frame,) = cursor.read(until=2)
    assert (frame.base_offset, frame.next_offset, frame.batch.num_rows) == (1, 2, 1)
    assert frame.append_time_us == log.clock.now_us()


def test_a_reader_follows_a_writer_through_rolls_and_empty_logs(tmp_path: Path) -> None:
    log = ScratchLog(tmp_path)
    early = log.reader()
    assert (early.read(), early.head(), early.end_offset(), early.size_bytes()) == ([], None, 0, 0)
    with log.writer(segment_bytes=1) as writer:
        at_end = log.reader()
        for number in range(5):
            at_end.seek(at_end.end_offset())
            log.append(writer, [(number, "x")])
            for cursor in (early, at_end):
                assert [rows for _, rows, _ in log.read_on(cursor)] == [[(number, "x")]]
        assert early.head() == writer.head
    assert early.size_bytes() == sum(path.stat().st_size for path in log.segments())


def test_a_reader_that_opens_while_a_segment_is_being_created(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each step of creating a segment, first or later, a reader sees the old end, and goes on from there."""
    log = ScratchLog(tmp_path)
    opened: list[LogReader] = []
    strike = log.files._strike

    def peek(call: Any, path: Path) -> None:
        strike(call, path)
        if path.suffix in (".seg", "") and len(opened) < 200:
            cursor = log.reader()
            cursor.seek(cursor.end_offset())
            opened.append(cursor)

    with monkeypatch.context() as patch:
        patch.setattr(log.files, "_strike", peek)
        with log.writer(segment_bytes=1) as writer:
            for number in range(4):
                log.append(writer, [(number, "x")])
    assert len(opened) > 20
    for cursor in opened:
        start = cursor.offset
        assert [row for _, rows, _ in log.read_on(cursor) for row in rows] == [
            (n, "x") for n in range(start, 4)
        ]
        cursor.close()


def test_batches_stay_valid_after_more_appends_and_after_close(tmp_path: Path) -> None:
    log = ScratchLog(tmp_path)
    rows = [(number, "글" * 1000) for number in range(600)]  # more than is copied: a memory map
    with log.writer() as writer:
        log.append(writer, rows)
        cursor = log.reader()
        (frame,) = cursor.read()
        log.append(writer, rows)
        cursor.close()
    log.segments()[0].unlink()
    assert frame.batch.column("text").to_pylist() == [text for _, text in rows]
    frame.batch.validate(full=True)


def test_closed_readers_serve_nothing(log: ScratchLog) -> None:
    cursor = log.reader()
    cursor.read(rows_max=2)
    cursor.close()
    cursor.close()
    for call in (cursor.read, lambda: cursor.seek(0)):
        with pytest.raises(Closed):
            call()


def test_frames_before_damage_are_served_first(tmp_path: Path) -> None:
    log = ScratchLog(tmp_path)
    with log.writer() as writer:
        log.append(writer, [(1, "a")])
        end = writer.head.end
        log.append(writer, [(2, "b")])
        log.append(writer, [(3, "c")])
    with log.segments()[0].open("r+b") as file:
        file.seek(end + 200)
        file.write(b"damage")
    cursor = log.reader()
    assert [rows for _, rows, _ in log.frames_of(cursor.read())] == [[(1, "a")]]
    for _ in range(2):
        with pytest.raises(CorruptFrame) as caught:
            cursor.read()
        assert (caught.value.byte, caught.value.offset) == (end, 1)
    cursor.seek(2)
    assert [rows for _, rows, _ in log.frames_of(cursor.read())] == [[(3, "c")]]


def test_a_frame_of_another_log_is_noticed(tmp_path: Path) -> None:
    """Whole and undamaged, but not the one that was written there."""
    logs = [ScratchLog(tmp_path / name) for name in "ab"]
    for log, text in zip(logs, "xy", strict=True):
        with log.writer() as writer:
            end = writer.head.end
            log.append(writer, [(1, text)])
            log.append(writer, [(2, text)])
    ours, other = (bytearray(log.segments()[0].read_bytes()) for log in logs)
    size = (len(ours) - end) // 2
    ours[end : end + size] = other[end : end + size]
    logs[0].segments()[0].write_bytes(ours)
    cursor = logs[0].reader()
    cursor.read(rows_max=1)
    with pytest.raises(CorruptFrame, match="does not continue"):
        cursor.read()


def test_a_torn_read_of_head_counts_as_no_news(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = ScratchLog(tmp_path)
    with log.writer() as writer:
        log.append(writer, ROWS)
        cursor = log.reader()
        head = (log.partition / "head").read_bytes()
        (log.partition / "head").write_bytes(head[:50] + b"\xff" * 46)
        assert cursor.end_offset() == len(ROWS)
        tries = iter([None, None, recovery.decode_head(head)])
        monkeypatch.setattr(recovery, "decode_head", lambda _: next(tries))
        assert cursor.end_offset() == len(ROWS)


@pytest.mark.parametrize("has_head", [True, False])
def test_a_folder_that_cannot_be_written_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_head: bool
) -> None:
    """As on a read-only disk (root may write anywhere, so the refusal is put in): bytes past `head` are left."""
    log = ScratchLog(tmp_path)
    with log.writer() as writer:
        log.append(writer, ROWS)
    with log.segments()[0].open("ab") as file:
        file.write(b"torn")
    if not has_head:
        (log.partition / "head").unlink()
    before = {path: path.read_bytes() for path in log.partition.iterdir()}
    open_really = os.open

    def open_read_only(path: Any, flags: int, *args: Any, **named: Any) -> int:
        if flags & (os.O_RDWR | os.O_WRONLY | os.O_CREAT):
            raise OSError(30, "Read-only file system", str(path))
        return open_really(path, flags, *args, **named)

    monkeypatch.setattr(lock.os, "open", open_read_only)
    if has_head:
        assert log.rows() == ROWS
    else:
        with pytest.raises(StorageError, match="must be mended"):
            log.reader()
    assert {path: path.read_bytes() for path in log.partition.iterdir()} == before


def test_errors_of_the_system_become_ours(log: ScratchLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment, "_WINDOW_BYTES", 64)  # else it has read all of it already
    cursor = log.reader()

    def fail(*_: Any) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(segment.os, "pread", fail)
    with pytest.raises(StorageError, match="cannot read log"):
        cursor.read()


FOLLOW = """
import sys
from pathlib import Path
from bourne.testing import ScratchLog

log = ScratchLog(Path(sys.argv[1]))
cursor = log.reader()
for line in sys.stdin:
    print(sum(len(rows) for _, rows, _ in log.read_on(cursor)), flush=True)
"""


def test_a_reader_in_another_process_follows(tmp_path: Path) -> None:
    log = ScratchLog(tmp_path)
    with (
        log.writer(segment_bytes=2000) as writer,
        subprocess.Popen(
            [sys.executable, "-c", FOLLOW, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        assert process.stdin is not None and process.stdout is not None
        for count in (1, 0, 5, 2):
            for number in range(count):
                log.append(writer, [(number, "x")])
            process.stdin.write("go\n")
            process.stdin.flush()
            assert int(process.stdout.readline()) == count
        process.stdin.close()
