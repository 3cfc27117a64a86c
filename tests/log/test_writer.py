"""Appending: what is acknowledged is there, what failed never is."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from bourne import limits
from bourne.errors import Closed, DefinitionError, DiskFull, InputError, StorageError
from bourne.log import calls as calls_module
from bourne.log import end as end_module
from bourne.log.catalog import LogInfo, read_log_info, write_log_info
from bourne.log.writer import LogWriter
from bourne.ports import OsFiles, SystemClock
from bourne.schema import declare_schema
from bourne.testing import ScratchLog

ROWS = [(1, "a"), (2, "나"), (3, "🌊")]


def test_appended_records_are_there_after_reopening(tmp_path: Path) -> None:
    log = ScratchLog(tmp_path)
    with log.writer() as writer:
        assert log.append(writer, ROWS) == range(3)
        assert log.append(writer, []) == range(3, 3)
        assert log.append(writer, [(4, "b")]) == range(3, 4)
    with log.writer() as writer:
        assert writer.next_offset == 4
        assert writer.cut_bytes == 0
        log.append(writer, [(5, "c")])
    assert log.rows() == [*ROWS, (4, "b"), (5, "c")]


def test_a_call_without_rows_writes_a_frame_only_for_its_meta(tmp_path: Path) -> None:
    log = ScratchLog(tmp_path)
    with log.writer() as writer:
        log.append(writer, [])
        log.append(writer, [], {"epoch": 1})
        log.append(writer, [(1, "a")], {"epoch": 2, "글": "🌊"})
        log.append(writer, [], {})
    assert log.frames() == [
        (0, [], {"epoch": 1}),
        (0, [(1, "a")], {"epoch": 2, "글": "🌊"}),
        (1, [], {}),
    ]


def test_segments_roll_and_are_read_as_one(tmp_path: Path) -> None:
    log = ScratchLog(tmp_path)
    with log.writer(segment_bytes=1500) as writer:
        for number in range(20):
            log.append(writer, [(number, "x")])
    assert len(log.segments()) > 4
    assert log.rows() == [(number, "x") for number in range(20)]


def test_a_segment_without_records_is_never_followed_by_another(tmp_path: Path) -> None:
    """A segment is named by its first offset: rolling an empty one wrote over its own frames."""
    log = ScratchLog(tmp_path)
    with log.writer(segment_bytes=1) as writer:
        for epoch in range(5):
            log.append(writer, [], {"epoch": epoch})
        log.append(writer, [(1, "a")])
        log.append(writer, [(2, "b")])
    assert [meta for _, _, meta in log.frames()] == [{"epoch": epoch} for epoch in range(5)] + [{}, {}]
    assert log.rows() == [(1, "a"), (2, "b")]
    with log.writer() as writer:
        assert writer.next_offset == 2


def test_large_tables_become_several_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(end_module, "FRAME_ROWS_MAX", 10)
    monkeypatch.setattr(calls_module, "FRAME_BYTES_MAX", 4000)
    monkeypatch.setattr(end_module, "FRAME_BYTES_MAX", 4000)
    log = ScratchLog(tmp_path)
    rows = [(number, "x") for number in range(25)] + [(25, "y" * 1900), (26, "z" * 1900), (27, "q" * 1900)]
    with log.writer() as writer:
        assert log.append(writer, rows) == range(28)
    frames = log.frames()
    assert [len(rows) for _, rows, _ in frames[:2]] == [10, 10]
    assert all(sum(len(text) for _, text in rows) <= 2000 for _, rows, _ in frames)
    assert log.rows() == rows


def test_a_record_beyond_the_limit_is_refused_and_nothing_of_the_call_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(end_module, "FRAME_BYTES_MAX", 4000)
    log = ScratchLog(tmp_path)
    with log.writer() as writer:
        log.append(writer, ROWS)
        with pytest.raises(InputError, match="too large"):
            log.append(writer, [(4, "x"), (5, "y" * 1700), (6, "z" * 5000)])
        assert log.segments()[0].stat().st_size == writer.head.end
        log.append(writer, [(7, "w")])
    assert log.rows() == [*ROWS, (7, "w")]


def test_limits_of_a_frame_with_meta(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(end_module, "EPOCH_BYTES_MAX", 4000)
    log = ScratchLog(tmp_path)
    with log.writer() as writer:
        with pytest.raises(InputError, match="too large"):
            log.append(writer, [(1, "x" * 4000)], {"epoch": 1})
        monkeypatch.setattr(end_module, "EPOCH_BYTES_MAX", limits.EPOCH_BYTES_MAX)
        with pytest.raises(InputError, match="too large"):
            log.append(writer, [], {"x": "y" * limits.META_BYTES_MAX})
        for not_json in ({"x": object()}, {"x": float("nan")}, {"x": "\ud800"}):
            with pytest.raises(InputError, match="not JSON"):
                log.append(writer, [], not_json)
        log.append(writer, [(1, "x" * 4000)], {"epoch": 1})
    assert len(log.frames()) == 1


def test_another_schema_is_refused(tmp_path: Path) -> None:
    log = ScratchLog(tmp_path)
    with log.writer() as writer, pytest.raises(InputError, match="another schema"):
        writer.append(pa.table({"number": [1]}))
    other = LogInfo("scratch", declare_schema({"number": "bigint", "text": "blob"}, where="scratch"))
    with pytest.raises(DefinitionError, match="BLOB"):
        LogWriter(log.folder, other, files=log.files, clock=log.clock)
    log.writer().close()


def test_closed_writers_take_nothing(tmp_path: Path) -> None:
    log = ScratchLog(tmp_path)
    writer = log.writer()
    writer.close()
    writer.close()
    with pytest.raises(Closed):
        log.append(writer, ROWS)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO])
@pytest.mark.parametrize("bytes_written", [0, 1, 127, 128, 200, 10_000])
def test_a_failed_write_leaves_nothing(tmp_path: Path, error: int, bytes_written: int) -> None:
    log = ScratchLog(tmp_path)
    with log.writer() as writer:
        log.append(writer, ROWS)
        log.files.fail("write", error=error, bytes_written=bytes_written)
        with pytest.raises(StorageError if error == errno.EIO else DiskFull):
            log.append(writer, [(4, "lost" * 100)])
        assert log.segments()[0].stat().st_size == writer.head.end
        log.files.crash()  # what was taken back is taken back for good
    assert log.rows() == ROWS
    with log.writer() as writer:
        log.append(writer, [(5, "b")])
    assert log.rows() == [*ROWS, (5, "b")]


def test_every_call_to_the_disk_can_fail_once_and_the_log_stays_right(tmp_path: Path) -> None:
    """ENOSPC and EIO at each call of a run with rolls: what was acknowledged is there, what failed is not."""
    run = 0
    for call in ("open", "write", "truncate", "sync", "sync_folder"):
        for nth in range(1, 100):
            log = ScratchLog(tmp_path / str(run))
            run += 1
            log.files.fail(call, nth=nth, error=errno.EIO if nth % 2 else errno.ENOSPC, bytes_written=nth * 7)
            acknowledged = _append_until_done(log)
            assert log.rows() == acknowledged, (call, nth)
            log.files.crash()
            assert log.rows() == acknowledged, (call, nth)
            if nth > sum(1 for kind, _ in log.files.calls if kind == call):
                break
        else:
            pytest.fail("the run never got through")
    assert run > 60


def _append_until_done(log: ScratchLog) -> list[tuple[int, str]]:
    """Append ten records, one or two a call, opening anew when the writer asks for it."""
    acknowledged: list[tuple[int, str]] = []
    writer = None
    for number in range(10):
        rows = [(number, "x" * number), (number, "y")][: 1 + number % 2]
        try:
            writer = writer or log.writer(segment_bytes=1200)
            log.append(writer, rows)
            acknowledged += rows
        except Closed:
            assert writer is not None
            writer.close()
            writer = None
        except StorageError:
            pass
    if writer is not None:
        writer.close()
    return acknowledged


def test_after_a_failed_sync_the_append_is_taken_back(tmp_path: Path) -> None:
    log = ScratchLog(tmp_path)
    with log.writer() as writer:
        log.append(writer, ROWS)
        log.files.fail("sync", error=errno.EIO)
        with pytest.raises(StorageError):
            log.append(writer, [(4, "lost")])
        log.append(writer, [(5, "b")])
    log.files.crash()
    with log.writer() as writer:
        log.append(writer, [(6, "c")])
    assert log.rows() == [*ROWS, (5, "b"), (6, "c")]


def test_a_failed_append_that_cannot_be_taken_back_says_so(tmp_path: Path) -> None:
    log = ScratchLog(tmp_path)
    with log.writer() as writer:
        log.append(writer, ROWS)
        log.files.fail("sync", error=errno.EIO, always=True)
        log.files.fail("truncate", error=errno.EIO, always=True)
        with pytest.raises(StorageError, match="nor take back"):
            log.append(writer, [(4, "in doubt")])
        with pytest.raises(StorageError):
            log.append(writer, [(4, "not yet")])
        log.files.heal()
        log.append(writer, [(4, "b")])
    rows = log.rows()
    assert rows == [*ROWS, (4, "b")]
    log.files.crash()
    with log.writer() as writer:
        log.append(writer, [(5, "b")])
    assert log.rows() == [*rows, (5, "b")]


def test_an_append_that_readers_cannot_be_told_of_is_durable_and_told_later(tmp_path: Path) -> None:
    log = ScratchLog(tmp_path)
    with log.writer() as writer:
        reader = log.reader()
        log.files.fail("write", error=errno.EIO, bytes_written=50, name="head")
        assert log.append(writer, ROWS) == range(3)
        assert log.read_on(reader) == []
        log.files.fail("write", error=errno.EIO, name="head")
        with pytest.raises(StorageError):
            log.append(writer, [(4, "lost")])
        log.append(writer, [(5, "b")])
        assert [rows for _, rows, _ in log.read_on(reader)] == [ROWS, [(5, "b")]]
        log.files.fail("write", error=errno.EIO, name="head")
        log.append(writer, [(6, "c")])
    assert [rows for _, rows, _ in log.read_on(reader)] == [[(6, "c")]]
    reader.close()


def test_an_interrupted_append_leaves_the_log_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = ScratchLog(tmp_path)
    with log.writer() as writer:
        log.append(writer, ROWS)
        with monkeypatch.context() as patch:

            def interrupt(*_: object) -> None:
                raise KeyboardInterrupt

            patch.setattr(log.files, "sync", interrupt)
            with pytest.raises(KeyboardInterrupt):
                log.append(writer, [(4, "in doubt")])
        log.append(writer, [(5, "b")])
    assert log.rows() == [*ROWS, (5, "b")]


def test_a_failed_roll_is_tried_again(tmp_path: Path) -> None:
    for call in ("open", "write", "truncate", "sync_folder"):
        log = ScratchLog(tmp_path / call)
        with log.writer(segment_bytes=1000) as writer:
            rows = []
            while writer.head.end < 1000:
                rows.append((len(rows), "a"))
                log.append(writer, rows[-1:])
            for bytes_written in (0, 64, 500):
                log.files.fail(call, error=errno.ENOSPC, bytes_written=bytes_written)  # type: ignore[arg-type]
                with pytest.raises(DiskFull):
                    log.append(writer, [(99, "lost")])
            assert log.rows() == rows
            log.append(writer, [(100, "b")])
        assert log.rows() == [*rows, (100, "b")]
        assert len(log.segments()) == 2


def test_fencing_numbers_grow_even_when_the_lock_file_forgot(tmp_path: Path) -> None:
    log = ScratchLog(tmp_path)
    fences = []
    for content in (None, b"", b"\0" * 64, b"{}", b'{"pid": 1, "fence": 1e999}', b"[1]", b'"', None):
        if content is not None:
            (log.partition / "lock").write_bytes(content)
        with log.writer() as writer:
            log.append(writer, ROWS)
            fences.append(writer.head.fence)
    assert fences == sorted(set(fences))
    assert json.loads((log.partition / "lock").read_bytes())["fence"] == fences[-1]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    log = ScratchLog(tmp_path)
    with pytest.raises(StorageError, match="scratch"):
        LogWriter(tmp_path / "none", log.info, files=OsFiles(), clock=SystemClock())


def test_logs_may_have_names_of_any_script(tmp_path: Path) -> None:
    log = ScratchLog(tmp_path, name="주문_🌊"[:2])
    with log.writer() as writer:
        log.append(writer, [(1, "한글"), (2, "👩‍🚀")])
    again = ScratchLog(tmp_path, name="주문")
    assert again.rows() == [(1, "한글"), (2, "👩‍🚀")]


def test_creating_a_log_makes_each_new_folder_durable(tmp_path: Path) -> None:
    log = ScratchLog(tmp_path / "deep" / "deeper")
    synced = [name for call, name in log.files.calls if call == "sync_folder"]
    assert {tmp_path.name, "deep", "deeper", "scratch"} <= set(synced)


def test_log_json_that_is_damaged_is_named(tmp_path: Path) -> None:
    log = ScratchLog(tmp_path)
    good = (log.folder / "log.json").read_bytes()
    assert read_log_info(log.folder) == log.info
    for bad in (
        b"",
        b"[]",
        b"{}",
        b'{"format": 1}',
        b'{"format": "1"}',
        good.replace(b'"columns"', b'"c"'),
        good[:50],
    ):
        (log.folder / "log.json").write_bytes(bad)
        with pytest.raises(StorageError):
            read_log_info(log.folder)
    (log.folder / "log.json").write_bytes(good)
    write_log_info(log.folder, log.info, log.files)
    assert read_log_info(log.folder) == log.info


FULL_DISK = """
import resource, sys
from pathlib import Path
from bourne.errors import DiskFull
from bourne.ports import OsFiles
from bourne.testing import ScratchLog

log = ScratchLog(Path(sys.argv[1]))
log.files = OsFiles()
done = failed = 0
with log.writer() as writer:
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
    for number in range(40):
        try:
            log.append(writer, [(number, "x" * (900 if number < 30 else 0))])
            done += 1
        except DiskFull as error:
            assert "nothing of this call was stored" in str(error)
            failed += 1
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    log.append(writer, [(1000, "there is room again")])
    done += 1
print(done, failed, log.segments()[0].stat().st_size)
"""


def test_a_really_full_disk(tmp_path: Path) -> None:
    """A file size limit fails writes in the middle of a frame, as a full disk does."""
    result = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, check=True
    )
    done, failed, _ = (int(word) for word in result.stdout.split())
    rows = ScratchLog(tmp_path).rows()
    assert failed > 3
    assert len(rows) == done
    assert rows[-1] == (1000, "there is room again")
    assert [number for number, _ in rows] == sorted(number for number, _ in rows)
