"""Records and how far their source has come are one write, whatever crash comes in between."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest

from bourne.errors import BourneError, Closed, InputError, LogLocked
from bourne.log.catalog import LogInfo, Retention, read_log_info, write_log_info
from bourne.log.embedded import EmbeddedLog
from bourne.log.reader import LogReader
from bourne.log.repair import repair_log
from bourne.log.retention import maintain
from bourne.log.source_appends import SourceAppends
from bourne.log.verify import verify_log
from bourne.ports import OsFiles
from bourne.schema import declare_schema
from bourne.testing import FaultyFiles, SimulatedClock

CLOCK = SimulatedClock(1_800_000_000_000_000)
SCHEMA = declare_schema({"id": "bigint not null", "what": "varchar"}, where="test")


def make(folder: Path, *, partitions: int = 1, files: Any = None, **more: Any) -> EmbeddedLog:
    info = LogInfo("events", SCHEMA, key="id", partitions=partitions, **more)
    info = write_log_info(folder, info, OsFiles())
    return EmbeddedLog(folder, info, files=files or OsFiles(), clock=CLOCK)


def rows(*ids: int) -> list[dict[str, Any]]:
    return [{"id": each, "what": f"버스 {each}"} for each in ids]


def ids_in(log: EmbeddedLog) -> list[int]:
    return sorted(row["id"] for row in log.rows())


def test_the_position_comes_with_the_records(tmp_path):
    with make(tmp_path / "events") as log:
        source = SourceAppends(log, "a", files=OsFiles())
        assert source.position is None
        source.append(rows(1, 2), {"line": 2})
        source.append(None, {"line": 5})  # nothing but blank lines
        source.close()
        log.append(rows(7))  # somebody else's
        other = SourceAppends(log, "b", files=OsFiles())
        other.append(rows(8), "there")
        other.close()
        again = SourceAppends(log, "a", files=OsFiles())
        assert again.position == {"line": 5}
        again.append(rows(3), {"line": 6})
        again.close()
        assert ids_in(log) == [1, 2, 3, 7, 8]
        assert SourceAppends(log, "b", files=OsFiles()).position == "there"
    assert verify_log(tmp_path / "events", log.info)[0].offset == 5


def test_one_source_is_at_work_once(tmp_path):
    with make(tmp_path / "events") as log:
        first = SourceAppends(log, "a", files=OsFiles())
        with pytest.raises(LogLocked, match="at work already"):
            SourceAppends(log, "a", files=OsFiles())
        first.close()
        first.close()
        SourceAppends(log, "a", files=OsFiles()).close()
        with pytest.raises(Closed):
            first.append(rows(1), 1)


def test_marks_outlive_the_records_that_retention_takes(tmp_path):
    with make(tmp_path / "events", retention=Retention(keep_us=1)) as log:
        source = SourceAppends(log, "a", files=OsFiles())
        source.append(rows(1), {"line": 1})
        for number in range(3):
            log.writer(0).roll()
            log.append(rows(10 + number))
        CLOCK.advance(10_000_000)
        maintain(
            log.folder,
            log.info,
            0,
            writer=lambda: log.writer(0),
            pins=[],
            now_us=CLOCK.now_us(),
            files=OsFiles(),
        )
        assert log.first_offsets()[0] > 0
        source.close()
        assert SourceAppends(log, "a", files=OsFiles()).position == {"line": 1}


def test_marks_are_repaired_with_the_log(tmp_path):
    (tmp_path / "logs").mkdir()
    with make(tmp_path / "logs" / "events") as log:
        SourceAppends(log, "a", files=OsFiles()).append(rows(1), {"line": 1})
        log.writer(0).roll()
        log.append(rows(2))
    repaired = repair_log(
        tmp_path / "logs" / "events", tmp_path / "logs" / "copy", files=OsFiles(), clock=CLOCK
    )
    with EmbeddedLog(tmp_path / "logs" / "copy", repaired.log, files=OsFiles(), clock=CLOCK) as copy:
        assert ids_in(copy) == [1, 2]
        assert SourceAppends(copy, "a", files=OsFiles()).position == {"line": 1}


def test_a_partition_that_is_not_there(tmp_path):
    with make(tmp_path / "events", partitions=2) as log:
        source = SourceAppends(log, "a", files=OsFiles())
        with pytest.raises(InputError, match="no partition 2"):
            source.append(rows(1), 1, partition=2)
        source.append(rows(1), {"at": 1}, partition=1)
        source.append(rows(2), {"at": 9}, partition=0)
        assert {number: mark.position for number, mark in source.marks.items()} == {
            0: {"at": 9},
            1: {"at": 1},
        }


@pytest.mark.parametrize("partitions", [1, 4])
def test_killed_at_every_step_each_record_is_there_once(tmp_path, partitions):
    """The power is cut at the n-th call, for all n: after it the source goes on from where the log says that it stands."""
    for fails_at in range(1, 200):
        folder = tmp_path / f"{partitions}-{fails_at}"
        files = FaultyFiles()
        make(folder, partitions=partitions).close()
        with make_again(folder, files) as log:
            files.die_at(fails_at)
            has_failed = feed(log, files)
            with contextlib.suppress(BourneError, OSError):
                log.close()
        files.crash(seed=fails_at)
        with make_again(folder, OsFiles()) as log:
            feed(log, OsFiles())
            assert ids_in(log) == list(range(30))
        if not has_failed:
            return
    raise AssertionError("it always failed")


def make_again(folder: Path, files: Any) -> EmbeddedLog:
    info = read_log_info(folder)
    assert info is not None
    return EmbeddedLog(folder, info, files=files, clock=CLOCK)


def feed(log: EmbeddedLog, files: Any) -> bool:
    """Append 0 to 29 in tens, from where the source stands; say whether that failed."""
    try:
        source = SourceAppends(log, "a", files=files)
        try:
            for start in range(source.position or 0, 30, 10):
                source.append(rows(*range(start, start + 10)), start + 10)
        finally:
            source.close()
    except (BourneError, OSError):
        return True
    return False


def test_frames_of_sources_are_read_as_any_others(tmp_path):
    with make(tmp_path / "events") as log:
        source = SourceAppends(log, "a", files=OsFiles())
        source.append(None, 0)
        source.append(rows(1, 2), 1)
        source.append(None, 2)
        reader = LogReader(log.folder, log.info)
        assert [frame.batch.num_rows for frame in reader.read()] == [0, 2, 0]
        reader.close()
